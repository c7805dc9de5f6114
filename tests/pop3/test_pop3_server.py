"""The POP3 engine: grammar, states, stuffing, attacks."""

from __future__ import annotations

import base64
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.pop3 import ServerConnection, State
from mailserver.pop3.events import (
    UTF8,
    Auth,
    AuthResponse,
    Capa,
    Dele,
    Event,
    Lang,
    List,
    Mechanisms,
    Noop,
    Pass,
    Quit,
    Rejected,
    Retr,
    Rset,
    StartTLS,
    Stat,
    Top,
    Uidl,
    User,
)

COMMANDS: dict[bytes, Event] = {
    b"USER alice@example.test": User("alice@example.test"),
    b"PASS secret": Pass("secret"),
    b"AUTH PLAIN": Auth("PLAIN", None),
    b"AUTH": Mechanisms(),
    b"STLS": StartTLS(),
    b"UTF8": UTF8(),
    b"LANG": Lang(None),
    b"LANG en-GB": Lang("en-GB"),
    b"LANG *": Lang("*"),
    b"CAPA": Capa(),
    b"STAT": Stat(),
    b"LIST": List(None),
    b"LIST 2": List(2),
    b"UIDL": Uidl(None),
    b"UIDL 3": Uidl(3),
    b"RETR 1": Retr(1),
    b"TOP 1 10": Top(1, 10),
    b"DELE 4": Dele(4),
    b"NOOP": Noop(),
    b"RSET": Rset(),
    b"QUIT": Quit(),
}
BEFORE_LOGIN = {User, Auth, Mechanisms, StartTLS, Capa, UTF8, Lang, Quit}
ALLOWED: dict[State, set[type[Event]]] = {
    State.AUTHORIZATION: BEFORE_LOGIN,
    State.NAMED: BEFORE_LOGIN | {Pass},
    State.EXCHANGE: set(),
    State.TRANSACTION: {Capa, Lang, Stat, List, Uidl, Retr, Top, Dele, Noop, Rset, Quit},
}


def connection(state: State = State.AUTHORIZATION, line_limit: int = 512) -> ServerConnection:
    engine = ServerConnection(line_limit=line_limit)
    if state is State.NAMED:
        answer_ok(engine, b"USER alice\r\n")
    elif state is State.EXCHANGE:
        engine.receive_data(b"AUTH PLAIN\r\n")
        assert engine.next_event() == Auth("PLAIN", None)
        engine.continuation(b"")
    elif state is State.TRANSACTION:
        answer_ok(engine, b"USER alice\r\nPASS secret\r\n")
    elif state is State.UPDATE:
        answer_ok(engine, b"QUIT\r\n")
    assert engine.state is state
    engine.data_to_send()
    return engine


def answer_ok(engine: ServerConnection, data: bytes) -> list[Event]:
    """All events of `data`, each answered as a friendly session without TLS would."""
    engine.receive_data(data)
    events = []
    while (event := engine.next_event()) is not None:
        events.append(event)
        if isinstance(event, Rejected | StartTLS):
            engine.error("no")
        elif isinstance(event, Auth) and event.initial is None:
            engine.continuation(b"")
        else:
            engine.ok()
    return events


def unstuffed(answer: bytes) -> bytes:
    """What a client makes of a multi-line answer (RFC 1939 §3), without its status line."""
    _, _, rest = answer.partition(b"\r\n")
    content = b""
    while not rest.startswith(b".\r\n"):
        line, end, rest = rest.partition(b"\n")  # as most clients do, and so more lines than there are
        assert end, "the answer has no end"
        content += line.removeprefix(b".") + end
    assert rest == b".\r\n", "there is more after the end"
    return content


@pytest.mark.parametrize(("line", "event"), COMMANDS.items())
@pytest.mark.parametrize("state", ALLOWED)
def test_every_command_in_every_state(state: State, line: bytes, event: Event) -> None:
    engine = connection(state)
    engine.receive_data(line + b"\r\n")
    got = engine.next_event()
    if type(event) in ALLOWED[state]:
        assert got == event
    elif state is State.EXCHANGE and len(line) == 4:
        assert got == AuthResponse(base64.b64decode(line))  # a response like any other, never a command
    else:
        assert isinstance(got, Rejected)


