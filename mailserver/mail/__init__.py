"""Values of the field: addresses, envelopes, replies, delivery status, trace fields, message content, unique-ids.

Promises   Everything here is plain data without I/O, but for `Content`, which spools large bodies to a nameless file.
On failure A malformed value is refused by its parser with ValueError and a message for the one who sent it.
"""

from mailserver.mail.address import (
    Address,
    AddressError,
    parse_forward_path,
    parse_mailbox,
    parse_reverse_path,
    restored,
)
from mailserver.mail.content import Content, Piece
from mailserver.mail.envelope import NOTHING_ASKED, Body, DeliverBy, Envelope, MailParameters, Notify, Recipient, Return
from mailserver.mail.quota import UNLIMITED, Quota
from mailserver.mail.reply import EnhancedCode, Reply
from mailserver.mail.status import Action, DeliveryStatus
from mailserver.mail.uniqueid import UniqueIds

__all__ = [
    "NOTHING_ASKED",
    "UNLIMITED",
    "Action",
    "Address",
    "AddressError",
    "Body",
    "Content",
    "DeliverBy",
    "DeliveryStatus",
    "EnhancedCode",
    "Envelope",
    "MailParameters",
    "Notify",
    "Piece",
    "Quota",
    "Recipient",
    "Reply",
    "Return",
    "UniqueIds",
    "parse_forward_path",
    "parse_mailbox",
    "parse_reverse_path",
    "restored",
]
