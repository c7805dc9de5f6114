"""Known attacks on SMTP servers, each under its own name."""

from itertools import product
from typing import Any

import pytest

from mailserver.mail import Address, Reply
from mailserver.smtp.events import Auth, AuthResponse, BodyChunk, BodyEnd, Event, Mail, Noop, Rejected, StartTLS
from mailserver.smtp.server import Limits
from tests.support.smtp import Host

ENVELOPE = b"EHLO bar.com\r\nMAIL FROM:<a@bar.com>\r\nRCPT TO:<b@foo.com>\r\n"


def host(**options: Any) -> Host:
    made = Host(**options).greeted()
    made.feed(b"EHLO bar.com\r\n")
    made.events.clear()
    return made


# Smuggling: CVE-2023-51764, 51765, 51766; CVE-2024-27305

PIECES = [b"\r\n", b"\r", b"\n", b"\0"]
FALSE_ENDS = sorted(
    {
        before + b"." * dots + after
        for before, dots, after in product([*PIECES, b"\r\r\n", b"\n\n", b"\r\n\0"], (1, 2), [*PIECES, b"\r\r\n", b""])
        if not (before.endswith(b"\r\n") and dots == 1 and after == b"\r\n")
    }
)


@pytest.mark.parametrize("false_end", FALSE_ENDS, ids=repr)
def test_no_false_end_of_data_ends_it(false_end: bytes) -> None:
    smuggled = b"MAIL FROM:<evil@bar.com>\r\nRCPT TO:<victim@foo.com>\r\nDATA\r\nSpoofed\r\n"
    server = Host().greeted()
    server.feed(ENVELOPE + b"DATA\r\n")
    assert len(server.codes(b"Real" + false_end + smuggled + b".\r\n")) == 1
    assert len(server.ends) == 1
    assert [event for event in server.events if isinstance(event, Mail)] == [Mail(Address("a", "bar.com"))]
    raw = b"Real" + false_end + smuggled
    if b"\0" in raw or raw.replace(b"\r\n", b"").count(b"\r"):
        assert server.ends[0].fault == Reply.of(554, "5.6.0", "The message holds NUL or a bare CR")
    else:
        content = raw.replace(b"\r\n.", b"\r\n").replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        assert (server.content, server.ends[0]) == (content, BodyEnd(len(content)))


def test_the_true_end_of_data_does_end_it() -> None:
    server = Host().greeted()
    assert server.codes(ENVELOPE + b"DATA\r\n", b"Real\r\n.\r\nNOOP\r\n") == [250, 250, 250, 354, 250, 250]


def test_an_empty_body_is_ended_by_the_line_end_of_data() -> None:
    server = Host().greeted()
    assert server.codes(ENVELOPE + b"DATA\r\n.\r\nNOOP\r\n") == [250, 250, 250, 354, 250, 250]
    assert server.ends == [BodyEnd(0)]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\n\r", b"\0", b"\x0b", b"\x85", b"\r\0\n"], ids=repr)
def test_only_crlf_ends_a_command(end: bytes) -> None:
    server = host()
    assert server.feed(b"NOOP" + end + b"NOOP" + end) == b""
    assert server.codes(b"\r\n") == [500]
    assert [type(event) for event in server.events] == [Rejected]


# STARTTLS: CVE-2011-0411, "NO STARTTLS"


@pytest.mark.parametrize("injected", [b"EHLO evil\r\nMAIL FROM:<evil@bar.com>\r\n", b"NOOP ", b"\r\n", b"\0"], ids=repr)
def test_nothing_may_follow_starttls(injected: bytes) -> None:
    server = host(starttls=True)
    assert server.feed(b"STARTTLS\r\n" + injected) == b"554 5.5.1 Nothing may follow STARTTLS before TLS begins\r\n"
    assert server.engine.closed and not server.engine.secure and server.engine.buffered == 0
    assert not [event for event in server.events if isinstance(event, StartTLS | Mail | Noop)]


def test_octets_that_come_while_starttls_awaits_its_answer_are_dropped() -> None:
    engine = host(starttls=True).engine
    engine.receive_data(b"STARTTLS\r\n")
    assert engine.next_event() is not None
    engine.receive_data(b"EHLO evil\r\n")
    engine.reply(Reply(220, "Go on"))
    assert (engine.buffered, engine.next_event()) == (0, None)


