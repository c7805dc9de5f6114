"""TLS: one store of certificates, by name, read again when they change; and the relay's connections over it."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from OpenSSL import SSL

from benchmarks.ports import free_ports
from mailserver.config.model import TLS, ServerName
from mailserver.net import tls
from mailserver.net.connector import ReactorConnector
from mailserver.net.handshake import TICKET_LIFE
from mailserver.net.tls import CertificateError, CertificateStore, channel_binding, client_tls
from mailserver.ports import ConnectFailure
from tests.support.reactor import in_reactor
from tests.support.tls import greeting, handshake, serving, trusting, write_certificate


@pytest.fixture
def settings(tmp_path: Path) -> TLS:
    certificate, key = write_certificate(tmp_path, "mail.example.org")
    other, other_key = write_certificate(tmp_path, "mail.example.net", "imap.example.net")
    sni = ServerName(names=("mail.example.net", "imap.example.net"), certificate=other, private_key=other_key)
    below, below_key = write_certificate(tmp_path, "*.example.com")
    wildcard = ServerName(names=("*.Example.com",), certificate=below, private_key=below_key)
    return TLS(certificate=certificate, private_key=key, sni=(sni, wildcard))


@pytest.fixture
def port(settings: TLS) -> Iterator[int]:
    with serving(CertificateStore(settings)) as port:
        yield port


@pytest.mark.parametrize(
    "name",
    [
        "mail.example.org",
        "mail.example.net",
        "imap.example.net",
        "IMAP.Example.NET",
        "anything.example.com",
        "ANY.example.COM",
    ],
)
def test_the_certificate_is_chosen_by_name(name: str, port: int) -> None:
    assert greeting(port, name) == "hello stranger"


@pytest.mark.parametrize("name", ["other.example", "example.com", "too.deep.example.com"])
def test_an_unknown_name_is_shown_the_default(name: str, port: int) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=re.escape(name)) as caught:
        handshake(port, name)
    assert "Hostname mismatch" in str(caught.value)


def test_old_versions_are_refused(port: int) -> None:
    with pytest.warns(DeprecationWarning), pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(port, context=trusting(minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1))


def test_a_changed_file_is_taken_up_and_a_broken_one_is_not(settings: TLS) -> None:
    with serving(CertificateStore(settings, Ticking())) as port:
        first = serial(port)
        settings.certificate.write_bytes(b"half a file")
        assert serial(port) == first
        write_certificate(settings.certificate.parent, "mail.example.org")
        second = serial(port)
        assert second != first
        assert serial(port) == second


def test_an_exact_name_goes_before_a_wildcard(settings: TLS, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "mail.example.com", organization_name="exact")
    exact = ServerName(names=("mail.example.com",), certificate=certificate, private_key=key)
    with serving(CertificateStore(settings.model_copy(update={"sni": (*settings.sni, exact)}))) as port:
        for name, wanted in (("mail.example.com", True), ("other.example.com", False)):
            with handshake(port, name) as connection:
                shown = connection.getpeercert() or {}
                assert ("exact" in str(shown.get("subject"))) is wanted


class Ticking:
    """A clock on which each look is a second after the last one."""

    now = 0.0

    def __call__(self) -> float:
        self.now += tls.LOOK_EVERY
        return self.now


def serial(port: int, name: str = "mail.example.org") -> str:
    with handshake(port, name) as connection:
        return str((connection.getpeercert() or {})["serialNumber"])


@pytest.mark.parametrize("first", ["private_key", "certificate"])
def test_files_may_be_replaced_one_after_the_other(
    first: str, settings: TLS, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "new").mkdir()
    certificate, key = write_certificate(tmp_path / "new", "mail.example.org")
    replacements = [(certificate, settings.certificate), (key, settings.private_key)]
    if first == "private_key":
        replacements.reverse()
    with serving(CertificateStore(settings, Ticking())) as port:
        before = serial(port)
        replacements[0][0].rename(replacements[0][1])
        assert [serial(port), serial(port)] == [before, before]
        assert caplog.text.count("what was read before stays in use") == 1, "told once, not at each look"
        replacements[1][0].rename(replacements[1][1])
        after = serial(port)
        assert after != before
        assert serial(port) == after


def test_a_missing_file_leaves_the_old_certificate(settings: TLS, tmp_path: Path) -> None:
    with serving(CertificateStore(settings, Ticking())) as port:
        before = serial(port)
        settings.certificate.unlink()
        settings.private_key.unlink()
        assert serial(port) == before
        write_certificate(tmp_path, "mail.example.org")
        assert serial(port) != before


def test_a_broken_pair_holds_up_no_other(settings: TLS, tmp_path: Path) -> None:
    with serving(CertificateStore(settings, Ticking())) as port:
        org, net = serial(port), serial(port, "mail.example.net")
        settings.private_key.write_text("broken")
        write_certificate(tmp_path, "mail.example.net")
        assert serial(port) == org
        assert serial(port, "mail.example.net") != net


def test_files_behind_symbolic_links_are_followed(settings: TLS, tmp_path: Path) -> None:
    """As certbot has them: only where the links lead changes."""
    links = {}
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        write_certificate(tmp_path / str(number), "mail.example.org")
    for name, path in (("certificate", "mail.example.org.crt"), ("private_key", "mail.example.org.key")):
        links[name] = tmp_path / name
        links[name].symlink_to(tmp_path / "1" / path)
    with serving(CertificateStore(settings.model_copy(update=links), Ticking())) as port:
        before = serial(port)
        for link in links.values():
            target = tmp_path / "2" / link.readlink().name
            link.unlink()
            link.symlink_to(target)
        assert serial(port) != before


def test_files_that_do_not_fit_stop_the_start(settings: TLS, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    _, foreign_key = write_certificate(other, "mail.example.org")
    with pytest.raises(CertificateError, match="does not belong"):
        CertificateStore(settings.model_copy(update={"private_key": foreign_key}))
    with pytest.raises(CertificateError, match=r"missing\.pem: cannot be read: No such file"):
        CertificateStore(settings.model_copy(update={"certificate": tmp_path / "missing.pem"}))


def test_a_key_that_others_can_read_stops_the_start_and_is_not_taken_up_later(
    settings: TLS, caplog: pytest.LogCaptureFixture
) -> None:
    store = CertificateStore(settings)
    before = store.context()
    write_certificate(settings.certificate.parent, "mail.example.org")
    settings.private_key.chmod(0o644)
    store.reload()
    assert "what was read before stays in use" in caplog.text
    assert "is a private key that other users can read (mode 0644); chmod 640" in caplog.text
    with serving(store) as port:
        assert greeting(port) == "hello stranger"
    assert store.context() is not before  # others were read again
    with pytest.raises(CertificateError, match=r"other users can read \(mode 0644\)"):
        CertificateStore(settings)


def test_a_key_whose_mode_is_mended_is_taken_up(settings: TLS, caplog: pytest.LogCaptureFixture) -> None:
    with serving(CertificateStore(settings, Ticking())) as port:
        before = serial(port)
        write_certificate(settings.certificate.parent, "mail.example.org")
        settings.private_key.chmod(0o644)
        assert serial(port) == before
        assert "chmod 640" in caplog.text
        settings.private_key.chmod(0o640)
        assert serial(port) != before


# Tickets


class Hours:
    """A clock that tests set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def resumed(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession]:
    with handshake(port, context=context, session=session) as connection:
        connection.recv(100)  # tickets of TLS 1.3 come behind the handshake
        assert connection.session is not None
        return bool(connection.session_reused), connection.session


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_resumed(version: ssl.TLSVersion, port: int) -> None:
    context = trusting(maximum_version=version)
    reused, session = resumed(port, context, None)
    assert not reused and session.has_ticket
    assert session.ticket_lifetime_hint == TICKET_LIFE
    reused, session = resumed(port, context, session)
    assert reused
    assert resumed(port, context, session)[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_keys_of_tickets_are_replaced_each_day(version: ssl.TLSVersion, settings: TLS) -> None:
    context, hours = trusting(maximum_version=version), Hours()
    with serving(CertificateStore(settings, hours)) as port:
        _, session = resumed(port, context, None)
        hours.now = tls.TICKET_KEY_LIFE - 1
        reused, session = resumed(port, context, session)
        assert reused
        hours.now += 2
        reused, session = resumed(port, context, session)
        assert not reused, "a full handshake, and no failure"
        assert resumed(port, context, session)[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_ticket_of_another_process_costs_a_full_handshake(version: ssl.TLSVersion, settings: TLS) -> None:
    context = trusting(maximum_version=version)
    with serving(CertificateStore(settings)) as one, serving(CertificateStore(settings)) as other:
        _, session = resumed(one, context, None)
        assert not resumed(other, context, session)[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_not_resumed_under_another_certificate(version: ssl.TLSVersion, settings: TLS) -> None:
    """A new certificate is shown at once, to those who come back as well."""
    context, store = trusting(maximum_version=version), CertificateStore(settings)
    with serving(store) as port:
        _, session = resumed(port, context, None)
        store.reload()
        assert not resumed(port, context, session)[0]


def test_the_server_holds_no_sessions(settings: TLS) -> None:
    """Whoever comes often would fill its memory; a client without tickets shakes hands in full."""
    context = trusting(maximum_version=ssl.TLSVersion.TLSv1_2)
    context.options |= ssl.OP_NO_TICKET
    store = CertificateStore(settings)
    assert store.context().get_session_cache_mode() == SSL.SESS_CACHE_OFF
    with serving(store) as port:
        _, session = resumed(port, context, None)
        assert not resumed(port, context, session)[0]


class Remote:
    """A blocking peer for the connector: `script` talks on each accepted socket."""

    def __init__(self, script: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._script = script
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, contextlib.suppress(OSError):
            self._script(connection)


def test_the_connector_drops_what_came_in_clear_before_tls(settings: TLS) -> None:
    def script(connection: socket.socket) -> None:
        connection.sendall(b"220 go ahead\r\n250 injected\r\n")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(settings.certificate, settings.private_key)
        connection.recv(1, socket.MSG_PEEK)
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.sendall(b"secret\r\n")
            secure.recv(1)

    remote = Remote(script)

    async def use(reactor: Any) -> tuple[bytes, str, bytes]:
        connection = await ReactorConnector(reactor).connect_any(["127.0.0.1"], remote.port, 60)
        before = await connection.read(60)
        await connection.start_tls("mail.example.org", 60)
        state = connection.tls
        after = await connection.read(60)
        connection.close()
        return before, state.version if state else "", after

    before, version, after = in_reactor(use)
    assert before.startswith(b"220 go ahead")
    assert version == "TLSv1.3"
    assert after == b"secret\r\n"


def test_verification_fails_for_a_certificate_that_nobody_trusts(settings: TLS) -> None:
    def script(connection: socket.socket) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(settings.certificate, settings.private_key)
        context.wrap_socket(connection, server_side=True)

    remote = Remote(script)

    async def use(reactor: Any) -> str:
        connection = await ReactorConnector(reactor).connect_any(["127.0.0.1"], remote.port, 60)
        try:
            await connection.start_tls("mail.example.org", 60, verify=True)
        except ConnectFailure as failure:
            return str(failure)
        return ""

    assert "TLS failed" in in_reactor(use)


def hang(connection: socket.socket) -> None:
    connection.recv(2, socket.MSG_WAITALL)


def reset(connection: socket.socket) -> None:
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@pytest.mark.parametrize(
    ("script", "patience", "expected"), [(hang, 0.3, "no answer within 0 s"), (reset, 60, "broke")]
)
def test_a_silent_or_broken_remote_is_told(
    script: Callable[[socket.socket], None], patience: float, expected: str
) -> None:
    remote = Remote(script)

    async def use(reactor: Any) -> str:
        connection = await ReactorConnector(reactor).connect_any(["127.0.0.1"], remote.port, 60)
        try:
            await connection.write(b"x", 5)
            await connection.read(patience)
        except ConnectFailure as failure:
            return str(failure)
        return ""

    assert expected in in_reactor(use)


def test_a_refused_connection_is_told() -> None:
    (port,) = free_ports(1)

    async def use(reactor: Any) -> str:
        try:
            await ReactorConnector(reactor).connect_any(["127.0.0.1"], port, 60)
        except ConnectFailure as failure:
            return str(failure)
        return ""

    assert f"no connection to 127.0.0.1 port {port}" in in_reactor(use)


def test_the_end_of_the_remote_is_an_empty_read() -> None:
    remote = Remote(lambda connection: connection.sendall(b"bye\r\n"))

    async def use(reactor: Any) -> list[bytes]:
        connection = await ReactorConnector(reactor).connect_any(["127.0.0.1"], remote.port, 60)
        return [await connection.read(60), await connection.read(60)]

    assert in_reactor(use) == [b"bye\r\n", b""]


@pytest.mark.parametrize(
    "name", ["192.0.2.1", "2001:db8::1", "a..b", "x" * 300, "\\000" * 63 + ".example", "m\u00fcller", ""]
)
def test_what_is_no_host_name_is_not_asked_for(name: str) -> None:
    connection = client_tls(name, verify=False).clientConnectionForTLS(None)
    assert connection.get_servername() is None


def test_a_host_name_is_asked_for() -> None:
    connection = client_tls("mx_1.example.net", verify=False).clientConnectionForTLS(None)
    assert connection.get_servername() == b"mx_1.example.net"


# Channel bindings


class _Pair:
    """Both ends of a TLS connection in memory, after the handshake."""

    def __init__(self, settings: TLS, version: int) -> None:
        self.server = SSL.Connection(CertificateStore(settings).context(), None)
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        self.client = SSL.Connection(context, None)
        self.server.set_accept_state()
        self.client.set_connect_state()
        for _ in range(5):
            for mine, other in ((self.client, self.server), (self.server, self.client)):
                with contextlib.suppress(SSL.WantReadError):
                    mine.do_handshake()
                with contextlib.suppress(SSL.WantReadError):
                    other.bio_write(mine.bio_read(65536))

    def getHandle(self) -> Any:
        return self.server


def test_both_ends_know_the_same_binding(settings: TLS) -> None:
    one, other = (_Pair(settings, SSL.TLS1_3_VERSION) for _ in range(2))
    exported = channel_binding(one, "tls-exporter")
    assert exported == one.client.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
    assert exported is not None and len(exported) == 32
    assert exported != channel_binding(other, "tls-exporter")
    certificate = one.client.get_peer_certificate()
    assert certificate is not None
    digest = certificate.to_cryptography().fingerprint(SHA256())
    assert channel_binding(one, "tls-server-end-point") == digest == channel_binding(other, "tls-server-end-point")


def test_an_exporter_binds_with_tls_1_3_alone(settings: TLS) -> None:
    pair = _Pair(settings, SSL.TLS1_2_VERSION)
    assert channel_binding(pair, "tls-exporter") is None
    assert channel_binding(pair, "tls-server-end-point") is not None


def test_nothing_binds_without_tls_nor_in_unknown_ways(settings: TLS) -> None:
    class Plain:
        def getHandle(self) -> None:
            return None

    for kind in ("tls-exporter", "tls-server-end-point", "tls-unique", ""):
        assert channel_binding(Plain(), kind) is None
    assert channel_binding(_Pair(settings, SSL.TLS1_3_VERSION), "tls-unique") is None
