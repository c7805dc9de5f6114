"""Certificates: one store for every listener, for implicit TLS and STARTTLS alike; and TLS as a client.

Promises   A changed file is taken up at the next handshake without dropping a connection; while new files do not fit
           together the old ones serve, and a pair of files that is broken holds up no other.
           The client's server name chooses among [[tls.sni]]; without a match the default certificate is shown.
           Tickets are encrypted with keys that this process alone knows and that are replaced each day, and whenever a
           certificate is: a client that comes with an older one, or to another process, shakes hands in full.
On failure CertificateError at the start, with the file's name and the remedy.
"""

from __future__ import annotations

import logging
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import Certificate
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions, TLSVersion, optionsForClientTLS
from zope.interface import implementer

from mailserver.config.certificates import CertificateFault, Pair, read_authorities, read_pair
from mailserver.config.model import TLS
from mailserver.net.handshake import make_context
from mailserver.ports import TLSState

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0  # seconds between two looks at the files
TICKET_KEY_LIFE = 24 * 3600.0  # seconds

_HOST_NAME = re.compile(r"(?=.{1,253}$)(?!.*\.[0-9]+$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", re.IGNORECASE)
"""What may be asked for as a server's name: no address (RFC 6066 §3), nor the strange names that the DNS may hold."""


class CertificateError(Exception):
    """The files cannot serve; the text names them."""


class _Source(ABC):
    """Files that belong together, and what they held when they were last good."""

    def __init__(self, *files: Path) -> None:
        self._files = files
        self._stamp: Sequence[tuple[int, int, int] | None] = ()
        self.fault: str | None = None
        """What is wrong with what the files hold by now."""

    def read(self) -> None:
        """Raises CertificateError; what was read before stays."""
        self._stamp = self._look()  # before reading: what is written meanwhile is seen at the next look
        self.fault = None
        try:
            self._load()
        except OSError as error:
            self.fault = f"{error.filename}: cannot be read: {error.strerror}"
        except (CertificateFault, CertificateError) as error:
            self.fault = str(error)
        if self.fault is not None:
            raise CertificateError(self.fault)

    def unreadable(self) -> Iterator[Path]:
        for file in self._files:
            try:
                os.close(os.open(file, os.O_RDONLY | os.O_CLOEXEC))
            except PermissionError:
                yield file
            except OSError:
                pass  # it is being replaced, and told when it stays away

    def changed(self) -> bool:
        return self._look() != self._stamp

    def _look(self) -> Sequence[tuple[int, int, int] | None]:
        return [_stamp(file) for file in self._files]

    @abstractmethod
    def _load(self) -> None:
        """Raises CertificateFault, CertificateError, OSError."""


def _stamp(file: Path) -> tuple[int, int, int] | None:
    """Differs when the file was changed or replaced, or its mode was: that may be what was wrong with it."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_ctime_ns, stat.st_ino, stat.st_size


class _PairOfFiles(_Source):
    """A certificate with its chain, and its key."""

    content: Pair

    def __init__(self, certificate: Path, private_key: Path) -> None:
        super().__init__(certificate, private_key)
        self.certificate, self._private_key = certificate, private_key

    def _load(self) -> None:
        pair = read_pair(self.certificate, self._private_key)
        try:
            make_context(pair)
        except SSL.Error as error:
            text = f"{self.certificate} cannot be used: {_reason(error)}; ask for one with a stronger key or signature"
            raise CertificateError(text) from error
        self.content = pair


def _reason(error: SSL.Error) -> str:
    return ", ".join(str(each[-1]) for each in error.args[0]) if error.args and error.args[0] else str(error)


class _Authorities(_Source):
    """Those whose certificates clients may show."""

    certificates: Sequence[Certificate] = ()

    def _load(self) -> None:
        self.certificates = [each for file in self._files for each in read_authorities(file)]


def _tell(source: _Source) -> None:
    if source.fault is not None:
        log.error("what was read before stays in use: %s", source.fault)


class CertificateStore:
    """The certificates of a server, as contexts for handshakes."""

    def __init__(self, tls: TLS, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._default = _PairOfFiles(tls.certificate, tls.private_key)
        pairs = [_PairOfFiles(entry.certificate, entry.private_key) for entry in tls.sni]
        self._by_name = {
            name.lower().encode("idna"): pair
            for entry, pair in zip(tls.sni, pairs, strict=True)
            for name in entry.names
        }
        self.asks_clients = tls.client_ca is not None
        self._authorities = _Authorities(*([tls.client_ca] if tls.client_ca is not None else []))
        self._pairs = [self._default, *pairs]
        self._sources = [*self._pairs, self._authorities]
        for source in self._sources:
            source.read()
        self._looked = monotonic()
        self._make()

    def context(self) -> SSL.Context:
        """For the next handshake."""
        self.refresh()
        return self._context

    def refresh(self) -> None:
        """Takes up files that have changed, and new keys for tickets when it is time; looks once a second at most."""
        now = self._monotonic()
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        if self._read([source for source in self._sources if source.changed()]):
            log.info("certificates that changed were read")
        elif now - self._made >= TICKET_KEY_LIFE:
            self._make()

    def reload(self) -> None:
        """Reads all files now. What cannot serve is logged."""
        if self._read(self._sources):
            log.info("certificates were read again")

    def tell_faults(self) -> None:
        """Again: a renewal that came to nothing is easily overlooked."""
        for source in self._sources:
            _tell(source)

    def leaves(self) -> Iterator[tuple[Path, Certificate]]:
        """Each certificate that is in use, with its file."""
        yield from {pair.certificate: pair.content.chain[0] for pair in self._pairs}.items()

    def warn_of_unreadable(self) -> None:
        """When privileges were dropped: what the server's user cannot read was read before, and will not be again."""
        for file in (file for source in self._sources for file in source.unreadable()):
            log.warning(
                "%s: cannot be read by user %d, as which this serves: when it is renewed that is not taken over before "
                "the next start; let the user's group read it: chgrp, and chmod 640",
                file,
                os.geteuid(),
            )

    def _read(self, sources: Sequence[_Source]) -> bool:
        """Each by itself: what is wrong with one keeps no other one from being renewed. False: there is nothing new."""
        good = False
        for source in sources:
            try:
                source.read()
                good = True
            except CertificateError:
                _tell(source)
        if good:
            self._make()
        return good

    def _make(self) -> None:
        """New contexts: connections that are open keep theirs. Each has a new key for tickets (RFC 9325 §3.4)."""
        self._made = self._monotonic()
        authorities = self._authorities.certificates
        made = {pair: make_context(pair.content, authorities) for pair in {*self._by_name.values()}}
        by_name = {name: made[pair] for name, pair in self._by_name.items()}

        def choose(connection: SSL.Connection) -> None:
            name = (connection.get_servername() or b"").lower()
            found = by_name.get(name) or by_name.get(b"*." + name.partition(b".")[2])
            if found is not None:
                connection.set_context(found)

        self._context = make_context(self._default.content, authorities)
        self._context.set_tlsext_servername_callback(choose)


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
