"""TLS on every port of the whole server, as clients see it."""

from __future__ import annotations

import imaplib
import json
import poplib
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from click.testing import CliRunner

from benchmarks.ports import free_ports
from mailserver.cli import main
from tests.support.server import ALICE, LISTENERS, RunningServer
from tests.support.sink import wait_until
from tests.support.tls import write_certificate

CLIENTS = trustme.CA(organization_name="Clients")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    directory = tmp_path_factory.mktemp("encryption")
    (directory / "clients.pem").write_bytes(CLIENTS.cert_pem.bytes())
    with RunningServer(directory, sections={"tls": {"client_ca": "clients.pem"}}) as server:
        yield server


def converse(server: RunningServer, service: str, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Encrypted, in the way of the port; one answer to NOOP or the like was had."""
    protocol, how = LISTENERS[service]
    port = getattr(server.ports, service)
    if protocol == "imap":
        imap = imaplib.IMAP4_SSL("localhost", port, ssl_context=context, timeout=30) if how == "implicit" else None
        if imap is None:
            imap = imaplib.IMAP4("localhost", port, timeout=30)  # type: ignore[assignment]
            imap.starttls(context)  # type: ignore[union-attr]
        assert imap is not None and imap.noop()[0] == "OK"
        return imap.sock  # type: ignore[return-value]
    if protocol == "pop3":
        pop3 = poplib.POP3_SSL("localhost", port, context=context, timeout=30) if how == "implicit" else None
        if pop3 is None:
            pop3 = poplib.POP3("localhost", port, timeout=30)  # type: ignore[assignment]
            pop3.stls(context)  # type: ignore[union-attr]
        assert pop3 is not None and pop3.capa()
        return pop3.sock  # type: ignore[no-any-return, attr-defined]
    smtp = smtplib.SMTP_SSL("localhost", port, context=context, timeout=30) if how == "implicit" else None
    if smtp is None:
        smtp = smtplib.SMTP("localhost", port, timeout=30)  # type: ignore[assignment]
        smtp.starttls(context=context)  # type: ignore[union-attr]
    assert smtp is not None and smtp.noop()[0] == 250
    return smtp.sock  # type: ignore[return-value]


@pytest.mark.parametrize("service", [name for name in LISTENERS if name != "smtp"])
def test_users_may_show_a_certificate(service: str, server: RunningServer, tmp_path: Path) -> None:
    context = server.tls_context()
    certificate, key = write_certificate(tmp_path, ALICE, ca=CLIENTS, common_name=service)
    context.load_cert_chain(certificate, key)
    converse(server, service, context).close()
    wait_until(lambda: f"CN={service}" in server.log())


def test_other_servers_are_not_asked_for_one(server: RunningServer, tmp_path: Path) -> None:
    context = server.tls_context()
    certificate, key = write_certificate(tmp_path, ALICE, ca=CLIENTS, common_name="another-server")
    context.load_cert_chain(certificate, key)
    converse(server, "smtp", context).close()
    converse(server, "imaps", context).close()
    wait_until(lambda: server.log().count("CN=another-server") >= 1)
    assert server.log().count("CN=another-server") == 1


@pytest.mark.parametrize("service", LISTENERS)
def test_who_has_none_is_served_all_the_same(service: str, server: RunningServer) -> None:
    converse(server, service, server.tls_context()).close()


@pytest.mark.parametrize("service", LISTENERS)
def test_each_port_knows_the_name_of_its_protocol(service: str, server: RunningServer) -> None:
    name = {"imap": "imap", "pop3": "pop3", "smtp": "smtp", "submission": "smtp"}[LISTENERS[service][0]]
    context = server.tls_context()
    context.set_alpn_protocols(["http/1.1", name])
    connection = converse(server, service, context)
    assert connection.selected_alpn_protocol() == name
    connection.close()


@pytest.mark.parametrize("service", LISTENERS)
def test_who_wants_to_speak_something_else_is_refused_on_each_port(service: str, server: RunningServer) -> None:
    other = "imap" if LISTENERS[service][0] != "imap" else "pop3"
    context = server.tls_context()
    context.set_alpn_protocols(["http/1.1", "h2", other])
    with pytest.raises(ssl.SSLError, match="no application protocol"):
        converse(server, service, context)
    wait_until(lambda: "no application protocol" in server.log())
    assert "Traceback" not in server.log()


# Renewal


class Visitors:
    """Clients that shake hands one after the other, on several threads, until they are told to stop."""

    def __init__(self, server: RunningServer, threads: int) -> None:
        self._server = server
        self._stop = threading.Event()
        self.seen: list[bytes] = []
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._visit) for _ in range(threads)]

    def __enter__(self) -> Visitors:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def wait_for(self, number: int) -> None:
        wait_until(lambda: len(self.seen) >= number, what="visitors")

    def _visit(self) -> None:
        while not self._stop.is_set():
            try:
                self.seen.append(shown_by(self._server))
            except (OSError, AssertionError) as error:
                self.failures.append(repr(error))


def shown_by(server: RunningServer) -> bytes:
    """The certificate, in a conversation that begins well."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", server.ports.imaps), 20) as plain, context.wrap_socket(plain) as tls:
        assert tls.recv(4) == b"* OK"
        return tls.getpeercert(binary_form=True) or b""


