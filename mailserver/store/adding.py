"""Messages are added to a folder: those of APPEND, several jobs at once, and copies from other folders.

Promises   What returned is on disk. A job is stored whole or not at all; those of one message that come together share
           the syncs, one of many has its own, so that few files are open at a time.
           Only within the quota, whose room is held while the work goes on.
On failure What is wrong with one job is its result; what concerns the folder is raised (OSError, StoreError) and undoes
           all. Nothing is left in tmp/.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from mailserver.store import names
from mailserver.store.maildir import Maildir
from mailserver.store.model import Addition, Message, OverQuota, StoreError, Unavailable, Usage
from mailserver.store.newcomers import Newcomer, of_written
from mailserver.store.quota import Space
from mailserver.store.syncing import sync_files
from mailserver.store.writing import NO_LINKS, TMP, Written, discard, link_or_copy, write

log = logging.getLogger(__name__)

OPEN = 50  # files of one job
_NOTHING = Usage(0, 0)


def usage(messages: Sequence[Message]) -> Usage:
    return Usage(len(messages), sum(names.size_of(message.name) for message in messages))


def unavailable(directory: str, error: OSError) -> Unavailable:
    """What a client is told; the system's own words go to the log."""
    log.error("store=mailbox directory=%r error=%r", directory, error)
    return Unavailable("The mailbox is not available now", error.errno)


@dataclass(slots=True)
class _Part:
    """One of several jobs that are appended together. `taken` is the room that it holds."""

    additions: Sequence[Addition]
    written: list[Written] = field(default_factory=list)
    newcomers: list[Newcomer] = field(default_factory=list)
    taken: Usage = _NOTHING
    stored: bool = False
    error: StoreError | None = None

    def close(self) -> None:
        for file in self.written:
            file.close()
            if not self.stored:
                discard(file.path)


class Adding:
    """To one folder. Not thread-safe, but for `room`: `Mailbox` sees to that."""

    def __init__(self, maildir: Maildir, space: Space) -> None:
        self._maildir = maildir
        self._space = space

    @contextmanager
    def room(self, more: Usage) -> Iterator[None]:
        """For messages; given back when they do not come. Raises OverQuota."""
        self._take(more)
        try:
            yield
        except BaseException:
            self._space.give_back(more)
            raise
        self._space.stored(more)

    def append(self, jobs: Sequence[Sequence[Addition]], *, freeing: Usage = _NOTHING) -> list[list[int] | StoreError]:
        """The UIDs that the messages of each job got, or why it was refused. `freeing` goes when they are there."""
        parts = [_Part(additions) for additions in jobs]
        try:
            for part in parts:
                self._write(part, freeing)
            self._sync([part for part in parts if part.error is None])
            going = [part for part in parts if part.error is None]
            uids = iter(self._maildir.add([newcomer for part in going for newcomer in part.newcomers]))
            for part in going:
                part.stored = True
        finally:
            for part in parts:
                part.close()
                self._settle(part)
        return [part.error or [next(uids) for _ in part.written] for part in parts]

    def copies(self, chosen: Sequence[Message], path: Callable[[Message], str]) -> list[int] | None:
        """The UIDs of copies of messages that lie at a `path`. None: one of them did not."""
        newcomers = self._named(chosen, path)
        try:
            return self._maildir.add(newcomers)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
        return self._copies_of_content(newcomers)

    def _named(self, chosen: Sequence[Message], path: Callable[[Message], str]) -> list[Newcomer]:
        """What the copies will be. There are few different flags."""
        maildir = self._maildir
        accepted = {flags: maildir.accept(flags) for flags in {message.flags for message in chosen}}
        letters = {flags: maildir.flags.encode(kept) for flags, kept in accepted.items()}
        return [
            Newcomer(
                path(message),
                names.with_fields_of(names.unique(maildir.host), message.name),
                letters[message.flags],
                message.internal_date,
                message.size,
                accepted[message.flags],
                stays=True,
            )
            for message in chosen
        ]

    def _copies_of_content(self, newcomers: Sequence[Newcomer]) -> list[int] | None:
        """As `copies`, where a file can have no more names."""
        made: list[str] = []
        try:
            for each in newcomers:
                made.append(f"{self._maildir.directory}/{TMP}/{each.base}")
                try:
                    link_or_copy(each.path, made[-1])
                except FileNotFoundError:
                    return None
            moved = [replace(each, path=there, stays=False) for each, there in zip(newcomers, made, strict=True)]
            added = self._maildir.add(moved)
            made.clear()
        finally:
            for there in made:
                discard(there)
        return added

    def _settle(self, part: _Part) -> None:
        if part.stored:
            self._space.stored(part.taken)
        elif part.taken != _NOTHING:
            self._space.give_back(part.taken)

    def _take(self, more: Usage, freeing: Usage = _NOTHING) -> None:
        if not self._space.take(more, freeing=freeing):
            raise OverQuota("The account has no room for it")

    def _write(self, part: _Part, freeing: Usage) -> None:
        """The messages of one job, into tmp/. What is wrong with them is theirs alone."""
        maildir = self._maildir
        try:
            for addition in part.additions:
                flags = maildir.accept(addition.flags)
                date = addition.internal_date if addition.internal_date is not None else time.time()
                file = write(maildir.directory, maildir.host, addition.content.chunks, date, addition.zone)
                part.written.append(file)
                part.newcomers.append(of_written(file, maildir.flags.encode(flags), date, flags))
                if len(part.written) % OPEN == 0:
                    self._sync_now(part)
            if len(part.written) > 1:
                self._sync_now(part)
            more = Usage(len(part.written), sum(file.size for file in part.written))
            self._take(more, freeing)
            part.taken = more
        except StoreError as error:
            part.error = error
        except OSError as error:
            part.error = unavailable(maildir.directory, error)

    def _sync_now(self, part: _Part) -> None:
        """What is written of it so far, which is closed then. Raises StoreError."""
        self._sync([part])
        if part.error is not None:
            raise part.error
        for file in part.written:
            file.close()

    def _sync(self, parts: Sequence[_Part]) -> None:
        files = [(part, file) for part in parts for file in part.written if file.fd >= 0]
        for (part, _), error in zip(files, sync_files([file.fd for _, file in files]), strict=True):
            if error is not None and part.error is None:
                part.error = unavailable(self._maildir.directory, error)
