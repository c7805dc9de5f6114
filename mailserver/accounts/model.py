"""What the directory knows: domains, accounts and aliases as a source tells them, and where an address leads.

A source is whatever has them: the accounts file, a passwd-style file, a database, LDAP. It is asked for one exact
address at a time; details, catch-alls and postmasters are the directory's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from mailserver.mail import UNLIMITED, Address, Quota

Key = tuple[str, str]
"""`Address.key` with the domain in A-labels: what sources are asked by."""


class SourceDown(OSError):
    """The source cannot be asked now. That is never an answer about an address; the text is for the log."""


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain whose mail is taken here. `catch_all` gets what is for unknown local parts.

    `caretaker`: what is for the postmaster and the abuse desk, where a source tells it so.
    """

    name: str
    catch_all: Address | None = None
    caretaker: Address | None = None


@dataclass(frozen=True, slots=True)
class Sending:
    """How much an account may send; None: what the server allows everybody."""

    messages_per_day: int | None = None
    recipients: int | None = None
    """Of one message."""


@dataclass(frozen=True, slots=True)
class Account:
    """`password` is as it is kept, empty when nobody logs in by one. `send_as`: keys of addresses that do not lead to
    the account but that it may send from; the local part is "*" for all of a domain.

    `forward`: addresses that get its mail; the mailbox has a copy too if `keep_copy`. `disabled`: nobody logs in; mail
    is refused or kept.
    """

    address: Address
    password: str = field(default="", repr=False)
    quota: Quota = UNLIMITED
    send_as: frozenset[Key] = frozenset()
    forward: tuple[Address, ...] = ()
    keep_copy: bool = True
    disabled: Literal["refuse", "keep"] | None = None
    sending: Sending = Sending()


@dataclass(frozen=True, slots=True)
class Alias:
    """An address that leads to others, here or elsewhere."""

    address: Address
    members: tuple[Address, ...]


class Source(Protocol):
    """Any thread may call. What is not told as `blocking` answers from memory. Raises SourceDown."""

    name: str
    """For the log."""

    blocking: bool

    def domain(self, name: str) -> Domain | None:
        """`name` in A-labels and lower case."""

    def find(self, key: Key) -> Account | Alias | None:
        """What this very address is: an account, by its own or a further address, or an alias."""

    def caretaker(self, domain: str) -> Address | None:
        """Who has the mail for the postmaster of a domain that names none; "" asks for any domain's."""

    def verify(self, account: Account, password: str) -> bool:
        """Is it the password of the account that `find` gave? Blocking. Its hash may be renewed when it is."""

    def reload(self) -> None:
        """What changed counts at once. Blocking."""

    def refuse(self, key: Key, password: str) -> None:
        """Nobody of this name logs in: takes as long as `verify` does with a wrong password. Blocking."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """The address leads to this account."""

    account: Address
    quota: Quota
    forward: tuple[Address, ...] = ()
    keep_copy: bool = True


@dataclass(frozen=True, slots=True)
class Members:
    """The address leads to these others."""

    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Disabled:
    """The address leads to an account that takes no mail now."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The domain is ours, but there is no such user."""


@dataclass(frozen=True, slots=True)
class NotLocal:
    """The domain is not ours."""


Resolution = Mailbox | Members | Disabled | Unknown | NotLocal
