"""One mailbox used by two processes and an outside hand, against a naive model."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mailserver.mail import Address, Content
from mailserver.store import Delivery, Mailbox, Store, syncing, watch
from tests.support.otherprocess import OtherMailbox, OtherProcess

ALICE = Address("alice", "example.test")
LETTERS = {"S": "\\Seen", "F": "\\Flagged", "T": "\\Deleted"}
KEYWORDS = frozenset({"$Key", "other", "more"})
FLAGS = st.sets(st.sampled_from([*LETTERS.values(), *sorted(KEYWORDS)])).map(frozenset)
SIDE = st.integers(0, 1)
LONG = os.environ.get("MAILSERVER_LONG") == "1"


class MailboxMachine(RuleBasedStateMachine):
    """The model knows each message by its text. Each of the two sides is told what it must have seen.

    One side is this process, the other another one. There are letters left for two keywords of three.
    """

    process: OtherProcess

    @initialize()
    def begin(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(watch, "GRAIN", 10**18)
        self.patch.setattr(watch, "RECHECK", 0.0)
        for module, name in ((os, "fsync"), (syncing, "syncfs")):  # other tests see to durability
            self.patch.setattr(module, name, lambda fd: None)
        self.root = Path(tempfile.mkdtemp())
        self.maildir = self.root / "example.test/alice"
        self.number = 0
        self.flags: dict[bytes, frozenset[str]] = {}
        self.uid_of: dict[bytes, int] = {}
        self.text_of: dict[int, bytes] = {}
        self.highest = [0, 0]
        self.maildir.mkdir(parents=True)
        (self.maildir / "dovecot-keywords").write_text("".join(f"{number} k{number}\n" for number in range(24)))
        self.sides = [self.open(0), self.open(1)]
        self.validity = self.sides[0].uidvalidity

    def open(self, side: int) -> Mailbox | OtherMailbox:
        if side:
            return self.process.open(self.root, ALICE, "INBOX")
        return Store(self.root, hostname="mx.example.test").account(ALICE).open("INBOX")

    def text(self) -> bytes:
        self.number += 1
        return b"Subject: %d\r\n\r\nbody\r\n" % self.number

    def pick(self, data: st.DataObject) -> bytes:
        return data.draw(st.sampled_from(sorted(self.flags)))

    def files(self) -> dict[bytes, Path]:
        paths = [path for part in ("new", "cur") for path in (self.maildir / part).iterdir()]
        return {path.read_bytes().replace(b"\n", b"\r\n"): path for path in paths}

    @rule(count=st.integers(1, 3))
    def deliver(self, count: int) -> None:
        texts = [self.text() for _ in range(count)]
        for result in Store(self.root, hostname="mx").deliver([Delivery(ALICE, b"", Content(text)) for text in texts]):
            assert isinstance(result, Path)
        self.flags |= dict.fromkeys(texts, frozenset())

    @rule(side=SIDE, flags=FLAGS)
    def append(self, side: int, flags: frozenset[str]) -> None:
        text = self.text()
        self.sides[side].append(Content(text), flags)
        self.flags[text] = flags

    @precondition(lambda self: self.flags)
    @rule(side=SIDE, data=st.data(), action=st.sampled_from(["add", "remove", "set"]), flags=FLAGS)
    def update_flags(self, side: int, data: st.DataObject, action: str, flags: frozenset[str]) -> None:
        mailbox, text = self.sides[side], self.pick(data)
        mailbox.sync()
        self.check(side)
        [message] = mailbox.update_flags([self.uid_of[text]], action, flags)
        before = self.flags[text]
        self.flags[text] = {"add": before | flags, "remove": before - flags, "set": flags}[action]
        assert message.flags == self.flags[text]

    @precondition(lambda self: self.flags)
    @rule(side=SIDE, data=st.data())
    def expunge(self, side: int, data: st.DataObject) -> None:
        mailbox, text = self.sides[side], self.pick(data)
        mailbox.sync()
        self.check(side)
        assert mailbox.expunge([self.uid_of[text]]) == [self.uid_of[text]]
        del self.flags[text]

    @precondition(lambda self: self.flags)
    @rule(data=st.data(), letters=st.sets(st.sampled_from("FST")))
    def hand_sets_flags(self, data: st.DataObject, letters: set[str]) -> None:
        text = self.pick(data)
        path = self.files()[text]
        keywords = "".join(letter for letter in path.name.partition(":2,")[2] if letter.islower())
        path.rename(self.maildir / "cur" / f"{path.name.partition(':')[0]}:2,{''.join(sorted(letters))}{keywords}")
        kept = {flag for flag in self.flags[text] if not flag.startswith("\\")}
        self.flags[text] = frozenset(kept | {LETTERS[letter] for letter in letters})

    @precondition(lambda self: self.flags)
    @rule(data=st.data())
    def hand_removes(self, data: st.DataObject) -> None:
        text = self.pick(data)
        self.files()[text].unlink()
        del self.flags[text]

    @rule(place=st.sampled_from(["new/hand.{}", "cur/hand.{}:2,S", "cur/hand.{},U=3:2,S", "cur/hand.{},U=999999:2,S"]))
    def hand_adds(self, place: str) -> None:
        text = self.text()
        (self.maildir / place.format(self.number)).write_bytes(text.replace(b"\r\n", b"\n"))
        self.flags[text] = frozenset({"\\Seen"}) if place.endswith("S") else frozenset()

    @precondition(lambda self: self.flags)
    @rule(data=st.data())
    def hand_copies_with_the_uid(self, data: st.DataObject) -> None:
        """With other content, so that the model can tell them apart."""
        path = self.files()[self.pick(data)]
        text = self.text()
        copy = path.with_name(f"copy{self.number}.{path.name.partition(':')[0]}:2,F")
        copy.write_bytes(text.replace(b"\r\n", b"\n"))
        self.flags[text] = frozenset({"\\Flagged"})

    @rule(side=SIDE)
    def reopen(self, side: int) -> None:
        self.sides[side].close()
        self.sides[side] = self.open(side)
        self.check(side)

    @rule()
    def restart_without_index(self) -> None:
        """What the hand did to UIDs is put right before: nobody can know without the index.

        Keywords without a letter are lost with it.
        """
        for mailbox in self.sides:
            mailbox.sync()
            mailbox.close()
        for path in self.maildir.glob("mailserver.index*"):
            path.unlink()
        keywords = self.maildir / "dovecot-keywords"
        lost = KEYWORDS.difference(line.split()[1] for line in keywords.read_text().splitlines())
        self.flags = {text: flags - lost for text, flags in self.flags.items()}
        self.sides = [self.open(0), self.open(1)]
        self.check(0)
        self.check(1)

    @rule(side=SIDE)
    def sync(self, side: int) -> None:
        mailbox = self.sides[side]
        before, since = {m.uid: m for m in mailbox.messages()}, mailbox.highest_modseq
        mailbox.sync()
        self.check(side)
        after, changes = {m.uid: m for m in mailbox.messages()}, mailbox.changes(since)
        assert {m.uid for m in changes.appeared} == after.keys() - before.keys()
        assert set(changes.vanished) == before.keys() - after.keys()
        assert {m.uid for m in changes.changed} == {
            u for u in after.keys() & before.keys() if after[u].flags != before[u].flags
        }

    def check(self, side: int) -> None:
        """After a sync the side knows all there is, and UIDs are as they always were."""
        mailbox = self.sides[side]
        found = {}
        previous = 0
        for message in mailbox.messages():
            assert message.uid > previous
            previous = message.uid
            text = mailbox.read(message.uid)
            found[text] = message.flags
            assert self.uid_of.setdefault(text, message.uid) == message.uid
            assert self.text_of.setdefault(message.uid, text) == text
        assert found == self.flags
        assert mailbox.uidnext > previous
        assert mailbox.uidvalidity == self.validity
        assert not any((self.maildir / "new").iterdir())

    @invariant()
    def new_uids_are_greater_than_all_before(self) -> None:
        for side, mailbox in enumerate(self.sides):
            assert mailbox.uidnext > self.highest[side]
            self.highest[side] = mailbox.uidnext - 1

    def teardown(self) -> None:
        if hasattr(self, "root"):
            for mailbox in self.sides:
                mailbox.close()
            shutil.rmtree(self.root)
            self.patch.undo()


class TestMailbox(MailboxMachine.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        MailboxMachine.process = OtherProcess()

    @classmethod
    def tearDownClass(cls) -> None:
        MailboxMachine.process.close()


TestMailbox.settings = settings(
    max_examples=1000 if LONG else 35, stateful_step_count=30, deadline=None, phases=[Phase.generate]
)


def test_no_message_is_lost_from_sight_while_others_rename(hurry, store, tmp_path):
    """A second hand sets flags without a pause while the mailbox is scanned."""
    jobs = [Delivery(ALICE, b"", Content(b"Subject: %d\r\n\r\n" % number)) for number in range(300)]
    store.deliver(jobs)
    inbox = store.account(ALICE).open("INBOX")
    cur = tmp_path / "mail/example.test/alice/cur"
    stop = threading.Event()

    def rename() -> None:
        while not stop.is_set():
            for path in list(cur.iterdir())[:100]:
                base, _, letters = path.name.partition(":2,")
                path.rename(cur / f"{base}:2,{'' if letters else 'S'}")

    thread = threading.Thread(target=rename)
    thread.start()
    try:
        for _ in range(60):
            inbox.sync()
            assert [message.uid for message in inbox.messages()] == list(range(1, 301))
    finally:
        stop.set()
        thread.join()
    assert len(list(cur.iterdir())) == 300
