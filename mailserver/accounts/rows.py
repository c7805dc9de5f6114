"""What a row of a database or an entry of an LDAP server says of a domain, an account or an alias.

Both are values by name; names that mean nothing here are passed over. A value may be text, a number, a truth value, or
several texts, as a list or with commas or spaces between them.

On failure ValueError, for what is no value of its name: then nothing is said of the address, rather than half of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from mailserver.accounts.model import Account, Alias, Domain, Key, Sending
from mailserver.config.accounts import parse_account_address
from mailserver.config.model import parse_allowance
from mailserver.config.units import parse_size
from mailserver.mail import Address, Quota, parse_mailbox
from mailserver.mail.address import domain_in_ascii

Row = Mapping[str, object]

MOST_MEMBERS = 1000
"""Of one alias; the router goes no further."""

_SEPARATED = re.compile(r"[,\s]+")
_NO = frozenset({"", "0", "f", "false", "n", "no", "off"})
_YES = frozenset({"1", "t", "true", "y", "yes", "on"})


def domain_of(row: Row, name: str) -> Domain:
    return Domain(name, _address(row, "catch_all"), _address(row, "postmaster"))


def account_of(row: Row, asked: Key, default_domain: str | None = None) -> Account:
    """Without its password. Its own address is in `address`; else it is the one that was asked for."""
    text = _text(row, "address")
    if text and "@" not in text and default_domain:
        text = f"{text}@{default_domain}"
    return Account(
        address=_own(text) if text else Address(*asked),
        quota=Quota(_size(row, "quota"), _count(row, "quota_messages")),
        send_as=frozenset(_allowed(each) for each in _texts(row, "send_as")),
        forward=tuple(_mailbox("forward", each) for each in _texts(row, "forward")),
        keep_copy=_is(row, "keep_copy", absent=True),
        disabled=_disabled(row),
        sending=Sending(_count(row, "messages_per_day"), _count(row, "recipients")),
    )


def alias_of(rows: Sequence[Row], asked: Key) -> Alias:
    """One or more members in each row."""
    members = dict.fromkeys(_mailbox("member", text) for row in rows for text in _texts(row, "member"))
    if not members:
        raise ValueError("it has no member")
    if len(members) > MOST_MEMBERS:
        raise ValueError(f"it has more than {MOST_MEMBERS} members")
    return Alias(Address(*asked), tuple(members))


def password_of(row: Row) -> str:
    """Empty: there is none."""
    return _text(row, "password")


def _own(text: str) -> Address:
    try:
        return parse_account_address(text)
    except ValueError as error:
        raise ValueError(f"its address {text[:80]!r} {error}") from None


def _address(row: Row, name: str) -> Address | None:
    text = _text(row, name)
    return _mailbox(name, text) if text else None


def _mailbox(name: str, text: str) -> Address:
    try:
        return parse_mailbox(text)
    except ValueError as error:
        raise ValueError(f"its {name} {text[:80]!r} is not a mail address: {error}") from None


def _allowed(text: str) -> Key:
    try:
        local, domain = parse_mailbox(parse_allowance(text)).key
    except ValueError as error:
        raise ValueError(f"its send_as {text[:80]!r} {error}") from None
    return local, domain_in_ascii(domain) or domain


def _text(row: Row, name: str) -> str:
    """Of one value; empty where there is none."""
    value = row.get(name)
    if isinstance(value, list | tuple):
        if len(value) > 1:
            raise ValueError(f"it has {len(value)} values of {name}; one is expected")
        value = value[0] if value else None
    if isinstance(value, bytes):
        value = value.decode()
    return "" if value is None else str(value).strip() if name != "password" else str(value)


def _texts(row: Row, name: str) -> list[str]:
    value = row.get(name)
    values = value if isinstance(value, list | tuple) else [] if value is None else [value]
    texts = (each.decode() if isinstance(each, bytes) else str(each) for each in values)
    return [part for text in texts for part in _SEPARATED.split(text) if part]


def _count(row: Row, name: str) -> int | None:
    """Absent and zero: no limit."""
    text = _text(row, name)
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,18}(?:\.0+)?", text):
        raise ValueError(f"its {name} {text[:80]!r} is not a number")
    return int(text.partition(".")[0]) or None


def _size(row: Row, name: str) -> int | None:
    text = _text(row, name)
    if re.fullmatch(r"[0-9.]*", text):
        return _count(row, name)
    try:
        return parse_size(text) or None
    except ValueError as error:
        raise ValueError(f"its {name} {text[:80]!r} {error}") from None


def _is(row: Row, name: str, *, absent: bool) -> bool:
    text = _text(row, name).lower()
    if row.get(name) is None or text in _NO | _YES:
        return absent if row.get(name) is None else text in _YES
    raise ValueError(f"its {name} {text[:80]!r} is neither true nor false")


def _disabled(row: Row) -> Literal["refuse", "keep"] | None:
    text = _text(row, "disabled").lower()
    if text in ("refuse", "keep"):
        return "keep" if text == "keep" else "refuse"
    return "refuse" if _is(row, "disabled", absent=False) else None
