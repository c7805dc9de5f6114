"""The server engine: states, replies, limits, and that no split of the input changes anything."""

import time
import tracemalloc
from itertools import pairwise, product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailserver.mail import Address, Body, Notify, Reply, Return
from mailserver.smtp.events import (
    Auth,
    AuthCancelled,
    AuthResponse,
    BodyChunk,
    BodyEnd,
    Data,
    Etrn,
    Event,
    Hello,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rejected,
    Reset,
    StartTLS,
    Verify,
)
from mailserver.smtp.misuse import ProtocolMisuse
from mailserver.smtp.server import TRANSITIONS, Limits, ServerConnection, State
from mailserver.smtp.syntax import COMMANDS
from tests.support.smtp import OK, Host, joined

ENVELOPE = b"EHLO bar.com\r\nMAIL FROM:<a@bar.com>\r\nRCPT TO:<b@foo.com>\r\n"

LINES = {
    "EHLO": b"EHLO bar.com",
    "HELO": b"HELO bar.com",
    "MAIL": b"MAIL FROM:<a@bar.com>",
    "RCPT": b"RCPT TO:<b@foo.com>",
    "DATA": b"DATA",
    "RSET": b"RSET",
    "NOOP": b"NOOP",
    "VRFY": b"VRFY b",
    "HELP": b"HELP",
    "QUIT": b"QUIT",
    "STARTTLS": b"STARTTLS",
    "AUTH": b"AUTH PLAIN",
}

PREFIXES = {
    State.START: b"",
    State.READY: b"EHLO bar.com\r\n",
    State.MAIL: b"EHLO bar.com\r\nMAIL FROM:<>\r\n",
    State.RCPT: ENVELOPE,
    State.BODY: ENVELOPE + b"DATA\r\n",
    State.AUTH: b"EHLO bar.com\r\nAUTH PLAIN\r\n",
    State.CLOSED: b"QUIT\r\n",
}

REPLIES = {  # (EHLO HELO MAIL RCPT DATA RSET NOOP VRFY HELP QUIT STARTTLS AUTH), RFC 5321 §4.1.4 and §4.3.2
    State.START: "250 250 503 503 503 250 250 250 250 221 503 503",
    State.READY: "250 250 250 503 503 250 250 250 250 221 220 334",
    State.MAIL: "250 250 503 250 554 250 250 250 250 221 503 503",
    State.RCPT: "250 250 503 250 354 250 250 250 250 221 503 503",
}


def host_in(state: State) -> Host:
    host = Host(starttls=True, auth=("PLAIN",)).greeted()
    host.feed(PREFIXES[state])
    host.events.clear()
    return host


# Every state, every command


@pytest.mark.parametrize(("state", "verb"), [*product(REPLIES, LINES)], ids=str)
def test_each_command_in_each_state(state: State, verb: str) -> None:
    expected = dict(zip(LINES, map(int, REPLIES[state].split()), strict=True))[verb]
    host = host_in(state)
    assert host.codes(LINES[verb] + b"\r\n") == [expected]
    allowed = (state, COMMANDS[verb].event) in TRANSITIONS
    assert allowed == (expected not in (503, 554))
    assert (type(host.events[0]) is COMMANDS[verb].event) == allowed


@pytest.mark.parametrize("verb", LINES)
def test_in_a_body_commands_are_text(verb: str) -> None:
    host = host_in(State.BODY)
    assert host.feed(LINES[verb] + b"\r\n") == b""
    assert host.codes(b".\r\n") == [250]
    assert host.content == LINES[verb] + b"\r\n"


@pytest.mark.parametrize("verb", LINES)
def test_in_an_authentication_exchange_commands_are_responses(verb: str) -> None:
    host = host_in(State.AUTH)
    canonical_base64 = len(LINES[verb]) % 4 == 0 and b" " not in LINES[verb]
    assert host.codes(LINES[verb] + b"\r\n") == [235 if canonical_base64 else 501]


