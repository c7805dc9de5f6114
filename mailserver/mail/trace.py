"""Trace fields and the date-time they carry: Received and Return-Path (RFC 5321 §4.4; RFC 3848, RFC 6710, RFC 8314)."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import lru_cache

from mailserver.mail.address import Address

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NOT_IN_COMMENT = re.compile(r"[^A-Za-z0-9.:_\-\[\]]")


def date_time(seconds: float) -> str:
    """`date-time` of RFC 5322 §3.3 in UTC, for seconds since the epoch."""
    return _date_time(int(seconds // 1))


@lru_cache(maxsize=16)
def _date_time(second: int) -> str:
    t = time.gmtime(second)
    day, month = _DAYS[t.tm_wday], _MONTHS[t.tm_mon - 1]
    return f"{day}, {t.tm_mday:02d} {month} {t.tm_year} {t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} +0000"


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a message came in, for its Received field."""

    hello: str  # what the client said of itself; not to be trusted
    address: str  # the client's IP address; empty for a message made here
    protocol: str  # the "with" clause: SMTP, ESMTP, ESMTPS, ESMTPSA, ...
    id: str  # of the message, in logs and in the reply: its session's, and the number of the transaction in it
    tls: str = ""  # "TLSv1.3 TLS_AES_256_GCM_SHA384"
    login: str = ""  # the account that logged in; no trace field tells it


def received_field(
    arrival: Arrival, *, by: str, when: float, recipient: Address | None = None, priority: int = 0
) -> bytes:
    """One Received field with CRLF at its end. `recipient` only when there is just one (RFC 5321 §7.6)."""
    literal = f"IPv6:{arrival.address}" if ":" in arrival.address else arrival.address
    hello = _NOT_IN_COMMENT.sub("?", arrival.hello)[:255] or "unknown"
    lines = [f"Received: from {hello} ([{literal}])"]
    if arrival.tls:
        lines.append(f"\t(using {_NOT_IN_COMMENT.sub(' ', arrival.tls)})")
    lines.append(f"\tby {by} with {arrival.protocol} id {arrival.id}")
    if recipient is not None:
        lines.append(f"\tfor <{recipient.in_ascii() or recipient}>")  # so that the header stays ASCII where it can
    if priority:
        lines.append(f"\tPRIORITY {priority}")
    return ("\r\n".join(lines) + f";\r\n\t{date_time(when)}\r\n").encode(errors="replace")


def return_path_field(sender: Address | None) -> bytes:
    """The Return-Path field that final delivery puts on top, with CRLF at its end."""
    return f"Return-Path: <{sender if sender is not None else ''}>\r\n".encode(errors="replace")


def delivered_to_field(recipient: Address) -> bytes:
    """The Delivered-To field of one recipient's own copy, with CRLF at its end."""
    return f"Delivered-To: {recipient}\r\n".encode(errors="replace")
