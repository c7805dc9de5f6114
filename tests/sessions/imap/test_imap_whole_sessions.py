"""Whole sessions on one Maildir against a client that believes every response, and against the files themselves.

Two sessions share a process; the third is of another process (another store on the same directories). What others do
may come between any two steps of a command.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from mailserver.sessions.imap import fetch, resync, search
from mailserver.sessions.imap import flags as storing
from mailserver.store import syncing, watch
from tests.support.believer import Believer, Known
from tests.support.fakes import FakeChannel, FakeWorkers, Ready
from tests.support.imap import Server

LONG = os.environ.get("MAILSERVER_LONG") == "1"
LETTERS = {"S": "\\Seen", "F": "\\Flagged", "T": "\\Deleted"}
SETTABLE = [*LETTERS.values(), "\\Deleted", "work"]
FOLDERS = {"INBOX": "", "Other": ".Other"}

Flags = frozenset[str]
Mail = dict[int | bytes, tuple[Flags, bytes]]
"""Flags and text by UID, or by the text itself while there is no UID."""


class Interrupted(FakeWorkers):
    """Before and after each work something else may happen."""

    def __init__(self, between: Callable[[], None]) -> None:
        self._between = between
        self.called: list[Callable[[], object]] = []

    def run(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Awaitable[Any]:
        def whole() -> Any:
            self._between()
            try:
                return work(*args, **kwargs)
            finally:
                self._between()

        return Ready(whole)

    def call_from_thread(self, call: Callable[[], object]) -> None:
        self.called.append(call)


@dataclass
class Slow(FakeChannel):
    """The client is slow: while it reads something else may happen."""

    between: Callable[[], None] = lambda: None

    async def drain(self) -> None:
        self.flush()
        self.between()


class Sessions(RuleBasedStateMachine):
    """`extensions`: what sessions turn on, by their number."""

    extensions: tuple[str, str, str] = ("", "", "")

    @initialize()
    def begin(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(watch, "GRAIN", 10**18)
        self.patch.setattr(watch, "RECHECK", 0.0)
        for module, name in ((os, "fsync"), (syncing, "syncfs")):
            self.patch.setattr(module, name, lambda fd: None)
        for module, name in (
            (fetch, "BATCH"),
            (fetch, "METADATA_BATCH"),
            (fetch, "ROWS"),
            (storing, "BATCH"),
            (search, "FIRST_BATCH"),
            (resync, "BATCH"),
        ):
            self.patch.setattr(module, name, 2)
        self.root = Path(tempfile.mkdtemp())
        self.number = 0
        self.text_of: dict[tuple[str, int], bytes] = {}
        self.recent_to: dict[tuple[str, int], object] = {}
        self.others: list[Callable[[], object]] = []
        self.interrupted = False
        servers = [Server(self.root), Server(self.root)]
        servers[0].account.create("Other")
        self.servers = [servers[0], servers[0], servers[1]]
        self.outside = servers[1].account.open("INBOX")
        servers[0].deliver(self.text())
        self.clients = [self.connect(who) for who in range(3)]
        for client in self.clients:
            client.begin("SELECT INBOX", "INBOX")
        self.away: list[tuple[int, int, list[Known]]] = []

    def connect(self, who: int) -> Believer:
        client = self.servers[who].login()
        client.session.workers = Interrupted(self.between)
        channel = Slow(tls=client.channel.tls, engine=client.session.engine, between=self.between)
        client.session.channel = client.channel = channel
        believer = Believer(client)
        if extension := self.extensions[who]:
            believer.do(f"ENABLE {extension}")
            believer.condstore, believer.qresync = True, extension == "QRESYNC"
        return believer

    def between(self) -> None:
        if self.others:
            self.interrupted = True
            self.others.pop(0)()

    def teardown(self) -> None:
        if hasattr(self, "root"):
            try:
                if hasattr(self, "clients"):
                    self.settle()
            finally:
                for client in self.clients:
                    client.client.session.lost()
                self.outside.close()
                shutil.rmtree(self.root)
                self.patch.undo()

    # the files

    def folder(self, name: str) -> Path:
        return self.root / "example.test/alice" / FOLDERS[name]

    def paths(self, name: str) -> list[Path]:
        return [path for part in ("new", "cur") for path in (self.folder(name) / part).iterdir()]

    def disk(self, name: str) -> Mail:
        """What is in the mailbox, read by somebody who knows the format and nothing else."""
        listed = self.folder(name) / "dovecot-keywords"
        lines = listed.read_text().splitlines() if listed.exists() else []
        letters = LETTERS | {chr(97 + int(line.split()[0])): line.split()[1] for line in lines}
        found: Mail = {}
        for path in self.paths(name):
            text = path.read_bytes().replace(b"\n", b"\r\n")
            uid = re.search(r",U=(\d+)", path.name)
            flags = frozenset(letters[letter] for letter in path.name.partition(":2,")[2])
            key = int(uid[1]) if uid and path.parent.name == "cur" else text
            assert key not in found
            found[key] = (flags, text)
            if isinstance(key, int):
                assert self.text_of.setdefault((name, key), text) == text, "a UID is of one message for ever"
        return found

    def expect(self, name: str, before: Mail, change: Callable[[Mail], Mail | None]) -> None:
        """The command did to the files what it ought to, and nothing else."""
        after = self.disk(name)
        if self.interrupted:
            return
        placed = {text: key for key, (_, text) in after.items() if isinstance(key, int) and key not in before}
        known: Mail = {placed.get(key, key) if isinstance(key, bytes) else key: value for key, value in before.items()}
        expected = change(dict(known))
        assert (known if expected is None else expected) == after

    def text(self) -> bytes:
        self.number += 1
        return b"Subject: %d\r\n\r\nbody\r\n" % self.number

    # others

    def deliver(self, _draw: int = 0) -> None:
        self.servers[0].deliver(self.text())

    def pick(self, draw: int) -> Path | None:
        paths = sorted(self.paths("INBOX"), key=lambda path: path.name)
        return paths[draw % len(paths)] if paths else None

    def hand_sets_flags(self, draw: int) -> None:
        if path := self.pick(draw):
            letters = "".join(letter for place, letter in enumerate("FST") if draw >> place & 4)
            kept = "".join(letter for letter in path.name.partition(":2,")[2] if letter.islower())
            path.rename(self.folder("INBOX") / "cur" / f"{path.name.partition(':')[0]}:2,{letters}{kept}")

    def hand_removes(self, draw: int) -> None:
        if path := self.pick(draw):
            path.unlink()

    def hand_adds(self, draw: int) -> None:
        text = self.text()
        place = ("new/hand.{}", "cur/hand.{}:2,S")[draw % 2]
        (self.folder("INBOX") / place.format(self.number)).write_bytes(text.replace(b"\r\n", b"\n"))

    def pop3_deletes(self, draw: int) -> None:
        """As at the end of a POP3 session, in another process."""
        self.outside.sync()
        if messages := self.outside.messages():
            self.outside.expunge([messages[draw % len(messages)].uid])

    def another_flags(self, draw: int) -> None:
        self.outside.sync()
        if messages := self.outside.messages():
            self.outside.update_flags([messages[draw % len(messages)].uid], "add", frozenset({"work", "\\Seen"}))

    def another_expunges(self, draw: int) -> None:
        """A session of the same process: what it did is known at once."""
        mailbox = self.servers[0].account.open("INBOX")
        if messages := mailbox.messages():
            mailbox.expunge([messages[draw % len(messages)].uid])
        mailbox.close()

    OTHERS = (deliver, hand_sets_flags, hand_removes, hand_adds, pop3_deletes, another_flags, another_expunges)

    @rule(other=st.sampled_from(OTHERS), draw=st.integers(0, 31))
    def somebody_else(self, other: Callable[..., None], draw: int) -> None:
        other(self, draw)

    @rule(others=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(OTHERS), st.integers(0, 31)), max_size=3))
    def interrupt_the_next_command(self, others: list[tuple[int, Callable[..., None], int]]) -> None:
        self.others = []
        for pause, other, draw in others:
            self.others += [lambda: None] * pause
            self.others.append(lambda other=other, draw=draw: other(self, draw))  # type: ignore[misc]

    # sessions

    def ready(self, who: int) -> Believer | None:
        """A session with a mailbox, whose client knows what it was told of."""
        client = self.clients[who]
        if client.selected is None:
            return None
        self.quietly(client.look)
        return client

    def quietly(self, act: Callable[[], object]) -> None:
        others, self.others = self.others, []
        act()
        self.others = others

    def do(self, client: Believer, command: str | bytes) -> bytes:
        self.interrupted = False
        answer = client.do(command)
        self.others = []
        self.agree(client)
        return answer

    def agree(self, client: Believer) -> None:
        """The client knows what the server thinks that it knows."""
        view = client.client.session.selected.view
        assert len(client.messages) == len(view)
        assert client.recent == view._recent_told
        for known, uid, flags in zip(client.messages, view.uids, view.flags, strict=True):
            assert known.uid in (None, uid)
            if known.flags is not None and uid not in view.gone and uid not in view._changed:
                assert known.flags == flags, (uid, known.flags, flags)
            if known.recent and not client.read_only:
                holder = self.recent_to.setdefault((client.selected or "", uid), view)
                assert holder is view, "a message is recent in one session only"

    def numbers(self, client: Believer, places: list[int]) -> list[int]:
        return sorted({place % len(client.messages) + 1 for place in places})

    def chosen(self, client: Believer, places: list[int], by_uid: bool) -> tuple[str, str, set[int]] | None:
        """A prefix for the command's name, a set, and the UIDs that it means."""
        if not client.messages:
            return None
        numbers = self.numbers(client, places)
        uids = {uid for number in numbers if (uid := client.messages[number - 1].uid) is not None}
        return ("UID ", ",".join(map(str, sorted(uids))), uids) if by_uid else ("", ",".join(map(str, numbers)), uids)

    WHO = st.integers(0, 2)
    PLACES = st.lists(st.integers(0, 30), min_size=1, max_size=4)

    @rule(who=WHO, command=st.sampled_from(["SELECT", "EXAMINE"]), mailbox=st.sampled_from(["INBOX", "INBOX", "Other"]))
    def select(self, who: int, command: str, mailbox: str) -> None:
        client = self.clients[who]
        client.begin(f"{command} {mailbox}", mailbox)
        self.others = []
        self.agree(client)

    @rule(who=WHO, command=st.sampled_from(["NOOP", "CHECK", "STATUS INBOX (MESSAGES)", 'LIST "" *']))
    def idle_words(self, who: int, command: str) -> None:
        if client := self.ready(who):
            before = self.disk("INBOX")
            self.do(client, command)
            self.expect("INBOX", before, lambda mail: mail)

    @rule(
        who=WHO,
        places=PLACES,
        by_uid=st.booleans(),
        items=st.sampled_from(["FLAGS", "(UID FLAGS)", "(UID MODSEQ)", "ENVELOPE", "BODY[]", "(BODY[TEXT] FLAGS)"]),
    )
    def fetch(self, who: int, places: list[int], by_uid: bool, items: str) -> None:
        if (client := self.ready(who)) and (chosen := self.chosen(client, places, by_uid)):
            prefix, text, uids = chosen
            before = self.disk(client.selected or "")
            if "MODSEQ" in items:
                client.condstore = True
            # what another process has just made unseen stays so: reading it here is no news to this one
            read = {each.uid for each in client.client.session.selected.mailbox.messages() if _is_unseen(each.flags)}
            self.do(client, f"{prefix}FETCH {text} {items}")
            assert client.status == b"OK"
            unseen = uids & read if "BODY[" in items and not client.read_only else set()
            self.expect(
                client.selected or "", before, lambda mail: _flagged(mail, unseen, lambda old: old | {"\\Seen"})
            )

    @rule(
        who=WHO,
        places=PLACES,
        by_uid=st.booleans(),
        action=st.sampled_from(["+", "-", ""]),
        silent=st.booleans(),
        given=st.sets(st.sampled_from(SETTABLE), max_size=2).map(frozenset),
        unchanged=st.sampled_from([None, None, 0, 2**62]),
    )
    def store(
        self, who: int, places: list[int], by_uid: bool, action: str, silent: bool, given: Flags, unchanged: int | None
    ) -> None:
        if not (client := self.ready(who)) or not (chosen := self.chosen(client, places, by_uid)):
            return
        prefix, text, uids = chosen
        before, mailbox = self.disk(client.selected or ""), client.selected or ""
        modifier = "" if unchanged is None else f"(UNCHANGEDSINCE {unchanged or client.highest}) "
        if modifier:
            client.condstore = True
        item = f"{action}FLAGS{'.SILENT' if silent else ''}"
        answer = self.do_silently if silent else self.do

        def applied(old: Flags) -> Flags:
            return {"+": old | given, "-": old - given, "": given}[action]

        answer(client, f"{prefix}STORE {text} {modifier}{item} ({' '.join(sorted(given))})")
        if client.read_only:
            assert client.status == b"NO"
            self.expect(mailbox, before, lambda mail: mail)
            return
        assert client.status == b"OK"
        left = _numbers(client.codes.get(b"MODIFIED", [b""])[0])
        if not by_uid:
            left = {uid for number in left if (uid := client.messages[number - 1].uid) is not None}
        changed = uids - left
        if silent:
            for known in client.messages:
                if known.uid in changed and known.flags is not None:
                    # what was told may be from before or behind the change: only the server knows
                    known.flags = None if self.interrupted else applied(known.flags)
            self.agree(client)
        self.expect(mailbox, before, lambda mail: _flagged(mail, changed, applied))

    def do_silently(self, client: Believer, command: str) -> None:
        self.interrupted = False
        client.do(command)
        self.others = []

    @rule(who=WHO, places=PLACES, by_uid=st.booleans())
    def expunge(self, who: int, places: list[int], by_uid: bool) -> None:
        if not (client := self.ready(who)) or not (chosen := self.chosen(client, places, True)):
            return
        before, mailbox = self.disk(client.selected or ""), client.selected or ""
        self.do(client, f"UID EXPUNGE {chosen[1]}" if by_uid else "EXPUNGE")
        assert client.status == (b"NO" if client.read_only else b"OK")
        named = chosen[2] if by_uid else set(before)
        self.expect(mailbox, before, lambda mail: mail if client.read_only else _without_deleted(mail, by_uid, named))

    @rule(who=WHO, command=st.sampled_from(["CLOSE", "UNSELECT"]))
    def leave(self, who: int, command: str) -> None:
        client = self.clients[who]
        if (mailbox := client.selected) is None:
            return
        before = self.disk(mailbox)
        self.interrupted = False
        answer = client.do(command)
        self.others = []
        assert answer.count(b"\r\n") == 1, "nothing is told of what happens"
        client.selected, client.messages = None, []
        stays = command == "UNSELECT" or client.read_only
        self.expect(mailbox, before, lambda mail: mail if stays else _without_deleted(mail, False, set()))

    @rule(who=WHO, places=PLACES, by_uid=st.booleans(), move=st.booleans(), there=st.sampled_from(list(FOLDERS)))
    def transfer(self, who: int, places: list[int], by_uid: bool, move: bool, there: str) -> None:
        if not (client := self.ready(who)) or not (chosen := self.chosen(client, places, by_uid)):
            return
        prefix, text, uids = chosen
        source, target = client.selected or "", there
        before, before_copies = self.disk(source), self.disk(target)
        self.do(client, f"{prefix}{'MOVE' if move else 'COPY'} {text} {target}")
        if client.status != b"OK":
            assert client.read_only or not by_uid
            self.expect(source, before, lambda mail: mail)
            return
        copied = client.codes.get(b"COPYUID")
        pairs = _pairs(copied[0]) if copied else []
        assert {uid for uid, _ in pairs} <= uids
        copies = self.disk(target)
        if not self.interrupted:
            assert {uid for uid, _ in pairs} == uids & before.keys()
            for uid, new in pairs:
                assert copies[new] == before[uid]
        gone = {uid for uid, _ in pairs} if move else set()
        new_uids = {new for _, new in pairs}
        if source != target:
            self.expect(source, before, lambda mail: {key: mail[key] for key in mail if key not in gone})
            self.expect(target, before_copies, lambda mail: mail | {new: copies[new] for new in new_uids})
        else:
            self.expect(
                source,
                before,
                lambda mail: (
                    {key: mail[key] for key in mail if key not in gone} | {new: copies[new] for new in new_uids}
                ),
            )

    @rule(who=WHO, given=st.sets(st.sampled_from(SETTABLE), max_size=2), mailbox=st.sampled_from(list(FOLDERS)))
    def append(self, who: int, given: set[str], mailbox: str) -> None:
        client = self.clients[who]
        if client.selected is None:
            return
        before, text = self.disk(mailbox), self.text()
        self.do(client, f"APPEND {mailbox} ({' '.join(sorted(given))}) {{{len(text)}+}}\r\n".encode() + text)
        uid = int(client.codes[b"APPENDUID"][0].split()[1])
        self.expect(mailbox, before, lambda mail: mail | {uid: (frozenset(given), text)})

    @rule(who=WHO, place=st.integers(0, 30), by_uid=st.booleans(), mailbox=st.sampled_from(list(FOLDERS)))
    def replace(self, who: int, place: int, by_uid: bool, mailbox: str) -> None:
        if not (client := self.ready(who)) or not (chosen := self.chosen(client, [place], by_uid)):
            return
        prefix, number, uids = chosen
        source, text = client.selected or "", self.text()
        before, before_there = self.disk(source), self.disk(mailbox)
        self.do(client, f"{prefix}REPLACE {number} {mailbox} (\\Seen) {{{len(text)}+}}\r\n".encode() + text)
        if client.status != b"OK":
            self.expect(source, before, lambda mail: mail)
            self.expect(mailbox, before_there, lambda mail: mail)
            return
        uid = int(client.codes[b"APPENDUID"][0].split()[1])
        for name, old in {source: before, mailbox: before_there}.items():
            added = {uid: (frozenset({"\\Seen"}), text)} if name == mailbox else {}
            gone = uids if name == source else set()
            self.expect(
                name,
                old,
                lambda mail, added=added, gone=gone: {k: v for k, v in mail.items() if k not in gone} | added,  # type: ignore[misc]
            )

    @rule(
        who=WHO,
        by_uid=st.booleans(),
        command=st.sampled_from(["SEARCH", "SORT (ARRIVAL) UTF-8", "THREAD REFS UTF-8"]),
        key=st.sampled_from(["ALL", "DELETED", "NOT SEEN", "KEYWORD work", "UID 1:*", "1:*", "SUBJECT 1", "TEXT body"]),
    )
    def search(self, who: int, by_uid: bool, command: str, key: str) -> None:
        if not (client := self.ready(who)) or (key == "1:*" and not client.messages):
            return
        known = set(client.uids)
        self.do(client, f"{'UID ' if by_uid else ''}{command} {key}")
        assert client.status == b"OK"
        wanted = _SEARCHED.get(key)
        if command == "SEARCH" and not self.interrupted and wanted is not None:
            gone = client.client.session.selected.view.gone
            passing = {n: each for n, each in enumerate(client.messages, 1) if each.flags is None or wanted(each.flags)}
            certain = {n: each for n, each in passing.items() if each.flags is not None and each.uid not in gone}
            named = {each.uid for each in certain.values()} if by_uid else set(certain)
            possible = {each.uid for each in passing.values()} if by_uid else set(passing)
            assert named <= set(client.found)
            expunged = known.difference(client.uids)  # told behind what was found
            assert None in possible or set(client.found) <= possible | expunged

    @rule(
        who=WHO,
        commands=st.lists(
            st.sampled_from(["NOOP", "UID FETCH 1:* FLAGS", "UID SEARCH ALL", "CHECK"]), min_size=2, max_size=4
        ),
    )
    def pipeline(self, who: int, commands: list[str]) -> None:
        """Commands without sequence numbers, at once: answered in order, each by itself."""
        if not (client := self.ready(who)):
            return
        data = b"".join(b"p%d %b\r\n" % (place, command.encode()) for place, command in enumerate(commands))
        answer = client.client.say(data)
        self.others = []
        for place, command in enumerate(commands):
            part, _, rest = answer.partition(b"p%d OK" % place)
            line, _, answer = rest.partition(b"\r\n")
            client.hear(part + b"t OK" + line + b"\r\n", command.encode())
        assert answer == b""
        self.agree(client)

    @rule(who=WHO, others=st.lists(st.tuples(st.sampled_from(OTHERS), st.integers(0, 31)), max_size=3))
    def idle(self, who: int, others: list[tuple[Callable[..., None], int]]) -> None:
        if not (client := self.ready(who)):
            return
        self.others = []
        session, workers = client.client.session, client.client.session.workers
        client.hear(client.client.say(b"i IDLE\r\n"))
        for other, draw in others:
            client.client.channel.sent = b""
            other(self, draw)
            while workers.called:
                workers.called.pop(0)()
            self.servers[who].clock.advance(10)
            client.hear(client.client.channel.sent)
            self.agree(client)
            client.client.channel.sent = b""
        client.hear(client.client.say(b"DONE\r\n"))
        workers.called.clear()
        assert session.selected.view.news(expunges=True) == []
        self.agree(client)

    @precondition(lambda self: "QRESYNC" in self.extensions)
    @rule(who=WHO)
    def go_away(self, who: int) -> None:
        """The connection breaks, at a moment when the client knows what it was told of."""
        client = self.clients[who]
        if client.qresync and client.selected == "INBOX" and self.ready(who):
            known = [each for each in client.messages if each.uid is not None and each.flags is not None]
            assert len(known) == len(client.messages)
            self.away.append((client.validity, client.highest, known))
            client.client.session.lost()
            self.clients[who] = self.connect(who)

    @precondition(lambda self: self.away)
    @rule(who=WHO, which=st.integers(0, 5))
    def come_back(self, who: int, which: int) -> None:
        client = self.clients[who]
        if not client.qresync:
            return
        validity, modseq, known = self.away[which % len(self.away)]
        keeping = [Known(each.uid, each.flags, False, each.modseq) for each in known]
        self.others = []
        client.begin(f"SELECT INBOX (QRESYNC ({validity} {modseq}))", "INBOX", keeping=keeping)
        assert all(each.flags is not None for each in client.messages), "no flags need be asked for"
        self.agree(client)

    @rule()
    def settle(self) -> None:
        """When all is told, clients and files agree."""
        self.others = []
        for client in self.clients:
            if client.selected is None:
                continue
            client.do("NOOP")
            client.look()
            self.agree(client)
            there = self.disk(client.selected)
            assert sorted(there) == client.uids, "all have UIDs, and all are told"
            assert {each.uid: each.flags for each in client.messages} == {uid: there[uid][0] for uid in client.uids}


