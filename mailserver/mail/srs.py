"""The sender rewriting scheme: forwarded mail goes out under an address of the forwarder's domain, and reports on it
find the way back to the first sender.

Addresses are of the known form, so that other forwarders shorten them: `SRS0=hash=day=domain=local@forwarder`, and for
what another forwarder has rewritten `SRS1=hash=that forwarder=its own SRS0 part@forwarder`.

Promises   Only what was rewritten with the same secret leads back: nobody relays through it. SRS0 does so for
           `VALID_DAYS`; SRS1 has no day of its own, but what it leads to has one, which its forwarder looks at. Case
           does not count, as some servers change it.
On failure `SRSError` from `original`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, field

from mailserver.mail.address import LOCAL_PART_LIMIT, Address, AddressError, parse_mailbox

VALID_DAYS = 21
_HASH = 6  # characters of base32: 30 bits
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_CYCLE = 1024  # days; two characters
_DAY = 86400
_SRS0 = re.compile(r"srs0[=+-]([a-z2-7]{4,32})=([a-z2-7]{2})=([^=]+)=(.+)", re.IGNORECASE | re.DOTALL)
_SRS1 = re.compile(r"srs1[=+-]([a-z2-7]{4,32})=([^=]+)=(.+)", re.IGNORECASE | re.DOTALL)
_ANY_SRS0 = re.compile(r"srs0([=+-].+)", re.IGNORECASE | re.DOTALL)  # whoever made it
_ANY_SRS1 = re.compile(r"srs1[=+-][^=]+=([^=]+)=(.+)", re.IGNORECASE | re.DOTALL)


class SRSError(ValueError):
    """It leads nowhere: not rewritten here, or too long ago. The text says which."""


@dataclass(frozen=True, slots=True)
class SRS:
    """`secret`: of this installation, the same for all its processes."""

    secret: bytes = field(repr=False)

    def rewritten(self, sender: Address, domain: str, now: float) -> Address:
        """`sender` as an address of `domain`; itself where that would be too long to be taken elsewhere."""
        if again := _ANY_SRS1.fullmatch(sender.local):
            first, rest = again[1], again[2]
        elif once := _ANY_SRS0.fullmatch(sender.local):
            first, rest = sender.domain, once[1]
        else:
            day = int(now // _DAY) % _CYCLE
            stamp = _BASE32[day >> 5] + _BASE32[day & 31]
            local = f"SRS0={self._hash(stamp, sender.domain, sender.local)}={stamp}={sender.domain}={sender.local}"
            return _fitting(local, domain) or sender
        return _fitting(f"SRS1={self._hash(first, rest)}={first}={rest}", domain) or sender

    @staticmethod
    def is_rewritten(address: Address) -> bool:
        """Is it of this form, whoever made it?"""
        return address.local[:5].lower() in {f"srs{n}{mark}" for n in "01" for mark in "=+-"}

    def original(self, address: Address, now: float) -> Address:
        """Whom a report to this address is for. Raises SRSError."""
        if once := _SRS0.fullmatch(address.local):
            seen, stamp, domain, local = once.groups()
            self._check(seen, stamp, domain, local)
            made = (_BASE32.index(stamp[0].lower()) << 5) + _BASE32.index(stamp[1].lower())
            if (int(now // _DAY) - made) % _CYCLE > VALID_DAYS:
                raise SRSError("the address was made too long ago")
        elif again := _SRS1.fullmatch(address.local):
            seen, domain, rest = again.groups()
            self._check(seen, domain, rest)
            local = f"SRS0{rest}"
        else:
            raise SRSError("the address is malformed")
        try:
            return parse_mailbox(str(Address(local, domain.lower())))
        except AddressError as error:
            raise SRSError(f"the address leads to none: {error}") from None

    def _check(self, seen: str, *parts: str) -> None:
        if not hmac.compare_digest(seen.lower().encode(), self._hash(*parts).lower().encode()):
            raise SRSError("the address was not made here")

    def _hash(self, *parts: str) -> str:
        text = "srs\0" + "\0".join(part.lower() for part in parts)
        digest = hmac.digest(self.secret, text.encode(errors="surrogateescape"), hashlib.sha256)
        return base64.b32encode(digest)[:_HASH].decode().lower()


def _fitting(local: str, domain: str) -> Address | None:
    return Address(local, domain) if len(local.encode(errors="replace")) <= LOCAL_PART_LIMIT else None
