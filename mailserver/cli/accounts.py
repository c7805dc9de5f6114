"""`mailserver account`, `mailserver alias` and `mailserver domain`: edits of the accounts file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import click

from mailserver.accounts import generate_password, hash_password
from mailserver.cli.common import (
    Context,
    Failure,
    as_json,
    parse_address,
    parse_members,
    pass_context,
    print_json,
    print_table,
)
from mailserver.config.model import Account
from mailserver.config.units import format_size
from mailserver.datadir import DataDirectory
from mailserver.mail import Address
from mailserver.store.folders import account_path

_TAKEN_OVER = "a running server takes it over within a second or two"

F = TypeVar("F", bound=Callable[..., object])


def _password_options(command: F) -> F:
    stdin = click.option("--password-stdin", "from_stdin", is_flag=True, help="Read the password from standard input.")
    generate = click.option("--generate", is_flag=True, help="Make a password and print it once.")
    return generate(stdin(command))


def _new_password(from_stdin: bool, generate: bool) -> str:
    if from_stdin and generate:
        raise click.UsageError("--password-stdin and --generate exclude each other")
    if generate:
        return generate_password()
    if from_stdin:
        return _first_line()
    if not sys.stdin.isatty():
        raise Failure("there is no terminal to ask for the password; use --password-stdin or --generate")
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return password


def _first_line() -> str:
    try:
        return sys.stdin.buffer.readline().decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise Failure("the password on standard input is not UTF-8 text") from None


def _hashed(context: Context, password: str) -> str:
    return hash_password(password, scram=context.configuration.auth.scram)


@click.group()
def account() -> None:
    """Add, list and remove accounts; set passwords."""


@account.command("add")
@click.argument("address", callback=parse_address)
@_password_options
@pass_context
def add_account(context: Context, address: Address, from_stdin: bool, generate: bool) -> None:
    """Add an account; its domain must be there."""
    password = _new_password(from_stdin, generate)
    context.accounts.add_account(address, _hashed(context, password))
    if generate:
        click.echo(password)
    click.echo(f"{address} is added; {_TAKEN_OVER}", err=generate)
    maildir = _maildir(context, address)
    with suppress(OSError):  # who may not look there is told nothing
        if maildir.exists():
            click.echo(f"{maildir} was there already: the mail in it belongs to {address} now", err=generate)


@account.command("passwd")
@click.argument("address", callback=parse_address)
@_password_options
@pass_context
def set_password(context: Context, address: Address, from_stdin: bool, generate: bool) -> None:
    """Give an account a new password."""
    password = _new_password(from_stdin, generate)
    context.accounts.set_password(address, _hashed(context, password))
    if generate:
        click.echo(password)
    click.echo(f"{address} has a new password; {_TAKEN_OVER}", err=generate)


@account.command("forward")
@click.argument("address", callback=parse_address)
@click.argument("targets", nargs=-1, callback=parse_members)
@click.option("--no-copy", is_flag=True, help="Nothing stays in the mailbox.")
@pass_context
def forward(context: Context, address: Address, targets: tuple[Address, ...], no_copy: bool) -> None:
    """Send what comes for an account on to TARGETS, here or elsewhere; without any, no longer."""
    context.accounts.set_forward(address, targets, keep_copy=not no_copy)
    click.echo(f"{address} is forwarded to {', '.join(map(str, targets)) or 'nobody'}; {_TAKEN_OVER}")


@account.command("disable")
@click.argument("address", callback=parse_address)
@click.option("--keep-mail", is_flag=True, help="Go on taking mail for it.")
@pass_context
def disable(context: Context, address: Address, keep_mail: bool) -> None:
    """Let nobody log in to an account, and refuse its mail."""
    context.accounts.set_disabled(address, "keep" if keep_mail else "refuse")
    click.echo(f"{address} is disabled, its mail is {'kept' if keep_mail else 'refused'}; {_TAKEN_OVER}")


@account.command("enable")
@click.argument("address", callback=parse_address)
@pass_context
def enable(context: Context, address: Address) -> None:
    """Let an account be used again."""
    context.accounts.set_disabled(address, None)
    click.echo(f"{address} is in use again; {_TAKEN_OVER}")


@account.command("list")
@as_json
@pass_context
def list_accounts(context: Context, as_json: bool) -> None:
    """List the accounts with their aliases and quotas."""
    accounts = context.accounts.read().account
    if as_json:
        print_json([{"address": name} | _shown(account) for name, account in accounts.items()])
        return
    rows = [
        (name, _state(each), _quota(each), ", ".join(each.aliases) or "-", ", ".join(each.forward) or "-")
        for name, each in accounts.items()
    ]
    print_table(("ACCOUNT", "STATE", "QUOTA", "ALIASES", "FORWARDED TO"), rows)


@account.command("remove")
@click.argument("address", callback=parse_address)
@pass_context
def remove_account(context: Context, address: Address) -> None:
    """Remove an account and its aliases. Its mail stays on disk."""
    removed = context.accounts.remove_account(address)
    click.echo(f"{removed} is removed; its mail, if it ever had any, stays in {_maildir(context, removed)}")


def _shown(account: Account) -> dict[str, object]:
    return {
        "aliases": list(account.aliases),
        "forward": list(account.forward),
        "keep_copy": account.keep_copy,
        "disabled": account.disabled,
        "quota": account.quota,
        "quota_messages": account.quota_messages,
    }


def _state(account: Account) -> str:
    return {None: "in use", "refuse": "disabled, mail refused", "keep": "disabled, mail kept"}[account.disabled]


def _quota(account: Account) -> str:
    messages = f"{account.quota_messages} messages" if account.quota_messages is not None else ""
    return ", ".join(filter(None, (format_size(account.quota) if account.quota else "", messages))) or "-"


def _maildir(context: Context, address: Address) -> Path:
    return DataDirectory(context.configuration.data).mail / account_path(address)


@click.group()
def alias() -> None:
    """Add, list and remove further addresses of accounts, and groups."""


@alias.command("add")
@click.argument("address", callback=parse_address)
@click.argument("members", nargs=-1, required=True, callback=parse_members)
@pass_context
def add_alias(context: Context, address: Address, members: tuple[Address, ...]) -> None:
    """Let mail for ADDRESS reach MEMBERS.

    One member that is an account gets a further address, from which it may send. Otherwise ADDRESS becomes a group, or
    gets further members; they may be elsewhere.
    """
    context.accounts.add_alias(address, members)


@alias.command("remove")
@click.argument("address", callback=parse_address)
@click.argument("members", nargs=-1, callback=parse_members)
@pass_context
def remove_alias(context: Context, address: Address, members: tuple[Address, ...]) -> None:
    """Remove an alias, or only these MEMBERS of a group."""
    context.accounts.remove_alias(address, members)


@alias.command("list")
@as_json
@pass_context
def list_aliases(context: Context, as_json: bool) -> None:
    """List all aliases and groups."""
    accounts = context.accounts.read()
    rows: list[tuple[str, Sequence[str]]] = []
    rows += [(alias, [name]) for name, a in accounts.account.items() for alias in a.aliases]
    rows += [(name, each.members) for name, each in accounts.alias.items()]
    if as_json:
        print_json([{"address": address, "members": list(members)} for address, members in rows])
    else:
        print_table(("ALIAS", "LEADS TO"), [(address, ", ".join(members)) for address, members in rows])


@click.group()
def domain() -> None:
    """Add, list and remove domains whose mail is taken here."""


@domain.command("add")
@click.argument("name")
@pass_context
def add_domain(context: Context, name: str) -> None:
    """Take mail for a domain."""
    context.accounts.add_domain(name)


@domain.command("remove")
@click.argument("name")
@pass_context
def remove_domain(context: Context, name: str) -> None:
    """Take no more mail for a domain; it must have no addresses left."""
    context.accounts.remove_domain(name)
    if not context.accounts.read().domain:
        click.echo("That was the last domain. A running server keeps it until it is started again.")


@domain.command("list")
@as_json
@pass_context
def list_domains(context: Context, as_json: bool) -> None:
    """List the domains."""
    domains = context.accounts.read().domain
    if as_json:
        print_json([{"domain": name, "catch_all": d.catch_all} for name, d in domains.items()])
    else:
        print_table(("DOMAIN", "CATCH-ALL"), [(name, d.catch_all or "-") for name, d in domains.items()])