@pytest.mark.parametrize("verb", LINES)
def test_after_quit_nothing_is_taken(verb: str) -> None:
    host = host_in(State.CLOSED)
    assert host.engine.closed
    assert host.feed(LINES[verb] + b"\r\n") == b""
    assert (host.events, host.engine.buffered) == ([], 0)


@pytest.mark.parametrize("verb", LINES)
def test_a_refused_connection_may_only_quit(verb: str) -> None:
    host = Host()
    host.engine.greet(Reply(554, "No service"))
    assert host.engine.data_to_send() == b"554 foo.com No service\r\n"
    assert host.codes(LINES[verb] + b"\r\n") == [221 if verb == "QUIT" else 503]


@pytest.mark.parametrize(("state", "verb"), [*product(REPLIES, LINES)], ids=str)
def test_a_refused_command_changes_nothing(state: State, verb: str) -> None:
    host = host_in(state)
    host.answer = lambda event: None if isinstance(event, Rejected) else Reply(450, "Not now")
    host.feed(LINES[verb] + b"\r\n")
    host.answer = lambda event: None
    if verb == "QUIT":
        assert host.engine.closed
        return
    for probe, expected in zip(LINES, REPLIES[state].split(), strict=True):
        if expected in ("503", "554"):  # these change no state, and tell the states apart
            assert host.codes(LINES[probe] + b"\r\n") == [int(expected)]


# The greeting and EHLO


def test_what_comes_before_the_greeting_waits() -> None:
    engine = ServerConnection("foo.com", Limits())
    engine.receive_data(b"EHLO a\r\n")
    assert engine.next_event() is None
    assert engine.buffered == 8
    engine.greet(Reply(220, "ESMTP"))
    assert engine.next_event() == Hello("a", extended=True)
    with pytest.raises(ProtocolMisuse):
        engine.greet(Reply(220, "ESMTP"))


def test_a_greeting_by_421_closes() -> None:
    host = Host()
    host.engine.greet(Reply.of(421, "4.7.0", "Too busy"))
    assert host.feed(b"EHLO a\r\n") == b"421 foo.com Too busy\r\n"
    assert host.engine.closed


def test_ehlo_lists_what_is_offered() -> None:
    host = Host(limits=Limits(message_size=1000), starttls=True, auth=("PLAIN", "LOGIN")).greeted()
    assert host.feed(b"EHLO bar.com\r\n").splitlines() == [
        b"250-foo.com greets you",
        b"250-PIPELINING",
        b"250-SIZE 1000",
        b"250-8BITMIME",
        b"250-ENHANCEDSTATUSCODES",
        b"250-SMTPUTF8",
        b"250-DSN",
        b"250-CHUNKING",
        b"250-BINARYMIME",
        b"250-DELIVERBY",
        b"250-MT-PRIORITY",
        b"250-STARTTLS",
        b"250-AUTH PLAIN LOGIN",
        b"250-LIMITS MAILMAX=1000 RCPTMAX=1000",
        b"250-PRDR",
        b"250 HELP",
    ]
    assert host.feed(b"HELO bar.com\r\n") == b"250 foo.com greets you\r\n"
    host.engine.starttls, host.engine.auth = False, ()
    assert b"STARTTLS" not in (again := host.feed(b"EHLO bar.com\r\n"))
    assert b"AUTH" not in again