def test_nothing_is_read_after_quit() -> None:
    engine = connection(State.UPDATE)
    engine.receive_data(b"CAPA\r\n" * 1000)
    assert engine.next_event() is None
    assert engine.buffered == 0


@pytest.mark.parametrize(
    ("state", "line", "ok", "error"),
    [
        (State.AUTHORIZATION, b"USER a", State.NAMED, State.AUTHORIZATION),
        (State.NAMED, b"USER a", State.NAMED, State.AUTHORIZATION),
        (State.NAMED, b"PASS a", State.TRANSACTION, State.AUTHORIZATION),
        (State.NAMED, b"CAPA", State.NAMED, State.NAMED),
        (State.NAMED, b"STLS", State.AUTHORIZATION, State.NAMED),
        (State.AUTHORIZATION, b"AUTH PLAIN", State.TRANSACTION, State.AUTHORIZATION),
        (State.NAMED, b"AUTH PLAIN", State.TRANSACTION, State.AUTHORIZATION),
        (State.EXCHANGE, b"AGEAYg==", State.TRANSACTION, State.AUTHORIZATION),
        (State.TRANSACTION, b"RETR 1", State.TRANSACTION, State.TRANSACTION),
        (State.AUTHORIZATION, b"QUIT", State.UPDATE, State.AUTHORIZATION),
        (State.TRANSACTION, b"QUIT", State.UPDATE, State.UPDATE),
    ],
)
def test_the_answer_commits_the_change_of_state(state: State, line: bytes, ok: State, error: State) -> None:
    for positive, after in ((True, ok), (False, error)):
        engine = connection(state)
        engine.receive_data(line + b"\r\n")
        assert engine.next_event() is not None
        assert engine.state is state
        if positive:
            engine.ok()
        else:
            engine.error("no")
        assert engine.state is after


def test_events_come_one_at_a_time() -> None:
    engine = connection(State.TRANSACTION)
    engine.receive_data(b"NOOP\r\nSTAT\r\n")
    assert engine.next_event() == Noop()
    assert engine.next_event() is None
    engine.ok()
    assert engine.next_event() == Stat()


def test_keywords_in_any_case_and_lines_without_cr() -> None:
    assert answer_ok(connection(), b"uSeR alice\npass secret\r\nretr 1\n") == [User("alice"), Pass("secret"), Retr(1)]


def test_a_password_keeps_its_spaces_and_letters() -> None:
    events = answer_ok(connection(State.NAMED), "PASS  corr\u00e8ct  horse \r\n".encode())
    assert events == [Pass(" corr\u00e8ct  horse ")]


def test_no_secret_in_the_representation_of_an_event() -> None:
    for event in (Pass("hunter2"), Auth("PLAIN", b"\0a\0hunter2"), AuthResponse(b"\0a\0hunter2")):
        assert "hunter2" not in repr(event)


def test_initial_response_of_auth() -> None:
    assert answer_ok(connection(), b"AUTH plain AGEAYg==\r\n") == [Auth("PLAIN", b"\0a\0b")]
    assert answer_ok(connection(), b"AUTH PLAIN =\r\n") == [Auth("PLAIN", b"")]
    assert answer_ok(connection(), b"AUTH PLAIN @@@@\r\n") == [
        Rejected("write AUTH mechanism, and the initial response in base64")
    ]


def test_a_challenge_and_its_response() -> None:
    engine = connection()
    engine.receive_data(b"AUTH LOGIN\r\n")
    assert engine.next_event() == Auth("LOGIN", None)
    engine.continuation(b"Username:")
    assert engine.data_to_send() == b"+ VXNlcm5hbWU6\r\n"
    engine.receive_data(b"YWxpY2U=\r\n")
    assert engine.next_event() == AuthResponse(b"alice")
    engine.continuation(b"")
    assert engine.data_to_send() == b"+ \r\n"
    engine.receive_data(b"\r\n")
    assert engine.next_event() == AuthResponse(b"")


