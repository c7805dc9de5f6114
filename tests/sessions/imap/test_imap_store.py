"""STORE, and two sessions on one mailbox against a naive model."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.sessions.imap.flags import applied
from tests.support.imap import Client, Server

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path)
    server.deliver(MESSAGE, count=3)
    server.login(select="INBOX").command("CLOSE")  # takes the recent ones
    return server


@pytest.fixture
def client(server: Server) -> Client:
    return server.login(select="INBOX")


def test_store_answers_with_the_flags_after_it(client: Client) -> None:
    assert client.lines("STORE 1:2 +FLAGS (\\Seen)") == [b"1 FETCH (FLAGS (\\Seen))", b"2 FETCH (FLAGS (\\Seen))"]
    assert client.lines("STORE 1 FLAGS \\Flagged \\Draft") == [b"1 FETCH (FLAGS (\\Flagged \\Draft))"]
    assert client.lines("STORE 1 -FLAGS (\\Draft \\Seen)") == [b"1 FETCH (FLAGS (\\Flagged))"]
    assert client.lines("STORE 1 FLAGS ()") == [b"1 FETCH (FLAGS ())"]
    assert client.lines("UID STORE 3 +FLAGS (\\Seen)") == [b"3 FETCH (UID 3 FLAGS (\\Seen))"]


def test_silent_is_silent(client: Client) -> None:
    assert client.lines("STORE 1:3 +FLAGS.SILENT (\\Seen)") == []
    assert client.lines("NOOP") == []


def test_silent_tells_what_another_changed_meanwhile(server: Server, client: Client) -> None:
    server.login(select="INBOX").command("STORE 1 +FLAGS (\\Flagged)")
    assert client.lines("STORE 1 +FLAGS.SILENT (\\Seen)") == [b"1 FETCH (UID 1 FLAGS (\\Flagged))"]
    assert client.lines("NOOP") == []


def test_silent_tells_what_another_changes_in_the_same_moment(server: Server, client: Client) -> None:
    mailbox = client.session.selected.mailbox
    update = mailbox.update_flags
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            mailbox, "update_flags", lambda *args: [update([1], "add", frozenset({"\\Flagged"})), update(*args)][1]
        )
        assert client.lines("STORE 1 +FLAGS.SILENT (\\Seen)") == [b"1 FETCH (FLAGS (\\Flagged \\Seen))"]
    assert client.lines("NOOP") == []


def test_a_new_keyword_is_announced(client: Client) -> None:
    lines = client.lines("STORE 1 +FLAGS ($Forwarded)")
    assert lines == [
        b"FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Forwarded)",
        b"1 FETCH (FLAGS ($Forwarded))",
    ]
    assert client.lines("STORE 2 +FLAGS ($forwarded)") == [b"2 FETCH (FLAGS ($Forwarded))"], "known spelling"


def test_many_keywords_are_kept(server: Server, client: Client) -> None:
    words = " ".join(f"keyword{n:03d}" for n in range(60))
    client.command(f"STORE 1 FLAGS ({words})")
    assert server.login(select="INBOX").lines("FETCH 1 FLAGS") == [f"1 FETCH (FLAGS ({words}))".encode()]


def test_flags_that_cannot_be_stored(client: Client) -> None:
    assert client.command("STORE 1 +FLAGS (\\Recent)").startswith(b"t BAD")
    assert client.command("STORE 1 +FLAGS (\\Nonsense)").startswith(b"t BAD")
    assert client.command("STORE 4 +FLAGS (\\Seen)").startswith(b"t BAD")


def test_store_on_a_message_that_another_expunged(server: Server, client: Client) -> None:
    other = server.login(select="INBOX")
    other.command("STORE 2 +FLAGS (\\Deleted)")
    other.command("EXPUNGE")
    answer = client.command("STORE 1:3 +FLAGS (\\Seen)")
    assert b"* 1 FETCH (FLAGS (\\Seen))\r\n" in answer
    assert b"* 3 FETCH (FLAGS (\\Seen))\r\n" in answer
    assert b"EXPUNGE\r\n" not in answer
    assert b"t OK [EXPUNGEISSUED]" in answer
    assert client.lines("NOOP")[0] == b"2 EXPUNGE"


def test_store_touches_many_messages_in_batches(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.deliver(MESSAGE, count=40)
    client = server.login(select="INBOX")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("mailserver.sessions.imap.flags.BATCH", 7)
        assert len(client.lines("STORE 1:* +FLAGS (\\Seen)")) == 40
    assert server.account.status("INBOX").unseen == 0


FLAGS = st.frozensets(st.sampled_from(["a", "b", "c"]))


@given(FLAGS, FLAGS)
def test_what_a_client_expects(before: frozenset[str], change: frozenset[str]) -> None:
    assert applied(before, "add", change) == before | change
    assert applied(before, "remove", change) == before - change
    assert applied(before, "set", change) == change


# two clients, one mailbox


@dataclass
class Believer:
    """Knows the mailbox by the responses alone; looks at each message that it does not know."""

    client: Client
    uids: list[int] = field(default_factory=list)
    flags: dict[int, set[str]] = field(default_factory=dict)

    def do(self, command: str, *, forbids_expunge: bool = False) -> None:
        lines = self.client.lines(command)
        if forbids_expunge:
            assert not any(line.endswith(b"EXPUNGE") for line in lines), command
        for line in lines:
            self.hear(line)
        if 0 in self.uids:
            first = self.uids.index(0) + 1
            for line in self.client.lines(f"FETCH {first}:* (UID FLAGS)"):
                self.hear(line)

    def hear(self, line: bytes) -> None:
        number, _, word = line.partition(b" ")
        if word == b"EXISTS":
            assert int(number) >= len(self.uids)
            self.uids += [0] * (int(number) - len(self.uids))
        elif word == b"EXPUNGE":
            self.flags.pop(self.uids.pop(int(number) - 1), None)
        elif match := re.fullmatch(rb"FETCH \((?:UID (\d+) ?)?(?:FLAGS \((.*?)\))?\)", word):
            uid = int(match[1]) if match[1] else self.uids[int(number) - 1]
            assert self.uids[int(number) - 1] in (0, uid), "a sequence number never changes its message unsaid"
            self.uids[int(number) - 1] = uid
            self.flags[uid] = {flag for flag in match[2].decode().split() if flag != "\\Recent"}


@dataclass
class Truth:
    """What the mailbox must hold."""

    messages: dict[int, set[str]] = field(default_factory=dict)
    uidnext: int = 1

    def store(self, uid: int, action: str, flag: str) -> None:
        if uid in self.messages:
            if action == "+":
                self.messages[uid].add(flag)
            else:
                self.messages[uid].discard(flag)

    def expunge(self) -> None:
        self.messages = {uid: flags for uid, flags in self.messages.items() if "\\Deleted" not in flags}


ACTIONS = st.one_of(
    st.tuples(st.just("deliver")),
    st.tuples(
        st.just("store"),
        st.integers(0, 1),
        st.integers(0, 2),
        st.sampled_from("++-"),
        st.sampled_from(["\\Seen", "\\Deleted", "work"]),
        st.booleans(),
    ),
    st.tuples(st.just("expunge"), st.integers(0, 1)),
    st.tuples(st.just("noop"), st.integers(0, 1)),
    st.tuples(st.just("fetch"), st.integers(0, 1)),
    st.tuples(st.just("search"), st.integers(0, 1)),
)


@settings(max_examples=40)
@given(actions=st.lists(ACTIONS, max_size=25))
def test_two_sessions_agree_with_a_naive_model(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[object, ...]]
) -> None:
    server = Server(tmp_path_factory.mktemp("two"))
    server.deliver(MESSAGE, count=3)
    truth = Truth({uid: set() for uid in (1, 2, 3)}, 4)
    believers = [Believer(server.login(select="INBOX"), [0, 0, 0]) for _ in range(2)]
    for believer in believers:
        believer.do("NOOP")
    for action in [*actions, ("noop", 0), ("noop", 1)]:
        match action:
            case ("deliver",):
                server.deliver(MESSAGE)
                truth.messages[truth.uidnext] = set()
                truth.uidnext += 1
            case ("store", int() as who, int() as place, str() as sign, str() as flag, silent):
                believer = believers[who]
                if believer.uids:
                    number = place % len(believer.uids) + 1
                    uid = believer.uids[number - 1]
                    truth.store(uid, sign, flag)
                    suffix = ".SILENT" if silent else ""
                    believer.do(f"STORE {number} {sign}FLAGS{suffix} ({flag})", forbids_expunge=True)
                    if silent and uid in believer.flags:
                        # a client that says .SILENT works the change out itself
                        expected = believer.flags[uid]
                        expected.add(flag) if sign == "+" else expected.discard(flag)
            case ("expunge", int() as who):
                believers[who].do("EXPUNGE")
                truth.expunge()
            case ("noop", int() as who):
                believers[who].do("NOOP")
            case ("fetch", int() as who):
                if believers[who].uids:
                    believers[who].do("FETCH 1:* (UID FLAGS)", forbids_expunge=True)
            case ("search", int() as who):
                believers[who].do("SEARCH DELETED", forbids_expunge=True)
    for believer in believers:
        assert believer.uids == list(truth.messages)
        assert believer.flags == truth.messages