def test_the_hostname_is_not_said_twice_and_no_enhanced_code_in_ehlo() -> None:
    host = Host(answer=lambda event: Reply.of(250, "2.0.0", "foo.com at your service")).greeted()
    assert host.feed(b"EHLO a\r\n").startswith(b"250-foo.com at your service\r\n")
    assert host.feed(b"NOOP\r\n") == b"250 2.0.0 foo.com at your service\r\n"


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"EHLO [192.0.2.1]", Hello("[192.0.2.1]", extended=True)),
        (b"ehlo My_PC", Hello("My_PC", extended=True)),
        (b"HELO bar.com  ", Hello("bar.com", extended=False)),
        (b"Noop whatever you say", Noop()),
        (b"HELP MAIL", Help()),
        (b"VRFY b c", Verify("b c")),
        (b"RSET \t", Reset()),
        (b"quit", Quit()),
    ],
)
def test_events_of_simple_commands(line: bytes, event: Event) -> None:
    host = Host().greeted()
    host.feed(line + b"\r\n")
    assert host.events == [event]


# MAIL and RCPT


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"MAIL FROM:<>", Mail(None)),
        (b"mail from:<A@Bar.COM>", Mail(Address("A", "bar.com"))),
        (b"MAIL FROM: <a@bar.com>", Mail(Address("a", "bar.com"))),
        (b"MAIL FROM:<@x.org,@y.org:a@bar.com>", Mail(Address("a", "bar.com"))),
        (b'MAIL FROM:<"a b\\">"@bar.com> SIZE=7', Mail(Address('a b">', "bar.com"), size=7)),
        (b"MAIL FROM:<a@bar.com> BODY=8BITMIME size=100000", Mail(Address("a", "bar.com"), 100_000, Body.EIGHT_BIT)),
        (b"MAIL FROM:<a@bar.com> body=7bit AUTH=<>", Mail(Address("a", "bar.com"))),
        (b"MAIL FROM:<a@bar.com> AUTH=e+3Dmc2@example.com  ", Mail(Address("a", "bar.com"))),
        (b"MAIL FROM:<a@[IPv6:2001:db8::1]>", Mail(Address("a", "[IPv6:2001:db8::1]"))),
    ],
)
def test_mail(line: bytes, event: Mail) -> None:
    host = host_in(State.READY)
    assert host.codes(line + b"\r\n") == [250]
    assert host.events == [event]


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"RCPT TO:<b@foo.com>", Rcpt(Address("b", "foo.com"))),
        (b"rcpt to: <Postmaster>", Rcpt(Address("Postmaster", ""))),
        (b"RCPT TO:<a%b@foo.com>", Rcpt(Address("a%b", "foo.com"))),
    ],
)
def test_rcpt(line: bytes, event: Rcpt) -> None:
    host = host_in(State.MAIL)
    assert host.codes(line + b"\r\n") == [250]
    assert host.events == [event]


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"MAIL", "501 5.5.2"),
        (b"MAIL FROM", "501 5.5.2"),
        (b"MAIL FROM:", "501 5.5.2"),
        (b"MAIL FROM:a@bar.com", "501 5.5.2"),
        (b"MAIL FROM:<a@bar.com", "501 5.5.2"),
        (b"MAIL FROM:<a@bar.com>SIZE=1", "501 5.5.2"),
        (b"MAIL FROM:<a@bar.com> <b@bar.com>", "501 5.5.4"),
        (b'MAIL FROM:<"a@bar.com>', "501 5.5.2"),
        (b"MAIL TO:<a@bar.com>", "501 5.5.2"),
        (b"MAIL FROM:<a>", "501 5.1.7"),
        (b"MAIL FROM:<a@@bar.com>", "501 5.1.7"),
        (b"MAIL FROM:<a@b@bar.com>", "501 5.1.7"),
        (b"MAIL FROM:<a@bar..com>", "501 5.1.7"),
        (b"MAIL FROM:<" + b"a" * 65 + b"@bar.com>", "501 5.1.7"),
        (b"MAIL FROM:<a@" + b"b" * 300 + b">", "501 5.1.7"),
        (b"MAIL FROM:<a@[300.1.1.1]>", "501 5.1.7"),
        (b"MAIL FROM:<\xc3\xbc@bar.com>", "553 5.6.7"),
        (b"MAIL FROM:<a@\xef\xbc\xa0bar.com>", "553 5.6.7"),
        (b"MAIL FROM:<\xfc@bar.com> SMTPUTF8", "500 5.5.2"),
        (b"MAIL FROM:<a@bar.com> SIZE", "501 5.5.4"),
        (b"MAIL FROM:<a@bar.com> SIZE=-1", "501 5.5.4"),
        (b"MAIL FROM:<a@bar.com> SIZE=1e3", "501 5.5.4"),
        (b"MAIL FROM:<a@bar.com> SIZE=" + b"0" * 21, "501 5.5.4"),
        (b"MAIL FROM:<a@bar.com> SIZE=1 size=1", "501 5.5.4"),
        (b"MAIL FROM:<a@bar.com> SIZE=100001", "552 5.3.4"),
        (b"MAIL FROM:<a@bar.com> SIZE=99999999999999999999", "552 5.3.4"),
        (b"MAIL FROM:<a@bar.com> BODY=BINARY", "501 5.5.4"),
        (b"MAIL FROM:<a@bar.com> AUTH=+3d", "501 5.5.4"),
        (b"MAIL FROM:<a@bar.com> \xc3\xbc=1", "501 5.5.4"),
        (b"MAIL FROM:<a@bar.com> SMTPUTF8=1", "501 5.5.4"),
        (b"MAIL FROM:<a@bar.com> PRDR=1", "501 5.5.4"),
        (b"MAIL FROM:<a@bar.com> RET=ALL", "501 5.5.4"),
        (b"MAIL FROM:<a@bar.com> RET", "501 5.5.4"),
        (b"MAIL FROM:<a@bar.com> ENVID=" + b"x" * 101, "501 5.5.4"),
        (b"MAIL FROM:<a@bar.com> ENVID=+0A", "501 5.5.4"),
        (b"MAIL FROM:<a@bar.com> ENVID=a+b", "501 5.5.4"),
        (b"MAIL FROM:<a@bar.com> X=1", "555 5.5.4"),
        (b"MAIL FROM:<a\0@bar.com>", "500 5.5.2"),
        (b"MAIL\tFROM:<a@bar.com>", "500 5.5.2"),
        (b"MAIL FROM:<a\x7f@bar.com>", "500 5.5.2"),
    ],
)
def test_mail_refused(line: bytes, reply: str) -> None:
    host = host_in(State.READY)
    assert host.feed(line + b"\r\n").decode().startswith(reply + " ")
    assert [type(event) for event in host.events] == [Rejected]
    assert host.codes(b"RCPT TO:<b@foo.com>\r\n") == [503]


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"RCPT TO:<>", "501 5.1.3"),
        (b"RCPT TO:<b>", "501 5.1.3"),
        (b"RCPT TO:<b@foo.com> NOTIFY=NEVER,DELAY", "501 5.5.4"),
        (b"RCPT TO:<b@foo.com> NOTIFY=", "501 5.5.4"),
        (b"RCPT TO:<b@foo.com> NOTIFY=DELAY,DELAY", "501 5.5.4"),
        (b"RCPT TO:<b@foo.com> ORCPT=b@foo.com", "501 5.5.4"),
        (b"RCPT TO:<b@foo.com> ORCPT=rfc822;+0D+0Ax", "501 5.5.4"),
        (b"RCPT TO:<b@foo.com> ORCPT=rfc822;" + b"x" * 500, "501 5.5.4"),
        (b"RCPT TO:<b@foo.com> ORCPT=utf-8;" + b"x" * 500, "501 5.5.4"),
        (b"RCPT TO:<b@foo.com> ORCPT=utf-8;a\xe2\x80\xa8b", "501 5.5.4"),
        (b"RCPT TO:<b@foo.com> ORCPT=utf-8;\xc3\xbc@foo.com", "553 5.6.7"),
        (b"RCPT TO:<b@foo.com> ORCPT=rfc822;\xc3\xbc@foo.com", "501 5.5.4"),
        (b"RCPT TO:<b@foo.com> SIZE=1", "555 5.5.4"),
        (b"RCPT TO:<b@foo.com>,<c@foo.com>", "501 5.5.2"),
        (b"RCPT FROM:<b@foo.com>", "501 5.5.2"),
        (b"RCPT TO:<\xc3\xbc@foo.com>", "553 5.6.7"),
        (b"RCPT TO:<@other.org:>", "501 5.1.3"),
        (b"RCPT TO:<|/bin/sh>", "501 5.1.3"),
        (b"RCPT TO::include:/etc/passwd", "501 5.5.2"),
        (b"RCPT TO:</etc/passwd>", "501 5.1.3"),
    ],
)
def test_rcpt_refused(line: bytes, reply: str) -> None:
    host = host_in(State.MAIL)
    assert host.feed(line + b"\r\n").decode().startswith(reply + " ")
    assert host.codes(b"DATA\r\n") == [554]


