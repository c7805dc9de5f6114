r"""Which messages no session was told of yet: `\Recent` (RFC 3501 §2.3.2).

Theory     A mark in the index says up to which UID some session was told. Who moves it, in one transaction, has what
           lies between the old mark and the new one: so a message goes to one process, and there to the one session
           that takes it. Moving it costs a write, so it is done where new messages are found, on a worker, and only
           while a session here waits for them; taking them is a matter of memory.
Promises   A message is recent to one session, of however many processes. Nobody claims for a session that does not
           come: what is found while only POP3 or EXAMINE looks stays for the next one that selects.
On failure Where the index cannot be written, or was lost, each process goes by what it knows itself: then a message may
           be recent to a session of each, or to none. What was claimed while the last session here was leaving is kept
           for the next one here.
"""

from __future__ import annotations

import threading

from mailserver.store.index import Mailboxes
from mailserver.store.maildir import Maildir


class Recent:
    """Of one mailbox, in one process. Any thread may call anything."""

    def __init__(self, maildir: Maildir, mailboxes: Mailboxes) -> None:
        self._maildir = maildir
        self._mailboxes = mailboxes
        self._claiming = threading.Lock()
        self._lock = threading.Lock()
        self._sessions = 0
        self._ours: set[int] = set()  # claimed, and not taken yet

    def join(self) -> set[int]:
        """A session begins to wait for recent messages; those that there are. May wait for the disk."""
        with self._lock:
            self._sessions += 1
        self.claim()
        return self.take()

    def leave(self) -> None:
        """A session that joined waits no longer."""
        with self._lock:
            self._sessions -= 1

    def take(self) -> set[int]:
        """UIDs that are recent to the session that asks, which has joined, and to no other. From memory."""
        with self._lock:
            taken, self._ours = self._ours, set()
            return taken

    def peek(self) -> set[int]:
        """UIDs that would be recent to the next session. From memory."""
        contents = self._maildir.contents
        with self._lock:
            ours = {uid for uid in self._ours if uid in contents}
        return ours | contents.above(self._maildir.told)

    def claim(self) -> None:
        """New messages may be known. May wait for the disk."""
        if not self._sessions:
            return
        with self._claiming:
            found = self._maildir.contents.above(self._maildir.told)
            if not found:
                return
            upto = max(found)
            told = self._mailboxes.tell(self._maildir.key, upto)
            with self._lock:
                self._ours.update(uid for uid in found if told is None or uid > told)
            self._maildir.told = upto
