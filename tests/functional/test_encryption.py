"""TLS on every port of the whole server, as clients see it."""

from __future__ import annotations

import imaplib
import poplib
import smtplib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

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
