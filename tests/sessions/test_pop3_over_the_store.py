"""POP3 sessions over real Maildirs."""

from __future__ import annotations

import gc
import re
from pathlib import Path
from typing import Any

import pytest

from mailserver.accounts import Visit
from mailserver.config.model import POP3, Limits
from mailserver.mail import Address, Content
from mailserver.policy.failures import Failures
from mailserver.ports import TLSState
from mailserver.sessions.login import Authenticator
from mailserver.sessions.pop3 import POP3Rooms, POP3Session
from mailserver.store import Delivery, Mailbox, Store
from tests.support.fakes import FakeChannel, FakeClock, FakeWorkers, PasswordsOnly, converse, run

ALICE = Address("alice", "example.test")
SMALL = b"Subject: small\r\n\r\nhello\r\n.\r\n..dots\r\n"
LARGE = b"Subject: large\r\n\r\n" + b".0123456789abcdef" * 58 + b"\r\n" + (b"y" * 998 + b"\r\n") * 10_000
BINARY = b"Subject: odd\r\n\r\na bare \r and a bare \n and 8 bits \xe4\xff"


class AnyPassword(PasswordsOnly):
    def authenticate(self, username: str, password: str, visit: Visit) -> Address | None:
        return ALICE


class Client:
    """A session and a client that speaks with it."""

    def __init__(self, store: Store, **settings: Any) -> None:
        """`settings` are those of [pop3]. `greeting` is what login is answered with."""
        clock = FakeClock()
        self.channel = FakeChannel(tls=TLSState("TLSv1.3", "TLS_AES_256_GCM_SHA384"))
        rooms = POP3Rooms(
            hostname="mail.example.test",
            limits=Limits(),
            policy=POP3(**settings),
            authenticator=Authenticator(AnyPassword(), FakeWorkers(), clock, Failures()),
            open_account=store.account,
            workers=FakeWorkers(),
            clock=clock,
        )
        self.session = POP3Session(self.channel, rooms, tls_available=True)
        self.channel.engine = self.session.engine
        run(self.session.opened())
        self.greeting, self.answer = self.ask(b"USER alice@example.test\r\nPASS x").splitlines()[::2]
        assert self.greeting == b"+OK mail.example.test POP3 ready"

    def ask(self, command: bytes) -> bytes:
        return converse(self.session, self.channel, command + b"\r\n")

    def lines(self, command: bytes) -> list[bytes]:
        """The lines of a multi-line answer."""
        first, *lines, last, end = self.ask(command).split(b"\r\n")
        assert first.startswith(b"+OK") and (last, end) == (b".", b"")
        return lines

    def retrieve(self, number: int) -> bytes:
        """The message as a client keeps it."""
        first, _, rest = self.ask(b"RETR %d" % number).partition(b"\r\n")
        assert first.startswith(b"+OK") and rest.endswith(b"\r\n.\r\n")
        return (b"\r\n" + rest[:-3]).replace(b"\r\n..", b"\r\n.")[2:]

    def leave(self) -> None:
        self.session.lost()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path, hostname="mail.example.test")


def deliver(store: Store, *messages: bytes) -> None:
    results = store.deliver([Delivery(ALICE, b"", Content(message)) for message in messages])
    assert all(isinstance(result, Path) for result in results), results


def files(tmp_path: Path) -> int:
    inbox = tmp_path / "example.test" / "alice"
    return sum(1 for folder in ("new", "cur") for _ in (inbox / folder).iterdir())


def test_sizes_are_exact_and_contents_unchanged(store: Store) -> None:
    for message in (SMALL, LARGE, BINARY):
        deliver(store, message)
    client = Client(store)
    assert client.lines(b"LIST") == [
        f"{number} {len(message)}".encode() for number, message in enumerate((SMALL, LARGE, BINARY), 1)
    ]
    assert client.retrieve(1) == SMALL
    assert client.retrieve(2) == LARGE
    assert client.retrieve(3) == BINARY + b"\r\n"  # the answer ends in a line end, whatever the message has
    assert client.lines(b"TOP 2 0") == [b"Subject: large", b""]


def test_unique_ids_last_over_sessions_and_restarts(store: Store, tmp_path: Path) -> None:
    deliver(store, SMALL)
    deliver(store, LARGE)
    client = Client(store)
    listing = client.lines(b"UIDL")
    assert all(re.fullmatch(rb"[12] [0-9a-f]{16}", line) for line in listing)
    client.leave()
    again = Client(Store(tmp_path, hostname="mail.example.test"))
    assert again.lines(b"UIDL") == listing


def test_deletion_is_done_by_quit_alone(store: Store, tmp_path: Path) -> None:
    deliver(store, SMALL)
    deliver(store, BINARY)
    client = Client(store)
    client.ask(b"DELE 1")
    client.leave()
    assert files(tmp_path) == 2
    client = Client(store)
    assert client.ask(b"DELE 1\r\nQUIT").endswith(b"signs off (1 messages left)\r\n")
    client.leave()
    assert files(tmp_path) == 1
    assert Client(store).retrieve(1) == BINARY + b"\r\n"


def test_new_mail_and_other_sessions_do_not_move_the_numbers(store: Store) -> None:
    deliver(store, SMALL)
    deliver(store, BINARY)
    first, second = Client(store), Client(store)
    second.ask(b"DELE 1\r\nQUIT")
    second.leave()
    deliver(store, LARGE)
    assert first.ask(b"STAT") == f"+OK 2 {len(SMALL) + len(BINARY)}\r\n".encode()
    assert first.ask(b"RETR 1") == b"-ERR another session has removed the message\r\n"
    assert first.retrieve(2) == BINARY + b"\r\n"
    assert first.ask(b"DELE 1\r\nQUIT").endswith(b"(1 messages left)\r\n")


