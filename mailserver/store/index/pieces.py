"""What is prepared of a message: pieces of FETCH answers, what it is sorted and threaded by, its header.

Promises   A message has all of its pieces or none. A row that this program cannot have written counts for nothing.
On failure As the package says.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mailserver.store.index.file import IndexFile
from mailserver.store.model import Identity, Pieces, Prepared, SortKeys

_PREPARED = """
SELECT uid, envelope, body, bodystructure, preview FROM prepared
WHERE key = ? AND uid IN (SELECT value FROM json_each(?))
"""
_KNOWN = "SELECT uid FROM prepared WHERE key = ? AND uid IN (SELECT value FROM json_each(?))"
_SORTING = """
SELECT uid, sent, subject, reply, sender, "to", cc, display_from, display_to, message_id, "references" FROM sorting
WHERE key = ? AND uid IN (SELECT value FROM json_each(?))
"""
_RANGE = "FROM sorting WHERE key = ? AND uid BETWEEN ? AND ?"
_KINDS: dict[str, Any] = {"sent": int | None, "reply": int}
_HEADERS = "SELECT uid, header FROM headers WHERE key = ? AND uid IN (SELECT value FROM json_each(?))"

_IDENTITIES = "SELECT uid, content, thread FROM identities WHERE key = ? AND uid IN (SELECT value FROM json_each(?))"
_DIGEST = 32  # octets


class PieceTables:
    """Asked for messages by their UIDs; those without pieces are left out."""

    def __init__(self, file: IndexFile) -> None:
        self._file = file

    def prepared(self, key: int, uids: Iterable[int]) -> dict[int, Prepared]:
        wanted = json.dumps(list(uids))

        def work(db: sqlite3.Connection) -> dict[int, Prepared]:
            rows = db.execute(_PREPARED, (key, wanted))
            return {uid: Prepared(*pieces) for uid, *pieces in rows if _are_pieces(pieces)}

        return self._file.run(work, {})

    def sort_keys(self, key: int, uids: Iterable[int]) -> dict[int, SortKeys]:
        wanted = json.dumps(list(uids))

        def work(db: sqlite3.Connection) -> dict[int, SortKeys]:
            rows = db.execute(_SORTING, (key, wanted))
            return {uid: _sort_keys(row) for uid, *row in rows if _are_sort_keys(row)}

        return self._file.run(work, {})

    def sort_columns(self, key: int, names: Sequence[str], uids: Sequence[int]) -> list[Sequence[object]]:
        """Of each message its UID and the fields of `SortKeys` with these names, as they lie here."""
        wanted = set(uids)
        query = " ".join(["SELECT", ", ".join(["uid", *(f'"{name}"' for name in names)]), _RANGE])
        kinds = [(place, _KINDS.get(name, str)) for place, name in enumerate(names, 1)]

        def sound(row: Sequence[object]) -> bool:
            return row[0] in wanted and all(isinstance(row[place], kind) for place, kind in kinds)

        def work(db: sqlite3.Connection) -> list[Sequence[object]]:
            return list(filter(sound, db.execute(query, (key, min(wanted), max(wanted)))))

        return self._file.run(work, []) if wanted else []

    def headers(self, key: int, uids: Iterable[int]) -> dict[int, bytes]:
        wanted = json.dumps(list(uids))

        def work(db: sqlite3.Connection) -> dict[int, bytes]:
            rows = db.execute(_HEADERS, (key, wanted))
            return {uid: header for uid, header in rows if _is_header(header)}

        return self._file.run(work, {})

    def identities(self, key: int, uids: Iterable[int]) -> dict[int, Identity]:
        wanted = json.dumps(list(uids))

        def work(db: sqlite3.Connection) -> dict[int, Identity]:
            rows = db.execute(_IDENTITIES, (key, wanted))
            return {uid: Identity(*digests) for uid, *digests in rows if all(map(_is_digest, digests))}

        return self._file.run(work, {})

    def store(self, key: int, made: Mapping[int, Pieces]) -> bool:
        """False: they were not stored."""
        prepared = [
            (key, uid, p.envelope, p.body, p.bodystructure, p.preview)
            for uid, p in ((uid, pieces.prepared) for uid, pieces in made.items())
        ]
        sorting = [(key, uid, *pieces.keys[:-1], " ".join(pieces.keys.references)) for uid, pieces in made.items()]
        headers = [(key, uid, pieces.header) for uid, pieces in made.items()]
        identities = [(key, uid, *pieces.identity) for uid, pieces in made.items()]

        def work(db: sqlite3.Connection) -> bool:
            db.executemany("INSERT OR REPLACE INTO prepared VALUES (?, ?, ?, ?, ?, ?)", prepared)
            db.executemany("INSERT OR REPLACE INTO sorting VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", sorting)
            db.executemany("INSERT OR REPLACE INTO headers VALUES (?, ?, ?)", headers)
            db.executemany("INSERT OR REPLACE INTO identities VALUES (?, ?, ?, ?)", identities)
            return True

        return self._file.run(work, False)

    def missing(self, key: int, uids: Iterable[int]) -> list[int]:
        """Those of these messages without pieces, the newest first."""

        def work(db: sqlite3.Connection) -> set[int]:
            return {uid for (uid,) in db.execute(_KNOWN, (key, json.dumps(asked)))}

        asked, nothing = list(uids), set[int]()
        return sorted(set(asked) - self._file.run(work, nothing), reverse=True) if asked else []


def _are_pieces(row: Sequence[object]) -> bool:
    *lists, preview = row
    return isinstance(preview, str) and all(
        isinstance(octets, bytes) and octets.startswith(b"(") and octets.endswith(b")") for octets in lists
    )


def _are_sort_keys(row: Sequence[object]) -> bool:
    sent, subject, reply, *texts = row
    return (
        isinstance(sent, int | None)
        and isinstance(reply, int)
        and all(isinstance(text, str) for text in (subject, *texts))
    )


def _is_header(value: object) -> bool:
    return isinstance(value, bytes) and value.endswith(b"\n")


def _is_digest(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == _DIGEST


def _sort_keys(row: Sequence[Any]) -> SortKeys:
    sent, subject, reply, *texts, references = row
    return SortKeys._make([sent, subject, bool(reply), *texts, tuple(references.split(" ")) if references else ()])
