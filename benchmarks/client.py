"""A lean IMAP client: sends a command, gathers the octets of its answer, reads them only when asked.

What it costs is small beside what a server does, and the same for each.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping
from typing import TypeAlias

Value: TypeAlias = "bytes | list[Value] | None"
Answers = Mapping[str, "list[int] | list[Value] | dict[int, dict[bytes, Value]]"]
"""By command."""

_CHUNK = 1024 * 1024
_TOKEN = re.compile(
    rb'\s*(?:(?P<open>\()|(?P<close>\))|"(?P<quoted>(?:[^"\\]|\\.)*)"|\{(?P<literal>\d+)\}\r\n'
    rb"|(?P<atom>[^\s()\"{\[]+(?:\[[^\]]*\])?))"
)


class Client:
    """A connection, logged in."""

    def __init__(self, port: int, user: str, password: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 600)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._count = 0
        self._buffer = bytearray(_CHUNK)
        self.line()
        self.ask(f'LOGIN "{user}" "{password}"')

    def ask(self, command: str | bytes) -> bytes:
        """The whole answer, the tagged line at its end. Raises RuntimeError unless that is OK."""
        self._count += 1
        tag = b"t%06d" % self._count
        self.socket.sendall(b"%b %b\r\n" % (tag, command.encode() if isinstance(command, str) else command))
        pieces = bytearray()
        while True:
            size = self.socket.recv_into(self._buffer)
            if not size:
                raise RuntimeError(f"the server hung up: {bytes(pieces[-200:])!r}")
            pieces += memoryview(self._buffer)[:size]
            if pieces.endswith(b"\r\n"):
                last = pieces.rfind(b"\n", 0, len(pieces) - 1) + 1
                if pieces.startswith(tag, last):
                    break
        if not pieces.startswith(b"%b OK" % tag, last):
            raise RuntimeError(f"{command!r} was answered {bytes(pieces[last:])!r}")
        return bytes(pieces)

    def milliseconds(self, command: str | bytes, *, messages: int | None = None, found: int | None = None) -> float:
        """How long the answer takes. Raises RuntimeError unless it is about so many `messages`, in lines of their own,
        or names so many that were `found`, in one line.
        """
        begin = time.perf_counter()
        answer = self.ask(command)
        taken = (time.perf_counter() - begin) * 1000
        if messages is not None and (count := len(re.findall(rb"^\* \d+ FETCH \(", answer, re.MULTILINE))) != messages:
            raise RuntimeError(f"{command!r} was answered with {count} messages, not {messages}")
        line = re.search(rb"^\* (?!OK ).*", answer, re.MULTILINE)  # the server may have said before how far it is
        named = len(re.findall(rb"\d+", line[0])) if found is not None and line is not None else None
        if named != found:
            raise RuntimeError(f"{command!r} was answered with {named} numbers, not {found}")
        return taken

    def line(self) -> bytes:
        """What comes next, up to a line's end; for what is not the answer to a command."""
        line = bytearray()
        while not line.endswith(b"\n"):
            piece = self.socket.recv(65536)
            if not piece:
                raise RuntimeError("the server hung up")
            line += piece
        return bytes(line)

    def close(self) -> None:
        self.ask("LOGOUT")
        self.socket.close()


def exists(answer: bytes) -> int:
    """How many messages the answer to SELECT tells of."""
    found = re.search(rb"^\* (\d+) EXISTS", answer, re.MULTILINE)
    return int(found[1]) if found else 0


def searched(answer: bytes) -> list[int]:
    """The numbers of a SEARCH or SORT answer."""
    found = re.search(rb"^\* (?:SEARCH|SORT)([ \d]*)", answer, re.MULTILINE)
    return [int(number) for number in found[1].split()] if found else []


def threads(answer: bytes) -> list[Value]:
    """The threads of a THREAD answer, in their order."""
    found = re.search(rb"^\* THREAD *([^\r\n]*)", answer, re.MULTILINE)
    text, position, said = (found[1] if found else b""), 0, []
    while position < len(text):
        thread, position = _value(text, position)
        said.append(thread)
    return said


def fetched(answer: bytes) -> dict[int, dict[bytes, Value]]:
    """Each message's items, by sequence number, in a form in which answers of equal meaning are equal."""
    messages: dict[int, dict[bytes, Value]] = {}
    position = 0
    while begin := re.compile(rb"\* (\d+) FETCH ").match(answer, position):
        items, position = _value(answer, begin.end())
        assert isinstance(items, list)
        message = messages.setdefault(int(begin[1]), {})
        for name, value in zip(items[::2], items[1::2], strict=True):
            assert isinstance(name, bytes)
            message[name.upper()] = _meaning(name.upper(), value)
        position = answer.index(b"\n", position) + 1
    return messages


def compare_answers(ours: Answers, theirs: Answers) -> None:
    """Raises RuntimeError at the first command that two servers do not answer in the same sense."""
    for command, our in ours.items():
        their = theirs[command]
        if our == their:
            continue
        detail = f"{str(our)[:500]}\n{str(their)[:500]}"
        if isinstance(our, dict) and isinstance(their, dict):
            different = [number for number in our.keys() | their.keys() if our.get(number) != their.get(number)]
            first = min(different)
            detail = f"{len(different)} messages, as {first}:\n{our.get(first)}\n{their.get(first)}"
        raise RuntimeError(f"{command} is answered differently: {detail}")


def _value(answer: bytes, position: int) -> tuple[Value, int]:
    stack: list[list[Value]] = [[]]
    while True:
        token = _TOKEN.match(answer, position)
        if token is None:
            raise RuntimeError(f"not IMAP: {answer[position : position + 80]!r}")
        position = token.end()
        if token["open"]:
            stack.append([])
            continue
        if token["close"]:
            done = stack.pop()
            stack[-1].append(done)
        elif token["literal"]:
            size = int(token["literal"])
            stack[-1].append(answer[position : position + size])
            position += size
        elif token["atom"]:
            stack[-1].append(None if token["atom"].upper() == b"NIL" else token["atom"])
        else:
            stack[-1].append(re.sub(rb"\\(.)", rb"\1", token["quoted"]))
        if len(stack) == 1:
            return stack[0][0], position


def _meaning(name: bytes, value: Value) -> Value:
    if name == b"FLAGS" and isinstance(value, list):
        return sorted((flag for flag in value if flag != b"\\Recent"), key=repr)
    if name == b"BODYSTRUCTURE":
        return _without_case(value)
    return value


def _without_case(value: Value) -> Value:
    """Words of a structure mean the same in either case; extension data at its end may be left out."""
    if isinstance(value, list):
        items = [_without_case(item) for item in value]
        while items and items[-1] is None:
            items.pop()
        return items
    return value if value is None else value.upper()
