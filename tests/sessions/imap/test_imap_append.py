"""APPEND, COPY and MOVE: durable, with the UIDs that RFC 4315 promises."""

import errno
import os
import re
from pathlib import Path

import pytest

from mailserver.config.model import Limits
from mailserver.mail import Content, Quota
from mailserver.sessions.imap import appends
from mailserver.sessions.imap.appends import Job, Stored, store_together
from mailserver.store import Addition, InvalidFlag, NoSuchMailbox, OverQuota, Unavailable
from tests.support.imap import Client, Server, fetched

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path, limits=Limits.model_validate({"message_size": "4 MiB"}))


@pytest.fixture
def client(server: Server) -> Client:
    return server.login(select="INBOX")


def test_append_keeps_flags_date_and_octets(client: Client) -> None:
    answer = client.append("INBOX", MESSAGE, "\\Seen work", '"17-Jul-1996 02:44:25 -0700" ')
    assert re.fullmatch(rb"(?s).*\* 1 EXISTS\r\n.*t OK \[APPENDUID \d+ 1\] Appended\r\n", answer)
    (message,) = fetched(client.command("FETCH 1 (FLAGS INTERNALDATE BODY.PEEK[] RFC822.SIZE)")).values()
    assert message == {
        b"FLAGS": [b"\\Seen", b"work", b"\\Recent"],
        b"INTERNALDATE": b"17-Jul-1996 02:44:25 -0700",
        b"BODY[]": MESSAGE,
        b"RFC822.SIZE": b"%d" % len(MESSAGE),
    }


def test_the_continuation_is_asked_for_only_when_the_mailbox_exists(client: Client) -> None:
    assert client.command("APPEND none {20}").startswith(b"t NO [TRYCREATE]")
    assert client.command("APPEND INBOX {4}") == b"+ OK\r\n"
    assert b" OK [APPENDUID" in client.say(b"a: b\r\n")
    assert client.append("none", MESSAGE).startswith(b"t NO [TRYCREATE]")
    assert client.command("NOOP") == b"t OK Done\r\n"


def test_append_over_the_size_limit(client: Client) -> None:
    assert client.command("APPEND INBOX {4194305}").startswith(b"t NO [TOOBIG]")
    assert client.append("INBOX", b"x" * 4194305).startswith(b"t NO [TOOBIG]")
    assert client.append("INBOX", b"x: y\r\n" * 600000).count(b"APPENDUID") == 1


@pytest.mark.parametrize(
    "message", [b"a: b\n\nbare\n", b"a: b\r\n\r\nbare \r cr\r\n", b"no line end", b"\r\n", b"\n.\n"]
)
def test_odd_messages_come_back_with_the_size_that_is_told(client: Client, message: bytes) -> None:
    client.append("INBOX", message)
    (item,) = fetched(client.command("FETCH 1 (RFC822.SIZE BODY.PEEK[])")).values()
    octets = item[b"BODY[]"]
    assert isinstance(octets, bytes)
    assert item[b"RFC822.SIZE"] == b"%d" % len(octets)
    assert octets.replace(b"\r\n", b"\n") == message.replace(b"\r\n", b"\n")


def test_nul_and_an_empty_message_are_refused(client: Client) -> None:
    assert client.append("INBOX", b"a: b\r\n\r\n\0").startswith(b"t NO")
    assert client.append("INBOX", b"").startswith(b"t NO")
    assert client.lines("NOOP") == []


def test_a_full_account(server: Server, client: Client) -> None:
    server.account.space.quota = Quota(10)
    assert client.append("INBOX", MESSAGE).startswith(b"t NO [OVERQUOTA]")
    assert client.lines("NOOP") == []


def test_a_spool_that_cannot_be_written(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_self: Content, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Content, "write", full)
        assert client.append("INBOX", MESSAGE).startswith(b"t NO [UNAVAILABLE]")
    assert b"APPENDUID" in client.append("INBOX", MESSAGE)


def test_a_connection_lost_during_append_leaves_nothing(server: Server, client: Client) -> None:
    client.command(b"APPEND INBOX {100+}\r\nSubject: half")
    client.session.lost()
    assert server.account.status("INBOX").messages == 0


def test_append_to_another_mailbox_is_no_news_here(client: Client) -> None:
    client.command("CREATE other")
    answer = client.append("other", MESSAGE)
    assert b"EXISTS" not in answer
    assert b"APPENDUID" in answer


# COPY, MOVE


def uids(client: Client, mailbox: str) -> list[bytes]:
    other = client.lines(f"STATUS {mailbox} (UIDVALIDITY)")
    match = re.search(rb"UIDVALIDITY (\d+)", other[0])
    assert match
    return [match[1]]


def test_copy_tells_the_new_uids(client: Client) -> None:
    for _ in range(4):
        client.append("INBOX", MESSAGE, "\\Flagged work")
    client.command("CREATE target")
    client.append("target", MESSAGE)
    (validity,) = uids(client, "target")
    answer = client.command("COPY 4,1:2 target")
    assert answer == b"t OK [COPYUID %b 1:2,4 2:4] Copied\r\n" % validity
    client.command("SELECT target")
    assert b"FLAGS (\\Flagged work" in client.command("FETCH 4 FLAGS")
    assert server_count(client, "INBOX") == 4


def server_count(client: Client, mailbox: str) -> int:
    match = re.search(rb"MESSAGES (\d+)", client.lines(f"STATUS {mailbox} (MESSAGES)")[0])
    assert match
    return int(match[1])


def test_copy_into_itself(client: Client) -> None:
    client.append("INBOX", MESSAGE)
    assert b"* 2 EXISTS" in client.command("COPY 1 INBOX")


