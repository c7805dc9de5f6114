"""One TLS handshake at this server's end: how it is done, for which protocol, and whose certificate the client shows.

Promises   TLS 1.2 and up, ECDHE with AEAD only, in the server's order; no compression, no renegotiation (RFC 9325). The
           groups are those of OpenSSL, which knows best which of them are good by now.
           A client that names protocols (ALPN) and not the one that is spoken here is refused, so that nothing meant
           for a web server is taken for mail (RFC 7301 §3.2, RFC 9325 §3.8); one that names none is served.
           Where certificates of clients are asked for, a client without one goes on without. One that does not hold is
           logged and not used. Nothing is resumed there: each connection proves its certificate anew.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import Certificate, ExtensionNotFound, RFC822Name, SubjectAlternativeName
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from mailserver.config.certificates import Pair
from mailserver.mail import AddressError, parse_mailbox
from mailserver.ports import ClientCertificate

log = logging.getLogger(__name__)

CIPHERS_1_3 = b"TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"
CIPHERS_1_2 = (
    b"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    b"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
)
TICKET_LIFE = 2 * 3600  # seconds in which a session may be resumed
LONGEST_CHAIN = 8  # certificates between a client's own and an authority

ALPN: dict[str, Sequence[bytes]] = {
    "imap": (b"imap",),
    "pop3": (b"pop3",),
    # Nothing is registered for these; this is what Exim takes.
    "smtp": (b"smtp", b"esmtp"),
    "submission": (b"smtp", b"esmtp"),
    "lmtp": (),
}
"""What a client may call the protocol of a listener."""

_WHY = {
    9: "is not valid yet",
    10: "has expired",
    18: "was signed by nobody else",
    19: "comes from an authority that is not in tls.client_ca",
    20: "comes from an authority that is not in tls.client_ca",
    21: "comes from an authority that is not in tls.client_ca",
    26: "is not for clients",
}
"""OpenSSL's numbers of what is wrong with a certificate (X509_STORE_CTX_get_error(3))."""


class UnknownProtocol(SSL.Error):
    """The client wants to speak something else; it gets the alert no_application_protocol."""


class Contexts(Protocol):
    """Where the certificates are."""

    asks_clients: bool
    """There are authorities whose certificates clients may show."""

    def context(self) -> SSL.Context: ...


class _Connection(SSL.Connection):
    """One that knows what is spoken on it."""

    protocols: Sequence[bytes] = ()


@implementer(IOpenSSLServerConnectionCreator)
class Handshake:
    """What Twisted's `startTLS` is given for one connection."""

    def __init__(
        self, contexts: Contexts, protocols: Sequence[bytes] = (), *, asks: bool = False, session: str = ""
    ) -> None:
        self._contexts = contexts
        self._protocols = protocols
        self._asks = asks
        self._session = session
        self._fault: int | None = None
        self._proven = False

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection = _Connection(self._contexts.context(), None)
        connection.protocols = self._protocols
        if self._asks and self._contexts.asks_clients:
            connection.set_options(SSL.OP_NO_TICKET)
            connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_CLIENT_ONCE, self._judge)
        return connection

    def client_certificate(self, connection: SSL.Connection) -> ClientCertificate | None:
        """Of the connection that was made here, after its handshake. None too where it does not hold: see the log."""
        shown = connection.get_peer_certificate()
        if shown is None:
            return None
        if self._fault is not None or not self._proven:
            why = _WHY.get(self._fault or 0, f"does not hold (error {self._fault} of OpenSSL)")
            log.info("session=%s the client's certificate is not used: it %s", self._session, why)
            return None
        try:
            return describe_client(shown.to_cryptography())
        except ValueError as error:
            log.info("session=%s the client's certificate is not used: %s", self._session, error)
            return None

    def _judge(self, connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, good: int) -> bool:
        """Called for each fault and each certificate of the chain, the client's own last; never ends the handshake."""
        if not good:
            self._fault = error
        elif depth == 0:
            self._proven = True
        return True


def describe_client(certificate: Certificate) -> ClientCertificate:
    """Raises ValueError for a certificate that cannot be read."""
    try:
        names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
        addresses = tuple(filter(_is_address, names.get_values_for_type(RFC822Name)))
    except ExtensionNotFound:
        addresses = ()
    subject = "".join(c if c.isprintable() else "?" for c in certificate.subject.rfc4514_string())
    return ClientCertificate(subject, addresses, certificate.fingerprint(SHA256()).hex())


def _is_address(text: str) -> bool:
    try:
        parse_mailbox(text)
    except AddressError:
        return False
    return True


def make_context(pair: Pair, authorities: Sequence[Certificate] = ()) -> SSL.Context:
    """For one certificate; its tickets are its own. Raises SSL.Error for one that OpenSSL finds too weak."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # an idle connection holds no buffers
    context.set_tls13_ciphersuites(CIPHERS_1_3)
    context.set_cipher_list(CIPHERS_1_2)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # clients keep their sessions, in tickets
    context.set_session_id(b"mailserver")
    context.set_timeout(TICKET_LIFE)
    context.set_alpn_select_callback(_choose_protocol)
    context.use_certificate(pair.chain[0])
    for certificate in pair.chain[1:]:
        context.add_extra_chain_cert(certificate)
    context.use_privatekey(pair.private_key)
    if authorities:
        store = context.get_cert_store()
        assert store is not None
        for authority in authorities:
            store.add_cert(crypto.X509.from_cryptography(authority))
            context.add_client_ca(authority)
        context.set_verify_depth(LONGEST_CHAIN)
    return context


def _choose_protocol(connection: SSL.Connection, offered: Sequence[bytes]) -> bytes:
    spoken = connection.protocols if isinstance(connection, _Connection) else ()
    for protocol in spoken:
        if protocol in offered:
            return protocol
    raise UnknownProtocol([("SSL routines", "", "no application protocol")])
