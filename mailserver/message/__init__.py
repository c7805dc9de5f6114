"""RFC 5322 and MIME over bytes: header fields, part structure, IMAP's ENVELOPE and BODYSTRUCTURE, decoding.

Promises   Nothing here changes a message, and nothing raises on its content. Time is linear in its size, with bounds on
           depth, parts, fields, parameters and addresses; what is beyond a bound is shown undivided or left out.
           Content is expected in CRLF form; bare LF is understood.
On failure A malformed part is shown as the nearest thing that it can be: text/plain or application/octet-stream.
"""

from mailserver.message.addresses import MailAddress, addresses
from mailserver.message.decode import body_texts, charset_text, header_text, part_text
from mailserver.message.header import Field, fields, first, header_end, unfold, whole_fields
from mailserver.message.imapdata import bodystructure, envelope
from mailserver.message.searchable import Phrase, Searchable, folded, searchable
from mailserver.message.structure import Part, parse, section

__all__ = [
    "Field",
    "MailAddress",
    "Part",
    "Phrase",
    "Searchable",
    "addresses",
    "body_texts",
    "bodystructure",
    "charset_text",
    "envelope",
    "fields",
    "first",
    "folded",
    "header_end",
    "header_text",
    "parse",
    "part_text",
    "searchable",
    "section",
    "unfold",
    "whole_fields",
]
