"""What a certificate file holds, and whether it fits its private key."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

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


def pair_fault(certificate: Path, private_key: Path) -> tuple[str, str] | None:
    """Which of the two keys of the configuration is wrong, and how; None when they fit. Both files can be read."""
    try:
        leaf = load_pem_x509_certificates(certificate.read_bytes())[0]
    except ValueError:
        return "certificate", f"{certificate} has no PEM certificate; name the file with the certificate and its chain"
    try:
        key = load_pem_private_key(private_key.read_bytes(), password=None)
    except TypeError:
        return "private_key", f"{private_key} is encrypted; name a key without a passphrase"
    except (ValueError, UnsupportedAlgorithm):
        return "private_key", f"{private_key} has no PEM private key; name the file with the key of the certificate"
    if key.public_key() != leaf.public_key():
        return (
            "private_key",
            f"{private_key} does not belong to the first certificate of {certificate}; name its own key",
        )
    return None


def read_authorities(file: Path) -> list[Certificate]:
    """The certificates of a file of authorities. Raises OSError; ValueError with what is wrong with the file."""
    try:
        authorities = load_pem_x509_certificates(file.read_bytes())
    except ValueError:
        raise ValueError(f"{file} has no PEM certificate; name the file with the authorities' certificates") from None
    for authority in authorities:
        if not _is_authority(authority):
            who = authority.subject.rfc4514_string()
            raise ValueError(f"{file}: {who!r} is no authority; name the certificate of who issued it")
    return authorities


def _is_authority(certificate: Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(BasicConstraints).value.ca
    except (ExtensionNotFound, ValueError):
        return False


def expiry_fault(certificate: Path, now: datetime) -> str | None:
    """For a file that has no `pair_fault`."""
    end = load_pem_x509_certificates(certificate.read_bytes())[0].not_valid_after_utc
    return f"{certificate} expired on {end:%Y-%m-%d}; renew it" if end < now else None


def is_named(certificate: Path, name: str) -> bool:
    """Does the certificate hold for the host name or wildcard ? For a file that has no `pair_fault`."""
    leaf = load_pem_x509_certificates(certificate.read_bytes())[0]
    try:
        found = leaf.extensions.get_extension_for_class(SubjectAlternativeName).value.get_values_for_type(DNSName)
    except ExtensionNotFound:
        return False
    return not {name, f"*.{name.partition('.')[2]}"}.isdisjoint(map(str.lower, found))
