"""Delivery into Maildirs, many messages at once (group commit).

Promises   A message whose path is returned is on disk: file synced, renamed into new/, directory synced. It needs no
           index and no lock. One message that fails does not touch the others of the batch. The same octets for
           several folders are written once: each gets a name of its own for one file, where links are possible.
On failure DeliveryError with the reply that the message deserves, and no trace of it; leftovers of a crash in tmp/ are
           swept after 36 hours.
Layout     tmp/NAME while it is written, new/NAME after.  maildir(5); RFC 5321 §6.1.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mailserver.mail import Content, Reply
from mailserver.store.content import Form, Plan, plan
from mailserver.store.model import Delivery, DeliveryError, StoreError, Unavailable
from mailserver.store.syncing import sync_directory, sync_files
from mailserver.store.watch import is_directory
from mailserver.store.writing import TMP, Written, discard, write

log = logging.getLogger(__name__)

STORAGE_FULL = Reply.of(452, "4.3.1", "Insufficient system storage")
LOCAL_ERROR = Reply.of(451, "4.3.0", "Local error in processing")
MAILBOX_FULL = Reply.of(452, "4.2.2", "The mailbox is full")
TOO_LARGE = Reply.of(552, "5.2.2", "The message is larger than the mailbox's quota")
NO_FOLDER = Reply.of(451, "4.2.0", "The mailbox cannot take mail now")

OPEN_FILES = 100
"""A greater batch is written and synced in parts."""

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
        """The file; that of another job of the same octets, when this is a link to it."""
        self.error: DeliveryError | None = None

    def fail(self, error: Exception) -> None:
        """Nothing stays of it, wherever it lies."""
        if self.path:
            discard(self.path)
        self.error = error if isinstance(error, DeliveryError) else DeliveryError(_reply(error))
        if not isinstance(error, DeliveryError):
            log.error("delivery=failed account=%r error=%r", str(self.delivery.account), error)

    @property
    def plan(self) -> Plan | None:
        """From what is known of the content, without a look at it; None: that is too little."""
        header, body = self.delivery.header, self.delivery.content
        if body.line_ends is None or not header.endswith(b"\r\n"):
            return None
        top = plan([header])
        return top.followed_by(body.size, body.line_ends) if top.form is Form.LF else None

    def chunks(self) -> Iterator[bytes]:
        """Raises OSError when the content is not whole, as one that was closed meanwhile."""
        content = self.delivery.content
        chunks = content.chunks()
        first = next(chunks, b"")
        octets = len(first)
        yield self.delivery.header + first
        for chunk in chunks:
            octets += len(chunk)
            yield chunk
        if octets != content.size:
            raise OSError(errno.EIO, "the content is not whole")


def deliver(batch: Sequence[Delivery], place: Place, host: str) -> list[Path | DeliveryError]:
    """One result for each, in order."""
    jobs = [_Job(delivery) for delivery in batch]
    try:
        for start in range(0, len(jobs), OPEN_FILES):
            _store(jobs[start : start + OPEN_FILES], place, host)
        for job in _going(jobs):
            _publish(job)
        _sync_directories(_going(jobs))
    except BaseException:
        for job in _going(jobs):
            discard(job.path)
        raise
    return [job.error or Path(job.path) for job in jobs]


def _going(jobs: list[_Job]) -> list[_Job]:
    return [job for job in jobs if job.error is None]


def _store(jobs: list[_Job], place: Place, host: str) -> None:
    """Durably, in tmp/. What several are to get is written once."""
    files: dict[tuple[bytes, Content], Written] = {}
    try:
        for job in jobs:
            _write(job, files, place, host)
        _sync(_going(jobs))
    finally:
        for job in jobs:
            if job.written is not None:
                job.written.close()


def _write(job: _Job, files: dict[tuple[bytes, Content], Written], place: Place, host: str) -> None:
    octets = (job.delivery.header, job.delivery.content)
    try:
        job.directory = place(job.delivery)
        same = files.get(octets)
        path = same.linked(job.directory, host) if same is not None else None
        if path is None:
            same = files[octets] = job.written = write(job.directory, host, job.chunks, plan=job.plan)
            path = same.path
        job.written, job.path = same, path
    except (OSError, StoreError) as error:
        job.fail(error)


def _sync(jobs: list[_Job]) -> None:
    files = list(dict.fromkeys(job.written for job in jobs if job.written is not None))
    errors = dict(zip(files, sync_files([file.fd for file in files]), strict=True))
    for job in jobs:
        error = errors.get(job.written) if job.written is not None else None
        if error is not None:
            job.fail(error)


def _publish(job: _Job) -> None:
    target = job.path.replace(f"{job.directory}/{TMP}/", f"{job.directory}/new/")
    try:
        os.rename(job.path, target)  # noqa: PTH104 - a Path takes longer than the call
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
    if isinstance(error, OSError | Unavailable) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return STORAGE_FULL
    return LOCAL_ERROR if isinstance(error, OSError) else NO_FOLDER


def refuse_links(directory: str) -> None:
    """Raises OSError for a folder whose tmp/ or new/ is a symbolic link: it may lead out of the account."""
    for part in (TMP, "new"):
        if not is_directory(f"{directory}/{part}"):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), f"{directory}/{part}")
