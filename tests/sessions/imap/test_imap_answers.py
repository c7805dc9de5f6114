"""Answers that are kept (FETCH, SORT, THREAD): told again, and never when something is different by now."""

from __future__ import annotations

import gc
import re
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from weakref import ref

import pytest

from mailserver.config.model import Limits
from mailserver.imap.commands import Attribute, Fetch, Section, parse
from mailserver.imap.states import State
from mailserver.imap.syntax import Reader
from mailserver.sessions.imap import fetch, sort, thread
from mailserver.sessions.imap.answers import LARGEST, Answers, Known, Name
from tests.support.imap import ALICE, Client, Server
from tests.support.otherprocess import OtherProcess

COUNT = 8
ITEMS = [
    "FLAGS",
    "(UID FLAGS)",
    "(FLAGS MODSEQ)",
    "(ENVELOPE BODYSTRUCTURE RFC822.SIZE)",
    "(FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODY)",
    "(SAVEDATE EMAILID THREADID PREVIEW)",
    "(BODY.PEEK[HEADER.FIELDS (SUBJECT FROM)])",
    "(UID BODY.PEEK[HEADER.FIELDS (SUBJECT FROM)] FLAGS)",
]
ORDERS = [
    "SORT (REVERSE SUBJECT) UTF-8 ALL",
    "UID SORT (FROM ARRIVAL) UTF-8 ALL",
    "SORT (SIZE) UTF-8 UNDELETED",
    "SORT RETURN (PARTIAL 1:3 COUNT) (DATE) UTF-8 UNFLAGGED",
    "THREAD REFERENCES UTF-8 ALL",
    "UID THREAD REFS UTF-8 UNFLAGGED",
    "THREAD ORDEREDSUBJECT UTF-8 SUBJECT number",
]
TAG = re.compile(rb"\(TAG [^)]*\)")


