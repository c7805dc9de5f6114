"""Commands about the connection itself (RFC 3501 §6.1, §6.2; RFC 2177 IDLE; RFC 2971 ID; RFC 4959 SASL-IR; RFC 8437
UNAUTHENTICATE).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mailserver.imap.syntax import Fault, Reader
from mailserver.sasl import decode_base64

ID_FIELDS = 30
_INITIAL_RESPONSE = re.compile(rb"[A-Za-z0-9+/=]+")


@dataclass(frozen=True, slots=True)
class Capability:
    pass


@dataclass(frozen=True, slots=True)
class Noop:
    pass


@dataclass(frozen=True, slots=True)
class Logout:
    pass


@dataclass(frozen=True, slots=True)
class Unauthenticate:
    pass


@dataclass(frozen=True, slots=True)
class StartTLS:
    pass


@dataclass(frozen=True, slots=True)
class Idle:
    pass


@dataclass(frozen=True, slots=True)
class Authenticate:
    """`initial` is the initial response, base64 taken off; None when there is none."""

    mechanism: str
    initial: bytes | None = field(repr=False)  # may hold a password


@dataclass(frozen=True, slots=True)
class Login:
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Identify:
    """ID: what the client says of itself, as pairs; empty for NIL."""

    fields: tuple[tuple[str, str | None], ...]


def capability(_reader: Reader) -> Capability:
    return Capability()


def noop(_reader: Reader) -> Noop:
    return Noop()


def logout(_reader: Reader) -> Logout:
    return Logout()


def unauthenticate(_reader: Reader) -> Unauthenticate:
    return Unauthenticate()


def starttls(_reader: Reader) -> StartTLS:
    return StartTLS()


def idle(_reader: Reader) -> Idle:
    return Idle()


def authenticate(reader: Reader) -> Authenticate:
    reader.space()
    mechanism = reader.keyword("mechanism").decode()
    initial = None
    if reader.accept(b" "):
        text = reader.match(_INITIAL_RESPONSE, "initial response")[0]
        try:
            initial = b"" if text == b"=" else decode_base64(text)  # RFC 4959 §3
        except ValueError:
            raise Fault("malformed base64") from None
    return Authenticate(mechanism, initial)


def login(reader: Reader) -> Login:
    reader.space()
    user = reader.astring()
    reader.space()
    password = reader.astring()
    try:
        return Login(user.decode(), password.decode())
    except UnicodeDecodeError:
        raise Fault("user name and password must be UTF-8", status="NO", code="AUTHENTICATIONFAILED") from None


def identify(reader: Reader) -> Identify:
    reader.space()
    if not reader.looking_at(b"("):
        if reader.nstring() is not None:
            raise Fault("list or NIL expected")
        return Identify(())

    def field() -> tuple[str, str | None]:
        name = reader.string()
        reader.space()
        value = reader.nstring()
        return name.decode(errors="replace"), None if value is None else value.decode(errors="replace")

    fields = reader.listed(field, "ID list", empty=True)
    if len(fields) > ID_FIELDS:
        raise Fault("too many ID fields")
    return Identify(fields)
