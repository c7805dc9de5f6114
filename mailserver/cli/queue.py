"""`mailserver queue`: what waits, and what becomes of it. A running server notices each change."""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager

import click

from mailserver.cli.common import (
    Context,
    Failure,
    as_json,
    counted,
    pass_context,
    print_json,
    print_json_list,
    print_table,
)
from mailserver.cli.entries import BACKLOG_HEADER, HEADER, backlog_data, backlog_row, data_of, lines_of, rows_of
from mailserver.cli.selection import Selection, selecting
from mailserver.datadir import DataDirectory
from mailserver.delivery.routes import parse_transport
from mailserver.queue import Administration, Filter, History, Queue, Standing

BY_THE_TABLE = "table"
"""In place of a transport: as the routing table has it."""


@contextmanager
def _opened(context: Context) -> Iterator[Administration | None]:
    """None when there is no queue yet: only the server makes it, as the user that it runs as."""
    configuration = context.configuration
    directory = DataDirectory(configuration.data).queue
    if not (directory / "queue.db").exists():
        yield None
        return
    queue = Queue(directory, History(directory / "history", configuration.relay.history))
    try:
        yield queue.administration
    finally:
        queue.close()


@click.group()
def queue() -> None:
    """Look at mail that waits for delivery, and decide about it.

    Commands are for entries that are named by their IDs, or for those that options select: of several options all must
    hold, and those that speak of a recipient must hold for one and the same.
    """


@queue.command("list")
@selecting
@click.option(
    "--limit", type=click.IntRange(0), default=1000, show_default=True, help="Entries that are shown; 0: all."
)
@click.option("--summary", is_flag=True, help="Only counts, and the domains for which most waits.")
@as_json
@pass_context
def list_entries(context: Context, selection: Selection, limit: int, summary: bool, as_json: bool) -> None:
    """List what waits, the oldest first."""
    filter = selection.filter
    with _opened(context) as administration:
        counts = dict.fromkeys(Standing, 0) if administration is None else administration.counts(filter)
        if summary:
            _print_summary(administration, filter, counts, as_json)
            return
        entries = iter(()) if administration is None else administration.entries(filter, limit=limit or None)
        total = sum(counts.values())
        if as_json:
            print_json_list(map(data_of, entries))
        elif total:
            print_table(HEADER, (row for entry in entries for row in rows_of(entry)))
            click.echo(_told(counts))
        else:
            click.echo("The queue is empty." if filter.for_all else "No entry of the queue fits.")
    if 0 < limit < total:
        cut = f"{limit} of {counted(total, 'entry')} are shown, the oldest; --limit {total} shows all"
        click.echo(f"mailserver: {cut}" if as_json else cut, err=as_json)


def _told(counts: Mapping[Standing, int]) -> str:
    kinds = ", ".join(f"{count} {standing}" for standing, count in counts.items() if count)
    total = counted(sum(counts.values()), "entry")
    return f"{total}: {kinds}" if kinds else total


def _print_summary(
    administration: Administration | None, filter: Filter, counts: Mapping[Standing, int], as_json: bool
) -> None:
    backlogs = [] if administration is None else administration.backlogs(filter)
    if as_json:
        states = {str(standing): count for standing, count in counts.items()}
        print_json({"states": states, "domains": [backlog_data(each) for each in backlogs]})
        return
    click.echo(_told(counts))
    if backlogs:
        print_table(BACKLOG_HEADER, map(backlog_row, backlogs))


@queue.command()
@click.argument("id")
@as_json
@pass_context
def show(context: Context, id: str, as_json: bool) -> None:
    """Show one entry in full. `mailserver why ID` tells what happened to it."""
    with _opened(context) as administration:
        if administration is None:
            raise Failure(f"no entry {id} in the queue")
        entry = administration.show(id)
    if as_json:
        print_json(data_of(entry))
        return
    for line in lines_of(entry):
        click.echo(line)


