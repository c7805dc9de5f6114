"""Many messages: sent by SMTP over some connections at once, or put into this project's queue.

`send` serves for servers that want a login and for those that do not. What it costs is small beside what a server does,
and the same for each: MAIL, RCPT and DATA go out in one write (RFC 2920), then the content.
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mailserver.mail import Content, Envelope, Recipient, parse_mailbox
from mailserver.mail.trace import Arrival, received_field
from mailserver.queue import NewEntry, Queue

_REPLY = re.compile(rb"(?:\d{3}-[^\n]*\n)*(\d{3})[ \r][^\n]*\n")


@dataclass(frozen=True, slots=True)
class Mail:
    """`content` in CRLF form, with a line end at its end and no line that begins with a dot."""

    sender: str
    recipient: str
    content: bytes


def message(sender: str, size: int) -> bytes:
    """Of about so many octets, header included."""
    header = (
        f"From: <{sender}>\r\nTo: undisclosed-recipients:;\r\nSubject: benchmark\r\n"
        "Date: Thu, 01 Jan 2026 12:00:00 +0000\r\nMessage-ID: <1@bench.test>\r\n\r\n"
    ).encode()
    line = b"x" * 70 + b"\r\n"
    return header + line * max(1, (size - len(header)) // len(line))


def send(port: int, mails: Iterable[Mail], *, sessions: int, login: str = "", password: str = "") -> float:
    """Returns when all are taken, and gives the moment when all were connected and the first one was begun.

    Raises RuntimeError for a reply that is not the expected one.
    """
    return asyncio.run(_send(port, iter(mails), sessions, login, password))


def fill(directory: Path, mails: Iterable[Mail], at_once: int = 1000) -> None:
    """Puts messages into a queue that no server has open. Raises RuntimeError."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    queue = Queue(directory)
    rest = iter(mails)
    while batch := list(islice(rest, at_once)):
        for done in queue.add([_entry(mail) for mail in batch]):
            if isinstance(done, Exception):
                raise RuntimeError("the queue cannot be filled") from done
    queue.close()


def _entry(mail: Mail) -> NewEntry:
    now = time.time()
    arrival = Arrival("client.bench.test", "127.0.0.1", "ESMTPA", "1.1")
    header = received_field(arrival, by="ms.bench.test", when=now, recipient=parse_mailbox(mail.recipient))
    envelope = Envelope(parse_mailbox(mail.sender), (Recipient(parse_mailbox(mail.recipient)),))
    return NewEntry(envelope, Content(mail.content), header, now)


async def _send(port: int, mails: Iterator[Mail], sessions: int, login: str, password: str) -> float:
    loop = asyncio.get_running_loop()
    opened: list[_Session] = []
    for _ in range(sessions):
        _, session = await loop.create_connection(lambda: _Session(mails, login, password), "127.0.0.1", port)
        await session.ready
        opened.append(session)
    begin = time.monotonic()
    for session in opened:
        session.begin()
    await asyncio.gather(*(session.done for session in opened))
    return begin


class _Session(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, mails: Iterator[Mail], login: str, password: str) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()
        self._mails = mails
        self._login = base64.b64encode(f"\0{login}\0{password}".encode()) if login else b""
        self._buffer = b""
        self._expected = [b"220"]
        self._then: Callable[[], None] = self._greeted
        self._content = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the server hung up: {exc}")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        position = 0
        while reply := _REPLY.match(self._buffer, position):
            position = reply.end()
            if not self._expected or reply[1] != self._expected.pop(0):
                self._fail(f"the server said {reply[0]!r}")
                self.transport.abort()
                return
            if not self._expected:
                self._then()
        self._buffer = self._buffer[position:]

    def _fail(self, what: str) -> None:
        for waiting in (self.ready, self.done):
            if not waiting.done():
                waiting.set_exception(RuntimeError(what))

    def _say(self, data: bytes, expected: list[bytes], then: Callable[[], None]) -> None:
        self._expected, self._then = expected, then
        self.transport.write(data)

    def _greeted(self) -> None:
        self._say(b"EHLO client.bench.test\r\n", [b"250"], self._log_in if self._login else self._is_ready)

    def _log_in(self) -> None:
        self._say(b"AUTH PLAIN " + self._login + b"\r\n", [b"235"], self._is_ready)

    def _is_ready(self) -> None:
        self.ready.set_result(None)

    def begin(self) -> None:
        """The next message; none is left: the end."""
        mail = next(self._mails, None)
        if mail is None:
            self._say(b"QUIT\r\n", [b"221"], self._end)
            return
        self._content = mail.content
        envelope = f"MAIL FROM:<{mail.sender}>\r\nRCPT TO:<{mail.recipient}>\r\nDATA\r\n".encode()
        self._say(envelope, [b"250", b"250", b"354"], self._data)

    def _data(self) -> None:
        self._say(self._content + b".\r\n", [b"250"], self.begin)

    def _end(self) -> None:
        self.done.set_result(None)
        self.transport.close()
