"""`mailserver queue`: what waits, and what becomes of it. A running server notices each change."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from mailserver.cli.common import Context, Failure, as_json, pass_context, print_json, print_table, printable
from mailserver.config.units import format_size
from mailserver.mail import MailParameters
from mailserver.queue import Entry, Queue, QueuedRecipient, State

ANSWER_LIMIT = 100
"""Characters of a remote's answer in the list."""

F = TypeVar("F", bound=Callable[..., object])


@contextmanager
def _opened(context: Context) -> Iterator[Queue | None]:
    """None when there is no queue yet: only the server makes it, as the user that it runs as."""
    directory = context.configuration.data / "queue"
    if not (directory / "queue.db").exists():
        yield None
        return
    queue = Queue(directory)
    try:
        yield queue
    finally:
        queue.close()


@click.group()
def queue() -> None:
    """Look at mail that waits for delivery, and decide about it."""


@queue.command("list")
@as_json
@pass_context
def list_entries(context: Context, as_json: bool) -> None:
    """List what waits, the oldest first."""
    with _opened(context) as queue:
        entries = queue.list() if queue else []
    if as_json:
        print_json([_data(entry) for entry in entries])
        return
    if not entries:
        click.echo("The queue is empty.")
        return
    header = ("ID", "STATE", "SIZE", "AGE", "FROM", "TO", "NEXT TRY", "LAST ANSWER")
    print_table(header, [row for e in entries for row in _rows(e)])


@queue.command()
@click.argument("id")
@as_json
@pass_context
def show(context: Context, id: str, as_json: bool) -> None:
    """Show one entry in full."""
    with _opened(context) as queue:
        if queue is None:
            raise Failure(f"no entry {id} in the queue")
        entry = queue.show(id)
    if as_json:
        print_json(_data(entry))
        return
    click.echo(f"{entry.id}: {entry.state}, {format_size(entry.size)}, since {_time(entry.created)}")
    click.echo(f"from {_sender(entry)}")
    for line in _wishes(entry.parameters):
        click.echo(line)
    for recipient in entry.recipients:
        click.echo(f"to {printable(str(recipient.address))}: {_history(recipient)}")


def _selection(command: F) -> F:
    every = click.option("--all", "every", is_flag=True, help="All entries.")
    return click.argument("ids", nargs=-1, metavar="[ID]...")(every(command))


@queue.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@pass_context
def flush(context: Context, ids: tuple[str, ...]) -> None:
    """Try entries again now: those named, or all but the held ones and those whose sender asked for a later time."""
    _change(
        context,
        ids,
        not ids,
        lambda queue, _: queue.flush(ids or None),
        "to be tried now",
        refused=(State.HELD, State.CORRUPT),
    )


@queue.command()
@_selection
@pass_context
def hold(context: Context, ids: tuple[str, ...], every: bool) -> None:
    """Keep entries from being tried."""
    _change(context, ids, every, Queue.hold, "held")


@queue.command()
@_selection
@pass_context
def release(context: Context, ids: tuple[str, ...], every: bool) -> None:
    """Let held entries be tried again."""
    _change(context, ids, every, Queue.release, "released")


@queue.command()
@_selection
@pass_context
def remove(context: Context, ids: tuple[str, ...], every: bool) -> None:
    """Delete entries for ever; nobody is told."""
    _change(context, ids, every, Queue.remove, "removed")


def _change(
    context: Context,
    ids: Sequence[str],
    every: bool,
    act: Callable[[Queue, Sequence[str]], int],
    done: str,
    *,
    refused: Container[State] = (),
) -> None:
    """Nothing changes when one of the IDs is unknown or of a `refused` state."""
    if bool(ids) == every:
        raise click.UsageError("name entries by their IDs, or all of them by --all")
    with _opened(context) as queue:
        known = {entry.id: entry.state for entry in queue.list()} if queue else {}
        if unknown := [id for id in ids if id not in known]:
            raise Failure(*(f"no entry {id} in the queue" for id in unknown))
        if unfit := [id for id in ids if known[id] in refused]:
            raise Failure(*(f"{id} is {known[id]}; `mailserver queue release {id}` lets it go first" for id in unfit))
        changed = act(queue, ids or sorted(known)) if queue else 0
    click.echo(f"{changed} {'entry' if changed == 1 else 'entries'} {done}")


