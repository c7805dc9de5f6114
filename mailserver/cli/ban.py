"""`mailserver ban`: who is banned, and by whom. A running server notices each change within about a second."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from mailserver.cli.common import Context, Failure, as_json, counted, pass_context, print_json, print_table, printable
from mailserver.cli.entries import time_text
from mailserver.config.units import parse_duration
from mailserver.datadir import DataDirectory
from mailserver.policy.bans import Ban, BanBook
from mailserver.policy.guard import how_long
from mailserver.policy.ledger import Ledger
from mailserver.policy.networks import LOOPBACK, Networks, parse_banned

LONGEST = 10 * 365 * 86400.0
REASON_LIMIT = 200  # characters

HEADER = ("NETWORK", "ACCOUNT", "ENDS IN", "REFUSED", "REASON")


@contextmanager
def _opened(context: Context, *, make: bool) -> Iterator[BanBook | None]:
    """None when there is no file yet. Only in a data directory, which the server makes."""
    path = DataDirectory(context.configuration.data).bans
    if not path.exists():
        if not make:
            yield None
            return
        if not path.parent.is_dir():
            raise Failure(f"{path.parent}: the data directory is not there yet; start the server once")
    ledger = Ledger(path)
    try:
        yield BanBook(ledger, context.configuration.abuse)
    finally:
        ledger.close()


def _network(ctx: click.Context, param: click.Parameter, value: str) -> str:
    try:
        return parse_banned(value)
    except ValueError as error:
        raise Failure(f"{value!r} {error}") from None


def _duration(ctx: click.Context, param: click.Parameter, value: str) -> float:
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise Failure(f"--for {value!r} {error}") from None
    if not 0 < seconds <= LONGEST:
        raise Failure(f"--for {value!r} is not a time that a ban may last; write one of up to 3650 days")
    return seconds


def _reason(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if len(value) > REASON_LIMIT or not value.isprintable():
        raise Failure(f"--reason is longer than {REASON_LIMIT} characters, or more than one line; write a short one")
    return value


@click.group()
def ban() -> None:
    """Look at addresses that are banned, ban some, or let them in again.

    A ban holds on all ports. An IPv6 address stands for its /64 network.
    """


@ban.command("list")
@as_json
@pass_context
def list_bans(context: Context, as_json: bool) -> None:
    """List the bans that hold now, the longest first."""
    now = time.time()
    with _opened(context, make=False) as book:
        bans = [] if book is None else book.active(now)
    if as_json:
        print_json([_data(each, now) for each in bans])
    elif bans:
        print_table(HEADER, (_row(each, now) for each in bans))
    else:
        click.echo("Nobody is banned.")


def _row(ban: Ban, now: float) -> tuple[str, ...]:
    by = "by hand" if ban.manual else ""
    reason = ": ".join(filter(None, (by, printable(ban.reason))))
    return ban.network, printable(ban.account) or "all", how_long(ban.until - now), str(ban.refused), reason


def _data(ban: Ban, now: float) -> dict[str, Any]:
    return {
        "network": ban.network,
        "account": ban.account or None,
        "since": time_text(ban.since),
        "until": time_text(ban.until),
        "seconds": round(ban.until - now),
        "by_hand": ban.manual,
        "times": ban.times,
        "refused": ban.refused,
        "reason": ban.reason,
    }


@ban.command()
@click.argument("network", callback=_network)
@click.option("--for", "seconds", default="1 day", show_default=True, callback=_duration, help='As "1 h" or "30 days".')
@click.option("--reason", default="", callback=_reason, help="A note for `ban list` and the log.")
@pass_context
def add(context: Context, network: str, seconds: float, reason: str) -> None:
    """Ban an address or a network, as 192.0.2.10 or 192.0.2.0/24; one that is banned has this ban from now on.

    Nobody in it is spared, but for what the configuration allows.
    """
    with _opened(context, make=True) as book:
        assert book is not None
        book.add(network, seconds, reason, time.time())
    click.echo(f"{network} is banned for {how_long(seconds)}")
    rules = context.configuration.abuse
    free = [*rules.allow, *context.configuration.proxies.networks, *(LOOPBACK if rules.exempt_loopback else ())]
    if Networks(free).meets(network):
        click.echo("mailserver: what abuse.allow, proxies and this machine have of it is let in all the same", err=True)


@ban.command()
@click.argument("network", callback=_network)
@pass_context
def remove(context: Context, network: str) -> None:
    """Let an address or a network in again, for single accounts too, and forget its failures."""
    with _opened(context, make=False) as book:
        removed = [] if book is None else book.remove(network, time.time())
        left = [] if book is None else book.active(time.time())
    around = [each.network for each in left if not each.account and Networks([each.network]).meets(network)]
    hint = f"; a ban of {', '.join(around)} meets it" if around else ""
    if not removed:
        raise Failure(f"{network} is not banned{hint}; `mailserver ban list` shows who is")
    click.echo(f"{counted(len(removed), 'ban')} of {network} removed{hint}")
