"""The grammar: commands become values, everything else a Fault."""

import datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailserver.imap.commands import (
    And,
    Append,
    Attribute,
    Authenticate,
    Capability,
    Check,
    Close,
    Command,
    Copy,
    Create,
    Dated,
    Delete,
    Expunge,
    Fetch,
    HasFlag,
    Identify,
    Idle,
    InHeader,
    InSet,
    InText,
    List,
    ListSubscribed,
    Login,
    Logout,
    Namespace,
    Noop,
    Not,
    Or,
    Rename,
    Search,
    Section,
    Select,
    Sized,
    StartTLS,
    Status,
    Store,
    Stretch,
    Subscribe,
    Text,
    Unselect,
    append_head,
    parse,
)
from mailserver.imap.sequence import STAR, SequenceSet
from mailserver.imap.states import State
from mailserver.imap.syntax import Fault, Reader

ONE = SequenceSet(((1, 1),))
ALL = SequenceSet(((1, STAR),))


def parsed(text: str | bytes, state: State | None = None) -> Command:
    data = text.encode() if isinstance(text, str) else text
    if state is None:
        state = State.NOT_AUTHENTICATED if data[:4] in (b"LOGI", b"AUTH", b"STAR") else State.SELECTED
    command = parse(Reader(data), state)
    assert not isinstance(command, Stretch)
    return command


def fault(text: str | bytes) -> Fault:
    with pytest.raises(Fault) as caught:
        parsed(text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("CAPABILITY", Capability()),
        ("noop", Noop()),
        ("LOGOUT", Logout()),
        ("STARTTLS", StartTLS()),
        ("IDLE", Idle()),
        ("CHECK", Check()),
        ("CLOSE", Close()),
        ("UNSELECT", Unselect()),
        ("EXPUNGE", Expunge(None)),
        ("UID EXPUNGE 1:*", Expunge(ALL)),
        ("NAMESPACE", Namespace()),
        ("LOGIN joe pass]word", Login("joe", "pass]word")),
        ('LOGIN "j\\"oe" "p \\\\ w"', Login('j"oe', "p \\ w")),
        ("LOGIN {3}\r\njoe {4+}\r\np\r\nw", Login("joe", "p\r\nw")),
        ("LOGIN {0}\r\n {5}\r\nj\xc3\xb6e!".encode("latin-1"), Login("", "jöe!")),
        ("AUTHENTICATE plain", Authenticate("PLAIN", None)),
        ("AUTHENTICATE PLAIN AGpvZQBwdw==", Authenticate("PLAIN", b"\0joe\0pw")),
        ("AUTHENTICATE PLAIN =", Authenticate("PLAIN", b"")),
        ("ID NIL", Identify(())),
        ("ID ()", Identify(())),
        ('ID ("name" "x" "os" NIL)', Identify((("name", "x"), ("os", None)))),
        ("SELECT inBox", Select("INBOX", read_only=False)),
        ('EXAMINE "Entw&APw-rfe"', Select("Entwürfe", read_only=True)),
        ("CREATE a/b/", Create("a/b")),
        ("DELETE {5}\r\na b c", Delete("a b c")),
        ("RENAME a b/", Rename("a", "b")),
        ("SUBSCRIBE a]", Subscribe("a]", on=True)),
        ("UNSUBSCRIBE a", Subscribe("a", on=False)),
        ('LIST "" %', List("", ("%",))),
        ('LIST "" ""', List("", ("",))),
        ('LSUB a/ "b *"', ListSubscribed("a/", "b *")),
        ("STATUS a (messages UNSEEN messages)", Status("a", (b"MESSAGES", b"UNSEEN"))),
        ("STORE 1 +flags.silent (\\seen $Junk)", Store(ONE, False, "add", True, frozenset({"\\Seen", "$Junk"}))),
        ("UID STORE 1:* FLAGS ()", Store(ALL, True, "set", False, frozenset())),
        ("STORE 1 -FLAGS \\Deleted \\Draft", Store(ONE, False, "remove", False, frozenset({"\\Deleted", "\\Draft"}))),
        ("COPY 1 a", Copy(ONE, False, "a", move=False)),
        ("UID MOVE 1 inbox", Copy(ONE, True, "INBOX", move=True)),
    ],
)
def test_commands_become_values(text: str | bytes, command: Command) -> None:
    assert parsed(text) == command