@pytest.mark.parametrize("orcpt", [r"utf-8;\x{FC}@foo.com", "utf-8;ü@foo.com", r"UTF-8;ü\x{2B}@foo.com"])
def test_orcpt_in_utf8(orcpt: str) -> None:
    """RFC 6533 §3."""
    host = host_in(State.READY)
    assert host.codes(f"MAIL FROM:<a@foo.com> SMTPUTF8\r\nRCPT TO:<b@foo.com> ORCPT={orcpt}\r\n".encode()) == [250, 250]
    assert [event.orcpt for event in host.events if isinstance(event, Rcpt)] == [orcpt]


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"", "500 5.5.2"),
        (b" ", "500 5.5.2"),
        (b" NOOP", "500 5.5.2"),
        (b"\0NOOP", "500 5.5.2"),
        (b"\xff\xfe", "500 5.5.2"),
        (b"FOO", "500 5.5.1"),
        (b"XCLIENT ADDR=127.0.0.1", "550 5.7.1"),
        (b"EXPN staff", "502 5.5.1"),
        (b"TURN", "502 5.5.1"),
        (b"EHLO", "501 5.5.4"),
        (b"EHLO a b", "501 5.5.4"),
        (b"EHLO \xc3\xbc.org", "501 5.5.4"),
        (b"HELO " + b"a" * 256, "501 5.5.4"),
        (b"DATA now", "501 5.5.4"),
        (b"RSET x", "501 5.5.4"),
        (b"QUIT x", "501 5.5.4"),
        (b"VRFY", "501 5.5.4"),
    ],
)
def test_other_faults(line: bytes, reply: str) -> None:
    host = host_in(State.RCPT)
    assert host.feed(line + b"\r\n").decode().startswith(reply + " ")
    assert host.codes(b"DATA\r\n") == [354]


