"""Two of our servers that relay to each other, and what Alice of the first one is told of her mail."""

from __future__ import annotations

import email
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.dns import NameServer
from tests.support.server import ALICE, RunningServer

CAROL, NOBODY = "carol@other.test", "nobody@other.test"


@contextmanager
def two_servers(tmp_path: Path) -> Iterator[tuple[RunningServer, RunningServer]]:
    """`here` hosts example.test, `there` other.test; each relays to the other."""
    with NameServer() as dns:
        here = RunningServer(tmp_path / "here")
        there = RunningServer(tmp_path / "there", hostname="mail.other.test", accounts={CAROL: []})
        for server, other in ((here, there), (there, here)):
            relay = {"resolver": [dns.address], "port": other.ports.smtp, "retry_first": "1 s", "retry_max": "1 s"}
            server.write_configuration({"relay": relay})
        for domain in ("example.test", "other.test"):
            dns.mail_domain(domain)
        with here, there:
            yield here, there


def reports(server: RunningServer) -> list[tuple[Any, Any]]:
    """The fields of each message and its first recipient, of the reports that Alice has."""
    found = []
    for message in map(email.message_from_bytes, server.messages(ALICE)):
        if message.get_content_type() == "multipart/report":
            about, recipient, *_ = message.get_payload()[1].get_payload()  # type: ignore[union-attr, index]
            found.append((about, recipient))
    return found


def submit(server: RunningServer, to: str, *, mail: list[str], rcpt: list[str], content: bytes) -> None:
    with server.submission() as client:
        client.ehlo()
        assert client.has_extn("dsn")
        client.command_encoding = "utf-8" if "SMTPUTF8" in mail else "ascii"
        assert client.mail(ALICE, mail)[0] == 250
        assert client.rcpt(to, rcpt)[0] == 250
        client.send(b"BDAT %d LAST\r\n%b" % (len(content), content))
        assert client.getreply()[0] == 250
