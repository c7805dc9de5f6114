"""A file of users as Dovecot's passwd-file has it, as a source of the directory.

    user:{SCHEME}hash:uid:gid:gecos:home:shell:extra fields

Of the extra fields those count that set the quota (`userdb_quota_rule=*:storage=5G:messages=1000`) and those that keep
somebody out (`nologin`, `allow_nets` and others: what cannot be judged here lets nobody in). User, group, home and
shell mean nothing: mail lies where this server keeps it. A domain is ours when a user is in it.

Promises   As the accounts file: answers from memory, changes are taken over within a second or two. A line with a fault
           is logged, without its hash, and costs no more than it must: without a name that is an address the user is
           passed over; without a hash that can be checked nobody logs in; without a quota that is one there is none.
           The file is only read: hashes in it are never renewed.
On failure ConfigurationError from the constructor; later what was read before stays in force, as when no user is left.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mailserver.accounts.model import Account, Alias, Domain, Key
from mailserver.accounts.passwords import Decoys, refuse_password, verify_password
from mailserver.accounts.watched import Watched
from mailserver.config.accounts import parse_account_address
from mailserver.config.loader import ConfigurationError
from mailserver.mail import UNLIMITED, Address, Quota
from mailserver.sasl import SchemeError, parse_hash

log = logging.getLogger(__name__)

LARGEST = 64 * 2**20  # octets
SHOWN = 20  # faults of one reading
CRYPT = "CRYPT"  # the scheme where none is named, as in Dovecot

KEEPS_OUT = ("nologin", "nopassword", "allow_nets", "allow_real_nets", "noauthenticate", "proxy", "proxy_maybe")

_RULE = re.compile(r"userdb_quota_rule[0-9]*")
_LIMIT = re.compile(r"(storage|bytes|messages)=([0-9]{1,15})([bkmgt]?)", re.IGNORECASE)
_UNITS = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


class Snapshot:
    """One reading of the file, never changed after it was made. `problems`: a line for each fault."""

    def __init__(self, lines: Iterator[bytes], default_domain: str | None, default_scheme: str) -> None:
        self.accounts: dict[Key, Account] = {}
        self.domains: dict[str, Domain] = {}
        self.caretakers: dict[str, Address] = {}  # "" has the first user of all
        self.problems: list[str] = []
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.startswith((b"#", b":")):
                faults: list[str] = []
                self._add(line, default_domain, default_scheme, faults)
                self.problems += (f"line {number}: {fault}" for fault in faults)
        self.decoys = Decoys([each.password for each in self.accounts.values() if each.password])

    def _add(self, line: bytes, default_domain: str | None, default_scheme: str, faults: list[str]) -> None:
        try:
            fields = line.decode().split(":", 7)
        except UnicodeDecodeError:
            faults.append("is not UTF-8 text; the user is passed over")
            return
        fields += [""] * (8 - len(fields))
        name, extra = fields[0], fields[7].split()
        if "@" not in name and default_domain is None:
            faults.append("the user has no domain, and there is no default_domain; the user is passed over")
            return
        try:
            address = parse_account_address(name if "@" in name else f"{name}@{default_domain}")
        except ValueError as error:
            faults.append(f"the user {error}; the user is passed over")
            return
        if address.key in self.accounts:
            faults.append(f"{address} is there already, case does not count; the first one stays")
            return
        password = _password(fields[1], default_scheme, extra, faults)
        self.accounts[address.key] = Account(address, password, _quota(extra, faults))
        self.domains.setdefault(address.domain, Domain(address.domain))
        self.caretakers.setdefault(address.domain, address)
        self.caretakers.setdefault("", address)


def _password(stored: str, default_scheme: str, extra: list[str], faults: list[str]) -> str:
    """Empty: nobody logs in."""
    given = (field.partition("=") for field in extra)
    out = next((name for name, _, value in given if name in KEEPS_OUT and value not in ("n", "no")), None)
    if out is not None:
        if out != "nologin":
            faults.append(f"has {out}, which this server cannot judge; nobody logs in")
        return ""
    if stored:
        try:
            parse_hash(stored, default_scheme)
        except SchemeError as error:
            faults.append(f"the hash {error}; until then nobody logs in")
            return ""
    return stored


def _quota(extra: list[str], faults: list[str]) -> Quota:
    """By the rule for all mailboxes together. Zero is no limit."""
    octets = messages = None
    for field in extra:
        rule, _, value = field.partition("=")
        mailbox, _, limits = value.partition(":")
        if not _RULE.fullmatch(rule) or mailbox != "*":
            continue
        for text in limits.split(":"):
            match = _LIMIT.fullmatch(text)
            if match is None:
                faults.append(f"{rule} is not *:storage=5G or *:messages=1000, or both; that limit does not count")
            elif match[1].lower() == "messages":
                messages = int(match[2]) or None
            else:
                unit = match[3].lower() or ("k" if match[1].lower() == "storage" else "b")
                octets = int(match[2]) * _UNITS[unit] or None
    return Quota(octets, messages) if octets or messages else UNLIMITED


class PasswdSource:
    """Raises ConfigurationError when the file cannot be used at first."""

    blocking = False

    def __init__(
        self,
        path: Path,
        *,
        default_domain: str | None = None,
        default_scheme: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = str(path)
        self._path = path
        self._default_domain = default_domain
        self._default_scheme = default_scheme or CRYPT
        self._watched = Watched(path, self._read, monotonic=monotonic)

    def domain(self, name: str) -> Domain | None:
        return self._watched.current().domains.get(name)

    def find(self, key: Key) -> Account | Alias | None:
        return self._watched.current().accounts.get(key)

    def caretaker(self, domain: str) -> Address | None:
        return self._watched.current().caretakers.get(domain)

    def verify(self, account: Account, password: str) -> bool:
        if not account.password:
            self.refuse(account.address.key, password)
            return False
        return verify_password(account.password, password, default=self._default_scheme)

    def refuse(self, key: Key, password: str) -> None:
        refuse_password(password, self._watched.current().decoys.of(key), default=self._default_scheme)

    def reload(self) -> None:
        self._watched.reload()

    def try_out(self) -> list[str]:
        """What is wrong with single lines."""
        return [f"{self._path}: {problem}" for problem in self._watched.current().problems]

    def _read(self, former: Snapshot | None) -> Snapshot:
        try:
            with self._path.open("rb") as file:
                content = file.read(LARGEST + 1)
        except OSError as error:
            raise ConfigurationError([f"{self._path}: cannot be read: {error.strerror or error}"]) from None
        if len(content) > LARGEST:
            raise ConfigurationError([f"{self._path}: is larger than {LARGEST >> 20} MiB; keep users in a database"])
        lines = (line.removesuffix(b"\r") for line in content.split(b"\n"))
        snapshot = Snapshot(lines, self._default_domain, self._default_scheme)
        if former is not None and former.accounts and not snapshot.accounts:
            raise ConfigurationError([f"{self._path}: has no user any more; if that is meant, start the server again"])
        for problem in snapshot.problems[:SHOWN]:
            log.warning("%s: %s", self._path, problem)
        if len(snapshot.problems) > SHOWN:
            log.warning("%s: and %d more faults", self._path, len(snapshot.problems) - SHOWN)
        return snapshot
