"""A client that is cut off at random and comes back by QRESYNC always ends with the mailbox as it is.

The client keeps to RFC 7162 §6 and to nothing else: it takes each line as it comes, and the MODSEQ to come back with
only at tagged answers. Others change the mailbox meanwhile, also without this server, which is started again with or
without its index.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailserver.imap import SequenceSet
from tests.support.imap import Client, Server

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"
Flags = frozenset[str]


def expanded(text: bytes) -> Iterator[int]:
    for first, last in SequenceSet.parse(text.decode()).ranges:
        yield from range(first, last + 1)


def applied(flags: Flags, sign: str, flag: str) -> Flags:
    return flags | {flag} if sign == "+" else flags - {flag} if sign == "-" else frozenset({flag})


@dataclass
class Offline:
    """`cache` outlives connections, as the validity and the MODSEQ do."""

    cache: dict[int, Flags] = field(default_factory=dict)
    validity: int = 1
    modseq: int = 1
    client: Client | None = None
    new: dict[int, Flags] | None = None
    """What comes of messages that it does not have; None: it did not ask."""
    stored: tuple[str, str] = ("+", "x")
    exists: int = 0
    codes: list[int] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)

    def come_back(self, server: Server, lines: int | None, *, naming: bool, matching: bool) -> None:
        self.client = server.login()
        self.client.command("ENABLE QRESYNC")
        uids = sorted(self.cache)
        what = f"{self.validity} {self.modseq}"
        if uids and naming:
            what += " " + ",".join(map(str, uids))
        if uids and matching:
            what += f" (1:{len(uids)} {','.join(map(str, uids))})"
        self.do(f"SELECT INBOX (QRESYNC ({what}))", lines)
        self.get_new(lines)

    def get_new(self, lines: int | None = None) -> None:
        self.new = {}
        if self.do(f"UID FETCH {max(self.cache, default=0) + 1}:* (UID FLAGS MODSEQ)", lines):
            self.cache |= self.new
            assert len(self.cache) == self.exists, "the number of messages that was told is right"
        self.new = None

    def store(self, uid: int, sign: str, flag: str, *, silent: bool, lines: int | None) -> None:
        self.stored = sign, flag
        self.do(f"UID STORE {uid} {sign}FLAGS{'.SILENT' if silent else ''} ({flag})", lines)

    def do(self, command: str, lines: int | None = None) -> bool:
        """False: there is no connection, or it is lost after so many lines of the answer."""
        if self.client is None:
            return False
        heard = self.client.command(command).split(b"\r\n")[:-1]
        self.codes, self.seen = [], []
        for line in heard[:lines]:
            self.hear(line)
        if lines is not None and lines < len(heard):
            self.client = None
            return False
        assert heard[-1].startswith(b"t OK"), heard
        if self.codes:
            self.modseq = self.codes[-1]
        elif self.seen:
            self.modseq = max(self.modseq, *self.seen)
        return True

    def hear(self, line: bytes) -> None:
        if match := re.search(rb"OK \[UIDVALIDITY (\d+)\]", line):
            if self.validity != int(match[1]):
                self.cache.clear()
            self.validity = int(match[1])
        elif match := re.search(rb"OK \[HIGHESTMODSEQ (\d+)\]", line):
            self.codes.append(int(match[1]))
        elif match := re.fullmatch(rb"\* (\d+) EXISTS", line):
            self.exists = int(match[1])
        elif match := re.fullmatch(rb"\* VANISHED (\(EARLIER\) )?(\S+)", line):
            uids = list(expanded(match[2]))
            self.exists -= 0 if match[1] else len(uids)
            for uid in uids:
                self.cache.pop(uid, None)
                if self.new is not None:
                    self.new.pop(uid, None)
        elif match := re.fullmatch(rb"\* (\d+) FETCH \(UID (\d+) (?:FLAGS \((.*?)\) ?)?MODSEQ \((\d+)\)\)", line):
            assert 1 <= int(match[1]) <= self.exists
            uid = int(match[2])
            self.seen.append(int(match[4]))
            into = self.cache if uid in self.cache else self.new
            if match[3] is not None:
                told = frozenset(match[3].decode().split()) - {"\\Recent"}
                if into is not None:
                    into[uid] = told
            elif uid in self.cache:
                self.cache[uid] = applied(self.cache[uid], *self.stored)
        else:
            assert b"FETCH" not in line or line.startswith(b"t"), line
            assert b"EXPUNGE" not in line or line.startswith(b"t"), line


@dataclass
class World:
    """The server with all who use it, and what the mailbox must hold."""

    root: Path
    truth: dict[int, Flags] = field(default_factory=dict)
    uidnext: int = 1

    def start(self) -> None:
        self.server = Server(self.root)
        self.others = [self.server.login(select="INBOX"), self.server.login()]
        self.others[1].command("ENABLE QRESYNC")
        self.others[1].command("SELECT INBOX")

    def deliver(self, count: int) -> None:
        self.server.deliver(MESSAGE, count=count)
        for _ in range(count):
            self.truth[self.uidnext] = frozenset()
            self.uidnext += 1
        self.others[0].command("NOOP")  # gives the UIDs

    def uid(self, place: int) -> int:
        return sorted(self.truth)[place % len(self.truth)] if self.truth else self.uidnext

    def stored(self, uid: int, sign: str, flag: str) -> None:
        if uid in self.truth:
            self.truth[uid] = applied(self.truth[uid], sign, flag)

    def expunge(self, uid: int) -> None:
        if "\\Deleted" in self.truth.get(uid, ()):
            del self.truth[uid]

    def file(self, uid: int) -> Path | None:
        return next((self.root / "example.test/alice/cur").glob(f"*,U={uid}[,:]*"), None)

    def lose_index(self) -> None:
        for file in (self.root / "example.test/alice").glob("mailserver.index*"):
            file.unlink()


PLACES = st.integers(0, 9)
SIGNS = st.sampled_from(["+", "+", "-", ""])
FLAGS = st.sampled_from(["\\Seen", "\\Deleted", "\\Flagged", "work"])
CUT = st.one_of(st.none(), st.none(), st.integers(0, 12))
STEPS = st.one_of(
    st.tuples(st.just("deliver"), st.integers(1, 3)),
    st.tuples(st.just("store"), st.integers(0, 1), PLACES, SIGNS, FLAGS, st.booleans()),
    st.tuples(st.just("remove"), st.integers(0, 1), PLACES),
    st.tuples(st.just("unlink"), PLACES),
    st.tuples(st.just("rename"), PLACES),
    st.tuples(st.just("other"), st.integers(0, 1), st.sampled_from(["NOOP", "FETCH 1:* FLAGS"])),
    st.tuples(st.just("restart"), st.booleans()),
    st.tuples(st.just("back"), CUT, st.booleans(), st.booleans()),
    st.tuples(st.just("back"), CUT, st.booleans(), st.booleans()),
    st.tuples(st.just("mine"), PLACES, SIGNS, FLAGS, st.booleans(), CUT),
    st.tuples(st.just("say"), st.sampled_from(["NOOP", "FETCH 1:* (UID FLAGS MODSEQ)", "UID SEARCH ALL"]), CUT),
    st.tuples(st.just("expunge"), PLACES, CUT),
    st.tuples(st.just("new"), CUT),
    st.tuples(st.just("cut")),
)


# an expunge waits while flags of a greater MODSEQ are told, and the connection breaks
WAITING = [
    ("back", None, False, False),
    ("remove", 0, 1),
    ("store", 0, 2, "+", "\\Seen", False),
    ("say", "FETCH 1:* (UID FLAGS MODSEQ)", None),
    ("cut",),
]


@settings(max_examples=60)
@example(steps=WAITING)
@example(steps=[*WAITING[:-1], ("mine", 3, "+", "work", True, None), *WAITING[-2:]])
@given(steps=st.lists(STEPS, max_size=40))
def test_who_comes_back_has_the_mailbox_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[object, ...]]
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        # little is remembered, so that what is forgotten matters
        patched.setattr("mailserver.store.index.mailboxes.EXPUNGES", 1)
        patched.setattr("mailserver.store.contents._JOURNAL_MINIMUM", 2)
        world, mine = World(tmp_path_factory.mktemp("offline")), Offline()
        world.start()
        world.deliver(4)
        for step in steps:
            take(world, mine, step)
        if mine.client is not None:
            mine.do("NOOP")
            mine.get_new()
            assert mine.cache == world.truth, "online"
        world.others[0].command("NOOP")
        mine.come_back(world.server, None, naming=False, matching=True)
        assert mine.cache == world.truth, "after coming back"


def take(world: World, mine: Offline, step: tuple[object, ...]) -> None:
    match step:
        case ("deliver", int(count)):
            world.deliver(count)
        case ("store", int(who), int(place), str(sign), str(flag), bool(silent)):
            uid = world.uid(place)
            world.others[who].command(f"UID STORE {uid} {sign}FLAGS{'.SILENT' if silent else ''} ({flag})")
            world.stored(uid, sign, flag)
        case ("remove", int(who), int(place)):
            uid = world.uid(place)
            world.others[who].command(f"UID STORE {uid} +FLAGS.SILENT (\\Deleted)")
            world.others[who].command(f"UID EXPUNGE {uid}")
            world.truth.pop(uid, None)
        case ("unlink", int(place)):
            if file := world.file(world.uid(place)):
                file.unlink()
                del world.truth[world.uid(place)]
        case ("rename", int(place)):
            if (file := world.file(world.uid(place))) and "F" not in file.name.rpartition(",")[2]:
                base, _, letters = file.name.rpartition(",")
                file.rename(file.with_name(base + "," + "".join(sorted(letters + "F"))))
                world.stored(world.uid(place), "+", "\\Flagged")
        case ("other", int(who), str(command)):
            world.others[who].command(command)
        case ("restart", bool(lost)):
            mine.client = None
            if lost:
                world.lose_index()
            world.start()
        case ("back", cut, bool(naming), bool(matching)):
            mine.come_back(world.server, cut if isinstance(cut, int) else None, naming=naming, matching=matching)
        case ("mine", int(place), str(sign), str(flag), bool(silent), cut):
            if mine.client is not None:
                uid = world.uid(place)
                mine.store(uid, sign, flag, silent=silent, lines=cut if isinstance(cut, int) else None)
                world.stored(uid, sign, flag)
        case ("say", str(command), cut):
            mine.do(command, cut if isinstance(cut, int) else None) if mine.exists or "FETCH" not in command else None
        case ("expunge", int(place), cut):
            if mine.client is not None:
                uid = world.uid(place)
                mine.do(f"UID EXPUNGE {uid}", cut if isinstance(cut, int) else None)
                world.expunge(uid)
        case ("new", cut):
            mine.get_new(cut if isinstance(cut, int) else None)
        case _:
            mine.client = None
