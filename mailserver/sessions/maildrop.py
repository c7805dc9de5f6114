"""A mailbox as POP3 sees it: a fixed list of numbered messages (RFC 1939 §4).

Promises   Numbers, sizes and unique-ids stay as they were when the maildrop was opened, whatever others do meanwhile.
           Nothing is deleted before `update`. A unique-id lasts as long as its message and is never given to another.
           The content of a message is read in pieces; its size does not count.
On failure StoreError or OSError from the methods that are marked blocking, and while content is read.
Not done   No exclusive lock: several sessions may read and delete at once, as IMAP's do. A message that another session
           removed is an error when it is asked for, and no error when it was to be removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from mailserver.store import AccountStore, Mailbox, Message

BATCH = 256 * 1024


class Maildrop:
    """Numbers are those of RFC 1939: from 1, in the order in which the messages came."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._messages = mailbox.messages()
        self._deleted: set[int] = set()

    @classmethod
    def open(cls, account: AccountStore) -> Maildrop:
        """The account's INBOX as it is now. Blocking."""
        return cls(account.open("INBOX"))

    def close(self) -> None:
        """Lets the mailbox go; what was marked as deleted stays. Blocking."""
        self._mailbox.close()

    def get(self, number: int) -> Message | None:
        """None: there is no such message, or it is marked as deleted."""
        if 1 <= number <= len(self._messages) and number not in self._deleted:
            return self._messages[number - 1]
        return None

    def numbered(self) -> Iterator[tuple[int, Message]]:
        """The messages that are not marked as deleted."""
        return ((n, message) for n, message in enumerate(self._messages, 1) if n not in self._deleted)

    @property
    def count(self) -> int:
        return len(self._messages) - len(self._deleted)

    @property
    def size(self) -> int:
        """Octets of the messages that are not marked as deleted."""
        return sum(message.size for _, message in self.numbered())

    @property
    def deleted(self) -> int:
        """How many messages are marked."""
        return len(self._deleted)

    def unique_id(self, message: Message) -> str:
        """UID and UIDVALIDITY in hexadecimal, as Dovecot has it: who moves here downloads nothing again."""
        return f"{message.uid:08x}{self._mailbox.uidvalidity:08x}"

    def content(self, message: Message) -> Iterator[bytes]:
        """The message in CRLF form. Each step is blocking."""
        yield from self._mailbox.chunks(message.uid)

    def delete(self, number: int) -> None:
        self._deleted.add(number)

    def reset(self) -> None:
        self._deleted.clear()

    def update(self) -> int:
        """Removes what is marked; returns how many of it are still there. Blocking."""
        uids = [self._messages[number - 1].uid for number in sorted(self._deleted)]
        self._mailbox.expunge(uids)
        return len(self._mailbox.get(uids))


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


def read_batch(chunks: Iterator[bytes]) -> bytes:
    """The next octets, at least `BATCH`; fewer only at the end. Blocking, in one hop to a worker."""
    batch = []
    size = 0
    while size < BATCH and (chunk := next(chunks, None)) is not None:
        batch.append(chunk)
        size += len(chunk)
    return b"".join(batch)
