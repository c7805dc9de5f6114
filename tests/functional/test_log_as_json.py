"""The log as JSON, of servers that run: a message is followed by ids alone, and no secret stands in any line."""

from __future__ import annotations

import base64
import hashlib
import imaplib
import json
import os
import poplib
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ports import free_ports
from tests.support.dns import NameServer
from tests.support.issuer import AUDIENCE, ISSUER, Issuer
from tests.support.scram import ScramClient
from tests.support.server import ALICE, BOB, PASSWORD, RunningServer
from tests.support.sink import wait_until

NOBODY, CAROL = "nobody@other.test", "carol@other.test"
JSON = {"format": "json"}
Line = dict[str, Any]


def lines(server: RunningServer) -> list[Line]:
    """Every one that is written to its end is an object with what each event has."""
    found = []
    for line in server.log().rpartition("\n")[0].splitlines():
        found.append(json.loads(line))
        assert {"time", "level", "logger", "event"} <= found[-1].keys(), line
    return found


def those(server: RunningServer, **members: object) -> list[Line]:
    return [line for line in lines(server) if all(line.get(key) == value for key, value in members.items())]


@contextmanager
def relaying(directory: Path, workers: int) -> Iterator[tuple[RunningServer, RunningServer]]:
    with NameServer() as dns:
        dns.mail_domain("other.test")
        there = RunningServer(directory / "there", hostname="mail.other.test", accounts={CAROL: []})
        relay = {"resolver": [dns.address], "port": there.ports.smtp, "retry_first": "1 s"}
        sections = {"relay": relay, "log": JSON}
        with there, RunningServer(directory / "here", sections=sections, workers=workers) as here:
            wait_until(lambda: here.log().count("ready, as") == workers, what="all processes")
            yield here, there


@pytest.mark.parametrize("workers", [1, 2])
def test_a_message_is_followed_from_its_session_to_the_report_by_ids_alone(tmp_path: Path, workers: int) -> None:
    with relaying(tmp_path, workers) as (here, there):
        with here.submission() as client:
            client.sendmail(ALICE, [CAROL, NOBODY], "Subject: x\r\n\r\nx\r\n")
        wait_until(lambda: there.messages(CAROL) and here.messages(ALICE), what="the copy and the report")
        wait_until(lambda: those(here, event="delivered", to=ALICE), what="the log of it")
        (login,) = those(here, event="login", user=ALICE)
        (accepted,) = those(here, event="accepted", session=login["session"])
        placed = those(here, event="queued", message=accepted["message"])
        assert {line["to"] for line in placed} == {CAROL, NOBODY}
        (queue,) = {line["queue"] for line in placed}
        results = {line["to"]: line["event"] for line in those(here, queue=queue) if "host" in line}
        assert results == {CAROL: "relayed", NOBODY: "failed"}
        (reported,) = those(here, event="reported", queue=queue)
        (delivered,) = those(here, event="delivered", queue=reported["report"])
        assert delivered["to"] == ALICE
        opened = those(here, event="opened", session=login["session"])
        assert len(opened) == 1 and opened[0]["service"].startswith("submission tcp:")
        if workers > 1:
            assert {line["worker"] for line in those(here, session=login["session"])} == {opened[0]["worker"]}
            assert {line.get("worker") for line in lines(here)} == {None, 0, 1}


def test_twistds_own_lines_are_json_too_and_a_file_takes_them(tmp_path: Path) -> None:
    for workers in (1, 2):
        log = tmp_path / f"{workers}.log"
        server = RunningServer(
            tmp_path / str(workers), workers=workers, sections={"log": JSON}, twistd=["--logfile", str(log)]
        )
        with server:
            wait_until(lambda log=log, n=workers: log.read_text().count("ready, as") == n, what="all processes")
        assert server.log() == "", "nothing goes past it"
        found = [json.loads(line) for line in log.read_text().splitlines()]
        events = [line["event"] for line in found]
        assert any(event.endswith("starting up.") for event in events) and events[-1] == "Server Shut Down."
        assert events.count("ready, as mail.example.test") == workers
        assert {line.get("worker") for line in found} == ({None} if workers == 1 else {None, 0, 1})


