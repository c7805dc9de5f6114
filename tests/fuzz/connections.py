"""Complete sessions over real rooms, without a reactor, and one who watches each octet that they say."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mailserver import imap
from mailserver.accounts import Directory, Visit
from mailserver.config.abuse import Abuse
from mailserver.config.model import IMAP, POP3, SMTP, Limits
from mailserver.delivery.intake import Intake
from mailserver.delivery.router import Router
from mailserver.imap.commands import Authenticate, Enable, Idle, Unauthenticate
from mailserver.mail import Address, Content
from mailserver.policy.failures import Failures
from mailserver.policy.guard import Guard
from mailserver.policy.networks import Networks
from mailserver.policy.sending import SendingLimits
from mailserver.pop3 import events as pop3
from mailserver.ports import TLSState
from mailserver.queue import NewEntry, Queue
from mailserver.sessions import smtp
from mailserver.sessions.imap import IMAPSession
from mailserver.sessions.imap.appends import Appends
from mailserver.sessions.login import Authenticator
from mailserver.sessions.pop3 import POP3Rooms, POP3Session
from mailserver.smtp.events import BodyChunk, Data, Hello
from mailserver.store import Delivery, Store
from tests.fuzz import grammar
from tests.fuzz.dialogues import MESSAGE
from tests.support.fakes import FakeChannel, FakeClock, FakeWorkers, PasswordsOnly, Ready, Space, run

ALICE = Address("alice", "example.org")
HOSTNAME = "mx.example.org"
LIMITS = Limits.model_validate(
    {"errors": 30, "recipients": 5, "message_size": "64 KiB", "imap_line": 8192, "imap_literal": 4096}
)
INBOX = (MESSAGE, b"Subject: two\r\n\r\n.\r\n..\r\n.end", b"")
BUFFERED = 16 * 1024
"""Octets that may wait for the rest of a line when all that came was looked at: the longest line, and some more."""
FLUSHED = 512 * 1024
"""Octets that may wait to be sent at once."""


@dataclass
class WatchedChannel(FakeChannel):
    """`starts`: how often TLS or compression was begun."""

    starts: int = 0

    def flush(self) -> None:
        data = self.engine.data_to_send()
        assert len(data) <= FLUSHED, f"{len(data)} octets at once"
        self.sent += data

    def start_tls(self) -> None:
        super().start_tls()
        self.starts += 1

    def start_compression(self) -> None:
        super().start_compression()
        self.starts += 1


class Talk:
    """One connection. `said` has the kind of each event and the kind of its answer: no more than any run repeats."""

    def __init__(self, session: Any, channel: WatchedChannel, clock: FakeClock, form: Form) -> None:
        self.session, self.channel, self.engine = session, channel, session.engine
        channel.engine = self.engine
        self.said: list[tuple[str, object]] = []
        self._clock = clock
        self._form = form
        run(session.opened())
        self._note("greeting", form.greeting(self._taken()))

    def hear(self, pieces: Sequence[bytes]) -> None:
        """One turn of the client."""
        for piece in pieces:
            if self.channel.closed:
                return
            self.engine.receive_data(piece)
            while not self.channel.closed and (event := self.engine.next_event()) is not None:
                self._note_all(self._form.unasked(self._taken()))
                run(self.session.handle(event))
                self._note(type(event).__name__, self._form.answer(event, self._taken(), self.channel.closed))
            self._note_all(self._form.unasked(self._taken()))
            assert self.channel.closed or self.engine.buffered <= BUFFERED, self.engine.buffered
        self._clock.advance(3)
        self._note_all(self._form.news(self._taken()))

    def end(self, *, in_time: bool) -> None:
        if not in_time and not self.channel.closed:
            self.session.timed_out()
            self._note("timeout", self._form.farewell(self._taken()))
        self.channel.closed = True
        self.session.lost()
        self._clock.advance(3600)

    def _taken(self) -> bytes:
        self.channel.flush()
        data, self.channel.sent = self.channel.sent, b""
        return data

    def _note(self, event: str, answer: object) -> None:
        # when a session is woken between its commands depends on the pieces
        if answer and event not in ("BodyChunk", "LiteralChunk", "Woken"):
            self.said.append((event, answer))

    def _note_all(self, answers: Sequence[object]) -> None:
        """What no event asked for, one by one: how often it is looked for depends on the pieces."""
        self.said += [("", answer) for answer in answers]


class Form:
    """What may be said when: each gives what every run repeats. AssertionError for all else."""

    def greeting(self, data: bytes) -> object:
        raise NotImplementedError

    def answer(self, event: Any, data: bytes, closed: bool) -> object:
        raise NotImplementedError

    def unasked(self, data: bytes) -> Sequence[object]:
        """Between two events."""
        assert data == b"", data
        return ()

    def news(self, data: bytes) -> Sequence[object]:
        """While time passes."""
        assert data == b"", data
        return ()

    def farewell(self, data: bytes) -> object:
        raise NotImplementedError


class SMTPForm(Form):
    def greeting(self, data: bytes) -> object:
        assert data.startswith(b"220 mx.example.org "), data
        return self._codes(data, 1)

    def answer(self, event: Any, data: bytes, closed: bool) -> object:
        begins_chunks = isinstance(event, Data) and event.chunked and not data  # octets follow without a go-ahead
        (code,) = self._codes(data, 0 if isinstance(event, BodyChunk) or begins_chunks else 1) or [b""]
        assert data.count(b"\n") <= 1 or (isinstance(event, Hello) and event.extended), data
        assert not closed or code in (b"221", b"421") or getattr(event, "fatal", False), data
        return code

    def farewell(self, data: bytes) -> object:
        assert data.startswith(b"421 "), data
        return self._codes(data, 1)

    @staticmethod
    def _codes(data: bytes, count: int) -> list[bytes]:
        replies = grammar.smtp_replies(data)
        assert len(replies) == count, data
        return [reply[:3] for reply in replies]


class POP3Form(Form):
    LISTS = (pop3.Capa, pop3.Mechanisms, pop3.Retr, pop3.Top)

    def greeting(self, data: bytes) -> object:
        return grammar.pop3_answer(data, multiline=False, exchange=False)

    def answer(self, event: Any, data: bytes, closed: bool) -> object:
        lists = isinstance(event, self.LISTS) or event in (pop3.List(None), pop3.Uidl(None), pop3.Lang(None))
        exchange = isinstance(event, pop3.Auth | pop3.AuthResponse)
        return grammar.pop3_answer(data, multiline=lists, exchange=exchange), data.count(b"\r\n")

    def farewell(self, data: bytes) -> object:
        assert data == b"", data
        return None


class IMAPForm(Form):
    GO_ON = b"+ OK\r\n"

    def __init__(self) -> None:
        self._utf8 = False

    def greeting(self, data: bytes) -> object:
        assert data.startswith(b"* OK "), data
        return self._kinds(data)

    def answer(self, event: Any, data: bytes, closed: bool) -> object:
        if isinstance(event, imap.Request) and isinstance(event.command, Enable):
            self._utf8 = self._utf8 or bool({"IMAP4REV2", "UTF8=ACCEPT"}.intersection(event.command.capabilities))
        if isinstance(event, imap.Request) and isinstance(event.command, Unauthenticate):
            self._utf8 = False
        responses = grammar.imap_responses(data, utf8=self._utf8)
        last = responses[-1] if responses else b""
        tag: str | None = getattr(event, "tag", None)
        tagged = [response for response in responses if response[:2] not in (b"* ", b"+ ")]
        if closed:
            assert any(response.startswith(b"* BYE ") for response in responses), data
        elif last.startswith(b"+ "):
            assert self._may_go_on(event), data
        elif isinstance(event, imap.LiteralChunk):
            assert data == b"", data
        elif isinstance(event, imap.AppendStarted | imap.AppendNext | imap.AppendPart) and not data:
            pass
        elif isinstance(event, imap.Woken):
            assert all(response.startswith(b"* ") for response in responses), data
        elif tag is None:
            assert [response.split()[1] for response in responses] == [b"BAD"], data
        else:
            assert tagged and tagged[-1] is last, data
        assert len(tagged) <= 1, data
        assert all(response.startswith(f"{tag} ".encode()) for response in tagged), data
        return self._kinds(data)

    def unasked(self, data: bytes) -> Sequence[object]:
        lines = data.splitlines(keepends=True)
        assert all(line == self.GO_ON for line in lines), data
        return lines

    def news(self, data: bytes) -> Sequence[object]:
        assert all(response.startswith(b"* ") for response in grammar.imap_responses(data, utf8=self._utf8)), data
        return self._kinds(data)

    def farewell(self, data: bytes) -> object:
        assert data.startswith(b"* BYE "), data
        return self._kinds(data)

    @staticmethod
    def _may_go_on(event: Any) -> bool:
        if isinstance(event, imap.Request):
            return isinstance(event.command, Authenticate | Idle)
        return isinstance(event, imap.AppendStarted | imap.AppendNext | imap.AppendPart | imap.AuthResponse)

    def _kinds(self, data: bytes) -> list[tuple[list[bytes], int]]:
        responses = grammar.imap_responses(data, utf8=self._utf8)
        return [(response.split(maxsplit=3)[:2], len(response)) for response in responses]


class Passwords(PasswordsOnly):
    """Without the time that hashing takes."""

    def authenticate(self, username: str, password: str, visit: Visit) -> Address | None:
        return ALICE if (username.lower(), password) == (str(ALICE), "secret") else None


@dataclass
class House:
    """All that sessions need, in one directory."""

    root: Path
    directory: Directory
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.store = Store(self.root / "mail", hostname=HOSTNAME)
        self.workers = FakeWorkers()
        self.authenticator = Authenticator(Passwords(), self.workers, self.clock, Failures())
        self.queue: Queue | None = None

    def smtp(self, *, tls: bool) -> Talk:
        return self._smtp(smtp.SMTPSession, tls=tls)

    def submission(self, *, tls: bool) -> Talk:
        return self._smtp(smtp.SubmissionSession, tls=tls)

    def pop3(self, *, tls: bool) -> Talk:
        rooms = POP3Rooms(
            hostname=HOSTNAME,
            limits=LIMITS,
            policy=POP3(),
            authenticator=self.authenticator,
            open_account=self.store.account,
            workers=self.workers,
            clock=self.clock,
        )
        return self._reader(partial(POP3Session, rooms=rooms), POP3Form(), tls=tls)

    def imap(self, *, tls: bool) -> Talk:
        session = partial(
            IMAPSession,
            hostname=HOSTNAME,
            limits=LIMITS,
            spool=self.root,
            authenticator=self.authenticator,
            open_account=self.store.account,
            workers=self.workers,
            clock=self.clock,
            appends=Appends(self.workers),
            policy=IMAP(),
        )
        return self._reader(session, IMAPForm(), tls=tls)

    def _channel(self, *, tls: bool) -> WatchedChannel:
        return WatchedChannel(peer="192.0.2.1", loopback=False, tls=TLSState("TLSv1.3", "X") if tls else None)

    def _smtp(self, kind: Callable[..., Any], *, tls: bool) -> Talk:
        self.queue = Queue(self.root / "queue")
        channel = self._channel(tls=tls)
        router = Router(self.directory, HOSTNAME, workers=self.workers, clock=self.clock)
        rooms = smtp.SMTPRooms(
            hostname=HOSTNAME,
            limits=LIMITS,
            policy=SMTP(),
            spool=self.root,
            router=router,
            intake=Intake(
                hostname=HOSTNAME,
                router=router,
                clock=self.clock,
                deliver=self.workers.grouped(self.store.deliver),
                enqueue=self.workers.grouped(self._queue),
                queued=lambda: None,
            ),
            senders=self.directory,
            authenticator=self.authenticator,
            flush=lambda domain, subdomains: Ready(lambda: 2 if domain == "example.net" else 0),
            proxies=Networks([]),
            guard=(guard := Guard(Abuse(), self.clock, self.workers)),
            sending=SendingLimits(Abuse(), self.clock, self.workers, guard),
            has_room=self.store.has_room,
            space=Space(10**12),
            workers=self.workers,
            clock=self.clock,
        )
        return Talk(kind(channel, rooms, tls_available=True), channel, self.clock, SMTPForm())

    def _queue(self, batch: Sequence[Sequence[NewEntry]]) -> list[list[str] | Exception]:
        taken = self.queue.add_and_take(batch, room=0)
        return [each if isinstance(each, Exception) else [one.entry.id for one in each] for each in taken]

    def _reader(self, kind: Callable[..., Any], form: Form, *, tls: bool) -> Talk:
        for message in INBOX:
            self.store.deliver([Delivery(ALICE, b"", Content(message))])
        channel = self._channel(tls=tls)
        return Talk(kind(channel, tls_available=True), channel, self.clock, form)

    def close(self) -> None:
        if self.queue is not None:
            self.queue.close()


class Troubles(logging.Handler):
    """Errors that the rooms log: what a client says must cause none."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))
