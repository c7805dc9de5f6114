"""Edits of the accounts file that keep its comments and order.

Promises   The file is replaced as a whole by one that was checked as the server checks it, and whose data differ from
           the former in nothing but the edit. Two editors wait for each other.
On failure EditError, with one line for each reason; the file is as before. OSError when it cannot be read or written.
"""

from __future__ import annotations

import fcntl
import json
import os
import tomllib
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from mailserver.accounts.sections import cut_section, insert_section
from mailserver.config.accounts import parse_account_address
from mailserver.config.files import replace_text
from mailserver.config.loader import ConfigurationError, load_accounts, parse_accounts
from mailserver.config.model import Accounts
from mailserver.config.network import parse_domain_name
from mailserver.config.syntax import parse
from mailserver.mail import Address, AddressError, parse_mailbox

Data = MutableMapping[str, Any]
Edit = Callable[[Data], None]
TextEdit = Callable[[str], str]

_NEW_FILE_MODE = 0o640  # the server reads it by its group
_NEW_FILE = "# Domains, accounts and aliases; the server takes changes over within a second or two.\n"


class EditError(ValueError):
    """The edit was not made; the text says why."""


class AccountsFile:
    """Each method is one edit. A file that does not exist is made by the first one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Accounts:
        """Raises ConfigurationError."""
        return load_accounts(self._path)

    def add_domain(self, name: str) -> str:
        """Returns the domain as it was entered."""
        domain = _domain(name)

        def edit(data: Data) -> None:
            if _find_domain(data, domain) is not None:
                raise EditError(f"the domain {domain} is there already")
            _kind(data, "domain")[domain] = {}

        self._change(edit, lambda text: insert_section(text, ("domain", domain)))
        return domain

    def remove_domain(self, name: str) -> None:
        """Refused while an account or alias is in it."""
        domain = _domain(name)
        removed: list[str] = []

        def edit(data: Data) -> None:
            key = _find_domain(data, domain)
            if key is None:
                raise EditError(f"there is no domain {domain}")
            removed.append(key)
            if users := [text for text in _all_addresses(data) if _domain_of(text) == domain]:
                raise EditError(f"the domain {domain} has addresses still: {', '.join(users)}; remove them first")
            del data["domain"][key]

        self._change(edit, lambda text: cut_section(text, ("domain", removed[0])))

    def add_account(self, address: Address, password: str) -> None:
        """`password` is the hash."""

        def edit(data: Data) -> None:
            _refuse_taken(data, address)
            if _find_domain(data, address.domain) is None:
                raise EditError(f"there is no domain {address.domain}; add it first")
            _kind(data, "account")[str(address)] = {"password": password}

        self._change(edit, lambda text: insert_section(text, ("account", str(address)), f'password = "{password}"\n'))

    def set_password(self, address: Address, password: str) -> None:
        """`password` is the hash."""

        def edit(data: Data) -> None:
            _account(data, address)[1]["password"] = password

        self._change(edit)

    def renew_password(self, address: Address, former: str, password: str) -> None:
        """Another hash of the same password. Refused when the account has no longer the `former` one."""

        def edit(data: Data) -> None:
            _, section = _account(data, address)
            if section["password"] != former:
                raise EditError(f"{address} has another password meanwhile")
            section["password"] = password

        def on_text(text: str) -> str:  # at once, in a file of any size: a hash stands in one place only
            return text.replace(json.dumps(former), json.dumps(password), 1)

        self._change(edit, on_text)

    def set_forward(self, address: Address, targets: Sequence[Address], *, keep_copy: bool) -> None:
        """No targets: it ends."""

        def edit(data: Data) -> None:
            _, section = _account(data, address)
            for key in ("forward", "keep_copy"):
                section.pop(key, None)
            if targets:
                section["forward"] = [str(target) for target in targets]
                section["keep_copy"] = keep_copy

        self._change(edit)

    def set_disabled(self, address: Address, mail: str | None) -> None:
        """`mail`: what becomes of it, "refuse" or "keep"; None: the account is in use again."""

        def edit(data: Data) -> None:
            key, section = _account(data, address)
            if mail is not None:
                section["disabled"] = mail
            elif section.pop("disabled", None) is None:
                raise EditError(f"{key} is not disabled")

        self._change(edit)

    def remove_account(self, address: Address) -> Address:
        """Its aliases go with it. Returns the address as the file had it. Refused while it is a catch-all."""
        removed: list[str] = []

        def edit(data: Data) -> None:
            key, _ = _account(data, address)
            for name, domain in data.get("domain", {}).items():
                if _same(domain.get("catch_all", ""), address):
                    raise EditError(f"{key} is the catch_all of {name}; change that first")
            removed.append(key)
            del data["account"][key]

        self._change(edit, lambda text: cut_section(text, ("account", removed[0])))
        return parse_account_address(removed[0])

    def add_alias(self, alias: Address, members: Sequence[Address]) -> None:
        """Further members of an alias that has a section; a further address of an account, if that is the only one;
        else a new section.
        """
        sections: list[str] = []

        def edit(data: Data) -> None:
            del sections[:]
            section = _alias(data, alias)
            if section is not None:
                _add_members(section, alias, members)
                return
            _refuse_taken(data, alias)
            account = _find_account(data, members[0]) if len(members) == 1 else None
            if account is not None:
                account.setdefault("aliases", []).append(str(alias))
            else:
                sections.append(str(alias))
                _kind(data, "alias")[str(alias)] = {"members": [str(member) for member in members]}

        def on_text(text: str) -> str:
            if not sections:
                return _by_tomlkit(edit)(text)
            listed = json.dumps([str(member) for member in members], ensure_ascii=False)
            return insert_section(text, ("alias", str(alias)), f"members = {listed}\n")

        self._change(edit, on_text)

    def remove_alias(self, alias: Address, members: Sequence[Address] = ()) -> None:
        """Of an alias with a section only these `members`, if there are any."""
        removed: list[str] = []

        def edit(data: Data) -> None:
            section = _alias(data, alias)
            if section is not None and members:
                _remove_members(section, alias, members)
            elif section is not None:
                removed[:] = [key for key in data["alias"] if _same(key, alias)]
                del data["alias"][removed[0]]
            elif members:
                raise EditError(f"{alias} is not a group that has members")
            else:
                _remove_further_address(data, alias)

        def on_text(text: str) -> str:
            return cut_section(text, ("alias", removed[0])) if removed else _by_tomlkit(edit)(text)

        self._change(edit, on_text)

    def _change(self, edit: Edit, on_text: TextEdit | None = None) -> None:
        """Makes the edit on plain data, which tell what is right, and on the text: by `on_text`, else by tomlkit."""
        path = self._path.resolve()
        with _locked(path.parent):
            text = self._text()
            try:
                wanted = parse(text)
            except ValueError as error:
                raise EditError(f"{self._path}: {error}") from None
            try:
                edit(wanted)
                renderings = (render(text) for render in (on_text, _by_tomlkit(edit)) if render is not None)
                changed = next((new for new in renderings if _same_data(new, wanted)), None)
            except (AttributeError, KeyError, TypeError, TOMLKitError):
                changed = None  # sections that are no sections, or TOML that tomlkit cannot edit
            if changed is None:
                raise self._unfit(text)
            try:
                parse_accounts(changed, self._path)
            except ConfigurationError as error:
                raise EditError("\n".join(error.problems)) from None
            replace_text(path, changed, mode=_NEW_FILE_MODE)

    def _text(self) -> str:
        try:
            return self._path.read_bytes().decode()
        except FileNotFoundError:
            return _NEW_FILE
        except UnicodeDecodeError:
            raise EditError(f"{self._path}: is not UTF-8 text; save the file as UTF-8") from None

    def _unfit(self, text: str) -> EditError:
        try:
            parse_accounts(text, self._path)
        except ConfigurationError as broken:
            return EditError("\n".join(broken.problems))
        return EditError(f"{self._path}: is written in a way that this command cannot change; edit it by hand")


def _by_tomlkit(edit: Edit) -> TextEdit:
    def render(text: str) -> str:
        document = tomlkit.parse(text)
        edit(document)
        return tomlkit.dumps(document)

    return render


def _same_data(text: str, wanted: Data) -> bool:
    """Does the text say this? A section without content counts as none."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return {k: v for k, v in data.items() if v != {}} == {k: v for k, v in wanted.items() if v != {}}


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """One editor at a time. The directory is locked, because the file itself is replaced."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _kind(data: Data, name: str) -> Data:
    """`domain`, `account` or `alias`, made when it is missing."""
    section: Data = data.setdefault(name, {})
    return section


def _domain(name: str) -> str:
    try:
        return parse_domain_name(name)
    except ValueError as error:
        raise EditError(f"{name!r} {error}") from None


def _find_domain(data: Data, domain: str) -> str | None:
    return next((str(name) for name in data.get("domain", {}) if name.lower() == domain), None)


def _account(data: Data, address: Address) -> tuple[str, Data]:
    """The key under which the file has the account, and its section."""
    for name, section in data.get("account", {}).items():
        if _same(name, address):
            return str(name), section
    raise EditError(f"there is no account {address}")


def _find_account(data: Data, address: Address) -> Data | None:
    return next((section for name, section in data.get("account", {}).items() if _same(name, address)), None)


def _alias(data: Data, address: Address) -> Data | None:
    return next((section for name, section in data.get("alias", {}).items() if _same(name, address)), None)


def _add_members(section: Data, alias: Address, members: Sequence[Address]) -> None:
    for member in members:
        if any(_same(text, member) for text in section["members"]):
            raise EditError(f"{member} is a member of {alias} already")
        section["members"].append(str(member))


def _remove_members(section: Data, alias: Address, members: Sequence[Address]) -> None:
    for member in members:
        at = next((i for i, text in enumerate(section["members"]) if _same(text, member)), None)
        if at is None:
            raise EditError(f"{member} is no member of {alias}")
        del section["members"][at]
    if not section["members"]:
        raise EditError(f"{alias} would have no members left; remove the alias as a whole")


def _remove_further_address(data: Data, alias: Address) -> None:
    for account in data.get("account", {}).values():
        aliases = account.get("aliases", [])
        for i, text in enumerate(aliases):
            if _same(text, alias):
                del aliases[i]
                return
    raise EditError(f"there is no alias {alias}")


def _all_addresses(data: Data) -> Iterator[str]:
    for name, account in data.get("account", {}).items():
        yield str(name)
        yield from map(str, account.get("aliases", []))
    yield from map(str, data.get("alias", {}))


def _refuse_taken(data: Data, address: Address) -> None:
    if _alias(data, address) is not None:
        raise EditError(f"{address} is an alias already")
    for name, account in data.get("account", {}).items():
        if _same(name, address):
            raise EditError(f"{address} is an account already")
        if any(_same(alias, address) for alias in account.get("aliases", [])):
            raise EditError(f"{address} is an alias of {name} already")


def _same(text: str, address: Address) -> bool:
    try:
        return parse_mailbox(text).key == address.key
    except AddressError:
        return False


def _domain_of(text: str) -> str:
    return text.rpartition("@")[2].lower()