def test_a_log_elsewhere_stays_as_twistd_was_asked(tmp_path: Path) -> None:
    server = RunningServer(tmp_path, sections={"log": JSON}, twistd=["--logger", "twisted.logger.STDLibLogObserver"])
    with server, server.smtp() as client:
        assert client.noop()[0] == 250
    assert '"event"' not in server.log()


# Secrets

MARKER, BODY_MARKER = "SubjectMarker7301", "BodyMarker5502"
WRONG = "wrong-Password-8842"
MESSAGE = f"From: {ALICE}\r\nSubject: {MARKER}\r\nX-Own: {MARKER}\r\n\r\n{BODY_MARKER}\r\n"


def encoded(*parts: str) -> str:
    return base64.b64encode("\0".join(parts).encode()).decode()


def be_forgiven(server: RunningServer) -> None:
    """Each failure of an address makes its next answer slower, until somebody from there logs in."""
    server.pop3().quit()


def smtp_logins(server: RunningServer, password: str, token: str) -> None:
    for mechanism in ("PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "OAUTHBEARER", "XOAUTH2"):
        be_forgiven(server)
        with smtplib.SMTP_SSL(
            "localhost", server.ports.submissions, context=server.tls_context(), timeout=60
        ) as client:
            client.ehlo("client.test")
            text = b""
            for response in responses(mechanism, client.sock, password, token):
                code, text = client.docmd(f"AUTH {mechanism}" if response is None else response(text))
                if code != 334:
                    break
            assert (code == 235) == (password == PASSWORD), (mechanism, code, text)
            if code == 235:
                client.sendmail(ALICE, [BOB, "carol@elsewhere.test"], MESSAGE)


def responses(mechanism: str, socket: Any, password: str, token: str) -> list[Any]:
    """None for the command itself, then what answers each challenge."""
    plain = lambda text: lambda _: base64.b64encode(text.encode()).decode()  # noqa: E731
    if mechanism == "PLAIN":
        return [None, plain(f"\0{ALICE}\0{password}")]
    if mechanism == "LOGIN":
        return [None, plain(ALICE), plain(password)]
    if mechanism.startswith("SCRAM"):
        binding = None
        if mechanism.endswith("-PLUS"):
            digest = hashlib.sha256(socket.getpeercert(binary_form=True)).digest()
            binding = ("tls-server-end-point", digest)
        scram = ScramClient(ALICE, password, binding=binding) if binding else ScramClient(ALICE, password)
        return [
            None,
            lambda _: base64.b64encode(scram.first).decode(),
            lambda text: base64.b64encode(scram.final(base64.b64decode(text))).decode(),
            lambda _: "",
        ]
    beginning = f"user={ALICE}" if mechanism == "XOAUTH2" else f"n,a={ALICE},"
    return [None, plain(f"{beginning}\x01auth=Bearer {token}\x01\x01"), lambda _: "AQ=="]


def pop3_logins(server: RunningServer, password: str) -> None:
    for command in (None, f"AUTH PLAIN {encoded('', ALICE, password)}"):
        be_forgiven(server)
        client = poplib.POP3_SSL("localhost", server.ports.pop3s, context=server.tls_context(), timeout=60)
        try:
            if command is None:
                client.user(ALICE)
                client.pass_(password)
            else:
                client._shortcmd(command)
            client.retr(1)
        except poplib.error_proto:
            assert password != PASSWORD
        client.quit()


def imap_logins(server: RunningServer, password: str, token: str) -> None:
    def begin() -> imaplib.IMAP4:
        return imaplib.IMAP4_SSL("localhost", server.ports.imaps, ssl_context=server.tls_context(), timeout=60)

    bearer = f"user={ALICE}\x01auth=Bearer {token}\x01\x01".encode()
    for log_in in (
        lambda client: client.login(ALICE, password),
        lambda client: client.login(ALICE, f'{password}"\\'),
        lambda client: client.authenticate("PLAIN", lambda _: f"\0{ALICE}\0{password}".encode()),
        lambda client: client.authenticate("XOAUTH2", lambda _: bearer),
    ):
        be_forgiven(server)
        client = begin()
        try:
            log_in(client)
            client.append("INBOX", None, None, MESSAGE.encode())
            client.select("INBOX")
            client.search(None, "TEXT", f'"{BODY_MARKER}"')
            client.fetch("1", "(BODY[] ENVELOPE)")
            client.store("1", "+FLAGS", "(\\Seen)")
        except imaplib.IMAP4.error:
            pass
        client.logout()


@pytest.mark.parametrize("format", ["text", "json"])
def test_no_password_token_or_content_stands_in_any_log(tmp_path: Path, format: str) -> None:
    issuer = Issuer()
    keys = issuer.publish(tmp_path / "keys.json")
    sections = {
        "auth": {"oauth": {"issuer": ISSUER, "audience": AUDIENCE, "keys": str(keys)}},
        "relay": {"smarthost": f"127.0.0.1:{free_ports(1)[0]}", "retry_first": "1 s"},
        "log": {"format": format},
        "limits": {"errors": 100, "message_size": "64 KiB"},
    }
    server = RunningServer(tmp_path / "server", sections=sections, scram=True)
    good, bad = issuer.token(ALICE), Issuer("other").token(ALICE)
    with server:
        smtp_logins(server, PASSWORD, good)
        imap_logins(server, PASSWORD, good)
        pop3_logins(server, PASSWORD)
        with server.smtp() as client:  # what is refused, is as secret
            for line in (f"AUTH PLAIN {encoded('', ALICE, WRONG)}", f"PASS {WRONG}", f"XYZ {BODY_MARKER}"):
                client.docmd(line)
            with pytest.raises(smtplib.SMTPResponseException):
                client.sendmail("x@example.net", [ALICE], MESSAGE + BODY_MARKER * 10_000)
            client.rset()
            client.sendmail("x@example.net", [ALICE], MESSAGE)
        imap_logins(server, WRONG, bad)
        pop3_logins(server, WRONG)
        smtp_logins(server, WRONG, bad)
        wait_until(lambda: server.log().count("host=-") or '"host": "-"' in server.log(), what="an attempt")
    written = [server.log_file, *(server.data / "status").iterdir(), *(server.data / "queue" / "history").iterdir()]
    for file in written:
        text = file.read_text(errors="replace")
        assert text, file
        for secret in (PASSWORD, WRONG, MARKER, BODY_MARKER, good, bad, good.split(".")[2], bad.split(".")[2]):
            for form in forms(secret):
                assert form not in text, (file, secret, form)
    log = server.log()
    assert log.count("login refused") >= 10 and ALICE in log, "there is a log of all of it"
    if format == "json":
        lines(server)


def forms(secret: str) -> Iterator[str]:
    """As it is, and what of its base64 is the same wherever it stands in what is encoded."""
    yield secret
    for offset in range(3):
        text = base64.b64encode(b"\0" * offset + secret.encode() + b"\0\0").decode()
        yield text[4 if offset else 0 : len(text) // 4 * 4 - 8]


def test_the_forms_are_found_where_a_secret_is() -> None:
    for before in ("", "\0a@b\0", "x", "xx"):
        encoded_ = base64.b64encode(f"{before}{PASSWORD}\0zz".encode()).decode()
        assert any(form in encoded_ for form in list(forms(PASSWORD))[1:]), before


def test_signals_rotate_the_file(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    server = RunningServer(tmp_path / "server", sections={"log": JSON}, twistd=["--logfile", str(log)])
    with server:
        assert server.process is not None
        before = log.read_text()
        os.kill(server.process.pid, 10)  # SIGUSR1, as twistd has it
        wait_until(lambda: (tmp_path / "server.log.1").exists(), what="the old one")
        assert (tmp_path / "server.log.1").read_text().startswith(before)
        with server.smtp() as client:
            client.ehlo()
        wait_until(lambda: log.read_text().count("\n") >= 1, what="lines in the new one")
    for line in log.read_text().splitlines():
        json.loads(line)
