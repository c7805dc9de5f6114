"""The scenarios of RFC 5321 appendix D, RFC 2034, 2920 and 4954, said line by line on both ends.

The words after a code are the session's; so only the codes, and the hyphens of longer replies, are compared.
"""

from itertools import groupby

import pytest

from mailserver.mail import Address, Recipient, Reply
from mailserver.smtp.client import ClientConnection
from mailserver.smtp.events import Event, Rcpt
from tests.support.smtp import Host

HELLO = """\
C: EHLO bar.com
S: 250-foo.com greets bar.com
S: 250-PIPELINING
S: 250-SIZE 100000
S: 250-8BITMIME
S: 250-ENHANCEDSTATUSCODES
S: 250-SMTPUTF8
S: 250-DSN
S: 250-CHUNKING
S: 250-BINARYMIME
S: 250-DELIVERBY
S: 250-MT-PRIORITY
S: 250-LIMITS MAILMAX=1000 RCPTMAX=1000
S: 250-PRDR
S: 250 HELP
"""

MESSAGE = """\
C: DATA
S: 354 Start mail input; end with <CRLF>.<CRLF>
C: Blah blah blah...
C: ...etc. etc. etc.
C: .
S: 250 OK
"""

QUIT = """\
C: QUIT
S: 221 foo.com Service closing transmission channel
"""

TRANSCRIPTS = {
    "D.1 typical": HELLO
    + """\
C: MAIL FROM:<Smith@bar.com>
S: 250 OK
C: RCPT TO:<Jones@foo.com>
S: 250 OK
C: RCPT TO:<Green@foo.com>
S: 550 No such user here
C: RCPT TO:<Brown@foo.com>
S: 250 OK
"""
    + MESSAGE
    + QUIT,
    "D.2 aborted": HELLO
    + """\
C: MAIL FROM:<Smith@bar.com>
S: 250 OK
C: RCPT TO:<Jones@foo.com>
S: 250 OK
C: RCPT TO:<Green@foo.com>
S: 550 No such user here
C: RSET
S: 250 OK
"""
    + QUIT,
    "D.3 relayed": HELLO
    + """\
C: MAIL FROM:<JQP@bar.com>
S: 250 OK
C: RCPT TO:<Jones@XYZ.COM>
S: 250 OK
C: DATA
S: 354 Start mail input; end with <CRLF>.<CRLF>
C: Date: Thu, 21 May 1998 05:33:29 -0700
C: From: John Q. Public <JQP@bar.com>
C: Subject: The Next Meeting of the Board
C: To: Jones@xyz.com
C:
C: Bill:
C: The next meeting of the board of directors will be
C: on Tuesday.
C: John.
C: .
S: 250 OK
"""
    + QUIT,
    "D.4 verifying": HELLO
    + """\
C: VRFY Crispin
S: 250 Mark Crispin <Admin.MRC@foo.com>
C: MAIL FROM:<EAK@bar.com>
S: 250 OK
C: RCPT TO:<Admin.MRC@foo.com>
S: 250 OK
"""
    + MESSAGE
    + QUIT,
    "RFC 2920, some recipients refused": HELLO
    + """\
C: MAIL FROM:<mrose@dbc.mtview.ca.us>
C: RCPT TO:<Green@innosoft.com>
C: RCPT TO:<Green@dbc.mtview.ca.us>
C: DATA
S: 250 sender <mrose@dbc.mtview.ca.us> OK
S: 550 remote mail to <Green@dbc.mtview.ca.us> not allowed
S: 550 remote mail to <Green@dbc.mtview.ca.us> not allowed
S: 554 no valid recipients given
"""
    + QUIT,
    "RFC 4954, PLAIN with and without an initial response": """\
C: EHLO bar.com
S: 250-foo.com
S: 250-PIPELINING
S: 250-SIZE 100000
S: 250-8BITMIME
S: 250-ENHANCEDSTATUSCODES
S: 250-SMTPUTF8
S: 250-DSN
S: 250-CHUNKING
S: 250-BINARYMIME
S: 250-DELIVERBY
S: 250-MT-PRIORITY
S: 250-AUTH PLAIN
S: 250-LIMITS MAILMAX=1000 RCPTMAX=1000
S: 250-PRDR
S: 250 HELP
C: AUTH PLAIN
S: 334
C: *
S: 501 5.7.0 cancelled
C: AUTH PLAIN dGVzdAB0ZXN0ADEyMzQ=
S: 334
C: dGVzdAB0ZXN0ADEyMzQ=
S: 235 2.7.0 Authentication successful
C: AUTH PLAIN
S: 503 already
"""
    + QUIT,
    "HELO alone": """\
C: HELO bar.com
S: 250 foo.com
C: MAIL FROM:<>
S: 250 OK
C: NOOP
S: 250 OK
C: HELP
S: 250 OK
C: RCPT TO:<Postmaster>
S: 250 OK
"""
    + MESSAGE
    + QUIT,
}


def no_green(event: Event) -> Reply | None:
    return Reply(550, "No such user") if isinstance(event, Rcpt) and event.address.local == "Green" else None


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_transcript(name: str) -> None:
    host = Host(answer=no_green, auth=("PLAIN",) if "AUTH PLAIN" in TRANSCRIPTS[name] else ()).greeted()
    said: list[bytes] = []
    for by_client, turn in groupby(TRANSCRIPTS[name].splitlines(), lambda line: line.startswith("C:")):
        lines = [line[3:] for line in turn]
        if by_client:
            said = host.feed("".join(f"{line}\r\n" for line in lines).encode()).splitlines()
        else:
            assert [line[:4].decode() for line in said] == [line[:4].ljust(4) for line in lines]
    assert host.engine.closed


def test_the_client_says_d1() -> None:
    client, wire = ClientConnection(), b""

    def answered(reply: bytes) -> None:
        nonlocal wire
        wire += client.data_to_send()
        client.receive_data(reply)
        assert client.next_event() is not None
        assert client.next_event() is None

    answered(b"220 foo.com Simple Mail Transfer Service Ready\r\n")
    client.ehlo("bar.com")
    answered(b"250-foo.com greets bar.com\r\n250-8BITMIME\r\n250-SIZE\r\n250-DSN\r\n250 HELP\r\n")
    client.mail(Address("Smith", "bar.com"))
    answered(b"250 OK\r\n")
    client.rcpt(Recipient(Address("Jones", "foo.com")))
    answered(b"250 OK\r\n")
    client.data()
    answered(b"354 Start mail input; end with <CRLF>.<CRLF>\r\n")
    client.body(b"Blah blah blah...\r\n...etc. etc. etc.\r\n")
    client.end_body()
    answered(b"250 OK\r\n")
    client.quit()
    answered(b"221 foo.com Service closing transmission channel\r\n")
    assert wire == (
        b"EHLO bar.com\r\nMAIL FROM:<Smith@bar.com>\r\nRCPT TO:<Jones@foo.com>\r\nDATA\r\n"
        b"Blah blah blah...\r\n....etc. etc. etc.\r\n.\r\nQUIT\r\n"
    )
