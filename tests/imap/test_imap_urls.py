"""IMAP URLs (RFC 5092, RFC 2192; RFC 4467 §3)."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.commands import Text
from mailserver.imap.urls import BadURL, parse

TOKEN = "91354a473744909de610943775f92038"


@pytest.mark.parametrize(
    ("text", "mailbox", "validity", "uid", "part", "kind"),
    [
        ("/Drafts;UIDVALIDITY=385759045/;UID=20/;section=HEADER", "Drafts", 385759045, 20, (), Text.HEADER),
        ("/Drafts;UIDVALIDITY=385759045/;UID=20/;section=1.MIME", "Drafts", 385759045, 20, (1,), Text.MIME),
        ("/Drafts;UIDVALIDITY=385759045/;UID=30", "Drafts", 385759045, 30, (), Text.ALL),
        ("/INBOX;UIDVALIDITY=785799047/;UID=113330/;section=1.5.9", "INBOX", 785799047, 113330, (1, 5, 9), Text.ALL),
        ("/inbox/;uid=1/;Section=1.text", "INBOX", None, 1, (1,), Text.TEXT),
        ("/a/b/;UID=1", "a/b", None, 1, (), Text.ALL),
        ("/a%2Fb/;UID=1", "a/b", None, 1, (), Text.ALL),
        ("/a%20b%3Bc%25/;UID=1", "a b;c%", None, 1, (), Text.ALL),
        ("/Entw%C3%BCrfe/;UID=4294967295", "Entwürfe", None, 4294967295, (), Text.ALL),
        ("/a/../b/./c/;UID=1", "b/c", None, 1, (), Text.ALL),
        ("imap://joe@example.com/INBOX/;uid=20/;section=1.2", "INBOX", None, 20, (1, 2), Text.ALL),
        ("IMAP://;AUTH=*@example.com/INBOX/;uid=20", "INBOX", None, 20, (), Text.ALL),
        ("imap://example.com:143/INBOX/;uid=20", "INBOX", None, 20, (), Text.ALL),
        ("//[2001:db8::1]/INBOX/;uid=20", "INBOX", None, 20, (), Text.ALL),
    ],
)
def test_what_a_url_means(
    text: str, mailbox: str, validity: int | None, uid: int, part: tuple[int, ...], kind: Text
) -> None:
    url = parse(text)
    assert (url.mailbox, url.uidvalidity, url.uid, url.section.part, url.section.text) == (
        mailbox, validity, uid, part, kind,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "selected", "mailbox"),
    [
        (";UID=3", "Work/2024", "Work/2024"),
        (";UID=3/;SECTION=1", "Entwürfe; alt", "Entwürfe; alt"),
        ("Old/;UID=3", "Work/2024", "Work/Old"),
        ("../Old/;UID=3", "Work/2024/May", "Work/Old"),
        ("Old/;UID=3", "INBOX", "Old"),
        ("Old/;UID=3", None, "Old"),
        ("/Old/;UID=3", "Work/2024", "Old"),
    ],
)
def test_relative_urls(text: str, selected: str | None, mailbox: str) -> None:
    assert parse(text, selected=selected).mailbox == mailbox


def test_names_are_those_that_the_client_knows() -> None:
    assert parse("/a.b/;UID=1", separator=".").mailbox == "a/b"
    assert parse(";UID=1", separator=".", selected="a/b").mailbox == "a/b"
    assert parse("/iNbox/;UID=1").mailbox == "INBOX"
    assert parse("/%C4%B1nbox/;UID=1").mailbox == "\u0131nbox", "in upper case its first letter is the same"


def test_server_and_user() -> None:
    url = parse("imap://joe%40example.org;AUTH=CRAM-MD5@Mail.example.com/INBOX/;uid=20")
    assert (url.user, url.host) == ("joe@example.org", "Mail.example.com")
    assert (parse("/INBOX/;UID=1").user, parse("/INBOX/;UID=1").host) == ("", "")


def test_partial() -> None:
    assert parse("/INBOX/;UID=1/;SECTION=2/;PARTIAL=10.20").section.partial == (10, 20)
    assert parse("/INBOX/;UID=1/;PARTIAL=0").section.partial == (0, sys.maxsize)
    fields = parse("/INBOX/;UID=1/;SECTION=1.HEADER.FIELDS%20(Subject%20To)").section
    assert (fields.part, fields.text, fields.fields) == ((1,), Text.FIELDS, (b"Subject", b"To"))


def test_authorisation() -> None:
    rump = "imap://joe@example.com/INBOX/;uid=20/;section=1.2;expire=2030-01-01T00:00:00.5+01:00;urlauth=submit+fr%65d"
    url = parse(f"{rump}:internal:{TOKEN}")
    known = url.authorisation
    assert known is not None
    assert (known.rump, known.access, known.user, known.mechanism, known.token) == (
        rump, "submit", "fred", "INTERNAL", TOKEN,
    )  # fmt: skip
    assert known.expires == 1893452400.0
    initial = parse(rump).authorisation
    assert initial is not None
    assert (initial.rump, initial.mechanism, initial.token) == (rump, "", "")
    for access in ("anonymous", "AuthUser"):
        plain = parse(f"/INBOX/;uid=20/;PARTIAL=1.2;URLAUTH={access}").authorisation
        assert plain is not None
        assert (plain.access, plain.user, plain.expires) == (access.lower(), "", None)


@pytest.mark.parametrize(
    "text",
    [
        "", "/", ";UID=1", "/;UID=1", "INBOX", "/INBOX", "/INBOX/", "/INBOX;UID=1", "/INBOX/;UID=0", "/INBOX/;UID=-1",
        "/INBOX/;UID=4294967296", "/INBOX/;UID=99999999999", "/INBOX/;UID=1/", "/INBOX/;UID=1:2", "/INBOX/;UID=*",
        "/INBOX/;UID=1/;SECTION=", "/INBOX/;UID=1/;SECTION=0", "/INBOX/;UID=1/;SECTION=MIME", "/INBOX/;UID=1;SECTION=1",
        "/INBOX/;UID=1/;SECTION=1]", "/INBOX/;UID=1/;SECTION=1%5D%3C0.1%3E", "/INBOX/;UID=1/;SECTION=X",
        "/INBOX/;UID=1/;SECTION=HEADER.FIELDS", "/INBOX/;UID=1/;SECTION=1/;PARTIAL=0.0", "/INBOX/;UID=1/;PARTIAL=",
        "/INBOX/;UID=1/;PARTIAL=1-2", "/INBOX/;UID=1/;SECTION=1." + "1." * 100 + "1", "/INBOX;UIDVALIDITY=0/;UID=1",
        "/INBOX?SUBJECT%20x", "/INBOX/;UID=1?x", "/INBOX/;UID=1#x", "/IN BOX/;UID=1", "/IN%ZZ/;UID=1", "/IN%/;UID=1",
        "/%FF%FE/;UID=1", "/INBOX%0/;UID=1", "imap:/INBOX/;UID=1", "imap:///INBOX/;UID=1", "imap://a@b@c/INBOX/;UID=1",
        "http://example.com/INBOX/;UID=1", "imap://example.com", "imap://example.com/",
        "imap://example.com:x/INBOX/;UID=1", "a:b/;UID=1",
        "imap://%FF@example.com/INBOX/;UID=1", "/Entw\ufffdrfe/;UID=1", "/INBOX/;UID=1\n", "/INBOX/;UID=\u0661",
        "/INBOX/;UID=1;URLAUTH=", "/INBOX/;UID=1;URLAUTH=root", "/INBOX/;UID=1;URLAUTH=user+",
        "/INBOX/;UID=1;URLAUTH=user",
        "/INBOX/;UID=1;EXPIRE=2030-01-01T00:00:00Z", "/INBOX/;UID=1;URLAUTH=anonymous;EXPIRE=2030-01-01T00:00:00Z",
        "/INBOX/;UID=1;EXPIRE=2030-01-01;URLAUTH=anonymous",
        "/INBOX/;UID=1;EXPIRE=2030-13-01T00:00:00Z;URLAUTH=anonymous",
        "/INBOX/;UID=1;EXPIRE=2030-01-01T00:00:00;URLAUTH=anonymous",
        "/INBOX/;UID=1;EXPIRE=0001-01-01T00:00:00+23:59;URLAUTH=anonymous:internal:" + "0" * 31,
        "/INBOX/;UID=1;URLAUTH=anonymous:internal", "/INBOX/;UID=1;URLAUTH=anonymous:internal:",
        "/INBOX/;UID=1;URLAUTH=anonymous:internal:" + "0" * 31, "/INBOX/;UID=1;URLAUTH=anonymous::" + "0" * 32,
        "/INBOX/;UID=1;URLAUTH=anonymous:internal:" + "0" * 32 + "x", "/INBOX;URLAUTH=anonymous",
        "/" + "a" * 9000 + "/;UID=1",
    ],
)  # fmt: skip
def test_what_is_no_url_of_a_message(text: str) -> None:
    with pytest.raises(BadURL):
        parse(text)


@given(
    st.lists(
        st.sampled_from(
            ["/", ";", "INBOX", ";UID=1", "%", "%41", "a", "..", ".", ";SECTION=1", ";PARTIAL=0", "imap://", "@", ":",
             ";URLAUTH=",
             "anonymous", ";EXPIRE=", ";UIDVALIDITY=1", "2030-01-01T00:00:00Z", "?", "]", "\ufffd"]
        ),
        max_size=12,
    ),
    st.sampled_from([None, "INBOX", "a/b", "ä;?%"]),
)  # fmt: skip
def test_garbage_is_a_bad_url_and_nothing_else(pieces: list[str], selected: str | None) -> None:
    try:
        url = parse("".join(pieces), selected=selected)
    except BadURL:
        return
    assert url.uid == 1
    assert url.mailbox


def test_long_urls_take_no_time() -> None:
    """Each octet is looked at a few times at most: twice as long takes no more than about twice the steps."""

    def steps(text: str) -> int:
        count = 0

        def trace(_frame: object, _event: str, _argument: object) -> object:
            nonlocal count
            count += 1
            return trace

        sys.settrace(trace)  # type: ignore[arg-type]
        try:
            with pytest.raises(BadURL):
                parse(text)
        finally:
            sys.settrace(None)
        return count

    for piece in ("/;UID=1", "/;SECTION=1", ";", "a/", "../", "%41", ";UIDVALIDITY=1/"):
        short, long = "/" + piece * (2000 // len(piece)), "/" + piece * (4000 // len(piece))
        assert steps(long) < 3 * steps(short) + 100
