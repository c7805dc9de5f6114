"""GETQUOTA, GETQUOTAROOT, SETQUOTA (RFC 9208)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailserver.imap.syntax import Fault, Reader

_NUMBER = re.compile(rb"\d{1,19}")
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class GetQuota:
    root: bytes


@dataclass(frozen=True, slots=True)
class GetQuotaRoot:
    mailbox: str


@dataclass(frozen=True, slots=True)
class SetQuota:
    """`limits` by the names of resources, in upper case."""

    root: bytes
    limits: tuple[tuple[bytes, int], ...]


def get_quota(reader: Reader) -> GetQuota:
    reader.space()
    return GetQuota(reader.astring())


def get_quota_root(reader: Reader) -> GetQuotaRoot:
    reader.space()
    return GetQuotaRoot(reader.mailbox())


def set_quota(reader: Reader) -> SetQuota:
    reader.space()
    root = reader.astring()
    reader.space()

    def limit() -> tuple[bytes, int]:
        resource = reader.keyword("resource")
        reader.space()
        number = int(reader.match(_NUMBER, "number")[0])
        if number > _LARGEST:
            raise Fault("number out of range")
        return resource, number

    return SetQuota(root, reader.listed(limit, "list of limits", empty=True))
