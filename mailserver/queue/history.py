"""What happened to messages, in text files that `mailserver why` reads: `<directory>/YYYY-MM-DD.jsonl`, a UTC day each.

A line is one JSON object: "time", "id" (of a message or a queue entry; "ids" where an administrator changed many),
"event", and what else is known of it. `accepted` names the queue ids that a message got, `reported` that of the report:
by these a message is followed.

Promises   Noting costs some microseconds, waits for nothing, and never raises into the flow of mail. `flush` adds whole
           lines to the file with one write, so that processes can share it. Lines are bounded, and so is what waits to
           be written. Files are deleted when they are older than asked for.
On failure What cannot be written is lost, and told in the log once a minute at most: it is not mail. It is not synced
           either: a power loss takes the last seconds.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from mailserver.mail import Address, DeliveryStatus, Reply
from mailserver.mail.trace import Arrival

log = logging.getLogger(__name__)

TEXT_LIMIT = 500  # characters of a text
PER_LINE = 20  # recipients of a message in one line
IDS_PER_LINE = 100
PENDING_LIMIT = 4 * 1024 * 1024  # octets that wait to be written
TOLD_EVERY = 60.0  # seconds between two complaints in the log

DAY_FILE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})\.jsonl")

_encode = json.JSONEncoder().encode  # ASCII: nothing in it that a terminal would obey


@dataclass(frozen=True, slots=True)
class Destination:
    """Where one recipient of a message went: into a mailbox here, into the queue, or nowhere.

    With both, the mailbox could not take it yet. `reply` is what the mailbox said, or why nothing takes it.
    """

    address: Address
    queue: str | None = None
    mailbox: Address | None = None
    reply: Reply | None = None
    original: Address | None = None


class History:
    """`keep`: seconds for which a file is kept. Safe for threads."""

    def __init__(self, directory: Path, keep: float, *, clock: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._keep = keep
        self._clock = clock
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._pending: list[bytes] = []
        self._size = 0
        self._lost = 0  # lines, since that was told last
        self._told = -TOLD_EVERY
        self._day = ""  # for which old files were looked for

    # What happens

    def accepted(
        self, arrival: Arrival, sender: Address | None, size: int, recipients: Sequence[Destination], reply: Reply
    ) -> None:
        """A message came in, and this server answers for it; or, with a negative reply, nobody got it."""
        event = "accepted" if reply.positive else "refused"
        for start in range(0, max(len(recipients), 1), PER_LINE):
            self.note(
                event,
                arrival.id,
                sender=str(sender) if sender else "<>",
                size=size,
                peer=arrival.address,
                hello=arrival.hello,
                protocol=arrival.protocol,
                tls=arrival.tls,
                login=arrival.login,
                reply=str(reply),
                recipients=[_destination(each) for each in recipients[start : start + PER_LINE]],
            )

    def attempted(
        self, queue_id: str, status: DeliveryStatus, *, site: str = "", next_attempt: float | None = None
    ) -> None:
        """One recipient at one attempt. `site`: what was tried; `next_attempt`: wall time, where there will be one."""
        self.note(
            "attempted",
            queue_id,
            recipient=str(status.recipient),
            action=str(status.action),
            host=status.host,
            reply=str(status.reply),
            site=site,
            next=None if next_attempt is None else _text_of(next_attempt),
        )

    def discarded(self, queue_id: str, recipient: Address) -> None:
        """Thrown away, as the routing table has it."""
        self.note("discarded", queue_id, recipient=str(recipient))

    def held(self, queue_id: str) -> None:
        """Kept from being tried, as the routing table has it."""
        self.note("held", queue_id)

    def reported(self, queue_id: str, report_id: str, to: Address | None = None, kind: str = "") -> None:
        """A report was queued. `kind`: "failure", "delay", "success" or "double bounce"."""
        self.note("reported", queue_id, report=report_id, to=str(to) if to else "", kind=kind)

    def removed(self, queue_id: str) -> None:
        """An entry was found gone while it was being worked on."""
        self.note("removed", queue_id)

    def administered(self, action: str, ids: Sequence[str], *, via: str = "") -> None:
        """`action`: what an administrator did: held, released, removed, ..."""
        for start in range(0, len(ids), IDS_PER_LINE):
            self._append({"event": action, "by": "administrator", "via": via}, ids=ids[start : start + IDS_PER_LINE])

    def note(self, event: str, id: str, **data: object) -> None:
        """Anything else. Empty values are left out."""
        self._append({"id": id, "event": event, **data})

    # Writing

    def _append(self, data: dict[str, object], *, ids: Sequence[str] = ()) -> None:
        try:
            line = {"time": _text_of(self._clock())} | {
                key: value[:TEXT_LIMIT] if isinstance(value, str) else value
                for key, value in data.items()
                if value is not None and value != ""
            }
            if ids:
                line["ids"] = list(ids)
            octets = _encode(line).encode() + b"\n"
        except Exception:
            log.exception("history: %r cannot be noted", data.get("event"))
            return
        with self._lock:
            if self._size + len(octets) > PENDING_LIMIT:
                self._lost += 1
                return
            self._pending.append(octets)
            self._size += len(octets)

    @property
    def pending(self) -> bool:
        """Something waits to be written."""
        return bool(self._pending or self._lost)

    def flush(self) -> None:
        """Writes what was noted. Blocking."""
        with self._writing:
            with self._lock:
                lines, self._pending, self._size = self._pending, [], 0
                lost, self._lost = self._lost, 0
            trouble: Exception | None = None
            try:
                today = _text_of(self._clock())[:10]
                if lines:
                    _append_to(self._directory / f"{today}.jsonl", b"".join(lines))
                if today != self._day:
                    self._day = today
                    self._forget_old()
            except Exception as error:  # noqa: BLE001 - told below
                trouble, lost = error, lost + len(lines)
            if trouble is not None or lost:
                self._tell(trouble, lost)

    def _tell(self, trouble: Exception | None, lost: int) -> None:
        now = time.monotonic()
        if now < self._told + TOLD_EVERY:
            with self._lock:
                self._lost += lost
            return
        self._told = now
        log.error("history: %d lines are lost; %s", lost, trouble or "they came faster than they could be written")

    def _forget_old(self) -> None:
        now = datetime.fromtimestamp(self._clock(), UTC)
        for path, day in day_files(self._directory):
            end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
            if end.timestamp() <= now.timestamp() - self._keep:
                path.unlink(missing_ok=True)


def _text_of(when: float) -> str:
    """RFC 3339 in UTC, with milliseconds; nothing for a time that no calendar has."""
    try:
        second, fraction = divmod(int(when * 1000), 1000)
        return f"{_text_of_second(second)}.{fraction:03d}Z"
    except (ValueError, OverflowError, OSError):
        return ""


@lru_cache(maxsize=16)
def _text_of_second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


class NoHistory(History):
    """Notes nothing."""

    def __init__(self) -> None:
        super().__init__(Path(os.devnull), 0.0)

    def _append(self, data: dict[str, object], *, ids: Sequence[str] = ()) -> None:
        pass

    def flush(self) -> None:
        pass


NO_HISTORY = NoHistory()


def day_files(directory: Path) -> list[tuple[Path, date]]:
    """The files and their days, the newest first; none when there is no history yet. Raises OSError."""
    found = []
    try:
        paths = list(directory.iterdir())
    except FileNotFoundError:
        return []
    for path in paths:
        match = DAY_FILE.fullmatch(path.name)
        try:
            if match:
                found.append((path, date.fromisoformat(match[1])))
        except ValueError:
            continue
    return sorted(found, reverse=True, key=lambda each: each[1])


def _destination(to: Destination) -> dict[str, str]:
    found = {
        "address": str(to.address),
        "original": str(to.original) if to.original else "",
        "queue": to.queue or "",
        "mailbox": str(to.mailbox) if to.mailbox else "",
        "reply": str(to.reply)[:TEXT_LIMIT] if to.reply else "",
    }
    return {key: value for key, value in found.items() if value}


def _append_to(path: Path, lines: bytes) -> None:
    """Raises OSError."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(path, flags)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(path, flags | os.O_CREAT, 0o600)
        if os.geteuid() == 0:  # the server goes on with it, as the user that it runs as
            owner = path.parent.parent.stat()
            os.chown(path.parent, owner.st_uid, owner.st_gid)
            os.fchown(fd, owner.st_uid, owner.st_gid)
    try:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":  # a write that a full disk cut: what follows stays readable
            lines = b"\n" + lines
        written = os.write(fd, lines)
        if written < len(lines):
            raise OSError(f"{len(lines) - written} octets found no room")
    finally:
        os.close(fd)
