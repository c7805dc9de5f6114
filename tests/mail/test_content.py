"""Content: small in memory, large in a nameless file, the same to read."""

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mail.content import SPOOL_LIMIT, Content


@given(st.lists(st.binary(max_size=50)))
def test_pieces_come_back_joined(pieces: list[bytes]) -> None:
    content = Content(*pieces)
    assert b"".join(content.chunks()) == b"".join(pieces)
    assert b"".join(content.chunks()) == b"".join(pieces)
    assert content.size == sum(map(len, pieces))


def test_large_content_lies_in_a_nameless_file(tmp_path: Path) -> None:
    content = Content(directory=tmp_path)
    block = bytes(range(256)) * 1024
    for _ in range(5):
        content.write(block)
    assert list(tmp_path.iterdir()) == []
    assert b"".join(content.chunks()) == block * 5
    assert content.head(300) == (block * 2)[:300]
    assert content.size == 5 * len(block) > SPOOL_LIMIT
    content.close()
    assert list(content.chunks()) == []


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    content = Content(directory=tmp_path / "missing")
    with pytest.raises(OSError, match="missing"):
        content.write(b"x" * (SPOOL_LIMIT + 1))


def test_many_small_pieces_take_little_more_room_than_their_octets() -> None:
    tracemalloc.start()
    try:
        content = Content()
        for number in range(100_000):
            content.write(b"%02d" % (number % 100))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 500_000
    assert b"".join(content.chunks()) == b"".join(b"%02d" % n for n in range(100)) * 1000
