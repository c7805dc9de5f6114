"""POP3 sessions over a store: what clients may do, and what attackers may not."""

from __future__ import annotations

import base64
import tracemalloc
from array import array
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.accounts import Visit
from mailserver.config.model import POP3, Limits
from mailserver.mail import Address
from mailserver.policy.connections import Refusal
from mailserver.policy.failures import Failures
from mailserver.ports import TLSState
from mailserver.sessions.login import Authenticator
from mailserver.sessions.pop3 import POP3Rooms, POP3Session, refuse
from mailserver.sessions.pop3.maildrop import AHEAD, BATCH, SMALL, header_of, read_batch, top
from mailserver.store import Drop, InUse, Message, MessageGone, TooSoon, Unavailable
from tests.support.fakes import FakeChannel, FakeClock, FakeWorkers, PasswordsOnly, converse, run

ALICE = Address("alice", "example.test")
TLS = TLSState("TLSv1.3", "TLS_AES_256_GCM_SHA384")


class FakeMailbox:
    """The store's Mailbox as far as POP3 needs it; `broken` names methods that fail."""

    uidvalidity = 0x55D0D5B5

    def __init__(self, *contents: bytes) -> None:
        self.contents = {}
        self.next_uid = 1
        self.synced: list[Message] = []
        self.users = 0
        self.broken: set[str] = set()
        self.stuck: set[int] = set()
        self.seen: set[int] = set()
        self.reads: list[int] = []
        for content in contents:
            self.add(content)

    def add(self, content: bytes) -> None:
        self.contents[self.next_uid] = content
        self.next_uid += 1

    def _try(self, name: str) -> None:
        if name in self.broken:
            raise Unavailable("the disk refused")

    def sync(self) -> None:
        self.synced = [Message(uid, frozenset(), 1, 0.0, len(content)) for uid, content in self.contents.items()]

    def drop(self, *, named: bool) -> Drop:
        names = [f"name{m.uid}" for m in self.synced if named]
        return Drop(array("I", [m.uid for m in self.synced]), array("Q", [m.size for m in self.synced]), names)

    def get(self, uids: Iterable[int]) -> list[Message]:
        wanted = set(uids)
        return [m for m in self.synced if m.uid in wanted and m.uid in self.contents]

    def read(self, uid: int) -> bytes:
        self.reads.append(uid)
        return b"".join(self.chunks(uid))

    def update_flags(self, uids: Iterable[int], action: str, flags: frozenset[str]) -> None:
        self._try("update_flags")
        assert (action, flags) == ("add", {"\\Seen"})
        self.seen |= set(uids)

    def chunks(self, uid: int) -> Iterator[bytes]:
        self._try("chunks")
        if uid not in self.contents:
            raise MessageGone("gone")
        content = self.contents[uid]
        for at in range(0, len(content), 65536):
            yield content[at : at + 65536]

    def expunge(self, uids: Iterable[int]) -> list[int]:
        self._try("expunge")
        removed = [uid for uid in uids if uid in self.contents and uid not in self.stuck]
        for uid in removed:
            del self.contents[uid]
        return removed

    def close(self) -> None:
        self.users -= 1


@dataclass
class FakeAccount:
    mailbox: FakeMailbox
    refusal: Exception | None = None

    def open(self, name: str) -> FakeMailbox:
        assert name == "INBOX"
        if "open" in self.mailbox.broken:
            raise Unavailable("the disk refused")
        self.mailbox.sync()
        self.mailbox.users += 1
        return self.mailbox

    def turn(self, *, delay: float, alone: bool) -> ExitStack:
        if self.refusal is not None:
            raise self.refusal
        return ExitStack()


class FakePasswords(PasswordsOnly):
    broken = False

    def authenticate(self, username: str, password: str, visit: Visit) -> Address | None:
        if self.broken:
            raise OSError("accounts.toml")
        return ALICE if (username, password) == ("alice@example.test", "secret phrase") else None


