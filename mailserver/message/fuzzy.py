"""How well a message answers to what somebody looks for and does not spell exactly (RFC 6203).

Theory     What is looked for is taken as words, without case or diacritics, in any order. A word of the message is as
           good as it is near: the same, one that begins with it, one that has it inside, one with a slip of the pen. A
           word in the subject says more than one in the body. Each different word of all messages is judged once and
           remembered, so that most of the work is to cut texts into words; that is left out where a text has not even
           the parts that slips leave as they are.
Promises   What has the exact text is found. `rate` is 0 for what is not found, else 1 to 100. Time grows with the text,
           whatever its words; what is remembered has bounds.
On failure Nothing here fails.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

from mailserver.message.searchable import BORDER, Phrase

FULL = 100
WORDS = 8
"""Those of what is looked for that count; each as far as `LETTERS`."""
LETTERS = 64
REMEMBERED = 200_000
"""Words of messages, of up to `LETTERS` octets."""

_SLICE = 64 * 1024  # octets that are cut into words at once
_PARTS = 9  # more are not looked for: some are in every text
_TELLING = 3  # letters of a part that is not in every text
_WORD = re.compile(r"[^\W_]+")
_ALPHANUMERIC = (string.ascii_letters + string.digits).encode()
_SPACED = bytes(octet if octet in _ALPHANUMERIC or 0x80 <= octet < 0xFF else 0x20 for octet in range(256))
"""Octets that are part of no word become spaces. Beyond ASCII that is not decided here."""

# How good a word is.
_BEGINNING, _INSIDE = 0.85, 0.5
_SLIPS = (1.0, 0.7, 0.5)

# Where words lie: how much they say in a search that asks for all of a message.
_SUBJECT, _PEOPLE, _BODY, _ELSEWHERE = 1.0, 0.9, 0.7, 0.4
_PLACES = (
    (Phrase("", field="subject").anchor, _SUBJECT),
    *((Phrase("", field=name).anchor, _PEOPLE) for name in ("from", "to", "cc", "bcc", "sender", "reply-to")),
)

_FOR_ALL = 0.9  # what words in any order can come to
_FLOOR = 0.15  # what hardly answers at all

Marks = tuple[tuple[int, float], ...]
"""Of a word of a message: which of the words looked for it stands for, and how well."""


def fuzzy(phrase: Phrase) -> Phrase | Fuzzy:
    """The phrase itself where it has no words."""
    words = tuple(dict.fromkeys(word[:LETTERS] for word in _words(phrase.text)))[:WORDS]
    return Fuzzy(phrase, words) if words else phrase


class Fuzzy:
    """What is looked for. It remembers; only one thread at a time may use it."""

    def __init__(self, phrase: Phrase, words: tuple[str, ...]) -> None:
        self.phrase = phrase
        self._words = [(word, set(word), _slips_allowed(word)) for word in words]
        # a searchable text has ASCII letters as capitals
        parts = [part.upper().encode() for word, _, slips in self._words for part in _left_over(word, slips)]
        self._parts = parts if len(parts) <= _PARTS and min(map(len, parts)) >= _TELLING else []
        self._needed = -(-len(words) * 2 // 3)  # two of three
        self._judged: set[bytes] = set()
        self._good: dict[bytes, Marks] = {}

    def rate(self, header: bytes, body: bytes) -> int:
        """`header` and `body` as in `Searchable`; what the phrase does not ask for may be left out."""
        best = [0.0] * len(self._words)
        exact = 0.0
        for text, weight in self._texts(header, body):
            self._weigh(text, weight, best)
            if weight > exact and self.phrase.octets in text:
                exact = weight
        if not exact and self.phrase.field is None and self.phrase.header and self.phrase.octets in header:
            exact = _ELSEWHERE
        value = _INSIDE * exact
        if len(best) - best.count(0.0) >= self._needed:
            value = max(value, _FOR_ALL * sum(best) / len(best) + (1 - _FOR_ALL) * exact)
        if not value:
            return 0
        return max(1, round(FULL * (value - _FLOOR) / (1 - _FLOOR)))

    def _texts(self, header: bytes, body: bytes) -> Iterator[tuple[bytes, float]]:
        """Where words count, and how much."""
        phrase = self.phrase
        if phrase.field is not None:
            for value in _values(header, phrase.anchor):
                yield value, 1.0
            return
        if phrase.header:
            for anchor, weight in _PLACES:
                for value in _values(header, anchor):
                    yield value, weight
        if phrase.body:
            yield body, _BODY if phrase.header else 1.0

    def _may_have(self, text: bytes) -> bool:
        """False: it has none of the words. Diacritics hide parts of words: beyond ASCII that is not known."""
        return not self._parts or not text.isascii() or any(part in text for part in self._parts)

    def _weigh(self, text: bytes, weight: float, best: list[float]) -> None:
        text = text.translate(_SPACED)
        if not self._may_have(text):
            return
        for words in _cut(text):
            self._judge(words - self._judged)
            for word in filter(self._good.__contains__, words):
                for place, quality in self._good[word]:
                    best[place] = max(best[place], quality * weight)

    def _judge(self, words: set[bytes]) -> None:
        if len(self._judged) + len(words) > REMEMBERED:
            self._judged.clear()
            self._good.clear()
        for word in words:
            if len(word) > LETTERS:
                continue  # no word of a language; and it would take much room
            self._judged.add(word)
            if marks := self._marks(word):
                self._good[word] = marks

    def _marks(self, word: bytes) -> Marks:
        # beyond ASCII, quotes and dashes may still be part of it
        pieces = [word.decode().lower()] if word.isascii() else _words(word.decode("utf-8", "replace"))
        marks = []
        for place, (wanted, letters, slips) in enumerate(self._words):
            quality = max((_quality(wanted, letters, slips, piece) for piece in pieces), default=0.0)
            if quality:
                marks.append((place, quality))
        return tuple(marks)


def _words(text: str) -> list[str]:
    """Without case and diacritics."""
    if not text.isascii():
        text = "".join(each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each))
    return _WORD.findall(text.casefold())


def _cut(text: bytes) -> Iterator[set[bytes]]:
    """The words between spaces, a piece of the text at a time."""
    start = 0
    while start < len(text):
        end = start + _SLICE
        if end < len(text):
            end = text.rfind(b" ", start + 1, end) + 1 or end
        yield set(text[start:end].split())
        start = end


def _values(header: bytes, anchor: bytes | None) -> Iterator[bytes]:
    """Of the fields of one name."""
    start = 0
    while anchor is not None and (start := header.find(anchor, start)) >= 0:
        start += len(anchor)
        yield header[start : header.find(BORDER, start)]


def _slips_allowed(word: str) -> int:
    """A number with a slip in it is another number."""
    if len(word) < 4 or any(each.isdigit() for each in word):
        return 0
    return 1 if len(word) < 8 else 2


def _left_over(word: str, slips: int) -> list[str]:
    """Whoever slips so often when writing the word still writes one of these.

    A slip changes one of the pieces, but two where letters that change places belong to both.
    """
    cuts = [len(word) * piece // (slips + 1) for piece in range(slips + 2)]
    inner = cuts[1:-1]
    pieces = [word[start:end] for start, end in pairwise(cuts)]
    for before, cut, behind in zip(cuts, inner, cuts[2:], strict=False):
        pieces.append(_exchanged(word, cut)[before:behind])
    if slips > 1:
        pieces.append(_exchanged(_exchanged(word, inner[0]), inner[1]))
    return pieces


def _exchanged(word: str, cut: int) -> str:
    """With the letters around the cut in each other's place."""
    return word[: cut - 1] + word[cut] + word[cut - 1] + word[cut + 1 :]


def _quality(wanted: str, letters: set[str], slips: int, word: str) -> float:
    """Of a word for one that is wanted, which has these letters; 0: it is none for it."""
    longer = len(word) - len(wanted)
    if word.startswith(wanted):
        return _BEGINNING if longer else 1.0
    if wanted in word and (len(wanted) > 3 or not wanted.isascii()):
        return _INSIDE
    # a slip takes away one letter and brings another at most
    if slips and abs(longer) <= slips and len(letters.symmetric_difference(word)) <= 2 * slips:
        made = _slips(wanted, word, slips)
        if made <= slips:
            return _SLIPS[made]
    return 0.0


def _slips(one: str, other: str, most: int) -> int:
    """Letters left out, put in, exchanged, or two that changed places; more than `most` is not counted to the end."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for place, letter in enumerate(one, 1):
        earlier, before, row = before, row, [place]
        for at, each in enumerate(other, 1):
            cost = min(before[at] + 1, row[at - 1] + 1, before[at - 1] + (letter != each))
            if place > 1 and at > 1 and letter == other[at - 2] and one[place - 2] == each:
                cost = min(cost, earlier[at - 2] + 1)
            row.append(cost)
        if min(row) > most and min(before) >= most:
            return most + 1
    return row[-1]
