"""App passwords as they stand in the accounts file: further passwords of an account, one for each program."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field

from mailserver.config.fields import Section
from mailserver.config.words import Location

Service = Literal["imap", "pop3", "submission"]
"""What somebody logs in to."""

SERVICES: tuple[Service, ...] = get_args(Service)
LONGEST_NAME = 64

_KEPT = re.compile(r"([a-z2-9]{5}):([0-9a-f]{64})")


def parse_kept(text: str) -> tuple[str, bytes]:
    """The identifier, with which the password begins, and the SHA-256 of the password. Raises ValueError."""
    match = _KEPT.fullmatch(text)
    if match is None:
        raise ValueError("is no app password; let `mailserver account app-password add ADDRESS NAME` write it")
    return match[1], bytes.fromhex(match[2])


def check_name(name: str) -> str:
    """Raises ValueError."""
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise ValueError(f"is no name; write up to {LONGEST_NAME} printable characters, as what the program is")
    return name


def _kept(text: str) -> str:
    parse_kept(text)
    return text


class AppPassword(Section):
    """A further password of the account, for one program. `mailserver account app-password` adds and removes them."""

    name: Annotated[str, AfterValidator(check_name)] = Field(description="what it is for, as the program or the device")
    password: Annotated[str, AfterValidator(_kept)] = Field(
        description="how the password begins, and its SHA-256; `mailserver account app-password add` writes it"
    )
    scopes: tuple[Service, ...] = Field(
        default=SERVICES, min_length=1, description="what may be logged in to with it; no more than that"
    )
    created: datetime | None = Field(default=None, description="when it was made, for `app-password list`")


def app_password_faults(raw: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    """Names and identifiers that one account has twice. What is of the wrong type the model has told."""
    accounts = raw.get("account")
    for address, account in accounts.items() if isinstance(accounts, dict) else ():
        listed = account.get("app_password") if isinstance(account, dict) else None
        seen: set[tuple[str, str]] = set()
        for place, each in enumerate(listed if isinstance(listed, list) else ()):
            if not isinstance(each, dict):
                continue
            name, kept = str(each.get("name", "")), str(each.get("password", "")).partition(":")[0]
            for key, value, remedy in (
                ("name", name, "give each its own name"),
                ("password", kept, "remove one of the two"),
            ):
                if value and (key, value) in seen:
                    yield ("account", address, "app_password", place, key), f"is there twice; {remedy}"
                seen.add((key, value))
