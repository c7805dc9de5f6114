"""The header of a message that came in, and what is refused because of it, whoever sends it.

Promises   No more than the limit of the header is looked at; what does not fit into it is refused, not cut.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from mailserver.delivery.router import Expanded, Leaf, Local, Refused, Route
from mailserver.mail import Address, Content, Reply
from mailserver.message.header import FIELD_LIMIT, Field, fields, header_end

RECEIVED_LIMIT = 50  # RFC 5321 §6.3 asks for at least 100 hops in theory; loops show long before

CIRCLE = Reply.of(554, "5.4.6", "The message goes in circles: too many Received fields")
DELIVERED_BEFORE = Reply.of(554, "5.4.6", "The message goes in circles: it was delivered to this address before")
HEADER_TOO_LARGE = Reply.of(552, "5.3.4", "The header of the message is too large")


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a message: its octets, and the fields of its header, `end` octets long.

    `complete`: the header ends within, and all of its fields are there.
    """

    octets: bytes
    end: int
    fields: list[Field]
    complete: bool

    @classmethod
    def of(cls, content: Content, limit: int) -> Head:
        octets = content.head(limit)
        end = header_end(octets)
        found = fields(octets[:end])
        ended = end < len(octets) or content.size <= len(octets)
        return cls(octets, end, found, ended and len(found) < FIELD_LIMIT)

    def named(self, name: bytes) -> list[Field]:
        """`name` in lower case."""
        return [field for field in self.fields if field.name.lower() == name]

    @property
    def refusal(self) -> Reply | None:
        """What every message with such a header is answered."""
        if not self.complete:
            return HEADER_TOO_LARGE
        return CIRCLE if len(self.named(b"received")) > RECEIVED_LIMIT else None

    def without_loops(self, routes: Sequence[Route]) -> list[Route | Refused]:
        """A message that was delivered to an address does not go there again; to others it may."""
        before = {field.value.strip().lower() for field in self.named(b"delivered-to")}
        return [_without_loops(route, before) for route in routes] if before else list(routes)


def _without_loops(route: Route, before: Container[bytes]) -> Route | Refused:
    if isinstance(route, Expanded):
        leaves = tuple(leaf for leaf in route.leaves if not _was_at(leaf, before))
        return Expanded(leaves) if leaves else Refused(DELIVERED_BEFORE)
    if isinstance(route, Local) and _is_among(route.recipient, before):
        return Refused(DELIVERED_BEFORE)
    return route


def _was_at(leaf: Leaf, before: Container[bytes]) -> bool:
    """In the mailbox, or at the address that leads elsewhere."""
    passed = leaf.route.recipient if isinstance(leaf.route, Local) else leaf.forwarder
    return passed is not None and _is_among(passed, before)


def _is_among(address: Address, before: Container[bytes]) -> bool:
    return str(address).lower().encode() in before
