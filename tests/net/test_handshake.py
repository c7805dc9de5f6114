"""How this server shakes hands: who the client is, what is spoken, with which versions and ciphers."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from OpenSSL import SSL

from mailserver.config.certificates import names_of
from mailserver.config.model import TLS
from mailserver.net.handshake import LONGEST_CHAIN, describe_client
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


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("asked_before", [True, False])
def test_what_was_proved_once_is_proved_again(
    asked_before: bool, version: ssl.TLSVersion, settings: TLS, tmp_path: Path
) -> None:
    """A session that is resumed would bring back a certificate that nobody looked at, or none."""
    shown = write_certificate(tmp_path, "alice@example.org", ca=CLIENTS)
    context = trusting(*shown, maximum_version=version)
    store = CertificateStore(settings)
    with serving(store, asks=asked_before) as elsewhere, serving(store, asks=True) as port:
        with handshake(elsewhere, context=context) as first:
            first.recv(100)
            session = first.session
        with handshake(port, context=context, session=session) as second:
            assert second.recv(100) == b"hello alice@example.org\n"
            assert not second.session_reused


def chained(directory: Path, between: int, repeated: int = 0) -> tuple[Path, Path]:
    """A client's certificate with so many authorities between it and ours; the last of these again and again."""
    authority, chain = CLIENTS, []
    for _ in range(between):
        authority = authority.create_child_ca()
        chain.insert(0, authority.cert_pem.bytes())
    certificate, key = write_certificate(directory, "alice@example.org", ca=authority)
    end = b"-----END CERTIFICATE-----\n"
    certificate.write_bytes(b"".join([certificate.read_bytes().partition(end)[0], end, *chain, *chain[-1:] * repeated]))
    return certificate, key


def test_chains_that_are_longer_than_anybody_needs_are_not_used(settings: TLS, tmp_path: Path) -> None:
    with serving(CertificateStore(settings), asks=True) as port:
        for between, who in ((LONGEST_CHAIN, "alice@example.org"), (LONGEST_CHAIN + 1, "stranger")):
            assert greeting(port, context=trusting(*chained(tmp_path, between))) == f"hello {who}"


def test_what_is_larger_than_a_handshake_may_be_is_refused(settings: TLS, tmp_path: Path) -> None:
    with serving(CertificateStore(settings), asks=True) as port:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            greeting(port, context=trusting(*chained(tmp_path, 1, repeated=400)))
        assert greeting(port) == "hello stranger", "others are still served"


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


# Versions and ciphers

STRONG_1_2 = {
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-GCM-SHA256",
}


