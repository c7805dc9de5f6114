"""What sessions append to one account at the same moment is stored together, so that the disk is synced once for all.

Promises   Each job is stored or refused by itself; what is told to be stored is durable.
On failure The await raises what the store raised.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

from mailserver.ports import Workers
from mailserver.store import AccountStore, Addition, StoreError

TOGETHER = 50  # jobs; each holds two files open


class Job(NamedTuple):
    """Messages for one mailbox: all or none of them (RFC 3502)."""

    account: AccountStore
    mailbox: str
    additions: Sequence[Addition]


class Stored(NamedTuple):
    """UIDVALIDITY and UIDs (RFC 4315 §3)."""

    validity: int
    uids: Sequence[int]


class Appends:
    """One for all sessions of the process."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._groups: WeakKeyDictionary[AccountStore, Callable[[Job], Awaitable[Stored]]] = WeakKeyDictionary()

    def store(self, job: Job) -> Awaitable[Stored]:
        group = self._groups.get(job.account)
        if group is None:
            group = self._groups[job.account] = self._workers.grouped(store_together)
        return group(job)


def store_together(jobs: Sequence[Job]) -> list[Stored | Exception]:
    """Blocking. One result for each, in order."""
    results: dict[int, Stored | Exception] = {}
    by_mailbox: dict[tuple[AccountStore, str], list[int]] = {}
    for place, job in enumerate(jobs):
        by_mailbox.setdefault((job.account, job.mailbox), []).append(place)
    for (account, name), places in by_mailbox.items():
        results |= zip(places, _into(account, name, [jobs[place].additions for place in places]), strict=True)
    return [results[place] for place in range(len(jobs))]


def _into(account: AccountStore, name: str, jobs: Sequence[Sequence[Addition]]) -> list[Stored | Exception]:
    if len(jobs) > TOGETHER:
        return [*_into(account, name, jobs[:TOGETHER]), *_into(account, name, jobs[TOGETHER:])]
    try:
        mailbox = account.open(name)
        try:
            done = mailbox.append_each(jobs)
            return [each if isinstance(each, StoreError) else Stored(mailbox.uidvalidity, each) for each in done]
        finally:
            mailbox.close()
    except StoreError as error:
        if len(jobs) > 1:  # it may be the fault of one of them
            return [result for job in jobs for result in _into(account, name, [job])]
        return [error]