@queue.command()
@selecting
@as_json
@pass_context
def flush(context: Context, selection: Selection, as_json: bool) -> None:
    """Try entries again now.

    Held ones stay held. Those whose sender asked for a later time wait for it, unless they are named by their IDs.
    """
    held = (Standing.HELD, Standing.CORRUPT)
    _change(context, selection, Administration.flush, "to be tried now", as_json=as_json, refused=held)


@queue.command()
@selecting
@as_json
@pass_context
def hold(context: Context, selection: Selection, as_json: bool) -> None:
    """Keep entries from being tried."""
    _change(context, selection, Administration.hold, "held", as_json=as_json)


@queue.command()
@selecting
@as_json
@pass_context
def release(context: Context, selection: Selection, as_json: bool) -> None:
    """Let held entries be tried again, and corrupt ones be read once more."""
    _change(context, selection, Administration.release, "released", as_json=as_json)


@queue.command()
@selecting
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@pass_context
def remove(context: Context, selection: Selection, yes: bool, as_json: bool) -> None:
    """Delete entries for ever; nobody is told."""

    def act(administration: Administration, filter: Filter) -> int:
        if not (yes or filter.names_only):
            _confirm(sum(administration.counts(filter).values()))
        return administration.remove(filter)

    _change(context, selection, act, "removed", as_json=as_json)


def _confirm(count: int) -> None:
    if count < 2:
        return
    if not sys.stdin.isatty():
        raise Failure(f"{count} entries would be removed for ever; add --yes when that is meant")
    click.confirm(f"{count} entries would be removed for ever. Is that meant?", abort=True, err=True)


@queue.command()
@selecting
@as_json
@pass_context
def requeue(context: Context, selection: Selection, as_json: bool) -> None:
    """Forget what was tried, as if the entries had just come, and try them now.

    Their time begins anew, recipients that failed are tried again, and their way is looked for again; a way that was
    chosen by reroute stays. Held ones stay held.
    """
    _change(context, selection, Administration.requeue, "requeued", as_json=as_json, refused=(Standing.CORRUPT,))


def _transport(ctx: click.Context, param: click.Parameter, value: str) -> str | None:
    if value == BY_THE_TABLE:
        return None
    try:
        return str(parse_transport(value))
    except ValueError as error:
        raise click.BadParameter(f"{error}; or {BY_THE_TABLE}", ctx, param) from None


@queue.command()
@click.argument("via", callback=_transport)
@selecting
@as_json
@pass_context
def reroute(context: Context, via: str | None, selection: Selection, as_json: bool) -> None:
    """Send entries another way, now: by VIA, as mx, smarthost:HOST:PORT, lmtp:HOST:PORT, lmtp:unix:/path, discard, hold
    or error:TEXT; "table" is the usual way again. Held ones stay held.
    """

    def act(administration: Administration, filter: Filter) -> int:
        return administration.reroute(filter, via)

    _change(context, selection, act, "rerouted", as_json=as_json, refused=(Standing.CORRUPT,))


def _change(
    context: Context,
    selection: Selection,
    act: Callable[[Administration, Filter], int],
    done: str,
    *,
    as_json: bool,
    refused: Container[Standing] = (),
) -> None:
    """Nothing changes when one of the IDs is unknown or of a `refused` state."""
    filter = selection.for_a_change()
    with _opened(context) as administration:
        known = administration.standings(filter.ids) if administration else {}
        if unknown := [id for id in filter.ids if id not in known]:
            raise Failure(*(f"no entry {id} in the queue" for id in unknown))
        if unfit := [id for id in filter.ids if known[id] in refused]:
            raise Failure(*(f"{id} is {known[id]}; `mailserver queue release {id}` lets it go first" for id in unfit))
        changed = act(administration, filter) if administration else 0
    if as_json:
        print_json({"entries": changed, "done": done})
    else:
        click.echo(f"{counted(changed, 'entry')} {done}")
