"""BINARY (RFC 3516): parts with their transfer encoding undone, and messages announced as binary."""

import base64
import binascii
import random
from pathlib import Path

import pytest

from mailserver.mail import Content
from mailserver.sessions.imap import binary, fetch
from mailserver.store import Delivery
from tests.support.imap import ALICE, Client, Server, fetched

PICTURE = random.Random(3516).randbytes(3000).replace(b"\0", b"\1")
TEXT = "Grüße\r\nzweite Zeile  \r\n".encode()
ENCODED_PICTURE = base64.encodebytes(PICTURE).replace(b"\n", b"\r\n")
ENCODED_TEXT = b"Gr=C3=BC=C3=\r\n=9Fe\r\nzweite Zeile =20\r\n"
MIXED = (
    b"Subject: x\r\nContent-Type: multipart/mixed; boundary=out\r\n\r\n"
    b"--out\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    + ENCODED_TEXT
    + b"\r\n--out\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: BASE64\r\n\r\n"
    + ENCODED_PICTURE
    + b"\r\n--out\r\nContent-Type: message/rfc822\r\n\r\n"
    b"Subject: inner\r\nContent-Transfer-Encoding: base64\r\n\r\naW5uZXI=\r\n"
    b"\r\n--out\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 x\r\n\r\n--out--\r\n"
)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path)
    deliver(server, MIXED)
    return server


@pytest.fixture
def client(server: Server) -> Client:
    return server.login(select="INBOX")


def deliver(server: Server, message: bytes) -> None:
    server.store.deliver([Delivery(ALICE, b"", Content(message))])


def item(client: Client, name: str, number: int = 1) -> object:
    (found,) = fetched(client.command(f"FETCH {number} {name}")).values()
    return found[name.replace(".PEEK", "").encode()]


@pytest.mark.parametrize(
    ("section", "octets"),
    [
        ("1", TEXT),
        ("2", PICTURE),
        ("3", MIXED[MIXED.index(b"Subject: inner") : MIXED.index(b"\r\n--out\r\nContent-Transfer-Encoding: x-uu")]),
        ("3.1", b"inner"),
        ("", MIXED),
    ],
)
def test_parts_are_decoded(client: Client, section: str, octets: bytes) -> None:
    assert item(client, f"BINARY.PEEK[{section}]") == octets
    assert item(client, f"BINARY.SIZE[{section}]") == b"%d" % len(octets)
    for first, count in ((0, 5), (3, 1000), (len(octets), 1), (2**32 - 1, 2**32 - 1)):
        answer = client.lines(f"FETCH 1 BINARY.PEEK[{section}]<{first}.{count}>")
        expected = octets[first : first + count]
        name = b"1 FETCH (BINARY[%b]<%d> " % (section.encode(), first)
        value = b"{%d}\r\n%b" % (len(expected), expected) if expected else b'""'
        assert b"\r\n".join(answer) == name + value + b")"


def test_a_part_that_is_not_there(client: Client) -> None:
    assert b" BINARY" in client.command("CAPABILITY")
    assert client.lines("FETCH 1 (BINARY.PEEK[9] BINARY.SIZE[1.1])") == [b"1 FETCH (BINARY[9] NIL BINARY.SIZE[1.1] 0)"]


def test_an_unknown_encoding_fails_the_request(client: Client) -> None:
    for name in ("BINARY[4]", "BINARY.SIZE[4]", "(FLAGS BINARY.PEEK[4]<0.1>)"):
        assert client.command(f"FETCH 1 {name}").startswith(b"t NO [UNKNOWN-CTE]")
    assert item(client, "BODY.PEEK[4]") == b"begin 644 x\r\n"
    assert b"\\Seen" not in client.command("FETCH 1 FLAGS")


def test_only_what_is_no_peek_marks_as_seen(client: Client) -> None:
    for name in ("BINARY.PEEK[1]", "BINARY.SIZE[1]"):
        assert b"\\Seen" not in client.command(f"FETCH 1 {name}")
    assert b"FLAGS (\\Seen \\Recent)" in client.command("FETCH 1 BINARY[1]")


def test_nul_comes_as_literal8(server: Server, client: Client) -> None:
    data = b"\0\1\2\r\n" * 100
    deliver(server, b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(data))
    client.command("NOOP")
    answer = client.command("FETCH 2 (BINARY.PEEK[1] BINARY.SIZE[1])")
    assert answer.startswith(b"* 2 FETCH (BINARY[1] ~{500}\r\n" + data + b" BINARY.SIZE[1] 500)\r\n")
    assert client.command("FETCH 2 BINARY.PEEK[1]<1.4>").startswith(b"* 2 FETCH (BINARY[1]<1> ~{4}\r\n\1\2\r\n)\r\n")


def test_what_came_as_binary_is_given_as_it_is(server: Server, client: Client) -> None:
    deliver(server, b"Content-Transfer-Encoding: binary\r\n\r\n\0\xff\n")
    client.command("NOOP")
    assert client.command("FETCH 2 BINARY.PEEK[1]").startswith(b"* 2 FETCH (BINARY[1] ~{3}\r\n\0\xff\n)\r\n")


