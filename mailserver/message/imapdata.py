"""ENVELOPE, BODY and BODYSTRUCTURE of IMAP, ready to send (RFC 3501 §7.4.2, RFC 9051 §7.5.2).

Promises   Octets that are printable ASCII go out quoted, anything else as a literal; never CR, LF or NUL in a string.
           Encoded words, and the percent signs of RFC 2231, stay as they are.
"""

from __future__ import annotations

from mailserver.message.addresses import VALUE_LIMIT, MailAddress, addresses
from mailserver.message.header import select, unfold
from mailserver.message.parameters import Parameters, without_comments
from mailserver.message.structure import MESSAGES, Part

_QUOTABLE = bytes(octet for octet in range(0x20, 0x7F) if octet not in b'"\\') + b"\t"
_ADDRESS_FIELDS = (b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc")
_ENVELOPE_FIELDS = frozenset((b"date", b"subject", *_ADDRESS_FIELDS, b"in-reply-to", b"message-id"))


def string(value: bytes) -> bytes:
    """A quoted string or literal. The value must be free of CR, LF and NUL."""
    special = value.translate(None, _QUOTABLE)
    if not special:
        return b'"' + value + b'"'
    if not special.strip(b'"\\'):
        return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return b"{%d}\r\n%b" % (len(value), value)


def _nstring(value: bytes | None) -> bytes:
    return string(value) if value is not None else b"NIL"


def envelope(header: bytes) -> bytes:
    """The ENVELOPE of the message with this header.

    A string field that is absent is NIL, an empty one is empty; Sender and Reply-To default to From. What lies past
    `VALUE_LIMIT` octets of a field is left out.
    """
    found = select(header, 0, len(header), _ENVELOPE_FIELDS)
    lists = {name: _address_list(found[name]) for name in _ADDRESS_FIELDS if name in found}
    sender = lists.get(b"from", b"NIL")
    for name in (b"sender", b"reply-to"):
        if lists.get(name, b"NIL") == b"NIL":
            lists[name] = sender

    def text(name: bytes) -> bytes:
        return string(unfold(found[name][0][:VALUE_LIMIT])) if name in found else b"NIL"

    return b"(%b)" % b" ".join(
        (
            text(b"date"),
            text(b"subject"),
            *(lists.get(name, b"NIL") for name in _ADDRESS_FIELDS),
            text(b"in-reply-to"),
            text(b"message-id"),
        )
    )


def _address_list(values: list[bytes]) -> bytes:
    """Fields of the same name count as one list."""
    found: list[MailAddress] = []
    left = VALUE_LIMIT
    for value in values:
        if left > 0:
            found += addresses(value)
        left -= len(value)
    if not found:
        return b"NIL"
    return b"(%b)" % b"".join(
        b"(%b %b %b %b)" % (_nstring(name), _nstring(route), _nstring(mailbox), _nstring(host))
        for name, route, mailbox, host in found
    )


def bodystructure(part: Part, extended: bool = True) -> bytes:
    """BODYSTRUCTURE, or BODY when not `extended`. Sizes are octets as they lie in the content."""
    if part.parts:
        pieces = [b"".join([bodystructure(child, extended) for child in part.parts]), string(part.subtype)]
        if extended:
            pieces.append(_parameters(part.parameters))
    else:
        pieces = [
            string(part.type),
            string(part.subtype),
            _parameters(_with_charset(part)),
            _nstring(part.text(b"content-id") or None),
            _nstring(part.text(b"content-description") or None),
            string(part.encoding),
            b"%d" % (part.body[1] - part.body[0]),
        ]
        if part.message is not None and (part.type, part.subtype) in MESSAGES:
            start, end = part.message.header
            pieces += (
                envelope(part.content[start:end]),
                bodystructure(part.message, extended),
                b"%d" % part.lines,
            )
        elif part.type == b"text":
            pieces.append(b"%d" % part.lines)
        if extended:
            pieces.append(_nstring(part.text(b"content-md5") or None))
    if extended:
        pieces += (_disposition(part), _languages(part), _nstring(part.text(b"content-location") or None))
    return b"(%b)" % b" ".join(pieces)


def _with_charset(part: Part) -> Parameters:
    """Text without a charset is US-ASCII (RFC 2046 §4.1.2); clients expect to be told so."""
    if part.type != b"text" or any(name in (b"charset", b"charset*") for name, _ in part.parameters):
        return part.parameters
    return (*part.parameters, (b"charset", b"us-ascii"))


def _parameters(parameters: Parameters) -> bytes:
    if not parameters:
        return b"NIL"
    return b"(%b)" % b" ".join([string(name) + b" " + string(value) for name, value in parameters])


def _disposition(part: Part) -> bytes:
    disposition = part.disposition
    if disposition is None:
        return b"NIL"
    word, parameters = disposition
    return b"(%b %b)" % (string(word), _parameters(parameters))


def _languages(part: Part) -> bytes:
    """RFC 3282: a list of tags."""
    value = part.text(b"content-language")
    if not value:
        return b"NIL"
    tags = [tag.strip() for tag in without_comments(value).split(b",") if tag.strip()]
    return b"(%b)" % b" ".join(map(string, tags)) if tags else b"NIL"
