"""Recipients that lead to several others: the copies that are made, and what their senders are told (RFC 3461 §5.2.7).

Promises   Each copy belongs to one recipient of the envelope. What goes on to another server has a Delivered-To field
           of the address here that sent it there, so that it does not come round again, and a sender that may come from
           here. Copies that need neither share one entry of the queue.
On failure SourceDown from `entries`, while it cannot be known whether the sender is one of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from mailserver.delivery.router import Expanded, Local, Refused, Remote, Route, Router
from mailserver.mail import Address, Content, Envelope, Notify, Recipient, Reply
from mailserver.mail.trace import delivered_to_field
from mailserver.queue import NewEntry

EXPANDED = Reply.of(250, "2.1.5", "Passed on to other addresses")


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """`of`: the place of its recipient in the envelope. `several`: that one leads to others, of which this is one.

    `forwarder`: the address here that leads it to another server.
    """

    of: int
    recipient: Recipient
    route: Local | Remote | Refused
    several: bool = False
    forwarder: Address | None = None


def copies(recipients: Sequence[Recipient], routes: Sequence[Route | Refused]) -> list[Copy]:
    """In the order of the recipients."""
    made = []
    for of, (recipient, route) in enumerate(zip(recipients, routes, strict=True)):
        if isinstance(route, Expanded):
            made += _expanded(of, recipient, route)
        else:
            made.append(Copy(of, recipient, route))
    return made


def _expanded(of: int, recipient: Recipient, route: Expanded) -> list[Copy]:
    """What becomes of a single other address is told to the sender; of several, only that it went to them."""
    several = len(route.leaves) > 1
    notify = _without_success(recipient.notify) if several else recipient.notify
    return [
        Copy(
            of,
            Recipient(leaf.address, recipient.original or recipient.address, notify, recipient.orcpt, final=True),
            leaf.route,
            True,
            leaf.forwarder if isinstance(leaf.route, Remote) else None,
        )
        for leaf in route.leaves
    ]


def _without_success(notify: frozenset[Notify] | None) -> frozenset[Notify] | None:
    if notify is None or Notify.SUCCESS not in notify:
        return notify
    return notify - {Notify.SUCCESS} or frozenset({Notify.NEVER})


def is_told(recipient: Recipient, route: Route | Refused) -> bool:
    """The sender wants to know, and hears that it was passed on to several."""
    return isinstance(route, Expanded) and len(route.leaves) > 1 and recipient.wants(Notify.SUCCESS)


async def entries(
    router: Router, envelope: Envelope, made: Iterable[Copy], content: Content, header: bytes, now: float
) -> list[tuple[NewEntry, list[Copy]]]:
    """What is to be queued, each with the copies in it."""
    groups: dict[Address | None, list[Copy]] = {}
    for copy in made:
        groups.setdefault(copy.forwarder, []).append(copy)
    queued = []
    for forwarder, group in groups.items():
        recipients = tuple(copy.recipient for copy in group)
        sent = replace(envelope, recipients=recipients)
        top = header
        if forwarder is not None:
            sent = replace(sent, sender=await router.rewritten(envelope.sender, forwarder))
            top = delivered_to_field(forwarder) + header
        queued.append((NewEntry(sent, content, top, now), group))
    return queued
