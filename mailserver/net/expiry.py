"""Certificates that nobody renews: looked at when the server starts, and each day.

Promises   A certificate that is about to expire is a warning, an expired one an error, once a day; and so are files
           that were changed and cannot be used.
           The store of certificates is looked after also while no client comes.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from mailserver.config.certificates import expiry_warning, validity_fault
from mailserver.net.tls import CertificateStore
from mailserver.ports import Clock, Timer

log = logging.getLogger(__name__)

DAY = 24 * 3600.0


class ExpiryWatch:
    """`tells`: of several processes only one does."""

    def __init__(self, store: CertificateStore, clock: Clock, *, tells: bool) -> None:
        self._store = store
        self._clock = clock
        self._tells = tells
        self._timer: Timer | None = None

    def start(self) -> None:
        self._timer = self._clock.call_later(DAY, self.start)
        if self._tells:
            self._store.tell_faults()  # those that a look has told before; what is new the next line tells
        self._store.refresh()
        if not self._tells:
            return
        now = datetime.fromtimestamp(self._clock.wall(), UTC)
        for file, leaf in self._store.leaves():
            if fault := validity_fault(file, leaf, now):
                log.error("%s", fault)
            elif warning := expiry_warning(file, leaf, now):
                log.warning("%s", warning)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
