"""Text to search in: the short ways to make it give what the long ones give."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from mailserver.message import Phrase, folded, header_text, searchable
from mailserver.message.collation import casemapped
from mailserver.message.header import fields
from mailserver.message.searchable import BORDER, Searchable

HEAD = b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
ODD = "a Bß\u00e9\u00a0\u00a8\u0085\u2028\u3000\u1e9e\u01c5\ufb01\uac00\u0301\U0001f600\x1c\x0b\r\n\t"
CHARACTERS = st.one_of(st.sampled_from(ODD), st.characters(codec="utf-8"))


def octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@given(st.text(CHARACTERS))
@example("x " * 10 + "".join(map(chr, range(0xC0, 0x100))))  # more different characters than are replaced one by one
@example("  a\r\n\r\n b\rc  ")
@example("\u0130\u0131\u01c4 \u1e9b")
def test_a_body_is_folded_as_a_phrase_is_compared(text: str) -> None:
    assert searchable(HEAD + octets(text)).body == octets(folded(text)) + BORDER
    assert Phrase(text).octets == octets(folded(text))


PIECES = [
    "Subject",
    "x",
    ":",
    ": ",
    " ",
    "\t",
    "\r\n",
    "\r\n ",
    "\n\t",
    "\n",
    "\r",
    "\0",
    "=?utf-8?Q?=C3=9F=0A_?=",
    "é",
]


@given(st.lists(st.sampled_from(PIECES)))
@example(["Subject", ":", "x", "\r\n ", "x"])
@example(["x", "\r\n", " ", ":", "x"])
@example(["x", " ", ": ", "=?utf-8?Q?=C3=9F=0A_?=", "é"])
def test_a_header_is_its_fields_each_by_itself(pieces: list[str]) -> None:
    header = "".join(["A: b\r\n", *pieces, "\r\n"]).encode()
    if b"\n\n" in header.replace(b"\r\n", b"\n"):
        return  # it has a body
    lines = [
        octets(casemapped(field.name.decode("latin-1"))) + b": " + octets(folded(header_text(field.value)))
        for field in fields(header)
    ]
    assert searchable(header) == Searchable(BORDER.join([b"", *lines, b""]), BORDER)