@pytest.mark.parametrize("line", [b"*", b"not base64!", b"AGEAYg=", b"\xff", b"A" * 20000])
def test_a_cancelled_or_malformed_exchange_leads_back_to_commands(line: bytes) -> None:
    engine = connection(State.EXCHANGE)
    (first, *rest) = answer_ok(engine, line + b"\r\nCAPA\r\n")
    assert isinstance(first, Rejected)
    assert rest == [Capa()]
    assert engine.state is State.AUTHORIZATION


def test_a_response_may_be_longer_than_a_command() -> None:
    secret = b"\0" + b"u" * 1000 + b"\0" + b"p" * 1000
    assert answer_ok(connection(State.EXCHANGE), base64.b64encode(secret) + b"\r\n") == [AuthResponse(secret)]


# Attacks


@pytest.mark.parametrize(
    "argument",
    [b"-1", b"+1", b"1" * 1000, b"1.0", b"0x1", b" 1", b"1 ", b"1 1", b"", "\u0661".encode(), b"\xb2", b"1,2", b"1:2"],
)
def test_odd_message_numbers_are_refused(argument: bytes) -> None:
    assert answer_ok(connection(State.TRANSACTION, 2048), b"RETR " + argument + b"\r\n") == [
        Rejected("write RETR and a message number")
    ]


def test_large_numbers_within_reason_are_numbers() -> None:
    line = b"TOP 1 18446744073709551615\r\nRETR 00000000000000000001\r\n"
    assert answer_ok(connection(State.TRANSACTION), line) == [Top(1, 2**64 - 1), Retr(1)]


@pytest.mark.parametrize(
    "line",
    [b"NO\0OP", b"USER a\0b", b"USER a\rQUIT", b"\0", b"USER \xff\xfe", b"GET / HTTP/1.1", b"", b" ", b"XCLIENT"],
)
def test_bad_lines_are_refused(line: bytes) -> None:
    (event,) = answer_ok(connection(), line + b"\r\n")
    assert isinstance(event, Rejected)


def test_an_overlong_line_is_refused_once_and_thrown_away() -> None:
    engine = connection(line_limit=512)
    engine.receive_data(b"USER " + b"a" * 507)
    (event,) = answer_ok(engine, b"")
    assert event == Rejected("line too long")
    for _ in range(100):
        assert answer_ok(engine, b"QUIT " * 10000) == []
        assert engine.buffered == 0
    assert answer_ok(engine, b"\r\nCAPA\r\n") == [Capa()]


def test_a_command_with_a_secret_in_it_may_be_longer_than_others() -> None:
    token = b"x" * 6000
    (event,) = answer_ok(connection(), b"auth XOAUTH2 " + base64.b64encode(token) + b"\r\n")
    assert event == Auth("XOAUTH2", token)
    for command in (b"AUTH X " + b"A" * 12288, b"USER " + b"A" * 600, b"AUTHOR " + b"A" * 600):
        assert answer_ok(connection(), command + b"\r\n") == [Rejected("line too long")]


def test_the_longest_line_is_taken() -> None:
    line = b"USER " + b"a" * (512 - 7) + b"\r\n"
    assert answer_ok(connection(line_limit=512), line) == [User("a" * 505)]
    assert answer_ok(connection(line_limit=511), line) == [Rejected("line too long")]


def test_plaintext_injected_behind_stls_is_dropped() -> None:
    engine = connection(State.NAMED)
    engine.receive_data(b"STLS\r\nUSER mallory\r\nPASS x\r\nhalf a li")
    assert engine.next_event() == StartTLS()
    engine.ok("begin TLS negotiation")
    assert engine.buffered == 0
    assert engine.next_event() is None
    assert answer_ok(engine, b"PASS secret\r\n") == [Rejected("give USER first")]


def test_a_refused_stls_drops_nothing() -> None:
    engine = connection()
    engine.receive_data(b"STLS\r\nCAPA\r\n")
    assert engine.next_event() == StartTLS()
    engine.error("no")
    assert engine.next_event() == Capa()


