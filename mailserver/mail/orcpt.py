"""The forms of an address of the type "utf-8", with which a sender names a recipient (RFC 6533 §3).

A sender's name for a recipient is an address type, a semicolon and an address. Of the type "utf-8" it is kept as it was
written, with "\\x{HEX}" for what may not stand there; of all other types decoded from xtext.

Promises   What is said to a server is one word without "+" and "=", whatever it was made of. Else, what is not of the
           form that the standard gives it is passed on without alteration.
"""

from __future__ import annotations

import re

from mailserver.mail.address import Address

UTF_8 = "utf-8;"

_EMBEDDED = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_NOT_QCHAR = re.compile(r"[^!-*,-<>-~]")  # with the backslash left alone: it begins what is encoded already
_NOT_QUCHAR = re.compile(r"[^!-*,-<>-~\x80-\U0010ffff]")


def is_utf8_type(orcpt: str) -> bool:
    return orcpt[: len(UTF_8)].lower() == UTF_8


def in_seven_bits(orcpt: str) -> str:
    """`utf-8-addr-xtext`, for a server without SMTPUTF8."""
    return _NOT_QCHAR.sub(_encoded, orcpt)


def in_eight_bits(orcpt: str) -> str:
    """`utf-8-addr-unitext`, for a server with SMTPUTF8: only what ASCII has no room for stays encoded."""
    return _EMBEDDED.sub(lambda match: _character(match, from_ascii=False), _NOT_QUCHAR.sub(_encoded, orcpt))


def to_show(orcpt: str) -> str:
    """`utf-8-address`, for a report; what cannot be printed stays encoded."""
    return _EMBEDDED.sub(lambda match: _character(match, from_ascii=True), orcpt)


def of_address(address: Address) -> str:
    """As a field of a report names a recipient (RFC 3464 §2.3.2)."""
    return f"{'utf-8' if address.needs_smtputf8 else 'rfc822'}; {address}"


def _encoded(match: re.Match[str]) -> str:
    return f"\\x{{{ord(match[0]):02X}}}"


def _character(match: re.Match[str], *, from_ascii: bool) -> str:
    point = int(match[1], 16)
    if point > 0x10FFFF or not chr(point).isprintable() or (point < 0x80 and not from_ascii):
        return match[0]
    return chr(point)
