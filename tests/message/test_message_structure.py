"""The tree of parts: spans, defaults, malformed multiparts, section numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.message import Part, parse, section


def crlf(text: str) -> bytes:
    return text.encode().replace(b"\n", b"\r\n")


def header(part: Part) -> bytes:
    return part.content[slice(*part.header)]


def body(part: Part) -> bytes:
    return part.content[slice(*part.body)]


MIXED = crlf("""\
Subject: test
Content-Type: multipart/mixed; boundary="b 1"

Nobody reads this.
--b 1
Content-Type: text/plain

first
--b 1 \t
Content-Type: multipart/alternative; boundary=b

--b
Content-Type: text/html; charset=UTF-8

<p>second</p>
--b--
--b 1

third: no header

--b 1--
Nor this.
""")


def test_parts_lie_between_the_delimiter_lines() -> None:
    message = parse(MIXED)
    assert (message.type, message.subtype, len(message.parts)) == (b"multipart", b"mixed", 3)
    first, second, third = message.parts
    assert (header(first), body(first)) == (b"Content-Type: text/plain\r\n\r\n", b"first")
    assert (second.type, second.subtype) == (b"multipart", b"alternative")
    assert [body(part) for part in second.parts] == [b"<p>second</p>"]
    assert second.parts[0].parameter(b"charset") == b"UTF-8"
    assert (header(third), body(third)) == (b"\r\n", b"third: no header\r\n")


def test_one_boundary_may_begin_with_the_other() -> None:
    inner_longer = MIXED.replace(b"=b\r\n", b'="b 1 more"\r\n').replace(b"--b\r\n", b"--b 1 more\r\n")
    message = parse(inner_longer.replace(b"--b--\r\n", b"--b 1 more--\r\n"))
    assert [len(part.parts) for part in message.parts] == [0, 1, 0]


def test_lines_count_line_ends_of_the_body() -> None:
    message = parse(MIXED)
    assert message.lines == body(message).count(b"\n")
    assert [part.lines for part in message.parts] == [body(part).count(b"\n") for part in message.parts]


def test_bare_line_feeds_give_the_same_tree() -> None:
    unix = MIXED.replace(b"\r\n", b"\n")
    message = parse(unix)
    assert [body(part) for part in message.leaves()] == [b"first", b"<p>second</p>", b"third: no header\n"]


def test_without_a_closing_delimiter_the_last_part_reaches_to_the_end() -> None:
    message = parse(MIXED[: MIXED.index(b"--b 1--")])
    assert body(message.parts[2]) == b"third: no header\r\n\r\n"
    assert [body(p) for p in parse(MIXED[: MIXED.index(b"--b--")]).leaves()] == [b"first", b"<p>second</p>\r\n"]


def test_empty_parts_and_delimiters_in_a_row() -> None:
    message = parse(crlf("Content-Type: multipart/mixed; boundary=b\n\n--b\n--b\n\n--b--"))
    assert [(header(part), body(part)) for part in message.parts] == [(b"", b""), (b"", b"")]


@pytest.mark.parametrize(
    "content_type",
    ["multipart/mixed", "multipart/mixed; boundary=", "multipart/mixed; boundary=absent", 'multipart/x; boundary=" "'],
)
def test_a_multipart_without_delimiters_is_plain_text(content_type: str) -> None:
    message = parse(crlf(f"Content-Type: {content_type}\n\n--b\n\nhello\n--b--\n"))
    assert (message.type, message.subtype, message.parts) == (b"text", b"plain", ())
    assert body(message) == b"--b\r\n\r\nhello\r\n--b--\r\n"


def test_enclosed_messages() -> None:
    message = parse(crlf("Content-Type: message/rfc822\n\nSubject: inner\n\nhello\nthere\n"))
    assert message.message is not None
    assert header(message.message) == b"Subject: inner\r\n\r\n"
    assert (body(message.message), message.message.lines, message.lines) == (b"hello\r\nthere\r\n", 2, 4)


def test_the_parts_of_a_digest_are_messages_unless_they_say_otherwise() -> None:
    message = parse(
        crlf("""\
Content-Type: multipart/digest; boundary=b

--b

Subject: one

1
--b
Content-Type: text/plain

two
--b--
""")
    )
    one, two = message.parts
    assert (one.type, one.subtype) == (b"message", b"rfc822")
    assert one.message is not None
    assert body(one.message) == b"1"
    assert (two.type, two.message) == (b"text", None)


@pytest.mark.parametrize("value", ["", "text", "/", "text/", "; charset=x", "(comment only)", "a b/c"])
def test_a_malformed_content_type_is_plain_text(value: str) -> None:
    message = parse(crlf(f"Content-Type: {value}\n\nhello\n"))
    assert (message.type, message.subtype) == (b"text", b"plain")


def test_content_fields() -> None:
    message = parse(
        crlf("""\
