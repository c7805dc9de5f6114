"""Faults of a configuration in words: pydantic's errors as "key.path: what is wrong; what would be right".

Promises   One line for each fault, in the order of the file's sections, with the wrong value; never with that of a
           password, or of what stands where a section should be and may hold one.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from mailserver.config.fields import Section
from mailserver.config.units import format_size

Location = tuple[str | int, ...]

VALUE_LIMIT = 60
"""Characters of a wrong value that are shown."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

# By pydantic's error type; braces take what pydantic tells of the limit.
_TEXTS: Mapping[str, str] = {
    "string_type": "is not text; write it in double quotes",
    "path_type": "is not a path; write it in double quotes",
    "int_type": "is not a whole number; write digits without quotes",
    "bool_type": "is neither true nor false; write one of these, without quotes",
    "tuple_type": 'is not a list; write it in brackets, as ["one", "two"]',
    "dict_type": "is not a section; write it as a header in brackets with keys below",
    "model_type": "is not a section; write it as a header in brackets with keys below",
    "literal_error": "is none of the known words; write {expected}",
    "greater_than": "is too small; it must be more than {gt}",
    "greater_than_equal": "is too small; it must be at least {ge}",
    "less_than_equal": "is too large; it must be at most {le}",
    "too_short": "is empty; at least one is needed",
    "datetime_from_date_parsing": "is not a time; write it as 2026-11-29T10:00:00Z, without quotes",
}


def key_path(location: Location) -> str:
    """`listener[2].endpoint`, lists counted from 1; `account."alice@example.org".password`."""
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step + 1}]"
        else:
            path += ("." if path else "") + (
                step if _BARE_KEY.fullmatch(step) else '"' + step.replace('"', '\\"') + '"'
            )
    return path


def faults(error: ValidationError, model: type[Section]) -> list[tuple[Location, str]]:
    """The faults that pydantic found in a value for `model`, each with its place."""
    found = error.errors(include_url=False)
    for details in found:  # the name of a section is told as the section
        details["loc"] = details["loc"][:-1] if details["loc"][-1:] == ("[key]",) else details["loc"]
    # A list whose entries are all faulty is too short as well, for pydantic.
    inner = {details["loc"][:depth] for details in found for depth in range(len(details["loc"]))}
    return [
        (details["loc"], _text(details, model))
        for details in found
        if not (details["type"] == "too_short" and details["loc"] in inner)
    ]


def _text(details: ErrorDetails, model: type[Section]) -> str:
    kind, location, context, value = details["type"], details["loc"], details.get("ctx", {}), details["input"]
    if kind == "value_error":
        return _shown(location, value) + str(context["error"])
    if kind == "extra_forbidden":
        return _unquoted(location, value) or _unknown(model, location)
    if kind == "missing":
        field = keys(_section_at(model, location[:-1]))[str(location[-1])]
        return f"is missing; add it: {field.description}" if field.description else "is missing"
    wanted = keys(_section_at(model, location[:-1])).get(str(location[-1]))
    if kind == "tuple_type" and isinstance(value, dict) and wanted and section_in(wanted.annotation):
        return f"is a single section; write its header as [[{key_path(location)}]]"
    if "ge" in context and isinstance(value, str):  # the number of octets, of what is written with a unit
        context = {"ge": f'"{format_size(context["ge"])}"'}
    shown = "" if kind in ("model_type", "dict_type") else _shown(location, value)
    return shown + (_TEXTS[kind].format_map(context) if kind in _TEXTS else details["msg"])


def _shown(location: Location, value: object) -> str:
    """The value with a space behind it, cut when it is long; empty for what may be secret, for lists and sections."""
    secret = "password" in str(location[-1]) or (location[-1] in ("database", "server") and "@" in str(value))
    if secret or not isinstance(value, str | int | float):
        return ""
    text = json.dumps(value, ensure_ascii=False)
    return (text if len(text) <= VALUE_LIMIT else f"{text[: VALUE_LIMIT - 3]}...") + " "


def _unquoted(location: Location, value: object) -> str | None:
    """For [domain.b.test] without quotes, which TOML takes for a section within a section."""
    *outer, section = [str(step) for step in location[:-2]] or [""]
    if section != "domain" or not isinstance(value, dict):
        return None
    name = [str(step) for step in location[-2:]]
    if not all(map(_BARE_KEY.fullmatch, name)):
        return None
    while len(value) == 1 and isinstance(inner := next(iter(value.values())), dict):
        name += value
        value = inner
    return f'a name with dots stands in quotes; write [{".".join([*outer, section])}."{".".join(name)}"]'


def _unknown(model: type[Section], location: Location) -> str:
    key, here = str(location[-1]), _section_at(model, location[:-1])
    if near := difflib.get_close_matches(key, keys(here), n=1):
        return f"unknown key; did you mean {near[0]}?"
    for header, section in sections(model):
        if section is not here and key in keys(section):
            return f"unknown key here; it belongs {f'under {header}' if header else 'above the first section'}"
    return f"unknown key; known here: {', '.join(keys(here))}"


def keys(section: type[Section]) -> Mapping[str, FieldInfo]:
    """The fields by what they are called in the file."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def sections(model: type[Section], prefix: str = "") -> Iterator[tuple[str, type[Section]]]:
    """All sections with the header that begins each: "" for the file, `[tls]`, `[[tls.sni]]`, `[domain."..."]`."""
    if not prefix:
        yield "", model
    for name, field in model.model_fields.items():
        inner = section_in(field.annotation)
        if inner is None:
            continue
        origin, path = get_origin(field.annotation), f"{prefix}{name}"
        if origin is tuple:
            yield f"[[{path}]]", inner
        else:
            path += '."..."' if origin is dict else ""
            yield f"[{path}]", inner
        yield from sections(inner, f"{path}.")


def section_in(annotation: Any) -> type[Section] | None:
    """The section that a field of this type holds, one, several or by name; None for a plain value."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation if issubclass(annotation, Section) else None
    return next(filter(None, map(section_in, get_args(annotation))), None)


def _section_at(model: type[Section], location: Location) -> type[Section]:
    for step in location:
        if isinstance(step, str) and step in model.model_fields:
            model = section_in(model.model_fields[step].annotation) or model
    return model
