"""RFC 5322 and MIME over bytes: header fields, part structure, IMAP's ENVELOPE and BODYSTRUCTURE, decoding,
           what messages are sorted, threaded and listed by.

Promises   Nothing here changes a message, and nothing raises on its content. Time is linear in its size, with bounds on
           depth, parts, fields, parameters and addresses; what is beyond a bound is shown undivided or left out.
           Content is expected in CRLF form; bare LF is understood.
On failure A malformed part is shown as the nearest thing that it can be: text/plain or application/octet-stream.
"""

from mailserver.message.addresses import MailAddress, addresses
from mailserver.message.collation import casemapped
from mailserver.message.dates import sent_date, sent_day
from mailserver.message.decode import body_texts, charset_text, header_text, part_text
from mailserver.message.display import display, local_part
from mailserver.message.envelope import Envelope, read_envelope
from mailserver.message.fuzzy import Fuzzy, fuzzy
from mailserver.message.header import Field, fields, first, header_end, unfold, whole_fields
from mailserver.message.imapdata import Structures, envelope, structures
from mailserver.message.preview import preview
from mailserver.message.searchable import Phrase, Searchable, folded, searchable
from mailserver.message.structure import Part, parse, section
from mailserver.message.subject import BaseSubject, base_subject
from mailserver.message.summary import covers, summary
from mailserver.message.threading import ancestors, message_ids
from mailserver.message.threads import Forest, ordered_subject, parents, references, refs

__all__ = [
    "BaseSubject",
    "Envelope",
    "Field",
    "Forest",
    "Fuzzy",
    "MailAddress",
    "Part",
    "Phrase",
    "Searchable",
    "Structures",
    "addresses",
    "ancestors",
    "base_subject",
    "body_texts",
    "casemapped",
    "charset_text",
    "covers",
    "display",
    "envelope",
    "fields",
    "first",
    "folded",
    "fuzzy",
    "header_end",
    "header_text",
    "local_part",
    "message_ids",
    "ordered_subject",
    "parents",
    "parse",
    "part_text",
    "preview",
    "read_envelope",
    "references",
    "refs",
    "searchable",
    "section",
    "sent_date",
    "sent_day",
    "structures",
    "summary",
    "unfold",
    "whole_fields",
]
