"""An index of schema version 2, as it was written before there was version 3: for migrations."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from mailserver.store import folders, names, uids
from mailserver.store.index import INDEX_FILE

ONLY_IN_INDEX = "only-in-index"
"""A keyword without a letter: the index alone knows it. Every third message has it."""

SCHEMA_2 = """
CREATE TABLE mailboxes (
    validity INTEGER PRIMARY KEY, directory TEXT NOT NULL, last INTEGER NOT NULL, modseq INTEGER NOT NULL,
    horizon INTEGER NOT NULL, told INTEGER NOT NULL, new_mtime INTEGER, cur_mtime INTEGER);
CREATE TABLE messages (
    validity INTEGER NOT NULL, uid INTEGER NOT NULL, name TEXT NOT NULL, extra TEXT NOT NULL, modseq INTEGER NOT NULL,
    born INTEGER NOT NULL, date REAL NOT NULL, size INTEGER NOT NULL, PRIMARY KEY (validity, uid)) WITHOUT ROWID;
CREATE TABLE vanished (
    validity INTEGER NOT NULL, uid INTEGER NOT NULL, modseq INTEGER NOT NULL,
    PRIMARY KEY (validity, modseq, uid)) WITHOUT ROWID;
CREATE TABLE prepared (
    validity INTEGER NOT NULL, uid INTEGER NOT NULL, envelope BLOB NOT NULL, body BLOB NOT NULL,
    bodystructure BLOB NOT NULL, PRIMARY KEY (validity, uid));
CREATE TABLE packed (
    validity INTEGER NOT NULL, uid INTEGER NOT NULL, mark INTEGER NOT NULL, start INTEGER NOT NULL,
    body INTEGER NOT NULL, stop INTEGER NOT NULL, header_sum INTEGER NOT NULL, whole_sum INTEGER NOT NULL,
    PRIMARY KEY (validity, uid)) WITHOUT ROWID;
PRAGMA application_id = 4711;
PRAGMA user_version = 2;
"""


def write_version_2(account: Path, modseq: int = 1_700_000_000_000_000) -> None:
    """In place of the account's index. All files have their UID."""
    for path in account.glob(f"{INDEX_FILE}*"):
        path.unlink()
    with closing(sqlite3.connect(account / INDEX_FILE)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(f"BEGIN; {SCHEMA_2} COMMIT;")
        for directory in ["", *(path.name for path in account.iterdir() if folders.name_of(path.name))]:
            key, known = uids.key(account / directory), uids.peek(account / directory)
            if key is None or known is None:
                continue
            db.execute(
                "INSERT INTO mailboxes VALUES (?, ?, ?, ?, ?, ?, NULL, NULL)",
                (key, directory, known[1], modseq, modseq, known[1]),
            )
            for path in (account / directory / "cur").iterdir():
                name = names.parse(path.name)
                extra = ONLY_IN_INDEX if (name.uid or 0) % 3 == 0 else ""
                row = (key, name.uid, path.name, extra, modseq, modseq, path.stat().st_mtime, name.wire_size)
                db.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        db.commit()