def test_a_second_starttls_is_refused_and_not_offered() -> None:
    server = host(starttls=True)
    server.feed(b"STARTTLS\r\n")
    assert b"STARTTLS" not in server.feed(b"EHLO bar.com\r\n")
    assert server.codes(b"STARTTLS\r\n") == [503]


def test_starttls_where_there_is_none() -> None:
    assert host().codes(b"STARTTLS\r\n") == [502]


def test_starttls_with_a_parameter_drops_nothing() -> None:
    server = host(starttls=True)
    assert server.codes(b"STARTTLS x\r\nNOOP\r\n") == [501, 250]
    assert not server.engine.secure


def test_a_refused_starttls_changes_nothing() -> None:
    server = host(starttls=True, answer=lambda event: None if isinstance(event, Noop) else Reply(454, "Not now"))
    assert server.codes(b"STARTTLS\r\n", b"NOOP\r\n") == [454, 250]
    assert not server.engine.secure


def test_starttls_forgets_a_login_in_clear() -> None:
    server = host(starttls=True, auth=("PLAIN",))
    server.feed(b"AUTH PLAIN\r\nAGEAYg==\r\n")
    assert server.engine.authenticated
    server.feed(b"STARTTLS\r\n")
    assert not server.engine.authenticated


# AUTH


def test_auth_before_tls_asks_for_encryption() -> None:
    server = host(starttls=True)
    assert server.feed(b"AUTH PLAIN AGEAYg==\r\n").startswith(b"538 5.7.11 ")
    assert [type(event) for event in server.events] == [Rejected]


def test_auth_where_there_is_none() -> None:
    assert host().feed(b"AUTH PLAIN\r\n").startswith(b"502 5.5.1 ")


@pytest.mark.parametrize("line", [b"AUTH", b"AUTH ", b"AUTH PL@IN", b"AUTH PLAIN a b", b"AUTH " + b"X" * 21], ids=repr)
def test_auth_malformed(line: bytes) -> None:
    assert host(auth=("PLAIN",)).feed(line + b"\r\n").startswith(b"501 5.5.4 ")


def test_auth_by_an_unknown_mechanism() -> None:
    server = host(auth=("PLAIN",))
    assert server.feed(b"AUTH LOGIN\r\n").startswith(b"504 5.5.4 ")
    assert server.codes(b"NOOP\r\n") == [250]


@pytest.mark.parametrize(
    "base64",
    [b"*", b"==", b"=AAA", b"AAA", b"AAAAA", b"AA=A", b"AB==", b"AGEAYg=", b"AGE=AYg=", b"AG!AYg==", b"AGEAYg==="],
)
def test_bad_base64(base64: bytes) -> None:
    server = host(auth=("PLAIN",))
    assert server.feed(b"AUTH PLAIN " + base64 + b"\r\n").startswith(b"501 5.5.2 ")
    if base64 != b"*":
        server.feed(b"AUTH PLAIN\r\n")
        assert server.feed(base64 + b"\r\n").startswith(b"501 5.5.2 ")
    assert server.codes(b"NOOP\r\n") == [250]


def test_bad_base64_of_one_client_harms_no_other() -> None:
    """CVE-2025-59028."""
    bad, good = host(auth=("PLAIN",)), host(auth=("PLAIN",))
    bad.feed(b"AUTH PLAIN\r\n")
    good.feed(b"AUTH PLAIN\r\n")
    assert bad.codes(b"!\r\n") == [501]
    assert good.codes(b"AGEAYg==\r\n") == [235]


def test_an_empty_initial_response_is_not_a_missing_one() -> None:
    server = host(auth=("PLAIN",))
    server.feed(b"AUTH plain =\r\n*\r\nAUTH PLAIN\r\n*\r\n")
    assert [event for event in server.events if isinstance(event, Auth)] == [Auth("PLAIN", b""), Auth("PLAIN", None)]


def test_an_empty_response_is_a_response() -> None:
    server = host(auth=("PLAIN",))
    server.feed(b"AUTH PLAIN\r\n\r\n")
    assert server.events == [Auth("PLAIN", None), AuthResponse(b"")]


def test_a_cancelled_exchange_is_over() -> None:
    server = host(auth=("PLAIN",))
    assert server.feed(b"AUTH PLAIN\r\n*\r\n") == b"334 \r\n501 5.7.0 Authentication cancelled\r\n"
    assert server.codes(b"NOOP\r\n") == [250]
    assert not server.engine.authenticated