@pytest.fixture(params=[trustme.KeyType.ECDSA, trustme.KeyType.RSA], ids=["ecdsa", "rsa"])
def port(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    certificate, key = write_certificate(tmp_path, "mail.example.org", key_type=request.param)
    with serving(CertificateStore(TLS(certificate=certificate, private_key=key)), (b"imap",)) as port:
        yield port


def permissive(version: int, ciphers: bytes = b"ALL:@SECLEVEL=0") -> SSL.Context:
    """A client that would do nearly everything, with one version."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_cipher_list(ciphers)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    return context


def connect(port: int, context: SSL.Context) -> SSL.Connection:
    """Raises SSL.Error."""
    connection = SSL.Connection(context, socket.create_connection(("127.0.0.1", port), 5))
    connection.setblocking(True)
    connection.set_connect_state()
    try:
        connection.do_handshake()
    except SSL.Error:
        connection.close()
        raise
    return connection


def offered_to(client: bytes) -> list[bytes]:
    """The ciphers that a client with this list has."""
    names: list[str] = SSL.Connection(permissive(SSL.TLS1_2_VERSION, client), None).get_cipher_list()
    return [name.encode() for name in names if not name.startswith("TLS_")]


@pytest.mark.parametrize("version", [SSL.TLS1_VERSION, SSL.TLS1_1_VERSION], ids=["1.0", "1.1"])
def test_old_versions_are_refused_even_to_who_would_do_anything(version: int, port: int) -> None:
    with pytest.raises(SSL.Error):
        connect(port, permissive(version))


def test_of_all_ciphers_only_those_with_forward_secrecy_and_aead_are_taken(port: int) -> None:
    taken = set()
    every = offered_to(b"ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    assert {b"AES128-SHA", b"AES128-GCM-SHA256", b"ECDHE-RSA-AES128-SHA256", b"DHE-RSA-AES128-GCM-SHA256"} < set(every)
    for cipher in every:
        try:
            connection = connect(port, permissive(SSL.TLS1_2_VERSION, cipher + b":@SECLEVEL=0"))
        except SSL.Error:
            continue
        taken.add(connection.get_cipher_name())
        connection.close()
    assert taken and taken < STRONG_1_2
    assert len(taken) == 3, "those for the type of the key"


@pytest.mark.parametrize("cipher", ["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"])
def test_the_ciphers_of_tls_1_3(cipher: str, port: int) -> None:
    context = permissive(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(cipher.encode())
    connection = connect(port, context)
    assert connection.get_cipher_name() == cipher
    connection.close()


def test_ccm_is_not_among_them(port: int) -> None:
    context = permissive(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(b"TLS_AES_128_CCM_SHA256:TLS_AES_128_CCM_8_SHA256")
    with pytest.raises(SSL.Error):
        connect(port, context)


def test_the_server_s_order_counts(port: int) -> None:
    weakest_first = b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE+CHACHA20:ECDHE+AESGCM"
    connection = connect(port, permissive(SSL.TLS1_2_VERSION, weakest_first))
    assert str(connection.get_cipher_name()).endswith("AES256-GCM-SHA384")
    connection.close()
    context = permissive(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384")
    connection = connect(port, context)
    assert connection.get_cipher_name() == "TLS_AES_256_GCM_SHA384"
    connection.close()


def s_client(port: int, *options: str, say: str = "") -> str:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "mail.example.org", *options]
    done = subprocess.run(command, input=say, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("group", ["X25519", "P-256", "P-384"])
def test_groups_that_are_good(group: str, port: int) -> None:
    assert "New, TLSv1.3" in s_client(port, "-groups", group)


def test_the_group_that_withstands_quantum_computers_is_preferred(port: int) -> None:
    """To record now and decrypt in years is an attack on mail too."""
    connection = connect(port, permissive(SSL.TLS1_3_VERSION))
    assert connection.get_group_name() == "X25519MLKEM768"
    connection.close()


@pytest.mark.parametrize("group", ["secp224r1", "secp160r1", "brainpoolP256r1", "sect233k1", "secp256k1"])
def test_groups_that_are_weak_or_strange(group: str, port: int) -> None:
    """In TLS 1.2, as TLS 1.3 has no numbers for most of them."""
    told = s_client(port, "-groups", group, "-tls1_2", "-cipher", "ECDHE:@SECLEVEL=0")
    assert "handshake failure" in told, told
    assert "New, TLSv1.2" not in told


def test_nothing_is_compressed(port: int) -> None:
    assert "Compression: NONE" in s_client(port, "-tls1_2", "-comp")


def test_nobody_renegotiates(port: int) -> None:
    """RFC 9325 §3.5; CVE-2009-3555, CVE-2011-1473."""
    told = s_client(port, "-tls1_2", say="R\n")
    assert "RENEGOTIATING" in told
    assert "no renegotiation" in told, told


# The protocol that is spoken (ALPN)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_that_names_the_protocol_is_told_so(version: ssl.TLSVersion, port: int) -> None:
    context = trusting(maximum_version=version)
    context.set_alpn_protocols(["h2", "imap"])
    with handshake(port, context=context) as connection:
        assert connection.selected_alpn_protocol() == "imap"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("named", [["http/1.1", "h2"], ["pop3"], ["imap4"], ["IMAP"], ["x" * 255]], ids="/".join)
def test_a_client_that_wants_to_speak_something_else_is_refused(
    named: list[str], version: ssl.TLSVersion, port: int
) -> None:
    """A browser that was led here would take the answers for a web page (ALPACA)."""
    context = trusting(maximum_version=version)
    context.set_alpn_protocols(named)
    with pytest.raises(ssl.SSLError, match="no application protocol"):
        handshake(port, context=context)
    assert greeting(port) == "hello stranger", "others are still served"


# The name that is asked for


STRANGE_NAMES = [
    b"192.0.2.1",
    b"::1",
    b"x" * 255,
    b".",
    b"..",
    b"*.example.org",
    b"mail.example.org.",
    b"m\xfcller.example",
    b"a b",
    b"\r\nsession=1 forged",
    b"\xff" * 200,
]


@pytest.mark.parametrize("name", STRANGE_NAMES, ids=ascii)
def test_a_strange_name_is_shown_the_default(name: bytes, port: int) -> None:
    connection = SSL.Connection(permissive(SSL.TLS1_3_VERSION), socket.create_connection(("127.0.0.1", port), 5))
    connection.setblocking(True)
    connection.set_tlsext_host_name(name)
    connection.set_connect_state()
    connection.do_handshake()
    shown = connection.get_peer_certificate()
    assert shown is not None and "mail.example.org" in names_of(shown.to_cryptography())
    connection.close()


HANDSHAKE, ALERT = b"\x16", b"\x15"


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        (b"mail.example.org", HANDSHAKE),
        (b"", HANDSHAKE),
        (b"mail.example.org\0evil", ALERT),
        (b"\0", ALERT),
        (b"x" * 256, ALERT),
        (b"x" * 60_000, ALERT),
    ],
    ids=["good", "empty", "null inside", "null", "256", "60000"],
)
def test_a_name_that_no_name_can_be_does_no_harm(name: bytes, answer: bytes, port: int) -> None:
    """No library sends these, so that the first message is made by hand."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(client_hello(name))
        assert connection.recv(1) == answer
    assert greeting(port) == "hello stranger", "others are still served"


def client_hello(name: bytes) -> bytes:
    """The first record of TLS 1.2, as written in RFC 5246 §7.4.1.2 and RFC 6066 §3."""

    def sized(octets: int, content: bytes) -> bytes:
        return len(content).to_bytes(octets, "big") + content

    server_name = b"\0\0" + sized(2, sized(2, b"\0" + sized(2, name)))
    algorithms = b"\0\x0d" + sized(2, sized(2, b"\x04\x03\x08\x04\x04\x01"))
    groups = b"\0\x0a" + sized(2, sized(2, b"\0\x1d\0\x17"))
    suites = sized(2, b"\xc0\x2f\xc0\x2b\xc0\x30\xc0\x2c")
    body = b"\x03\x03" + bytes(32) + b"\0" + suites + b"\x01\0" + sized(2, server_name + algorithms + groups)
    message = b"\x01" + sized(3, body)
    pieces = [message[start : start + 16384] for start in range(0, len(message), 16384)]
    return b"".join(b"\x16\x03\x01" + sized(2, piece) for piece in pieces)
