"""`mailserver why`: what happened to a message, and what happens next, in plain words."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from mailserver.cli.common import Context, Failure, as_json, counted, pass_context, print_json, printable
from mailserver.cli.entries import data_of
from mailserver.cli.story import block
from mailserver.datadir import DataDirectory
from mailserver.mail import Address, AddressError, parse_mailbox
from mailserver.queue import Administration, Entry, Filter, NoSuchEntry, QueueError
from mailserver.queue.bodies import Bodies
from mailserver.queue.database import Database
from mailserver.queue.trail import Story, Trail

MESSAGES = 20
"""Of an address."""

DAY = 86400.0

_TROUBLE = (QueueError, sqlite3.Error, ValueError)


@dataclass(slots=True)
class _Queue:
    """What waits now, as far as it can be looked at. `problem`: why it cannot."""

    administration: Administration | None = None
    problem: str = ""

    def entries(self, ids: set[str]) -> list[Entry]:
        if self.administration is None:
            return []
        found: list[Entry] = []
        try:
            for id in sorted(self.administration.standings(ids)):
                with suppress(NoSuchEntry):  # it went just now
                    found.append(self.administration.show(id))
        except _TROUBLE as error:
            self.problem = str(error)
        return found

    def with_address(self, address: Address) -> list[Entry]:
        """Those that wait from or to it, the oldest of each."""
        if self.administration is None:
            return []
        found: dict[str, Entry] = {}
        try:
            for filter in (Filter(sender=str(address)), Filter(recipient=str(address))):
                found |= {entry.id: entry for entry in self.administration.entries(filter, limit=MESSAGES)}
        except _TROUBLE as error:
            self.problem = str(error)
        return [*found.values()]


@contextmanager
def _queue(context: Context) -> Iterator[_Queue]:
    """Nothing is mended here, so this can be asked whatever state the queue is in."""
    directory = DataDirectory(context.configuration.data).queue
    if not (directory / "queue.db").exists():
        yield _Queue(problem=f"there is no {directory / 'queue.db'}")
        return
    try:
        database = Database(directory / "queue.db")
    except (QueueError, sqlite3.Error, OSError) as error:
        yield _Queue(problem=f"{directory / 'queue.db'}: {error}")
        return
    try:
        yield _Queue(Administration(database, Bodies(directory / "bodies")))
    finally:
        database.close()


@click.command()
@click.argument("what", metavar="ID-OR-ADDRESS")
@click.option("--days", type=click.IntRange(1), help="How far to look back.  [default: as far as the history goes]")
@as_json
@pass_context
def why(context: Context, what: str, days: int | None, as_json: bool) -> None:
    """Tell what happened to a message, and what happens next.

    ID is that of a message, of an entry of the queue or of a report, as the log, the reply to the sender and `queue
    list` have it. With an address: the newest messages from or to it.
    """
    configuration = context.configuration
    days = days or max(1, math.ceil(configuration.relay.history / DAY))
    since = (datetime.now(UTC) - timedelta(days=min(days, 36500))).date()
    trail = Trail(DataDirectory(configuration.data).history, since)
    with _queue(context) as queue:
        if "@" in what:
            stories, more = _of_address(trail, queue, _address(what))
        else:
            story, more = trail.of_id(what), False
            stories = [story] if story else [Story({what})] if queue.entries({what}) else []
        blocks = [(story, queue.entries(story.ids)) for story in stories]
        problem = queue.problem
    if not blocks:
        raise Failure(
            f"nothing is known of {printable(what)} in the last {counted(days, 'day')}; write an id as the log or "
            "`mailserver queue list` has it, or a whole address; what is kept is set by history in [relay]",
            *([f"what waits in the queue is not known: {problem}"] if problem else []),
        )
    if as_json:
        print_json([_data(story, entries, problem) for story, entries in blocks])
        return
    for number, (story, entries) in enumerate(blocks):
        if number:
            click.echo()
        for line in block(story, entries, problem):
            click.echo(line)
    if more:
        click.echo(f"\nThese are the newest {MESSAGES} messages; there are more.")


def _address(text: str) -> Address:
    try:
        return parse_mailbox(text.removeprefix("<").removesuffix(">"))
    except AddressError as error:
        raise Failure(f"{text!r} is not an address: {error}") from None


def _of_address(trail: Trail, queue: _Queue, address: Address) -> tuple[list[Story], bool]:
    stories, more = trail.of_address(address, MESSAGES)
    known = {id for story in stories for id in story.ids}
    others = [Story({entry.id}) for entry in queue.with_address(address) if entry.id not in known]
    room = MESSAGES - len(stories)
    return stories + others[:room], more or len(others) > room


def _data(story: Story, entries: Sequence[Entry], problem: str) -> dict[str, Any]:
    return {
        "ids": sorted(story.ids),
        "events": story.events,
        "waiting": [data_of(entry) for entry in entries],
        "queue_problem": problem or None,
    }