@pytest.mark.parametrize("nul", [True, False])
def test_large_parts_are_streamed(server: Server, client: Client, nul: bool) -> None:
    data = random.Random(1).randbytes(3 * 2**20)
    if not nul:
        data = data.replace(b"\0", b"\1")
    text = data[: 2**20 + 4711].replace(b"\0", b"\1")
    deliver(
        server,
        b"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(data).replace(b"\n", b"\r\n")
        + b"\r\n--o\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        + binascii.b2a_qp(text, istext=False).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        + b"\r\n--o--\r\n",
    )
    client.command("NOOP")
    marker = b"~{" if nul else b"{"
    answer = client.command("FETCH 2 (BINARY[1] UID BINARY[2] BINARY.SIZE[1] BINARY[1]<5.2000000>)")
    assert answer.startswith(b"* 2 FETCH (BINARY[1] %b%d}\r\n" % (marker, len(data)) + data + b" UID 2 BINARY[2] {")
    assert (b"{%d}\r\n" % len(text) + text + b" BINARY.SIZE[1] %d BINARY[1]<5> " % len(data)) in answer
    part = data[5:2_000_005]
    assert answer.endswith(
        b"BINARY[1]<5> %b%d}\r\n" % (marker, len(part)) + part + b" FLAGS (\\Seen \\Recent))\r\nt OK Fetched\r\n"
    )


def test_a_part_is_decoded_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = binary.transfer_chunks
    monkeypatch.setattr(binary, "transfer_chunks", lambda *args: calls.append(args) or real(*args))
    items = " ".join(f"BINARY.PEEK[{1 + number % 2}]<{number}.9>" for number in range(200))
    assert client.command(f"FETCH 1 ({items})").endswith(b"t OK Fetched\r\n")
    assert len(calls) == 2


def test_parts_that_lie_in_each_other_are_not_all_decoded(server: Server, client: Client) -> None:
    deliver(server, b"Content-Type: message/rfc822\r\n\r\n" * 50 + b"Subject: x\r\n\r\n" + b"x" * 100_000)
    client.command("NOOP")
    items = " ".join("BINARY.SIZE[" + ".".join(["1"] * depth) + "]" for depth in range(1, 40))
    assert client.command(f"FETCH 2 ({items})").startswith(b"t NO [LIMIT]")


def test_a_spool_that_cannot_be_written(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_self: Content, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Content, "write", full)
        assert client.command("FETCH 1 BINARY.PEEK[2]").startswith(b"t NO [UNAVAILABLE]")


def test_many_small_ones_stay_within_a_batch(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "BATCH_OCTETS", 1000)
    (found,) = fetched(client.command("FETCH 1 (BINARY.PEEK[2] BINARY.PEEK[1] BINARY.PEEK[2]<0.10>)")).values()
    assert found == {b"BINARY[2]": PICTURE, b"BINARY[1]": TEXT, b"BINARY[2]<0>": PICTURE[:10]}


@pytest.mark.parametrize(
    "name",
    [
        "BINARY", "BINARY.PEEK", "BINARY.SIZE", "BINARY[TEXT]", "BINARY[1.MIME]", "BINARY[1.]", "BINARY[0]", "BINARY[1",
        "BINARY.SIZE[1]<0.1>", "BINARY[1]<0>", "BINARY[1]<0.0>", "BINARY[(size)]", "BODY[(decoded)]", "BINARY.X[1]",
    ],
)  # fmt: skip
def test_malformed(client: Client, name: str) -> None:
    assert client.command(f"FETCH 1 {name}").startswith(b"t BAD ")


# APPEND


def test_append_takes_literal8(client: Client) -> None:
    message = b"Subject: y\r\n\r\n\xff\r\n"
    assert client.command(b"APPEND INBOX (\\Seen) ~{%d}" % len(message)) == b"+ OK\r\n"
    assert b" OK [APPENDUID " in client.say(message + b" ~{3+}\r\nz\r\n\r\n")
    assert item(client, "BODY[]", 2) == message
    assert item(client, "BODY[]", 3) == b"z\r\n"


def test_nul_finds_no_place(client: Client) -> None:
    assert client.command(b"APPEND INBOX ~{5+}\r\na\0b\r\n").startswith(b"t NO [UNKNOWN-CTE]")
    assert client.command(b"APPEND INBOX {5+}\r\na\0b\r\n").startswith(b"t NO [CANNOT] a message")
    assert client.command(b"APPEND INBOX {1+}\r\na ~{5+}\r\na\0b\r\n").startswith(b"t NO [UNKNOWN-CTE]")
    assert client.lines("NOOP") == []


@pytest.mark.parametrize(
    "text", [b"SELECT ~{5+}\r\nINBOX", b"APPEND ~{5+}\r\nINBOX {1+}\r\nx", b"APPEND INBOX ~~{1+}\r\nx"]
)
def test_literal8_is_for_messages(client: Client, text: bytes) -> None:
    assert client.command(text).startswith(b"t BAD ")