@dataclass
class World:
    """A session and all that it touches."""

    mailbox: FakeMailbox = field(default_factory=FakeMailbox)
    tls: TLSState | None = TLS
    tls_available: bool = True
    limits: Limits = field(default_factory=Limits)
    policy: POP3 = field(default_factory=POP3)

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.refusal: Exception | None = None
        self.passwords = FakePasswords()
        self.authenticator = Authenticator(self.passwords, FakeWorkers(), self.clock, Failures())
        self.connect()

    def connect(self) -> None:
        self.channel = FakeChannel(tls=self.tls)
        rooms = POP3Rooms(
            hostname="mail.example.test",
            limits=self.limits,
            policy=self.policy,
            authenticator=self.authenticator,
            open_account=self.open_account,
            workers=FakeWorkers(),
            clock=self.clock,
        )
        self.session = POP3Session(self.channel, rooms, tls_available=self.tls_available)
        self.channel.engine = self.session.engine
        run(self.session.opened())
        assert self.says(b"") == b"+OK mail.example.test POP3 ready\r\n"

    def open_account(self, address: Address) -> Any:
        assert address == ALICE
        return FakeAccount(self.mailbox, self.refusal)

    def says(self, data: bytes) -> bytes:
        """What the server answers to `data`."""
        return converse(self.session, self.channel, data)

    def log_in(self) -> None:
        answer = self.says(b"USER alice@example.test\r\nPASS secret phrase\r\n")
        assert answer.count(b"+OK") == 2, answer

    def disconnect(self) -> None:
        self.session.lost()


def logged_in(*contents: bytes, **settings: Any) -> World:
    world = World(FakeMailbox(*contents), **settings)
    world.log_in()
    return world


def sized(size: int) -> bytes:
    """A message of so many octets."""
    return b"Subject: x\r\n\r\n" + b"y" * (size - 16) + b"\r\n"


# The protocol


def test_the_example_session_of_rfc_1939() -> None:
    world = World(FakeMailbox(sized(120), sized(200)))
    transcript = [
        (b"USER alice@example.test", b"+OK send the password\r\n"),
        (b"PASS secret phrase", b"+OK 2 messages (320 octets)\r\n"),
        (b"STAT", b"+OK 2 320\r\n"),
        (b"LIST", b"+OK 2 messages (320 octets)\r\n1 120\r\n2 200\r\n.\r\n"),
        (b"LIST 2", b"+OK 2 200\r\n"),
        (b"RETR 1", b"+OK 120 octets\r\n" + sized(120) + b".\r\n"),
        (b"DELE 1", b"+OK message 1 deleted\r\n"),
        (b"DELE 1", b"-ERR no such message\r\n"),
        (b"RETR 1", b"-ERR no such message\r\n"),
        (b"STAT", b"+OK 1 200\r\n"),
        (b"RETR 2", b"+OK 200 octets\r\n" + sized(200) + b".\r\n"),
        (b"DELE 2", b"+OK message 2 deleted\r\n"),
        (b"LIST", b"+OK 0 messages (0 octets)\r\n.\r\n"),
        (b"QUIT", b"+OK mail.example.test signs off (0 messages left)\r\n"),
    ]
    for command, answer in transcript:
        assert world.says(command + b"\r\n") == answer
    assert world.channel.closed
    assert world.mailbox.contents == {}


def test_the_same_commands_in_one_pipeline_get_the_same_answers() -> None:
    commands = [b"STAT", b"LIST", b"UIDL", b"RETR 1", b"TOP 2 0", b"DELE 1", b"NOOP", b"BAD", b"RSET", b"QUIT"]
    one_by_one, pipelined = logged_in(sized(120), sized(200)), logged_in(sized(120), sized(200))
    answers = b"".join(one_by_one.says(command + b"\r\n") for command in commands)
    assert pipelined.says(b"".join(command + b"\r\n" for command in commands)) == answers
    assert answers.count(b"+OK") == 9


def test_an_empty_maildrop() -> None:
    world = logged_in()
    assert world.says(b"STAT\r\n") == b"+OK 0 0\r\n"
    assert world.says(b"LIST\r\n") == b"+OK 0 messages (0 octets)\r\n.\r\n"
    assert world.says(b"UIDL\r\n") == b"+OK\r\n.\r\n"
    assert world.says(b"QUIT\r\n") == b"+OK mail.example.test signs off (0 messages left)\r\n"


