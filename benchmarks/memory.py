"""What a connection that idles costs the server: octets of memory (PSS) for each.

    python -m benchmarks.memory [--connections N] [--rounds N] [--results DIR]

The connections are opened one after another, by as many users as `--users`; each logs in, selects its mailbox, and
idles. Of each step the memory is measured when all have done it. Others came before that stay open, so that what the
server needs only once does not count. In clear and with TLS, the server being started anew.
"""

from __future__ import annotations

import argparse
import resource
import socket
import ssl
import tempfile
import time
from pathlib import Path

import trustme

from benchmarks import corpus
from benchmarks.peers import MAIL_OWNER, PASSWORD, Mailserver
from benchmarks.report import RESULTS, Report

FIRST = 500
MESSAGES = 20


class Connections:
    """All that are open, in step."""

    def __init__(self, server: Mailserver, users: list[str], tls: ssl.SSLContext | None) -> None:
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
    ("connected", None),
    ("logged in", ('a LOGIN "{user}" "' + PASSWORD + '"', b"a OK")),
    ("a mailbox selected", ("b SELECT INBOX", b"b OK")),
    ("idling", ("c IDLE", b"+ ")),
)


def measure(server: Mailserver, users: list[str], tls: ssl.SSLContext | None, count: int, report: Report) -> None:
    name = "in clear" if tls is None else "with TLS"
    first, others = Connections(server, users, tls), Connections(server, users, tls)
    for connections, opened in ((first, FIRST), (others, count)):
        before = _settled(server)
        connections.open(opened)
        for step, command in STEPS:
            if command is not None:
                connections.ask(*command)
            if connections is others:
                each = (_settled(server) - before) / count
                report.add(server.name, {(f"a connection {name}, {step}", "octets"): each})
    others.close()
    first.close()
    server.stop()
    server.start()


def _settled(server: Mailserver) -> int:
    time.sleep(2)
    return server.memory()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to keep them")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    report = Report()
    users = [f"u{number}@bench.test" for number in range(options.users)]
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        directory = Path(temporary)
        authority = trustme.CA()
        issued = authority.issue_cert("localhost")
        certificate, key = directory / "certificate.pem", directory / "key.pem"
        issued.cert_chain_pems[0].write_to_path(certificate)
        key.touch(0o600)  # no other may read it
        issued.private_key_pem.write_to_path(key)
        tls = ssl.create_default_context()
        authority.configure_trust(tls)
        with Mailserver(
            directory / "ms",
            tuple(users),
            certificate=(certificate, key),
            connections=2 * (options.connections + FIRST),
            indexing=False,
        ) as server:
            for user in users:
                corpus.maildir(server.maildir(user), MESSAGES, MAIL_OWNER)
            for context in (None, tls) * options.rounds:
                measure(server, users, context, options.connections, report)
    print(report.table())
    report.save(options.results, "memory", connections=options.connections, users=options.users)


if __name__ == "__main__":
    main()
