"""The client engine in LMTP (RFC 2033), and transactions that follow each other on one connection."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mail import Address, Body, MailParameters, Recipient, Reply
from mailserver.smtp.client import ClientConnection, Command, ReplyReceived
from mailserver.smtp.events import BodyEnd, Data, Hello, Mail, Rcpt
from mailserver.smtp.misuse import ProtocolMisuse
from mailserver.smtp.replies import ProtocolError
from tests.support.smtp import Host, exchange

PAT, JONES, GREEN = (Recipient(Address(name, "foo.edu")) for name in ("pat", "jones", "green"))

# RFC 2033 §4.2 shows this; its end is one reply for each of the two recipients that were taken.
EXAMPLE = """\
S: 220 foo.edu LMTP server ready
C: LHLO foo.edu
S: 250-foo.edu
S: 250-PIPELINING
S: 250 SIZE
C: MAIL FROM:<chris@bar.com>
S: 250 OK
C: RCPT TO:<pat@foo.edu>
S: 250 OK
C: RCPT TO:<jones@foo.edu>
S: 550 No such user here
C: RCPT TO:<green@foo.edu>
S: 250 OK
C: DATA
S: 354 Start mail input; end with <CRLF>.<CRLF>
C: Blah blah blah...
C: ...etc. etc. etc.
C: .
S: 250 OK
S: 452 <green@foo.edu> is temporarily over quota
C: QUIT
S: 221 foo.edu closing connection
"""


def lines(mark: str) -> bytes:
    """What one end says in the example."""
    return b"".join(line[3:].encode() + b"\r\n" for line in EXAMPLE.splitlines() if line.startswith(mark))


def events(client: ClientConnection, data: bytes = b"") -> list[tuple[str | None, int]]:
    client.receive_data(data)
    found = []
    while (event := client.next_event()) is not None:
        found.append((event.command, event.reply.code))
    return found


def ready(*, lmtp: bool = True) -> ClientConnection:
    client = ClientConnection(lmtp=lmtp)
    events(client, b"220 foo.edu\r\n")
    client.ehlo("foo.edu")
    events(client, b"250-foo.edu\r\n250-PIPELINING\r\n250 SIZE\r\n")
    client.data_to_send()
    return client


def in_body(client: ClientConnection, *recipients: bool) -> None:
    """In the content of a message; the recipients are taken or refused."""
    client.mail(None)
    for _ in recipients:
        client.rcpt(PAT)
    client.data()
    events(client, b"250 OK\r\n" + b"".join(b"250 OK\r\n" if taken else b"550 No\r\n" for taken in recipients))
    assert events(client, b"354 Go on\r\n") == [("DATA", 354)]
    client.data_to_send()


def test_the_example_of_rfc_2033() -> None:
    client, said = ClientConnection(lmtp=True), b""
    replies = lines("S").splitlines(keepends=True)

    def answer(count: int = 1) -> list[tuple[str | None, int]]:
        nonlocal said
        said += client.data_to_send()
        found = events(client, b"".join(replies[:count]))
        del replies[:count]
        return found

    assert answer() == [("greeting", 220)]
    client.ehlo("foo.edu")
    assert answer(3) == [("LHLO", 250)]
    assert client.extensions == {"PIPELINING": "", "SIZE": ""}
    client.mail(Address("chris", "bar.com"))
    assert answer() == [("MAIL", 250)]
    for recipient, code in ((PAT, 250), (JONES, 550), (GREEN, 250)):
        client.rcpt(recipient)
        assert answer() == [("RCPT", code)]
    client.data()
    assert answer() == [("DATA", 354)]
    client.body(b"Blah blah blah...\r\n...etc. etc. etc.\r\n")
    client.end_body()
    assert client.outstanding == 2
    assert answer() == [("end of data", 250)]
    assert client.outstanding == 1
    assert client.next_event() is None
    assert answer() == [("end of data", 452)]
    assert client.outstanding == 0
    client.quit()
    assert answer() == [("QUIT", 221)]
    assert said == lines("C").replace(b"\r\n...etc", b"\r\n....etc")


@given(st.lists(st.integers(1, len(lines("S")) - 1), max_size=12))
def test_any_split_of_the_replies_gives_the_same_events(cuts: list[int]) -> None:
    def met(pieces: list[bytes]) -> list[ReplyReceived]:
        client, found = ClientConnection(lmtp=True), []
        for piece in pieces:
            client.receive_data(piece)
            while (event := client.next_event()) is not None:
                found.append(event)
                match event.command:
                    case Command.GREETING:
                        client.ehlo("foo.edu")
                    case Command.LHLO:
                        client.mail(None)
                        for recipient in (PAT, JONES, GREEN):
                            client.rcpt(recipient)
                        client.data()
                    case Command.DATA:
                        client.end_body()
                        client.quit()
        return found

    wire = lines("S")
    edges = [0, *sorted(set(cuts)), len(wire)]
    whole = met([wire])
    assert [event.reply.code for event in whole] == [220, 250, 250, 250, 550, 250, 354, 250, 452, 221]
    assert met([wire[a:b] for a, b in pairwise(edges)]) == whole


def test_lmtp_says_lhlo_and_nothing_else() -> None:
    client = ClientConnection(lmtp=True)
    events(client, b"220 foo.edu\r\n")
    with pytest.raises(ProtocolMisuse):
        client.helo("foo.edu")
    client.ehlo("foo.edu")
    assert client.data_to_send() == b"LHLO foo.edu\r\n"
    assert events(client, b"500 What?\r\n") == [("LHLO", 500)]
    assert client.extensions == {}


@pytest.mark.parametrize("recipients", [(True,), (False, True), (True, True, True), (True, False, True)])
def test_each_recipient_that_was_taken_has_its_answer(recipients: tuple[bool, ...]) -> None:
    client = ready()
    in_body(client, *recipients)
    client.end_body()
    client.noop()
    answers = b"".join(b"250 2.1.5 <%d> Ok\r\n" % i for i in range(sum(recipients)))
    assert events(client, answers + b"200 noop\r\n") == [("end of data", 250)] * sum(recipients) + [("NOOP", 200)]


def test_the_enhanced_code_of_each_answer_is_read() -> None:
    client = ready()
    in_body(client, True, True)
    client.end_body()
    client.receive_data(b"250-2.1.5 One\r\n250 2.1.5 more\r\n552 5.2.2 Full\r\n")
    assert client.next_event() == ReplyReceived(Command.BODY, Reply.of(250, "2.1.5", "One\nmore"))
    assert client.next_event() == ReplyReceived(Command.BODY, Reply.of(552, "5.2.2", "Full"))


def test_a_server_that_wants_content_for_nobody_gets_none_and_says_nothing() -> None:
    client = ready()
    in_body(client, False, False)
    client.end_body()
    assert client.outstanding == 0
    client.mail(None)
    assert client.data_to_send() == b".\r\nMAIL FROM:<>\r\n"
    assert events(client, b"250 OK\r\n") == [("MAIL", 250)]


def test_an_answer_too_many_is_an_error() -> None:
    client = ready()
    in_body(client, True, True)
    client.end_body()
    assert len(events(client, b"250 OK\r\n250 OK\r\n")) == 2
    with pytest.raises(ProtocolError):
        events(client, b"250 OK\r\n")


def test_a_server_that_leaves_between_the_answers() -> None:
    client = ready()
    in_body(client, True, True)
    client.end_body()
    assert events(client, b"250 OK\r\n421 Leaving\r\n") == [("end of data", 250), ("end of data", 421)]


def test_recipients_of_one_message_do_not_count_for_the_next() -> None:
    client = ready()
    in_body(client, True, True, True)
    client.end_body()
    client.mail(None)  # queued before the answers are there
    client.rcpt(PAT)
    client.data()
    assert events(client, b"250 OK\r\n" * 5) == [("end of data", 250)] * 3 + [("MAIL", 250), ("RCPT", 250)]
    assert events(client, b"354 Go on\r\n") == [("DATA", 354)]
    client.end_body()
    client.quit()
    assert events(client, b"250 OK\r\n221 Bye\r\n") == [("end of data", 250), ("QUIT", 221)]


@pytest.mark.parametrize("end", ["rset", "ehlo", "nothing"])
def test_recipients_of_a_message_that_was_given_up_do_not_count(end: str) -> None:
    client = ready()
    client.mail(None)
    client.rcpt(PAT)
    client.rcpt(PAT)
    events(client, b"250 OK\r\n" * 3)
    if end == "rset":
        client.rset()
        events(client, b"250 OK\r\n")
    if end == "ehlo":
        client.ehlo("foo.edu")
        events(client, b"250 OK\r\n")
    in_body(client, True)
    client.end_body()
    assert client.outstanding == 1


# BDAT


def test_the_last_chunk_is_answered_for_each_recipient() -> None:
    client = ready()
    client.mail(None)
    for recipient in (PAT, JONES, GREEN):
        client.rcpt(recipient)
    client.bdat(b"abc\r\n")
    client.bdat(b"def\r\n", last=True)
    client.mail(None)
    assert client.data_to_send().endswith(
        b"RCPT TO:<green@foo.edu>\r\nBDAT 5\r\nabc\r\nBDAT 5 LAST\r\ndef\r\nMAIL FROM:<>\r\n"
    )
    assert events(client, b"250 OK\r\n250 OK\r\n550 No\r\n250 OK\r\n") == [
        ("MAIL", 250),
        ("RCPT", 250),
        ("RCPT", 550),
        ("RCPT", 250),
    ]
    assert events(client, b"250 5 octets\r\n250 OK\r\n452 Full\r\n250 OK\r\n") == [
        ("BDAT", 250),
        ("BDAT LAST", 250),
        ("BDAT LAST", 452),
        ("MAIL", 250),
    ]


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        (b"550 No\r\n550 No\r\n503 None\r\n503 None\r\n", [550, 550, 503, 503]),
        (b"250 OK\r\n250 OK\r\n452 Full\r\n503 Failed\r\n", [250, 250, 452, 503]),
    ],
)
def test_chunks_that_come_to_nothing_have_one_answer_each(answers: bytes, found: list[int]) -> None:
    client = ready()
    client.mail(None)
    client.rcpt(PAT)
    client.rcpt(GREEN)
    client.bdat(b"abc")
    client.bdat(b"", last=True)
    client.rset()
    codes = [code for _, code in events(client, b"250 OK\r\n" + answers + b"250 reset\r\n")]
    assert codes == [250, *found, 250]
    assert client.outstanding == 0


# One group, and several transactions (SMTP)


def test_content_in_one_group_with_its_envelope() -> None:
    host = Host().greeted()
    client = ClientConnection()
    events(client, b"220 foo.com\r\n")
    client.ehlo("bar.com")
    exchange(client, host)
    sender = Address("jürgen", "bar.com")
    client.mail(sender, MailParameters(body=Body.BINARY, smtputf8=True), size=5)
    client.rcpt(Recipient(Address("a", "foo.com")))
    client.rcpt(Recipient(Address("b", "foo.com")))
    client.bdat(b"a\nb\0c", last=True)
    group = client.data_to_send()
    assert group.startswith("MAIL FROM:<jürgen@bar.com> SIZE=5 BODY=BINARYMIME SMTPUTF8\r\n".encode())
    assert group.endswith(b"\r\nBDAT 5 LAST\r\na\nb\0c")
    assert events(client, host.feed(group)) == [("MAIL", 250), ("RCPT", 250), ("RCPT", 250), ("BDAT LAST", 250)]
    assert host.content == b"a\nb\0c"


def test_a_group_whose_recipients_are_all_refused_ends_with_an_empty_content() -> None:
    client = ready(lmtp=False)
    in_body(client, False, False)
    client.end_body()
    assert client.data_to_send() == b".\r\n"
    assert events(client, b"554 No valid recipients\r\n") == [("end of data", 554)]


def test_several_transactions_on_one_connection() -> None:
    refused = {"no"}
    host = Host(
        answer=lambda e: Reply(550, "No") if isinstance(e, Rcpt) and e.address.local in refused else None
    ).greeted()
    client = ClientConnection()
    events(client, b"220 foo.com\r\n")
    client.ehlo("bar.com")
    exchange(client, host)

    def envelope(local: str, **asked: bool) -> list[int]:
        client.mail(Address("ü" if asked else "u", "bar.com"), MailParameters(**asked))  # type: ignore[arg-type]
        client.rcpt(Recipient(Address(local, "foo.com")))
        return [answer.reply.code for answer in exchange(client, host)]

    def content(octets: bytes) -> list[int]:
        client.data()
        codes = [answer.reply.code for answer in exchange(client, host)]
        client.body(octets)
        client.end_body()
        return codes + [answer.reply.code for answer in exchange(client, host)]

    assert envelope("a", smtputf8=True) == [250, 250]
    assert content(b"first\r\n") == [354, 250]
    with pytest.raises(UnicodeEncodeError):  # what the first one asked for holds no longer
        client.mail(Address("ü", "bar.com"))
    assert envelope("no") == [250, 550]
    client.rset()
    assert [answer.reply.code for answer in exchange(client, host)] == [250]
    assert envelope("b") == [250, 250]
    assert content(b"second\r\n") == [354, 250]
    client.rset()
    assert envelope("c") == [250, 250, 250]
    assert content(b"") == [354, 250]
    kinds = [type(event) for event in host.events if isinstance(event, Hello | Mail | Data | BodyEnd)]
    assert kinds == [Hello, Mail, Data, BodyEnd, Mail, Mail, Data, BodyEnd, Mail, Data, BodyEnd]
    assert host.content == b"first\r\nsecond\r\n"


def test_the_client_and_the_server_agree_in_lmtp() -> None:
    host = Host(lmtp=True).greeted()
    client = ClientConnection(lmtp=True)
    events(client, b"220 foo.com\r\n")
    client.ehlo("bar.com")
    exchange(client, host)
    assert "CHUNKING" in client.extensions
    for last in (False, True):
        client.mail(None)
        client.rcpt(PAT)
        client.rcpt(GREEN)
        assert [answer.reply.code for answer in exchange(client, host)] == [250, 250, 250]
        if last:
            client.bdat(b"abc\r\n", last=True)
        else:
            client.data()
            assert [answer.reply.code for answer in exchange(client, host)] == [354]
            client.end_body()
        host.engine.receive_data(client.data_to_send())
        while not isinstance(event := host.engine.next_event(), BodyEnd):
            assert event is not None
            if isinstance(event, Data):
                host.engine.reply(Reply(354, "Go on"))
        host.engine.reply_each([Reply(250, "OK"), Reply(452, "Full")])
        assert [code for _, code in events(client, host.engine.data_to_send())] == [250, 452]
        assert client.outstanding == 0
