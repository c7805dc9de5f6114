"""The engine: literals, states, refusals, bounds, and that no split of the input matters."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap import (
    AppendEnded,
    AppendNext,
    AppendPart,
    AppendStarted,
    AuthResponse,
    Event,
    IdleEnded,
    Limits,
    LiteralChunk,
    Rejected,
    Request,
    ServerConnection,
    State,
)
from mailserver.imap.commands import GRAMMARS, Append, Authenticate, Idle, Login, Noop, Select, StartTLS

SMALL = Limits(line=1024, literal=1024, message=5000, before_login=64, discard_before_login=3000)


class Driver:
    """Answers every event at once, and writes down what came."""

    def __init__(self, state: State = State.SELECTED, *, take_append: bool = True) -> None:
        self.engine = ServerConnection(SMALL)
        self.engine.state = state
        self.take_append = take_append
        self.events: list[Event] = []
        self.sent = b""

    def feed(self, data: bytes) -> "Driver":
        self.engine.receive_data(data)
        while (event := self.engine.next_event()) is not None:
            last = self.events[-1] if self.events else None
            if isinstance(event, LiteralChunk) and isinstance(last, LiteralChunk):
                self.events[-1] = LiteralChunk(last.data + event.data)
            else:
                self.events.append(event)
            self.answer(event)
        self.sent += self.engine.data_to_send()
        return self

    def answer(self, event: Event) -> None:
        match event:
            case Rejected():
                self.engine.reject(event)
            case AppendStarted(tag) if not self.take_append:
                self.engine.done(tag, "NO", "refused")
            case AppendStarted() | AppendNext() | AppendPart():
                self.engine.accept()
            case Request(_, Idle()):
                self.engine.idling()
            case Request(_, Authenticate(_, None)):
                self.engine.challenge(b"who?")
            case Request(tag) | AppendEnded(tag) | IdleEnded(tag) | AuthResponse(tag):
                self.engine.done(tag, "OK", "done")


def test_one_event_at_a_time() -> None:
    engine = ServerConnection(SMALL)
    engine.receive_data(b"a NOOP\r\nb NOOP\r\n")
    assert engine.next_event() == Request("a", Noop())
    assert engine.next_event() is None
    engine.done("a", "OK", "done")
    assert engine.next_event() == Request("b", Noop())
    engine.done("b", "OK", "done")
    assert engine.data_to_send() == b"a OK done\r\nb OK done\r\n"
    assert engine.data_to_send() == b""


def test_a_waiting_literal_is_asked_for_and_a_hasty_one_is_not() -> None:
    driver = Driver(State.NOT_AUTHENTICATED).feed(b"a LOGIN {3}\r\n")
    assert driver.sent == b"+ OK\r\n"
    driver.feed(b"joe {2+}\r\npw\r\n")
    assert driver.events == [Request("a", Login("joe", "pw"))]
    assert driver.sent == b"+ OK\r\na OK done\r\n"
    assert driver.engine.state is State.AUTHENTICATED


@pytest.mark.parametrize(
    "line",
    [b"a BOGUS {5}\r\n", b"a NOOP2 {5}\r\n", b"a LOGIN {5}\r\n", b"a SELECT {1025}\r\n", b"a SELECT {4294967295}\r\n"],
)
def test_a_literal_that_is_not_wanted_is_refused_before_it_is_sent(line: bytes) -> None:
    driver = Driver().feed(line)
    assert driver.sent.startswith(b"a BAD ")
    assert driver.feed(b"b NOOP\r\n").events[-1] == Request("b", Noop())


@pytest.mark.parametrize("size", [1025, 4999])
def test_a_hasty_literal_over_the_limit_is_read_and_dropped(size: int) -> None:
    driver = Driver().feed(b"a SELECT {%d+}\r\n" % size)
    for _ in range(size):
        driver.feed(b"\n")
        assert driver.engine.buffered == 0
    driver.feed(b" {3+}\r\nx\r\n trailing\r\nb NOOP\r\n")
    assert [type(event) for event in driver.events] == [Rejected, Request]
    assert driver.sent.startswith(b"a BAD [TOOBIG]")


def test_an_absurd_literal_ends_the_connection() -> None:
    for announcement in (b"{4294967295+}", b"{99999999999999999999+}", b"{20001+}"):
        driver = Driver().feed(b"a SELECT " + announcement + b"\r\nb NOOP\r\n")
        assert driver.sent.startswith(b"* BYE [TOOBIG]")
        assert driver.engine.state is State.LOGOUT
        assert driver.engine.buffered == 0
        assert driver.engine.next_event() is None


def test_a_flood_of_hasty_literals_ends_the_connection() -> None:
    driver = Driver().feed(b"a BOGUS {4000+}\r\n")
    for _ in range(10):
        driver.feed(b"x" * 4000 + b" {4000+}\r\n")
    assert driver.sent.startswith(b"* BYE")


def test_before_login_literals_are_small() -> None:
    driver = Driver(State.NOT_AUTHENTICATED).feed(b"a LOGIN {65}\r\nb LOGIN {3001+}\r\n")
    assert driver.sent.startswith(b"a BAD [TOOBIG]")
    assert b"* BYE" in driver.sent
    many = Driver(State.NOT_AUTHENTICATED).feed(b"a LOGIN {40+}\r\n" + b"u" * 40 + b" {40}\r\n")
    assert many.sent.startswith(b"a BAD [TOOBIG]"), "the bound is on all literals of a command"


def test_append_streams_its_message() -> None:
    driver = Driver(State.AUTHENTICATED).feed(
        b'a APPEND {4}\r\nSent (\\Seen) "17-Jul-1996 02:44:25 -0700" {12}\r\n'[:14]
    )
    assert driver.sent == b"+ OK\r\n"
    driver.feed(b'Sent (\\Seen) "17-Jul-1996 02:44:25 -0700" {12}\r\n')
    assert driver.events == [AppendStarted("a", Append("Sent", frozenset({"\\Seen"}), 837596665.0, 12, zone=-420))]
    driver.feed(b"a: b\r\n").feed(b"\r\nbody").feed(b"\r\nb NOOP\r\n")
    assert driver.events[1:] == [LiteralChunk(b"a: b\r\n\r\nbody"), AppendEnded("a"), Request("b", Noop())]
    assert driver.sent == b"+ OK\r\n+ OK\r\na OK done\r\nb OK done\r\n"


def test_a_big_append_never_lies_in_one_buffer() -> None:
    engine = ServerConnection(Limits())
    engine.state = State.AUTHENTICATED
    engine.receive_data(b"a APPEND x {52428800+}\r\n")
    assert isinstance(engine.next_event(), AppendStarted)
    engine.accept()
    got = 0
    for _ in range(800):
        engine.receive_data(b"x" * 65536)
        while (event := engine.next_event()) is not None:
            assert isinstance(event, LiteralChunk)
            got += len(event.data)
        assert engine.buffered == 0
    assert got == 52428800
    engine.receive_data(b"\r\n")
    assert engine.next_event() == AppendEnded("a")


def test_several_messages_in_one_append() -> None:
    """RFC 3502."""
    driver = Driver().feed(b"a APPEND Sent (\\Seen) {3+}\r\n1\r\n")
    driver.feed(b' (\\Draft) "17-Jul-1996 02:44:25 -0700" {3}\r\n')
    driver.feed(b"2\r\n {3+}\r\n3\r\n\r\nb NOOP\r\n")
    assert driver.events == [
        AppendStarted("a", Append("Sent", frozenset({"\\Seen"}), None, 3)),
        LiteralChunk(b"1\r\n"),
        AppendNext("a", Append("Sent", frozenset({"\\Draft"}), 837596665.0, 3, zone=-420)),
        LiteralChunk(b"2\r\n"),
        AppendNext("a", Append("Sent", frozenset(), None, 3)),
        LiteralChunk(b"3\r\n"),
        AppendEnded("a"),
        Request("b", Noop()),
    ]
    assert driver.sent == b"+ OK\r\na OK done\r\nb OK done\r\n"


def test_a_refused_append_takes_its_message_along() -> None:
    hasty = Driver(take_append=False).feed(b"a APPEND x {6+}\r\nb NOOP\r\nc NOOP\r\n")
    assert [type(event) for event in hasty.events] == [AppendStarted, Request]
    assert hasty.sent == b"a NO refused\r\nc OK done\r\n"
    waiting = Driver(take_append=False).feed(b"a APPEND x {6}\r\nb NOOP\r\n")
    assert waiting.sent == b"a NO refused\r\nb OK done\r\n"


def test_append_over_the_limit_is_refused() -> None:
    assert Driver().feed(b"a APPEND x {5001}\r\n").sent.startswith(b"a NO [TOOBIG]")
    driver = Driver().feed(b"a APPEND x {5001+}\r\n" + b"x" * 5001 + b"\r\nb NOOP\r\n")
    assert driver.sent.startswith(b"a NO [TOOBIG]")
    assert driver.sent.endswith(b"b OK done\r\n")
    assert not any(isinstance(event, LiteralChunk) for event in driver.events)


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"a APPEND x {0}\r\n", b"a NO"),
        (b"a APPEND x\r\n", b"a BAD"),
        (b"a APPEND x (\\Recent) {5}\r\n", b"a BAD"),
        (b"a APPEND x  {5}\r\n", b"a BAD"),
        (b"a APPEND x y {5}\r\n", b"a BAD"),
        (b"a APPEND {5}\r\n", b"+ OK"),
        (b"a APPEND {9999}\r\n", b"a BAD [TOOBIG]"),
        (b"a APPEND x ~{5}\r\n", b"+ OK"),
        (b"a APPEND ~{5}\r\n", b"a BAD"),
        (b"a APPEND x ~{5+}\r\nh\0llo\r\n", b"a NO [UNKNOWN-CTE]"),
        (b"a APPEND x {5}\r\nhello more\r\n", b"+ OK\r\na BAD"),
        (b"a APPEND x {5}\r\nh\0llo\r\n", b"+ OK\r\na NO"),
        (b"a APPEND x {5+}\r\nhello x {6+}\r\nabcdef\r\n", b"a BAD"),
    ],
)
def test_odd_appends(data: bytes, answer: bytes) -> None:
    driver = Driver().feed(data)
    assert driver.sent.startswith(answer)


def test_append_before_login_is_refused_at_once() -> None:
    assert Driver(State.NOT_AUTHENTICATED).feed(b"a APPEND x {5}\r\n").sent.startswith(b"a BAD log in first")


def test_authenticate_exchange() -> None:
    driver = Driver(State.NOT_AUTHENTICATED).feed(b"a AUTHENTICATE PLAIN\r\n")
    assert driver.sent == b"+ " + base64.b64encode(b"who?") + b"\r\n"
    driver.feed(base64.b64encode(b"\0joe\0pw") + b"\r\n")
    assert driver.events[-1] == AuthResponse("a", b"\0joe\0pw")
    assert driver.engine.state is State.AUTHENTICATED


@pytest.mark.parametrize("answer", [b"*", b"!!!", b"AA", b"x" * 2000])
def test_authenticate_can_be_cancelled_or_fail(answer: bytes) -> None:
    driver = Driver(State.NOT_AUTHENTICATED).feed(b"a AUTHENTICATE PLAIN\r\n" + answer + b"\r\nb NOOP\r\n")
    assert isinstance(driver.events[1], Rejected)
    assert b"\r\na BAD " in driver.sent
    assert driver.engine.state is State.NOT_AUTHENTICATED
    assert driver.events[2] == Request("b", Noop())


def test_an_empty_auth_response_is_empty() -> None:
    driver = Driver(State.NOT_AUTHENTICATED).feed(b"a AUTHENTICATE PLAIN\r\n\r\n")
    assert driver.events[-1] == AuthResponse("a", b"")


def test_idle_ends_with_done() -> None:
    driver = Driver().feed(b"a IDLE\r\n")
    assert driver.sent == b"+ idling\r\n"
    driver.feed(b"done\r\n")
    assert driver.events[-1] == IdleEnded("a")


def test_idle_ended_by_anything_else_is_bad() -> None:
    driver = Driver().feed(b"a IDLE\r\nb NOOP\r\nc NOOP\r\n")
    assert driver.sent.startswith(b"+ idling\r\na BAD ")
    assert driver.sent.endswith(b"c OK done\r\n")


def test_starttls_drops_what_was_injected() -> None:
    driver = Driver(State.NOT_AUTHENTICATED).feed(b"a STARTTLS\r\nb LOGIN joe pw\r\nc LOGIN {3")
    assert driver.events == [Request("a", StartTLS())]
    assert driver.engine.buffered == 0
    assert driver.feed(b"d NOOP\r\n").events[-1] == Request("d", Noop())


def test_a_failed_select_leaves_none_selected() -> None:
    engine = ServerConnection(SMALL)
    engine.state = State.SELECTED
    engine.receive_data(b"a SELECT x\r\n")
    assert engine.next_event() == Request("a", Select("x", read_only=False))
    assert engine.state is State.SELECTED, "nothing changes before the answer"
    engine.done("a", "NO", "none such", "NONEXISTENT")
    assert engine.state is State.AUTHENTICATED


@pytest.mark.parametrize(
    "line", [b"\r\n", b" a NOOP\r\n", b"+ NOOP\r\n", b"a(b NOOP\r\n", b"\x00 NOOP\r\n", b"a\x00b\r\n"]
)
def test_without_a_tag_the_answer_is_untagged(line: bytes) -> None:
    assert Driver().feed(line).sent.startswith(b"* BAD ")


def test_an_overlong_line_is_answered_with_its_tag() -> None:
    driver = Driver().feed(b"tag SELECT " + b"x" * 5000 + b"\r\nb NOOP\r\n")
    assert driver.sent.startswith(b"tag BAD the command is too long")
    assert driver.events[-1] == Request("b", Noop())


def test_lines_between_literals_count_together() -> None:
    driver = Driver().feed(
        b"a SEARCH SUBJECT {1+}\r\nx " + b"y" * 600 + b" {1+}\r\nx " + b"y" * 600 + b" {1+}\r\nz\r\n"
    )
    assert driver.sent.startswith(b"a BAD the command is too long")


def test_many_small_literals_are_fast() -> None:
    driver = Driver()
    driver.engine = ServerConnection(Limits())
    driver.engine.state = State.SELECTED
    driver.feed(b"a SEARCH" + b" SUBJECT {1+}\r\nx" * 3000 + b"\r\n")
    assert driver.sent.startswith(b"a BAD the search is too complex")


ARGUMENTS = {
    b"AUTHENTICATE": b" PLAIN", b"LOGIN": b" a b", b"ID": b" NIL", b"SELECT": b" x", b"EXAMINE": b" x",
    b"CREATE": b" x", b"DELETE": b" x", b"RENAME": b" x y", b"SUBSCRIBE": b" x", b"UNSUBSCRIBE": b" x",
    b"LIST": b' "" *', b"LSUB": b' "" *', b"STATUS": b" x (UNSEEN)", b"APPEND": b" x {1+}\r\ny", b"SEARCH": b" ALL",
    b"FETCH": b" 1 FLAGS", b"STORE": b" 1 FLAGS ()", b"COPY": b" 1 x", b"MOVE": b" 1 x", b"UID EXPUNGE": b" 1",
    b"THREAD": b" REFS UTF-8 ALL", b"UID THREAD": b" REFS UTF-8 ALL",
    b"SORT": b" (DATE) UTF-8 ALL", b"UID SORT": b" (DATE) UTF-8 ALL",
    b"UID SEARCH": b" ALL", b"UID FETCH": b" 1 FLAGS", b"UID STORE": b" 1 FLAGS ()", b"UID COPY": b" 1 x",
    b"GETMETADATA": b" x /private/y", b"SETMETADATA": b" x (/private/y NIL)",
    b"GETQUOTA": b" x", b"GETQUOTAROOT": b" x", b"SETQUOTA": b" x ()",
    b"UID MOVE": b" 1 x", b"COMPRESS": b" DEFLATE", b"REPLACE": b" 1 x {1+}\r\ny",
    b"UID REPLACE": b" 1 x {1+}\r\ny", b"ENABLE": b" X", b"NOTIFY": b" NONE", b"CANCELUPDATE": b' "x"',
    b"UIDBATCHES": b" 500", b"ESEARCH": b" IN (personal) ALL",
    b"GENURLAUTH": b" x INTERNAL", b"URLFETCH": b" x",
}  # fmt: skip


@pytest.mark.parametrize("state", [State.NOT_AUTHENTICATED, State.AUTHENTICATED, State.SELECTED])
@pytest.mark.parametrize("name", GRAMMARS)
def test_every_command_in_every_state(name: bytes, state: State) -> None:
    driver = Driver(state).feed(b"a " + name + ARGUMENTS.get(name, b"") + b"\r\n")
    allowed = state in GRAMMARS[name].states
    assert isinstance(driver.events[0], Rejected) != allowed
    assert (b"a BAD" in driver.sent) != allowed


def test_the_states_of_commands_are_those_of_the_rfc() -> None:
    """RFC 3501 §6: what each state allows."""
    before = {n for n, g in GRAMMARS.items() if State.NOT_AUTHENTICATED in g.states}
    selected_only = {n for n, g in GRAMMARS.items() if g.states == {State.SELECTED}}
    assert before == {b"CAPABILITY", b"NOOP", b"LOGOUT", b"ID", b"STARTTLS", b"AUTHENTICATE", b"LOGIN"}
    assert {b"CHECK", b"CLOSE", b"EXPUNGE", b"SEARCH", b"FETCH", b"STORE", b"COPY", b"UID FETCH"} <= selected_only
    assert not any(State.LOGOUT in g.states for g in GRAMMARS.values())


def test_nothing_is_taken_after_logout() -> None:
    driver = Driver().feed(b"a LOGOUT\r\nb NOOP\r\n")
    assert driver.sent == b"a OK done\r\n"
    assert driver.feed(b"c NOOP\r\n").sent == b"a OK done\r\n"
    assert driver.engine.buffered == 0


def test_an_answer_that_comes_after_bye_is_not_said() -> None:
    """A login that is still being looked at when its time is over."""
    engine = ServerConnection(SMALL)
    engine.receive_data(b"a LOGIN x y\r\n")
    assert isinstance(engine.next_event(), Request)
    engine.bye("Autologout")
    engine.done("a", "NO", "refused")
    assert engine.data_to_send() == b"* BYE Autologout\r\n"
    assert engine.state is State.LOGOUT


CONVERSATION = (
    b"a NOOP\r\nb SELECT {5}\r\nINBOX\r\nc FETCH 1:* (FLAGS BODY[]<0.5>)\r\nbogus\r\nd BOGUS {9+}\r\n1 NOOP\r\n!\r\n"
    b"e APPEND Sent (\\Seen) {12+}\r\nx: y\r\n\r\nz {\r\nf SEARCH SUBJECT {3+}\r\n\r\nx NOT SEEN\r\n\x00\xff\r\n"
    b"g IDLE\r\nDONE\r\nh APPEND {4+}\r\nSent {5001+}\r\n" + b"y\r\n" * 1667 + b" {2+}\r\n\r\n\r\ni UID SEARCH ALL\r\n"
    b"j SELECT "
    + b"x"
    * 1500
    + b" {3+}\r\n\r\n\n\r\nk IDLE\r\nl NOOP\r\nm APPEND a {3}\r\n\x00ab\r\nn CLOSE\r\no FETCH 1 UID\r\n"
    b"p APPEND a {3}\r\nabc (\\Seen) {4}\r\nabcd {1+}\r\n\n\r\nq APPEND a {1+}\r\nx {5001+}\r\n"
    + b"y\r\n" * 1667
    + b"\r\nr NOOP\r\n"
)


@given(st.lists(st.integers(1, len(CONVERSATION) - 1), max_size=20))
def test_any_split_gives_the_same_events(cuts: list[int]) -> None:
    whole = Driver().feed(CONVERSATION)
    split = Driver()
    start = 0
    for cut in [*sorted(cuts), len(CONVERSATION)]:
        split.feed(CONVERSATION[start:cut])
        start = cut
    assert split.events == whole.events
    assert split.sent == whole.sent
    assert len(whole.events) == 33


def test_octet_by_octet_gives_the_same_events() -> None:
    split = Driver()
    for octet in CONVERSATION:
        split.feed(bytes([octet]))
    assert split.events == Driver().feed(CONVERSATION).events


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.sampled_from(
                [
                    b"\r\n", b"\n", b"a ", b"LOGIN ", b"{5}\r\n", b"{5+}\r\n", b"{0}\r\n", b"APPEND x ", b"{3+}\r\n",
                    b"IDLE\r\n", b"DONE\r\n", b"FETCH 1 BODY[", b'"', b"(", b"\x00", b"AUTHENTICATE PLAIN\r\n", b"*",
                    b"{9999999999+}\r\n",
                ]
            ),
        ),
        max_size=40,
    ),
    st.sampled_from([State.NOT_AUTHENTICATED, State.AUTHENTICATED, State.SELECTED]),
)  # fmt: skip
def test_garbage_never_raises_and_never_grows(pieces: list[bytes], state: State) -> None:
    driver = Driver(state)
    for piece in pieces:
        driver.feed(piece)
        assert driver.engine.buffered <= SMALL.line + 2 + 2 * len(piece)
    assert all(line.startswith((b"a ", b"* ", b"+ ")) or b" " in line for line in driver.sent.splitlines())
