"""Delivery into mailboxes of this server.

Promises   A status DELIVERED means that the copy is on disk. Each copy carries Return-Path and Delivered-To of its own
           (RFC 5321 §4.4), and an account that several recipients lead to gets one copy.
On failure A status DELAYED (try again) or FAILED (over quota, ...) with the reply that the store gave; no exception.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from mailserver import metrics
from mailserver.delivery.router import Local
from mailserver.mail import Action, Address, Content, DeliveryStatus, Reply
from mailserver.mail.trace import delivered_to_field, return_path_field
from mailserver.store import Delivery, DeliveryError

log = logging.getLogger(__name__)

Deliver = Callable[[Delivery], Awaitable[object]]
"""`Workers.grouped(store.deliver)`: raises DeliveryError."""

DELIVERED = Reply.of(250, "2.0.0", "Delivered")
TROUBLE = Reply.of(451, "4.3.0", "The mailbox cannot be written now, try again later")


async def deliver_copies(
    deliver: Deliver, routes: Sequence[Local], sender: Address | None, header: bytes, content: Content
) -> list[DeliveryStatus]:
    """One status for each route, in order. `header`: further fields on top of the content, in CRLF form."""
    top = return_path_field(sender)
    begun: dict[tuple[str, str], Awaitable[object]] = {}
    for route in routes:  # all are begun before the first is awaited, so that they share one commit
        if route.account.key not in begun:
            copy = top + delivered_to_field(route.recipient) + header
            begun[route.account.key] = deliver(Delivery(route.account, copy, content, quota=route.quota))
    replies = {key: await _outcome(copy) for key, copy in begun.items()}
    for reply in replies.values():
        metrics.DELIVERIES.add("delivered" if reply.positive else "delayed" if reply.temporary else "failed")
    return [_status(route.recipient, replies[route.account.key]) for route in routes]


async def _outcome(copy: Awaitable[object]) -> Reply:
    try:
        await copy
    except DeliveryError as error:
        return error.reply
    except Exception:
        log.exception("local delivery failed")
        return TROUBLE
    return DELIVERED


def _status(recipient: Address, reply: Reply) -> DeliveryStatus:
    if reply.positive:
        return DeliveryStatus(recipient, Action.DELIVERED, reply)
    return DeliveryStatus.of_reply(recipient, reply, None)
