"""The client engine against scripted servers: well-behaved, odd and hostile ones."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mail import Address, Body, EnhancedCode, MailParameters, Recipient, Reply
from mailserver.sasl import Login, Plain
from mailserver.smtp.client import ClientConnection, Command, ReplyReceived
from mailserver.smtp.misuse import ProtocolMisuse
from mailserver.smtp.replies import LINE_LIMIT, LINES_LIMIT, ProtocolError

EHLO = b"250-foo.com\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n"


def answer(client: ClientConnection, data: bytes) -> Reply:
    client.receive_data(data)
    event = client.next_event()
    assert event is not None
    return event.reply


def ready(ehlo: bytes = EHLO) -> ClientConnection:
    client = ClientConnection()
    answer(client, b"220 foo.com ESMTP\r\n")
    client.ehlo("bar.com")
    answer(client, ehlo)
    client.data_to_send()
    return client


def in_body() -> ClientConnection:
    client = ready()
    client.mail(None)
    client.rcpt(Recipient(Address("b", "foo.com")))
    client.data()
    client.receive_data(b"250 OK\r\n250 OK\r\n354 Go on\r\n")
    while client.next_event() is not None:
        pass
    client.data_to_send()
    return client


# Replies


def test_the_greeting_comes_first() -> None:
    client = ClientConnection()
    assert client.outstanding == 1
    with pytest.raises(ProtocolMisuse):
        client.ehlo("bar.com")
    client.receive_data(b"220-foo.com\r\n220 5.0.0 ready\r\n")
    assert client.next_event() == ReplyReceived(Command.GREETING, Reply(220, "foo.com\n5.0.0 ready"))
    assert client.outstanding == 0


def test_extensions() -> None:
    client = ready(b"250-foo.com PIPELINING\r\n250-size 1000\r\n250-AUTH PLAIN\r\n250-AUTH=LOGIN plain\r\n250 X \r\n")
    assert client.extensions == {"SIZE": "1000", "AUTH": "PLAIN LOGIN plain", "X": ""}
    assert (client.size_limit, client.mechanisms) == (1000, ("PLAIN", "LOGIN"))
    client.helo("bar.com")
    answer(client, b"250 foo.com\r\n")
    assert (client.extensions, client.size_limit, client.mechanisms) == ({}, None, ())


@pytest.mark.parametrize("size", [b"", b" 0", b" x", b" -1", b" 1 2", b" \xc2\xb2", b" " + b"9" * 400])
def test_a_size_limit_that_is_none(size: bytes) -> None:
    assert ready(b"250-foo.com\r\n250 SIZE" + size + b"\r\n").size_limit is None


@pytest.mark.parametrize(
    ("wire", "reply"),
    [
        (b"250\r\n", Reply(250, "")),
        (b"250 \r\n", Reply(250, "")),
        (b"250 OK\n", Reply(250, "OK")),
        (b"550 5.1.1 No such user\r\n", Reply.of(550, "5.1.1", "No such user")),
        (b"550-5.1.1 No\r\n550 5.1.1 such user\r\n", Reply.of(550, "5.1.1", "No\nsuch user")),
        (b"550-5.1.1\r\n550-\r\n550 5.1.1 user\r\n", Reply.of(550, "5.1.1", "\n\nuser")),
        (b"450 5.1.1 mixed up\r\n", Reply(450, "5.1.1 mixed up")),
        (b"550 5.1.1.1 is a section\r\n", Reply(550, "5.1.1.1 is a section")),
        (b"550 \xff\x00\r\n", Reply(550, "\ufffd\0")),
    ],
)
def test_replies(wire: bytes, reply: Reply) -> None:
    for pieces in ([wire], [wire[i : i + 1] for i in range(len(wire))]):
        client = ready()
        client.mail(None)
        events = []
        for piece in pieces:
            client.receive_data(piece)
            events.append(client.next_event())
        assert [event for event in events if event] == [ReplyReceived(Command.MAIL, reply)]


@pytest.mark.parametrize(
    "wire",
    [
        b"hello\r\n",
        b"\r\n",
        b"25 OK\r\n",
        b"2500 OK\r\n",
        b"250\tOK\r\n",
        b"150 OK\r\n",
        b"650 OK\r\n",
        b"250-OK\r\n251 OK\r\n",
        b"250-OK\r\nOK\r\n",
        b"354 Go on\r\n",
        b"334 \r\n",
        b"250 " + b"x" * LINE_LIMIT,
        b"250 " + b"x" * LINE_LIMIT + b"\r\n",
        b"250-x\r\n" * (LINES_LIMIT + 1),
        b"\xb2\xb2\xb2 OK\r\n",
    ],
    ids=lambda wire: repr(wire[:20]),
)
def test_a_reply_that_is_none_breaks_the_connection(wire: bytes) -> None:
    client = ready()
    client.mail(None)
    client.receive_data(wire)
    with pytest.raises(ProtocolError) as first:
        client.next_event()
    client.receive_data(b"250 OK\r\n")
    with pytest.raises(ProtocolError) as second:
        client.next_event()
    assert first.value is second.value


def test_a_long_reply_within_the_limits() -> None:
    client = ready()
    client.mail(None)
    reply = answer(client, b"250-x\r\n" * (LINES_LIMIT - 1) + b"250 " + b"x" * (LINE_LIMIT - 4) + b"\r\n")
    assert reply.text.count("\n") == LINES_LIMIT - 1


def test_what_a_remote_says_cannot_inject_into_a_reply_of_ours() -> None:
    client = ready()
    client.mail(None)
    reply = answer(client, b"550 no\r250 yes\x85\x00\r\n")
    assert reply.to_bytes().count(b"\n") == 1
    assert reply.to_bytes().count(b"\r") == 1


def test_an_unasked_421_is_told_and_any_other_reply_is_an_error() -> None:
    client = ready()
    client.receive_data(b"421 4.3.2 Going down\r\n")
    assert client.next_event() == ReplyReceived(None, Reply.of(421, "4.3.2", "Going down"))
    client.receive_data(b"250 OK\r\n")
    with pytest.raises(ProtocolError):
        client.next_event()


def test_data_answered_by_250_is_an_error() -> None:
    client = ready()
    client.data()
    client.receive_data(b"250 OK\r\n")
    with pytest.raises(ProtocolError):
        client.next_event()


@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"250 OK\r\n", b"250-", b"334 \r\n", b"\r\n"]), max_size=30))
def test_a_babbling_server_causes_nothing_but_protocol_errors(pieces: list[bytes]) -> None:
    client = ready()
    client.auth(Login("a", "b"))
    try:
        for piece in pieces:
            client.receive_data(piece)
            while client.next_event() is not None:
                pass
    except ProtocolError:
        with pytest.raises(ProtocolError):
            client.next_event()
    assert len(client.data_to_send()) < 1000


PIPELINED = (
    b"250-2.1.0 OK\r\n250 2.1.0 really\r\n250 OK\r\n550-5.1.1 no\r\n550 5.1.1 such user\r\n"
    b"354 Go on\r\n250 2.0.0 a\xff\r\n"
)


@given(st.lists(st.integers(1, len(PIPELINED) - 1), max_size=12))
def test_any_split_of_the_replies_gives_the_same_events(cuts: list[int]) -> None:
    def events(pieces: list[bytes]) -> list[ReplyReceived]:
        client = ready()
        client.mail(None)
        client.rcpt(Recipient(Address("b", "foo.com")))
        client.rcpt(Recipient(Address("c", "foo.com")))
        client.data()
        found: list[ReplyReceived] = []
        for piece in pieces:
            client.receive_data(piece)
            while (event := client.next_event()) is not None:
                found.append(event)
                if event.reply.code == 354:
                    client.end_body()
        return found

    edges = [0, *sorted(set(cuts)), len(PIPELINED)]
    whole = events([PIPELINED])
    assert [event.reply.code for event in whole] == [250, 250, 550, 354, 250]
    assert events([PIPELINED[a:b] for a, b in pairwise(edges)]) == whole


# Commands


def test_mail_tells_size_and_body_to_a_server_that_offers_them() -> None:
    client = ready()
    client.mail(Address("a b", "bar.com"), MailParameters(body=Body.EIGHT_BIT), size=7)
    client.rcpt(Recipient(Address("Postmaster", "")))
    assert client.data_to_send() == b'MAIL FROM:<"a b"@bar.com> SIZE=7 BODY=8BITMIME\r\nRCPT TO:<Postmaster>\r\n'
    client = ready(b"250 foo.com\r\n")
    client.mail(None, MailParameters(body=Body.EIGHT_BIT), size=7)
    assert client.data_to_send() == b"MAIL FROM:<>\r\n"


@pytest.mark.parametrize("local", ["\u00fc", "a\r\nRCPT TO:<x@y>\r\n", "a\0", "a\x7f"])
def test_an_address_that_cannot_be_sent_is_refused_before_anything_is_queued(local: str) -> None:
    client = ready()
    address = Address(local, "bar.com")
    for command, argument in ((client.mail, address), (client.rcpt, Recipient(address))):
        with pytest.raises(ValueError, match=r".+"):
            command(argument)  # type: ignore[arg-type]
    assert (client.data_to_send(), client.outstanding) == (b"", 0)


def test_answers_of_a_pipelined_group_come_in_order() -> None:
    client = ready()
    client.mail(None)
    client.rcpt(Recipient(Address("a", "foo.com")))
    client.rcpt(Recipient(Address("b", "foo.com")))
    client.data()
    assert client.outstanding == 4
    client.receive_data(b"250 2.1.0 OK\r\n550 5.1.1 No\r\n250 2.1.5 OK\r\n354 Go on\r\n")
    events = [client.next_event() for _ in range(4)]
    assert [(event.command, event.reply.code) for event in events if event] == [
        (Command.MAIL, 250),
        (Command.RCPT, 550),
        (Command.RCPT, 250),
        (Command.DATA, 354),
    ]
    assert client.next_event() is None


def test_nothing_follows_a_command_that_must_be_the_last() -> None:
    client = ready()
    client.data()
    for command in (client.rset, client.noop, client.quit, client.starttls):
        with pytest.raises(ProtocolMisuse):
            command()
    client = ready()
    client.rset()
    with pytest.raises(ProtocolMisuse):
        client.starttls()
    with pytest.raises(ProtocolMisuse):
        client.auth(Plain("a", "b"))
    assert client.data_to_send() == b"RSET\r\n"


def test_a_body_needs_its_go_ahead() -> None:
    client = ready()
    client.data()
    with pytest.raises(ProtocolMisuse):
        client.body(b"x")
    answer(client, b"554 No\r\n")
    with pytest.raises(ProtocolMisuse):
        client.end_body()


def test_a_body_and_its_answer() -> None:
    client = in_body()
    client.body(b".a\r\n")
    client.body(b".b")
    with pytest.raises(ProtocolMisuse):
        client.noop()
    client.end_body()
    assert client.data_to_send() == b"..a\r\n..b\r\n.\r\n"
    client.receive_data(b"250 2.0.0 Queued\r\n")
    assert client.next_event() == ReplyReceived(Command.BODY, Reply(250, "Queued", EnhancedCode(2, 0, 0)))


def test_the_next_transaction_may_follow_a_body_at_once() -> None:
    client = in_body()
    client.end_body()
    client.mail(None)
    client.quit()
    assert client.data_to_send() == b".\r\nMAIL FROM:<>\r\nQUIT\r\n"
    client.receive_data(b"250 OK\r\n250 OK\r\n221 Bye\r\n")
    assert [event.command for _ in range(3) if (event := client.next_event())] == ["end of data", "MAIL", "QUIT"]


def test_a_server_that_leaves_in_the_middle_of_a_body() -> None:
    client = in_body()
    client.body(b"x")
    client.receive_data(b"421 4.4.2 Too slow\r\n")
    assert client.next_event() == ReplyReceived(None, Reply.of(421, "4.4.2", "Too slow"))


# STARTTLS and AUTH


def test_what_follows_the_go_ahead_of_starttls_is_discarded() -> None:
    client = ready()
    client.starttls()
    client.receive_data(b"220 Go on\r\n250-foo.com\r\n250 AUTH PLAIN\r\n250 ")
    assert client.next_event() == ReplyReceived(Command.STARTTLS, Reply(220, "Go on"))
    assert client.next_event() is None
    assert (client.extensions, client.secure) == ({}, True)
    client.ehlo("bar.com")
    assert answer(client, b"250 foo.com\r\n") == Reply(250, "foo.com")


def test_a_refused_starttls_changes_nothing() -> None:
    client = ready()
    client.starttls()
    assert answer(client, b"454 4.7.0 Not now\r\n") == Reply.of(454, "4.7.0", "Not now")
    assert not client.secure
    assert "STARTTLS" in client.extensions


def test_auth_plain() -> None:
    client = ready()
    client.auth(Plain("test", "1234", "test"))
    assert client.data_to_send() == b"AUTH PLAIN dGVzdAB0ZXN0ADEyMzQ=\r\n"
    assert answer(client, b"235 2.7.0 Welcome\r\n") == Reply.of(235, "2.7.0", "Welcome")


def test_auth_login_is_one_command_with_one_answer() -> None:
    client = ready()
    client.auth(Login("user", "pass"))
    assert client.data_to_send() == b"AUTH LOGIN\r\n"
    for challenge, response in ((b"VXNlcm5hbWU6", b"dXNlcg==\r\n"), (b"", b"cGFzcw==\r\n")):
        client.receive_data(b"334 " + challenge + b"\r\n")
        assert client.next_event() is None
        assert client.data_to_send() == response
    client.receive_data(b"535 5.7.8 No\r\n")
    assert client.next_event() == ReplyReceived(Command.AUTH, Reply.of(535, "5.7.8", "No"))


def test_a_long_initial_response_waits_for_an_empty_challenge() -> None:
    client = ready()
    client.auth(Plain("u" * 400, "p"))
    assert client.data_to_send() == b"AUTH PLAIN\r\n"
    client.receive_data(b"334 \r\n")
    assert client.next_event() is None
    assert len(client.data_to_send()) > 512
    assert answer(client, b"235 OK\r\n").positive


@pytest.mark.parametrize("challenge", [b"334 bm90IGV4cGVjdGVk\r\n", b"334 !!\r\n", b"334 \xff\r\n"])
def test_an_exchange_that_goes_wrong_is_cancelled(challenge: bytes) -> None:
    client = ready()
    client.auth(Plain("a", "b"))
    client.data_to_send()
    client.receive_data(challenge)
    assert client.next_event() is None
    assert client.data_to_send() == b"*\r\n"
    client.receive_data(b"501 5.7.0 Cancelled\r\n")
    assert client.next_event() == ReplyReceived(Command.AUTH, Reply.of(501, "5.7.0", "Cancelled"))


def test_challenges_without_end_are_a_protocol_error() -> None:
    client = ready()
    client.auth(Login("a", "b"))
    client.receive_data(b"334 \r\n" * 1000)
    with pytest.raises(ProtocolError):
        client.next_event()
    assert client.data_to_send().count(b"\r\n") == 4  # AUTH, user, password, *
