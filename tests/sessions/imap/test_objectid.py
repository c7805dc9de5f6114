"""OBJECTID (RFC 8474)."""

import os
import re
from pathlib import Path

import pytest

from mailserver.store import Store
from mailserver.store.index import INDEX_FILE
from tests.support.imap import ALICE, Client, Server

DATE = '"20-Mar-2018 03:07:37 +1100" '
A = b"Subject: Message A\r\nMessage-ID: <a@example.com>\r\n\r\n"
RE_A = b"Subject: Re: Message A\r\nMessage-ID: <b@example.com>\r\nReferences: <a@example.com>\r\n\r\n"
RE_RE_A = b"Subject: other\r\nMessage-ID: <d@x>\r\nReferences: <a@example.com>\r\n <b@example.com>\r\n\r\n"
C = b"Subject: Message C\r\nMessage-ID: <c@example.com>\r\n\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


@pytest.fixture
def client(server: Server) -> Client:
    client = server.login()
    for message in (A, RE_A, C):
        client.append("INBOX", message, extra=DATE)
    client.command("SELECT INBOX")
    return client


def ids(client: Client, messages: str = "1:*") -> list[tuple[str, str]]:
    """EMAILID and THREADID."""
    answer = client.command(f"FETCH {messages} (EMAILID THREADID)").decode()
    found = re.findall(r"\* \d+ FETCH \(EMAILID \((M[\w-]{1,254})\) THREADID \((T[\w-]{1,254})\)\)\r\n", answer)
    assert len(found) == answer.count(" FETCH "), answer
    return [(email, thread) for email, thread in found]


def mailbox_id(client: Client, name: str) -> str:
    (line,) = client.lines(f"STATUS {name} (MAILBOXID)")
    match = re.fullmatch(rb'STATUS "[^"]+" \(MAILBOXID \((F[\w-]{1,254})\)\)', line)
    assert match, line
    return match[1].decode()


def forget(server: Server) -> Client:
    """The server starts anew, without its index."""
    (account,) = (path.parent for path in server.root.rglob(INDEX_FILE))
    for path in account.glob(f"{INDEX_FILE}*"):
        path.unlink()
    server.store = Store(server.root, hostname="mail.example.test")
    server.account = server.store.account(ALICE)
    return server.login()


# Mailboxes


def test_a_mailbox_keeps_its_id_wherever_it_goes(server: Server) -> None:
    client = server.login()
    assert b" OBJECTID" in client.command("CAPABILITY")
    given = []
    for name in ("foo", "bar", "foo/below"):
        match = re.match(rb"t OK \[MAILBOXID \((.+)\)\] ", client.command(f"CREATE {name}"))
        assert match
        given.append(match[1].decode())
    assert [mailbox_id(client, name) for name in ("foo", "bar", "foo/below")] == given
    assert len({*given, mailbox_id(client, "INBOX")}) == 4
    for command in ("SELECT foo", "EXAMINE foo"):
        assert b"* OK [MAILBOXID (%b)]" % given[0].encode() in client.command(command)
    client.command("RENAME foo renamed")
    assert mailbox_id(client, "renamed") == given[0]
    assert mailbox_id(client, "renamed/below") == given[2]
    assert mailbox_id(forget(server), "renamed") == given[0]
    assert b"MAILBOXID" not in client.command("CREATE bar")


def test_a_name_used_again_is_another_mailbox(client: Client) -> None:
    client.command("CREATE foo")
    first, inbox = mailbox_id(client, "foo"), mailbox_id(client, "INBOX")
    client.command("DELETE foo")
    client.command("CREATE foo")
    assert mailbox_id(client, "foo") != first
    client.command("RENAME INBOX old")
    assert mailbox_id(client, "INBOX") == inbox
    assert mailbox_id(client, "old") not in (first, inbox)


def test_list_gives_it_with_the_status(client: Client) -> None:
    inbox = mailbox_id(client, "INBOX").encode()
    assert b'STATUS "INBOX" (MAILBOXID (%b))' % inbox in client.lines('LIST "" * RETURN (STATUS (MAILBOXID))')


# Messages and threads


def test_threads_are_known_by_their_first_message(client: Client) -> None:
    (a, thread_a), (b, thread_b), (c, thread_c) = ids(client)
    assert thread_a == thread_b != thread_c
    assert len({a, b, c}) == 3
    client.command("CREATE foo")
    client.append("foo", RE_RE_A)
    client.command("SELECT foo")
    assert ids(client)[0][1] == thread_a, "in another mailbox, and under another subject"


