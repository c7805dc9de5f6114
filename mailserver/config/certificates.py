"""Does a certificate file fit its private key?"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates


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
