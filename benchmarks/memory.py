"""What an IMAP connection that idles costs the server, beside Dovecot: octets of memory (PSS) for each.

    python -m benchmarks.memory [--connections N] [--users N] [--rounds N] [--workers N ...] [--results DIR]

The connections are opened one after another, by as many users as `--users`; each logs in, selects its mailbox, and
idles. Of each step the memory of all processes of the server is measured when all have done it. Others came before,
a quarter as many, and stay open, so that what the server needs only once does not count. In clear and with TLS, each
server being started anew, while the others do not run.
"""

from __future__ import annotations

import argparse
import resource
import socket
import ssl
from pathlib import Path

import trustme

from benchmarks import corpus
from benchmarks.peers import MAIL_OWNER, PASSWORD, Dovecot, Mailserver
from benchmarks.report import Figures, Report
from benchmarks.run import Benchmark, Option, installed, ours

Server = Mailserver | Dovecot

MESSAGES = 20


class Connections:
    """All that are open, in step."""

    def __init__(self, server: Server, users: list[str], tls: ssl.SSLContext | None) -> None:
        self._server = server
        self._users = users
        self._tls = tls
        self._open: list[socket.socket] = []

    def open(self, count: int) -> None:
        for _ in range(count):
            plain = socket.create_connection(
                ("127.0.0.1", self._server.imap if self._tls is None else self._server.imaps), 60
            )
            self._open.append(plain if self._tls is None else self._tls.wrap_socket(plain, server_hostname="localhost"))
            _read(self._open[-1], b"* OK")

    def ask(self, command: str, ready: bytes) -> None:
        """Each the same, `{user}` being its own."""
        for number, connection in enumerate(self._open):
            user = self._users[number % len(self._users)]
            connection.sendall(command.format(user=user).encode() + b"\r\n")
            _read(connection, ready)

    def close(self) -> None:
        for connection in self._open:
            connection.close()
        self._open = []


def _read(connection: socket.socket, wanted: bytes) -> None:
    data = b""
    while wanted not in data or not data.endswith(b"\n"):
        data += connection.recv(65536) or _gone(data)


def _gone(data: bytes) -> bytes:
    raise RuntimeError(f"the server hung up: {data[-200:]!r}")


STEPS = (
    ("logged in", ('a LOGIN "{user}" "' + PASSWORD + '"', b"a OK")),
    ("a mailbox selected", ("b SELECT INBOX", b"b OK")),
    ("idling", ("c IDLE", b"+ ")),
)


def figures(server: Server, users: list[str], tls: ssl.SSLContext | None, count: int) -> Figures:
    """One round on one server."""
    name = "in clear" if tls is None else "with TLS"
    found = {}
    with server:
        first, others = Connections(server, users, tls), Connections(server, users, tls)
        first.open(max(1, count // 4))
        for _, command in STEPS:
            first.ask(*command)
        before = server.memory()
        others.open(count)
        found[f"a connection {name}, connected", "octets"] = (server.memory() - before) / count
        for step, command in STEPS:
            others.ask(*command)
            found[f"a connection {name}, {step}", "octets"] = (server.memory() - before) / count
        others.close()
        first.close()
    return found


def certificate(directory: Path) -> tuple[Path, Path, ssl.SSLContext]:
    """The files of one and of its key, and a client's context that trusts it."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    file, key = directory / "certificate.pem", directory / "key.pem"
    issued.cert_chain_pems[0].write_to_path(file)
    key.touch(0o600)  # no other may read it
    issued.private_key_pem.write_to_path(key)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return file, key, context


def measure(report: Report, directory: Path, options: argparse.Namespace) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    users = [f"u{number}@bench.test" for number in range(options.users)]
    file, key, context = certificate(directory)
    settings = {"certificate": (file, key), "connections": 2 * options.connections + 100}
    servers: list[Server] = [*ours(directory, options.workers, tuple(users), indexing=False, **settings)]
    servers += installed(lambda: Dovecot(directory / "dv", **settings))
    for server in servers:
        for user in users:
            corpus.maildir(server.maildir(user), MESSAGES, MAIL_OWNER)
    for _ in range(options.rounds):
        for tls in (None, context):
            for server in servers:
                report.add(server.name, figures(server, users, tls, options.connections))


BENCHMARK = Benchmark(
    "memory",
    __doc__,
    measure,
    [Option("connections", 2000, quick=20), Option("users", 20, quick=2)],
    rounds=1,
    by_workers=True,
)

if __name__ == "__main__":
    BENCHMARK.main()