@pytest.mark.parametrize("workers", [1, 2])
def test_certificates_are_replaced_under_load(workers: int, tmp_path: Path) -> None:
    """Twenty times, the key before the certificate, as tools do it; each process sees the last one within seconds."""
    limits = {"connections_per_address": 500}
    with RunningServer(tmp_path, workers=workers, sections={"limits": limits}) as server:
        stays = server.imap()
        stays_encrypted = imaplib.IMAP4_SSL("localhost", server.ports.imaps, ssl_context=server.tls_context())
        written = {shown_by(server)}
        with Visitors(server, 4) as visitors:
            for number in range(20):
                staged = tmp_path / str(number)
                staged.mkdir()
                certificate, key = write_certificate(staged, "localhost")
                last = ssl.PEM_cert_to_DER_cert(certificate.read_text())
                written.add(last)
                key.replace(tmp_path / "key.pem")
                time.sleep(0.1)
                certificate.replace(tmp_path / "certificate.pem")
                time.sleep(0.2)
                visitors.wait_for((number + 1) * 15)
            wait_until(lambda: set(visitors.seen[-8 * workers :]) == {last}, what="the last one in all processes")
            done = len(visitors.seen)
            visitors.wait_for(done + 8 * workers + 4)
            assert set(visitors.seen[done + 4 :]) == {last}
        assert visitors.failures == []
        assert set(visitors.seen) <= written
        assert len(set(visitors.seen)) >= 4, "some of those in between were seen"
        assert stays.noop()[0] == stays_encrypted.noop()[0] == "OK"
        stays.logout()
        stays_encrypted.logout()
        assert "Traceback" not in server.log()


def test_a_certificate_that_expires_soon_is_told_once(tmp_path: Path) -> None:
    server = RunningServer(tmp_path, workers=2)
    now = datetime.now(UTC)
    how = {"not_before": now - timedelta(days=80), "not_after": now + timedelta(days=10)}
    certificate, key = write_certificate(tmp_path, "localhost", **how)
    certificate.replace(tmp_path / "certificate.pem")
    key.replace(tmp_path / "key.pem")
    with server:
        wait_until(lambda: server.log().count("ready, as") == 2, what="two workers")
        wait_until(lambda: "in 9 d 23 h; renew it" in server.log(), what="the warning")
        assert server.log().count("certificate.pem expires on ") == 1


# What the command sees


def tls_show(server: RunningServer) -> tuple[int, list[dict[str, Any]]]:
    result = CliRunner().invoke(main, ["--config", str(server.config), "tls", "show", "--live", "--json"])
    return result.exit_code, json.loads(result.stdout)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_command_tells_whether_a_renewal_was_taken_over(workers: int, tmp_path: Path) -> None:
    for name in ("*.example.net", "localhost"):
        write_certificate(tmp_path, name)
    (proxied,) = free_ports(1)
    sni = {"names": ["*.example.net"], "certificate": "*.example.net.crt", "private_key": "*.example.net.key"}
    further = [
        {"protocol": "lmtp", "endpoint": f"unix:{tmp_path / 'lmtp'}"},
        {"protocol": "imap", "endpoint": f"tcp:{proxied}:interface=127.0.0.1", "proxy": True, "tls": "implicit"},
    ]
    sections = {"tls": {"sni": [sni]}, "listener": further, "proxies": {"networks": ["127.0.0.1"]}}
    with RunningServer(tmp_path, sections=sections, workers=workers) as server:
        _, (default, other) = tls_show(server)
        for each in (default, other):
            assert len(each["live"]) == len(LISTENERS) + 2
            assert {live["told"] for live in each["live"]} == {"shows it"}
        assert other["problems"] == []
        (tmp_path / "*.example.net.crt").write_bytes((tmp_path / "localhost.crt").read_bytes())  # not with its key
        status, (default, other) = tls_show(server)
        assert status == 1
        assert {live["told"] for live in default["live"]} == {"shows it"}
        assert all(live["told"].startswith("shows another one, valid until ") for live in other["live"])
        assert len(other["problems"]) == 2 + len(LISTENERS) + 2, "the pair, the name, and each listener"
        (tmp_path / "*.example.net.key").write_bytes((tmp_path / "localhost.key").read_bytes())
        wait_until(
            lambda: {live["told"] for live in tls_show(server)[1][1]["live"]} == {"shows it"}, what="the new one"
        )
        assert "Traceback" not in server.log()
