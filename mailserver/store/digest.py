"""What is made of a message's content, and kept because it is costly to make: pieces, and text to search in.

Promises   The same message gives the same. Nothing here fails: what cannot be understood is described as text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, NamedTuple, TypeVar

from mailserver.message.dates import sent_date
from mailserver.message.display import display, local_part
from mailserver.message.envelope import read_envelope
from mailserver.message.imapdata import envelope, structures
from mailserver.message.preview import preview
from mailserver.message.searchable import Searchable, searchable
from mailserver.message.structure import parse
from mailserver.message.subject import base_subject
from mailserver.message.summary import summary
from mailserver.message.threading import ancestors, message_ids
from mailserver.store.model import Pieces, Prepared, SortKeys
from mailserver.store.objectids import identity

T = TypeVar("T")


class Digest(NamedTuple, Generic[T]):
    """One kind of what is made; `make` takes a whole message in CRLF form."""

    name: str
    make: Callable[[bytes], T]


def prepare(message: bytes) -> Pieces:
    """`message` is whole and in CRLF form."""
    part = parse(message)
    read = read_envelope(part)
    body, bodystructure = structures(part)
    subject = base_subject(read.subject or b"")
    own = message_ids(read.message_id or b"")
    references = part.fields.get(b"references")
    keys = SortKeys(
        sent=sent_date(read.date or b""),
        subject=subject.text,
        reply=subject.reply,
        sender=local_part(read.author),
        to=local_part(read.to),
        cc=local_part(read.cc),
        display_from=display(read.author),
        display_to=display(read.to),
        message_id=own[0] if own else "",
        references=ancestors(references[0] if references else None, read.in_reply_to),
    )
    prepared = Prepared(envelope(read), body, bodystructure, preview(part))
    return Pieces(prepared, keys, summary(message[: part.header[1]]), identity(message, keys))


PIECES = Digest[Pieces]("pieces", prepare)
TEXT = Digest[Searchable]("text", searchable)
DIGESTS: Mapping[str, Digest[Pieces] | Digest[Searchable]] = {digest.name: digest for digest in (PIECES, TEXT)}
