"""`mailserver address`: where an address leads, by all sources of the directory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import click

from mailserver.accounts import (
    Directory,
    Disabled,
    FileSource,
    Mailbox,
    Members,
    NotLocal,
    SourceDown,
    Unknown,
    open_sources,
)
from mailserver.cli.common import Context, Failure, as_json, parse_members, pass_context, print_json, printable
from mailserver.config.units import format_size
from mailserver.delivery.router import EXPANSION_LIMIT
from mailserver.mail import Address, Quota


@dataclass(frozen=True, slots=True)
class Step:
    """One address on the way. `depth`: how many stand between it and the first. `source`: who knows its domain."""

    address: Address
    depth: int
    source: str | None
    kind: str
    account: Address | None = None
    quota: Quota | None = None
    keep_copy: bool = True
    leads_to: tuple[Address, ...] = ()
    again: bool = False
    """It was followed already."""


@click.group()
def address() -> None:
    """Look up where addresses lead."""


@address.command("lookup")
@click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True, callback=parse_members)
@as_json
@pass_context
def lookup(context: Context, addresses: tuple[Address, ...], as_json: bool) -> None:
    """Tell where mail for ADDRESS goes: accounts, aliases, forwarding, and which source says so."""
    configuration = context.configuration
    directory = Directory(
        FileSource(configuration.accounts),
        others=open_sources(configuration.directory),
        separator=configuration.smtp.subaddress,
    )
    try:
        steps = [step for each in addresses for step in _steps(directory, each)]
    except SourceDown as error:
        raise Failure(f"it cannot be looked up now: {error}") from None
    if as_json:
        print_json([_as_json(step) for step in steps])
        return
    for step in steps:
        click.echo(printable(f"{'  ' * step.depth}{step.address}: {_in_words(step)}"))


def _steps(directory: Directory, start: Address) -> Iterator[Step]:
    """Each address once, what it leads to right below it."""
    seen: set[tuple[str, str]] = set()
    waiting = [(start, 0)]
    while waiting:
        address, depth = waiting.pop()
        step = _step(directory, address, depth, again=address.key in seen)
        yield step
        seen.add(address.key)
        if len(seen) > EXPANSION_LIMIT:
            raise Failure(f"{start} leads to more than {EXPANSION_LIMIT} addresses; its mail is refused")
        waiting += [(target, depth + 1) for target in reversed(step.leads_to) if not step.again]


def _step(directory: Directory, address: Address, depth: int, *, again: bool) -> Step:
    source = directory.source_of(address)
    match directory.resolve(address):
        case Mailbox(account, quota, forward, keep_copy):
            return Step(address, depth, source, "account", account, quota, keep_copy, forward, again)
        case Members(members):
            return Step(address, depth, source, "alias", leads_to=members, again=again)
        case Disabled():
            return Step(address, depth, source, "disabled")
        case Unknown():
            return Step(address, depth, source, "unknown")
        case NotLocal():
            return Step(address, depth, source, "elsewhere")


def _in_words(step: Step) -> str:
    if step.again:
        return "as above"
    match step.kind:
        case "account":
            text = "an account" if step.account == step.address else f"leads to the account {step.account}"
            text += _quota(step.quota)
            if step.leads_to:
                text += ", forwarded" + (" with a copy for the mailbox" if step.keep_copy else " without a copy")
        case "alias":
            text = "an alias"
        case "disabled":
            text = "an account that is disabled, its mail is refused"
        case "unknown":
            text = "there is no such address; its mail is refused"
        case _:
            return "not a domain of ours"
    return f"{text} ({step.source})" if step.source else text


def _quota(quota: Quota | None) -> str:
    if quota is None:
        return ""
    parts = [format_size(quota.octets)] if quota.octets else []
    parts += [f"{quota.messages} messages"] if quota.messages else []
    return f", quota {' and '.join(parts)}" if parts else ""


def _as_json(step: Step) -> dict[str, object]:
    return {
        "address": str(step.address),
        "depth": step.depth,
        "source": step.source,
        "kind": step.kind,
        "account": str(step.account) if step.account else None,
        "quota": step.quota.octets if step.quota else None,
        "quota_messages": step.quota.messages if step.quota else None,
        "keep_copy": step.keep_copy,
        "leads_to": [str(each) for each in step.leads_to],
    }
