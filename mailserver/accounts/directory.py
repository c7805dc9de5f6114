"""Looks up addresses and passwords, in the accounts file and in the other sources that are configured.

An address leads somewhere by the first of these that applies: a source has it as an account or an alias; one has it
without its detail, as "+lists" (RFC 5233); its domain has a catch-all; it is the postmaster (RFC 5321 §4.5.1) or the
abuse desk (RFC 2142), who are always there: the domain's caretaker has it then. Case of the local part does not count.
A domain belongs to the first source that has it, the accounts file before the others.

Promises   All methods may be called from any thread. Where `blocking` is False they answer from memory.
           A wrong password, an unknown user and a malformed name take the same time.
On failure SourceDown when a source cannot be asked and none before it has the domain: never "no such user".
"""

from __future__ import annotations

from collections.abc import Sequence

from mailserver.accounts.file import FileSource, key_of
from mailserver.accounts.model import (
    Account,
    Alias,
    Disabled,
    Domain,
    Key,
    Mailbox,
    Members,
    NotLocal,
    Resolution,
    Sending,
    Source,
    Unknown,
)
from mailserver.accounts.passwords import refuse_password, scram_keys
from mailserver.accounts.tokens import Tokens
from mailserver.mail import Address, AddressError, parse_mailbox
from mailserver.sasl import ScramKeys

POSTMASTER, ABUSE = "postmaster", "abuse"
NESTED = 10
"""Aliases of one member that are followed one after the other."""


