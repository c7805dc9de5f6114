"""IMAP sessions over the real store, driven without a reactor."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mailserver.accounts import Visit
from mailserver.config.model import IMAP, Limits
from mailserver.mail import Address, Content
from mailserver.policy.failures import Failures
from mailserver.ports import TLSState
from mailserver.sessions.imap import IMAPSession
from mailserver.sessions.imap.appends import Appends
from mailserver.sessions.login import Authenticator
from mailserver.store import AccountStore, Delivery, Store
from tests.support.fakes import FakeChannel, FakeClock, FakeWorkers, PasswordsOnly, converse, run

ALICE = Address("alice", "example.test")


class Passwords(PasswordsOnly):
    """alice and bob, both with the password `secret`."""

    broken = False

    def authenticate(self, username: str, password: str, visit: Visit) -> Address | None:
        if self.broken:
            raise OSError("no directory")
        local, _, domain = username.partition("@")
        if local in ("alice", "bob") and domain in ("", "example.test") and password == "secret":
            return Address(local, "example.test")
        return None


@dataclass
class Server:
    """One store and any number of clients."""

    root: Path
    clock: FakeClock = field(default_factory=FakeClock)
    passwords: Passwords = field(default_factory=Passwords)
    limits: Limits = field(default_factory=Limits)
    policy: IMAP = field(default_factory=IMAP)

    def __post_init__(self) -> None:
        self.store = Store(self.root, hostname="mail.example.test")
        self.account: AccountStore = self.store.account(ALICE)

    def connect(self, *, tls: bool = True, tls_available: bool = True) -> Client:
        channel = FakeChannel(tls=TLSState("TLSv1.3", "X") if tls else None)
        workers = FakeWorkers()
        session = IMAPSession(
            channel,
            hostname="mail.example.test",
            limits=self.limits,
            spool=self.root,
            authenticator=Authenticator(self.passwords, workers, self.clock, Failures()),
            open_account=self.store.account,
            workers=workers,
            clock=self.clock,
            tls_available=tls_available,
            appends=Appends(workers),
            policy=self.policy,
        )
        channel.engine = session.engine
        client = Client(session, channel)
        run(session.opened())
        client.greeting = client.say(b"")
        return client

    def login(self, user: str = "alice", *, select: str = "") -> Client:
        client = self.connect()
        assert client.command(f"LOGIN {user} secret").endswith(b"Logged in\r\n")
        if select:
            assert b"OK [READ-" in client.command(f"SELECT {select}")
        return client

    def deliver(self, message: bytes, *, count: int = 1) -> None:
        """Into alice's INBOX, as mail comes in."""
        for _ in range(count):
            (result,) = self.store.deliver([Delivery(ALICE, b"", Content(message))])
            assert isinstance(result, Path), result


class Client:
    """Gives commands a tag and returns what comes back."""

    def __init__(self, session: IMAPSession, channel: FakeChannel) -> None:
        self.session = session
        self.channel = channel
        self.greeting = b""
        self._tags = 0

    def say(self, data: bytes) -> bytes:
        return converse(self.session, self.channel, data)

    def command(self, text: str | bytes) -> bytes:
        """`text` without tag and line end. The answer, with its tag as `t`."""
        self._tags += 1
        tag = b"t%d" % self._tags
        data = text.encode() if isinstance(text, str) else text
        answer = self.say(tag + b" " + data + b"\r\n")
        return re.sub(rb"(?m)^" + tag + rb" ", b"t ", answer)

    def lines(self, text: str | bytes) -> list[bytes]:
        """The untagged lines of the answer, which must be positive."""
        *untagged, tagged = self.command(text).split(b"\r\n")[:-1]
        assert tagged.startswith(b"t OK"), tagged
        return [line.removeprefix(b"* ") for line in untagged]

    def append(self, mailbox: str, message: bytes, flags: str = "", extra: str = "") -> bytes:
        head = f"APPEND {mailbox} ({flags}) {extra}".encode()
        return self.command(head + b"{%d+}\r\n" % len(message) + message)

    def pushed(self, act: Callable[[], object]) -> bytes:
        """What is sent without being asked for while `act` runs."""
        self.channel.sent = b""
        act()
        return self.channel.sent


Value = bytes | list["Value"] | None
"""A string or atom, a list, NIL."""

_TOKEN = re.compile(
    rb"""(?P<literal>\{(?P<size>\d+)\}\r\n) | "(?P<quoted>(?:[^"\\\r\n]|\\.)*)"
    | (?P<atom>[^\s(){"]*\[[^\]]*\][^\s(){"]* | [^\s(){"]+)""",
    re.VERBOSE,
)


def parse_responses(data: bytes) -> list[list[Value]]:
    """Each response as its words; the sender must have written them without a fault."""
    position = 0
    found = []
    while position < len(data):
        words, position = _words(data, position, b"\r\n")
        found.append(words)
    return found


def _words(data: bytes, position: int, end: bytes) -> tuple[list[Value], int]:
    words: list[Value] = []
    while not data.startswith(end, position):
        if data.startswith(b" ", position):
            position += 1
        elif data.startswith(b"(", position):
            inner, position = _words(data, position + 1, b")")
            words.append(inner)
        else:
            match = _TOKEN.match(data, position)
            assert match, data[position : position + 50]
            position = match.end()
            if match["literal"]:
                size = int(match["size"])
                assert position + size <= len(data)
                words.append(data[position : position + size])
                position += size
            elif match["quoted"] is not None:
                words.append(re.sub(rb"\\(.)", rb"\1", match["quoted"]))
            else:
                words.append(None if match["atom"] == b"NIL" else match["atom"])
    return words, position + len(end)


def fetched(answer: bytes) -> dict[int, dict[bytes, Value]]:
    """The FETCH responses: items by sequence number."""
    found: dict[int, dict[bytes, Value]] = {}
    for words in parse_responses(answer):
        match words:
            case [b"*", bytes() as number, b"FETCH", list() as items]:
                names, values = items[::2], items[1::2]
                assert len(names) == len(values)
                for name, value in zip(names, values, strict=True):
                    assert isinstance(name, bytes)
                    found.setdefault(int(number), {})[name] = value
    return found
