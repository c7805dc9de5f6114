"""Base subjects (RFC 5256 §2.1)."""

import time
from email.header import Header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.message import base_subject


@pytest.mark.parametrize(
    ("subject", "base", "reply"),
    [
        (b"", "", False),
        (b" plain  text ", "plain text", False),
        (b"plain\r\n\ttext", "plain text", False),
        (b"Re: a", "a", True),
        (b"RE : a", "a", True),
        (b"re:re: Re:a", "a", True),
        (b"Fw: a", "a", True),
        (b"FWD: a", "a", True),
        (b"Fwdx: a", "Fwdx: a", False),
        (b"Regarding: a", "Regarding: a", False),
        (b"Re[2]: a", "a", True),
        (b"Re [2] : a", "a", True),
        (b"Re:", "", True),
        (b"[list] a", "a", False),
        (b"[list] Re: a", "a", True),
        (b"Re: [list] a", "a", True),
        (b"Re: [list] Re: [x][y] a", "a", True),
        (b"[one][two]", "[two]", False),
        (b"[one] [two] ", "[two]", False),
        (b"[list]", "[list]", False),
        (b"Re: [list]", "[list]", True),
        (b"[not [nested]", "[not [nested]", False),
        (b"a (fwd)", "a", True),
        (b"a (FWD) (fwd)  ", "a", True),
        (b"(fwd)", "", True),
        (b"a (fwd) b", "a (fwd) b", False),
        (b"[fwd: a]", "a", True),
        (b"[Fwd: Re: a (fwd)]", "a", True),
        (b"[fwd: [fwd: a]]", "a", True),
        (b"Re: [fwd: [list] a] (fwd)", "a", True),
        (b"[fwd: a] b", "b", False),
        (b"[fwd: a", "[fwd: a", False),
        (b"[fwd:]", "", True),
        (b"=?utf-8?Q?Re:_Gr=C3=BC=C3=9Fe?=", "Grüße", True),
        (b"=?utf-8?Q?a=0Ab?=", "a b", False),
        (b"AW: a", "AW: a", False),
    ],
)
def test_base_subjects(subject: bytes, base: str, reply: bool) -> None:
    assert base_subject(subject) == (base, reply)


WORDS = st.lists(st.sampled_from(["re", ":", "fwd", "[fwd:", "]", "[", "(fwd)", " ", "a", "é", "[x]"]), max_size=25)


@given(WORDS.map("".join))
def test_a_base_subject_stays_what_it_is(subject: str) -> None:
    once = base_subject(subject.encode())
    again = base_subject(once.text.encode())
    assert again.text == once.text
    assert not again.reply


@given(WORDS.map("".join), st.sampled_from(["Re: ", "fwd:", "[l] re:", " ", "FW [1]: "]))
def test_marks_before_a_subject_do_not_change_its_base(subject: str, mark: str) -> None:
    assert base_subject((mark + subject).encode()).text == base_subject(subject.encode()).text


@given(st.text(max_size=60))
def test_encoded_subjects_are_the_same(text: str) -> None:
    text = " ".join(text.translate(dict.fromkeys(range(32))).encode(errors="replace").decode().split())
    encoded = Header(text, "utf-8").encode(linesep="\r\n").encode() if text else b""
    assert base_subject(encoded) == base_subject(text.encode())


@pytest.mark.parametrize("piece", [b"[a]", b"re:", b"(fwd)", b"[fwd:", b"[", b"re ", b"[a]re:", b"=?utf-8?q?re:?= "])
def test_a_megabyte_of_marks(piece: bytes) -> None:
    start = time.process_time()
    assert len(base_subject(piece * (2**20 // len(piece))).text) <= 2000
    assert len(base_subject(piece * (2**20 // len(piece)) + b"]").text) <= 2000
    assert time.process_time() - start < 30
