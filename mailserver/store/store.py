"""All accounts, below one directory: `<root>/<domain>/<localpart>/` is a Maildir.

Promises   `deliver` returns when every message of the batch is on disk or refused (see `delivery`).
           Any thread may call anything.
On failure Errors of one delivery are results, not exceptions.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

from mailserver import metrics
from mailserver.mail import Address, Quota
from mailserver.store import delivery, folders, layout, names
from mailserver.store.account import AccountStore
from mailserver.store.arrivals import Arrivals
from mailserver.store.model import Delivery, DeliveryError, Unavailable, Usage
from mailserver.store.warm import Warm

log = logging.getLogger(__name__)

ACCOUNTS_KEPT = 500

_NOTHING = Usage(0, 0)


class Store:
    """One for each process."""

    def __init__(self, root: Path, *, hostname: str, arrivals: Arrivals | None = None) -> None:
        """`arrivals` is told where mail is stored."""
        self._root = str(root)
        self._host = hostname
        self._arrivals = arrivals
        self._lock = threading.Lock()
        self._warm = Warm()
        self._accounts: WeakValueDictionary[str, AccountStore] = WeakValueDictionary()
        self._used: OrderedDict[str, AccountStore] = OrderedDict()  # the last used stay, with what they know

    def account(self, address: Address) -> AccountStore:
        """Its Maildir is made when missing. Raises InvalidName, Unavailable."""
        place = folders.account_path(address)
        path = f"{self._root}/{place}"
        with self._lock:
            account = self._accounts.get(path)
            try:
                made = layout.make_account(path)
                if account is None:
                    account = self._accounts[path] = self._made(path, place)
            except OSError as error:
                log.error("store=account path=%r error=%r", path, error)
                raise Unavailable("The account is not available now", error.errno) from error
            if made:
                log.info("store=account path=%r made=yes", path)
            self._used[path] = account
            self._used.move_to_end(path)
            if len(self._used) > ACCOUNTS_KEPT:
                self._used.popitem(last=False)
            return account

    def _made(self, path: str, place: str) -> AccountStore:
        if self._arrivals is None:
            return AccountStore(path, self._host, self._warm)
        return AccountStore(path, self._host, self._warm, partial(self._arrivals.note, place))

    def has_room(self, account: Address, quota: Quota, octets: int) -> bool:
        """Whether a further message of this size would be within the quota. Raises StoreError, OSError."""
        return self.account(account).space.has_room(Usage(1, octets), quota)

    def deliver(self, batch: Sequence[Delivery]) -> list[Path | DeliveryError]:
        """Blocking group commit. The path of each message in new/, or why it was refused; in order."""
        accounts: dict[str, AccountStore] = {}
        directories: dict[tuple[str, str], str] = {}
        taken: dict[AccountStore, Usage] = {}

        def place(job: Delivery) -> str:
            path = folders.account_path(job.account)
            account = accounts.get(path)
            if account is None:
                account = accounts[path] = self.account(job.account)
            wanted = Usage(1, len(job.header) + job.content.size)
            if not job.quota.allows(wanted.octets, wanted.messages):
                raise DeliveryError(delivery.TOO_LARGE)
            in_all = taken.get(account, _NOTHING) + wanted
            if not account.space.has_room(in_all, job.quota):
                raise DeliveryError(delivery.MAILBOX_FULL)
            taken[account] = in_all
            if (path, job.folder) not in directories:
                directory = account.ensure(job.folder)
                delivery.refuse_links(directory)
                directories[path, job.folder] = directory
            return directories[path, job.folder]

        begun = time.perf_counter()
        results = delivery.deliver(batch, place, self._host)
        metrics.STORE_TIMES.observe(time.perf_counter() - begun, "deliver")
        stored: dict[AccountStore, Usage] = {}
        for job, result in zip(batch, results, strict=True):
            if isinstance(result, Path):
                account = accounts[folders.account_path(job.account)]
                stored[account] = stored.get(account, _NOTHING) + Usage(1, names.size_of(result.name))
        for account, usage in stored.items():
            account.space.add(usage)
        for path, folder in directories:
            accounts[path].delivered(folders.directory_of(folder))
        return results
