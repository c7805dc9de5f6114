"""The base64 in which SMTP, POP3 and IMAP carry challenges and responses."""

from __future__ import annotations

import binascii


def encode_base64(data: bytes) -> bytes:
    """One line without a line end."""
    return binascii.b2a_base64(data, newline=False)


def decode_base64(line: bytes) -> bytes:
    """The octets of one line without its line end; an empty line is no octets.

    Only the one canonical spelling is taken: no white space, no missing or surplus padding, no stray bits.
    Raises ValueError.
    """
    try:
        data = binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    if encode_base64(data) != line:
        raise ValueError("not base64 in its canonical form")
    return data
