"""`mailserver account app-password`: further passwords of an account, one for each program or device."""

from __future__ import annotations

from datetime import datetime

import click

from mailserver.accounts import LastUses, Use
from mailserver.cli.common import (
    Context,
    Failure,
    as_json,
    parse_address,
    pass_context,
    print_json,
    print_table,
    printable,
)
from mailserver.config.apppasswords import SERVICES, AppPassword, Service, check_name, parse_kept
from mailserver.datadir import DataDirectory
from mailserver.mail import Address


def _parse_name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    try:
        return check_name(value)
    except ValueError as error:
        raise Failure(f"{printable(value)!r} {error}") from None


@click.group("app-password")
def app_password() -> None:
    """Give each program a password of its own, that ends without the others."""


@app_password.command("add")
@click.argument("address", callback=parse_address)
@click.argument("name", callback=_parse_name)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SERVICES),
    help="What it is for; may be given several times. All of them, if it is not given.",
)
@pass_context
def add(context: Context, address: Address, name: str, scopes: tuple[Service, ...]) -> None:
    """Make a password for the program or device NAME, and print it once."""
    given = tuple(service for service in SERVICES if service in scopes) or SERVICES
    shown = context.accounts.add_app_password(address, name, given)
    click.echo(shown)
    click.echo(
        f"{name} logs in to {', '.join(given)} as {address} with this password, which is not shown again; "
        "a running server takes it within a second or two",
        err=True,
    )
    if context.configuration.auth.scram:
        click.echo("SCRAM-SHA-256, which takes no app passwords, is not offered while there are any", err=True)


@app_password.command("list")
@click.argument("address", callback=parse_address)
@as_json
@pass_context
def list_(context: Context, address: Address, as_json: bool) -> None:
    """List the app passwords of an account, and when each was used last, give or take five minutes."""
    uses = _uses(context)
    listed = [
        (each, uses.of(address, parse_kept(each.password)[0])) for each in context.accounts.app_passwords(address)
    ]
    if as_json:
        print_json([_shown(each, use) for each, use in listed])
    else:
        print_table(("NAME", "BEGINS", "FOR", "MADE", "LAST USED", "FOR", "FROM"), [_row(*each) for each in listed])


@app_password.command("remove")
@click.argument("address", callback=parse_address)
@click.argument("name")
@pass_context
def remove(context: Context, address: Address, name: str) -> None:
    """End the password of NAME. Who is logged in with it stays so until the connection ends."""
    key = context.accounts.remove_app_password(address, name)
    _uses(context).forget(address, key)
    click.echo(f"{name} does not log in to {address} any more; a running server knows within a second or two")


def _uses(context: Context) -> LastUses:
    return LastUses(DataDirectory(context.configuration.data).app_passwords)


def _shown(each: AppPassword, use: Use | None) -> dict[str, object]:
    return {
        "name": each.name,
        "begins": parse_kept(each.password)[0],
        "scopes": list(each.scopes),
        "created": each.created.isoformat() if each.created else None,
        "last_used": use.at.isoformat(timespec="seconds") if use else None,
        "last_service": use.service if use else None,
        "last_peer": use.peer if use else None,
    }


def _row(each: AppPassword, use: Use | None) -> tuple[str, ...]:
    last = (_minute(use.at), printable(use.service), printable(use.peer)) if use else ("never", "-", "-")
    made = _minute(each.created) if each.created else "-"
    return (each.name, parse_kept(each.password)[0], ", ".join(each.scopes), made, *last)


def _minute(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")
