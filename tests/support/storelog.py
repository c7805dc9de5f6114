"""A log of operations on one account of the store, the same for the same seed, and what was promised of each.

Before an operation its possible effects are recorded, after it that it was acknowledged, each in one write. So whoever
reads the records of a process that was killed knows what must be there (`storeledger`). Every message is told by its
text, which follows from its name: one that is there in part is found out.
"""

from __future__ import annotations

import os
import pickle
import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mailserver.mail import Address, Content
from mailserver.store import AccountStore, Addition, Delivery, DeliveryError, FlagAction, Mailbox, Store, StoreError

ALICE = Address("alice", "example.test")
KEYWORDS = ("$Forwarded", "$Junk", "work", "later")
SYSTEM = ("\\Seen", "\\Flagged", "\\Answered", "\\Deleted", "\\Draft")
NAMES = ("Work", "Lists", "Sent", "Größe")

_open, _write = os.open, os.write  # as they are before anything is made to fail


class Seen(NamedTuple):
    """A message as it is shown: `text` names it, or tells that it is damaged."""

    text: str
    flags: frozenset[str]


@dataclass(frozen=True, slots=True)
class View:
    """A folder as it is shown; the messages by UID."""

    validity: int
    uidnext: int
    modseq: int
    messages: Mapping[int, Seen]


@dataclass(frozen=True, slots=True)
class Observation:
    """An account as it is shown."""

    folders: Mapping[str, View]
    subscriptions: frozenset[str]


@dataclass(frozen=True, slots=True)
class Effects:
    """All that one operation may do; and must have done, once it is acknowledged. By names of folders."""

    what: str
    appear: Mapping[str, Mapping[str, frozenset[str]]] = field(default_factory=dict)
    """The names of texts that come, and their flags."""
    vanish: Mapping[str, frozenset[int]] = field(default_factory=dict)
    """The UIDs that go."""
    flags: Mapping[str, Mapping[int, frozenset[str]]] = field(default_factory=dict)
    """What the flags of a UID become."""
    moved: Mapping[str, str | None] = field(default_factory=dict)
    """The new names of folders; None: deleted."""
    created: frozenset[str] = frozenset()
    subscribed: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Begun:
    effects: Effects


@dataclass(frozen=True, slots=True)
class Done:
    """Acknowledged. `given` has the names of texts by folder and UID, as far as the answer told them."""

    given: Mapping[str, Mapping[int, str]]


