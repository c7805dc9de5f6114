"""Mutated messages: whatever is asked of them, nothing raises, answers are sound IMAP, and time grows with the size."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from random import Random

from mailserver.message import (
    Part,
    addresses,
    base_subject,
    body_texts,
    display,
    envelope,
    fields,
    header_end,
    header_text,
    message_ids,
    parse,
    preview,
    read_envelope,
    section,
    sent_date,
    structures,
)
from tests.fuzz.dialogues import MESSAGE_WORDS, MESSAGES
from tests.fuzz.grammar import imap_data
from tests.fuzz.mutation import Mutator, cases

LARGE = 256 * 1024
SLOW = 10.0
"""Seconds for a `LARGE` message, some of them the checks' own; what is quadratic in its octets takes minutes."""


def mutated(random: Random) -> bytes:
    mutator = Mutator(random, MESSAGE_WORDS, [MESSAGES])
    return mutator.octets(b"".join(mutator.dialogue([random.choice(MESSAGES)])))


def ask_everything(content: bytes) -> None:
    message = parse(content)
    header = content[: header_end(content)]
    for data in (envelope(read_envelope(message)), *structures(message)):
        assert imap_data(data + b"\r\n") == len(data) + 2
    assert all(isinstance(text, str) for text in body_texts(message))
    for field in fields(header):
        assert header[field.start : field.end].startswith(field.name)
        assert isinstance(header_text(field.value), str)
        addresses(field.value)
        sent_date(field.value)
        for text in (preview(message), display(addresses(field.value)), base_subject(field.value).text):
            assert isinstance(text.encode(), bytes)
        assert all(message_ids(field.value))


def check_spans(part: Part, start: int, end: int) -> None:
    """Header and body lie within the span, the body behind the header; inner parts within the body, in order."""
    assert start <= part.header[0] <= part.header[1] == part.body[0] <= part.body[1] <= end
    position = part.body[0]
    for inner in (part.message,) if part.message is not None else part.parts:
        check_spans(inner, position, part.body[1])
        position = inner.body[1]


def numbered(part: Part, numbers: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Part]]:
    yield numbers, part
    inner = part.message if numbers and part.message is not None else part
    for number, child in enumerate(inner.parts, 1):
        yield from numbered(child, (*numbers, number))


def test_mutated_messages() -> None:
    for case in cases("message", 400, 15.0):
        with case as random:
            content = mutated(random)
            ask_everything(content)
            message = parse(content)
            check_spans(message, 0, len(content))
            for numbers, part in numbered(message):
                assert section(message, numbers) is part


def test_what_is_repeated_takes_no_more_than_its_size() -> None:
    ways: tuple[Callable[[bytes, Random], bytes], ...] = (
        lambda content, _: content,
        lambda content, random: content[random.randrange(len(content)) :][: random.randrange(1, 50)],
    )
    for case in cases("large", 12, 15.0):
        with case as random:
            piece = random.choice(ways)(mutated(random) or b"x", random)
            head = random.choice((b"", b"From: ", b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", b"\r\n"))
            content = head + piece * (LARGE // len(piece))
            began = time.process_time()
            ask_everything(content[:LARGE])
            assert time.process_time() - began < SLOW, (head, piece)