def test_unique_ids_have_dovecots_form_and_last() -> None:
    world = logged_in(b"a\r\n", b"b\r\n")
    listing = b"+OK\r\n1 0000000155d0d5b5\r\n2 0000000255d0d5b5\r\n.\r\n"
    assert world.says(b"UIDL\r\n") == listing
    assert world.says(b"UIDL 2\r\n") == b"+OK 2 0000000255d0d5b5\r\n"
    assert world.says(b"DELE 1\r\nUIDL\r\nUIDL 1\r\nQUIT\r\n").startswith(
        b"+OK message 1 deleted\r\n+OK\r\n2 0000000255d0d5b5\r\n.\r\n-ERR no such message\r\n+OK"
    )
    world.disconnect()
    world.connect()
    world.log_in()
    assert world.says(b"UIDL\r\n") == b"+OK\r\n1 0000000255d0d5b5\r\n.\r\n"


def test_capabilities_before_and_after_tls_and_login() -> None:
    world = World(tls=None)
    common = [b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING"]
    last = [b"UTF8 USER", b"LANG", b"EXPIRE NEVER", b"IMPLEMENTATION mailserver"]
    assert capabilities(world) == [*common, b"STLS", *last]
    assert world.says(b"STLS\r\n") == b"+OK begin TLS negotiation\r\n"
    assert capabilities(world) == [*common, b"USER", b"SASL PLAIN LOGIN", *last]
    world.log_in()
    assert capabilities(world) == [*common, b"USER", b"SASL PLAIN LOGIN", *last]


def test_capabilities_in_clear_where_that_is_allowed_are_the_same_in_both_states() -> None:
    world = World(tls=None, policy=POP3(login_delay="15 min"))
    world.authenticator.without_tls = "loopback"
    before = capabilities(world)
    assert {b"STLS", b"USER", b"SASL PLAIN LOGIN", b"LOGIN-DELAY 900"} < set(before)
    world.log_in()
    assert capabilities(world) == before


def capabilities(world: World) -> list[bytes]:
    first, *lines, last, _ = world.says(b"CAPA\r\n").split(b"\r\n")
    assert (first, last) == (b"+OK", b".")
    return lines


def test_top_gives_header_and_lines() -> None:
    world = logged_in(b"Subject: x\r\n\r\n.one\r\ntwo\r\nthree")
    head = b"+OK top of message follows\r\nSubject: x\r\n\r\n"
    assert world.says(b"TOP 1 0\r\n") == head + b".\r\n"
    assert world.says(b"TOP 1 1\r\n") == head + b"..one\r\n.\r\n"
    assert world.says(b"TOP 1 2\r\n") == head + b"..one\r\ntwo\r\n.\r\n"
    assert world.says(b"TOP 1 99999999999999999999\r\n") == head + b"..one\r\ntwo\r\nthree\r\n.\r\n"
    assert world.says(b"TOP 2 0\r\n") == b"-ERR no such message\r\n"


def test_content_without_line_end_with_octets_and_long_lines_arrives() -> None:
    for content in (b"", b"a", b"\xff\xe4" * 1000, b"x" * 1_000_000, b"Subject: x\r\n\r\n.\r\n..\r\n"):
        answer = logged_in(content).says(b"RETR 1\r\n")
        ended = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
        stuffed = (b"\r\n" + ended).replace(b"\r\n.", b"\r\n..")[2:]
        assert answer == f"+OK {len(content)} octets\r\n".encode() + stuffed + b".\r\n"


def test_ten_megabytes_go_out_in_batches() -> None:
    content = sized(10 * 2**20)
    world = logged_in(content)
    peak = 0
    received = []

    class SlowChannel(FakeChannel):
        def flush(self) -> None:
            nonlocal peak
            data = self.engine.data_to_send()
            peak = max(peak, len(data))
            received.append(data)

    slow = SlowChannel(engine=world.session.engine, tls=TLS)
    world.session._core.channel = slow
    tracemalloc.start()
    converse(world.session, slow, b"RETR 1\r\n")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    answer = b"".join(received)
    assert answer == b"+OK 10485760 octets\r\n" + content + b".\r\n"
    assert peak <= 2 * BATCH
    assert most <= len(content) + 8 * BATCH  # what this test collects, and a few batches


# Reading ahead


def test_messages_that_are_taken_one_after_another_are_read_ahead_ever_more_of_them() -> None:
    contents = [b"message %d\r\n" % number for number in range(1, 40)]
    world = logged_in(*contents)
    hops = count_hops(world)
    for number, content in enumerate(contents, 1):
        assert world.says(b"RETR %d\r\n" % number) == b"+OK %d octets\r\n%b.\r\n" % (len(content), content)
    assert world.mailbox.reads == list(range(1, 40)), "each is read once"
    assert len(hops) == 6  # with 1, 2, 4, 8, 16 ahead


def test_reading_ahead_is_bounded_and_takes_no_large_message() -> None:
    world = logged_in(*[sized(AHEAD // 4)] * 20, sized(SMALL + 1), sized(100))
    for number in range(1, 20):
        world.says(b"RETR %d\r\n" % number)
        assert sum(map(len, world.session._maildrop._ahead.values())) <= AHEAD
    world.says(b"RETR 20\r\n")
    assert world.mailbox.reads == list(range(1, 21)), "the large one is not among them"
    assert len(world.says(b"RETR 21\r\n")) > SMALL


def test_messages_that_are_marked_as_deleted_are_not_read_ahead() -> None:
    world = logged_in(*[b"x\r\n"] * 6)
    world.says(b"DELE 3\r\nDELE 4\r\nRETR 1\r\nRETR 2\r\nRETR 5\r\nRETR 6\r\n")
    assert world.mailbox.reads == [1, 2, 5, 6]


def test_taking_messages_at_random_reads_none_for_nothing_but_one() -> None:
    world = logged_in(*[b"x\r\n"] * 100)
    for number in (90, 10, 70, 30, 50):
        world.says(b"RETR %d\r\n" % number)
    assert world.mailbox.reads == [90, 91, 10, 11, 70, 71, 30, 31, 50, 51]


def test_a_message_that_cannot_be_read_ahead_is_told_of_when_it_is_asked_for() -> None:
    world = logged_in(*[b"x\r\n"] * 4)
    del world.mailbox.contents[2]
    ok, gone = b"+OK 3 octets\r\nx\r\n.\r\n", b"-ERR another session has removed the message\r\n"
    assert world.says(b"RETR 1\r\nRETR 2\r\nRETR 3\r\n") == ok + gone + ok


def count_hops(world: World) -> list[Any]:
    hops: list[Any] = []
    workers = FakeWorkers()
    run_it = workers.run
    workers.run = lambda *args, **kwargs: (hops.append(args), run_it(*args, **kwargs))[1]
    world.session._core.rooms = replace(world.session._core.rooms, workers=workers)
    return hops


# Seen


@pytest.mark.parametrize("end", [b"QUIT\r\n", b""])
def test_what_was_retrieved_is_seen_at_the_end_however_it_ends(end: bytes) -> None:
    world = logged_in(*[b"x\r\n"] * 4)
    world.says(b"RETR 1\r\nTOP 2 1\r\nRETR 4\r\n")
    assert world.mailbox.seen == set()
    world.says(end)
    world.disconnect()
    assert world.mailbox.seen == {1, 4}


def test_nothing_is_marked_where_the_configuration_says_so() -> None:
    world = logged_in(b"x\r\n", policy=POP3(mark_seen=False))
    world.says(b"RETR 1\r\nQUIT\r\n")
    world.disconnect()
    assert world.mailbox.seen == set()


def test_flags_that_cannot_be_set_end_nothing(caplog: pytest.LogCaptureFixture) -> None:
    world = logged_in(b"x\r\n")
    world.mailbox.broken = {"update_flags"}
    assert world.says(b"RETR 1\r\nQUIT\r\n").endswith(b"(1 messages left)\r\n")
    world.disconnect()
    assert world.mailbox.users == 0
    assert "cannot be marked as seen" in caplog.text


# UTF8 and LANG (RFC 6856)

INTERNATIONAL = "Subject: Grüße\r\n\r\nbody\r\n".encode()
EIGHT_BIT_BODY = "Subject: x\r\n\r\nGrüße\r\n".encode()
HIDDEN = b"-ERR [UTF8] the message has UTF-8 in its header; send UTF8 before you log in\r\n"


def test_utf8_in_a_header_is_for_those_who_asked_where_the_configuration_says_so() -> None:
    world = logged_in(INTERNATIONAL, EIGHT_BIT_BODY, policy=POP3(utf8_only_when_asked=True))
    assert world.says(b"RETR 1\r\nTOP 1 0\r\n") == HIDDEN * 2
    assert EIGHT_BIT_BODY in world.says(b"RETR 2\r\n")
    world.says(b"QUIT\r\n")
    world.disconnect()
    assert world.mailbox.seen == {2}
    world.connect()
    assert world.says(b"UTF8\r\n") == b"+OK UTF-8 it is\r\n"
    world.log_in()
    assert world.says(b"LIST 1\r\nRETR 1\r\n") == b"+OK 1 %d\r\n+OK %d octets\r\n%b.\r\n" % (
        len(INTERNATIONAL),
        len(INTERNATIONAL),
        INTERNATIONAL,
    )


def test_utf8_in_a_header_goes_to_all_unless_the_configuration_says_otherwise() -> None:
    assert INTERNATIONAL in logged_in(INTERNATIONAL).says(b"RETR 1\r\n")


def test_utf8_comes_after_stls_and_before_login() -> None:
    world = World(tls=None)
    assert world.says(b"UTF8\r\nSTLS\r\n") == b"+OK UTF-8 it is\r\n-ERR STLS comes before UTF8\r\n"
    assert logged_in().says(b"UTF8\r\n") == b"-ERR you are logged in already\r\n"


def test_languages() -> None:
    world = World()
    for _ in range(2):
        assert world.says(b"LANG\r\n") == b"+OK languages follow\r\nen English\r\n.\r\n"
        assert world.says(b"LANG EN\r\n") == world.says(b"LANG *\r\n") == b"+OK en answers are in English\r\n"
        for unknown in (b"MUL", b"uga", b"en-GB", b"e"):
            assert world.says(b"LANG " + unknown + b"\r\n") == (
                b"-ERR that language is not known here; LANG lists those that are\r\n"
            )
        if world.session.awaits_login:
            world.log_in()


def test_auth_alone_lists_the_mechanisms() -> None:
    assert World().says(b"AUTH\r\n") == b"+OK mechanisms follow\r\nPLAIN\r\nLOGIN\r\n.\r\n"
    assert World(tls=None).says(b"AUTH\r\n") == b"+OK mechanisms follow\r\n.\r\n"


# Turns


@pytest.mark.parametrize(
    ("refusal", "code"),
    [(InUse("held"), b"IN-USE"), (TooSoon("early"), b"LOGIN-DELAY"), (OSError(13, "x"), b"SYS/PERM")],
)
def test_why_a_maildrop_is_not_opened_has_its_code(refusal: Exception, code: bytes) -> None:
    world = World(policy=POP3(exclusive=True, login_delay="1 min"))
    world.refusal = refusal
    wrong = world.says(b"USER alice@example.test\r\nPASS guess\r\n")
    assert wrong.endswith(b"-ERR [AUTH] authentication failed\r\n"), "who does not know the password learns nothing"
    answer = world.says(b"USER alice@example.test\r\nPASS secret phrase\r\n")
    assert answer.startswith(b"+OK send the password\r\n-ERR [%b] " % code)
    assert world.mailbox.users == 0
    world.refusal = None
    world.log_in()


# Deletion


def test_deletion_waits_for_quit() -> None:
    world = logged_in(b"a\r\n", b"b\r\n", b"c\r\n")
    world.says(b"DELE 2\r\n")
    assert list(world.mailbox.contents) == [1, 2, 3]
    assert world.says(b"QUIT\r\n") == b"+OK mail.example.test signs off (2 messages left)\r\n"
    assert list(world.mailbox.contents) == [1, 3]


def test_rset_takes_deletions_back() -> None:
    world = logged_in(b"a\r\n", b"b\r\n")
    answer = world.says(b"DELE 1\r\nDELE 2\r\nSTAT\r\nRSET\r\nSTAT\r\nQUIT\r\n")
    assert b"+OK 0 0\r\n+OK 2 messages (6 octets)\r\n+OK 2 6\r\n" in answer
    assert list(world.mailbox.contents) == [1, 2]


def test_a_lost_connection_deletes_nothing() -> None:
    world = logged_in(b"a\r\n")
    world.says(b"DELE 1\r\n")
    world.disconnect()
    assert list(world.mailbox.contents) == [1]
    assert world.mailbox.users == 0


def test_autologout_deletes_nothing_and_says_nothing() -> None:
    world = logged_in(b"a\r\n")
    world.says(b"DELE 1\r\n")
    world.session.timed_out()
    assert world.says(b"") == b""
    world.disconnect()
    assert list(world.mailbox.contents) == [1]


@pytest.mark.parametrize("fault", ["stuck", "broken"])
def test_quit_tells_when_a_deletion_failed(fault: str) -> None:
    world = logged_in(b"a\r\n", b"b\r\n")
    world.says(b"DELE 1\r\nDELE 2\r\n")
    if fault == "stuck":
        world.mailbox.stuck = {2}
    else:
        world.mailbox.broken = {"expunge"}
    assert world.says(b"QUIT\r\n") == b"-ERR [SYS/TEMP] some deleted messages not removed\r\n"
    assert world.channel.closed


def test_what_another_session_removed_is_no_failure_of_quit() -> None:
    world = logged_in(b"a\r\n", b"b\r\n")
    world.says(b"DELE 1\r\n")
    del world.mailbox.contents[1]
    assert world.says(b"QUIT\r\n").startswith(b"+OK")


def test_the_numbers_of_a_session_do_not_move() -> None:
    world = logged_in(b"a\r\n", b"bb\r\n")
    world.mailbox.add(b"ccc\r\n")
    world.mailbox.expunge([1])
    world.mailbox.sync()
    assert world.says(b"LIST\r\n") == b"+OK 2 messages (7 octets)\r\n1 3\r\n2 4\r\n.\r\n"
    assert world.says(b"RETR 1\r\n") == b"-ERR another session has removed the message\r\n"
    assert world.says(b"RETR 2\r\n") == b"+OK 4 octets\r\nbb\r\n.\r\n"
    assert world.says(b"RETR 3\r\n") == b"-ERR no such message\r\n"


# Logging in


def test_no_password_in_clear() -> None:
    world = World(tls=None)
    refusal = b"-ERR [AUTH] encryption is required before a password is sent\r\n"
    assert world.says(b"USER alice@example.test\r\n") == refusal
    assert world.says(b"PASS secret phrase\r\n") == b"-ERR give USER first\r\n"
    assert world.says(b"AUTH PLAIN\r\n") == refusal
    assert world.session.awaits_login


def test_clear_text_from_this_machine_where_the_configuration_allows_it() -> None:
    world = World(tls=None)
    world.authenticator.without_tls = "loopback"
    world.log_in()
    assert world.says(b"STAT\r\n") == b"+OK 0 0\r\n"


def test_commands_injected_behind_stls_are_dropped() -> None:
    world = World(tls=None)
    assert world.says(b"STLS\r\nCAPA\r\nQUIT\r\n") == b"+OK begin TLS negotiation\r\n"
    assert world.says(b"") == b""
    assert world.says(b"STLS\r\n") == b"-ERR TLS is active already\r\n"
    world.log_in()
    assert world.says(b"STLS\r\n") == b"-ERR you are logged in already\r\n"


def test_stls_where_there_is_none() -> None:
    world = World(tls=None, tls_available=False)
    assert world.says(b"STLS\r\n") == b"-ERR TLS is not available here\r\n"
    assert b"STLS" not in world.says(b"CAPA\r\n")


PLAIN = base64.b64encode(b"\0alice@example.test\0secret phrase")


@pytest.mark.parametrize(
    "dialogue",
    [
        [(b"AUTH PLAIN " + PLAIN, b"+OK 1 messages")],
        [(b"AUTH PLAIN", b"+ \r\n"), (PLAIN, b"+OK 1 messages")],
        [
            (b"auth login", b"+ " + base64.b64encode(b"Username:")),
            (base64.b64encode(b"alice@example.test"), b"+ " + base64.b64encode(b"Password:")),
            (base64.b64encode(b"secret phrase"), b"+OK 1 messages"),
        ],
        [(b"AUTH PLAIN", b"+ \r\n"), (b"*", b"-ERR authentication cancelled"), (b"STAT", b"-ERR log in first")],
        [(b"AUTH PLAIN", b"+ \r\n"), (b"!", b"-ERR the response is not base64"), (b"NOOP", b"-ERR")],
        [(b"AUTH PLAIN =", b"-ERR the response is malformed"), (b"AUTH PLAIN " + PLAIN, b"+OK")],
        [(b"AUTH GSSAPI", b"-ERR unknown authentication mechanism; ")],
        [(b"AUTH PLAIN " + base64.b64encode(b"bob@example.test\0alice@example.test\0secret phrase"), b"-ERR [AUTH] ")],
        [(b"AUTH PLAIN " + PLAIN, b"+OK"), (b"AUTH PLAIN " + PLAIN, b"-ERR you are logged in already")],
    ],
)
def test_sasl_dialogues(dialogue: list[tuple[bytes, bytes]]) -> None:
    world = World(FakeMailbox(b"a\r\n"))
    for line, answer in dialogue:
        assert world.says(line + b"\r\n").startswith(answer)


def test_wrong_passwords_and_unknown_users_get_the_same_answer() -> None:
    world = World()
    answers = {
        world.says(b"USER " + name + b"\r\n") + world.says(b"PASS guess\r\n")
        for name in (b"alice@example.test", b"nobody@example.test", b"../../etc/passwd", "\uff20".encode())
    }
    assert answers == {b"+OK send the password\r\n-ERR [AUTH] authentication failed\r\n"}


def test_guessing_ends_the_connection() -> None:
    world = World(limits=Limits(errors=3))
    for _ in range(3):
        world.says(b"USER alice@example.test\r\nPASS guess\r\n")
        assert not world.channel.closed
    assert world.says(b"USER a\r\nPASS b\r\nUSER a\r\n").endswith(b"-ERR too many errors\r\n")
    assert world.channel.closed


def test_a_directory_that_cannot_be_read_is_told_as_temporary() -> None:
    world = World(limits=Limits(errors=1))
    world.passwords.broken = True
    for _ in range(5):
        answer = world.says(b"USER alice@example.test\r\nPASS secret phrase\r\n")
        assert answer.endswith(b"-ERR [SYS/TEMP] accounts cannot be looked up now\r\n")
    assert not world.channel.closed


def test_a_mailbox_that_cannot_be_opened_is_told_as_temporary() -> None:
    world = World()
    world.mailbox.broken = {"open"}
    answer = world.says(b"USER alice@example.test\r\nPASS secret phrase\r\n")
    assert answer.endswith(b"-ERR [SYS/TEMP] the mailbox cannot be opened now\r\n")
    assert world.mailbox.users == 0
    world.mailbox.broken = set()
    world.log_in()
    assert world.mailbox.users == 1


def test_idle_timeouts_before_and_after_login() -> None:
    world = World(limits=Limits(login_timeout="10 s", pop3_timeout="20 min"))
    assert (world.session.idle_timeout, world.session.awaits_login) == (10.0, True)
    world.log_in()
    assert (world.session.idle_timeout, world.session.awaits_login) == (1200.0, False)


# Attacks and faults


@pytest.mark.parametrize(
    "argument", [b"0", b"3", b"99999999999999999999", b"-1", b"9" * 1000, b"1\0", b"\xd9\xa1", b""]
)
@pytest.mark.parametrize("command", [b"RETR", b"DELE", b"TOP", b"LIST", b"UIDL"])
def test_message_numbers_of_every_odd_shape(command: bytes, argument: bytes) -> None:
    world = logged_in(b"a\r\n", b"b\r\n")
    if not argument and command in {b"LIST", b"UIDL"}:
        return
    lines = b" 0" if command == b"TOP" else b""
    assert world.says(command + b" " + argument + lines + b"\r\n").startswith(b"-ERR ")
    assert world.says(b"STAT\r\n") == b"+OK 2 6\r\n"


def test_too_many_bad_commands_end_the_connection() -> None:
    world = logged_in(b"a\r\n", limits=Limits(errors=10))
    answer = world.says(b"DELE 9\r\n" * 2 + b"XYZZY\r\n" * 1000 + b"DELE 1\r\nQUIT\r\n")
    refusals = b"-ERR no such message\r\n" * 2 + b"-ERR unknown command\r\n" * 8
    assert answer == refusals + b"-ERR too many errors\r\n"
    assert world.channel.closed
    world.disconnect()
    assert list(world.mailbox.contents) == [1]


def test_each_bad_command_is_answered_later_than_the_one_before() -> None:
    world = logged_in(b"a\r\n", limits=Limits(errors=10))
    pauses = []
    for command in (b"XYZZY", b"RETR 9", b"DELE -1", b"TOP 1", b"USER a", b"A" * 5000, b"LIST \xd9\xa1", b"RETR 0"):
        before = world.clock.monotonic()
        assert world.says(b"NOOP\r\n" + command + b"\r\n").startswith(b"+OK\r\n-ERR ")
        pauses.append(round(world.clock.monotonic() - before, 3))
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4]


def test_what_was_asked_before_a_bad_command_does_not_wait_for_its_pause() -> None:
    world = logged_in(b"a\r\n")
    sent_before_the_pause = []
    pause = world.clock.sleep
    world.clock.sleep = lambda seconds: (sent_before_the_pause.append(world.channel.sent), pause(seconds))[1]
    world.says(b"STAT\r\nXYZZY\r\n")
    assert sent_before_the_pause == [b"+OK 1 3\r\n"]


def test_an_endless_line_is_one_error() -> None:
    world = World()
    assert world.says(b"A" * 5000) == b"-ERR line too long\r\n"
    assert world.says(b"A" * 100_000) == b""
    assert world.session.engine.buffered == 0
    assert world.says(b"\r\nNOOP\r\n") == b"-ERR log in first\r\n"


def test_a_flood_of_pipelined_answers_does_not_pile_up() -> None:
    world = logged_in(sized(50_000))
    written = []

    class CountingChannel(FakeChannel):
        def flush(self) -> None:
            written.append(self.engine.data_to_send())

    counting = CountingChannel(engine=world.session.engine, tls=TLS)
    world.session._core.channel = counting
    converse(world.session, counting, b"RETR 1\r\n" * 100)
    assert sum(map(len, written)) > 5_000_000
    assert max(map(len, written)) < 200_000


def test_a_message_that_cannot_be_read_is_told_as_temporary() -> None:
    world = logged_in(b"a\r\n")
    world.mailbox.broken = {"chunks"}
    assert world.says(b"RETR 1\r\nTOP 1 0\r\n") == b"-ERR [SYS/TEMP] the message cannot be read now\r\n" * 2
    world.mailbox.broken = set()
    assert world.says(b"RETR 1\r\n") == b"+OK 3 octets\r\na\r\n.\r\n"


def test_a_message_that_breaks_off_gets_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    world = logged_in(sized(1_000_000))
    whole = world.mailbox.chunks

    def breaking(uid: int) -> Iterator[bytes]:
        for n, chunk in enumerate(whole(uid)):
            if n == 6:
                raise OSError("input/output error")
            yield chunk

    monkeypatch.setattr(world.mailbox, "chunks", breaking)
    with pytest.raises(OSError, match="input/output"):
        world.says(b"RETR 1\r\n")
    assert b"\r\n.\r\n" not in world.channel.sent
    assert world.session.engine.next_event() is None


def test_the_greeting_of_a_client_that_is_turned_away() -> None:
    assert (
        refuse("mail.example.test", Refusal.TOTAL)
        == b"-ERR [SYS/TEMP] mail.example.test too many connections, try again later\r\n"
    )


ASKED = [b"RETR 1", b"TOP 1 1", b"DELE 1", b"LIST", b"RSET", b"USER alice@example.test", b"PASS secret phrase"]
ASKED += [b"AUTH PLAIN", PLAIN, b"*", b"STLS", b"\0"]


@given(st.lists(st.sampled_from(ASKED).map(lambda line: line + b"\r\n") | st.binary(max_size=30)))
def test_garbage_never_raises(lines: list[bytes]) -> None:
    world = World(FakeMailbox(b"a\r\n"))
    world.says(b"".join(lines))
    world.disconnect()
    assert world.mailbox.users == 0
    assert list(world.mailbox.contents) == [1]


# TOP against a naive model


@given(
    st.lists(st.sampled_from([b"\r\n", b"a", b".", b"a: b\r\n"])).map(b"".join),
    st.integers(0, 5),
    st.lists(st.integers(0, 60), max_size=4),
)
def test_top_is_what_a_naive_reader_takes(content: bytes, lines: int, cuts: list[int]) -> None:
    expected = b""
    in_body = False
    left = lines
    for line in content.splitlines(keepends=True):
        if in_body and left == 0:
            break
        left -= in_body
        expected += line
        in_body = in_body or line == b"\r\n"
    bounds = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    assert b"".join(top((content[start:end] for start, end in pairwise(bounds)), lines)) == expected


@pytest.mark.parametrize(
    ("content", "header"),
    [(b"a: b\r\n\r\nc", b"a: b\r\n\r\n"), (b"\r\n\xff", b"\r\n"), (b"a: b\r\n", b"a: b\r\n"), (b"", b"")],
)
def test_where_a_header_ends(content: bytes, header: bytes) -> None:
    assert header_of(content) == header


def test_batches_are_full_but_for_the_last() -> None:
    chunks = iter([b"a" * 100_000] * 7)
    sizes = []
    while not sizes or sizes[-1] >= BATCH:
        sizes.append(len(read_batch(chunks)))
    assert sizes == [300_000, 300_000, 100_000]
