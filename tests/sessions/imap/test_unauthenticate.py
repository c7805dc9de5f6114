"""UNAUTHENTICATE (RFC 8437)."""

import base64
from pathlib import Path

import pytest

from mailserver.config.model import IMAP
from mailserver.imap import State
from mailserver.store import Unavailable
from tests.support.imap import Client, Server

MESSAGE = b"Subject: Gr\xc3\xbc\xc3\x9fe\r\n\r\nbody\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path)
    server.deliver(MESSAGE, count=2)
    return server


@pytest.fixture
def client(server: Server) -> Client:
    return server.login(select="INBOX")


def test_it_is_offered_after_login(server: Server) -> None:
    assert b"UNAUTHENTICATE" not in server.connect().greeting
    assert b" UNAUTHENTICATE" in server.login().lines("CAPABILITY")[0]


def test_the_connection_waits_for_a_login_again(server: Server) -> None:
    for client in (server.login(), server.login(select="INBOX")):
        assert client.command("UNAUTHENTICATE") == b"t OK Logged out\r\n"
        assert client.session.awaits_login
        assert client.session.idle_timeout == client.session.limits.login_timeout
        assert client.session.engine.state is State.NOT_AUTHENTICATED
        assert client.lines("CAPABILITY") == server.connect().lines("CAPABILITY")
        for command in ("SELECT INBOX", 'LIST "" *', "FETCH 1 FLAGS", "UNAUTHENTICATE", "ENABLE CONDSTORE"):
            assert client.command(command).startswith(b"t BAD"), command
        assert b"t OK" in client.command("LOGIN bob secret")


def test_the_next_user_finds_nothing_of_the_last(server: Server, client: Client) -> None:
    """§8. What the session holds is what a new one holds; what is added to it one day is looked at here too."""
    client.command("CREATE secret")
    client.command("ENABLE IMAP4rev2 QRESYNC UTF8=ACCEPT")
    client.command("SELECT INBOX")
    client.command("SEARCH RETURN (SAVE) ALL")
    client.command("UNAUTHENTICATE")
    of_connection = {
        "channel", "hostname", "limits", "authenticator", "open_account", "workers", "clock", "tls_available", "spool",
        "appends", "policy", "engine",
    }  # fmt: skip
    new, old = vars(server.connect().session), vars(client.session)
    assert {name: value for name, value in old.items() if name not in of_connection} == {
        name: value for name, value in new.items() if name not in of_connection
    }
    assert not client.session.engine.utf8
    client.command("LOGIN bob secret")
    assert client.lines('LIST "" *') == [b'LIST (\\HasNoChildren) "/" "INBOX"']
    client.command("CREATE &APw-")
    assert client.lines('LIST "" &APw-') == [b'LIST (\\HasNoChildren) "/" "&APw-"']
    lines = client.lines("SELECT INBOX")
    assert b"0 EXISTS" in lines and b"0 RECENT" in lines
    assert client.lines("SEARCH $") == [b"SEARCH"]


def test_nothing_is_expunged(server: Server, client: Client) -> None:
    """§3: no expunge event, unlike CLOSE."""
    client.command("STORE 1 +FLAGS.SILENT (\\Deleted)")
    assert client.command("UNAUTHENTICATE") == b"t OK Logged out\r\n"
    client.command("LOGIN alice secret")
    assert client.lines("STATUS INBOX (MESSAGES DELETED)") == [b'STATUS "INBOX" (MESSAGES 2 DELETED 1)']


def test_nothing_is_told_of_what_happens_afterwards(server: Server, client: Client) -> None:
    client.command("UNAUTHENTICATE")
    assert client.pushed(lambda: server.deliver(MESSAGE)) == b""
    assert client.command("NOOP") == b"t OK Done\r\n"


def test_condstore_is_off_again(client: Client) -> None:
    client.command("ENABLE CONDSTORE")
    client.command("UNAUTHENTICATE")
    client.command("LOGIN alice secret")
    client.command("SELECT INBOX")
    assert b"MODSEQ" not in client.command("STORE 1 +FLAGS (\\Seen)")


def test_a_login_may_come_with_it(client: Client) -> None:
    """§3: pipelined, with SASL-IR."""
    bob = base64.b64encode(b"\0bob\0secret")
    answer = client.say(b"a UNAUTHENTICATE\r\nb AUTHENTICATE PLAIN " + bob + b"\r\nc STATUS INBOX (MESSAGES)\r\n")
    assert answer.startswith(b"a OK Logged out\r\nb OK [CAPABILITY ")
    assert answer.endswith(b'* STATUS "INBOX" (MESSAGES 0)\r\nc OK Status given\r\n')


def test_compression_ends(client: Client) -> None:
    """§4.1."""
    client.command("COMPRESS DEFLATE")
    assert client.command("UNAUTHENTICATE") == b"t OK Logged out; no compression from here on\r\n"
    assert not client.channel.compressed
    assert b" COMPRESS=DEFLATE" in client.command("LOGIN alice secret")


def test_tls_stays(server: Server) -> None:
    client = server.login()
    client.command("UNAUTHENTICATE")
    assert client.channel.tls is not None
    assert client.command("STARTTLS").startswith(b"t BAD")


def test_failures_are_counted_on(server: Server, client: Client) -> None:
    """Neither the delay nor the number of bad commands of a connection begins anew."""
    errors = client.session.limits.errors
    client.command("UNAUTHENTICATE")
    for _ in range(errors - 1):
        assert b"AUTHENTICATIONFAILED" in client.command("LOGIN alice wrong")
    assert b"* BYE Too many errors" in client.command("LOGIN alice wrong")
    assert client.channel.closed


@pytest.mark.parametrize("command", ["UNAUTHENTICATE ", "UNAUTHENTICATE now", "UNAUTHENTICATE ()", 'UNAUTHENTICATE ""'])
def test_it_has_no_arguments(client: Client, command: str) -> None:
    assert client.command(command).startswith(b"t BAD")
    assert b"t OK" in client.command("FETCH 1 FLAGS"), "nothing happened"


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    """§8."""
    client = Server(tmp_path, policy=IMAP(unauthenticate=False)).login(select="INBOX")
    assert b"UNAUTHENTICATE" not in client.lines("CAPABILITY")[0]
    assert client.command("UNAUTHENTICATE") == b"t BAD unknown command\r\n"
    assert b"t OK" in client.command("NOOP")
    assert not client.session.awaits_login


def test_it_is_never_refused_with_no(server: Server, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """§3: a client that goes on at once must not be heard as the user from before."""

    def fail(_: object) -> None:
        raise Unavailable("broken", 5)

    monkeypatch.setattr(type(client.session.selected.mailbox), "close", fail)
    answer = client.say(b"a UNAUTHENTICATE\r\nb STATUS INBOX (MESSAGES)\r\n")
    assert answer == b"* BYE [UNAVAILABLE] The mailbox cannot be closed now\r\n"
    assert client.channel.closed


def test_many_times(client: Client) -> None:
    for _ in range(100):
        for user in ("alice", "bob"):
            client.command("UNAUTHENTICATE")
            assert b"t OK" in client.command(f"LOGIN {user} secret")
            assert b"t OK" in client.command("SELECT INBOX")