def _rows(entry: Entry) -> Iterator[tuple[str, ...]]:
    """A row for each recipient; what is the same for all stands in the first."""
    left = (entry.id, str(entry.state), format_size(entry.size), _length(time.time() - entry.created), _sender(entry))
    if not entry.recipients:
        yield (*left, "-", "-", "-")
    for recipient in entry.recipients:
        answer = printable(str(recipient.reply)) if recipient.reply else "-"
        if len(answer) > ANSWER_LIMIT:
            answer = f"{answer[: ANSWER_LIMIT - 3]}..."
        yield (*left, printable(str(recipient.address)), _next_try(entry, recipient), answer)
        left = ("", "", "", "", "")


def _next_try(entry: Entry, recipient: QueuedRecipient) -> str:
    if recipient.failed:
        return "given up"
    if entry.state is not State.QUEUED:
        return "-"
    wait = recipient.next_attempt - time.time()
    return f"in {_length(wait)}" if wait > 0 else "now"


def _sender(entry: Entry) -> str:
    if entry.state is State.CORRUPT:
        return "?"
    return printable(str(entry.sender)) if entry.sender else "<>"


def _history(recipient: QueuedRecipient) -> str:
    if not recipient.attempts:
        return "not tried yet"
    answer = printable(str(recipient.reply)) if recipient.reply else "no answer"
    host = f" from {printable(recipient.host)}" if recipient.host else ""
    following = "given up" if recipient.failed else f"next attempt {_soon(recipient.next_attempt)}"
    tries = f"{recipient.attempts} {'attempt' if recipient.attempts == 1 else 'attempts'}"
    return f"{tries}, the last {_time(recipient.last_attempt)}: {answer}{host}; {following}"


def _wishes(asked: MailParameters) -> Iterator[str]:
    """What the sender asked for, where it matters to the queue."""
    if asked.release is not None:
        yield f"not before {_time(asked.release)}, as the sender asked"
    by = asked.deliver_by
    if by is not None:
        otherwise = "goes back" if by.returned else "is told to be late"
        yield f"by {_time(by.time)}, as the sender asked, or it {otherwise}"
    if asked.priority:
        yield f"priority {asked.priority}"


def _data(entry: Entry) -> dict[str, Any]:
    asked = entry.parameters
    by = asked.deliver_by
    return {
        "id": entry.id,
        "state": str(entry.state),
        "sender": str(entry.sender) if entry.sender else None,
        "created": _time(entry.created),
        "release": _time(asked.release) if asked.release is not None else None,
        "deliver_by": _time(by.time) if by is not None else None,
        "returned_if_late": by.returned if by is not None else None,
        "priority": asked.priority,
        "size": entry.size,
        "warned": entry.warned,
        "recipients": [
            {
                "address": str(r.address),
                "original": str(r.original) if r.original else None,
                "attempts": r.attempts,
                "last_attempt": _time(r.last_attempt) if r.attempts else None,
                "next_attempt": _time(r.next_attempt),
                "failed": r.failed,
                "reply": str(r.reply) if r.reply else None,
                "host": r.host,
            }
            for r in entry.recipients
        ],
    }


def _time(seconds: float) -> str:
    """RFC 3339, in UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return "?"


def _soon(seconds: float) -> str:
    return _time(seconds) if seconds > time.time() else "now"


def _length(seconds: float) -> str:
    whole = max(0, int(seconds))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if whole >= length:
            return f"{whole // length} {unit}"
    return f"{whole} s"
