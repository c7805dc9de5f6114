"""Finding in the history what happened to a message, by any of its ids or by an address.

A message is followed from its own id to those of its queue entries and of the reports on it, and back. Files are read
from the end of the newest one, in pieces, and only lines that hold what is looked for are taken apart.

Promises   Memory is bounded by what is found. Lines that are broken, or of another program, are passed over.
On failure OSError.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from mailserver.mail import Address
from mailserver.mail.address import domain_in_ascii, forms_of_domain
from mailserver.queue.history import day_files

PIECE = 1024 * 1024
IDS_FOLLOWED = 1000  # of one message

Event = dict[str, Any]
"""As `History` writes it; of what type a value is was not checked."""

ARRIVALS = ("accepted", "refused")


Place = tuple[int, int]
"""Of a line: the number of its file, the newest is the highest, and where it ends there."""


@dataclass(slots=True)
class Story:
    """What happened to one message, under any of its `ids`."""

    ids: set[str]
    found: dict[Place, Event] = field(default_factory=dict)

    @property
    def events(self) -> list[Event]:
        """The oldest first; but a message came before anything was done with it, in whatever order that was noted."""
        places = sorted(self.found, key=lambda place: (self.found[place].get("event") not in ARRIVALS, place))
        return [self.found[place] for place in places]


class Trail:
    """`since`: the first day that is looked at."""

    def __init__(self, directory: Path, since: date) -> None:
        self._files = [path for path, day in day_files(directory) if day >= since]

    def of_id(self, id: str) -> Story | None:
        """None: nothing is known of it."""
        story = Story({id})
        self._follow([story])
        return story if story.found else None

    def of_address(self, address: Address, limit: int) -> tuple[list[Story], bool]:
        """The newest messages from or to it, the newest first, and whether there are more."""
        key, stories, more = _key(str(address)), list[Story](), False
        for _, event in self._events(_forms(address), folded=True):
            if key not in map(_key, _addresses(event)):
                continue
            names = _names(event)
            if _joined(stories, names) is None:
                if len(stories) == limit:
                    more = True
                    break
                stories.append(Story(names))
        self._follow(stories)
        return stories, more

    def _follow(self, stories: list[Story]) -> None:
        """Looks for all events of the stories; those that turn out to be of one message become one."""
        looked_for: set[str] = set()
        while new := {id for story in stories for id in story.ids} - looked_for:
            looked_for |= new
            for place, event in self._events([json.dumps(id).encode() for id in new]):
                if (story := _joined(stories, _names(event))) is not None:
                    story.found[place] = event
                else:  # an administrator changed many at once: these have nothing else in common
                    changed = set(map(str, _list(event.get("ids"))))
                    for each in stories:
                        if each.ids & changed:
                            each.found[place] = event

    def _events(self, needles: Collection[bytes], *, folded: bool = False) -> Iterator[tuple[Place, Event]]:
        """Lines that hold one of the needles, the newest first. `folded`: the needles are in lower case."""
        for number, path in enumerate(self._files):
            for end, piece in _pieces(path):
                whole = piece.lower() if folded else piece
                present = [needle for needle in needles if needle in whole]
                if not present:
                    continue
                for line in reversed(piece.split(b"\n")):
                    text = line.lower() if folded else line
                    if any(needle in text for needle in present) and (event := _parsed(line)) is not None:
                        yield (-number, end), event
                    end -= len(line) + 1


def _pieces(path: Path) -> Iterator[tuple[int, bytes]]:
    """Whole lines and where they end, from the end of a file to its beginning."""
    try:
        file = path.open("rb")
    except FileNotFoundError:  # it was old enough to go meanwhile
        return
    with file:
        end = file.seek(0, 2)
        rest = b""
        while end > 0:
            start = max(0, end - PIECE)
            file.seek(start)
            piece = file.read(end - start) + rest
            end = start
            cut = piece.find(b"\n") + 1 if start else 0  # the first line may begin in the piece before
            if start and not cut:
                rest = piece
                continue
            rest, piece = piece[:cut], piece[cut:]
            yield start + cut + len(piece), piece


def _parsed(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def _joined(stories: list[Story], names: set[str]) -> Story | None:
    """The story that these ids are of; None: they are of none. Stories that they are of become one."""
    found = [story for story in stories if story.ids & names]
    if not found:
        return None
    first = found[0]
    for other in found[1:]:
        first.ids |= other.ids
        first.found |= other.found
        stories.remove(other)
    if len(first.ids) < IDS_FOLLOWED:
        first.ids |= names
    return first


def _names(event: Event) -> set[str]:
    """The ids that are all of one message."""
    found = [event.get("id"), event.get("report"), *(each.get("queue") for each in recipients_of(event))]
    return {id for id in found if isinstance(id, str) and id}


def recipients_of(event: Event) -> list[Event]:
    """Those of a message that came in."""
    return [each for each in _list(event.get("recipients")) if isinstance(each, dict)]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _addresses(event: Event) -> Iterator[str]:
    places: list[tuple[Event, Iterable[str]]] = [(event, ("sender", "recipient", "to", "login"))]
    places += [(each, ("address", "original", "mailbox")) for each in recipients_of(event)]
    for place, keys in places:
        yield from (value for key in keys if isinstance(value := place.get(key), str))


def _key(address: str) -> tuple[str, str]:
    local, _, domain = address.rpartition("@")
    domain = domain.lower()
    return local.casefold(), domain_in_ascii(domain) or domain


def _forms(address: Address) -> list[bytes]:
    """As lines have it, but in lower case."""
    written = {
        str(Address(local, domain))
        for local in (address.local, address.local.lower())
        for domain in forms_of_domain(address.domain)
    }
    return [json.dumps(each).lower().encode() for each in written]
