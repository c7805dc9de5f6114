"""Delivery status notifications: what a sender is told when mail is late or cannot be delivered (RFC 3464, 6522).

Promises   A report has three parts: words for a human, fields for a program, and the header of the message. What a
           remote said stands in it as printable text, indented or behind a field name, and is cut when it is long: it
           can neither end a line or a part, nor look like a field. A report goes out with the null reverse-path, so
           that nobody answers it; there is none on mail that itself has it (RFC 5321 §6.1).
           A part that ASCII has no room for is in UTF-8, of a type of RFC 6533; the report is 7-bit all the same, as a
           part in UTF-8 is encoded, unless the sender's own address needs servers that take UTF-8 as it is.
"""

from __future__ import annotations

import binascii
import re
import secrets
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from mailserver.mail import (
    NOTHING_ASKED,
    Action,
    Address,
    Content,
    DeliverBy,
    Envelope,
    MailParameters,
    Recipient,
    Reply,
    Return,
    orcpt,
)
from mailserver.mail.trace import date_time
from mailserver.message.header import fields, first, header_end
from mailserver.queue import NewEntry

HEAD_LIMIT = 256 * 1024  # octets of the message that a report is made from
_HEADER_LIMIT = 32 * 1024  # octets of the header that are returned
_WORDS_LIMIT = 500  # characters of a remote's words
_LINE_LIMIT = 998  # RFC 5322 §2.1.1

_NOT_PLAIN = re.compile(r"[^\t -~]")
_LINE_END = re.compile(rb"\r\n|\r|\n")
_MESSAGE_ID = re.compile(rb"<[!-;=?-~]{1,250}>")

EXPIRED = "4.4.7"
RETURNED = "5.4.7"  # RFC 2852 §4.1.3

