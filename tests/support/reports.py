"""Reports of delivery (RFC 3464) among the messages that somebody has, whoever wrote them."""

from __future__ import annotations

import email
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.message import Message


@dataclass(frozen=True)
class Report:
    """What it says of one recipient: the fields of the message, those of the recipient, and all of its text."""

    about: Message
    recipient: Message
    text: bytes

    @property
    def outcome(self) -> tuple[str, str]:
        return self.recipient["Action"], self.recipient["Status"]


def reports_on(messages: Iterable[bytes], address: str) -> list[Report]:
    return [report for report in _reports(messages) if report.recipient["Final-Recipient"].endswith(f"; {address}")]


def _reports(messages: Iterable[bytes]) -> Iterator[Report]:
    for text in messages:
        message = email.message_from_bytes(text)
        if message.get_content_type() == "multipart/report":
            about, *recipients = message.get_payload()[1].get_payload()  # type: ignore[union-attr, index]
            for recipient in recipients:
                yield Report(about, recipient, text)