@dataclass(frozen=True, slots=True)
class Refused:
    """The operation failed in the proper way; `seen` is what the same process shows after that."""

    reason: str
    seen: Observation
    user: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A folder was shown, all of it."""

    folder: str
    view: View
    user: str
    """Of those that live at the same time."""


Record = Begun | Done | Refused | Listed


class Recorder:
    """Records go into a file, each in one write."""

    def __init__(self, path: Path) -> None:
        self._fd = _open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def __call__(self, record: Record) -> None:
        data = pickle.dumps(record)
        _write(self._fd, len(data).to_bytes(4, "big") + data)


def read_records(path: Path) -> Iterator[Record]:
    """All that are complete."""
    data = path.read_bytes() if path.exists() else b""
    while len(data) >= 4 and len(data) >= (end := 4 + int.from_bytes(data[:4], "big")):
        yield pickle.loads(data[4:end])
        data = data[end:]


def text_of(name: str) -> bytes:
    """The message of this name, from 60 octets to some thousand."""
    chance = random.Random(zlib.crc32(name.encode()))
    lines = "".join(f"{chance.getrandbits(200):x}\r\n" for _ in range(chance.choice((1, 3, 20, 120))))
    return f"Subject: {name}\r\n\r\n{lines}end of {name}\r\n".encode()


def named(text: bytes) -> str:
    """The name of a message; the word `damaged` before it when this is not all of it."""
    name = text.partition(b"\r\n")[0].removeprefix(b"Subject: ").decode(errors="replace")
    return name if text == text_of(name) else f"damaged {name!r} of {len(text)} octets"


def view_of(mailbox: Mailbox, prefix: str = "") -> View:
    """All messages whose name begins so, read to the end."""
    messages = {}
    for message in mailbox.messages():
        text = named(mailbox.read(message.uid))
        if text.startswith((prefix, "damaged")):
            messages[message.uid] = Seen(text, message.flags)
    return View(mailbox.uidvalidity, mailbox.uidnext, mailbox.highest_modseq, messages)


def observe(account: AccountStore, prefix: str = "") -> Observation:
    """Opens INBOX and every folder whose name begins so."""
    views = {}
    for name in selectable(account):
        if name == "INBOX" or name.startswith(prefix):
            mailbox = account.open(name)
            try:
                views[name] = view_of(mailbox, prefix)
            finally:
                mailbox.close()
    return Observation(views, frozenset(name for name in account.subscriptions() if name.startswith(prefix)))


def selectable(account: AccountStore) -> list[str]:
    return [folder.name for folder in account.folders() if folder.selectable]


class Log:
    """Operations one after another, by two users who know of each other only through the disk.

    `name` begins the names of all texts. Not `alone`: others work in the account as well; then only messages of this
    log are changed, and only folders whose names begin with its name.
    """

    def __init__(
        self, root: Path, seed: int, record: Callable[[Record], None], *, name: str = "m", alone: bool = True
    ) -> None:
        self._root = root
        self._chance = random.Random(seed)
        self._record = record
        self._name = name
        self._alone = alone
        self._count = 0
        self._stores = [self._store(), self._store()]
        self._users = [store.account(ALICE) for store in self._stores]
        self._names = ["first", "second"]
        self._who = 0

    def perform(self, count: int) -> None:
        """So many operations, of all kinds."""
        kinds = [kind for kind, weight in self._kinds().items() for _ in range(weight)]
        for _ in range(count):
            self._who = self._chance.randrange(2)
            self._chance.choice(kinds)()

    def _kinds(self) -> dict[Callable[[], None], int]:
        return {
            self.deliver: 5,
            self.list: 3,
            self.update_flags: 5,
            self.append: 4,
            self.copy: 2,
            self.move: 2,
            self.expunge: 2,
            self.create: 2,
            self.delete: 1,
            self.rename: 2,
            self.rename_inbox: 1 if self._alone else 0,
            self.subscribe: 1,
            self.restart: 1,
            self.prepare: 1,
        }

    # Operations

    def deliver(self) -> None:
        folder = self._folder()
        texts = self._texts(self._chance.choice((1, 1, 2, 5)))
        jobs = [Delivery(ALICE, b"", Content(text_of(text)), folder) for text in texts]

        def work() -> None:
            for result in self._stores[self._who].deliver(jobs):
                if isinstance(result, DeliveryError):
                    raise result

        self._do(Effects("deliver", appear={folder: dict.fromkeys(texts, frozenset())}), work)

    def list(self) -> None:
        self._list(self._folder())

    def update_flags(self) -> None:
        name = self._folder()
        view = self._list(name)
        uids = self._some(view)
        action: FlagAction = self._chance.choice(("add", "remove", "set"))
        flags = self._flags()
        after = {}
        for uid in uids:
            before = view.messages[uid].flags
            after[uid] = {"add": before | flags, "remove": before - flags, "set": flags}[action]
        self._do(Effects("flags", flags={name: after}), self._with(name, lambda m: m.update_flags(uids, action, flags)))

    def append(self) -> None:
        name = self._folder()
        texts = {text: self._flags() for text in self._texts(self._chance.choice((1, 1, 3)))}
        additions = [Addition(Content(text_of(text)), flags, 1e9) for text, flags in texts.items()]

        def work(mailbox: Mailbox) -> Mapping[str, Mapping[int, str]]:
            return {name: dict(zip(mailbox.append_many(additions), texts, strict=True))}

        self._do(Effects("append", appear={name: texts}), self._with(name, work))

    def copy(self) -> None:
        self._copy(moves=False)

    def move(self) -> None:
        self._copy(moves=True)

    def expunge(self) -> None:
        name = self._folder()
        uids = self._some(self._list(name))
        self._do(Effects("expunge", vanish={name: frozenset(uids)}), self._with(name, lambda m: m.expunge(uids)))

    def create(self) -> None:
        name = self._new_name()
        self._do(Effects("create", created=frozenset({name})), lambda: self._user.create(name))

    def delete(self) -> None:
        names = [name for name in self._own_folders() if name != "INBOX"]
        if names:
            name = self._chance.choice(names)
            self._do(Effects("delete", moved={name: None}), lambda: self._user.delete(name))

    def rename(self) -> None:
        """With the children."""
        names = [name for name in self._own_folders() if name != "INBOX"]
        if not names:
            return
        old, new = self._chance.choice(names), self._new_name()
        if new.startswith(f"{old}/"):
            return
        family = [name for name in names if name == old or name.startswith(f"{old}/")]
        moved = {name: new + name.removeprefix(old) for name in family}
        self._do(Effects("rename", moved=moved), lambda: self._user.rename(old, new))

    def rename_inbox(self) -> None:
        new = self._new_name()
        messages = self._list("INBOX").messages
        texts = {seen.text: seen.flags for seen in messages.values()}
        if len(texts) == len(messages):  # a message that is there twice could not be told from its copy
            effects = Effects(
                "rename INBOX",
                created=frozenset({new}),
                appear={new: texts},
                vanish={"INBOX": frozenset(messages)},
            )
            self._do(effects, lambda: self._user.rename("INBOX", new))

    def subscribe(self) -> None:
        name, wanted = self._chance.choice(NAMES), self._chance.random() < 0.7
        if not self._alone:
            name = self._name + name
        work = self._user.subscribe if wanted else self._user.unsubscribe
        self._do(Effects("subscribe", subscribed={name: wanted}), lambda: work(name))

    def restart(self) -> None:
        """One of the two begins anew, with what is in the index."""
        self._stores[self._who] = self._store()
        self._users[self._who] = self._stores[self._who].account(ALICE)
        self._names[self._who] += " again"
        self._list("INBOX")

    def prepare(self) -> None:
        name = self._folder()

        def work(mailbox: Mailbox) -> None:
            mailbox.prepared([message.uid for message in mailbox.messages()])
            mailbox.pack(3)

        self._do(Effects("prepare"), self._with(name, work))

    # Inside

    def _copy(self, *, moves: bool) -> None:
        name, other = self._folder(), self._folder()
        if name == other:
            return
        view = self._list(name)
        uids = self._some(view)
        texts = {view.messages[uid].text: view.messages[uid].flags for uid in uids}
        if len(texts) < len(uids):
            return
        vanish = {name: frozenset(uids)} if moves else {}

        def work(mailbox: Mailbox) -> Mapping[str, Mapping[int, str]]:
            target = self._user.open(other)
            try:
                pairs = mailbox.move(uids, target) if moves else mailbox.copy(uids, target)
            finally:
                target.close()
            return {other: {there: view.messages[here].text for here, there in pairs}}

        self._do(Effects("move" if moves else "copy", appear={other: texts}, vanish=vanish), self._with(name, work))

    def _do(self, effects: Effects, work: Callable[[], object]) -> None:
        self._record(Begun(effects))
        try:
            told = work()
        except StoreError as error:
            self._record(Refused(_reason(error), self._observe(), self._names[self._who]))
        else:
            self._record(Done(told if isinstance(told, dict) else {}))

    def _with(self, name: str, work: Callable[[Mailbox], object]) -> Callable[[], object]:
        def opened() -> object:
            mailbox = self._user.open(name)
            try:
                return work(mailbox)
            finally:
                mailbox.close()

        return opened

    def _list(self, name: str) -> View:
        while True:
            try:
                view = self._with(name, lambda mailbox: view_of(mailbox, "" if self._alone else self._name))()
            except StoreError:
                continue  # a fault that passes; the next try meets none
            assert isinstance(view, View)
            self._record(Listed(name, view, self._names[self._who]))
            return view

    def _observe(self) -> Observation:
        while True:
            try:
                return observe(self._user, "" if self._alone else self._name)
            except StoreError:
                continue

    @property
    def _user(self) -> AccountStore:
        return self._users[self._who]

    def _store(self) -> Store:
        return Store(self._root, hostname="mx.example.test")

    def _texts(self, count: int) -> list[str]:
        self._count += count
        return [f"{self._name}.{number}" for number in range(self._count - count, self._count)]

    def _folders(self) -> list[str]:
        while True:
            try:
                return selectable(self._user)
            except StoreError:
                continue

    def _own_folders(self) -> list[str]:
        return [name for name in self._folders() if self._alone or name == "INBOX" or name.startswith(self._name)]

    def _folder(self) -> str:
        return self._chance.choice([*self._own_folders(), "INBOX"])

    def _new_name(self) -> str:
        """Of a folder that does not exist, often below one that does."""
        taken = set(self._folders())
        while True:
            parents = [f"{name}/" for name in self._own_folders() if name != "INBOX" and name.count("/") < 3]
            start = "" if self._alone else self._name
            name = self._chance.choice(["", *parents]) or start
            name += f"{self._chance.choice(NAMES)}{self._chance.randrange(20)}"
            if name not in taken and not any(each.startswith(f"{name}/") for each in taken):
                return name

    def _some(self, view: View) -> list[int]:
        uids = sorted(view.messages)
        return sorted(self._chance.sample(uids, min(len(uids), self._chance.choice((1, 2, 5)))))

    def _flags(self) -> frozenset[str]:
        return frozenset(self._chance.sample(SYSTEM + KEYWORDS, self._chance.choice((0, 1, 2, 3))))


def _reason(error: StoreError) -> str:
    return f"{error.reply.code}" if isinstance(error, DeliveryError) else type(error).__name__


def begin(root: Path, seed: int) -> None:
    """An account that has lived for a while."""
    Log(root, seed, lambda record: None, name="old").perform(25)
