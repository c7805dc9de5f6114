"""ENVELOPE, BODY and BODYSTRUCTURE of IMAP, ready to send (RFC 3501 §7.4.2, RFC 9051 §7.5.2).

Promises   Octets that are printable ASCII go out quoted, anything else as a literal; never CR, LF or NUL in a string.
           Encoded words, and the percent signs of RFC 2231, stay as they are.
"""

from __future__ import annotations

from typing import NamedTuple

from mailserver.message.addresses import MailAddress
from mailserver.message.envelope import Envelope, read_envelope
from mailserver.message.parameters import Parameters, without_comments
from mailserver.message.structure import MESSAGES, Part

_QUOTABLE = bytes(octet for octet in range(0x20, 0x7F) if octet not in b'"\\') + b"\t"


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


def envelope(of: Envelope) -> bytes:
    """ENVELOPE. A string field that is absent is NIL, an empty one is empty; Sender and Reply-To default to From."""
    author = _address_list(of.author)
    return b"(%b)" % b" ".join(
        (
            _nstring(of.date),
            _nstring(of.subject),
            author,
            _address_list(of.sender) if of.sender else author,
            _address_list(of.reply_to) if of.reply_to else author,
            _address_list(of.to),
            _address_list(of.cc),
            _address_list(of.bcc),
            _nstring(of.in_reply_to),
            _nstring(of.message_id),
        )
    )


def _address_list(found: list[MailAddress]) -> bytes:
    if not found:
        return b"NIL"
    return b"(%b)" % b"".join(
        [
            b"(%b %b %b %b)" % (_nstring(name), _nstring(route), _nstring(mailbox), _nstring(host))
            for name, route, mailbox, host in found
        ]
    )


class Structures(NamedTuple):
    """BODY, and BODYSTRUCTURE, which also has the extension data."""

    body: bytes
    bodystructure: bytes


def structures(part: Part) -> Structures:
    """Sizes are octets as they lie in the content."""
    if part.parts:
        inner = [structures(child) for child in part.parts]
        subtype = string(part.subtype)
        body = b"%b %b" % (b"".join([child.body for child in inner]), subtype)
        extended = b"%b %b %b" % (
            b"".join([child.bodystructure for child in inner]),
            subtype,
            _parameters(part.parameters),
        )
    else:
        basic = b"%b %b %b %b %b %b %d" % (
            string(part.type),
            string(part.subtype),
            _parameters(_with_charset(part)),
            _nstring(part.text(b"content-id") or None),
            _nstring(part.text(b"content-description") or None),
            string(part.encoding),
            part.body[1] - part.body[0],
        )
        if part.message is not None and (part.type, part.subtype) in MESSAGES:
            enclosed = structures(part.message)
            before = b"%b %b " % (basic, envelope(read_envelope(part.message)))
            body = b"%b%b %d" % (before, enclosed.body, part.lines)
            extended = b"%b%b %d" % (before, enclosed.bodystructure, part.lines)
        else:
            body = extended = b"%b %d" % (basic, part.lines) if part.type == b"text" else basic
        extended = b"%b %b" % (extended, _nstring(part.text(b"content-md5") or None))
    extension = (extended, _disposition(part), _languages(part), _nstring(part.text(b"content-location") or None))
    return Structures(b"(%b)" % body, b"(%b %b %b %b)" % extension)


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