class Counted(Answers):
    """Tells how many answers were told again."""

    found = 0

    def get(self, name: Name, known: Known) -> bytes | None:
        answer = super().get(name, known)
        self.found += answer is not None
        return answer


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Blocks of three messages."""
    for size in ("METADATA_BATCH", "HEADERS", "BATCH"):
        monkeypatch.setattr(fetch, size, 3)
    kept = Counted()
    use(kept, monkeypatch)
    return kept


def use(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (fetch, sort, thread):
        monkeypatch.setattr(module, "answers", answers)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path)
    for number in range(COUNT):
        server.deliver(b"From: a%d@example.test\r\nSubject: number %d\r\n\r\nbody\r\n" % (number, number))
    server.login(select="INBOX").command("LOGOUT")  # so that nothing is \Recent for those who come later
    return server


@pytest.fixture
def client(server: Server, answers: Answers) -> Client:
    return server.login(select="INBOX")


@pytest.fixture(scope="module")
def other_process() -> Iterator[OtherProcess]:
    process = OtherProcess()
    yield process
    process.close()


def without_kept(client: Client, monkeypatch: pytest.MonkeyPatch, command: str) -> bytes:
    with monkeypatch.context() as context:
        use(Answers(), context)
        return client.command(command)


@pytest.mark.parametrize("items", ITEMS)
def test_the_same_is_told_again(client: Client, answers: Counted, monkeypatch: pytest.MonkeyPatch, items: str) -> None:
    client.command("ENABLE CONDSTORE")
    first = client.command(f"FETCH 1:* {items}")
    assert answers.found == 0
    assert client.command(f"FETCH 1:* {items}") == first == without_kept(client, monkeypatch, f"FETCH 1:* {items}")
    assert answers.found == 3, "two blocks of three, one of two"
    assert client.command(f"FETCH 2:7 {items}") == without_kept(client, monkeypatch, f"FETCH 2:7 {items}")
    assert answers.found == 4, "only the one in the middle is whole"


@pytest.mark.parametrize("command", ORDERS)
def test_the_same_order_is_told_again(
    client: Client, answers: Counted, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    first = client.command(command)
    assert answers.found == 0
    again, truth = client.command(command), without_kept(client, monkeypatch, command)
    assert answers.found == 1
    assert TAG.sub(b"", first) == TAG.sub(b"", again) == TAG.sub(b"", truth)


def test_an_order_is_of_what_was_found_and_of_what_was_asked_for(client: Client, answers: Counted) -> None:
    assert b"* SORT 8 7 6\r\n" in client.command("SORT (REVERSE SUBJECT) UTF-8 6:8")
    assert b"* SORT 3 2 1\r\n" in client.command("SORT (REVERSE SUBJECT) UTF-8 1:3")
    assert b"* SORT 6 7 8\r\n" in client.command("SORT (SUBJECT) UTF-8 6:8")
    client.command("STORE 1 +FLAGS.SILENT (\\Deleted)")
    client.command("EXPUNGE")
    assert b"* SORT 7 6 5\r\n" in client.command("SORT (REVERSE SUBJECT) UTF-8 UID 6:8")
    assert b"* SORT 8 7 6\r\n" in client.command("UID SORT (REVERSE SUBJECT) UTF-8 UID 6:8")
    assert b"(5)(6)(7)" in client.command("THREAD REFS UTF-8 UID 6:8")
    assert b"(6)(7)(8)" in client.command("UID THREAD REFS UTF-8 UID 6:8")


def test_other_sessions_are_told_the_same(server: Server, client: Client, answers: Counted) -> None:
    first = client.command("FETCH 1:* (FLAGS ENVELOPE)")
    assert server.login(select="INBOX").command("FETCH 1:* (FLAGS ENVELOPE)").splitlines() == first.splitlines()
    assert answers.found == 3


def test_another_mailbox_has_other_answers(client: Client, answers: Counted) -> None:
    client.command("CREATE twin")
    client.command("COPY 8,7,6,5,4,3,2,1 twin")
    client.command("STORE 2 +FLAGS (\\Flagged)")
    client.command("FETCH 1:* FLAGS")
    client.command("SELECT twin")
    assert b"Flagged" not in client.command("FETCH 1:* FLAGS")
    assert answers.found == 0


def test_what_marks_as_seen_or_may_come_later_is_not_kept(client: Client, answers: Counted) -> None:
    for _ in range(2):
        client.command("FETCH 1:* PREVIEW (LAZY)")
        client.command("FETCH 1:* (BODY[HEADER.FIELDS (SUBJECT)])")
        client.command("FETCH 1:* BODY.PEEK[]")
    assert answers.found == 0


def in_session(client: Client, command: str) -> None:
    assert b"t OK" in client.command(command)


def renamed(maildir: Path) -> None:
    """By another program."""
    first = min((maildir / "cur").iterdir(), key=lambda path: int(path.name.partition(",U=")[2].partition(":")[0]))
    first.rename(first.with_name(first.name.partition(":2,")[0] + ":2,FS"))


CHANGES: dict[str, Callable[[Server, OtherProcess], object]] = {
    "flags by another session": lambda server, _: in_session(
        server.login(select="INBOX"), "STORE 2,5 +FLAGS (\\Flagged word)"
    ),
    "flags by another process": lambda server, other: other.open(server.root, ALICE, "INBOX").update_flags(
        [1, 8], "add", frozenset({"\\Deleted"})
    ),
    "flags by another program": lambda server, _: renamed(maildir(server)),
    "expunged by another session": lambda server, _: (
        in_session(server.login(select="INBOX"), "STORE 4 +FLAGS.SILENT (\\Deleted)"),
        in_session(server.login(select="INBOX"), "EXPUNGE"),
    ),
    "expunged by another process": lambda server, other: other.open(server.root, ALICE, "INBOX").expunge([2, 3]),
    "expunged by another program": lambda server, _: min((maildir(server) / "cur").iterdir()).unlink(),
    "delivered": lambda server, _: server.deliver(b"Subject: new\r\n\r\nbody\r\n"),
    "delivered by hand": lambda server, _: (maildir(server) / "new" / "1.by.hand").write_bytes(b"Subject: x\n\nx\n"),
}


def maildir(server: Server) -> Path:
    (found,) = {path.parent for path in server.root.rglob("cur")}
    return found


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("command", [*(f"FETCH 1:* {items}" for items in ITEMS), *ORDERS])
def test_what_others_change_is_told(
    server: Server,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    other_process: OtherProcess,
    command: str,
    change: str,
) -> None:
    client.command(command)  # which may turn CONDSTORE on
    before = client.command(command)
    CHANGES[change](server, other_process)
    # memory knows what other sessions do; the disk tells what others do
    known = "UID FETCH 1 UID" if command.startswith("UID") else "FETCH 1 UID"  # which tells expunges, or does not
    for look in (known, "NOOP") if "session" in change else ("NOOP",):
        client.command(look)
        kept, again = TAG.sub(b"", client.command(command)), TAG.sub(b"", client.command(command))
        truth = TAG.sub(b"", without_kept(client, monkeypatch, command))
        assert kept == again == truth
    if command.startswith("FETCH"):
        assert (truth != TAG.sub(b"", before)) is ("FLAGS" in command or not change.startswith("flags"))


def test_a_message_that_is_gone_is_left_out_and_said_to_be_gone(server: Server, client: Client) -> None:
    client.command("FETCH 1:* (ENVELOPE)")
    server.account.open("INBOX").expunge([5])
    answer = client.command("FETCH 1:* (ENVELOPE)")
    assert b"* 5 FETCH" not in answer and b"EXPUNGEISSUED" in answer
    assert b"* 8 FETCH" in answer


@pytest.mark.parametrize("command", ["SORT (REVERSE SUBJECT) UTF-8 ALL", "THREAD REFS UTF-8 ALL"])
def test_an_order_without_a_message_that_went_meanwhile_is_not_kept(
    server: Server, client: Client, answers: Counted, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """It was there for the search, and gone when it was to be sorted."""
    inbox, learn, gone = server.account.open("INBOX"), sort.learn, [5]

    async def late(*arguments: Any) -> None:
        await learn(*arguments)
        if gone:
            inbox.expunge([gone.pop()])

    monkeypatch.setattr(sort, "learn", late)
    monkeypatch.setattr(thread, "learn", late)
    answer = client.command(command)
    assert answer.endswith(b" [EXPUNGEISSUED] Sorted\r\n" if "SORT" in command else b" [EXPUNGEISSUED] Threaded\r\n")
    assert (answers.octets, len(answers._answers)) == (0, 0)
    client.command("NOOP")
    assert client.command(command) == without_kept(client, monkeypatch, command)
    assert len(answers._answers) == 1
    inbox.close()


def test_recent_is_of_one_session(tmp_path: Path, answers: Counted) -> None:
    server = Server(tmp_path)
    server.deliver(b"Subject: one\r\n\r\nbody\r\n", count=3)
    first, second = server.login(select="INBOX"), server.login(select="INBOX")
    assert first.command("FETCH 1:* FLAGS").count(b"\\Recent") == 3
    assert b"\\Recent" not in second.command("FETCH 1:* FLAGS")
    assert first.command("FETCH 1:* FLAGS").count(b"\\Recent") == 3


ENABLED = ["UIDONLY", "IMAP4rev2", "UTF8=ACCEPT", "QRESYNC", "IMAP4rev2 UIDONLY UTF8=ACCEPT"]


@pytest.mark.parametrize("enabled", ENABLED)
@pytest.mark.parametrize("items", ITEMS)
def test_what_a_client_enabled_decides_what_it_is_told(
    server: Server, client: Client, answers: Counted, monkeypatch: pytest.MonkeyPatch, items: str, enabled: str
) -> None:
    client.command("ENABLE CONDSTORE")
    client.command("STORE 1 +FLAGS.SILENT (\\Deleted)")
    client.command("EXPUNGE")  # no message has its number for a UID
    server.deliver("From: J\u00f6\r\nSubject: Gr\u00fc\u00dfe\r\n\r\nbody\r\n".encode())
    client.command("NOOP")
    command = f"UID FETCH 1:* {items}"
    plain = client.command(command)
    other = server.login()
    other.command(f"ENABLE CONDSTORE {enabled}")
    other.command("SELECT INBOX")
    for _ in range(2):
        told = other.command(command)
        assert told == without_kept(other, monkeypatch, command)
        assert client.command(command) == plain == without_kept(client, monkeypatch, command)
    assert answers.found == 3 * 3, "both sessions have their own"
    assert told.count(b"\\Recent") == 0
    assert plain.count(b"\\Recent") == ("FLAGS" in items)
    if "UIDONLY" in enabled:
        assert re.findall(rb"(?m)^\* (\d+) UIDFETCH \(", told) == [b"%d" % uid for uid in range(2, 10)]
        assert b" FETCH (" not in told
    else:
        assert told.replace(b"\\Recent", b"") == plain.replace(b"\\Recent", b"")


def test_what_is_enabled_meanwhile_counts(client: Client, answers: Counted) -> None:
    numbered = client.command("UID FETCH 1:* FLAGS")
    client.command("ENABLE UIDONLY")
    named = [line.replace(b" FETCH (UID ", b" UIDFETCH (UID ") for line in numbered.splitlines()]
    assert client.command("UID FETCH 1:* (UID FLAGS)").splitlines() == named
    assert answers.found == 0


def test_new_messages_are_told_to_each_client_in_its_own_way(server: Server, client: Client, answers: Counted) -> None:
    client.command("STORE 1 +FLAGS.SILENT (\\Deleted)")
    client.command("EXPUNGE")
    others = [server.login() for _ in range(2)]
    for other in others:
        other.command("ENABLE UIDONLY")
        other.command("SELECT INBOX")
    for each in (client, *others):
        each.command("NOTIFY SET (selected (MessageNew (UID ENVELOPE) MessageExpunge))")
        each.channel.sent = b""
    for _ in range(2):  # so that the last one begins a block and ends the mailbox
        server.deliver(b"Subject: new\r\n\r\nbody\r\n")
    assert re.findall(rb"\* \d+ \w*FETCH \(UID \d+", client.channel.sent) == [b"* 8 FETCH (UID 9", b"* 9 FETCH (UID 10"]
    for other in others:
        told = re.findall(rb"\* \d+ \w*FETCH \(UID \d+", other.channel.sent)
        assert told == [b"* 9 UIDFETCH (UID 9", b"* 10 UIDFETCH (UID 10"]


def test_a_limit_of_messages_is_one_of_what_is_kept_too(
    tmp_path: Path, answers: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(tmp_path, limits=Limits().model_copy(update={"imap_messages": 3}))
    for number in range(COUNT):
        server.deliver(b"Subject: number %d\r\n\r\nbody\r\n" % number)
    client = server.login(select="INBOX")
    commands = [
        "FETCH 1:6 FLAGS",
        "FETCH 4:6 FLAGS",
        "FETCH 1:* FLAGS",
        "SEARCH ALL",
        "SORT (REVERSE SUBJECT) UTF-8 ALL",
    ]
    commands += ["THREAD REFS UTF-8 6:8", "THREAD REFS UTF-8 ALL"]
    for _ in range(2):
        for command in commands:
            assert client.command(command) == without_kept(client, monkeypatch, command)
    assert answers.found == 3, "FETCH 4:6, SORT, THREAD"
    assert re.findall(rb"\* (\d)", client.command("FETCH 1:6 FLAGS")) == [b"6", b"5", b"4"]
    assert re.findall(rb"\* (\d)", client.command("FETCH 4:6 FLAGS")) == [b"4", b"5", b"6"]
    assert client.command("SEARCH ALL").startswith(b"* SEARCH 6 7 8\r\n")
    assert client.command("SORT (REVERSE SUBJECT) UTF-8 ALL").startswith(b"* SORT 8 7 6 5 4 3 2 1\r\n")
    assert client.command("THREAD REFS UTF-8 ALL").startswith(b"t NO [MESSAGELIMIT 3]")


def test_relevancy_is_that_of_the_search(tmp_path: Path, answers: Counted) -> None:
    server = Server(tmp_path)
    server.deliver(b"Subject: alpha\r\n\r\nbeta\r\n")
    server.deliver(b"Subject: beta\r\n\r\nalpha\r\n")
    client = server.login(select="INBOX")
    for _ in range(2):
        assert client.lines("SORT (RELEVANCY) UTF-8 FUZZY TEXT alpha") == [b"SORT 1 2"]
        assert client.lines("SORT (RELEVANCY) UTF-8 FUZZY TEXT beta") == [b"SORT 2 1"]
    assert answers.found == 0


class Box:
    """Something that a name may refer to."""


def name(box: Any, first: int = 1) -> Name:
    return Name(ref(box), (Attribute.UID,), first)


def known(uids: bytes) -> Known:
    return Known([uids])


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    box, answers = Box(), Answers(10_000)
    for number in range(100):
        answers.put(name(box, number), known(b"u"), bytes(1000))
        assert answers.octets <= 10_000
        assert answers.get(name(box, 0), known(b"u")) is not None, "it was used last"
    assert answers.get(name(box, 50), known(b"u")) is None
    assert answers.get(name(box, 99), known(b"u")) == bytes(1000)


def test_names_count_by_what_the_client_wrote() -> None:
    box, answers = Box(), Answers(10_000)
    answers.put(Name(ref(box), (Section(b"x" * 20_000),), 1), known(b""), b"")  # type: ignore[arg-type]
    assert answers.octets == 0


def test_names_of_fields_count_by_what_they_take() -> None:
    """A thousand short ones are a small part of a line, and many objects."""
    box, answers = Box(), Answers()
    command = b"FETCH 1 (" + b" ".join(b"BODY.PEEK[HEADER.FIELDS (%b)]" % b" ".join([b"to", b"Cc"] * 500) for _ in "12")
    tracemalloc.start()
    try:
        for number in range(20):
            asked = parse(Reader(command + b" BODY.PEEK[HEADER.FIELDS (X%d)])" % number), State.SELECTED)
            assert isinstance(asked, Fetch)
            answers.put(Name(ref(box), asked.items, 1), known(b""), b"")  # type: ignore[arg-type]
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answers.octets > 0.8 * taken


def test_what_is_very_large_is_not_kept() -> None:
    box, answers = Box(), Answers()
    answers.put(name(box), known(b""), bytes(LARGEST))
    answers.put(name(box), known(b""), bytes(LARGEST + 1))
    assert answers.get(name(box), known(b"")) is None
    assert answers.octets == 0


def test_an_answer_takes_the_place_of_the_one_before() -> None:
    box, answers = Box(), Answers()
    answers.put(name(box), known(b"a"), b"1")
    octets = answers.octets
    answers.put(name(box), known(b"b"), b"2")
    assert answers.octets == octets
    assert answers.get(name(box), known(b"a")) is None
    assert answers.get(name(box), known(b"b")) == b"2"


def test_what_comes_where_something_else_was_has_other_answers() -> None:
    answers = Answers()
    for _ in range(20):
        box = Box()  # likely at the same address as the one before
        assert answers.get(name(box), known(b"")) is None
        answers.put(name(box), known(b""), b"1")
        del box
        gc.collect()
