"""Entries of the queue as commands show them: rows of a table, full text, JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from mailserver.cli.common import counted, printable
from mailserver.config.units import format_size
from mailserver.mail import MailParameters, Reply
from mailserver.queue import Backlog, Entry, QueuedRecipient, Standing, State

ANSWER_LIMIT = 100
"""Characters of a remote's answer in a table."""

HEADER = ("ID", "STATE", "SIZE", "AGE", "FROM", "TO", "NEXT TRY", "LAST ANSWER")
BACKLOG_HEADER = ("DOMAIN", "RECIPIENTS", "OLDEST", "LAST ANSWER")


def rows_of(entry: Entry) -> Iterator[tuple[str, ...]]:
    """A row for each recipient; what is the same for all stands in the first."""
    left = (
        entry.id,
        str(entry.standing),
        format_size(entry.size),
        length(time.time() - entry.created),
        sender_of(entry),
    )
    if not entry.recipients:
        yield (*left, "-", "-", "-")
    for recipient in entry.recipients:
        yield (*left, printable(str(recipient.address)), _next_try(entry, recipient), _cut(recipient.reply))
        left = ("", "", "", "", "")


def backlog_row(backlog: Backlog) -> tuple[str, ...]:
    age = length(time.time() - backlog.oldest)
    return printable(backlog.domain), str(backlog.recipients), age, _cut(backlog.reply)


def _cut(reply: Reply | None) -> str:
    answer = printable(str(reply)) if reply else "-"
    return answer if len(answer) <= ANSWER_LIMIT else f"{answer[: ANSWER_LIMIT - 3]}..."


def _next_try(entry: Entry, recipient: QueuedRecipient) -> str:
    if recipient.failed:
        return "given up"
    if entry.state is not State.QUEUED:
        return "-"
    wait = recipient.next_attempt - time.time()
    when = f"in {length(wait)}" if wait > 0 else "now"
    return f"{when} by {printable(entry.via)}" if entry.via else when


def lines_of(entry: Entry) -> Iterator[str]:
    """An entry in full."""
    yield f"{entry.id}: {entry.standing}, {format_size(entry.size)}, since {time_text(entry.created)}"
    yield f"from {sender_of(entry)}"
    if entry.active:
        yield "it is being worked on now"
    if entry.via:
        yield f"by {printable(entry.via)}, as an administrator chose"
    yield from _wishes(entry.parameters)
    for recipient in entry.recipients:
        yield f"to {printable(str(recipient.address))}: {_tries(recipient)}"


def sender_of(entry: Entry) -> str:
    if entry.standing is Standing.CORRUPT:
        return "?"
    return printable(str(entry.sender)) if entry.sender else "<>"


def _tries(recipient: QueuedRecipient) -> str:
    if not recipient.attempts:
        return "not tried yet"
    answer = printable(str(recipient.reply)) if recipient.reply else "no answer"
    host = f" from {printable(recipient.host)}" if recipient.host else ""
    following = "given up" if recipient.failed else f"next attempt {soon(recipient.next_attempt)}"
    tries = counted(recipient.attempts, "attempt")
    return f"{tries}, the last {time_text(recipient.last_attempt)}: {answer}{host}; {following}"


def _wishes(asked: MailParameters) -> Iterator[str]:
    """What the sender asked for, where it matters to the queue."""
    if asked.release is not None:
        yield f"not before {time_text(asked.release)}, as the sender asked"
    by = asked.deliver_by
    if by is not None:
        otherwise = "goes back" if by.returned else "is told to be late"
        yield f"by {time_text(by.time)}, as the sender asked, or it {otherwise}"
    if asked.priority:
        yield f"priority {asked.priority}"


def data_of(entry: Entry) -> dict[str, Any]:
    asked = entry.parameters
    by = asked.deliver_by
    return {
        "id": entry.id,
        "state": str(entry.standing),
        "active": entry.active,
        "sender": str(entry.sender) if entry.sender else None,
        "created": time_text(entry.created),
        "release": time_text(asked.release) if asked.release is not None else None,
        "deliver_by": time_text(by.time) if by is not None else None,
        "returned_if_late": by.returned if by is not None else None,
        "priority": asked.priority,
        "via": entry.via,
        "size": entry.size,
        "warned": entry.warned,
        "recipients": [
            {
                "address": str(r.address),
                "original": str(r.original) if r.original else None,
                "attempts": r.attempts,
                "last_attempt": time_text(r.last_attempt) if r.attempts else None,
                "next_attempt": time_text(r.next_attempt),
                "failed": r.failed,
                "reply": str(r.reply) if r.reply else None,
                "host": r.host,
            }
            for r in entry.recipients
        ],
    }


def backlog_data(backlog: Backlog) -> dict[str, Any]:
    return {
        "domain": backlog.domain,
        "recipients": backlog.recipients,
        "oldest": time_text(backlog.oldest),
        "reply": str(backlog.reply) if backlog.reply else None,
    }


def time_text(seconds: float) -> str:
    """RFC 3339, in UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return "?"


def soon(seconds: float) -> str:
    return time_text(seconds) if seconds > time.time() else "now"


def length(seconds: float) -> str:
    """A duration in its largest unit."""
    whole = max(0, int(seconds))
    for unit, each in (("d", 86400), ("h", 3600), ("min", 60)):
        if whole >= each:
            return f"{whole // each} {unit}"
    return f"{whole} s"
