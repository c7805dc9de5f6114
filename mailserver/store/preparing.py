"""What a message's content decides, made ready: pieces of FETCH answers, sort keys, header summary.

Layout     All of it lies in the index. What is not there is made of the message, and kept there; what the index does
           not take, in memory, as much as was used last, bounded in octets for the whole process.
Promises   Any thread may call anything. The same message gives the same pieces.
On failure A message that is gone is left out. An index that cannot keep the pieces costs time, nothing else.
           Unavailable when the disk refuses to read a message.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import TypeAlias, TypeVar

from mailserver.store.ahead import Ahead, Follow
from mailserver.store.index import PieceTables
from mailserver.store.model import Identity, MessageGone, Pieces, Prepared, SortKeys, StoreError

MEMORY_LIMIT = 32 * 2**20  # octets

_BATCH = 250
_ENTRY = 300  # octets that a piece costs in memory beside its own

Piece: TypeAlias = Prepared | SortKeys | Identity | bytes
P = TypeVar("P", Prepared, SortKeys, Identity, bytes)


class Memory:
    """The pieces that were used last, up to `limit` octets; thread-safe."""

    def __init__(self, limit: int = MEMORY_LIMIT) -> None:
        self.limit = limit
        self.octets = 0
        self._owners = count()
        self._pieces: OrderedDict[tuple[int, type[Piece], int], tuple[Piece, int]] = OrderedDict()
        self._lock = threading.Lock()

    def owner(self) -> int:
        """A number that nobody else has, to keep one's pieces under."""
        return next(self._owners)

    def get(self, owner: int, kind: type[P], uids: Iterable[int]) -> dict[int, P]:
        found: dict[int, P] = {}
        with self._lock:
            for uid in uids:
                entry = self._pieces.get((owner, kind, uid))
                if entry is not None:
                    piece = entry[0]
                    assert isinstance(piece, kind)
                    found[uid] = piece
                    self._pieces.move_to_end((owner, kind, uid))
        return found

    def put(self, owner: int, kind: type[P], pieces: Mapping[int, P]) -> None:
        """What would drive out most of the others is not kept."""
        costs = {uid: _cost(piece) for uid, piece in pieces.items()}
        if sum(costs.values()) > self.limit // 2:
            return
        with self._lock:
            for uid, piece in pieces.items():
                _, before = self._pieces.pop((owner, kind, uid), (None, 0))
                self._pieces[owner, kind, uid] = (piece, costs[uid])
                self.octets += costs[uid] - before
            while self.octets > self.limit:
                _, (_, cost) = self._pieces.popitem(last=False)
                self.octets -= cost


def _cost(piece: Piece) -> int:
    match piece:
        case bytes():
            parts: Iterable[object] = (piece,)
        case Identity():
            parts = (piece, *piece)
        case Prepared():
            parts = (piece, piece.envelope, piece.body, piece.bodystructure, piece.preview)
        case _:
            parts = (piece, *piece, *piece.references)
    return _ENTRY + sum(map(sys.getsizeof, parts))


memory = Memory()
"""That of the process."""


Make = Callable[[Iterable[int]], Iterable[tuple[int, Pieces | StoreError]]]
"""Gives the UIDs that exist, in order, with what is made of the messages, or what hinders that."""


def _follow_none(_uid: int, _count: int) -> Sequence[int]:
    return ()


class Preparation:
    """The pieces of one mailbox's messages."""

    def __init__(
        self, key: int, pieces: PieceTables, make: Make, *, follow: Follow = _follow_none, memory: Memory = memory
    ) -> None:
        self._key = key
        self._index = pieces
        self._make = make
        self._memory = memory
        self._owner = memory.owner()
        self._ahead = Ahead(self._make_ahead, follow)
        self._kept = True
        """The index took what was made last."""
        self._filling = threading.Lock()
        self._missing: list[int] = []
        """What is to be filled yet of the messages up to the UID `looked_up`."""
        self.looked_up = 0
        """Up to this UID it is known what is to be filled."""
        self.overtaken = False
        """Another process made a part of what `fill` was to make the last time."""
        self.refused = False
        """The index did not keep what `fill` made the last time."""

    def prepared(self, uids: Sequence[int], *, ready: bool = False) -> dict[int, Prepared]:
        """`ready`: only those that are made."""
        return self._pieces(Prepared, uids, self._index.prepared, lambda made: made.prepared, ready=ready)

    def sort_keys(self, uids: Sequence[int]) -> dict[int, SortKeys]:
        return self._pieces(SortKeys, uids, self._index.sort_keys, lambda made: made.keys)

    def headers(self, uids: Sequence[int]) -> dict[int, bytes]:
        return self._pieces(bytes, uids, self._index.headers, lambda made: made.header)

    def identities(self, uids: Sequence[int]) -> dict[int, Identity]:
        return self._pieces(Identity, uids, self._index.identities, lambda made: made.identity)

    def fill(self, uids: Iterable[int], limit: int) -> int:
        """Makes the pieces of up to `limit` of these messages that the index does not have, the newest first; how
        many remain.

        None remain when the index does not keep them: to go on would do the same work again.
        """
        if not self._filling.acquire(blocking=False):
            return 0  # who is at it goes on
        try:
            if not self._missing:
                newer = [uid for uid in uids if uid > self.looked_up]
                self._missing = self._index.missing(self._key, newer)
                self.looked_up = max(newer, default=self.looked_up)
            batch, self._missing = self._missing[:limit], self._missing[limit:]
            still = self._index.missing(self._key, batch)
            self.overtaken, self.refused = len(still) < len(batch), False
            for made in self._made(still, readable_only=True):
                if not self._index.store(self._key, made):
                    self._missing, self.refused = [], True
                    break
            return len(self._missing)
        finally:
            self._filling.release()

    def _pieces(
        self,
        kind: type[P],
        uids: Sequence[int],
        load: Callable[[int, Iterable[int]], dict[int, P]],
        of: Callable[[Pieces], P],
        *,
        ready: bool = False,
    ) -> dict[int, P]:
        found = load(self._key, uids)
        missing = [uid for uid in uids if uid not in found] if len(found) < len(uids) else []
        if missing and not ready and self._kept and self._ahead.wait_for(missing):
            found |= load(self._key, missing)
            missing = [uid for uid in missing if uid not in found]
        if missing:
            found |= self._memory.get(self._owner, kind, missing)
            missing = [] if ready else [uid for uid in missing if uid not in found]
        for made in self._made(missing):
            fresh = {uid: of(pieces) for uid, pieces in made.items()}
            self._kept = self._index.store(self._key, made)
            if not self._kept:
                self._memory.put(self._owner, kind, fresh)
            found |= fresh
        return found

    def _make_ahead(self, uids: Sequence[int]) -> Iterator[int]:
        """Up to which UID the index has the pieces of these messages."""
        for made in self._made(sorted(self._index.missing(self._key, uids)), readable_only=True):
            self._kept = self._index.store(self._key, made)
            if not self._kept:
                return
            yield max(made)

    def _made(self, uids: Iterable[int], *, readable_only: bool = False) -> Iterator[dict[int, Pieces]]:
        """The pieces, out of the messages, in batches."""
        made: dict[int, Pieces] = {}
        for uid, pieces in self._make(uids):
            if isinstance(pieces, MessageGone) or (readable_only and isinstance(pieces, StoreError)):
                continue
            if isinstance(pieces, StoreError):
                raise pieces
            made[uid] = pieces
            if len(made) == _BATCH:
                yield made
                made = {}
        if made:
            yield made