FLAGS, UID, DATE, SIZE = Attribute.FLAGS, Attribute.UID, Attribute.INTERNALDATE, Attribute.SIZE


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ("FAST", (FLAGS, DATE, SIZE)),
        ("all", (FLAGS, DATE, SIZE, Attribute.ENVELOPE)),
        ("FULL", (FLAGS, DATE, SIZE, Attribute.ENVELOPE, Attribute.BODY)),
        ("(flags UID FLAGS)", (FLAGS, UID)),
        ("BODY", (Attribute.BODY,)),
        ("RFC822.SIZE", (SIZE,)),
        ("BODY[]", (Section(b"BODY[]"),)),
        ("body.peek[]<0.10>", (Section(b"BODY[]<0>", peek=True, partial=(0, 10)),)),
        ("BODY[1.2.3]", (Section(b"BODY[1.2.3]", (1, 2, 3)),)),
        ("BODY[2.mime]", (Section(b"BODY[2.MIME]", (2,), Text.MIME),)),
        ("BODY[2.TEXT]", (Section(b"BODY[2.TEXT]", (2,), Text.TEXT),)),
        ("BODY[HEADER]", (Section(b"BODY[HEADER]", (), Text.HEADER),)),
        (
            'BODY.PEEK[1.HEADER.FIELDS (From "a b")]<5.1>',
            (Section(b'BODY[1.HEADER.FIELDS (From "a b")]<5>', (1,), Text.FIELDS, (b"From", b"a b"), True, (5, 1)),),
        ),
        (
            "BODY[HEADER.FIELDS.NOT (X)]",
            (Section(b"BODY[HEADER.FIELDS.NOT (X)]", (), Text.FIELDS_NOT, (b"X",)),),
        ),
        ("RFC822", (Section(b"RFC822"),)),
        ("preview", (Attribute.PREVIEW,)),
        ("PREVIEW (Lazy LAZY)", (Attribute.PREVIEW_IF_READY,)),
        ("(PREVIEW (LAZY) FLAGS)", (Attribute.PREVIEW_IF_READY, FLAGS)),
        ("RFC822.HEADER", (Section(b"RFC822.HEADER", text=Text.HEADER, peek=True),)),
        ("RFC822.TEXT", (Section(b"RFC822.TEXT", text=Text.TEXT),)),
    ],
)
def test_fetch_items(items: str, expected: tuple[object, ...]) -> None:
    assert parsed(f"FETCH 1 {items}") == Fetch(ONE, False, expected)


def test_uid_fetch_leaves_the_items_as_they_are() -> None:
    """With UIDONLY the UID is an item only where it was asked for (RFC 9586 §3.3)."""
    assert parsed("UID FETCH 1:* FLAGS") == Fetch(ALL, True, (FLAGS,))
    assert parsed("UID FETCH 1:* (FLAGS UID)") == Fetch(ALL, True, (FLAGS, UID))


@pytest.mark.parametrize(
    "items",
    [
        "()", "(FLAGS", "(FLAGS  UID)", "BODY[", "BODY[]<1>", "BODY[]<1.0>", "BODY[]<-1.5>",
        "BODY[]<0.9223372036854775808>",
        "BODY[0]", "BODY[1.]", "BODY[1..2]", "BODY[MIME]", "BODY[HEADER.FIELDS]", "BODY[HEADER.FIELDS ()]", "BODY[1 ]",
        "BODY[TEXT.1]", "BODY[4294967295.X]", "(FAST)", "BODY.PEEK", "RFC822.PEEK", "FLAGS UID", "",
    ],
)  # fmt: skip
def test_bad_fetch_items_are_refused(items: str) -> None:
    assert fault(f"FETCH 1 {items}").status == "BAD"


def test_a_section_too_deep_is_refused() -> None:
    assert "deep" in fault("FETCH 1 BODY[" + ".".join(["1"] * 5000) + "]").text


def test_a_flood_of_items_is_refused() -> None:
    flood = " ".join(f"BODY[]<{n}.1>" for n in range(999))
    assert "too many" in fault(f"FETCH 1 ({flood})").text