class Directory:
    """`file` is asked first, then `others`."""

    def __init__(
        self,
        file: FileSource,
        *,
        others: Sequence[Source] = (),
        tokens: Tokens | None = None,
        separator: str = "+",
    ) -> None:
        """`separator` stands before the detail of a subaddress; empty: there are none."""
        self._file = file
        self._sources: tuple[Source, ...] = (file, *others)
        self._separator = separator
        self._tokens = tokens

    @property
    def blocking(self) -> bool:
        """A lookup may wait for a disk or another server."""
        return any(source.blocking for source in self._sources)

    def reload(self) -> None:
        """What changed in any source counts at once. Blocking."""
        for source in self._sources:
            source.reload()

    # Addresses

    def resolve(self, address: Address) -> Resolution:
        local, domain = key_of(address)
        if not domain:
            return self._bare_postmaster() if local == POSTMASTER else NotLocal()
        source, ours = self._of_domain(domain)
        if source is None or ours is None:
            return NotLocal()
        found = source.find((local, domain)) or self._find_without_detail(source, local, domain)
        if found is None and ours.catch_all is not None:
            found = self._find(key_of(ours.catch_all))
        if found is None and local in (POSTMASTER, ABUSE):
            return self._caretaker(source, domain, local)
        return _resolution(found)

    def source_of(self, address: Address) -> str | None:
        """The name of the source that has its domain."""
        _, domain = key_of(address)
        source, _ = self._of_domain(domain)
        return source.name if source is not None else None

    def _of_domain(self, name: str) -> tuple[Source, Domain] | tuple[None, None]:
        """The source that it belongs to."""
        for source in self._sources:
            if (domain := source.domain(name)) is not None:
                return source, domain
        return None, None

    def _find(self, key: Key) -> Account | Alias | None:
        source, _ = self._of_domain(key[1])
        return source.find(key) if source is not None else None

    def _find_without_detail(self, source: Source, local: str, domain: str) -> Account | Alias | None:
        user, found, _ = local.partition(self._separator) if self._separator else ("", "", "")
        return source.find((user, domain)) if found else None

    def _caretaker(self, source: Source, domain: str, local: str) -> Resolution:
        """The abuse desk is the postmaster's, where there is one by name."""
        if local == ABUSE and (named := source.find((POSTMASTER, domain))) is not None:
            return _resolution(named)
        for each in (source, *self._sources):
            if (address := each.caretaker(domain)) is not None:
                return _resolution(self._find(key_of(address)))
        return Unknown()

    def _bare_postmaster(self) -> Resolution:
        """A postmaster by name, in the domain of any account of the file; or whoever cares for any of them."""
        domains = [domain for domain in self._file.current().caretakers if domain]
        for domain in domains:
            if (named := self._find((POSTMASTER, domain))) is not None:
                return _resolution(named)
        return self._caretaker(self._file, "", POSTMASTER)

    def may_send_as(self, account: Address, sender: Address) -> bool:
        """An account sends from each address that leads to it alone, and from those that it is allowed."""
        local, domain = key_of(sender)
        entry = self._account(account)
        if entry is not None and not entry.send_as.isdisjoint({(local, domain), ("*", domain)}):
            return True
        for _ in range(NESTED):
            match self.resolve(sender):
                case Mailbox(account=owner):
                    return owner == account and bool(sender.domain)
                case Members(addresses=(sender,)):
                    continue
            return False
        return False

    def sending(self, account: Address) -> Sending:
        """How much it may send."""
        entry = self._account(account)
        return entry.sending if entry is not None else Sending()

    def _account(self, address: Address) -> Account | None:
        found = self._find(key_of(address))
        return found if isinstance(found, Account) else None

    # Logging in

    def authenticate(self, username: str, password: str) -> Address | None:
        """The account's own address when the password is right; blocking, some 50 ms."""
        source, account = self._user(username)
        if source is None or account is None:
            self._refuse(username, password)
            return None
        return account.address if source.verify(account, password) else None

    def _refuse(self, username: str, password: str) -> None:
        """As slowly as if there were such a user."""
        try:
            key = key_of(parse_mailbox(username))
        except AddressError:
            refuse_password(password)
            return
        source, _ = self._of_domain(key[1])
        if source is None:
            refuse_password(password)
        else:
            source.refuse(key, password)

    def account_of(self, username: str) -> Address | None:
        """The account that somebody of this name logs in to."""
        _, account = self._user(username)
        return account.address if account is not None else None

    def _user(self, username: str) -> tuple[Source, Account] | tuple[None, None]:
        """By the account's own or a further address, nothing looser. Nobody logs in to a disabled account."""
        try:
            key = key_of(parse_mailbox(username))
        except AddressError:
            return None, None
        source, _ = self._of_domain(key[1])
        found = source.find(key) if source is not None else None
        if source is None or not isinstance(found, Account) or found.disabled is not None:
            return None, None
        return source, found

    def scram_iterations(self) -> Sequence[int]:
        """Those of all accounts, ascending."""
        return self._file.current().iterations

    def offers_scram(self) -> bool:
        """Whether all accounts have keys: a client takes the best that is offered, and could not fall back."""
        return len(self._sources) == 1 and self._file.current().scram

    def scram_keys(self, username: str) -> tuple[Address, ScramKeys] | None:
        """Of an account; None: there is none of that name, or it has no keys."""
        _, account = self._user(username)
        keys = scram_keys(account.password) if account is not None else None
        return (account.address, keys) if account is not None and keys is not None else None

    @property
    def offers_tokens(self) -> bool:
        """Whether there is an issuer whose tokens are taken."""
        return self._tokens is not None

    def by_token(self, username: str, token: str) -> Address | None:
        """The account that the token is for, if it is good and `username` leads there too or is empty. Blocking."""
        address = self._tokens.address(token) if self._tokens is not None else None
        owner = self.account_of(address) if address else None
        user = self.account_of(username) if username else owner
        return owner if owner is not None and owner == user else None


def _resolution(found: Account | Alias | None) -> Resolution:
    match found:
        case None:
            return Unknown()
        case Alias(members=members):
            return Members(members)
        case Account(disabled="refuse"):
            return Disabled()
        case Account(disabled="keep"):  # its forwarding is the user's, who is not there
            return Mailbox(found.address, found.quota)
    return Mailbox(found.address, found.quota, found.forward, found.keep_copy)
