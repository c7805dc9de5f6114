"""Faults of a configuration in words: pydantic's errors as "key.path: what is wrong; what would be right".

Promises   One line for each fault, in the order of the file's sections, never with the value of a password.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mailserver.config.model import Section

Location = tuple[str | int, ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

# By pydantic's error type; braces take what pydantic tells of the limit.
_TEXTS: Mapping[str, str] = {
    "string_type": "is not text; write it in double quotes",
    "path_type": "is not a path; write it in double quotes",
    "int_type": "is not a whole number; write digits without quotes",
    "tuple_type": 'is not a list; write it in brackets, as ["one", "two"]',
    "dict_type": "is not a section; write it as a header in brackets with keys below",
    "model_type": "is not a section; write it as a header in brackets with keys below",
    "literal_error": "is none of the known words; write {expected}",
    "greater_than": "is too small; it must be more than {gt}",
    "greater_than_equal": "is too small; it must be at least {ge}",
    "less_than_equal": "is too large; it must be at most {le}",
    "too_short": "is empty; at least one is needed",
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
    # A list whose entries are all faulty is too short as well, for pydantic.
    inner = {details["loc"][:depth] for details in found for depth in range(len(details["loc"]))}
    return [
        (details["loc"], _text(details, model))
        for details in found
        if not (details["type"] == "too_short" and details["loc"] in inner)
    ]


def _text(details: ErrorDetails, model: type[Section]) -> str:
    kind, location, context = details["type"], details["loc"], details.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "extra_forbidden":
        return _unknown(model, location)
    if kind == "missing":
        field = _section_at(model, location[:-1]).model_fields[str(location[-1])]
        return f"is missing; add it: {field.description}" if field.description else "is missing"
    return _TEXTS[kind].format_map(context) if kind in _TEXTS else details["msg"]


def _unknown(model: type[Section], location: Location) -> str:
    key, here = str(location[-1]), _section_at(model, location[:-1])
    if near := difflib.get_close_matches(key, here.model_fields, n=1):
        return f"unknown key; did you mean {near[0]}?"
    for header, section in sections(model):
        if section is not here and key in section.model_fields:
            return f"unknown key here; it belongs {f'under {header}' if header else 'above the first section'}"
    return f"unknown key; known here: {', '.join(here.model_fields)}"


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
            yield f'[{path}."..."]' if origin is dict else f"[{path}]", inner
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
