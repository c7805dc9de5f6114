"""EXTERNAL over real sockets, in all three protocols; and the mechanisms that are never offered."""

from __future__ import annotations

import base64
import hashlib
import imaplib
import poplib
import smtplib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from tests.support.server import ALICE, BOB, RunningServer
from tests.support.sink import wait_until
from tests.support.tls import write_certificate

CLIENTS, STRANGERS = trustme.CA(organization_name="Clients"), trustme.CA(organization_name="Strangers")


@dataclass
class House:
    server: RunningServer
    path: Path
    made: dict[str, ssl.SSLContext] = field(default_factory=dict)

    def context(self, address: str, ca: trustme.CA = CLIENTS) -> ssl.SSLContext:
        context = self.server.tls_context()
        context.load_cert_chain(*write_certificate(self.path, address, ca=ca))
        return context


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    directory = tmp_path_factory.mktemp("server")
    (directory / "clients.pem").write_bytes(CLIENTS.cert_pem.bytes())
    with RunningServer(directory, sections={"tls": {"client_ca": "clients.pem"}}) as server:
        yield House(server, tmp_path_factory.mktemp("client"))


def imap(house: House, context: ssl.SSLContext) -> imaplib.IMAP4:
    return imaplib.IMAP4_SSL("localhost", house.server.ports.imaps, ssl_context=context, timeout=30)


def pop3(house: House, context: ssl.SSLContext) -> poplib.POP3:
    return poplib.POP3_SSL("localhost", house.server.ports.pop3s, context=context, timeout=30)


def submission(house: House, context: ssl.SSLContext) -> smtplib.SMTP:
    client = smtplib.SMTP_SSL("localhost", house.server.ports.submissions, context=context, timeout=30)
    client.ehlo()
    return client


@pytest.mark.parametrize("identity", ["", ALICE, f"postmaster@{ALICE.partition('@')[2]}"])
def test_it_opens_the_account_whose_address_it_has(house: House, identity: str) -> None:
    context = house.context(ALICE)
    by_imap = imap(house, context)
    assert "AUTH=EXTERNAL" in by_imap.capabilities
    assert by_imap.authenticate("EXTERNAL", lambda _: identity.encode())[0] == "OK"
    by_imap.logout()
    encoded = base64.b64encode(identity.encode()).decode() or "="
    by_pop3 = pop3(house, context)
    assert by_pop3.capa()["SASL"][0] == "EXTERNAL"
    assert by_pop3._shortcmd(f"AUTH EXTERNAL {encoded}").startswith(b"+OK")  # type: ignore[attr-defined]
    by_pop3.quit()
    by_smtp = submission(house, context)
    assert by_smtp.esmtp_features["auth"].split()[0] == "EXTERNAL"
    assert by_smtp.docmd("AUTH", f"EXTERNAL {encoded}") == (235, b"2.7.0 Authenticated")
    by_smtp.sendmail(ALICE, [ALICE], b"Subject: x\r\n\r\nx\r\n")
    with pytest.raises(smtplib.SMTPSenderRefused):
        by_smtp.sendmail(BOB, [ALICE], b"Subject: x\r\n\r\nx\r\n")
    by_smtp.quit()


def test_it_opens_no_other_account(house: House) -> None:
    client = imap(house, house.context(ALICE))
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        client.authenticate("EXTERNAL", lambda _: BOB.encode())
    client.logout()
    by_smtp = submission(house, house.context("nobody@example.test"))
    assert by_smtp.docmd("AUTH", "EXTERNAL =") == (535, b"5.7.8 authentication failed")
    by_smtp.quit()


def test_it_is_offered_to_those_with_a_certificate_that_holds_only(house: House) -> None:
    for context in (house.server.tls_context(), house.context(ALICE, STRANGERS)):
        client = imap(house, context)
        assert "AUTH=EXTERNAL" not in client.capabilities
        with pytest.raises(imaplib.IMAP4.error, match="no such mechanism"):
            client.authenticate("EXTERNAL", lambda _: ALICE.encode())
        client.logout()
        by_smtp = submission(house, context)
        assert "EXTERNAL" not in by_smtp.esmtp_features["auth"]
        assert by_smtp.docmd("AUTH", "EXTERNAL =")[0] == 504
        by_smtp.quit()
    plain = imaplib.IMAP4("localhost", house.server.ports.imap, timeout=30)
    assert not [name for name in plain.capabilities if name.startswith("AUTH=EXTERNAL")]
    plain.logout()


def test_a_fingerprint_in_the_accounts_file_opens_too(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "somebody@elsewhere.example", ca=CLIENTS)
    digest = hashlib.sha256(
        ssl.PEM_cert_to_DER_cert(certificate.read_text().partition("-----END")[0] + "-----END CERTIFICATE-----\n")
    )
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "clients.pem").write_bytes(CLIENTS.cert_pem.bytes())
    server = RunningServer(tmp_path / "server", sections={"tls": {"client_ca": "clients.pem"}})
    accounts = server.directory / "accounts.toml"
    header = f'[account."{BOB}"]\n'
    accounts.write_text(accounts.read_text().replace(header, f'{header}certificates = ["{digest.hexdigest()}"]\n'))
    with server:
        context = server.tls_context()
        context.load_cert_chain(certificate, key)
        client = imap(House(server, tmp_path), context)
        assert client.authenticate("EXTERNAL", lambda _: b"")[0] == "OK"
        client.logout()
        wait_until(lambda: f"login user={BOB}" in server.log(), what="a login")


@pytest.mark.parametrize("name", ["CRAM-MD5", "cram-md5", "DIGEST-MD5", "NTLM", "GSSAPI", "ANONYMOUS", "X" * 20])
def test_mechanisms_that_are_neither_offered_nor_taken(house: House, name: str) -> None:
    context = house.context(ALICE)
    by_imap = imap(house, context)
    assert not {f"AUTH={name.upper()}", "AUTH=APOP"} & set(by_imap.capabilities)
    with pytest.raises(imaplib.IMAP4.error, match="no such mechanism"):
        by_imap.authenticate(name, lambda _: b"x")
    by_imap.logout()
    by_pop3 = pop3(house, context)
    assert name.upper() not in by_pop3.capa()["SASL"]
    assert b"<" not in by_pop3.welcome, "an APOP challenge"
    with pytest.raises(poplib.error_proto, match="unknown authentication mechanism"):
        by_pop3._shortcmd(f"AUTH {name}")  # type: ignore[attr-defined]
    by_pop3.quit()
    by_smtp = submission(house, context)
    assert name.upper() not in by_smtp.esmtp_features["auth"].split()
    code, text = by_smtp.docmd("AUTH", name)
    assert (code, text[:5]) == (504, b"5.5.4")
    by_smtp.quit()
