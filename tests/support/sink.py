"""An SMTP server for tests that does at each stage what its script says.

`script["RCPT"] = "550 5.1.1 No such user"` answers every RCPT so; a list answers in turn, and politely after its end; a
function of the command's argument decides itself. `CLOSE` and `HANG` are answers too. Stages: CONNECT, each command by
its verb, and BODY for the end of the data.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

CLOSE = "close"
HANG = "hang"
PATIENCE = 60.0
"""Seconds for what comes within one where nobody else computes: only a test that fails waits so long."""

Answer = str | list[str] | Callable[[str], str]

POLITE: Mapping[str, str] = {
    "CONNECT": "220 sink.test ESMTP",
    "EHLO": "250 sink.test",  # stands for the list of keywords
    "STARTTLS": "220 2.0.0 Go on",
    "AUTH": "235 2.7.0 Welcome",
    "DATA": "354 Go on",
    "BODY": "250 2.0.0 Taken",
    "QUIT": "221 2.0.0 Bye",
}
_ADDRESS = re.compile(r"<([^>]*)>")


@dataclass
class Taken:
    """A message that was answered positively at its end. `data` as on the wire, dots unstuffed."""

    sender: str
    recipients: list[str]
    data: bytes
    hello: str
    tls: bool


@dataclass
class SMTPSink:
    """`with SMTPSink() as sink: ...`; listens on `host`:`port`, one thread for each connection."""

    script: dict[str, Answer] = field(default_factory=dict)
    extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SIZE 100000000", "ENHANCEDSTATUSCODES")
    host: str = "127.0.0.1"
    port: int = 0
    tls: ssl.SSLContext | None = None  # STARTTLS is offered when there is one
    taken: list[Taken] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> SMTPSink:
        self._socket = socket.create_server((self.host, self.port))
        self.port = self._socket.getsockname()[1]
        self._lock = threading.Condition()
        self._stopped = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, name="sink", daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._stopped.set()
        for listening_or_open in (self._socket, *self._open):
            try:
                listening_or_open.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join(5)
        self._socket.close()

    def wait(self, messages: int, timeout: float = PATIENCE) -> list[Taken]:
        """The messages taken, as soon as there are so many; AssertionError when they do not come."""
        with self._lock:
            came = self._lock.wait_for(lambda: len(self.taken) >= messages, timeout)
            assert came, f"{len(self.taken)} of {messages} messages came within {timeout} s"
            return list(self.taken)

    def wait_for_command(self, start: str, timeout: float = PATIENCE) -> None:
        """Returns when a client has sent a command that starts so."""
        with self._lock:
            came = self._lock.wait_for(lambda: any(c.startswith(start) for c in self.commands), timeout)
            assert came, f"no {start!r} among {self.commands}"

    @property
    def open(self) -> int:
        """Connections, now."""
        return len(self._open)

    def answer(self, stage: str, argument: str = "") -> str:
        """What the script says now."""
        with self._lock:
            scripted = self.script.get(stage)
            if isinstance(scripted, list):
                scripted = scripted.pop(0) if scripted else None
        if callable(scripted):
            return scripted(argument)
        return scripted if scripted is not None else POLITE.get(stage, "250 2.0.0 OK")

    def note(self, command: str) -> None:
        with self._lock:
            self.commands.append(command)
            self._lock.notify_all()

    def take(self, message: Taken) -> None:
        with self._lock:
            self.taken.append(message)
            self._lock.notify_all()

    def hang(self) -> None:
        self._stopped.wait()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,), name="sink connection", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        self._open.add(connection)
        try:
            _Conversation(self, connection).run()
        except OSError:
            pass
        finally:
            self._open.discard(connection)
            connection.close()


class _Closed(OSError):
    """The script wants the connection closed, or the client has closed it."""


class _Conversation:
    def __init__(self, sink: SMTPSink, connection: socket.socket) -> None:
        self.sink = sink
        self.connection = connection
        self.buffer = b""
        self.hello = ""
        self.secure = False
        self.reset()

    def reset(self) -> None:
        self.sender: str | None = None
        self.recipients: list[str] = []

    def run(self) -> None:
        self.say("CONNECT")
        while True:
            line = self.read_until(b"\r\n").decode("utf-8", "replace")
            verb, _, argument = line.partition(" ")
            self.sink.note(f"{verb.upper()} {argument}".rstrip())
            getattr(self, f"on_{verb.lower()}", self.on_other)(verb.upper(), argument)

    def on_ehlo(self, verb: str, argument: str) -> None:
        self.hello = argument
        self.reset()
        answer = self.sink.answer(verb, argument)
        if answer == POLITE["EHLO"]:
            keywords = [*self.sink.extensions, *(["STARTTLS"] if self.sink.tls and not self.secure else [])]
            answer = "\n".join(["250-sink.test", *(f"250-{word}" for word in keywords), "250 HELP"])
        self.send(answer)

    def on_helo(self, verb: str, argument: str) -> None:
        self.hello = argument
        self.reset()
        self.say(verb, argument)

    def on_starttls(self, verb: str, argument: str) -> None:
        if self.say(verb) and self.sink.tls is not None:
            self.connection = self.sink.tls.wrap_socket(self.connection, server_side=True)
            self.buffer, self.secure = b"", True
            self.reset()

    def on_mail(self, verb: str, argument: str) -> None:
        if self.say(verb, argument):
            self.sender = self.address(argument)

    def on_rcpt(self, verb: str, argument: str) -> None:
        if self.say(verb, argument):
            self.recipients.append(self.address(argument))

    def on_data(self, verb: str, argument: str) -> None:
        if not self.recipients:
            self.send("503 5.5.1 No recipients")
            return
        if not self.say(verb):
            return
        self.buffer = b"\r\n" + self.buffer  # so that the first line is like any other
        data = (self.read_until(b"\r\n.\r\n") + b"\r\n").replace(b"\r\n..", b"\r\n.")[2:]
        message = Taken(self.sender or "", self.recipients, data, self.hello, self.secure)
        self.reset()
        answer = self.sink.answer("BODY")
        if answer.startswith("2"):
            self.sink.take(message)
        self.send(answer)

    def on_rset(self, verb: str, argument: str) -> None:
        self.reset()
        self.say(verb)

    def on_quit(self, verb: str, argument: str) -> None:
        self.say(verb)
        raise _Closed

    def on_other(self, verb: str, argument: str) -> None:
        self.say(verb, argument)

    @staticmethod
    def address(argument: str) -> str:
        match = _ADDRESS.search(argument)
        return match[1] if match else argument

    def say(self, stage: str, argument: str = "") -> bool:
        """Sends the scripted answer; true if it is a positive one."""
        answer = self.sink.answer(stage, argument)
        self.send(answer)
        return answer[:1] in "23"

    def send(self, answer: str) -> None:
        if answer == HANG:
            self.sink.hang()
        if answer in (CLOSE, HANG):
            raise _Closed
        self.connection.sendall("".join(line + "\r\n" for line in answer.split("\n")).encode())

    def read_until(self, end: bytes) -> bytes:
        searched = 0
        while (position := self.buffer.find(end, searched)) < 0:
            searched = max(0, len(self.buffer) - len(end))
            self.receive()
        found, self.buffer = self.buffer[:position], self.buffer[position + len(end) :]
        return found

    def receive(self) -> None:
        data = self.connection.recv(1 << 18)
        if not data:
            raise _Closed
        self.buffer += data


def wait_until(condition: Callable[[], object], timeout: float = PATIENCE, what: str = "it") -> None:
    """Returns as soon as the condition holds; AssertionError when it does not come to that."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {timeout} s"
        time.sleep(0.02)
