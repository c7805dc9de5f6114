"""Rows of messages that are asked for by their UIDs, as they are read fastest.

Theory     Where many rows of numbers are read, SQLite makes one of them, with arrays as JSON: between one row and the
           next Python's lock is given up, and while other threads compute each may wait for it.
Promises   Rows of others between them may come as well: who asks leaves them out.
"""

from __future__ import annotations

import json
from collections.abc import Set

_DENSE = 4  # as many UIDs for each that is wanted are rather passed over than looked up one by one


def among(uids: Set[int]) -> tuple[str, tuple[int | str, ...]]:
    """A condition of SQL, and its parameters. There are some UIDs."""
    first, last = min(uids), max(uids)
    if last - first < _DENSE * len(uids):
        return "uid BETWEEN ? AND ?", (first, last)
    return "uid IN (SELECT value FROM json_each(?))", (json.dumps(list(uids)),)