# Transactions and pipelining


def test_a_pipelined_group_is_answered_in_order() -> None:
    host = Host().greeted()
    assert host.codes(ENVELOPE + b"RCPT TO:<>\r\nDATA\r\n") == [250, 250, 250, 501, 354]
    assert host.codes(b"Hello\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<b@foo.com>\r\nQUIT\r\n") == [250, 250, 250, 221]
    assert (host.content, host.ends) == (b"Hello\r\n", [BodyEnd(7)])


def test_after_a_refused_data_the_next_octets_are_commands() -> None:
    host = Host(answer=lambda event: Reply(451, "Not now") if isinstance(event, Data) else None).greeted()
    assert host.codes(ENVELOPE + b"DATA\r\nNOOP\r\n.\r\nQUIT\r\n") == [250, 250, 250, 451, 250, 500, 221]
    assert (host.content, host.ends) == (b"", [])


def test_no_command_is_read_while_an_event_awaits_its_answer() -> None:
    engine = ServerConnection("foo.com", Limits())
    engine.greet(Reply(220, "ESMTP"))
    engine.receive_data(ENVELOPE + b"DATA\r\nFirst\r\n.\r\nQUIT\r\n")
    events = []
    for answer in (OK, OK, OK, Reply(354, "Go on")):
        events.append(engine.next_event())
        assert engine.next_event() is None
        engine.reply(answer)
    assert [type(event) for event in events] == [Hello, Mail, Rcpt, Data]
    assert engine.next_event() == BodyChunk(b"First\r\n")
    assert engine.next_event() == BodyEnd(7)
    assert engine.next_event() is None
    engine.reply(OK)
    assert engine.next_event() == Quit()


