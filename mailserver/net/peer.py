"""What a remote's certificate says, in one line for the log.

Promises   Printable text of bounded length, whatever stands in the certificate. Nothing is refused here: whether a
           certificate that nobody insisted on would have held is only told.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from cryptography.x509 import (
    Certificate,
    DNSName,
    ExtensionNotFound,
    IPAddress,
    Name,
    NameOID,
    ObjectIdentifier,
    SubjectAlternativeName,
)
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.abstract import isIPAddress, isIPv6Address

NAMES = 3  # that are shown
LENGTH = 80  # characters of each part
UNREADABLE = "a certificate that cannot be read"


def peer_certificate(transport: Any, server_name: str, *, verified: bool) -> str | None:
    """None before a handshake. `verified`: the handshake saw to it that the certificate holds for the name."""
    handle = transport.getHandle()
    if not isinstance(handle, SSL.Connection) or (certificate := handle.get_peer_certificate()) is None:
        return None
    try:
        fault = None if verified else _fault(handle, certificate, server_name)
        return f"{describe(certificate.to_cryptography())}, {f'not verified: {fault}' if fault else 'verified'}"
    except Exception:  # noqa: BLE001 - remotes have any octets for a certificate; mail goes to them all the same
        return UNREADABLE


def describe(certificate: Certificate) -> str:
    """For whom it is, and who issued it."""
    names = list(dict.fromkeys(_names(certificate)))
    shown = " ".join(map(_printable, names[:NAMES])) or "nobody"
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return f"for {shown}{more}, issued by {_printable(_issuer(certificate.issuer)) or 'nobody'}"


def _names(certificate: Certificate) -> Iterator[str]:
    yield from _values(certificate.subject, NameOID.COMMON_NAME)
    try:
        alternatives = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    except ExtensionNotFound:
        return
    yield from alternatives.get_values_for_type(DNSName)
    yield from map(str, alternatives.get_values_for_type(IPAddress))


def _issuer(name: Name) -> str:
    return ", ".join([*_values(name, NameOID.COMMON_NAME), *_values(name, NameOID.ORGANIZATION_NAME)])


def _values(name: Name, kind: ObjectIdentifier) -> list[str]:
    return [str(attribute.value) for attribute in name.get_attributes_for_oid(kind)]


def _printable(text: str) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in text[:LENGTH])
    return f"{shown}..." if len(text) > LENGTH else shown


def _fault(handle: SSL.Connection, certificate: crypto.X509, server_name: str) -> str | None:
    """Why it would not have held, had somebody insisted."""
    _, trusted = _system()
    context = crypto.X509StoreContext(trusted, certificate, handle.get_peer_cert_chain())
    try:
        context.verify_certificate()
        if isIPAddress(server_name) or isIPv6Address(server_name):
            verify_ip_address(handle, server_name)
        else:
            verify_hostname(handle, server_name)
    except crypto.X509StoreContextError as error:
        return _printable(str(error))
    except (VerificationError, CertificateError, ValueError):
        return f"it does not hold for {_printable(server_name)}"
    return None


@functools.cache
def _system() -> tuple[SSL.Context, crypto.X509Store]:
    """Whom the system trusts. The store lives as long as its context, which is kept for that."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_default_verify_paths()
    store = context.get_cert_store()
    assert store is not None
    return context, store
