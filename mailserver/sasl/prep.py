"""Preparing names and passwords for comparison: PRECIS (RFC 8264, RFC 8265), and SASLprep (RFC 4013), which SCRAM asks
for (RFC 5802 §2.2).

Promises   Two spellings that a person takes for the same give the same text; the time is bounded.
On failure ValueError for what may not stand in a name or password; the text says what, without repeating it.
"""

from __future__ import annotations

import stringprep
import unicodedata
from functools import cache

from precis_i18n import get_profile
from precis_i18n.profile import Profile

from mailserver.sasl.steps import LIMIT

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


def prepare_name(text: str) -> str:
    """A user name by the profile UsernameCaseMapped (RFC 8265 §3.3): width, case and composition do not count.

    Spaces stand between the parts of a name only (§3.1), so that an address like `"a b"@example.org` is one.
    """
    if len(text) > LIMIT:
        raise ValueError("the name is too long")
    return " ".join(_enforced("UsernameCaseMapped", part, "name") if part else "" for part in text.split(" "))


def prepare_password(text: str) -> str:
    """By the profile OpaqueString (RFC 8265 §4.2): composition and the kind of space do not count, all else does."""
    if len(text) > LIMIT:
        raise ValueError("the password is too long")
    return _enforced("OpaqueString", text, "password")


def _enforced(profile: str, text: str, what: str) -> str:
    try:
        return _profile(profile).enforce(text)
    except UnicodeEncodeError as error:
        kind = error.reason.rpartition("/")[2].replace("_", " ")
        raise ValueError(f"the {what} has what may not stand in one: {kind}") from None


@cache
def _profile(name: str) -> Profile:
    return get_profile(name)