def test_messages_without_any_identifier_are_threads_of_their_own(client: Client) -> None:
    client.command("CREATE foo")
    for text in (b"one", b"two"):
        client.append("foo", b"Subject: x\r\n\r\n" + text)
    client.command("SELECT foo")
    (_, first), (_, second) = ids(client)
    assert first != second


@pytest.mark.parametrize("command", ["COPY", "MOVE"])
def test_copies_keep_their_ids(client: Client, command: str) -> None:
    before = ids(client)
    client.command("CREATE foo")
    assert b"COPYUID" in client.command(f"{command} 1:3 foo")
    client.command("SELECT foo")
    assert ids(client) == before


def test_ids_survive_flags_a_restart_and_the_loss_of_the_index(server: Server, client: Client) -> None:
    server.deliver(b"Subject: delivered\r\n\r\nx\r\n")
    client.command("NOOP")
    before = ids(client)
    assert len(before) == 4
    client.command("STORE 1:* +FLAGS (\\Seen $Label1)")
    assert ids(client) == before
    client = forget(server)
    client.command("SELECT INBOX")
    assert ids(client) == before
    client.command("RENAME INBOX old")
    client.command("SELECT old")
    assert ids(client) == before


def test_what_does_not_change_of_a_message_is_the_same_where_its_id_is(client: Client) -> None:
    """RFC 8474 §5.1, RFC 3501 §2.3.1.1: the internal date is one of those."""
    client.append("INBOX", A, extra=DATE)
    client.append("INBOX", A, extra='"21-Mar-2018 03:07:37 +1100" ')
    client.command("NOOP")
    first, _, _, same, later = ids(client)
    assert first == same
    assert later[0] != first[0]
    assert later[1] == first[1]


def test_ids_in_part_of_a_second(server: Server) -> None:
    """The file system keeps more of a date than the protocol tells."""
    server.deliver(b"Subject: x\r\n\r\n")
    (file,) = server.root.rglob("new/*")
    os.utime(file, ns=(10**18, 1_700_000_000_999_999_999))
    client = server.login(select="INBOX")
    before = ids(client)
    client.command("CREATE foo")
    client.command("COPY 1 foo")
    client = forget(server)
    for mailbox in ("INBOX", "foo"):
        client.command(f"SELECT {mailbox}")
        assert ids(client) == before


def test_with_other_items_and_by_uid(client: Client) -> None:
    ((email, thread), *_) = ids(client)
    answer = client.command("UID FETCH 1 (THREADID BODY.PEEK[] ENVELOPE EMAILID FLAGS)").decode()
    assert f"UID 1 THREADID ({thread}) BODY[]" in answer
    assert f"EMAILID ({email}) FLAGS" in answer
    assert client.command("FETCH 1 EMAILID").startswith(f"* 1 FETCH (EMAILID ({email}))".encode())


def test_search(client: Client) -> None:
    (a, thread), (b, _), (c, _) = ids(client)
    assert client.lines(f"SEARCH EMAILID {b}") == [b"SEARCH 2"]
    assert client.lines(f"SEARCH threadid {thread}") == [b"SEARCH 1 2"]
    assert client.lines(f"UID SEARCH OR EMAILID {a} OR EMAILID {b} EMAILID {c}") == [b"SEARCH 1 2 3"]
    assert client.lines(f"SEARCH NOT EMAILID {b} THREADID {thread}") == [b"SEARCH 1"]
    for other in (b.swapcase(), b[:-1], thread, "M", "x" * 255):
        assert client.lines(f"SEARCH EMAILID {other}") == [b"SEARCH"], other


@pytest.mark.parametrize("wrong", ["", "()", '"quoted"', "a.b", "x" * 256, "*"])
def test_what_is_no_identifier(client: Client, wrong: str) -> None:
    assert client.command(f"SEARCH EMAILID {wrong}").startswith(b"t BAD")


def test_a_message_that_another_session_expunged_is_left_out(server: Server, client: Client) -> None:
    before = ids(client)
    other = server.login(select="INBOX")
    other.command("STORE 2 +FLAGS (\\Deleted)")
    other.command("EXPUNGE")
    answer = client.command("FETCH 1:3 EMAILID")
    assert b"t OK [EXPUNGEISSUED]" in answer
    assert answer.count(b"EMAILID") == 2
    assert client.command(f"SEARCH EMAILID {before[1][0]}").startswith(b"* SEARCH\r\n")
