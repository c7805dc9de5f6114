"""How this server shakes hands: who the client is, what is spoken, with which versions and ciphers."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from mailserver.config.model import TLS
from mailserver.net.handshake import describe_client
from mailserver.net.tls import CertificateError, CertificateStore
from tests.support.tls import CA, greeting, handshake, serving, trusting, write_certificate

CLIENTS = trustme.CA(organization_name="Clients")


@pytest.fixture
def settings(tmp_path: Path) -> TLS:
    certificate, key = write_certificate(tmp_path, "mail.example.org")
    authorities = tmp_path / "clients.pem"
    authorities.write_bytes(CLIENTS.cert_pem.bytes())
    return TLS(certificate=certificate, private_key=key, client_ca=authorities)


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


# The client's certificate


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_shows_its_certificate(version: ssl.TLSVersion, settings: TLS, tmp_path: Path) -> None:
    shown = write_certificate(tmp_path, "alice@example.org", "alice@example.net", ca=CLIENTS)
    with serving(CertificateStore(settings), asks=True) as port:
        context = trusting(*shown, maximum_version=version)
        assert greeting(port, context=context) == "hello alice@example.org alice@example.net"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_without_a_certificate_goes_on(version: ssl.TLSVersion, settings: TLS) -> None:
    with serving(CertificateStore(settings), asks=True) as port:
        assert greeting(port, context=trusting(maximum_version=version)) == "hello stranger"


def test_none_is_asked_for_where_none_is_wanted(settings: TLS, tmp_path: Path) -> None:
    shown = write_certificate(tmp_path, "alice@example.org", ca=CLIENTS)
    with serving(CertificateStore(settings)) as port:
        assert greeting(port, context=trusting(*shown)) == "hello stranger"
    unset = settings.model_copy(update={"client_ca": None})
    with serving(CertificateStore(unset), asks=True) as port:
        assert greeting(port, context=trusting(*shown)) == "hello stranger"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_of_strangers_is_told_and_not_used(
    version: ssl.TLSVersion, settings: TLS, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    forged = trustme.CA(organization_name="Clients")
    shown = write_certificate(tmp_path, "alice@example.org", ca=forged)
    with serving(CertificateStore(settings), asks=True) as port:
        assert greeting(port, context=trusting(*shown, maximum_version=version)) == "hello stranger"
    assert "session=test1 the client's certificate is not used: it comes from an authority that is not" in caplog.text


def test_an_expired_certificate_is_told_and_not_used(
    settings: TLS, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    now = datetime.now(UTC)
    shown = write_certificate(
        tmp_path, "a@example.org", ca=CLIENTS, not_before=now - timedelta(9), not_after=now - timedelta(1)
    )
    with serving(CertificateStore(settings), asks=True) as port:
        assert greeting(port, context=trusting(*shown)) == "hello stranger"
    assert "is not used: it has expired" in caplog.text


def test_a_server_s_authority_gives_no_client_its_name(settings: TLS, tmp_path: Path) -> None:
    """What vouches for the server, or for other certificates of it, does not vouch for clients."""
    shown = write_certificate(tmp_path, "alice@example.org", ca=CA)
    with serving(CertificateStore(settings), asks=True) as port:
        assert greeting(port, context=trusting(*shown)) == "hello stranger"


def test_an_authority_in_between_may_stand_in_the_client_s_chain(settings: TLS, tmp_path: Path) -> None:
    between = CLIENTS.create_child_ca()
    shown = write_certificate(tmp_path, "alice@example.org", ca=between)
    with serving(CertificateStore(settings), asks=True) as port:
        assert greeting(port, context=trusting(*shown)) == "hello alice@example.org"


def test_the_certificate_is_asked_for_under_each_name(settings: TLS, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "mail.example.net")
    further = TLS.model_validate(
        {
            "certificate": str(settings.certificate),
            "private_key": str(settings.private_key),
            "client_ca": str(settings.client_ca),
            "sni": [{"names": ["mail.example.net"], "certificate": str(certificate), "private_key": str(key)}],
        },
        context={"directory": tmp_path},
    )
    shown = write_certificate(tmp_path, "alice@example.org", ca=CLIENTS)
    with serving(CertificateStore(further), asks=True) as port:
        assert greeting(port, "mail.example.net", trusting(*shown)) == "hello alice@example.org"


def test_what_was_proved_once_is_proved_again(settings: TLS, tmp_path: Path) -> None:
    """A session that is resumed would bring back a certificate that nobody looked at."""
    shown = write_certificate(tmp_path, "alice@example.org", ca=CLIENTS)
    context = trusting(*shown)
    with serving(CertificateStore(settings), asks=True) as port:
        with handshake(port, context=context) as first:
            first.recv(100)
            session = first.session
        with handshake(port, context=context, session=session) as second:
            assert second.recv(100) == b"hello alice@example.org\n"
            assert not second.session_reused


def test_authorities_are_read_again(settings: TLS, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    others = trustme.CA(organization_name="Others")
    shown = write_certificate(tmp_path, "alice@example.org", ca=others)
    store = CertificateStore(settings)
    assert settings.client_ca is not None
    with serving(store, asks=True) as port:
        settings.client_ca.write_text("half a file")
        store.reload()
        assert "clients.pem has no PEM certificate" in caplog.text
        assert greeting(port, context=trusting(*shown)) == "hello stranger"
        settings.client_ca.write_bytes(CLIENTS.cert_pem.bytes() + others.cert_pem.bytes())
        store.reload()
        assert greeting(port, context=trusting(*shown)) == "hello alice@example.org"


def test_what_is_no_authority_stops_the_start(settings: TLS) -> None:
    with pytest.raises(CertificateError, match="is no authority"):
        CertificateStore(settings.model_copy(update={"client_ca": settings.certificate}))
    with pytest.raises(CertificateError, match="cannot be read: No such file"):
        CertificateStore(settings.model_copy(update={"client_ca": settings.certificate.parent / "missing"}))


def test_a_certificate_that_nobody_can_read_is_an_error_that_is_caught() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    broken = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, datetime(2026, 1, 1), datetime(2027, 1, 1))
        .add_extension(x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30\x7f\0"), critical=False)
        .sign(key, SHA256())
    )
    with pytest.raises(ValueError):
        describe_client(broken)


def test_strange_names_in_a_certificate_do_no_harm() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    strange = ["alice@example.org\0@evil.example", "no address", "a\r\nb@example.org", "@", "bob@example.org"]
    names = b"".join(b"\x81" + bytes([len(each)]) + each.encode() for each in strange)  # rfc822Name is [1]
    names = b"\x30" + bytes([len(names)]) + names
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x\nsession=1 forged")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, datetime(2026, 1, 1), datetime(2027, 1, 1))
        .add_extension(x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, names), critical=False)
        .sign(key, SHA256())
    )
    described = describe_client(certificate)
    assert described.addresses == ("bob@example.org",)
    assert described.subject.isprintable()
    assert described.fingerprint == certificate.fingerprint(SHA256()).hex()