# RFC 3463: subject and detail of a status; detail None stands for all others of the subject.
_MEANINGS: dict[tuple[int, int | None], str] = {
    (1, 1): "This address does not exist. Please check how it is spelled.",
    (1, 2): "The part after the @ is not a place that takes mail. Please check how it is spelled.",
    (1, 6): "The mailbox has moved, and no new address is known.",
    (1, 10): "The part after the @ is a place that takes no mail at all.",
    (2, 1): "The mailbox is closed.",
    (2, 2): "The mailbox is full.",
    (3, 4): "The message is too large for the receiving server.",
    (4, 1): "The receiving server does not answer.",
    (4, 2): "The connection to the receiving server broke.",
    (4, 3): "The receiving server could not be looked up.",
    (4, 4): "No way to the receiving server could be found.",
    (4, 6): "The message would go in circles.",
    (4, 7): "There was no time left to deliver it.",
    (6, 3): "The receiving server cannot take a message of this form.",
    (7, None): "The receiving server does not accept the message by its own rules; it may take it for spam.",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What became of one recipient: `reply` is of the last attempt, at `when`, the remote's own when `host` names one.

    `orcpt` is what the sender calls the recipient (RFC 3461 §4.2).
    """

    recipient: Address
    original: Address | None
    reply: Reply
    host: str | None
    when: float
    orcpt: str | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """The message that is reported on: its sender, when it came, and its first octets (at most `HEAD_LIMIT`).

    `size` is the octets of the whole message, 0 when it is not known; `parameters` are what its sender asked for.
    """

    sender: Address
    arrived: float
    head: bytes
    size: int = 0
    parameters: MailParameters = NOTHING_ASKED

    @property
    def returned(self) -> bytes | None:
        """The whole message, where it is to come back and can: it is at hand, all of it is lines, and these are of 7
        bits, or all in UTF-8 in a message with SMTPUTF8, which may be encoded (RFC 6533 §4.5).

        The report may go in clear: what came with REQUIRETLS stays out of it (RFC 8689 §5).
        """
        wanted = self.parameters.ret is Return.FULL and not self.parameters.requiretls
        if not (wanted and 0 < self.size <= len(self.head) and _is_lines(self.head)):
            return None
        fits = _is_utf8(self.head) if self.parameters.smtputf8 else self.head.isascii()
        return self.head if fits else None

    def overdue(self, now: float) -> DeliverBy | None:
        """The time by which it was to arrive, when that is over (RFC 2852)."""
        by = self.parameters.deliver_by
        return by if by is not None and now >= by.time else None


def failure_report(subject: Subject, problems: Sequence[Problem], *, hostname: str, now: float) -> NewEntry:
    """For recipients that will not be tried again. A reply that was temporary means that time ran out."""
    words = ["could not be delivered to:", "", *_problem_words(problems, subject.arrived)]
    if (by := subject.overdue(now)) is not None and by.returned:
        words += ["", f"You wanted it back unless it arrives by {date_time(by.time)}."]
    attached = "The message" if subject.returned is not None else "The header of the message"
    words += ["", "It will not be tried again.", f"{attached} is attached."]
    return _report(subject, "Your message could not be delivered", words, Action.FAILED, problems, hostname, now)


def delay_report(subject: Subject, problems: Sequence[Problem], *, hostname: str, now: float, until: float) -> NewEntry:
    """For recipients that are still tried, up to the time `until`."""
    words = ["has not been delivered yet to:", "", *_problem_words(problems, None)]
    if (by := subject.overdue(now)) is not None:
        words += ["", f"You wanted to be told unless it arrives by {date_time(by.time)}."]
    words += ["", f"You need not send it again: the server keeps trying until {date_time(until)}."]
    return _report(subject, "Your message is delayed", words, Action.DELAYED, problems, hostname, now, until)


def success_report(
    subject: Subject, action: Action, recipients: Sequence[Problem], *, hostname: str, now: float
) -> NewEntry:
    """For a sender who wants to know. `action`: delivered, expanded, or relayed to a server that will not tell."""
    addresses = [f"  {each.recipient}" for each in recipients]
    if action is Action.DELIVERED:
        words = ["was delivered to:", "", *addresses]
        return _report(subject, "Your message was delivered", words, action, recipients, hostname, now)
    if action is Action.EXPANDED:
        words = ["was passed on to all members of:", "", *addresses, ""]
        words += ["You hear no more of it unless it cannot be delivered to one of them."]
        return _report(subject, "Your message was passed on", words, action, recipients, hostname, now)
    words = ["was handed on to another server, for:", "", *addresses, ""]
    words += ["That server may not tell whether it delivers it; you may hear no more of it."]
    return _report(subject, "Your message was handed on", words, action, recipients, hostname, now)


def double_bounce(subject: Subject, problems: Sequence[Problem], *, hostname: str, now: float) -> NewEntry:
    """For whoever looks after the server, who is the `sender` of the subject: a report that could not be delivered."""
    words = ["that is itself a report could not be delivered to:", "", *_problem_words(problems, subject.arrived)]
    words += ["", "Nobody else is told of it. The header of the report is attached."]
    return _report(subject, "A report could not be delivered", words, Action.FAILED, problems, hostname, now)


def _report(
    subject: Subject,
    title: str,
    words: Sequence[str],
    action: Action,
    problems: Sequence[Problem],
    hostname: str,
    now: float,
    until: float | None = None,
) -> NewEntry:
    boundary = f"report-{secrets.token_hex(16)}"
    sender = subject.sender.in_ascii() or subject.sender
    header = [
        f"From: Mail delivery system <MAILER-DAEMON@{hostname}>",
        f"To: {sender}",
        f"Subject: {title}",
        f"Date: {date_time(now)}",
        f"Message-ID: <{secrets.token_hex(12)}@{hostname}>",
        *_references(subject.head),
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary}"',
    ]
    which = "Your message" if title.startswith("Your") else "A message"
    greeting = [f"This is the mail server {hostname}.", "", f"{which} of {date_time(subject.arrived)}"]
    status = [f"Reporting-MTA: dns; {hostname}", f"Arrival-Date: {date_time(subject.arrived)}"]
    asked = subject.parameters
    if asked.envid is not None:
        status.insert(0, f"Original-Envelope-Id: {asked.envid}")
    if asked.deliver_by is not None:
        status.append(f"Deliver-By-Date: {date_time(asked.deliver_by.time)}")
    if asked.hold is not None:
        status.append(f"Future-Release-Request: {asked.hold}")
    expired = _expired(subject, action, now)
    for problem in problems:
        status += ["", *_status_fields(problem, action, expired, until)]
    utf8 = sender.needs_smtputf8
    parts = [
        _part("text/plain; charset=us-ascii", "text/plain; charset=utf-8", _lines([*greeting, *words]), utf8),
        _part("message/delivery-status", "message/global-delivery-status", _lines(status), utf8),
        _returned(subject, action, utf8),
    ]
    opening, closing = f"\r\n--{boundary}\r\n".encode(), f"\r\n--{boundary}--\r\n".encode()
    content = Content(_lines(header), *(opening + part for part in parts), closing)
    envelope = Envelope(None, (Recipient(sender),), MailParameters(smtputf8=utf8, priority=asked.priority))
    return NewEntry(envelope, content, b"", now)


def _part(usual: str, international: str, body: bytes, eight_bit: bool) -> bytes:
    """`eight_bit`: it may stand there as it is. The types of RFC 6533 may be encoded, other than those before them."""
    if body.isascii():
        return f"Content-Type: {usual}\r\n\r\n".encode() + body
    encoding = "8bit" if eight_bit else "quoted-printable"
    header = f"Content-Type: {international}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
    return header + (body if eight_bit else binascii.b2a_qp(body))


def _expired(subject: Subject, action: Action, now: float) -> str | None:
    """The status of those whose last reply was temporary, instead of that of the reply."""
    late = subject.overdue(now)
    if action is Action.FAILED:
        return RETURNED if late is not None and late.returned else EXPIRED
    return EXPIRED if action is Action.DELAYED and late is not None else None


def _problem_words(problems: Sequence[Problem], tried_since: float | None) -> list[str]:
    lines: list[str] = []
    for problem in problems:
        lines += [f"  {problem.recipient}", ""]
        if tried_since is not None and problem.reply.temporary:
            lines.append(f"    It was tried for {_span(problem.when - tried_since)} without success.")
        status = problem.reply.status
        meaning = _MEANINGS.get((status.subject, status.detail)) or _MEANINGS.get((status.subject, None))
        if meaning is not None:
            lines.append(f"    {meaning}")
        who = "This server notes:" if problem.host is None else f"The server {problem.host} answered:"
        lines += [
            f"    {who}",
            *textwrap.wrap(_said(problem.reply), 72, initial_indent="    ", subsequent_indent="    "),
        ]
        lines.append("")
    return lines[:-1]


def _status_fields(problem: Problem, action: Action, expired: str | None, until: float | None) -> list[str]:
    """The per-recipient fields, RFC 3464 §2.3."""
    original = "" if problem.original is None else orcpt.of_address(problem.original)
    if problem.orcpt is not None:
        original = orcpt.to_show(problem.orcpt) if orcpt.is_utf8_type(problem.orcpt) else problem.orcpt
    lines = [f"Original-Recipient: {original}"] if original else []
    lines += [
        f"Final-Recipient: {orcpt.of_address(problem.recipient)}",
        f"Action: {action}",
        f"Status: {expired if expired and problem.reply.temporary else problem.reply.status}",
    ]
    if problem.host is not None:
        lines += [f"Remote-MTA: dns; {problem.host}", f"Diagnostic-Code: smtp; {_said(problem.reply)}"]
    else:
        lines += [f"Diagnostic-Code: x-mailserver; {_said(problem.reply)}"]
    lines.append(f"Last-Attempt-Date: {date_time(problem.when)}")
    if until is not None:
        lines.append(f"Will-Retry-Until: {date_time(until)}")
    return lines


def _said(reply: Reply) -> str:
    words = " ".join(str(reply).split())
    return words if len(words) <= _WORDS_LIMIT else words[: _WORDS_LIMIT - 3] + "..."


def _span(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return "a while"


def _references(head: bytes) -> list[str]:
    """So that a mail program shows the report beside the message."""
    value = (first(fields(head[: header_end(head)]), b"message-id") or b"").strip()
    if not _MESSAGE_ID.fullmatch(value):
        return []
    return [f"In-Reply-To: {value.decode()}", f"References: {value.decode()}"]


def _returned(subject: Subject, action: Action, eight_bit: bool) -> bytes:
    """The whole message comes back only when it failed (RFC 3461 §6.2)."""
    if action is Action.FAILED and subject.returned is not None:
        return _part("message/rfc822", "message/global", subject.returned, eight_bit)
    return _part("text/rfc822-headers", "message/global-headers", _returned_header(subject.head), eight_bit)


def _is_lines(content: bytes) -> bool:
    """RFC 2045 §2.8: any server takes it, but for octets above 127."""
    ends = content.count(b"\r\n")
    return (
        b"\0" not in content
        and ends == content.count(b"\r") == content.count(b"\n")
        and max(map(len, content.split(b"\r\n"))) <= _LINE_LIMIT
    )


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _returned_header(head: bytes) -> bytes:
    header = head[: min(header_end(head), _HEADER_LIMIT)].rstrip(b"\r\n")
    return _lines([line.decode("utf-8", "replace") for line in _LINE_END.split(header)])


def _lines(lines: Sequence[str]) -> bytes:
    """Printable characters only, whatever a line was made of."""
    return b"".join(_octets(_NOT_PLAIN.sub(_printable, line)) + b"\r\n" for line in lines)


def _octets(line: str) -> bytes:
    """At most as many as a line may have, and no half character."""
    return line.encode()[:_LINE_LIMIT].decode("utf-8", "ignore").encode()


def _printable(match: re.Match[str]) -> str:
    """Control characters, those that turn the direction of writing, lone surrogates, what was no UTF-8: as "?"."""
    return match[0] if match[0].isprintable() and match[0] != "\N{REPLACEMENT CHARACTER}" else "?"
