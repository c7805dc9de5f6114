"""URLFETCH=BINARY (RFC 5524): parts by URL, decoded and described."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.support.imap import Client, Server

OWN = "imap://alice%40example.test@mail.example.test/INBOX/;uid=1"
IMAGE = bytes(range(64)) * 2
ENCODED = base64.encodebytes(IMAGE).replace(b"\n", b"\r\n").removesuffix(b"\r\n")
MESSAGE = (
    b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n"
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b"Si vis pacem=2C para bellum.=0D=0A\r\n"
    b"--b\r\nContent-Type: image/png\r\nContent-Disposition: attachment; filename=a.png\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\n" + ENCODED + b"\r\n"
    b"--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: x-blurdybloop\r\n\r\n????\r\n"
    b"--b\r\nContent-Type: text/plain\r\n\r\n\r\n--b--\r\n"
)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path)
    server.deliver(MESSAGE)
    server.account.status("INBOX")
    return server


@pytest.fixture
def client(server: Server) -> Client:
    return server.login()


def made(client: Client, part: str) -> str:
    (line,) = client.lines(f'GENURLAUTH "{OWN}{part};urlauth=anonymous" INTERNAL')
    return line.decode().split('"')[1]


def extended(client: Client, part: str, parameters: str) -> bytes:
    """What stands behind the URL."""
    url = made(client, part)
    answer = client.command(f'URLFETCH ("{url}" {parameters})')
    start, end = f'* URLFETCH "{url}" '.encode(), b"\r\nt OK URLs fetched\r\n"
    assert answer.startswith(start), answer
    assert answer.endswith(end), answer
    return answer[len(start) : -len(end)]


def test_the_transcripts(client: Client) -> None:
    """§4."""
    assert b" URLFETCH=BINARY" in client.command("CAPABILITY")
    assert extended(client, "/;section=2", "BINARY") == b"(BINARY {28}\r\nSi vis pacem, para bellum.\r\n)"
    shown = b'("image" "png" NIL NIL NIL "%b" %d NIL ("attachment" ("filename" "a.png")) NIL NIL)'
    described = b"(BODYPARTSTRUCTURE %b)"
    as_it_lies, decoded = described % (shown % (b"base64", len(ENCODED))), described % (shown % (b"binary", 128))
    assert (
        extended(client, "/;section=3", "BINARY BODYPARTSTRUCTURE") == decoded + b" (BINARY ~{128}\r\n" + IMAGE + b")"
    )
    assert extended(client, "/;section=3", "BODYPARTSTRUCTURE") == as_it_lies
    both = extended(client, "/;section=3", "bodypartstructure body")
    assert both == as_it_lies + b" (BODY {%d}\r\n%b)" % (len(ENCODED), ENCODED)
    unknown = extended(client, "/;section=4", "BODYPARTSTRUCTURE BINARY")
    assert unknown.endswith(b'"x-blurdybloop" 4 NIL NIL NIL NIL)) (BINARY NIL)')
    assert extended(client, "/;section=200", "BODYPARTSTRUCTURE BODY") == b"NIL"


def test_without_parameters_it_is_the_old_one(client: Client) -> None:
    url = made(client, "/;section=1")
    assert client.lines(f'URLFETCH "{url}"') == client.lines(f'URLFETCH ("{url}")')
    assert client.command(f'URLFETCH ("{url}" BODY) "{url}" ("{url}")').count(b"one") == 3


def test_partial_ranges(client: Client) -> None:
    """They count in what is given, and so does what is told."""
    assert extended(client, "/;section=2/;PARTIAL=0.6", "BINARY") == b"(BINARY {6}\r\nSi vis)"
    assert extended(client, "/;section=3/;PARTIAL=0.2", "BINARY BODYPARTSTRUCTURE").endswith(
        b" (BINARY ~{2}\r\n\x00\x01)"
    )
    assert b'"binary" 2 ' in extended(client, "/;section=3/;PARTIAL=0.2", "BINARY BODYPARTSTRUCTURE")
    assert b'"base64" 2 ' in extended(client, "/;section=3/;PARTIAL=0.2", "BODYPARTSTRUCTURE")
    assert extended(client, "/;section=3/;PARTIAL=999", "BINARY") == b'(BINARY "")'


def test_what_is_no_part(client: Client) -> None:
    """A whole message and headers have no encoding of their own."""
    assert extended(client, "", "BINARY") == b"(BINARY {%d}\r\n%b)" % (len(MESSAGE), MESSAGE)
    assert extended(client, "", "BODYPARTSTRUCTURE").startswith(b'(BODYPARTSTRUCTURE (("text" "plain" ')
    assert extended(client, "/;section=HEADER.FIELDS%20%28Subject%29", "BINARY BODYPARTSTRUCTURE") == (
        b'(BODYPARTSTRUCTURE ("text" "rfc822-headers" ("charset" "us-ascii") NIL NIL "8bit" 14 2))'
        b" (BINARY {14}\r\nSubject: x\r\n\r\n)"
    )
    assert extended(client, "/;section=3.MIME", "BODY").startswith(b"(BODY {")
    assert extended(client, "/;section=TEXT", "BODYPARTSTRUCTURE").startswith(b'(BODYPARTSTRUCTURE (("text" ')
    assert extended(client, "/;section=5", "BODY BODYPARTSTRUCTURE").endswith(b' (BODY "")')


def test_without_authorisation_nothing_is_told(client: Client) -> None:
    url = made(client, "/;section=3")
    for other in (url[:-1] + ("0" if url[-1] != "0" else "1"), "x", f"{OWN}/;section=3"):
        answer = client.command(f'URLFETCH ("{other}" BODYPARTSTRUCTURE BINARY)')
        assert answer.split(b" ", 3)[3] == b"NIL\r\nt OK URLs fetched\r\n"


@pytest.mark.parametrize(
    "arguments",
    [
        "(x BODY BINARY)",
        "(x BODY BODY)",
        "(x OTHER)",
        "(x BODY",
        "(x  BODY)",
        "(x BODY )",
        "()",
        "(BODY",
        "(x)(y)",
        "((x))",
    ],
)
def test_malformed_parameters(client: Client, arguments: str) -> None:
    assert client.command(f"URLFETCH {arguments}").startswith(b"t BAD ")


def test_large_parts(client: Client) -> None:
    large = b"0123456789abcdef" * 200_000
    encoded = base64.encodebytes(large).replace(b"\n", b"\r\n")
    message = b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded
    client.append("INBOX", message)
    url = made(client, "/;section=1").replace("uid=1", "uid=2")
    (line,) = client.lines(f'GENURLAUTH "{url.partition(":internal")[0]}" INTERNAL')
    answer = client.command(f"URLFETCH ({line.decode().split()[1]} BINARY)")
    assert large in answer