def test_the_end_of_data_ends_the_transaction_whatever_the_answer() -> None:
    host = Host(answer=lambda event: Reply(451, "Disk full") if isinstance(event, BodyEnd) else None).greeted()
    assert host.codes(ENVELOPE + b"DATA\r\n", b".\r\nDATA\r\nMAIL FROM:<>\r\n") == [250, 250, 250, 354, 451, 503, 250]


def test_misuse_by_the_session_is_told() -> None:
    engine = ServerConnection("foo.com", Limits())
    engine.greet(Reply(220, "ESMTP"))
    with pytest.raises(ProtocolMisuse):
        engine.reply(OK)
    engine.receive_data(ENVELOPE + b"DATA\r\n")
    for _ in range(3):
        engine.next_event()
        with pytest.raises(ProtocolMisuse):
            engine.challenge(b"")
        engine.reply(OK)
    assert engine.next_event() == Data()
    with pytest.raises(ProtocolMisuse):
        engine.reply(OK)


@pytest.mark.parametrize("state", [*REPLIES, State.BODY, State.AUTH], ids=str)
def test_a_farewell_may_be_said_at_any_time(state: State) -> None:
    engine = host_in(state).engine
    engine.receive_data(b"NOOP\r\n")
    if state is State.START:
        assert engine.next_event() == Noop()
    engine.reply(Reply.of(421, "4.4.2", "Timeout"))
    assert engine.data_to_send() == b"421 4.4.2 Timeout\r\n"
    engine.reply(OK)  # of a handler that was at work meanwhile
    assert (engine.data_to_send(), engine.next_event(), engine.closed) == (b"", None, True)


# Sizes


def test_a_body_larger_than_it_declared_is_refused_by_its_true_size() -> None:
    host = Host(limits=Limits(message_size=1000)).greeted()
    host.feed(b"EHLO a\r\nMAIL FROM:<> SIZE=10\r\nRCPT TO:<b@foo.com>\r\nDATA\r\n")
    assert host.feed(b"x" * 600, b"x" * 600, b"\r\n.\r\n") == b"552 5.3.4 The message is too large\r\n"
    assert len(host.content) == 600
    assert host.codes(b"MAIL FROM:<>\r\n") == [250]


def test_a_line_of_the_limit_is_taken_and_one_more_octet_is_not() -> None:
    host = Host(limits=Limits(command_line=512)).greeted()
    assert host.codes(b"NOOP " + b"x" * 505 + b"\r\n") == [250]
    assert host.feed(b"NOOP " + b"x" * 506 + b"\r\n") == b"500 5.5.2 The line is too long\r\n"


def test_auth_with_an_initial_response_may_be_longer_than_other_commands() -> None:
    host = Host().greeted()
    host.feed(b"EHLO a\r\n")
    assert host.codes(b"auth plain " + b"A" * 6000 + b"\r\n") != [500]
    assert host.codes(b"AUTH PLAIN " + b"A" * 12288 + b"\r\n") == [500]
    assert host.codes(b"AUTHOR " + b"A" * 6000 + b"\r\n") == [500]


def test_an_overlong_line_is_skipped_in_constant_memory_and_answered_once() -> None:
    host = Host().greeted()
    for _ in range(1000):
        assert host.feed(b"x" * 1000) == b""
    assert host.most_buffered <= 2048
    assert host.codes(b"\r", b"x\r", b"\nNOOP\r\n") == [500, 250]


