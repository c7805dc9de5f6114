"""The reference page of the configuration, written from the model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from mailserver.config.fields import Section
from mailserver.config.model import Accounts, Configuration
from mailserver.config.units import OCTETS, SECONDS, format_duration, format_size, parse_duration, parse_size
from mailserver.config.words import keys, section_in, sections

_INTRODUCTION = f"""\
# Configuration

Two TOML files. Commented examples with every key are in `etc/`. `mailserver config check` tells every fault of both
at once, each with its key and what would be right; the server checks the same way when it starts.

This page is written by `mailserver config reference` from the program's own model.

- A *duration* is text with a unit, as `"5 min"`; units: {", ".join(SECONDS)}.
- A *size* is text with a unit, as `"50 MiB"`; units: {", ".join(OCTETS)}.
- A relative *path* is taken from the directory of the file that it stands in.
- A key without a default must be given. A section whose keys all have defaults may be left out.
- In what the program says, `listener[2]` is the second `[[listener]]` of the file.
"""

_ENDPOINTS = """\
Endpoints: `tcp:25`, `tcp:25:interface=192.0.2.1`, `tcp6:25` (takes IPv4 in as well, where the system's
`net.ipv6.bindv6only` is 0), `'tcp6:25:interface=\\:\\:1'` (in single quotes: colons inside a value need
a backslash), `unix:/run/mailserver/imap`, `systemd:domain=INET6:name=imap`. TLS is never part of the endpoint.
"""


_QUANTITIES: Mapping[str, Callable[[object], object]] = {"duration": parse_duration, "size": parse_size}


def page() -> str:
    """The whole page as Markdown."""
    parts = [_INTRODUCTION]
    for file, model in (("mailserver.toml", Configuration), ("accounts.toml", Accounts)):
        for header, section in sections(model):
            parts.append(f"{'##' if not header else '###'} {header or file}\n\n{section.__doc__}\n")
            if rows := list(_rows(section)):
                parts.append("| key | type | default | meaning |\n|---|---|---|---|\n" + "".join(rows))
            if "endpoint" in section.model_fields:
                parts.append(_ENDPOINTS)
    return "\n".join(parts)


def _rows(section: type[Section]) -> Iterator[str]:
    for name, field in keys(section).items():
        if section_in(field.annotation) is None:
            cells = (f"`{name}`", _kind(field.annotation, field.metadata), _default(field), str(field.description))
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _kind(annotation: Any, metadata: list[Any]) -> str:
    """The type of a value as the reader of the page knows it."""
    if hasattr(annotation, "__metadata__"):
        annotation, metadata = annotation.__origin__, list(annotation.__metadata__)
    if unit := _quantity(metadata):
        return unit
    choices = get_args(annotation)
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(_kind(choice, metadata) for choice in choices if choice is not NoneType)
    if get_origin(annotation) is Literal:
        return " or ".join(f'`"{c}"`' if isinstance(c, str) else f"`{c}`" for c in choices)
    if get_origin(annotation) is tuple:
        return f"list of {_kind(choices[0], [])}"
    return {str: "text", int: "number", bool: "`true` or `false`", Path: "path", datetime: "date and time"}[annotation]


def _quantity(metadata: list[Any]) -> str | None:
    parsers = [m.func for m in metadata if isinstance(m, BeforeValidator)]
    return next((name for name, parser in _QUANTITIES.items() if parser in parsers), None)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "*none*"
    return f"`{text}`" if (text := toml_default(field)) is not None else "absent"


def toml_default(field: FieldInfo) -> str | None:
    """The default of an optional key as it would be written in the file; None when its absence has a meaning."""
    value, quantity = field.default, _quantity(field.metadata)
    if value is None:
        return None
    if quantity == "duration":
        value = format_duration(value)
    elif quantity == "size":
        value = format_size(value)
    return json.dumps(value if isinstance(value, int | list | tuple) else str(value))  # TOML for these as well
