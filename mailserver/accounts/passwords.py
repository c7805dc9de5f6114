"""Passwords as they are kept: an argon2id hash (RFC 9106), and behind it, where that is wanted, keys for SCRAM-SHA-256.

Both stand in one text, so that whoever replaces one replaces the other. The keys are of less strength than the hash
against those who have got hold of the file, which is why they are made only where they are wanted.

Promises   The same text in another Unicode composition is the same password (NFC, as RFC 8265 §4.2 has it).
On failure PasswordError for one that nobody could type, that is too short or no password at all.
"""

from __future__ import annotations

import secrets
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from mailserver.sasl import ScramKeys, saslprep

_HASHER = PasswordHasher()
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # without characters that look alike
_GROUPS, _GROUP = 4, 5  # 4 x 5 characters of 31: 99 bits
_SHORTEST = 8  # characters
_LIMIT = 1024  # octets; the line limits of the protocols take no more


class PasswordError(ValueError):
    """The text says what is wrong with the password, without the password."""


def hash_password(password: str, *, scram: bool = False) -> str:
    """The text to keep. Takes some 50 ms and 64 MiB. Raises PasswordError."""
    if not password:
        raise PasswordError("the password is empty")
    if len(password) < _SHORTEST:
        raise PasswordError(f"the password is shorter than {_SHORTEST} characters; take a longer one")
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in password):
        raise PasswordError("the password has a control character")
    if len(_octets(password)) > _LIMIT:
        raise PasswordError(f"the password is longer than {_LIMIT} octets")
    hashed = _HASHER.hash(_octets(password))
    if not scram:
        return hashed
    try:
        return f"{hashed} {ScramKeys.of(saslprep(password).encode())}"
    except ValueError as error:
        raise PasswordError(f"the password cannot be used with SCRAM: {error}; take another one") from error


def verify_password(stored: str, password: str) -> bool:
    """Takes as long for a wrong password as for the right one."""
    try:
        return _HASHER.verify(stored.partition(" ")[0], _octets(password))
    except (VerificationError, InvalidHashError):
        return False


def scram_keys(stored: str) -> ScramKeys | None:
    """None: there are none."""
    keys = stored.partition(" ")[2]
    return ScramKeys.parse(keys) if keys else None


def generate_password() -> str:
    """A password that can be read aloud and pasted anywhere, as `k7wmd-3xq9a-...`."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))


def _octets(password: str) -> bytes:
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
