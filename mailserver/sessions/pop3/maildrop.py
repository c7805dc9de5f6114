r"""A mailbox as POP3 sees it: a fixed list of numbered messages (RFC 1939 §4).

Promises   Numbers, sizes and unique-ids stay as they were when the maildrop was opened, whatever others do meanwhile.
           Nothing is deleted before `update`. What was retrieved is `\Seen` at the end, if the configuration says so.
           The content of a message is read in pieces; its size does not count. Small messages that follow the one
           that is read are read with it, up to `AHEAD` octets, so that a client that takes one after another seldom
           waits for a worker.
On failure InUse, TooSoon, StoreError or OSError from the methods that are marked blocking, and while content is read.
Exclusive  As configured: one session at a time, or several that read and delete at once, as IMAP's do. A message that
           another session removed is an error when it is asked for, and no error when it was to be removed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain

from mailserver.config.model import POP3
from mailserver.mail import UniqueIds
from mailserver.message.header import header_end
from mailserver.store import AccountStore, Mailbox, StoreError

log = logging.getLogger(__name__)

BATCH = 256 * 1024  # octets of a large message that are held at a time
SMALL = 64 * 1024  # octets of a message that is read at once
AHEAD = 128 * 1024  # octets that are read before they are asked for
LINES = 1000  # of a listing that are made at a time

_SEEN = frozenset({r"\Seen"})


class Maildrop:
    """Numbers are those of RFC 1939: from 1, in the order in which the messages came."""

    def __init__(self, mailbox: Mailbox, policy: POP3) -> None:
        self._mailbox = mailbox
        self._mark_seen = policy.mark_seen
        self._unique_ids = UniqueIds.parse(policy.unique_id)
        self._held = ExitStack()
        drop = mailbox.drop(named=self._unique_ids.named)
        self._uids, self._sizes = drop.uids, drop.sizes
        self._names = _told_apart(drop.names, drop.uids)
        self._deleted: set[int] = set()
        self._retrieved: set[int] = set()
        self._size = self._whole_size = sum(drop.sizes)
        self._ahead: dict[int, bytes] = {}
        self._next = 0  # the number that follows what was read last
        self._window = 1  # messages to read ahead

    @classmethod
    def open(cls, account: AccountStore, policy: POP3) -> Maildrop:
        """The account's INBOX as it is now. Blocking. Raises InUse, TooSoon."""
        with ExitStack() as held:
            if policy.exclusive or policy.login_delay:
                turn = account.turn(delay=policy.login_delay or 0.0, alone=policy.exclusive)
                held.callback(turn.close)
                if not policy.exclusive:
                    held.close()
            mailbox = account.open("INBOX")
            held.callback(mailbox.close)
            made = cls(mailbox, policy)
            made._held = held.pop_all()
            return made

    def close(self) -> None:
        """Lets the mailbox go; what was marked as deleted stays. Blocking."""
        with self._held:
            self._ahead.clear()
            self._see()

    # What there is

    def __contains__(self, number: int) -> bool:
        """Not those that are marked as deleted."""
        return 1 <= number <= len(self._uids) and number not in self._deleted

    @property
    def count(self) -> int:
        return len(self._uids) - len(self._deleted)

    @property
    def size(self) -> int:
        """Octets of the messages that are not marked as deleted."""
        return self._size

    @property
    def deleted(self) -> int:
        """How many messages are marked."""
        return len(self._deleted)

    @property
    def retrieved(self) -> int:
        return len(self._retrieved)

    @property
    def summary(self) -> str:
        return f"{self.count} messages ({self.size} octets)"

    def size_of(self, number: int) -> int:
        """Octets that RETR sends of it, before stuffing."""
        return self._sizes[number - 1]

    def unique_id(self, number: int) -> str:
        """Lasts as long as the message and is never given to another."""
        return self._unique_ids_from(number - 1, number)[0]

    def scan_listing(self) -> Iterator[bytes]:
        """The lines of LIST, many at a time."""
        return self._lines(lambda start, end: self._sizes[start:end])

    def unique_id_listing(self) -> Iterator[bytes]:
        """The lines of UIDL, many at a time."""
        return self._lines(self._unique_ids_from)

    # Content

    def ready(self, number: int) -> bytes | None:
        """The whole message in CRLF form, if it was read ahead. It is given once."""
        return self._ahead.pop(number, None)

    def read(self, number: int) -> tuple[bytes, Iterator[bytes]]:
        """The message in CRLF form: what is at hand, and what follows, whose steps are blocking. Blocking.

        Raises MessageGone.
        """
        uid = self._uids[number - 1]
        if self.size_of(number) > SMALL:
            rest = self._mailbox.chunks(uid)
            return read_batch(rest), rest
        content = self._mailbox.read(uid)
        self._read_ahead(number)
        return content, iter(())

    def mark_retrieved(self, number: int) -> None:
        self._retrieved.add(number)

    # Changes

    def delete(self, number: int) -> None:
        self._deleted.add(number)
        self._size -= self.size_of(number)

    def reset(self) -> None:
        self._deleted.clear()
        self._size = self._whole_size

    def update(self) -> int:
        """Removes what is marked; returns how many of it are still there. Blocking."""
        uids = [self._uids[number - 1] for number in sorted(self._deleted)]
        if not uids:
            return 0
        self._mailbox.expunge(uids)
        return len(self._mailbox.get(uids))

    def _see(self) -> None:
        if not (self._mark_seen and self._retrieved):
            return
        try:
            self._mailbox.update_flags((self._uids[number - 1] for number in self._retrieved), "add", _SEEN)
        except (StoreError, OSError) as error:
            log.error("pop3: retrieved messages cannot be marked as seen: %s", error)

    def _unique_ids_from(self, start: int, end: int) -> list[str]:
        return self._unique_ids.of(self._mailbox.uidvalidity, self._uids[start:end], self._names[start:end])

    def _lines(self, values: Callable[[int, int], Iterable[object]]) -> Iterator[bytes]:
        """`values` gives what stands behind the numbers, for places from a first one up to a last."""
        for start in range(0, len(self._uids), LINES):
            rows: Iterable[tuple[int, object]] = enumerate(values(start, start + LINES), start + 1)
            if self._deleted:
                rows = [row for row in rows if row[0] not in self._deleted]
            yield "".join([f"{number} {value}\r\n" for number, value in rows]).encode()

    def _read_ahead(self, number: int) -> None:
        """The messages behind `number`, more of them the longer the client takes one after another."""
        self._window = min(2 * self._window, LINES) if number == self._next else 1
        self._ahead.clear()
        room = AHEAD
        self._next = number + 1
        while self._next <= min(number + self._window, len(self._uids)):
            if self._next not in self._deleted:
                room -= self.size_of(self._next)
                if room < 0 or self.size_of(self._next) > SMALL:
                    return
                try:
                    self._ahead[self._next] = self._mailbox.read(self._uids[self._next - 1])
                except (StoreError, OSError):
                    return  # it will be told when the message is asked for
            self._next += 1


