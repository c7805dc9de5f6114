"""ENVELOPE and BODYSTRUCTURE as they go out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.message import Part, parse, read_envelope, structures
from mailserver.message import envelope as rendered
from mailserver.message.imapdata import string


def envelope(header: bytes) -> bytes:
    return rendered(read_envelope(parse(header)))


def bodystructure(message: Part, extended: bool = True) -> bytes:
    return structures(message).bodystructure if extended else structures(message).body


def crlf(text: str) -> bytes:
    return text.encode().replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", b'""'),
        (b"plain text", b'"plain text"'),
        (b'a "b" \\c', b'"a \\"b\\" \\\\c"'),
        (b"gr\xc3\xbc\xc3\x9fe", b"{7}\r\ngr\xc3\xbc\xc3\x9fe"),
        (b'"\x07"', b'{3}\r\n"\x07"'),
    ],
)
def test_strings_are_quoted_where_they_may_be(value: bytes, expected: bytes) -> None:
    assert string(value) == expected


def test_envelope_of_a_usual_header() -> None:
    header = crlf("""\
Date: Mon, 24 Nov 2025 01:44:57 +0000
From: Bob Example <bob@example.net>
Reply-To: list@example.net
To: "Example, Alice" <alice@example.org>, carol@example.org
Cc: Team: dave@example.org;
Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=
\tand more
In-Reply-To: <a@example.org>
Message-ID: <b@example.net>

""")
    bob = b'(("Bob Example" NIL "bob" "example.net"))'
    assert envelope(header) == b" ".join(
        [
            b'("Mon, 24 Nov 2025 01:44:57 +0000"',
            b'"=?utf-8?Q?Gr=C3=BC=C3=9Fe?=\tand more"',
            bob,
            bob,
            b'((NIL NIL "list" "example.net"))',
            b'(("Example, Alice" NIL "alice" "example.org")(NIL NIL "carol" "example.org"))',
            b'((NIL NIL "Team" NIL)(NIL NIL "dave" "example.org")(NIL NIL NIL NIL))',
            b"NIL",
            b'"<a@example.org>"',
            b'"<b@example.net>")',
        ]
    )


def test_envelope_of_nothing() -> None:
    assert envelope(b"") == b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"


def test_absent_strings_are_nil_and_empty_ones_are_empty() -> None:
    assert envelope(b"Subject:\r\nTo: \r\n\r\n") == b'(NIL "" NIL NIL NIL NIL NIL NIL NIL NIL)'


def test_empty_sender_and_reply_to_default_to_from() -> None:
    header = b"From: a@b\r\nSender: \r\nReply-To: <>\r\n\r\n"
    who = b'((NIL NIL "a" "b"))'
    assert envelope(header) == b"(NIL NIL " + b" ".join([who] * 3) + b" NIL NIL NIL NIL NIL)"


def test_repeated_address_fields_are_one_list_and_the_first_subject_counts() -> None:
    header = b"To: a@b\r\nSubject: one\r\nTo: c@d\r\nSubject: two\r\n\r\n"
    to = b'((NIL NIL "a" "b")(NIL NIL "c" "d"))'
    assert envelope(header) == b'(NIL "one" NIL NIL NIL ' + to + b" NIL NIL NIL NIL)"


def test_a_message_without_mime_fields() -> None:
    message = parse(b"Subject: x\r\n\r\none\r\ntwo\r\n")
    basic = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 10 2'
    assert bodystructure(message, extended=False) == basic + b")"
    assert bodystructure(message) == basic + b" NIL NIL NIL NIL)"


def test_all_fields_of_a_part_in_order() -> None:
    message = parse(
        crlf("""\
Content-Type: image/png; name=a.png
Content-Transfer-Encoding: BASE64
Content-ID: <id@x>
Content-Description: a "picture"
Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==
Content-Disposition: attachment; filename*=utf-8''%C3%A4.png
Content-Language: de, en-GB (British)
Content-Location: http://example.org/
 a.png

AAAA""")
    )
    assert bodystructure(message) == (
        b'("image" "png" ("name" "a.png") "<id@x>" "a \\"picture\\"" "base64" 4 "Q2hlY2sgSW50ZWdyaXR5IQ=="'
        b' ("attachment" ("filename*" "utf-8\'\'%C3%A4.png")) ("de" "en-GB") "http://example.org/ a.png")'
    )


def test_multiparts_and_enclosed_messages() -> None:
    message = parse(
        crlf("""\
Content-Type: multipart/mixed; boundary=b
Content-Disposition: inline

--b
Content-Type: text/html; charset=utf-8

<p>
--b
Content-Type: message/rfc822

Subject: inner

hi
--b--
""")
    )
    html = b'("text" "html" ("charset" "utf-8") NIL NIL "7bit" 3 0'
    inner = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 2 0'
    rfc822 = b'("message" "rfc822" NIL NIL NIL "7bit" 20 (NIL "inner" NIL NIL NIL NIL NIL NIL NIL NIL) '
    assert bodystructure(message, extended=False) == b"(" + html + b")" + rfc822 + inner + b') 2) "mixed")'
    extension = b" NIL NIL NIL NIL)"
    assert bodystructure(message) == (
        b"(" + html + extension + rfc822 + inner + extension + b" 2" + extension
        + b' "mixed" ("boundary" "b") ("inline" NIL) NIL NIL)'
    )  # fmt: skip


def test_text_without_a_charset_is_us_ascii() -> None:
    assert bodystructure(parse(b"Content-Type: text/html; x=y\r\n\r\n"), False).startswith(
        b'("text" "html" ("x" "y" "charset" "us-ascii")'
    )


def balanced(data: bytes) -> bool:
    """Reads IMAP's parenthesised strings; true when all is closed at the end and nothing else stands there."""
    depth = position = 0
    while position < len(data):
        octet = data[position : position + 1]
        position += 1
        if octet == b'"':
            while data[position : position + 1] != b'"':
                position += 2 if data[position : position + 1] == b"\\" else 1
                if position >= len(data):
                    return False
            position += 1
        elif octet == b"{":
            end = data.index(b"}\r\n", position)
            position = end + 3 + int(data[position:end])
        elif octet in b"\r\n\0" or octet > b"\x7e":
            return False
        else:
            depth += {b"(": 1, b")": -1}.get(octet, 0)
            if depth == 0 and position < len(data):
                return False
    return depth == 0


LINES = ["From:", "To: ", "Subject: ", "Content-Type: multipart/mixed; boundary=b", "Content-Disposition: ", "\r\n"]
LINES += ["\r\n\r\n", "--b\r\n", "--b--", '"', "\\", "(", ")", "<a@b>", ";name=", "\u00fc", "\0", "\r", "{3}", "x", ","]
LINES += ["Content-Type: message/rfc822\r\n\r\n", "Content-Language: ", "Content-ID: ", "Content-Transfer-Encoding: "]


@given(st.lists(st.sampled_from(LINES), max_size=40).map("".join))
def test_whatever_the_message_says_the_answer_is_well_formed(text: str) -> None:
    content = text.encode()
    message = parse(content)
    assert balanced(envelope(content[: message.header[1]]))
    assert balanced(bodystructure(message))
    assert balanced(bodystructure(message, extended=False))
