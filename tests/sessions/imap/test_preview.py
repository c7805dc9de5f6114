"""PREVIEW (RFC 8970): at once where it is made, and made where it is asked for without LAZY."""

from pathlib import Path

import pytest

from mailserver.mail import Content
from mailserver.sessions.imap import indexing
from mailserver.store import Delivery
from tests.support.imap import ALICE, Client, Server, fetched


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Nothing is made in the background."""

    async def index(*_arguments: object, **_options: object) -> None:
        pass

    monkeypatch.setattr(indexing, "index", index)
    return Server(tmp_path)


@pytest.fixture
def client(server: Server) -> Client:
    server.deliver(b"Subject: x\r\n\r\nPreview text!\r\n")
    return server.login(select="INBOX")


def test_it_is_made_when_asked_for(client: Client) -> None:
    assert b" PREVIEW" in client.command("CAPABILITY")
    assert client.lines("FETCH 1 (PREVIEW)") == [b'1 FETCH (PREVIEW "Preview text!")']


def test_lazy_gives_what_is_ready(server: Server, client: Client) -> None:
    assert client.lines("FETCH 1 (PREVIEW (LAZY) UID)") == [b"1 FETCH (PREVIEW NIL UID 1)"]
    assert client.lines("FETCH 1 PREVIEW (lazy)") == [b"1 FETCH (PREVIEW NIL)"], "asking does not make it"
    client.command("UID FETCH 1 PREVIEW")
    server.deliver(b"Subject: y\r\n\r\nAnother\r\n")
    client.command("NOOP")
    assert client.lines("UID FETCH 1:* PREVIEW (LAZY)") == [
        b'1 FETCH (UID 1 PREVIEW "Preview text!")',
        b"2 FETCH (UID 2 PREVIEW NIL)",
    ]
    elsewhere = server.store.account(ALICE).open("INBOX")
    elsewhere.prepare(10)
    elsewhere.close()
    assert client.lines("FETCH 2 PREVIEW (LAZY)") == [b'2 FETCH (PREVIEW "Another")']


def test_what_makes_it_anyway_gives_it_to_lazy(client: Client) -> None:
    (item,) = fetched(client.command("FETCH 1 (ENVELOPE PREVIEW (LAZY))")).values()
    assert item[b"PREVIEW"] == b"Preview text!"


def test_with_sections_and_seen(client: Client) -> None:
    (item,) = fetched(client.command("FETCH 1 (PREVIEW (LAZY) BODY[TEXT])")).values()
    assert item == {b"PREVIEW": None, b"BODY[TEXT]": b"Preview text!\r\n", b"FLAGS": [b"\\Seen", b"\\Recent"]}


def test_its_text_is_utf_8_of_at_most_256_characters(server: Server) -> None:
    text = "Grüße, \u4e16\u754c " * 100
    server.deliver(b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + text.encode() + b"\r\n")
    (item,) = fetched(server.login(select="INBOX").command("FETCH 1 PREVIEW")).values()
    preview = item[b"PREVIEW"]
    assert isinstance(preview, bytes)
    assert text.startswith(preview.decode())
    assert 150 <= len(preview.decode()) <= 256


def test_where_there_is_no_text_it_is_empty_and_never_nil(server: Server) -> None:
    server.deliver(b"Content-Type: image/png\r\n\r\nxx\r\n")
    client = server.login(select="INBOX")
    assert client.lines("FETCH 1 PREVIEW") == [b'1 FETCH (PREVIEW "")']
    assert client.lines("FETCH 1 PREVIEW (LAZY)") == [b'1 FETCH (PREVIEW "")']


def test_what_a_quoted_string_cannot_carry_comes_as_a_literal(server: Server) -> None:
    server.store.deliver([Delivery(ALICE, b"", Content(b'\r\na "quoted" \\ \xff\r\n'))])
    (item,) = fetched(server.login(select="INBOX").command("FETCH 1 PREVIEW")).values()
    assert item[b"PREVIEW"] == 'a "quoted" \\ \xff'.encode(), "read as Latin 1"


def test_a_message_that_is_gone(server: Server, client: Client) -> None:
    other = server.login(select="INBOX")
    other.command("STORE 1 +FLAGS (\\Deleted)")
    other.command("EXPUNGE")
    assert client.command("FETCH 1 PREVIEW").endswith(b"t OK [EXPUNGEISSUED] Fetched\r\n")


@pytest.mark.parametrize(
    "items", ["PREVIEW()", "PREVIEW ()", "(PREVIEW (HASTY))", "(PREVIEW (LAZY)", "PREVIEW (LAZY,LAZY)", "PREVIEW[]"]
)
def test_malformed(client: Client, items: str) -> None:
    assert client.command(f"FETCH 1 {items}").startswith(b"t BAD ")