def test_several_challenges() -> None:
    def answer(event: Event) -> Reply | bytes | None:
        if isinstance(event, AuthResponse) and event.data == b"user":
            return b"Password:"
        return b"Username:" if isinstance(event, Auth) else None

    server = host(auth=("LOGIN",), answer=answer)
    assert server.feed(b"AUTH LOGIN\r\n") == b"334 VXNlcm5hbWU6\r\n"
    assert server.feed(b"dXNlcg==\r\n") == b"334 UGFzc3dvcmQ6\r\n"
    assert server.codes(b"cGFzcw==\r\n") == [235]
    assert server.engine.authenticated


def test_a_failed_login_leaves_a_connection_without_login() -> None:
    server = host(auth=("PLAIN",), answer=lambda event: Reply(535, "No") if isinstance(event, Auth) else None)
    assert server.codes(b"AUTH PLAIN AGEAYg==\r\nAUTH PLAIN AGEAYg==\r\n") == [535, 535]
    assert not server.engine.authenticated


def test_a_second_auth_is_refused_and_not_offered() -> None:
    server = host(auth=("PLAIN",))
    assert server.codes(b"AUTH PLAIN\r\nAGEAYg==\r\nAUTH PLAIN\r\n") == [334, 235, 503]
    assert b"AUTH" not in server.feed(b"EHLO bar.com\r\n")


def test_auth_inside_a_transaction_is_refused() -> None:
    assert host(auth=("PLAIN",)).codes(b"MAIL FROM:<>\r\nAUTH PLAIN AGEAYg==\r\n") == [250, 503]


def test_a_huge_response_is_refused_and_ends_the_exchange() -> None:
    server = host(auth=("PLAIN",), limits=Limits(auth_line=12288))
    server.feed(b"AUTH PLAIN\r\n")
    assert server.codes(b"A" * 12284 + b"\r\n") == [235]
    server = host(auth=("PLAIN",))
    server.feed(b"AUTH PLAIN\r\n")
    assert server.feed(b"A" * 100_000 + b"\r\n").startswith(b"500 5.5.6 ")
    assert server.most_buffered <= 12288
    assert server.codes(b"NOOP\r\n") == [250]


# Strangers


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"POST /x HTTP/1.0", b"CONNECT a:25 HTTP/1.1", b"PRI * HTTP/2.0"])
def test_a_browser_is_sent_away_before_its_body_is_read(line: bytes) -> None:
    server = Host().greeted()
    assert server.codes(line + b"\r\nHost: a\r\n\r\nEHLO evil\r\nMAIL FROM:<>\r\n") == [554]
    assert server.events == [Rejected(Reply.of(554, "5.5.1", "This is SMTP"), fatal=True)]
    assert server.engine.closed


def test_bdat_data_is_not_read_as_commands() -> None:
    server = host()
    assert server.codes(b"BDAT 25\r\nMAIL FROM:", b"<e@bar.com>\r\n..NOOP\r\n") == [503, 250]
    assert [type(event) for event in server.events] == [Rejected, Noop]


@pytest.mark.parametrize("line", [b"BDAT 99999999999999999999", b"BDAT", b"BDAT x", b"BDAT -1", b"BDAT 1 2"])
def test_bdat_of_unknown_or_endless_length_closes(line: bytes) -> None:
    server = host()
    assert len(server.codes(line + b"\r\nNOOP\r\n")) == 1
    assert server.engine.closed


def test_replies_repeat_nothing_of_the_input() -> None:
    server = host(auth=("PLAIN",))
    for line in (b"ZQXJ", b"MAIL FROM:<ZQXJ", b"VRFY ZQXJ\xff", b"AUTH ZQXJ", b"MAIL FROM:<ZQXJ@@a>", b"EHLO ZQXJ x"):
        out = server.feed(line + b"\r\n")
        assert out
        assert b"ZQXJ" not in out


def test_a_flood_of_bodies_never_ends_in_memory() -> None:
    server = Host(limits=Limits(message_size=10_000)).greeted()
    server.feed(ENVELOPE + b"DATA\r\n")
    for _ in range(100):
        server.feed(b"\r\n.\r\r\n" * 1000)
    assert server.most_buffered <= 4
    assert not any(isinstance(event, BodyChunk) for event in server.events)
    assert server.codes(b"\r\n.\r\n") == [552]