def test_no_file_stays_open_when_only_the_top_is_read(store: Store) -> None:
    deliver(store, LARGE)
    client = Client(store)
    client.ask(b"TOP 1 0")
    gc.collect()  # what other tests left
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    for _ in range(10):
        client.ask(b"TOP 1 1")
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) <= before


def test_a_message_that_its_owner_cannot_read_is_an_error_and_the_session_goes_on(store: Store, tmp_path: Path) -> None:
    deliver(store, SMALL)
    client = Client(store)
    (file,) = (tmp_path / "example.test" / "alice" / "cur").iterdir()
    file.unlink()
    file.symlink_to("/etc/passwd")
    assert client.ask(b"RETR 1") == b"-ERR [SYS/PERM] the message cannot be read now\r\n"
    assert client.ask(b"NOOP") == b"+OK\r\n"


def test_unique_ids_outlast_flags_and_the_index(store: Store, tmp_path: Path) -> None:
    for message in (SMALL, LARGE, BINARY):
        deliver(store, message)
    listings = {}
    for notation in ("%08Xu%08Xv", "%v.%u", "%f"):
        client = Client(store, unique_id=notation)
        listings[notation] = client.lines(b"UIDL")
        client.leave()
    mailbox = store.account(ALICE).open("INBOX")
    mailbox.update_flags([1, 2], "add", frozenset({r"\Flagged", "work"}))
    mailbox.close()
    for file in (tmp_path / "example.test" / "alice").glob("mailserver.index*"):
        file.unlink()
    for notation, listing in listings.items():
        client = Client(Store(tmp_path, hostname="mail.example.test"), unique_id=notation)
        assert client.lines(b"UIDL") == listing
        client.leave()


def test_names_as_unique_ids_are_those_that_the_files_had_before(store: Store, tmp_path: Path) -> None:
    inbox = tmp_path / "example.test" / "alice"
    store.account(ALICE)
    files = ["1.a.host", "2.b.host,S=17", "3.c.host,S=17,W=19", f"4.{'d' * 80}.host", "5.e.host,W=19", "6.f.host,S=5"]
    for name in files:
        (inbox / "new" / name).write_bytes(b"Subject: x\n\nhallo")
    client = Client(store, unique_id="%f")
    names = [line.partition(b" ")[2].decode() for line in client.lines(b"UIDL")]
    assert names == [*files[:5], "6.f.host,S=17,W=19"], "a size that is wrong is mended, also in the name"


def test_what_was_retrieved_is_seen_by_imap(store: Store) -> None:
    for message in (SMALL, LARGE, BINARY):
        deliver(store, message)
    client = Client(store)
    client.ask(b"RETR 1\r\nRETR 2\r\nTOP 3 0\r\nDELE 1")
    client.leave()
    mailbox = store.account(ALICE).open("INBOX")
    assert [message.uid for message in mailbox.messages() if r"\Seen" in message.flags] == [1, 2]


def test_one_session_at_a_time_where_the_configuration_says_so(store: Store) -> None:
    deliver(store, SMALL)
    first = Client(store, exclusive=True)
    second = Client(store, exclusive=True)
    assert first.answer.startswith(b"+OK 1 messages")
    assert second.answer.startswith(b"-ERR [IN-USE] ")
    first.leave()
    assert second.ask(b"USER alice@example.test\r\nPASS x").endswith(b"+OK 1 messages (%d octets)\r\n" % len(SMALL))
    shared = Client(store)
    assert shared.answer.startswith(b"+OK 1 messages")


def test_a_second_login_waits_where_the_configuration_says_so(store: Store) -> None:
    client = Client(store, login_delay="10 min")
    assert client.answer.startswith(b"+OK 0 messages")
    client.leave()
    assert Client(store, login_delay="10 min").answer.startswith(b"-ERR [LOGIN-DELAY] ")
    assert Client(store).answer.startswith(b"+OK 0 messages")


def test_nothing_is_held_when_a_maildrop_cannot_be_made(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Mailbox, **_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as broken:
        broken.setattr(Mailbox, "drop", fail)
        with pytest.raises(MemoryError):
            Client(store, exclusive=True)
    assert Client(store, exclusive=True).answer.startswith(b"+OK 0 messages")


def test_files_that_once_had_the_same_name_have_unique_ids(store: Store, tmp_path: Path) -> None:
    inbox = tmp_path / "example.test" / "alice"
    store.account(ALICE)
    for place, text in (("new/1.a.host", b"Subject: one\n\n"), ("cur/1.a.host:2,S", b"Subject: two\n\n")):
        (inbox / place).write_bytes(text)
    client = Client(store, unique_id="%f")
    assert client.lines(b"UIDL") == [b"1 1.a.host", b"2 1.a.host.2"]
    assert client.retrieve(1) != client.retrieve(2)


@pytest.mark.parametrize("told", [b"W=3", b"W=400"])
def test_a_size_that_cannot_be_is_not_believed(store: Store, tmp_path: Path, told: bytes) -> None:
    content = b"Subject: x\n\nhallo\n"
    store.account(ALICE)
    (tmp_path / "example.test" / "alice" / "new" / f"1.a.host,S={len(content)},{told.decode()}").write_bytes(content)
    client = Client(store)
    assert client.lines(b"LIST") == [b"1 %d" % len(client.retrieve(1))]
