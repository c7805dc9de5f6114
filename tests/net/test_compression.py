"""DEFLATE on a connection (RFC 4978): what it promises by itself, and under the pump."""

from __future__ import annotations

import random
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.net.compression import PIECE, Corrupt, Deflate
from mailserver.net.connection import INFLATED_AT_ONCE, READ_AHEAD
from tests.net.test_connection import Served, served, stop

__all__ = ["served"]

BOMB = 64 * 2**20


class Client:
    """The other side of a compressed connection, with zlib's defaults."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        self._inflate = zlib.decompressobj(-15)

    def say(self, data: bytes, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
        return self._deflate.compress(data) + self._deflate.flush(flush)

    def hear(self, data: bytes) -> bytes:
        return self._inflate.decompress(data)

    @property
    def ended(self) -> bool:
        return self._inflate.eof

    @property
    def behind(self) -> bytes:
        """What came behind the end of the stream."""
        return self._inflate.unused_data


def read_all(deflate: Deflate) -> bytes:
    pieces = []
    while piece := deflate.read():
        assert len(piece) <= PIECE
        pieces.append(piece)
    return b"".join(pieces)


@given(st.lists(st.binary(max_size=3000), max_size=8), st.integers(1, 700))
def test_what_is_said_arrives_whatever_the_pieces(words: list[bytes], size: int) -> None:
    deflate, client = Deflate(), Client()
    wire = b"".join(map(client.say, words))
    heard = b""
    for start in range(0, len(wire), size):
        deflate.feed(wire[start : start + size])
        heard += read_all(deflate)
        assert deflate.buffered == 0
    assert heard == b"".join(words)
    for word in words:
        assert client.hear(deflate.compress(word)) == word, "each flush can be read to its end"


@pytest.mark.parametrize("size", [PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 300 * 1024])
def test_a_piece_that_is_just_full_keeps_nothing_back(size: int) -> None:
    for data in (bytes(size), random.Random(1).randbytes(size)):
        deflate = Deflate()
        deflate.feed(Client().say(data))
        assert read_all(deflate) == data
        assert deflate.buffered == 0


def test_a_bomb_is_inflated_no_further_than_it_is_read() -> None:
    bomb = Client().say(bytes(BOMB))
    assert len(bomb) < BOMB // 900
    deflate = Deflate()
    tracemalloc.start()
    try:
        deflate.feed(bomb)
        read = sum(len(deflate.read()) for _ in range(100))
        assert 0 < read <= 100 * PIECE
        assert tracemalloc.get_traced_memory()[1] < len(bomb) + 8 * PIECE + 2**16
    finally:
        tracemalloc.stop()
    assert len(read_all(deflate)) == BOMB - read


@pytest.mark.parametrize("data", [b"a NOOP\r\n", b"\xff" * 100, b"\x00\x01\x00\xff\xff"])
def test_what_is_not_deflate_is_told(data: bytes) -> None:
    deflate = Deflate()
    deflate.feed(data)
    with pytest.raises(Corrupt):
        read_all(deflate)


def test_after_the_end_of_the_stream_there_is_nothing() -> None:
    deflate = Deflate()
    deflate.feed(Client().say(b"last words", zlib.Z_FINISH))
    assert read_all(deflate) == b"last words"
    deflate.feed(b"more")
    with pytest.raises(Corrupt):
        deflate.read()


# Under the pump


@pytest.fixture
def client(served: Served) -> Client:
    served.session.engine.output.append(b"from now on\n")
    served.connection.start_compression()
    assert served.connection.compressed
    assert served.sent() == b"hello\nfrom now on\n", "what was said before is not compressed"
    return Client()


def test_commands_and_answers_are_compressed(served: Served, client: Client) -> None:
    served.connection.dataReceived(client.say(b"one\ntwo\n"))
    assert client.hear(served.sent()) == b"one!\ntwo!\n"
    for octet in client.say(b"three\n"):
        served.connection.dataReceived(bytes([octet]))
    assert client.hear(served.sent()) == b"three!\n"


def test_the_last_words_are_compressed(served: Served, client: Client) -> None:
    served.connection.dataReceived(client.say(b"quit\n"))
    assert client.hear(served.sent()) == b"bye\n"
    assert served.transport.disconnecting


def test_at_the_stop_the_farewell_is_compressed(served: Served, client: Client) -> None:
    stop(served)
    assert client.hear(served.sent()) == b"no: STOPPING\n"


def test_what_cannot_be_inflated_ends_the_connection(served: Served, client: Client) -> None:
    served.connection.dataReceived(b"\xffone\n")
    assert served.transport.aborted
    assert served.session.events == []


def test_nothing_is_inflated_while_a_command_is_at_work(served: Served, client: Client) -> None:
    served.connection.dataReceived(client.say(b"wait\n"))
    bomb = client.say(b"x" * (READ_AHEAD * 1500))
    assert len(bomb) > READ_AHEAD
    served.connection.dataReceived(bomb)
    assert served.session.engine.buffered == 0
    assert served.transport.producerState == "paused", "what waits compressed counts for the limit"


def test_others_have_their_turn_while_much_is_inflated(served: Served, client: Client) -> None:
    turns: list[int] = []
    served.clock.call_later(0, lambda: turns.append(served.session.engine.buffered))
    served.connection.dataReceived(client.say(b"x" * (INFLATED_AT_ONCE * 3) + b"\n"))
    assert turns == [INFLATED_AT_ONCE]
    assert len(client.hear(served.sent())) == INFLATED_AT_ONCE * 3 + 2


def test_octets_that_complete_no_command_are_no_activity(served: Served, client: Client) -> None:
    for _ in range(11):
        served.connection.dataReceived(client.say(b"x"))
        served.clock.advance(10)
    assert client.hear(served.sent()) == b"too slow\n"


# Its end (RFC 8437 §4.1)


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize("flush", [zlib.Z_SYNC_FLUSH, zlib.Z_FINISH])
def test_after_its_end_all_is_plain(served: Served, client: Client, flush: int, size: int) -> None:
    """Whether the client ends its stream or merely stops, and however what it sends is cut."""
    served.connection.dataReceived(client.say(b"one\nplain\n", flush))
    answer = served.sent()
    assert client.hear(answer) == b"one!\nplain!\n"
    assert client.ended, "the server ends its own"
    assert not served.connection.compressed
    for start in range(0, 9, size):
        served.connection.dataReceived(b"two\nthree"[start : start + size])
    served.connection.dataReceived(b"\n")
    assert served.sent() == b"two!\nthree!\n"


def test_what_is_pipelined_behind_its_end_is_plain(served: Served, client: Client) -> None:
    served.connection.dataReceived(client.say(b"plain\n", zlib.Z_FINISH) + b"two\nthree\n")
    answer = served.sent()
    assert client.hear(answer) == b"plain!\n"
    assert client.behind == b"two!\nthree!\n"


def test_the_end_of_the_stream_may_come_later(served: Served, client: Client) -> None:
    served.connection.dataReceived(client.say(b"plain\n"))
    assert client.hear(served.sent()) == b"plain!\n"
    served.connection.dataReceived(client.say(b"", zlib.Z_FINISH) + b"two\n")
    assert served.sent() == b"two!\n"


def test_it_can_begin_again(served: Served, client: Client) -> None:
    served.connection.dataReceived(client.say(b"plain\n", zlib.Z_FINISH))
    served.sent()
    served.connection.start_compression()
    again = Client()
    served.connection.dataReceived(again.say(b"one\n"))
    assert again.hear(served.sent()) == b"one!\n"


def test_without_compression_nothing_ends(served: Served) -> None:
    served.connection.dataReceived(b"plain\ntwo\n")
    assert served.sent() == b"hello\nplain!\ntwo!\n"
