"""REPLACE (RFC 8508): one message comes, another goes."""

import re
from pathlib import Path

import pytest

from mailserver.mail import Content, Quota
from mailserver.store import Delivery, Mailbox, Unavailable
from tests.support.imap import ALICE, Client, Server, fetched

OLD, NEW = b"Subject: old\r\n\r\n1\r\n", b"Subject: new\r\n\r\n22\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path)
    for number in range(4):
        server.store.deliver([Delivery(ALICE, b"", Content(b"Subject: %d\r\n\r\n" % number if number < 3 else OLD))])
    return server


@pytest.fixture
def client(server: Server) -> Client:
    return server.login(select="INBOX")


def replace(client: Client, what: str, message: bytes = NEW, options: str = "") -> bytes:
    return client.command(b"%b %b{%d+}\r\n%b" % (what.encode(), options.encode(), len(message), message))


def bodies(client: Client) -> list[object]:
    return [item[b"BODY[]"] for item in fetched(client.command("UID FETCH 1:* BODY.PEEK[]")).values()]


def test_the_transcript(client: Client) -> None:
    """§3.2."""
    assert b" REPLACE" in client.command("CAPABILITY")
    assert client.command(b"REPLACE 4 INBOX (\\Seen \\Draft) {%d}" % len(NEW)) == b"+ OK\r\n"
    lines = client.say(NEW + b"\r\n").split(b"\r\n")
    assert lines[0].startswith(b"* OK [APPENDUID ")
    assert lines[0].endswith(b" 5] The new message is there")
    assert lines[1:3] == [b"* 4 EXPUNGE", b"* 4 EXISTS"]
    assert lines[-2].endswith(b"] Replaced")
    assert bodies(client)[3:] == [NEW]
    assert b"FLAGS (\\Seen \\Draft \\Recent)" in client.command("FETCH 4 FLAGS")


@pytest.mark.parametrize("what", ["UID REPLACE 4", "REPLACE *", "UID REPLACE *"])
def test_by_uid_and_the_last_one(client: Client, what: str) -> None:
    answer = replace(client, f"{what} INBOX")
    assert answer.index(b"APPENDUID") < answer.index(b"EXPUNGE")
    assert re.search(rb"t OK \[HIGHESTMODSEQ \d+\] Replaced\r\n$", answer)
    assert len(bodies(client)) == 4
    assert bodies(client)[3] == NEW


def test_into_another_mailbox(client: Client) -> None:
    client.command("CREATE Sent")
    assert b"* 4 EXPUNGE\r\n" in replace(client, "REPLACE 4 Sent", options='(\\Seen) "17-Jul-1996 02:44:25 -0700" ')
    assert len(bodies(client)) == 3
    client.command("SELECT Sent")
    assert bodies(client) == [NEW]


def test_the_mailbox_may_be_a_literal(client: Client) -> None:
    assert client.command("REPLACE 4 {5}") == b"+ OK\r\n"
    assert b"] Replaced\r\n" in client.say(b"INBOX {%d+}\r\n" % len(NEW) + NEW + b"\r\n")


@pytest.mark.parametrize(
    ("what", "answer"),
    [
        ("REPLACE 5 INBOX", b"t BAD "),
        ("UID REPLACE 99 INBOX", b"t NO "),
        ("REPLACE 4 none", b"t NO [TRYCREATE]"),
        ("REPLACE 1:2 INBOX", b"t BAD "),
        ("REPLACE 1,2 INBOX", b"t BAD "),
        ("REPLACE 0 INBOX", b"t BAD "),
        ("REPLACE 4294967296 INBOX", b"t BAD "),
        ("REPLACE INBOX", b"t BAD "),
        ("REPLACE", b"t BAD "),
        ("REPLACE 4 INBOX (", b"t BAD "),
    ],
)
def test_what_cannot_be(client: Client, what: str, answer: bytes) -> None:
    assert replace(client, what).startswith(answer)
    assert bodies(client)[3:] == [OLD]


def test_without_a_literal(client: Client) -> None:
    for text in ("REPLACE 4 INBOX", "REPLACE 4 INBOX (\\Seen)", "REPLACE 4", "UID REPLACE"):
        assert client.command(text).startswith(b"t BAD ")


def test_only_one_message_comes(client: Client) -> None:
    """§4.7."""
    two = b"REPLACE 4 INBOX" + b" {%d+}\r\n%b" % (len(NEW), NEW) * 2
    assert client.command(two).startswith(b"t BAD ")
    assert bodies(client)[3:] == [OLD]


def test_not_in_a_mailbox_that_is_only_read(server: Server) -> None:
    client = server.login()
    assert replace(client, "REPLACE 4 INBOX").startswith(b"t BAD ")
    client.command("EXAMINE INBOX")
    assert replace(client, "REPLACE 4 INBOX").startswith(b"t NO [READ-ONLY]")
    assert len(bodies(client)) == 4


def test_a_message_that_went_meanwhile(server: Server, client: Client) -> None:
    client.command(b"REPLACE 4 INBOX {%d}" % len(NEW))
    other = server.login(select="INBOX")
    other.command("STORE 4 +FLAGS (\\Deleted)")
    other.command("EXPUNGE")
    assert b" NO [EXPUNGEISSUED] " in client.say(NEW + b"\r\n")
    assert b"* 4 EXPUNGE" in client.command("NOOP")
    assert len(bodies(client)) == 3


def test_others_that_are_deleted_stay(client: Client) -> None:
    client.command("STORE 1 +FLAGS (\\Deleted)")
    replace(client, "REPLACE 4 INBOX")
    assert len(bodies(client)) == 4


def test_the_quota_counts_the_difference(server: Server, client: Client) -> None:
    inbox = server.account.open("INBOX")
    octets = sum(len(inbox.read(message.uid).replace(b"\r\n", b"\n")) for message in inbox.messages())
    server.account.space.quota = Quota(octets=octets + 10, messages=4)
    assert b"] Replaced\r\n" in replace(client, "REPLACE 4 INBOX", OLD + b"x" * 10)
    assert replace(client, "REPLACE 4 INBOX", OLD + b"x" * 11).startswith(b"t NO [OVERQUOTA]")
    assert client.append("INBOX", b"x").startswith(b"t NO [OVERQUOTA]")
    server.account.space.quota = Quota(octets=1, messages=1)
    assert b"] Replaced\r\n" in replace(client, "REPLACE 4 INBOX", OLD), "what makes less room needed is always taken"


def test_when_the_old_one_cannot_go_the_new_one_does_not_stay(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Mailbox.expunge

    def expunge(self: Mailbox, uids: list[int]) -> list[int]:
        if 4 in uids:
            raise Unavailable("The mailbox is not available now")
        return real(self, uids)

    with monkeypatch.context() as patched:
        patched.setattr(Mailbox, "expunge", expunge)
        answer = replace(client, "REPLACE 4 INBOX")
    assert answer.endswith(b"t NO [UNAVAILABLE] The mailbox is not available now\r\n")
    client.command("NOOP")
    assert bodies(client)[3:] == [OLD]
