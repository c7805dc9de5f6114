"""Decoding for search: never raises, never asks for a strange codec."""

import quopri
from base64 import b64encode
from email.header import Header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.message import body_texts, charset_text, decode, header_text, parse, part_text
from mailserver.message.decode import transfer_chunks, transfer_decoded


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b" plain\r\n text", "plain text"),
        (b"=?utf-8?Q?Gr=C3=BC=C3=9Fe_an?= alle", "Grüße an alle"),
        (b"=?ISO-8859-1?B?R3L832U=?=", "Grüße"),
        (b"=?utf-8?Q?one?=\r\n =?utf-8?Q?two?=", "onetwo"),
        (b"=?utf-8?Q?one?= and =?utf-8?Q?two?=", "one and two"),
        (b"=?utf-8?Q?one?==?iso-8859-1?Q?=FC?= x", "oneü x"),
        (b"=?utf-8?B?4oI=?= =?utf-8?B?rA==?=", "€"),
        (b"=?utf-8*en?Q?a_b?=", "a b"),
        (b"=?utf-8?Q?not closed", "=?utf-8?Q?not closed"),
        (b"=?x-unknown?Q?a=FCb?=", "aüb"),
        (b"=?utf-8?B?!!!?=", ""),
        (b"=?utf-8?Q?with space?=", "with space"),
        (b"raw gr\xc3\xbc\xc3\x9fe", "raw grüße"),
        (b"raw gr\xfc\xdfe", "raw grüße"),
        (b"=?gb2312?B?1tDOxA==?=", "中文"),
        (b"=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本"),
    ],
)
def test_encoded_words(value: bytes, expected: str) -> None:
    assert header_text(value) == expected


@pytest.mark.parametrize("charset", ["idna", "punycode", "unicode_escape", "rot13", "zlib", "undefined", "\0", "../x"])
def test_codecs_that_are_no_charsets_are_never_used(charset: str) -> None:
    assert charset_text(rb"xn--a \u0041", charset) == r"xn--a \u0041"


@pytest.mark.parametrize(
    ("data", "charset", "expected"),
    [
        ("Grüße €".encode(), "UTF-8", "Grüße €"),
        (b"\x80 \xfc", "iso-8859-1", "€ ü"),
        (b"caf\xc3\xa9", "us-ascii", "café"),
        (b"caf\xe9 \x81", "us-ascii", "caf\xe9 \x81"),
        ("Привет".encode("koi8-r"), "KOI8-R", "Привет"),
        ("Привет".encode("cp1251"), "windows-1251", "Привет"),
        ("한국".encode("cp949"), "ks_c_5601-1987", "한국"),
        ("日本".encode("cp932"), "Shift_JIS", "日本"),
        ("ไทย".encode("cp874"), "windows-874", "ไทย"),
    ],
)
def test_charsets(data: bytes, charset: str, expected: str) -> None:
    assert charset_text(data, charset) == expected


def test_parts_are_decoded() -> None:
    text = "Grüße\r\nan alle\r\n"
    for encoding, data in (
        ("base64", b64encode(text.encode())),
        ("quoted-printable", quopri.encodestring(text.encode())),
    ):
        head = f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
        assert part_text(parse(head.encode() + data)) == text


def test_damaged_base64_gives_what_there_is() -> None:
    head = b"Content-Transfer-Encoding: base64\r\n\r\n"
    assert part_text(parse(head + b"aGVs\r\n bG8*")) == "hello"
    assert part_text(parse(head + b"aGVsb")) == "hel"
    assert part_text(parse(head + b"aGVsbG8=")) == "hello"


def test_texts_of_all_text_parts_and_enclosed_messages() -> None:
    content = b"\r\n".join(
        [
            b"Content-Type: multipart/mixed; boundary=b",
            b"",
            b"--b",
            b"",
            b"one",
            b"--b",
            b"Content-Type: application/pdf",
            b"",
            b"not this",
            b"--b",
            b"Content-Type: message/rfc822",
            b"",
            b"Content-Type: text/html",
            b"",
            b"two",
            b"--b--",
        ]
    )
    assert list(body_texts(parse(content))) == ["one", "two"]


@given(st.binary(max_size=100), st.text(max_size=20))
def test_no_octets_raise(data: bytes, charset: str) -> None:
    assert isinstance(charset_text(data, charset), str)
    assert isinstance(header_text(data), str)
    head = f"Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    assert isinstance(part_text(parse(head.encode() + data)), str)


@given(st.text(alphabet="=?utf-8BbQq_ +/abc\t", max_size=60))
def test_no_order_of_the_signs_of_encoded_words_raises(value: str) -> None:
    assert isinstance(header_text(value.encode()), str)


@given(st.text(alphabet=st.characters(codec="utf-8", categories=["L", "N", "Zs"]), min_size=1, max_size=80))
def test_what_the_standard_library_encodes_is_decoded(text: str) -> None:
    text = " ".join(text.split())
    assert header_text(Header(text, "utf-8").encode(linesep="\r\n").encode()) == text


@given(
    st.lists(st.sampled_from([b"=", b"\r\n", b"\n", b"\r", b"=3D", b"=\r\n", b"QUJD", b"Q", b" ", b"\0", b"x" * 9])),
    st.sampled_from([b"base64", b"quoted-printable", b"7bit", b"8bit", b"binary"]),
    st.integers(1, 12),
)
def test_decoding_in_pieces_gives_the_same(words: list[bytes], encoding: bytes, size: int) -> None:
    data = b"".join(words)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(decode, "_CHUNK", size)
        chunks = transfer_chunks(b"<" + data + b">", (1, 1 + len(data)), encoding)
        assert b"".join(chunks) == transfer_decoded(data, encoding)


def test_space_at_the_ends_of_quoted_printable_lines_does_not_count() -> None:
    """RFC 2045 §6.7: transport put it there, also behind the sign of a soft line break."""
    assert transfer_decoded(b"a b \t\r\nc= \r\nd=20 \n=\t\ne  ", b"quoted-printable") == b"a b\r\ncd \ne"
    assert transfer_decoded(b" " * 2_000_000 + b"x", b"quoted-printable") == b" " * 2_000_000 + b"x"
    assert transfer_decoded(b"x \r\n", b"8bit") == b"x \r\n"


def test_an_unknown_encoding_is_told() -> None:
    with pytest.raises(LookupError):
        transfer_chunks(b"x", (0, 1), b"x-uuencode")
