"""Delivery into Maildirs, many messages at once (group commit).

Promises   A message whose path is returned is on disk: file synced, renamed into new/, directory synced. It needs no
           index and no lock. One message that fails does not touch the others of the batch.
On failure DeliveryError with the reply that the message deserves, and no trace of it; leftovers of a crash in tmp/ are
           swept after 36 hours.
Layout     tmp/NAME while it is written, new/NAME after.  maildir(5); RFC 5321 §6.1.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mailserver.mail import Reply
from mailserver.store.model import Delivery, DeliveryError, StoreError
from mailserver.store.syncing import sync_directory, sync_files
from mailserver.store.writing import TMP, Written, discard, write

log = logging.getLogger(__name__)

STORAGE_FULL = Reply.of(452, "4.3.1", "Insufficient system storage")
LOCAL_ERROR = Reply.of(451, "4.3.0", "Local error in processing")
MAILBOX_FULL = Reply.of(452, "4.2.2", "The mailbox is full")
TOO_LARGE = Reply.of(552, "5.2.2", "The message is larger than the mailbox's quota")
NO_FOLDER = Reply.of(451, "4.2.0", "The mailbox cannot take mail now")

Place = Callable[[Delivery], str]
"""The directory of the folder, made if missing. Raises DeliveryError, StoreError, OSError."""


class _Job:
    """One copy on its way: a file in tmp/, then in new/, or an error."""

    __slots__ = ("delivery", "directory", "error", "path", "written")

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.directory = ""
        self.path = ""
        self.written: Written | None = None
        self.error: DeliveryError | None = None

    def fail(self, error: Exception) -> None:
        """Nothing stays of it, wherever it lies."""
        if self.path:
            discard(self.path)
        self.error = error if isinstance(error, DeliveryError) else DeliveryError(_reply(error))
        if not isinstance(error, DeliveryError):
            log.error("delivery=failed account=%r error=%r", str(self.delivery.account), error)

    def chunks(self) -> Iterator[bytes]:
        chunks = self.delivery.content.chunks()
        yield self.delivery.header + next(chunks, b"")
        yield from chunks


def deliver(batch: Sequence[Delivery], place: Place, host: str) -> list[Path | DeliveryError]:
    """One result for each, in order."""
    jobs = [_Job(delivery) for delivery in batch]
    try:
        for job in jobs:
            _write(job, place, host)
        _sync(_going(jobs))
        for job in _going(jobs):
            _publish(job)
        _sync_directories(_going(jobs))
    except BaseException:
        for job in _going(jobs):
            discard(job.path)
        raise
    finally:
        for job in jobs:
            if job.written is not None:
                job.written.close()
    return [job.error or Path(job.path) for job in jobs]


def _going(jobs: list[_Job]) -> list[_Job]:
    return [job for job in jobs if job.error is None]


def _write(job: _Job, place: Place, host: str) -> None:
    try:
        job.directory = place(job.delivery)
        job.written = write(job.directory, host, job.chunks)
        job.path = job.written.path
    except (OSError, StoreError) as error:
        job.fail(error)


def _sync(jobs: list[_Job]) -> None:
    files = [(job, job.written.fd) for job in jobs if job.written is not None]
    for (job, _), error in zip(files, sync_files([fd for _, fd in files]), strict=True):
        if error is not None:
            job.fail(error)


def _publish(job: _Job) -> None:
    target = job.path.replace(f"{job.directory}/{TMP}/", f"{job.directory}/new/")
    try:
        Path(job.path).rename(target)
        job.path = target
    except OSError as error:
        job.fail(error)


def _sync_directories(jobs: list[_Job]) -> None:
    for directory in dict.fromkeys(job.directory for job in jobs):
        try:
            sync_directory(f"{directory}/new")
        except OSError as error:
            for job in jobs:
                if job.directory == directory:
                    job.fail(error)


def _reply(error: Exception) -> Reply:
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return STORAGE_FULL if full else LOCAL_ERROR
    return NO_FOLDER
