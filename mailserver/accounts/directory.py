"""Looks up addresses and passwords, in the accounts file and in the other sources that are configured.

An address leads somewhere by the first of these that applies: a source has it as an account or an alias; one has it
without its detail, as "+lists" (RFC 5233); its domain has a catch-all. The postmaster (RFC 5321 §4.5.1) and the abuse
desk (RFC 2142) are always there: where nobody gets their mail by that, the domain's caretaker does. Case of the local
part does not count. A domain belongs to the first source that has it, the accounts file before the others.

Promises   All methods may be called from any thread. Where `blocking` is False they answer from memory.
           A wrong password, an unknown user and a malformed name take the same time.
On failure SourceDown when a source cannot be asked and none before it has the domain: never "no such user".
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mailserver.accounts.apppasswords import find_app_password
from mailserver.accounts.file import FileSource, key_of
from mailserver.accounts.lastuse import LastUses
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
    SourceDown,
    Unknown,
    Visit,
)
from mailserver.accounts.passwords import refuse_password, scram_keys
from mailserver.accounts.tokens import Tokens
from mailserver.mail import Address, parse_mailbox
from mailserver.ports import ClientCertificate
from mailserver.sasl import ScramKeys, prepare_name

log = logging.getLogger(__name__)

POSTMASTER, ABUSE = "postmaster", "abuse"
_ADDRESSES = 20
"""Of a certificate that are looked up."""
NESTED = 10
"""Aliases of one member that are followed one after the other."""
LOOKED_THROUGH = 100
"""Members of a group, those on the way included, among whom somebody is sought who gets the mail."""


class Directory:
    """`file` is asked first, then `others`."""

    def __init__(
        self,
        file: FileSource,
        *,
        others: Sequence[Source] = (),
        tokens: Tokens | None = None,
        uses: LastUses | None = None,
        separator: str = "+",
    ) -> None:
        """`separator` stands before the detail of a subaddress; empty: there are none."""
        self._file = file
        self._sources: tuple[Source, ...] = (file, *others)
        self._separator = separator
        self._tokens = tokens
        self._uses = uses

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
        found = self._entry(source, ours, (local, domain))
        if local in (POSTMASTER, ABUSE) and not self._takes_mail(found):
            return self._caretaker(source, domain, local)
        return _resolution(found)

    def _entry(self, source: Source, ours: Domain, key: Key) -> Account | Alias | None:
        found = self._ask(source, key) or self._find_without_detail(source, *key)
        return self._target(ours.catch_all) if found is None and ours.catch_all is not None else found

    def _takes_mail(self, found: Account | Alias | None) -> bool:
        """Somebody gets what is sent there."""
        members: list[Address] = []
        for _ in range(LOOKED_THROUGH):
            match found:
                case Account(disabled=disabled) if disabled != "refuse":
                    return True
                case Alias(members=more):
                    members += more
            if not members:
                return False
            key = key_of(members.pop())
            source, domain = self._of_domain(key[1])
            if source is None or domain is None:
                return True
            found = self._entry(source, domain, key)
        return True

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

    def _ask(self, source: Source, key: Key) -> Account | Alias | None:
        """Raises SourceDown for an account in a domain of another source: that one alone says whose account it is."""
        found = source.find(key)
        if isinstance(found, Account) and source is not self._file:
            owner, _ = self._of_domain(key_of(found.address)[1])
            if owner is not source:
                raise SourceDown(f"{source.name} has {found.address} at {'@'.join(key)}, and not that domain")
        return found

    def _find(self, key: Key) -> Account | Alias | None:
        source, _ = self._of_domain(key[1])
        return self._ask(source, key) if source is not None else None

    def _target(self, address: Address) -> Account | Alias | None:
        """Of a catch-all or a caretaker, who may be elsewhere."""
        source, _ = self._of_domain(key_of(address)[1])
        return self._ask(source, key_of(address)) if source is not None else Alias(address, (address,))

    def _find_without_detail(self, source: Source, local: str, domain: str) -> Account | Alias | None:
        user, found, _ = local.partition(self._separator) if self._separator else ("", "", "")
        return self._ask(source, (user, domain)) if found else None

    def _caretaker(self, source: Source, domain: str, local: str) -> Resolution:
        """The abuse desk is the postmaster's, where there is one by name."""
        if local == ABUSE and self._takes_mail(named := self._ask(source, (POSTMASTER, domain))):
            return _resolution(named)
        for each in (source, *self._sources):
            address = each.caretaker(domain)
            if address is not None and self._takes_mail(found := self._target(address)):
                return _resolution(found)
        return Unknown()

    def _bare_postmaster(self) -> Resolution:
        """A postmaster by name, in any domain of the file; or whoever cares for any of them."""
        for domain in self._file.current().domains:
            if self._takes_mail(named := self._find((POSTMASTER, domain))):
                return _resolution(named)
        return self._caretaker(self._file, "", POSTMASTER)

    def may_send_as(self, account: Address, sender: Address) -> bool:
        """An account sends from each address that leads to it alone, and from those that it is allowed."""
        local, domain = key_of(sender)
        entry = self._account(account)
        if entry is not None and entry.disabled is not None:  # since it logged in
            return False
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

    def authenticate(self, username: str, password: str, visit: Visit | None = None) -> Address | None:
        """The account's own address when the password is right, or is an app password for what is visited.

        Blocking, some 50 ms. Without a `visit` app passwords are not taken.
        """
        source, account = self._user(username)
        if visit is not None and account is not None and self._by_app_password(account, password, visit):
            return account.address
        if source is None or account is None or account.app_passwords_only:
            self._refuse(username, password)
            return None
        return account.address if source.verify(account, password) else None

    def _by_app_password(self, account: Account, password: str, visit: Visit) -> bool:
        found = find_app_password(account.app_passwords, password)
        if found is None:
            return False
        if visit.service not in found.scopes:
            log.warning("the app password %r of %s is not for %s", found.name, account.address, visit.service)
            return False
        log.info("the app password %r of %s is used for %s", found.name, account.address, visit.service)
        if self._uses is not None:
            self._uses.note(account.address, found.id, visit)
        return True

    def _refuse(self, username: str, password: str) -> None:
        """As slowly as if there were such a user."""
        key = login_key(username)
        source, _ = self._of_domain(key[1]) if key is not None else (None, None)
        if key is None or source is None:
            refuse_password(password)
        else:
            source.refuse(key, password)

    def account_of(self, username: str) -> Address | None:
        """The account that somebody of this name logs in to."""
        _, account = self._user(username)
        return account.address if account is not None else None

    def _user(self, username: str) -> tuple[Source, Account] | tuple[None, None]:
        """By the account's own or a further address, nothing looser. Nobody logs in to a disabled account."""
        key = login_key(username)
        if key is None:
            return None, None
        source, _ = self._of_domain(key[1])
        found = self._ask(source, key) if source is not None else None
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
        keys = scram_keys(account.password) if account is not None and not account.app_passwords_only else None
        return (account.address, keys) if account is not None and keys is not None else None

    def by_certificate(self, certificate: ClientCertificate, authorize_as: str) -> Address | None:
        """The account that the certificate opens: its fingerprint stands there, or it is for an address of the account.

        Where that are several, `authorize_as` has to say which; empty where it needs not. Blocking.
        """
        named = (*certificate.addresses[:_ADDRESSES], *map(str, self._certified(certificate.fingerprint)))
        opened = {account for name in named if (account := self.account_of(name)) is not None}
        if authorize_as:
            wanted = self.account_of(authorize_as)
            return wanted if wanted in opened else None
        return next(iter(opened)) if len(opened) == 1 else None

    def _certified(self, fingerprint: str) -> Sequence[Address]:
        return self._file.current().certificates.get(fingerprint, ())

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


def login_key(username: str) -> Key | None:
    """What somebody of this name is looked up by, the same for all spellings of the name; None: nobody has it."""
    try:
        return key_of(parse_mailbox(prepare_name(username)))
    except ValueError:
        return None


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