Content-Type: TEXT/Plain (comment; not=this) ; Charset="utf-8" (more)
Content-Transfer-Encoding: Quoted-Printable (old)
Content-Disposition: ATTACHMENT;
\tfilename="a \\"b\\".txt"; size=3
Content-ID: <id@example.org>
Content-Description: some
 words

x""")
    )
    assert (message.type, message.subtype) == (b"text", b"plain")
    assert message.parameters == ((b"charset", b"utf-8"),)
    assert message.encoding == b"quoted-printable"
    assert message.disposition == (b"attachment", ((b"filename", b'a "b".txt'), (b"size", b"3")))
    assert message.text(b"content-id") == b"<id@example.org>"
    assert message.text(b"content-description") == b"some words"
    assert parse(b"\r\n").encoding == b"7bit"
    assert parse(b"\r\n").disposition is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("name=a; name=b", [("name", "a")]),
        ("name=My file.txt; x=1", [("name", "My file.txt"), ("x", "1")]),
        ('name="open; x=1', [("name", "open; x=1")]),
        ("a*0=one; a*1=two", [("a", "onetwo")]),
        ("a*1=two; b=x; a*0=one", [("a", "onetwo"), ("b", "x")]),
        ("f*0*=utf-8''%e2%82%ac; f*1=\" b\"; f*2*=%20c", [("f*", "utf-8''%e2%82%ac%20b%20c")]),
        ("f*=utf-8''%41; f=A", [("f*", "utf-8''%41"), ("f", "A")]),
        ("a*0=one; a*2=three", [("a", "one")]),
        ("a*1=two", [("a*1", "two")]),
        ("=x; ;; a; b=", [("b", "")]),
    ],
)
def test_parameters(value: str, expected: list[tuple[str, str]]) -> None:
    message = parse(f"Content-Type: text/plain; {value}\r\n\r\n".encode())
    assert message.parameters == tuple((name.encode(), text.encode()) for name, text in expected)


NESTED = crlf("""\
Content-Type: multipart/mixed; boundary=o

--o

plain
--o
Content-Type: message/rfc822

Content-Type: multipart/mixed; boundary=i

--i

inner one
--i

inner two
--i--
--o
Content-Type: message/rfc822

Subject: leaf

leaf body
--o--
""")


def test_sections_are_found_by_their_numbers() -> None:
    message = parse(NESTED)

    def text(*numbers: int) -> bytes | None:
        part = section(message, numbers)
        return body(part) if part is not None else None

    assert section(message, ()) is message
    assert text(1) == b"plain"
    assert section(message, (2,)) is message.parts[1]
    assert (text(2, 1), text(2, 2)) == (b"inner one", b"inner two")
    assert text(3, 1) == b"leaf body"
    for absent in ((0,), (4,), (1, 1), (2, 3), (3, 2), (3, 1, 1), (1, 1, 1)):
        assert text(*absent) is None


def test_part_one_of_a_simple_message_is_its_body() -> None:
    message = parse(b"Subject: x\r\n\r\nhello")
    assert section(message, (1,)) is message
    assert section(message, (2,)) is None
    assert section(message, (1, 1)) is None


def test_a_message_that_is_itself_a_message_part() -> None:
    message = parse(crlf("Content-Type: message/rfc822\n\nSubject: inner\n\nhello"))
    inner = section(message, (1, 1))
    assert inner is message.message
    assert inner is not None
    assert body(inner) == b"hello"


def everything(part: Part) -> list[Part]:
    inner = [part.message] if part.message else part.parts
    return [part, *(deeper for child in inner for deeper in everything(child))]


PIECES = ["--b", "--c", "--b--", "--", "\r\n", "\r\n\r\n", "\n", "\r", " ", "x", "Content-Type: ", "multipart/mixed; "]
PIECES += ["boundary=b", "boundary=c", "message/rfc822", "multipart/digest;boundary=b", "text/plain", '"', ";", ":"]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_spans_lie_within_each_other_and_lines_are_counted_right(text: str) -> None:
    message = parse(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + text.encode())
    for part in everything(message):
        assert part.header[0] <= part.header[1] == part.body[0] <= part.body[1]
        assert part.lines == body(part).count(b"\n")
        position = part.body[0]
        for child in [part.message] if part.message else part.parts:
            assert position <= child.header[0] <= child.body[1] <= part.body[1]
            position = child.body[1]


@given(st.binary(max_size=300))
def test_no_octets_raise(content: bytes) -> None:
    assert parse(content).body[1] == len(content)
