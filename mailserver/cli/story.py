"""What happened to a message, in the words of `mailserver why`: one line of text for each event, the oldest first."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from mailserver.cli.common import counted, printable
from mailserver.cli.entries import length, sender_of, time_text
from mailserver.queue import Entry, QueuedRecipient, Standing
from mailserver.queue.trail import ARRIVALS, Event, Story, recipients_of


def block(story: Story, entries: Sequence[Entry], problem: str) -> Iterator[str]:
    """`entries`: what of it waits now; `problem`: why that is not known."""
    first = next((event for event in story.events if event.get("event") in ARRIVALS), None)
    name = f"Message {_text(first, 'id')}" if first else f"Entry {', '.join(sorted(story.ids))}"
    yield f"{name} (times in UTC)"
    reports = {_text(event, "report"): _text(event, "to") for event in story.events if "report" in event}
    arrived: set[str] = set()
    for event in story.events:
        lines = list(_told(event, story, reports, begun=_text(event, "id") in arrived))
        if event.get("event") in ARRIVALS:
            arrived.add(_text(event, "id"))
        yield f"  {_text(event, 'time')[:19].replace('T', ' ')}  {lines[0]}"
        yield from (f"{'':23}{line}" for line in lines[1:])
    if not story.events:
        yield f"  {'':19}  What happened so far is not known: the history does not go back that far."
    for line in _next_steps(entries, problem):
        yield f"  {'now':19}  {line}"


def _told(event: Event, story: Story, reports: dict[str, str], *, begun: bool) -> Iterator[str]:
    """A sentence, and more lines below it. `begun`: this goes on telling of a message that came."""
    kind = _text(event, "event")
    if event.get("by") == "administrator":
        ids = sorted(story.ids.intersection(map(str, event.get("ids") or ())))
        yield _BY_ADMINISTRATOR.get(kind, "An administrator did this to {id}: {kind}.").format(
            id=", ".join(ids), via=_text(event, "via"), kind=kind
        )
    elif kind in ARRIVALS:
        yield "It was also for" if begun else _arrival(event)
        if not begun:
            yield f"from {_bracketed(_text(event, 'sender'))}, {_text(event, 'size')} octets"
        yield from map(_destination, recipients_of(event))
    elif kind == "attempted":
        id = _text(event, "id")
        about = f"The report {id} to" if id in reports else "To"
        yield f"{about} {_text(event, 'recipient')}: {_attempt(event)}"
    elif kind == "reported":
        to = _text(event, "to") or "The sender"
        yield _REPORTS.get(_text(event, "kind"), "{to} was sent the report {id}.").format(
            to=to, id=_text(event, "report")
        )
    elif kind == "discarded":
        yield f"To {_text(event, 'recipient')}: thrown away, as the routing table has it."
    elif kind == "held":
        yield f"{_text(event, 'id')} is held, as the routing table has it."
    elif kind == "removed":
        yield f"{_text(event, 'id')} was removed from the queue while it was being worked on."
    else:
        yield f"{kind}: {printable(str({key: event[key] for key in event if key not in ('time', 'event')}))}"


_BY_ADMINISTRATOR = {
    "flushed": "An administrator asked to try {id} at once.",
    "held": "An administrator held {id}: it is not tried until it is released.",
    "released": "An administrator released {id}.",
    "requeued": "An administrator let {id} begin anew: what had been tried is forgotten.",
    "rerouted": "An administrator sent {id} by {via}.",
    "removed": "An administrator removed {id}: it is not delivered, and nobody was told.",
}

_REPORTS = {
    "failure": "{to} is told that it could not be delivered, by the report {id}.",
    "delay": "{to} is told that it takes long, by the report {id}.",
    "success": "{to} is told that it arrived, by the report {id}.",
    "double bounce": "This report could not be delivered; {to} gets a copy of it as {id}.",
}


def _arrival(event: Event) -> str:
    peer = " ".join(filter(None, (_text(event, "hello"), f"[{_text(event, 'peer')}]" if event.get("peer") else "")))
    tls = f"encrypted with {_text(event, 'tls')}" if event.get("tls") else "not encrypted"
    login = f"logged in as {_text(event, 'login')}" if event.get("login") else "without login"
    came = f"It came from {peer or 'this machine'} by {_text(event, 'protocol')}, {tls}, {login}"
    if event.get("event") == "refused":
        return f"{came}, and was not taken: {_text(event, 'reply')}"
    return f"{came}."


def _destination(to: Event) -> str:
    address, reply, queue, mailbox = (_text(to, key) for key in ("address", "reply", "queue", "mailbox"))
    original = _text(to, "original")
    name = f"to {address} (written as {original})" if original and original != address else f"to {address}"
    if queue and mailbox:
        return f"{name}: the mailbox {mailbox} could not take it yet ({reply}); it waits in the queue as {queue}"
    if queue:
        return f"{name}: put into the queue as {queue}"
    if mailbox and reply.startswith("2"):
        return f"{name}: delivered into the mailbox {mailbox}"
    return f"{name}: not taken: {reply}"


def _attempt(event: Event) -> str:
    host, site, reply = _text(event, "host"), _text(event, "site"), _text(event, "reply")
    said = f'{host} said "{reply}"' if host else f'"{reply}"'
    tried = f", by way of {site}" if site and site != host else ""
    match _text(event, "action"):
        case "delivered":
            return "delivered into a mailbox of this server."
        case "relayed":
            return f'{host or "the next server"} has taken it{tried}; it said "{reply}".'
        case "delayed":
            again = f" It is tried again at {_text(event, 'next')[:19].replace('T', ' ')}." if event.get("next") else ""
            return f"not delivered yet{tried}: {said}.{again}"
        case "failed":
            return f"failed for good{tried}: {said}."
        case action:
            return f"{action}{tried}: {said}."


def _next_steps(entries: Sequence[Entry], problem: str) -> Iterator[str]:
    if problem:
        yield f"What waits in the queue is not known: {printable(problem)}"
    elif not entries:
        yield "Nothing of it waits in the queue any more."
    for entry in entries:
        yield from _waiting(entry)


def _waiting(entry: Entry) -> Iterator[str]:
    match entry.standing:
        case Standing.HELD:
            yield f"{entry.id} is held; `mailserver queue release {entry.id}` lets it go."
        case Standing.CORRUPT:
            yield f"{entry.id} cannot be read, and is kept; `mailserver queue release {entry.id}` tries it once more."
            return
        case Standing.ACTIVE:
            yield f"{entry.id} is being worked on."
        case Standing.QUEUED:
            yield f"{entry.id} waits in the queue, since {time_text(entry.created)}, from {sender_of(entry)}."
    if entry.via:
        yield f"{entry.id} goes by {printable(entry.via)}, as an administrator chose."
    for recipient in entry.recipients:
        yield f"{entry.id} to {printable(str(recipient.address))}: {_next(entry, recipient)}"


def _next(entry: Entry, recipient: QueuedRecipient) -> str:
    if recipient.failed:
        return "given up; its sender is told soon."
    wait = recipient.next_attempt - time.time()
    when = "when it is released"
    if entry.standing is not Standing.HELD:
        when = f"in {length(wait)}, at {time_text(recipient.next_attempt)}" if wait > 0 else "now"
    if not recipient.attempts:
        return f"not tried yet; the first attempt is {when}."
    answer = f', the last with the answer "{printable(str(recipient.reply))}"' if recipient.reply else ""
    return f"tried {counted(recipient.attempts, 'time')}{answer}; the next attempt is {when}."


def _bracketed(sender: str) -> str:
    return sender if sender == "<>" else f"<{sender}>"


def _text(event: Event, key: str) -> str:
    value = event.get(key)
    return "" if value is None else printable(str(value))
