"""Other mail servers in memory: a scripted SMTP peer behind the Connector port, and a resolver over dictionaries."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field

from mailserver.ports import MX, ConnectFailure, DNSFailure, NoSuchDomain, TLSState
from tests.support.fakes import Ready

Answer = str | bytes | Exception | None
"""A reply without its last CRLF; octets as they are; an exception that reading raises; None: the peer hangs up."""

CLOSE: None = None
HANG = ConnectFailure("no answer within the timeout")
GARBAGE = b"\x00\xff\xfe not SMTP at all\r\n"


@dataclass
class ScriptedServer:
    """Answers each command by the longest prefix of it in `script`. Keeps what it was sent."""

    script: dict[str, Answer] = field(default_factory=dict)
    extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SIZE 1000000")
    name: str = "mx.example.net"
    tls_works: bool = True
    commands: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    sessions: list[ScriptedConnection] = field(default_factory=list)

    def answer(self, command: str) -> Answer:
        defaults: dict[str, Answer] = {
            "GREETING": f"220 {self.name} ESMTP",
            "EHLO": "\r\n".join(
                [f"250-{self.name} hello", *(f"250-{extension}" for extension in self.extensions), "250 HELP"]
            ),
            "HELO": f"250 {self.name}",
            "STARTTLS": "220 2.0.0 go ahead",
            "MAIL": "250 2.1.0 ok",
            "RCPT": "250 2.1.5 ok",
            "DATA": "354 go on",
            "BDAT": "250 2.0.0 taken",
            "BODY": "250 2.0.0 taken",
            "AUTH": "235 2.7.0 welcome",
            "QUIT": "221 2.0.0 bye",
        }
        known = defaults | self.script
        for prefix in sorted(known, key=len, reverse=True):
            if command.upper().startswith(prefix.upper()):
                return known[prefix]
        return "500 5.5.1 what?"


class ScriptedConnection:
    """The Connection port to a `ScriptedServer`."""

    certificate = None

    def __init__(self, server: ScriptedServer, peer: str = "") -> None:
        self._server = server
        self.peer = peer
        self._input = b""
        self._answers: list[Answer] = [server.answer("GREETING")]
        self._in_body = False
        self.tls: TLSState | None = None
        self.closed = False
        self.verified: bool | None = None
        self.timeouts: list[float] = []
        server.sessions.append(self)

    def read(self, timeout: float) -> Awaitable[bytes]:
        self.timeouts.append(timeout)
        return Ready(self._read)

    def _read(self) -> bytes:
        if self.closed:
            raise ConnectFailure("the connection is closed")
        if not self._answers:
            raise ConnectFailure("no answer within the timeout")
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            self._answers = [None]
            return b""
        return answer.encode() + b"\r\n" if isinstance(answer, str) else answer

    def write(self, data: bytes, timeout: float) -> Awaitable[None]:
        return Ready(lambda: self._write(data))

    def _write(self, data: bytes) -> None:
        if self.closed:
            raise ConnectFailure("the connection is closed")
        self._input += data
        while self._take():
            pass

    def _take(self) -> bool:
        end = b"\r\n.\r\n" if self._in_body else b"\r\n"
        head, found, rest = self._input.partition(end)
        if head.startswith(b"BDAT ") and not self._in_body:
            size = int(head.split()[1])
            if len(rest) < size:
                return False
            self._server.commands.append(head.decode())
            self._server.bodies.append(rest[:size])
            self._input = rest[size:]
            self._answers.append(self._server.answer(head.decode()))
            return True
        if self._in_body and self._input.startswith(b".\r\n"):
            head, found, rest = b"", end, self._input[3:]
        if not found:
            return False
        self._input = rest
        if self._in_body:
            self._in_body = False
            self._server.bodies.append(head.replace(b"\r\n..", b"\r\n.") + b"\r\n")
            self._answers.append(self._server.answer("BODY"))
            return True
        command = head.decode()
        self._server.commands.append(command)
        answer = self._server.answer(command)
        self._answers.append(answer)
        self._in_body = command == "DATA" and isinstance(answer, str) and answer.startswith("354")
        return True

    def start_tls(self, server_name: str, timeout: float, *, verify: bool = False) -> Awaitable[None]:
        return Ready(lambda: self._start_tls(server_name, verify))

    def _start_tls(self, server_name: str, verify: bool) -> None:
        self._server.commands.append(f"<TLS {server_name}>")
        self.verified = verify
        if not self._server.tls_works:
            raise ConnectFailure("TLS failed: bad handshake")
        self.tls = TLSState("TLSv1.3", "TLS_AES_256_GCM_SHA384")

    def close(self) -> None:
        self.closed = True


@dataclass
class ScriptedConnector:
    """The Connector port: `servers` by address; what is not there refuses the connection."""

    servers: Mapping[str, ScriptedServer]
    attempts: list[tuple[str, int]] = field(default_factory=list)

    async def connect_any(self, addresses: Sequence[str], port: int, timeout: float) -> ScriptedConnection:
        for address in addresses:
            self.attempts.append((address, port))
            server = self.servers.get(address)
            if server is not None:
                return ScriptedConnection(server, address)
        raise ConnectFailure(f"no connection to {', '.join(addresses)} port {port}: refused")

    async def connect_unix(self, path: str, timeout: float) -> ScriptedConnection:
        return await self.connect_any([path], 0, timeout)


@dataclass
class TableResolver:
    """The Resolver port over tables. A value that is an exception is raised; a missing one is no such domain."""

    exchangers: Mapping[str, Sequence[tuple[int, str]] | Exception] = field(default_factory=dict)
    hosts: Mapping[str, Sequence[str] | Exception] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def mx(self, domain: str) -> Sequence[MX]:
        self.asked.append(f"MX {domain}")
        records = self.exchangers.get(domain)
        if isinstance(records, Exception):
            raise records
        if records is None:
            if domain in self.hosts:
                return []
            raise NoSuchDomain(f"the domain {domain} does not exist")
        return [MX(preference, host) for preference, host in records]

    async def addresses(self, host: str) -> Sequence[str]:
        self.asked.append(f"A {host}")
        found = self.hosts.get(host)
        if isinstance(found, Exception):
            raise found
        if found is None:
            raise NoSuchDomain(f"the domain {host} does not exist")
        return found


SERVFAIL = DNSFailure("SERVFAIL")
