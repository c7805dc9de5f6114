"""Sections of a TOML file as text: put in and cut out without a change to the lines around them.

A library that edits TOML counts the comment above a header to the section before. People count it to the section that
it stands above; so here a section ends with its last key, and with the comments that follow that at once.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass

_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class _Section:
    """Lines `start` to `end` (not included), the header first."""

    path: tuple[str, ...]
    start: int
    end: int


def insert_section(text: str, path: tuple[str, str], keys: str = "") -> str:
    """Behind the last section of the same kind, else at the end. `keys` are whole lines."""
    return _insert(text, f"[{_dotted(path)}]\n{keys}", path[:1])


def insert_entry(text: str, path: tuple[str, ...], keys: str) -> str:
    """An entry of a list of sections, as `[[account."alice@example.org".app_password]]`: behind what it belongs to."""
    return _insert(text, f"[[{_dotted(path)}]]\n{keys}", path[:-1])


def _insert(text: str, section: str, behind: tuple[str, ...]) -> str:
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    at = max((s.end for s in _sections(lines) if s.path[: len(behind)] == behind), default=len(lines))
    before = "\n" if at and lines[at - 1].strip() else ""
    after = "\n" if at < len(lines) and lines[at].strip() else ""
    return "".join([*lines[:at], before, section, after, *lines[at:]])


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False) for key in path)


def cut_section(text: str, path: tuple[str, ...]) -> str:
    """With the sections below it. Unchanged when it does not stand under a header of its own."""
    lines = text.splitlines(keepends=True)
    while (section := next((s for s in _sections(lines) if s.path[: len(path)] == path), None)) is not None:
        lines = _without(lines, section)
    return "".join(lines)


def cut_entry(text: str, path: tuple[str, ...], number: int) -> str:
    """The entry of this number, from 0, of a list of sections; unchanged when there is none under such a header."""
    lines = text.splitlines(keepends=True)
    entries = [section for section in _sections(lines) if section.path == path]
    return "".join(_without(lines, entries[number])) if number < len(entries) else text


def _without(lines: list[str], section: _Section) -> list[str]:
    before, after = lines[: section.start], lines[section.end :]
    while after and not after[0].strip() and (not before or not before[-1].strip()):
        del after[0]
    while not after and before and not before[-1].strip():
        del before[-1]
    return before + after


def _sections(lines: list[str]) -> list[_Section]:
    headers = [(i, path) for i, line in enumerate(lines) if (path := _header(line))]
    ends = [*(i for i, _ in headers[1:]), len(lines)]
    return [_Section(path, start, _end(lines, start, end)) for (start, path), end in zip(headers, ends, strict=False)]


def _end(lines: list[str], start: int, end: int) -> int:
    """Where a section ends whose next header stands at `end`."""
    last = max(i for i in range(start, end) if not _is_comment(lines[i]) and lines[i].strip())
    after = next((i for i in range(last + 1, end) if not _is_comment(lines[i])), end)
    # A comment that touches the next header is that header's.
    return last + 1 if after == end < len(lines) else after


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _header(line: str) -> tuple[str, ...]:
    """The keys that a header line names; empty for any other line."""
    if not line.lstrip().startswith("["):
        return ()
    try:
        data: object = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return ()
    path: list[str] = []
    while isinstance(data, dict) and data:
        ((key, data),) = data.items()
        path.append(key)
    return tuple(path)
