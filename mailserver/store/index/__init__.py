"""The index of one account: what is costly to find out again. A cache; the Maildir is the truth.

A mailbox is known by its key (see `uids`), which is unique within the account and stays with the folder when that is
renamed.

Promises   The file may be deleted or damaged, and the disk full, at any time: then answers are empty, and what is
           damaged is made anew. No SQLite error comes out. What is known of a mailbox comes out together or not
           at all. Thread-safe.
On failure Logged; what reads gives what stands for nothing, what writes tells that it did not.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from mailserver.store.index.file import INDEX_FILE, VERSION, IndexFile
from mailserver.store.index.mailboxes import Header, Loaded, Mailboxes
from mailserver.store.index.packed import Packed, PackedTexts, Place
from mailserver.store.index.pieces import PieceTables
from mailserver.store.index.sorted import SortedTable

__all__ = [
    "INDEX_FILE",
    "VERSION",
    "Header",
    "Index",
    "Loaded",
    "Mailboxes",
    "Packed",
    "PackedTexts",
    "PieceTables",
    "Place",
    "SortedTable",
    "Words",
]

_KEYWORDS = "DELETE FROM keywords"
_EMPTY = (
    "DELETE FROM mailboxes",
    "DELETE FROM messages",
    "DELETE FROM flags",
    "DELETE FROM vanished",
    "DELETE FROM snapshots",
    "DELETE FROM prepared",
    "DELETE FROM sorting",
    "DELETE FROM headers",
    "DELETE FROM identities",
    "DELETE FROM packed",
    "DELETE FROM sorted",
)
_FORGET = tuple(f"{statement} WHERE key = ?" for statement in (*_EMPTY, _KEYWORDS))

Words = tuple[int, int, str]
"""Key, UID, and the keywords without a letter."""


class Index:
    """The tables of one file, which is opened at first use; `close` may be followed by further use."""

    def __init__(self, directory: Path) -> None:
        self.file = IndexFile(directory)
        self.mailboxes = Mailboxes(self.file)
        self.pieces = PieceTables(self.file)
        self.packed = PackedTexts(self.file)
        self.sorted = SortedTable(self.file)

    @property
    def generation(self) -> int:
        """Names the file, so that the mailboxes write all they know again when it is another."""
        return self.file.generation

    def close(self) -> None:
        self.file.close()

    def forget(self, key: int) -> None:
        """The mailbox is gone for good."""

        def work(db: sqlite3.Connection) -> None:
            for statement in _FORGET:
                db.execute(statement, (key,))

        self.file.run(work, None)

    def renew(self, words: Sequence[Words] = ()) -> bool:
        """Forgets everything but the keywords without a letter, which nothing else knows, and takes on another name.

        `words` are added of messages that have none. One transaction; a file that is damaged is made anew by it. All
        who have a mailbox open write what they know again. False: it could not be written.
        """

        def work(db: sqlite3.Connection) -> bool:
            db.execute("BEGIN IMMEDIATE")
            for statement in _EMPTY:
                db.execute(statement)
            db.executemany("INSERT OR IGNORE INTO keywords VALUES (?, ?, ?)", words)
            db.execute(f"PRAGMA application_id = {secrets.randbits(31)}")
            (result,) = db.execute("PRAGMA integrity_check(1)").fetchone()
            if result != "ok":
                raise sqlite3.DatabaseError(result)
            self.file.named(db)
            return True

        return self.file.run(work, False)
