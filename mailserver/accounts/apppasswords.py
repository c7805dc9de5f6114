"""App passwords: further passwords of an account, made here, one for each program that logs in.

    k7wmd-3xq9a-pq2rt-abcde-fghjk      the first group says which one it is, the others are the secret: 99 bits

Promises   One SHA-256 is computed for a password that is tried, however many app passwords there are: microseconds,
           which nobody can tell behind the hash of the account's own password that follows where none fits. A hash that
           is slow would add nothing: nobody guesses 99 random bits; and programs that look for mail every minute cost
           next to nothing.
           Groups may be typed without hyphens, with spaces, and in upper case.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from mailserver.accounts.passwords import ALPHABET, GROUP, GROUPS, generate_password
from mailserver.config.apppasswords import AppPassword as Section
from mailserver.config.apppasswords import Service, parse_kept

_LIMIT = 200  # characters of what is looked at
_NOTHING = bytes(32)


@dataclass(frozen=True, slots=True)
class AppPassword:
    """`id`: how the password begins. `digest`: its SHA-256, without hyphens."""

    name: str
    id: str
    digest: bytes = field(repr=False)
    scopes: frozenset[Service]

    @classmethod
    def of(cls, section: Section) -> AppPassword:
        key, digest = parse_kept(section.password)
        return cls(section.name, key, digest, frozenset(section.scopes))


def generate_app_password(taken: Collection[str] = ()) -> tuple[str, str]:
    """The password to show once, and the text to keep. `taken`: how others of the account begin."""
    while (key := "".join(secrets.choice(ALPHABET) for _ in range(GROUP))) in taken:
        pass
    shown = f"{key}-{generate_password()}"
    return shown, f"{key}:{hashlib.sha256(_bare(shown)).hexdigest()}"


def find_app_password(known: Sequence[AppPassword], password: str) -> AppPassword | None:
    """The one that `password` is."""
    bare = _bare(password)
    digest = hashlib.sha256(bare).digest()
    named = next((each for each in known if each.id.encode() == bare[:GROUP]), None)
    fits = hmac.compare_digest(digest, named.digest if named is not None else _NOTHING)
    return named if fits and len(bare) == GROUP * (GROUPS + 1) else None


def _bare(password: str) -> bytes:
    """Without what makes it easy to read."""
    return password[:_LIMIT].replace("-", "").replace(" ", "").lower().encode("utf-8", "surrogatepass")
