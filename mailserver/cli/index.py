"""`mailserver index`: whether the indexes of the accounts are what the files say, and making them anew."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from mailserver.cli.common import Context, Failure, as_json, pass_context, print_json, printable
from mailserver.config.accounts import parse_account_address
from mailserver.config.units import format_size
from mailserver.datadir import DataDirectory
from mailserver.mail import Address
from mailserver.store import Store
from mailserver.store.checking import Report, check, rebuild
from mailserver.store.folders import account_path
from mailserver.store.model import StoreError


@click.group()
def index() -> None:
    """Check the indexes of the accounts, or make them anew. Mail itself is never touched."""


@index.command("check")
@click.argument("accounts", nargs=-1, metavar="[ACCOUNT]...")
@as_json
@pass_context
def check_indexes(context: Context, accounts: tuple[str, ...], as_json: bool) -> None:
    """Compare indexes with the files: those of the accounts named, or all. Changes nothing; a server may run.

    Exits with status 1 when something is wrong.
    """
    reports = []
    for address, directory in _chosen(context, accounts):
        with _as_owner(directory):
            reports.append((address, check(directory)))
    if as_json:
        print_json([_data(address, report) for address, report in reports])
    else:
        for address, report in reports:
            _print(address, report)
    wrong = [address for address, report in reports if report.wrong]
    if wrong:
        raise Failure(*(f"{name} has faults; `mailserver index rebuild {name}` makes its index anew" for name in wrong))


@index.command("rebuild")
@click.argument("accounts", nargs=-1, metavar="[ACCOUNT]...")
@click.option("--all", "every", is_flag=True, help="All accounts.")
@pass_context
def rebuild_indexes(context: Context, accounts: tuple[str, ...], every: bool) -> None:
    """Make indexes and search text anew. A server may run: its clients keep all UIDs and flags."""
    if bool(accounts) == every:
        raise click.UsageError("name accounts by their addresses, or all of them by --all")
    configuration = context.configuration
    store = Store(DataDirectory(configuration.data).mail, hostname=configuration.hostname)
    problems = []
    for address, directory in _chosen(context, accounts):
        try:
            with _as_owner(directory):
                done = rebuild(store.account(address), directory)
        except StoreError as error:
            problems.append(f"{address}: {error}")
            continue
        click.echo(f"{address}: {_count(done.messages, 'message')} in {_count(done.mailboxes, 'mailbox')} indexed")
        if done.keywords is None:
            problems.append(
                f"{address}: keywords beyond the 26 that file names carry were in the index alone and are lost"
            )
    if problems:
        raise Failure(*problems)


def _chosen(context: Context, names: Sequence[str]) -> Iterator[tuple[Address, Path]]:
    """Those named, or all that have mail on disk, with their directories."""
    known = {parse_account_address(name).key: name for name in context.accounts.read().account}
    wanted = [_parse(name) for name in names]
    if unknown := [address for address in wanted if address.key not in known]:
        raise Failure(*(f"there is no account {address}" for address in unknown))
    for address in wanted or map(parse_account_address, known.values()):
        directory = DataDirectory(context.configuration.data).mail / account_path(address)
        if directory.is_dir():
            yield address, directory
        elif names:
            click.echo(f"{address}: no mail yet")


@contextmanager
def _as_owner(directory: Path) -> Iterator[None]:
    """What root does to an account is done as its owner, so that the server can go on with the files."""
    owner = directory.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    group = os.getegid()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)


def _parse(name: str) -> Address:
    try:
        return parse_account_address(name)
    except ValueError as error:
        raise Failure(f"{name!r} {error}") from None


def _print(address: Address, report: Report) -> None:
    for finding in report.findings:
        place = f"{address} {printable(finding.mailbox)}" if finding.mailbox else str(address)
        click.echo(f"{place}: {'' if finding.wrong else 'note: '}{printable(finding.text)}")
    lag = "all search text packed"
    if report.unpacked:
        lag = f"{report.unpacked} not packed for search, for up to {round(report.waiting)} s"
    click.echo(
        f"{address}: {_count(report.messages, 'message')} in {_count(report.mailboxes, 'mailbox')}, "
        f"index {format_size(report.index_size)}, search text {format_size(report.search_size)}, {lag}; "
        f"{'FAULTS' if report.wrong else 'ok'}"
    )


def _data(address: Address, report: Report) -> dict[str, Any]:
    return {
        "account": str(address),
        "ok": not report.wrong,
        "mailboxes": report.mailboxes,
        "messages": report.messages,
        "index_size": report.index_size,
        "search_size": report.search_size,
        "unpacked": report.unpacked,
        "waiting": round(report.waiting, 3),
        "findings": [finding._asdict() for finding in report.findings],
    }


def _count(number: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("x") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"
