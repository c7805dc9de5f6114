"""Password hashes as other servers keep them: `{SCHEME}` and the hash, in the notation of Dovecot and of LDAP servers.

    {ARGON2ID}$argon2id$...   {BLF-CRYPT}$2y$05$...   {SHA512-CRYPT}$6$...   {SSHA512.HEX}0123...   {PLAIN}secret

Behind the name may stand how what follows is encoded: `.HEX` or `.B64`. What has no name is an argon2id hash.

Promises   Checking one takes a bounded time and memory: a hash that asks for more is refused when it is parsed.
           Passwords are compared as octets and in constant time. No hash stands in an error's text.
On failure SchemeError for a scheme that is not known, a hash that is none of its scheme, and one that costs too much.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode
from binascii import Error as EncodingError
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

Check = Callable[[bytes], bool]

LONGEST = 4096  # characters of a hash with its scheme
MOST_ROUNDS = 1_000_000  # of SHA-CRYPT, PBKDF2 and SCRAM: below a second
MOST_BCRYPT_COST = 14  # a second
MOST_ARGON2_MEMORY = 256 * 1024  # KiB
MOST_ARGON2_WORK = 4 * 1024 * 1024  # KiB times passes: a second
MOST_ARGON2_LANES = 64

CLEAR = ("PLAIN", "CLEAR", "CLEARTEXT")
"""Schemes that keep the password itself."""

_NAMED = re.compile(r"\{([A-Za-z0-9-]{1,30})(?:\.([A-Za-z0-9]{1,10}))?\}(.*)", re.DOTALL)
_ROUNDS = re.compile(r"\$[56]\$rounds=([0-9]+)\$")
_BCRYPT = re.compile(r"\$2[abxy]?\$([0-9]{2})\$[./A-Za-z0-9]{53}")
_PBKDF2 = re.compile(r"\$1\$([^$]{0,512})\$([0-9]{1,9})\$([0-9a-f]{40})")
_SCRAM = re.compile(r"([0-9]{1,9}),([A-Za-z0-9+/=]+),([A-Za-z0-9+/=]+),([A-Za-z0-9+/=]+)")
_BCRYPT_LIMIT = 72  # octets; what stands behind never counted

_HASHER = PasswordHasher()


class SchemeError(ValueError):
    """The hash cannot be used; the text says why and what to do, without the hash."""


@dataclass(frozen=True, slots=True)
class Hash:
    """One that can be checked. `scheme` is empty for an argon2id hash without a name, as this server writes it."""

    scheme: str
    fits: Check


def parse_hash(stored: str, default: str = "") -> Hash:
    """`default`: the scheme of a hash that names none and shows none. Costs nothing. Raises SchemeError."""
    if len(stored) > LONGEST:
        raise SchemeError(f"is longer than {LONGEST} characters; take a new password")
    match = _NAMED.fullmatch(stored)
    usual = "" if stored.startswith("$argon2id$") else default
    scheme, encoding, text = (match[1], match[2], match[3]) if match else (usual, None, stored)
    make = _SCHEMES.get(scheme.upper())
    if make is None:
        raise SchemeError(f"has the scheme {scheme}, which this server does not check; take a new password")
    try:
        return Hash(scheme.upper(), make(text, (encoding or "").upper()))
    except SchemeError:
        raise
    except ValueError:
        raise SchemeError(f"is no hash of the scheme {scheme or 'argon2id'}; take a new password") from None


def _costs_too_much() -> SchemeError:
    return SchemeError("asks for more work than a login may cost; take a new password")


# Argon2 and the family of crypt(3). Their text is never encoded by itself, but may be with a suffix.


def _plain_text(text: str, encoding: str) -> bytes:
    return _decoded(text, encoding) if encoding else text.encode("utf-8", "surrogatepass")


def _argon2(kinds: str) -> Callable[[str, str], Check]:
    def make(text: str, encoding: str) -> Check:
        stored = _plain_text(text, encoding).decode("ascii")
        try:
            cost = extract_parameters(stored)
        except InvalidHashError:
            raise ValueError("not argon2") from None
        if cost.type.name not in kinds.split() or not all(stored.split("$")[-2:]):
            raise ValueError("another kind of argon2")
        memory, passes, lanes = cost.memory_cost, cost.time_cost, cost.parallelism
        if memory > MOST_ARGON2_MEMORY or memory * passes > MOST_ARGON2_WORK or lanes > MOST_ARGON2_LANES:
            raise _costs_too_much()

        def fits(password: bytes) -> bool:
            try:
                return _HASHER.verify(stored, password)
            except (VerificationError, InvalidHashError):
                return False

        return fits

    return make


def _bcrypt(text: str, encoding: str) -> Check:
    stored = _plain_text(text, encoding).decode("ascii")
    match = _BCRYPT.fullmatch(stored)
    if match is None:
        raise ValueError("not bcrypt")
    if int(match[1]) > MOST_BCRYPT_COST:
        raise _costs_too_much()
    kept = stored.encode()

    def fits(password: bytes) -> bool:
        import bcrypt

        try:
            return b"\0" not in password and bcrypt.checkpw(password[:_BCRYPT_LIMIT], kept)
        except ValueError:  # a salt that is none
            return False

    return fits


def _of_libpass(*names: str) -> Callable[[str, str], Check]:
    """Those of crypt(3) that libpass has, by their names there."""

    def make(text: str, encoding: str) -> Check:
        stored = _plain_text(text, encoding).decode("ascii")
        rounds = _ROUNDS.match(stored)
        if rounds and (len(rounds[1]) > 9 or int(rounds[1]) > MOST_ROUNDS):
            raise _costs_too_much()
        from passlib import hash as schemes

        found = next((scheme for name in names if (scheme := getattr(schemes, name)).identify(stored)), None)
        if found is None:
            raise ValueError("another kind of crypt")
        found.from_string(stored)  # raises what is a ValueError

        def fits(password: bytes) -> bool:
            return b"\0" not in password and bool(found.verify(password, stored))

        return fits

    return make


def _crypt(text: str, encoding: str) -> Check:
    """What crypt(3) takes; it tells from the beginning."""
    stored = _plain_text(text, encoding).decode("ascii")
    if stored.startswith("$2"):
        return _bcrypt(stored, "")
    if stored.startswith("$argon2"):
        return _argon2("I ID")(stored, "")
    return _of_libpass("sha512_crypt", "sha256_crypt", "md5_crypt", "des_crypt")(stored, "")


# Digests, which cost an attacker nothing; people move here with them.


def _decoded(text: str, encoding: str, length: int = 0) -> bytes:
    """Without a name of the encoding it shows from the length of what was encoded, if that is known."""
    if encoding == "HEX" or (not encoding and length and len(text) == 2 * length):
        return bytes.fromhex(text)
    if encoding not in ("", "B64", "BASE64"):
        raise ValueError("an encoding that is not known")
    try:
        return b64decode(text, validate=True)
    except EncodingError:
        raise ValueError("not base64") from None


def _digest(algorithm: str) -> Callable[[str, str], Check]:
    length = hashlib.new(algorithm, usedforsecurity=False).digest_size

    def make(text: str, encoding: str) -> Check:
        kept = _decoded(text, encoding, length)
        if len(kept) != length:
            raise ValueError("another length")
        return lambda password: hmac.compare_digest(_of(algorithm, password), kept)

    return make


def _salted(algorithm: str) -> Callable[[str, str], Check]:
    """The salt stands behind the digest, and behind the password when that is digested."""
    length = hashlib.new(algorithm, usedforsecurity=False).digest_size

    def make(text: str, encoding: str) -> Check:
        kept = _decoded(text, encoding)
        if len(kept) < length:
            raise ValueError("another length")
        return lambda password: hmac.compare_digest(_of(algorithm, password + kept[length:]), kept[:length])

    return make


def _of(algorithm: str, data: bytes) -> bytes:
    return hashlib.new(algorithm, data, usedforsecurity=False).digest()


def _pbkdf2(text: str, encoding: str) -> Check:
    match = _PBKDF2.fullmatch(_plain_text(text, encoding).decode("ascii"))
    if match is None:
        raise ValueError("not PBKDF2 as Dovecot writes it")
    salt, rounds, kept = match[1].encode(), _rounds(match[2]), bytes.fromhex(match[3])
    return lambda password: hmac.compare_digest(hashlib.pbkdf2_hmac("sha1", password, salt, rounds), kept)


def _scram(algorithm: str) -> Callable[[str, str], Check]:
    """Keys of SCRAM (RFC 5802 §3) as Dovecot writes them, against a password in clear."""

    def make(text: str, encoding: str) -> Check:
        match = _SCRAM.fullmatch(_plain_text(text, encoding).decode("ascii"))
        if match is None:
            raise ValueError("not SCRAM as Dovecot writes it")
        rounds, salt, kept = _rounds(match[1]), _decoded(match[2], ""), _decoded(match[3], "")

        def fits(password: bytes) -> bool:
            salted = hashlib.pbkdf2_hmac(algorithm, password, salt, rounds)
            client_key = hmac.digest(salted, b"Client Key", algorithm)
            return hmac.compare_digest(hashlib.new(algorithm, client_key).digest(), kept)

        return fits

    return make


def _rounds(text: str) -> int:
    rounds = int(text)
    if rounds < 1:
        raise ValueError("no rounds")
    if rounds > MOST_ROUNDS:
        raise _costs_too_much()
    return rounds


def _plain(text: str, encoding: str) -> Check:
    kept = _plain_text(text, encoding)
    if not kept:
        raise ValueError("no password")
    return lambda password: hmac.compare_digest(password, kept)


_SCHEMES: Mapping[str, Callable[[str, str], Check]] = {
    "": _argon2("ID"),
    "ARGON2ID": _argon2("ID"),
    "ARGON2I": _argon2("I"),
    "ARGON2": _argon2("I ID"),
    "BLF-CRYPT": _bcrypt,
    "SHA512-CRYPT": _of_libpass("sha512_crypt"),
    "SHA256-CRYPT": _of_libpass("sha256_crypt"),
    "MD5-CRYPT": _of_libpass("md5_crypt"),
    "MD5": _of_libpass("md5_crypt"),  # what Dovecot means by it
    "DES-CRYPT": _of_libpass("des_crypt"),
    "CRYPT": _crypt,
    "PBKDF2": _pbkdf2,
    "SCRAM-SHA-256": _scram("sha256"),
    "SCRAM-SHA-1": _scram("sha1"),
    "SSHA512": _salted("sha512"),
    "SSHA256": _salted("sha256"),
    "SSHA": _salted("sha1"),
    "SMD5": _salted("md5"),
    "SHA512": _digest("sha512"),
    "SHA256": _digest("sha256"),
    "SHA": _digest("sha1"),
    "SHA1": _digest("sha1"),
    "PLAIN-MD5": _digest("md5"),
    "LDAP-MD5": _digest("md5"),
} | dict.fromkeys(CLEAR, _plain)
"""Upper-case name to what makes a check of a text and its encoding. Those of CRAM-MD5, DIGEST-MD5 and OTP are missing:
they can be checked with the user's name or a state of MD5 only, and their mechanisms are not spoken here.
"""
