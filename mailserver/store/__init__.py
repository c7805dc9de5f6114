"""Mailboxes on disk: Maildirs, which are the truth, and an index beside them, which may be deleted. Blocking code.

Promises   What is acknowledged is on disk; a UID is never given twice; everything is shared safely between threads and
           processes, and with other programs that know Maildirs.
On failure `StoreError` and what derives from it.
"""

from mailserver.store.account import AccountStore
from mailserver.store.mailbox import Mailbox
from mailserver.store.model import (
    Addition,
    AnnotationRefused,
    Changes,
    Delivery,
    DeliveryError,
    Drop,
    FlagAction,
    Flagged,
    Folder,
    InUse,
    InvalidFlag,
    InvalidName,
    Listing,
    MailboxExists,
    MailboxHasChildren,
    Message,
    MessageGone,
    NoSuchMailbox,
    ObjectIds,
    OverQuota,
    Pieces,
    Prepared,
    SortKeys,
    SpecialUseRefused,
    Status,
    StoreError,
    TooManyKeywords,
    TooSoon,
    Unavailable,
    Usage,
)
from mailserver.store.searchtext import Found
from mailserver.store.sorting import ColumnName, SortName, Threadable
from mailserver.store.store import Store
from mailserver.store.surroundings import Scene, Stamp
from mailserver.store.turns import Turn

__all__ = [
    "AccountStore",
    "Addition",
    "AnnotationRefused",
    "Changes",
    "ColumnName",
    "Delivery",
    "DeliveryError",
    "Drop",
    "FlagAction",
    "Flagged",
    "Folder",
    "Found",
    "InUse",
    "InvalidFlag",
    "InvalidName",
    "Listing",
    "Mailbox",
    "MailboxExists",
    "MailboxHasChildren",
    "Message",
    "MessageGone",
    "NoSuchMailbox",
    "ObjectIds",
    "OverQuota",
    "Pieces",
    "Prepared",
    "Scene",
    "SortKeys",
    "SortName",
    "SpecialUseRefused",
    "Stamp",
    "Status",
    "Store",
    "StoreError",
    "Threadable",
    "TooManyKeywords",
    "TooSoon",
    "Turn",
    "Unavailable",
    "Usage",
]
