"""Preparing passwords for comparison: SASLprep (RFC 4013), as SCRAM asks for (RFC 5802 §2.2)."""

from __future__ import annotations

import stringprep
import unicodedata

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str) -> str:
    """As a query: code points that were not assigned are taken. Raises ValueError for what may not stand in it."""
    mapped = (" " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c))
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", "".join(mapped))
    if any(prohibited(c) for c in prepared for prohibited in _PROHIBITED):
        raise ValueError("a character may not stand in a password")
    from_right = [stringprep.in_table_d1(c) for c in prepared]
    mixed = any(map(stringprep.in_table_d2, prepared)) or not (from_right and from_right[0] and from_right[-1])
    if any(from_right) and mixed:  # RFC 3454 §6
        raise ValueError("letters written from the right may not be mixed with others")
    return prepared