def test_an_endless_line_is_cut() -> None:
    host = Host().greeted()
    assert b"".join(host.feed(b"x" * 65536) for _ in range(100)) == b"500 5.5.2 The line is too long\r\n"
    assert host.engine.closed
    assert host.engine.buffered == 0


def test_ten_megabytes_of_body_in_a_moment_and_little_memory() -> None:
    host = Host(limits=Limits(message_size=10**8)).greeted()
    host.feed(ENVELOPE + b"DATA\r\n")
    chunk = (b"x" * 62 + b"\r\n") * 1024
    engine, size = host.engine, 0
    start = time.process_time()
    for _ in range(160):
        engine.receive_data(chunk)
        while isinstance(event := engine.next_event(), BodyChunk):
            size += len(event.data)
    assert time.process_time() - start < 2
    engine.receive_data(b".\r\n")
    assert isinstance(engine.next_event(), BodyChunk)  # the CRLF that was held back
    assert engine.next_event() == BodyEnd(160 * 65536)


def test_many_pipelined_commands_take_linear_time() -> None:
    host = Host().greeted()
    host.engine.receive_data(b"NOOP\r\n" * 20_000)
    start = time.process_time()
    assert host.feed(b"").count(b"250") == 20_000
    assert time.process_time() - start < 5


# Any split, any garbage

SCRIPT = (
    ENVELOPE
    + b"RCPT TO:<c@foo.com> X\r\nDATA\r\n..a\r\n\r\n.\n.b\r\nQUIT\r\n.\r\n"
    + b"VRFY b\nNOOP\r\nNOOP "
    + b"x" * 3000
    + b"\r\nAUTH PLAIN\r\nAGEAYg==\r\nAUTH PLAIN =\r\nSTARTTLS now\r\nBDAT 21\r\nMAIL FROM:<x@y.z>\r\n"
    + b"\r\nRSET\r\nGET / HTTP/1.1\r\nNOOP\r\n"
)


@given(st.lists(st.integers(0, len(SCRIPT)), max_size=30))
@example(list(range(len(SCRIPT))))
def test_any_split_gives_the_same_events(places: list[int]) -> None:
    whole = Host(auth=("PLAIN",)).greeted()
    output = whole.feed(SCRIPT)
    marks = sorted({0, len(SCRIPT), *places})
    host = Host(auth=("PLAIN",)).greeted()
    assert host.feed(*(SCRIPT[a:b] for a, b in pairwise(marks))) == output
    assert joined(host.events) == joined(whole.events)
    assert len(joined(whole.events)) == 16


FRAGMENTS = st.sampled_from(
    [
        *(line + b"\r\n" for line in LINES.values()),
        *(b"\r\n", b"\r", b"\n", b".", b"\r\n.\r\n", b"\0", b"\xff", b"=", b"*\r\n", b"AUTH PLAIN AGEAYg==\r\n"),
        *(b"BDAT 5\r\n", b"BDAT 999 LAST\r\n", b"x" * 700, b"MAIL FROM:<" + b"a" * 70 + b"@b>\r\n"),
    ]
)


@settings(max_examples=200)
@given(st.lists(FRAGMENTS | st.binary(max_size=60), max_size=40), st.sampled_from([250, 354, 451, 550]))
def test_garbage_never_raises_and_is_never_hoarded(pieces: list[bytes], code: int) -> None:
    def answer(event: Event) -> Reply | None:
        return None if isinstance(event, Rejected | Data | Auth | AuthResponse) else Reply(code, "So be it")

    host = Host(limits=Limits(command_line=600, auth_line=900), starttls=True, auth=("PLAIN",), answer=answer).greeted()
    for piece in pieces:
        host.feed(piece)
        assert host.engine.buffered <= 900
    whole = Host(limits=host.engine.limits, starttls=True, auth=("PLAIN",), answer=answer).greeted()
    whole.feed(*[bytes([octet]) for piece in pieces for octet in piece])
    if not host.engine.secure:  # STARTTLS drops what came in the same piece
        assert joined(whole.events) == joined(host.events)


