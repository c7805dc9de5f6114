"""COMPRESS (RFC 4978) as the session sees it; the octets are those of `net.compression`."""

from pathlib import Path

import pytest

from tests.support.imap import Client, Server


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Server(tmp_path).login()


def test_it_is_answered_once(client: Client) -> None:
    assert b" COMPRESS=DEFLATE" in client.command("CAPABILITY")
    assert client.command("compress deflate") == b"t OK DEFLATE active\r\n"
    assert client.channel.compressed
    assert client.command("COMPRESS DEFLATE") == b"t BAD [COMPRESSIONACTIVE] DEFLATE is active already\r\n"
    assert b"COMPRESS" not in client.command("CAPABILITY")


@pytest.mark.parametrize("command", ["COMPRESS", "COMPRESS GZIP", "COMPRESS DEFLATE 9", 'COMPRESS "DEFLATE"'])
def test_only_deflate_is_known(client: Client, command: str) -> None:
    assert client.command(command).startswith(b"t BAD ")
    assert not client.channel.compressed


def test_not_before_login(tmp_path: Path) -> None:
    client = Server(tmp_path).connect()
    assert b"COMPRESS" not in client.greeting
    assert client.command("COMPRESS DEFLATE").startswith(b"t BAD ")
    assert not client.channel.compressed


def test_what_came_with_it_is_dropped(client: Client) -> None:
    """§3: the client must wait for the answer, so these octets are neither of one kind nor of the other."""
    assert client.say(b"a COMPRESS DEFLATE\r\nb NOOP\r\n") == b"a OK DEFLATE active\r\n"
    assert client.session.engine.buffered == 0


def test_with_a_mailbox_selected(client: Client) -> None:
    client.command("SELECT INBOX")
    assert client.command("COMPRESS DEFLATE").startswith(b"t OK ")
    assert client.command("NOOP") == b"t OK Done\r\n"
