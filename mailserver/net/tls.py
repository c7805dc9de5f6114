"""Certificates: one store for every listener, for implicit TLS and STARTTLS alike; and TLS as a client.

Promises   TLS 1.2 and up with Twisted's default ciphers, no compression, no renegotiation. A changed file is taken up
           at the next handshake without dropping a connection; while new files do not fit together the old ones serve.
           The client's server name chooses among [[tls.sni]]; without a match the default certificate is shown.
On failure CertificateError at the start, with the file's name and the remedy.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import Certificate, load_pem_x509_certificates
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.internet.ssl import CertificateOptions, TLSVersion, optionsForClientTLS
from zope.interface import implementer

from mailserver.config.model import TLS
from mailserver.ports import TLSState

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0  # seconds between two looks at the files

_HOST_NAME = re.compile(r"(?=.{1,253}$)(?!.*\.[0-9]+$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", re.IGNORECASE)
"""What may be asked for as a server's name: no address (RFC 6066 §3), nor the strange names that the DNS may hold."""


class CertificateError(Exception):
    """The files cannot serve; the text names them."""


@dataclass(frozen=True, slots=True)
class _Pair:
    certificate: Path
    private_key: Path

    def options(self, **kwargs: Any) -> CertificateOptions:
        """Raises CertificateError."""
        try:
            chain: list[Any] = load_pem_x509_certificates(self.certificate.read_bytes())
        except (OSError, ValueError) as error:
            raise CertificateError(f"{self.certificate}: no PEM certificate can be read: {error}") from error
        try:
            key: Any = load_pem_private_key(self.private_key.read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise CertificateError(f"{self.private_key}: no PEM private key can be read: {error}") from error
        options = CertificateOptions(
            privateKey=key,
            certificate=chain[0],
            extraCertChain=chain[1:],
            raiseMinimumTo=TLSVersion.TLSv1_2,
            enableSessionTickets=True,
            **kwargs,
        )
        try:
            options.getContext().set_options(SSL.OP_NO_RENEGOTIATION)
        except SSL.Error as error:
            raise CertificateError(f"{self.private_key}: the key does not belong to {self.certificate}") from error
        return options


@implementer(IOpenSSLServerConnectionCreator)
class CertificateStore:
    """What Twisted asks for a server's side of each handshake."""

    def __init__(self, tls: TLS) -> None:
        self._default = _Pair(tls.certificate, tls.private_key)
        self._by_name = {
            name.lower().encode("idna"): _Pair(entry.certificate, entry.private_key)
            for entry in tls.sni
            for name in entry.names
        }
        self._stamps = self._look()
        self._looked = time.monotonic()
        self._load()

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        self._refresh()
        return self._options.serverConnectionForTLS(protocol)

    def reload(self) -> None:
        """Reads the files now. What cannot serve is logged."""
        self._stamps = self._look()
        try:
            self._load()
            log.info("certificates were read again")
        except CertificateError as error:
            log.error("the old certificates stay in use: %s", error)

    def _load(self) -> None:
        contexts = {name: pair.options().getContext() for name, pair in self._by_name.items()}

        def choose(name: bytes | None) -> SSL.Context | None:
            if name is None:
                return None
            name = name.lower()
            return contexts.get(name) or contexts.get(b"*." + name.partition(b".")[2])

        self._options = self._default.options(contextForServerName=choose)

    def _look(self) -> Sequence[tuple[int, int] | None]:
        stamps: list[tuple[int, int] | None] = []
        for pair in (self._default, *self._by_name.values()):
            for path in (pair.certificate, pair.private_key):
                try:
                    stat = path.stat()
                    stamps.append((stat.st_mtime_ns, stat.st_ino))
                except OSError:
                    stamps.append(None)
        return stamps

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        if self._look() != self._stamps:
            self.reload()


@implementer(IOpenSSLClientConnectionCreator)
class OpportunisticTLS:
    """Encryption without verification, for mail relayed by MX (RFC 7435): better than none, and nothing is refused."""

    _context: SSL.Context | None = None

    def __init__(self, server_name: str) -> None:
        self._server_name = server_name

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        cls = type(self)
        if cls._context is None:
            cls._context = CertificateOptions(raiseMinimumTo=TLSVersion.TLSv1_2).getContext()
        connection = SSL.Connection(cls._context, None)
        if _HOST_NAME.fullmatch(self._server_name):
            connection.set_tlsext_host_name(self._server_name.encode())
        return connection


def client_tls(server_name: str, *, verify: bool) -> IOpenSSLClientConnectionCreator:
    """With `verify` the certificate must be trusted by the system and hold for the name."""
    creator: IOpenSSLClientConnectionCreator = (
        optionsForClientTLS(server_name) if verify else OpportunisticTLS(server_name)
    )
    return creator


def tls_state(transport: Any) -> TLSState | None:
    """What a transport has agreed on, None before its handshake is done."""
    handle = transport.getHandle()
    cipher = handle.get_cipher_name() if isinstance(handle, SSL.Connection) else None
    return None if cipher is None else TLSState(handle.get_protocol_version_name(), cipher)


def channel_binding(transport: Any, kind: str) -> bytes | None:
    """See `Channel.binding`. An exporter is unique to its connection with TLS 1.3 alone (RFC 9266 §3)."""
    handle = transport.getHandle()
    if tls_state(transport) is None:
        return None
    match kind:
        case "tls-exporter" if handle.get_protocol_version_name() == "TLSv1.3":
            exported: bytes = handle.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
            return exported
        case "tls-server-end-point":
            return _end_point(handle.get_certificate().to_cryptography())
    return None


def _end_point(certificate: Certificate) -> bytes | None:
    """A digest of the certificate by the hash of its signature, SHA-256 in place of weaker ones (RFC 5929 §4.1)."""
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None:  # Ed25519 has none, so that this binding is undefined
        return None
    weak = algorithm.name in ("md5", "sha1")
    return certificate.fingerprint(SHA256() if weak else algorithm)