SEEN, RECENT = HasFlag("\\Seen"), HasFlag("\\Recent")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("ALL", And(())),
        ("answered", HasFlag("\\Answered")),
        ("UNDELETED", Not(HasFlag("\\Deleted"))),
        ("NEW", And((RECENT, Not(SEEN)))),
        ("OLD", Not(RECENT)),
        ("KEYWORD $Junk", HasFlag("$Junk")),
        ("UNKEYWORD a", Not(HasFlag("a"))),
        ("1:*", InSet(ALL, by_uid=False)),
        ("*", InSet(SequenceSet(((STAR, STAR),)), by_uid=False)),
        ("UID 1", InSet(ONE, by_uid=True)),
        ("BEFORE 1-Feb-1994", Dated("before", datetime.date(1994, 2, 1), sent=False)),
        ('SENTSINCE "01-feb-1994"', Dated("since", datetime.date(1994, 2, 1), sent=True)),
        ("ON 29-Feb-2024", Dated("on", datetime.date(2024, 2, 29), sent=False)),
        ("LARGER 10", Sized(True, 10)),
        ("SMALLER 0", Sized(False, 0)),
        ("FROM Smith", InHeader("from", "Smith")),
        ('HEADER Message-ID ""', InHeader("message-id", "")),
        ("BODY x", InText("x", header=False)),
        ('TEXT "x y"', InText("x y", header=True)),
        ("SEEN 1", And((SEEN, InSet(ONE, by_uid=False)))),
        ("(SEEN)", SEEN),
        ("NOT (SEEN RECENT)", Not(And((SEEN, RECENT)))),
        ("OR SEEN NOT RECENT", Or((SEEN, Not(RECENT)))),
    ],
)
def test_search_keys(text: str, key: object) -> None:
    assert parsed(f"SEARCH {text}") == Search(key, by_uid=False)  # type: ignore[arg-type]
    assert parsed(f"UID SEARCH {text}") == Search(key, by_uid=True)  # type: ignore[arg-type]


def test_search_text_in_a_literal_with_charset() -> None:
    text = "Österreich".encode()
    command = parsed(b"SEARCH CHARSET utf-8 SUBJECT {%d}\r\n%b" % (len(text), text))
    assert command == Search(InHeader("subject", "Österreich"), by_uid=False, codec="utf-8")
    ascii_only = parsed("SEARCH CHARSET US-ASCII SUBJECT a")
    assert ascii_only == Search(InHeader("subject", "a"), by_uid=False, codec="ascii")


def test_unknown_charset_names_those_that_are_known() -> None:
    refused = fault("SEARCH CHARSET KOI8-R ALL")
    assert (refused.status, refused.code) == ("NO", "BADCHARSET (US-ASCII UTF-8)")


@pytest.mark.parametrize(
    "text",
    [
        "", "NOT", "OR SEEN", "(SEEN", "()", "SEEN  UNSEEN", "BEFORE 30-Feb-2024", "BEFORE 1-Foo-2024", "LARGER -1",
        "LARGER 9223372036854775808",
        "HEADER x", "UID", "UID 0", "BOGUS", "FROM", "KEYWORD (a)", "SEEN)", "CHARSET", "0",
    ],
)  # fmt: skip
def test_bad_search_is_refused(text: str) -> None:
    assert fault(f"SEARCH {text}").status == "BAD"


def test_eight_bit_that_is_not_of_the_charset_is_refused() -> None:
    assert fault(b'SEARCH CHARSET US-ASCII SUBJECT "\xc3\xbc"').status == "BAD"
    assert fault(b'SEARCH SUBJECT "\xfc"').status == "BAD"


@pytest.mark.parametrize("deep", ["(" * 60 + "ALL" + ")" * 60, "NOT " * 60 + "ALL", "OR ALL " * 60 + "ALL"])
def test_search_recursion_is_bounded(deep: str) -> None:
    assert "complex" in fault(f"SEARCH {deep}").text


def test_search_nesting_within_the_bound_works() -> None:
    assert isinstance(parsed("SEARCH " + "(" * 50 + "ALL" + ")" * 50), Search)


def test_a_flood_of_search_keys_is_refused() -> None:
    assert "complex" in fault("SEARCH " + " ".join(["ALL"] * 2000)).text


@pytest.mark.parametrize(
    "text",
    [
        "BOGUS", "", "SELECT", "SELECT ", "SELECT a b", "SELECT  a", "SELECT (", 'SELECT "a', "SELECT a\x00", "NOOP ",
        "NOOP x", "UID NOOP", "UID", "LOGIN a", "STORE 1 FLAGS (\\Recent)", "STORE 1 FLAGS (\\Foo)", "STORE 1 X (a)",
        "STORE 1 FLAGS", "COPY 1", "COPY a b", "STATUS a ()", "STATUS a (BOGUS)", "STATUS a messages", "ID x",
        'ID ("a")', 'ID ("a" "b"', "SELECT {4}\r\nabc", 'SELECT "a\r\nb"', 'SELECT "\\a"', "SELECT {1}\r\n\x00",
    ],
)  # fmt: skip
def test_malformed_commands_are_refused(text: str) -> None:
    assert fault(text).status == "BAD"


