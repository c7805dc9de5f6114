"""What the files of certificates hold, and whether they can serve.

Promises   A private key that others than its owner and the readers of its group can reach is never used.
On failure OSError, or CertificateFault with a text that names the file, what is wrong and what would be right.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import (
    BasicConstraints,
    Certificate,
    DNSName,
    ExtensionNotFound,
    SubjectAlternativeName,
    load_pem_x509_certificates,
)

WARNED_BEFORE = timedelta(days=21)
LOOSE = stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH


class CertificateFault(ValueError):
    """`key` is that of the configuration whose file is wrong."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its chain, and its private key as `cryptography` has it."""

    chain: Sequence[Certificate]
    private_key: Any


def read_pair(certificate: Path, private_key: Path) -> Pair:
    """Raises OSError, CertificateFault."""
    chain = read_chain(certificate)
    key = _read_key(private_key)
    if key.public_key() != chain[0].public_key():
        text = f"{private_key} does not belong to the first certificate of {certificate}; name its own key"
        raise CertificateFault("private_key", text)
    return Pair(chain, key)


def read_chain(certificate: Path) -> Sequence[Certificate]:
    """At least one. Raises OSError, CertificateFault."""
    try:
        return load_pem_x509_certificates(certificate.read_bytes())
    except ValueError:
        text = f"{certificate} has no PEM certificate; name the file with the certificate and its chain"
        raise CertificateFault("certificate", text) from None


def _read_key(private_key: Path) -> Any:
    with private_key.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & LOOSE:
            who = "other users" if mode & (stat.S_IROTH | stat.S_IWOTH) else "its group"
            what = "read" if mode & stat.S_IROTH else "replace"
            text = f"{private_key} is a private key that {who} can {what} (mode {mode:04o})"
            remedy = f"chmod 640 {shlex.quote(str(private_key))}, or 600 where no group needs it"
            raise CertificateFault("private_key", f"{text}; {remedy}")
        content = file.read()
    try:
        return load_pem_private_key(content, password=None)
    except TypeError:
        text = f"{private_key} is encrypted; name a key without a passphrase"
    except (ValueError, UnsupportedAlgorithm):
        text = f"{private_key} has no PEM private key; name the file with the key of the certificate"
    raise CertificateFault("private_key", text)


def read_authorities(file: Path) -> Sequence[Certificate]:
    """The certificates of `client_ca`. Raises OSError, CertificateFault."""
    try:
        authorities = load_pem_x509_certificates(file.read_bytes())
    except ValueError:
        text = f"{file} has no PEM certificate; name the file with the authorities' certificates"
        raise CertificateFault("client_ca", text) from None
    for authority in authorities:
        if not _is_authority(authority):
            who = authority.subject.rfc4514_string()
            text = f"{file}: {who!r} is no authority; name the certificate of who issued it"
            raise CertificateFault("client_ca", text)
    return authorities


def _is_authority(certificate: Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(BasicConstraints).value.ca
    except (ExtensionNotFound, ValueError):
        return False


def validity_fault(file: Path, leaf: Certificate, now: datetime) -> str | None:
    """Why clients refuse the certificate at this time."""
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if end < now:
        return f"{file} expired on {end:%Y-%m-%d}; renew it"
    if begin > now:
        return (
            f"{file} is not valid before {begin:%Y-%m-%d %H:%M} UTC; look at the clock, or use the old one until then"
        )
    return None


def expiry_warning(file: Path, leaf: Certificate, now: datetime) -> str | None:
    """For a certificate that is valid, but that something should have renewed by now.

    That is 21 days before its end; of one that lives shortly, when a third of its time is left.
    """
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    left = end - now
    if left > min(WARNED_BEFORE, (end - begin) / 3):
        return None
    return f"{file} expires on {end:%Y-%m-%d %H:%M} UTC, in {left.days} d {left.seconds // 3600} h; renew it"


def names_of(leaf: Certificate) -> Sequence[str]:
    """The host names and wildcards that the certificate holds for, in lower case."""
    try:
        names = leaf.extensions.get_extension_for_class(SubjectAlternativeName).value
    except (ExtensionNotFound, ValueError):
        return ()
    return tuple(map(str.lower, names.get_values_for_type(DNSName)))


def is_named(leaf: Certificate, name: str) -> bool:
    """Does the certificate hold for the host name or wildcard ?"""
    return not {name, f"*.{name.partition('.')[2]}"}.isdisjoint(names_of(leaf))
