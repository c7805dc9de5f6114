"""The durable queue: messages that wait for a next hop, or for a mailbox that could not take them at once.

Promises   What `Queue.add` gave an id for is on disk: body file synced, its directory synced, row committed and synced.
           Each change is one transaction, seen whole or not at all, also after `kill -9` and by other processes.
           An entry that cannot be read is set aside in the state "corrupt" and never deleted but by an administrator.
           A queue that was removed or moved away while it is open takes nothing more.
On failure QueueError, and nothing has changed.
Layout     <data>/queue/queue.db (SQLite, WAL); bodies above 64 KiB in <data>/queue/bodies/<id>, in CRLF form;
           <data>/queue/lead, locked by the process that delivers, if it lives; <data>/queue/history/, what happened.
"""

from mailserver.queue.administration import Administration, Backlog
from mailserver.queue.filter import Filter
from mailserver.queue.history import NO_HISTORY, Destination, History, NoHistory
from mailserver.queue.model import (
    Attempted,
    Entry,
    EntryLost,
    LeaseLost,
    NewEntry,
    NoSuchEntry,
    QueuedRecipient,
    QueueError,
    Standing,
    State,
    Taken,
)
from mailserver.queue.queue import Queue

__all__ = [
    "NO_HISTORY",
    "Administration",
    "Attempted",
    "Backlog",
    "Destination",
    "Entry",
    "EntryLost",
    "Filter",
    "History",
    "LeaseLost",
    "NewEntry",
    "NoHistory",
    "NoSuchEntry",
    "Queue",
    "QueueError",
    "QueuedRecipient",
    "Standing",
    "State",
    "Taken",
]