@pytest.mark.parametrize(
    "name",
    [
        b'"a\xfcb"',
        b'"\xc2\x85"',
        b'"\xed\xa0\x80"',
        b"a&b",
        b"&AGE-",
        b"&AAo-",
        b"&AAA-",
        b"{3}\r\na\rb",
        b"x" * 1025,
        b'"&IAE-\x07"',
    ],
)
def test_names_that_cannot_be_are_refused_with_no(name: bytes) -> None:
    refused = fault(b"CREATE " + name)
    assert (refused.status, refused.code) == ("NO", "CANNOT")


def test_credentials_that_are_not_utf8_fail_as_credentials() -> None:
    assert fault(b'LOGIN joe "\xff"').code == "AUTHENTICATIONFAILED"


@pytest.mark.parametrize(
    "text", ["AUTHENTICATE PLAIN AA", "AUTHENTICATE PLAIN A===", "AUTHENTICATE PLAIN ==", "AUTHENTICATE"]
)
def test_bad_base64_is_refused(text: str) -> None:
    assert fault(text).status == "BAD"


def test_secrets_stay_out_of_logs() -> None:
    assert "hunter2" not in repr(parsed("LOGIN joe hunter2"))
    assert "hunter2" not in repr(parsed("AUTHENTICATE PLAIN AGpvZQBodW50ZXIy"))


def append_step(data: bytes) -> Append:
    stretch = append_head(Reader(data), 7)
    assert stretch is not None
    (step,) = stretch.steps
    assert isinstance(step, Append)
    return step


def test_append_head() -> None:
    command = append_step(b' Sent (\\Seen a) "17-Jul-1996 02:44:25 -0700" ')
    assert command.mailbox == "Sent"
    assert command.flags == {"\\Seen", "a"}
    assert command.internal_date == 837596665.0
    assert command.size == 7
    plain = append_step(b" inbox ")
    assert (plain.mailbox, plain.flags, plain.internal_date) == ("INBOX", frozenset(), None)


@pytest.mark.parametrize(
    "date",
    [
        b"32-Jan-2000 00:00:00 +0000", b" 0-Jan-2000 00:00:00 +0000", b"01-Jan-2000 24:00:00 +0000",
        b"01-Jan-0000 00:00:00 +0000", b"1-Jan-2000 00:00:00 +0000", b"01-Jan-2000 00:00:00 GMT",
    ],
)  # fmt: skip
def test_bad_dates_are_refused(date: bytes) -> None:
    with pytest.raises(Fault):
        append_head(Reader(b' a "' + date + b'" '), 1)


@given(st.binary(max_size=80), st.sampled_from([state for state in State if state is not State.LOGOUT]))
@example(b"SUBSCRIBE", State.NOT_AUTHENTICATED)
@example(b"LOGIN", State.SELECTED)
def test_garbage_is_a_fault_and_nothing_else(data: bytes, state: State) -> None:
    try:
        parse(Reader(data), state)
    except Fault as refused:
        assert refused.status in ("BAD", "NO")


@given(
    st.sampled_from(["FETCH", "UID FETCH", "SEARCH", "STORE", "STATUS", "LIST", "ID", "SELECT", "COPY", "LOGIN"]),
    st.lists(
        st.sampled_from(
            [
                "1", ":", "*", ",", " ", "(", ")", "[", "]", "<", ">", "BODY", "HEADER.FIELDS", ".", "FLAGS", '"a"',
                "{2}\r\nab", "OR", "NOT", "NIL", "+FLAGS", "%", "4294967296", "{9}\r\n", '"', "a", "1-Jan-2000",
                "SUBJECT", "\\Seen",
            ]
        ),
        max_size=12,
    ),
)  # fmt: skip
def test_almost_right_commands_never_raise_anything_else(name: str, tokens: list[str]) -> None:
    try:
        command = parsed(name + " " + "".join(tokens), State.SELECTED)
    except Fault as refused:
        assert refused.text
    else:
        assert repr(command)