def _is_unseen(flags: Flags) -> bool:
    return "\\Seen" not in flags


_SEARCHED: dict[str, Callable[[Flags], bool]] = {
    "ALL": lambda flags: True,
    "DELETED": lambda flags: "\\Deleted" in flags,
    "NOT SEEN": _is_unseen,
    "KEYWORD work": lambda flags: "work" in flags,
}


def _flagged(mail: Mail, uids: set[int], change: Callable[[Flags], Flags]) -> Mail:
    return {key: (change(flags) if key in uids else flags, text) for key, (flags, text) in mail.items()}


def _without_deleted(mail: Mail, only: bool, named: set[Any]) -> Mail:
    return {
        key: (flags, text)
        for key, (flags, text) in mail.items()
        if "\\Deleted" not in flags or (only and key not in named)
    }


def _numbers(text: bytes) -> set[int]:
    found: set[int] = set()
    for each in filter(None, text.split(b",")):
        first, _, last = each.partition(b":")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def _pairs(code: bytes) -> list[tuple[int, int]]:
    _, sources, targets = code.split()
    return list(zip(sorted(_numbers(sources)), sorted(_numbers(targets)), strict=True))


def machine(*extensions: str) -> Any:
    made = type(f"Sessions{'_'.join(extensions)}", (Sessions,), {"extensions": extensions})
    case = made.TestCase
    case.settings = settings(
        max_examples=1500 if LONG else 25,
        stateful_step_count=40,
        deadline=None,
        derandomize=not LONG,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    return case


TestPlain = machine("", "", "")
TestCondstore = machine("CONDSTORE", "", "CONDSTORE")
TestQresync = machine("QRESYNC", "CONDSTORE", "QRESYNC")
