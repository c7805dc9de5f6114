"""Mutations of dialogues and messages; the same seed gives the same ones.

In the environment, MAILSERVER_LONG=1 goes on for some minutes instead of seconds; MAILSERVER_FUZZ=imap-1234 repeats
that one case: a failure names it.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from types import TracebackType

LONG = os.environ.get("MAILSERVER_LONG") == "1"
ONLY = os.environ.get("MAILSERVER_FUZZ", "")

NUMBERS = (b"0", b"1", b"00", b"2147483648", b"4294967295", b"4294967296", b"18446744073709551616", b"9" * 40, b"-1")
ANYWHERE = (
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b"\r\n.\r\n",
    b"\n.\n",
    b"\r\n\r\n",
    b"\xff\xfe",
    "é".encode(),
    b"\x80",
    b"\x1b[",
)
_NUMBER = re.compile(rb"[0-9]+")
_WORD = re.compile(rb"[A-Za-z]{2,}")


@dataclass
class Case:
    """`with case:` names the case when something in the block fails."""

    name: str

    def __post_init__(self) -> None:
        self.random = Random(self.name)

    def __enter__(self) -> Random:
        return self.random

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if value is not None:
            value.add_note(f"again: MAILSERVER_FUZZ={self.name} .venv/bin/python -m pytest tests/fuzz")


def cases(target: str, count: int, seconds: float) -> Iterator[Case]:
    """`count` cases; in the long form more of them, until `seconds` have passed."""
    if ONLY:
        if ONLY.rpartition("-")[0] == target:
            yield Case(ONLY)
        return
    end = time.monotonic() + seconds
    for number in itertools.count():
        if number >= count and not (LONG and time.monotonic() < end):
            return
        yield Case(f"{target}-{number}")


class Mutator:
    """`words` are put in where they may hurt; `others` lend their turns."""

    def __init__(self, random: Random, words: Sequence[bytes], others: Sequence[Sequence[bytes]] = ()) -> None:
        self._random = random
        self._words = [*words, *ANYWHERE]
        self._others = others
        self._on_octets: Sequence[Callable[[bytearray], None]] = (
            self._flip,
            self._cut,
            self._truncate,
            self._put_word,
            self._put_word,
            self._repeat,
            self._change_number,
            self._replace_word,
            self._change_line_end,
            self._change_case,
        )

    def dialogue(self, turns: Sequence[bytes]) -> list[bytes]:
        """What a client says, turn by turn."""
        random, mutated = self._random, [bytearray(turn) for turn in turns]
        for _ in range(random.choice((0, 1, 1, 2, 2, 3, 5, 9))):
            if random.random() < 0.3:
                self._change_turns(mutated)
            else:
                random.choice(self._on_octets)(random.choice(mutated))
        return [bytes(turn) for turn in mutated]

    def octets(self, data: bytes) -> bytes:
        mutated = bytearray(data)
        for _ in range(self._random.choice((1, 1, 2, 3, 5, 9, 20))):
            self._random.choice(self._on_octets)(mutated)
        return bytes(mutated)

    def cut(self, data: bytes) -> list[bytes]:
        """The same octets in pieces."""
        places = sorted(self._random.randrange(len(data) + 1) for _ in range(self._random.randrange(1, 12)))
        return [data[a:b] for a, b in itertools.pairwise((0, *places, len(data)))]

    # A turn more, a turn less

    def _change_turns(self, turns: list[bytearray]) -> None:
        random = self._random
        place = random.randrange(len(turns))
        match random.randrange(5):
            case 0 if len(turns) > 1:
                del turns[place]
            case 1:
                turns.insert(place, bytearray(random.choice(turns)))
            case 2:
                other = random.randrange(len(turns))
                turns[place], turns[other] = turns[other], turns[place]
            case 3:
                turns[place : place + 2] = [bytearray(b"".join(turns[place : place + 2]))]
            case _:
                if self._others:
                    turns.insert(place, bytearray(random.choice(random.choice(self._others))))

    # Octets

    def _span(self, data: bytearray, longest: int = 60) -> slice:
        start = self._random.randrange(len(data) + 1)
        return slice(start, min(len(data), start + self._random.randrange(1, longest)))

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)

    def _cut(self, data: bytearray) -> None:
        del data[self._span(data)]

    def _truncate(self, data: bytearray) -> None:
        del data[self._random.randrange(len(data) + 1) :]

    def _put_word(self, data: bytearray) -> None:
        place = self._span(data, 8)
        if self._random.random() < 0.5:
            place = slice(place.start, place.start)
        data[place] = self._random.choice(self._words)

    def _repeat(self, data: bytearray) -> None:
        span = self._span(data, 30)
        times = self._random.choice((2, 3, 10, 100, 400))
        data[span] = data[span] * times

    def _change_number(self, data: bytearray) -> None:
        self._replace(data, _NUMBER, self._random.choice(NUMBERS))

    def _replace_word(self, data: bytearray) -> None:
        self._replace(data, _WORD, self._random.choice(self._words))

    def _change_line_end(self, data: bytearray) -> None:
        self._replace(
            data, re.compile(rb"\r\n"), self._random.choice((b"\n", b"\r", b"\r\r\n", b"\n\r", b"", b" \r\n"))
        )

    def _change_case(self, data: bytearray) -> None:
        span = self._span(data)
        data[span] = data[span].swapcase()

    def _replace(self, data: bytearray, pattern: re.Pattern[bytes], new: bytes) -> None:
        found = [match.span() for match in itertools.islice(pattern.finditer(data), 500)]
        if found:
            data[slice(*self._random.choice(found))] = new
