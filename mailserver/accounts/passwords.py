"""Passwords as they are kept: an argon2id hash (RFC 9106), and behind it, where that is wanted, keys for SCRAM-SHA-256.

Both stand in one text, so that whoever replaces one replaces the other. The keys are of less strength than the hash
against those who have got hold of the file, which is why they are made only where they are wanted. Hashes of other
servers, `{SCHEME}...`, are checked as well; they are to be renewed at the first login.

Promises   The same text in another Unicode composition, or with another kind of space, is the same password (RFC 8265
           §4.2). What was hashed before by composition alone still fits.
           Refusing a password never takes less time than an argon2id hash does, whatever is kept, or nothing. Schemes
           that cost more than that are told from unknown users by their time, until they are renewed.
On failure PasswordError for one that nobody could type, that is too short or no password at all.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from mailserver.sasl import Hash, SchemeError, ScramKeys, parse_hash, prepare_password, saslprep

log = logging.getLogger(__name__)

_HASHER = PasswordHasher()
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # without characters that look alike
GROUPS, GROUP = 4, 5  # 4 x 5 characters of 31: 99 bits
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
    if len(password.encode("utf-8", "surrogatepass")) > _LIMIT:
        raise PasswordError(f"the password is longer than {_LIMIT} octets")
    try:
        prepare_password(password)
    except ValueError as error:
        raise PasswordError(str(error)) from None
    try:
        return _hash(password, scram=scram)
    except ValueError as error:
        raise PasswordError(f"the password cannot be used with SCRAM: {error}; take another one") from error


def renewed(stored: str, password: str, *, default: str = "", scram: bool = False) -> str | None:
    """What to keep in place of `stored`, which `password` fits; None: that is an argon2id hash already."""
    if parse_hash(_without_keys(stored), default).scheme in ("", "ARGON2ID"):
        return None
    try:
        return _hash(password, scram=scram)
    except ValueError:  # it is in use, so it is kept without the keys for SCRAM
        return _hash(password)


def _hash(password: str, *, scram: bool = False) -> str:
    """Raises ValueError for what cannot be used with SCRAM."""
    hashed = _HASHER.hash(_forms(password)[0])
    return f"{hashed} {ScramKeys.of(saslprep(password).encode())}" if scram else hashed


def verify_password(stored: str, password: str, *, default: str = "") -> bool:
    """`stored` may be empty: nothing fits. `default`: the scheme of a hash that names none."""
    hashed = _usable(stored, default)
    if hashed is None or len(password) > _LIMIT:
        refuse_password(password, stored if hashed is not None else "", default=default)
        return False
    if any(map(hashed.fits, _tried(hashed, password))):
        return True
    if hashed.scheme:
        _refuse(password)
    return False


def refuse_password(password: str, like: str = "", *, default: str = "") -> None:
    """Takes as long as `verify_password` does with another password in place of `like`."""
    hashed = _usable(like, default)
    if hashed is not None:
        for octets in _tried(hashed, password[:_LIMIT]):
            hashed.fits(octets)
    if hashed is None or hashed.scheme:
        _refuse(password[:_LIMIT])


def _tried(hashed: Hash, password: str) -> Sequence[bytes]:
    """Other servers compare what was sent, without a look at Unicode."""
    forms = _forms(password)
    return [*dict.fromkeys([*forms, password.encode("utf-8", "surrogatepass")])] if hashed.scheme else forms


def _usable(stored: str, default: str) -> Hash | None:
    if not stored:
        return None
    try:
        return parse_hash(_without_keys(stored), default)
    except SchemeError as error:
        log.error("a password cannot be checked: its hash %s", error)
        return None


def _refuse(password: str) -> None:
    for octets in _forms(password):
        with suppress(VerificationError):
            _HASHER.verify(_of_nobody(), octets)


@cache
def _of_nobody() -> str:
    return _hash(generate_password())


class Decoys:
    """Hashes for users who do not exist, from among those of users who do: always the same one for a name."""

    def __init__(self, stored: Sequence[str]) -> None:
        self._stored = stored
        self._secret = hashlib.sha256("\0".join(stored).encode("utf-8", "surrogatepass")).digest()

    def of(self, key: tuple[str, str]) -> str:
        """Empty when there are none."""
        mac = hmac.digest(self._secret, "@".join(key).encode("utf-8", "surrogatepass"), "sha256")
        return self._stored[int.from_bytes(mac[:8], "big") % len(self._stored)] if self._stored else ""


def _without_keys(stored: str) -> str:
    return stored if stored.startswith("{") else stored.partition(" ")[0]


def scram_keys(stored: str) -> ScramKeys | None:
    """None: there are none."""
    keys = stored.removeprefix(_without_keys(stored)).strip()
    return ScramKeys.parse(keys) if keys else None


def generate_password() -> str:
    """A password that can be read aloud and pasted anywhere, as `k7wmd-3xq9a-...`."""
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(GROUP)) for _ in range(GROUPS))


def _forms(password: str) -> Sequence[bytes]:
    """As it is kept now, and as it was kept before PRECIS, where that differs: how many there are hangs on it alone."""
    normalised = unicodedata.normalize("NFC", password)
    try:
        forms = [prepare_password(password), normalised]
    except ValueError:
        forms = [normalised]
    return [form.encode("utf-8", "surrogatepass") for form in dict.fromkeys(forms)]
