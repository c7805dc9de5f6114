"""TOML text parsed, with its syntax errors in words that say what to write.

Promises   A message names the line and repeats nothing of it that could be a password.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from typing import Any

_ERROR = re.compile(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column \d+|end of document)\)", re.DOTALL)
_BARE_NAME = re.compile(r"\s*\[\s*(domain|account)\s*\.\s*([^\s\"'\]]+)\s*\]")
_DOUBLE = re.compile(r"\s*\[\[\s*([^\[\]]+?)\s*\]\]")
_TWICE = re.compile(r"Cannot declare \((.*)\) twice")

# By how tomllib's message begins; what is not here is told as tomllib has it.
_REMEDIES: Sequence[tuple[str, str]] = (
    ("Invalid value", "not a value; text, sizes and durations stand in double quotes"),
    ("Expected newline", "something stands behind the value; text, sizes and durations stand in double quotes"),
    (r"Illegal character '\n'", "a text has no quote at its end; add it"),
    ("Unterminated string", "a text has no quote at its end; add it"),
    ('Expected "\'"', "a text has no quote at its end; add it"),
    ("Unescaped '\\'", r"a backslash in double quotes is written \\; or put the text in single quotes"),
    (
        "Expected ']'",
        'the header has no ] at its end, or a name without quotes; write it as [section] or [domain."example.org"]',
    ),
    ("Expected ']]'", "the header has no ]] at its end; write it as [[section]]"),
    ("Expected '='", 'there is no = behind the key; write it as key = "value"'),
    ("Unclosed array", "a list has no ] at its end, or no comma between two values"),
    ("Invalid statement", 'neither a [section] nor a key; write it as key = "value", or put # before a comment'),
    ("Cannot overwrite", "this key stands twice in its section; keep one"),
)
_SEVERAL = ("listener", "tls.sni")  # sections in double brackets


def parse(text: str) -> dict[str, Any]:
    """Raises ValueError: "line N: what is wrong; what would be right"."""
    if text.startswith("\ufeff"):
        raise ValueError("line 1: begins with a byte order mark, which is not TOML; save the file as UTF-8 without one")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("not TOML that can be read: values are nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        match = _ERROR.fullmatch(str(error))
        lines = text.removesuffix("\n").split("\n")
        number = int(match["line"]) if match and match["line"] else len(lines)
        what = _in_words(match["what"] if match else str(error), lines[number - 1])
        raise ValueError(f"line {number}: {what}") from None


def _in_words(what: str, line: str) -> str:
    if twice := _TWICE.fullmatch(what):
        path = re.findall(r"""'([^']*)'|"([^"]*)\"""", twice[1])
        return _said_twice([single or double for single, double in path])
    if what.startswith(("Expected ']' ", "Invalid initial character")) and (bare := _BARE_NAME.match(line)):
        return f'the name stands in quotes; write [{bare[1]}."{bare[2]}"]'
    if what == "Cannot overwrite a value" and (double := _DOUBLE.match(line)):
        return f"{double[1]} stands above in single brackets; write each header as [[{double[1]}]]"
    for beginning, words in _REMEDIES:
        if what.startswith(f"{beginning} ") or what == beginning:
            return words
    return f"not TOML: {what[:1].lower()}{what[1:]}"


def _said_twice(path: list[str]) -> str:
    name = ".".join(path)
    if name in _SEVERAL:
        return f"{name} stands twice; write each header as [[{name}]]"
    return f"{' '.join(path)} stands twice; keep one"