def _told_apart(names: list[str], uids: Sequence[int]) -> list[str]:
    """Of files that once had the same name, in new/ and cur/, say, all but the first get their UID as well."""
    if len(set(names)) == len(names):
        return names
    known: set[str] = set()
    for place, name in enumerate(names):
        if name in known:
            names[place] = f"{name}.{uids[place]}"
        known.add(name)
    return names


def top(chunks: Iterable[bytes], lines: int) -> Iterator[bytes]:
    """The header, the blank line, and as many lines of the body (RFC 1939 §7, TOP)."""
    rest = iter(chunks)
    body = b""
    tail = b"\n"  # so that a blank line at the very beginning is found: an empty header
    for chunk in rest:
        window = tail + chunk
        blank = window.find(b"\n\r\n")
        if blank >= 0:
            body_start = blank + 3 - len(tail)
            yield chunk[:body_start]
            body = chunk[body_start:]
            break
        yield chunk
        tail = window[-2:]
    for chunk in chain([body], rest):
        ends = chunk.count(b"\n")
        if ends >= lines:
            yield chunk[: len(chunk) - len(chunk.split(b"\n", lines)[-1])]
            return
        yield chunk
        lines -= ends


def header_of(content: bytes) -> bytes:
    """The header of the message that begins so, as far as it goes; with the empty line."""
    return content[: header_end(content)]


def read_batch(chunks: Iterator[bytes]) -> bytes:
    """The next octets, at least `BATCH`; fewer only at the end. Blocking, in one hop to a worker."""
    batch = []
    size = 0
    while size < BATCH and (chunk := next(chunks, None)) is not None:
        batch.append(chunk)
        size += len(chunk)
    return b"".join(batch)