def test_the_text_of_an_answer_is_one_line_of_512_octets() -> None:
    engine = connection()
    engine.greet("a\r\n+OK b\0\x7f\u00e4" + "c" * 1000)
    answer = engine.data_to_send()
    assert answer.startswith(b"+OK a??+OK b???ccc")
    assert len(answer) == 512
    assert answer.count(b"\r\n") == 1


def test_an_answer_without_a_question_is_a_fault_of_the_caller() -> None:
    for answer in (lambda e: e.ok(), lambda e: e.error("no"), lambda e: e.continuation(b""), lambda e: e.end_content()):
        with pytest.raises(RuntimeError):
            answer(connection())


def test_response_codes() -> None:
    engine = connection(State.NAMED)
    engine.receive_data(b"PASS x\r\n")
    engine.next_event()
    engine.error("no", "AUTH")
    assert engine.data_to_send() == b"-ERR [AUTH] no\r\n"


# Content


def content_answer(chunks: list[bytes]) -> bytes:
    engine = connection(State.TRANSACTION)
    engine.receive_data(b"RETR 1\r\n")
    assert engine.next_event() == Retr(1)
    engine.multiline()
    for chunk in chunks:
        engine.send_content(chunk)
    engine.end_content()
    return engine.data_to_send()


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"", b".\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"..\r\n.a\r\n", b"...\r\n..a\r\n.\r\n"),
        (b"\r\n.\r\n.\r\n", b"\r\n..\r\n..\r\n.\r\n"),
        (b"a\r", b"a\r\r\n.\r\n"),
        (b"a\n.\r\n", b"a\n..\r\n.\r\n"),  # a client that ends lines at LF must not see an end here
        (b"\xe4\xff\r\n", b"\xe4\xff\r\n.\r\n"),
    ],
)
def test_stuffing_in_any_split_of_three(content: bytes, wire: bytes) -> None:
    size = len(content) + 1
    for one, two in product(range(size), range(size)):
        assert content_answer([content[:one], content[one:two], content[max(one, two) :]]) == b"+OK\r\n" + wire


@given(st.lists(st.lists(st.sampled_from([b".", b"\r", b"\n", b"\r\n", b"a", b"\xff", b"\0"])).map(b"".join)))
def test_a_client_gets_the_same_octets_back(chunks: list[bytes]) -> None:
    content = b"".join(chunks)
    expected = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
    assert unstuffed(content_answer(chunks)) == expected


def test_long_lines_pass_unchanged() -> None:
    content = b"." * 1_000_000 + b"\r\n"
    assert unstuffed(content_answer([content[:65536], content[65536:]])) == content


# Properties

LINES = st.lists(
    st.one_of(
        st.sampled_from([*COMMANDS, b"*", b"AUTH LOGIN", b"AUTH PLAIN AGEAYg==", b"AGEAYg==", b"USER " + b"x" * 600]),
        st.binary(max_size=20),
    ).flatmap(lambda line: st.sampled_from([line + b"\r\n", line + b"\n"])),
    max_size=12,
).map(b"".join)


@given(LINES, st.lists(st.integers(0, 600), max_size=10))
def test_any_split_of_the_same_input_gives_the_same_events(data: bytes, cuts: list[int]) -> None:
    whole, cut = connection(), connection()
    expected = answer_ok(whole, data)
    bounds = [0, *sorted(min(at, len(data)) for at in cuts), len(data)]
    events = [event for start, end in pairwise(bounds) for event in answer_ok(cut, data[start:end])]
    assert events == expected
    assert cut.data_to_send() == whole.data_to_send()
    assert cut.state is whole.state


@given(st.lists(st.binary(max_size=700)), st.sampled_from(list(ALLOWED)))
def test_garbage_never_raises(chunks: list[bytes], state: State) -> None:
    engine = connection(state)
    for chunk in chunks:
        answer_ok(engine, chunk)
        assert engine.buffered < 12288
    for line in engine.data_to_send().splitlines(keepends=True):
        assert line.startswith((b"+OK", b"-ERR ", b"+ ")) and line.endswith(b"\r\n")
