"""SORT and THREAD (RFC 5256, RFC 5957, RFC 5267, RFC 6203)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from mailserver.imap.commands.returns import Returns, returns
from mailserver.imap.commands.search import Key, charset, criteria, require_fuzzy
from mailserver.imap.syntax import Fault, Reader

By = Literal["ARRIVAL", "CC", "DATE", "DISPLAYFROM", "DISPLAYTO", "FROM", "RELEVANCY", "SIZE", "SUBJECT", "TO"]

Algorithm = Literal["ORDEREDSUBJECT", "REFERENCES", "REFS"]

_BY: dict[bytes, By] = {name.encode(): name for name in get_args(By)}
_ALGORITHMS: dict[bytes, Algorithm] = {name.encode(): name for name in get_args(Algorithm)}


@dataclass(frozen=True, slots=True)
class Criterion:
    by: By
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Sort:
    """`criteria`: what counts more comes first, and nothing twice: what is the same by it cannot differ by it later."""

    criteria: tuple[Criterion, ...]
    key: Key
    by_uid: bool
    returns: Returns | None = None
    codec: str = "utf-8"


@dataclass(frozen=True, slots=True)
class Thread:
    algorithm: Algorithm
    key: Key
    by_uid: bool
    codec: str = "utf-8"


def sort(reader: Reader, *, by_uid: bool = False) -> Sort:
    wanted = returns(reader)
    reader.space()
    listed = reader.listed(lambda: _criterion(reader), "list of sort criteria")
    reader.space()
    codec = charset(reader, wanted)
    reader.space()
    first: dict[By, Criterion] = {}
    for criterion in listed:
        first.setdefault(criterion.by, criterion)
    key = criteria(reader, codec)
    if "RELEVANCY" in first or (wanted is not None and wanted.rates):
        require_fuzzy(key)
    return Sort(tuple(first.values()), key, by_uid, wanted, codec)


def _criterion(reader: Reader) -> Criterion:
    name = reader.keyword("sort criterion")
    reverse = name == b"REVERSE"
    if reverse:
        reader.space()
        name = reader.keyword("sort criterion")
    if name not in _BY:
        raise Fault("unknown sort criterion")
    return Criterion(_BY[name], reverse)


def thread(reader: Reader, *, by_uid: bool = False) -> Thread:
    reader.space()
    algorithm = _ALGORITHMS.get(reader.keyword("algorithm"))
    if algorithm is None:
        raise Fault("unknown algorithm")
    reader.space()
    codec = charset(reader)
    reader.space()
    return Thread(algorithm, criteria(reader, codec), by_uid, codec)