def test_copy_of_nothing(client: Client) -> None:
    assert client.command("UID COPY 1:* INBOX") == b"t OK Copied\r\n"
    assert client.command("COPY 1 INBOX").startswith(b"t BAD")


@pytest.mark.parametrize("command", ["COPY 1 none", "UID COPY 1 none", "MOVE 1 none", "UID MOVE 1 none"])
def test_a_target_that_is_not_there(client: Client, command: str) -> None:
    client.append("INBOX", MESSAGE)
    assert client.command(command).startswith(b"t NO [TRYCREATE]")
    assert server_count(client, "INBOX") == 1


@pytest.mark.parametrize("command", ["MOVE 2:3", "UID MOVE 2:3"])
def test_move(client: Client, command: str) -> None:
    for _ in range(3):
        client.append("INBOX", MESSAGE)
    client.command("CREATE target")
    (validity,) = uids(client, "target")
    lines = client.lines(f"{command} target")
    assert lines[0] == b"OK [COPYUID %b 2:3 1:2] Moving" % validity
    assert lines[1:3] == [b"2 EXPUNGE", b"2 EXPUNGE"]
    assert server_count(client, "INBOX") == 1
    assert server_count(client, "target") == 2


def test_copy_over_quota(server: Server, client: Client) -> None:
    client.append("INBOX", MESSAGE)
    server.account.space.quota = Quota(10)
    assert client.command("COPY 1 INBOX").startswith(b"t NO [OVERQUOTA]")
    assert server_count(client, "INBOX") == 1


@pytest.mark.parametrize("command", ["COPY", "MOVE"])
def test_by_numbers_it_fails_when_another_has_expunged_one(server: Server, client: Client, command: str) -> None:
    client.command("CREATE target")
    for _ in range(2):
        client.append("INBOX", b"a: b\r\n\r\n")
    client.command("SELECT INBOX")
    other = server.login(select="INBOX")
    other.command("STORE 1 +FLAGS.SILENT \\Deleted")
    other.command("EXPUNGE")
    assert client.command(f"{command} 1:2 target").splitlines()[-1].startswith(b"t NO [EXPUNGEISSUED] ")
    assert server_count(client, "target") == 0
    assert b"* 1 EXPUNGE\r\n" in client.command("NOOP")
    assert client.command(f"UID {command} 1:2 target").count(b"[COPYUID ") == 1, "a UID that is not there is no error"


# Of several sessions together


def test_each_of_several_is_stored_or_refused_by_itself(server: Server) -> None:
    server.account.create("Work")
    server.account.space.quota = Quota(messages=3)
    small, large = Content(b"Subject: x\r\n\r\n"), Content(b"Subject: y\r\n\r\n" + b"x" * 100)
    jobs = [
        Job(server.account, "INBOX", [Addition(small)]),
        Job(server.account, "Gone", [Addition(small)]),
        Job(server.account, "INBOX", [Addition(large, frozenset({"\\Nonsense"}))]),
        Job(server.account, "Work", [Addition(large, frozenset({"\\Seen"}))]),
        Job(server.account, "INBOX", [Addition(large)]),
        Job(server.account, "INBOX", [Addition(small)]),
    ]
    results = store_together(jobs)
    kinds = [type(result) for result in results]
    assert kinds == [Stored, NoSuchMailbox, InvalidFlag, OverQuota, Stored, Stored]
    inbox = server.account.open("INBOX")
    assert [results[place].uids[0] for place in (0, 4, 5)] == [message.uid for message in inbox.messages()] == [1, 2, 3]
    assert inbox.read(2).endswith(b"x" * 100)
    assert server.account.status("Work").messages == 0
    assert not any((server.root / "example.test/alice/tmp").iterdir())


def test_what_fails_for_all_is_told_to_each(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [Job(server.account, "INBOX", [Addition(Content(b"Subject: x\r\n\r\n"))]) for _ in range(3)]
    server.account.status("INBOX")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        assert [type(result) for result in store_together(jobs)] == [Unavailable] * 3
    assert server.account.status("INBOX").messages == 0
    assert not any((server.root / "example.test/alice/tmp").iterdir())
    assert [type(result) for result in store_together(jobs)] == [Stored] * 3


def test_what_is_stored_is_told_though_the_selected_mailbox_is_gone(server: Server) -> None:
    """Else the client would store it again."""
    client = server.login()
    for command in ("CREATE A", "CREATE B", "SELECT A"):
        client.command(command)
    server.login().command("DELETE A")
    assert b"t OK [APPENDUID" in client.append("B", MESSAGE)
    assert server.account.status("B").messages == 1


def test_a_job_that_cannot_be_spoils_no_other(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox = server.account.open("INBOX")
    (server.root / "example.test/alice/dovecot-keywords").write_text("".join(f"{n} k{n}\n" for n in range(26)))
    monkeypatch.setattr(inbox._index.mailboxes, "save", lambda *_: None)
    jobs = [
        Job(server.account, "INBOX", [Addition(Content(MESSAGE), frozenset(flags))]) for flags in ([], ["late"], ["k3"])
    ]
    assert [type(result) for result in store_together(jobs)] == [Stored, Unavailable, Stored]
    assert [message.flags for message in inbox.messages()] == [set(), {"k3"}]


def test_a_great_many_are_stored_in_portions(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appends, "TOGETHER", 3)
    jobs = [Job(server.account, "INBOX", [Addition(Content(b"Subject: %d\r\n\r\n" % number))]) for number in range(10)]
    assert [result.uids[0] for result in store_together(jobs)] == list(range(1, 11))