def test_no_secret_stands_in_a_repr() -> None:
    host = Host(auth=("PLAIN",)).greeted()
    host.feed(b"EHLO a\r\nAUTH PLAIN AGEAc2VjcmV0\r\n*\r\nAUTH PLAIN\r\nAGEAc2VjcmV0\r\n")
    assert [type(event) for event in host.events] == [Hello, Auth, AuthCancelled, Auth, AuthResponse]
    assert "secret" not in repr(host.events)


def test_the_whole_session_fits_in_little_memory() -> None:
    host = Host().greeted()
    tracemalloc.start()
    try:
        for _ in range(200):
            host.feed(b"MAIL FROM:<" + b"y" * 60_000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_starttls_is_an_event() -> None:
    host = host_in(State.READY)
    host.feed(b"STARTTLS\r\n")
    assert host.events == [StartTLS()]


def test_what_a_sender_wants_to_be_told() -> None:
    host = Host().greeted()
    host.feed(b"EHLO a\r\nMAIL FROM:<a@b.c> RET=full ENVID=QQ+2B314159\r\n")
    host.feed(
        b"RCPT TO:<d@foo.com> NOTIFY=success,DELAY ORCPT=rfc822;Bob+2Bx@foo.com\r\nRCPT TO:<e@foo.com> NOTIFY=NEVER\r\n"
    )
    _, mail, first, second = host.events
    assert isinstance(mail, Mail) and isinstance(first, Rcpt) and isinstance(second, Rcpt)
    assert (mail.ret, mail.envid) == (Return.FULL, "QQ+314159")
    assert (first.notify, first.orcpt) == ({Notify.SUCCESS, Notify.DELAY}, "rfc822;Bob+x@foo.com")
    assert (second.notify, second.orcpt) == ({Notify.NEVER}, None)


def test_requiretls_is_offered_and_taken_under_tls_alone() -> None:
    host = Host(starttls=True).greeted()
    assert b"REQUIRETLS" not in host.feed(b"EHLO a\r\n")
    assert host.feed(b"MAIL FROM:<a@b.c> REQUIRETLS\r\n").startswith(b"530 5.7.0 ")
    host.feed(b"STARTTLS\r\n")
    assert b"250-REQUIRETLS\r\n" in host.feed(b"EHLO a\r\n")
    host.feed(b"MAIL FROM:<a@b.c> REQUIRETLS\r\n")
    assert isinstance(host.events[-1], Mail) and host.events[-1].requiretls
    assert host.codes(b"RSET\r\nMAIL FROM:<a@b.c> REQUIRETLS=1\r\n") == [250, 501]


@pytest.mark.parametrize(
    ("argument", "event"),
    [
        (b"example.NET", Etrn("example.net", False)),
        (b"@example.net", Etrn("example.net", True)),
        (b"#queue", None),
        (b"", None),
        (b"a b", None),
        (b"-x-.test", None),
    ],
)
def test_etrn_names_a_domain(argument: bytes, event: Etrn | None) -> None:
    host = Host().greeted()
    host.feed(b"EHLO a\r\n")
    assert host.codes(b"ETRN " + argument + b"\r\n") == [502], "only where it is offered"
    host.engine.etrn = True
    assert b"250-ETRN\r\n" in host.feed(b"EHLO a\r\n")
    assert host.codes(b"ETRN " + argument + b"\r\n") == [250 if event else 501]
    if event:
        assert host.events[-1] == event
    assert host.codes(b"MAIL FROM:<>\r\nETRN example.net\r\n") == [250, 503]
