"""What is prepared of a message: pieces of FETCH answers, what it is sorted and threaded by, its header.

Promises   A message has all of its pieces or none. A row that this program cannot have written counts for nothing.
On failure As the package says.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mailserver.store.index.among import among
from mailserver.store.index.file import IndexFile
from mailserver.store.model import Identity, Pieces, Prepared, SortKeys

_PREPARED = "SELECT uid, envelope, body, bodystructure, preview FROM prepared"
_KNOWN = (
    "SELECT json_group_array(uid) FROM prepared WHERE typeof(uid) = 'integer' AND key = ? AND"  # one row: see `among`
)
_SORTED = "sent", "subject", "reply", "sender", "to", "cc", "display_from", "display_to", "message_id", "references"
_KINDS: dict[str, Any] = {"sent": int | None, "reply": int}
_HEADERS = "SELECT uid, header FROM headers"
_IDENTITIES = "SELECT uid, content, thread FROM identities"
_DIGEST = 32  # octets


class PieceTables:
    """Asked for messages by their UIDs; those without pieces are left out."""

    def __init__(self, file: IndexFile) -> None:
        self._file = file

    def prepared(self, key: int, uids: Iterable[int]) -> dict[int, Prepared]:
        rows = self._rows(_PREPARED, key, uids)
        return {row[0]: Prepared(*row[1:]) for row in rows if _are_pieces(row)}

    def sort_keys(self, key: int, uids: Iterable[int]) -> dict[int, SortKeys]:
        rows = self._rows(_sorting(_SORTED), key, uids)
        return {uid: _sort_keys(row) for uid, *row in rows if _are_sort_keys(row)}

    def sort_columns(self, key: int, names: Sequence[str], uids: Sequence[int]) -> list[Sequence[Any]]:
        """Of each message its UID and the fields of `SortKeys` with these names, as they lie here."""
        kinds = [(place, _KINDS.get(name, str)) for place, name in enumerate(names, 1)]
        rows = self._rows(_sorting(names), key, uids)
        return [row for row in rows if all(isinstance(row[place], kind) for place, kind in kinds)]

    def headers(self, key: int, uids: Iterable[int]) -> dict[int, bytes]:
        return {uid: header for uid, header in self._rows(_HEADERS, key, uids) if _is_header(header)}

    def identities(self, key: int, uids: Iterable[int]) -> dict[int, Identity]:
        rows = self._rows(_IDENTITIES, key, uids)
        return {uid: Identity(*digests) for uid, *digests in rows if all(map(_is_digest, digests))}

    def _rows(self, query: str, key: int, uids: Iterable[int]) -> list[Sequence[Any]]:
        """What the table has of these messages, the UID first."""
        wanted = set(uids)
        if not wanted:
            return []
        condition, parameters = among(wanted)
        found = self._selected(f"{query} WHERE key = ? AND {condition}", (key, *parameters))
        return found if max(wanted) - min(wanted) < len(wanted) else [row for row in found if row[0] in wanted]

    def _selected(self, query: str, parameters: tuple[int | str, ...]) -> list[Sequence[Any]]:
        nothing: list[Sequence[Any]] = []
        return self._file.run(lambda db: db.execute(query, parameters).fetchall(), nothing)

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
        asked = set(uids)
        if not asked:
            return []
        condition, parameters = among(asked)
        found = self._selected(" ".join([_KNOWN, condition]), (key, *parameters))
        return sorted(asked.difference(*(json.loads(each) for (each,) in found)), reverse=True)


def _sorting(names: Iterable[str]) -> str:
    return " ".join(["SELECT", ", ".join(["uid", *(f'"{name}"' for name in names)]), "FROM sorting"])


def _are_pieces(row: Sequence[object]) -> bool:
    _, envelope, body, structure, preview = row
    return isinstance(preview, str) and _is_list(envelope) and _is_list(body) and _is_list(structure)


def _is_list(value: object) -> bool:
    return isinstance(value, bytes) and value[:1] == b"(" and value[-1:] == b")"


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
