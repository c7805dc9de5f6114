"""The client engine speaks to the server engine, octets carried in memory."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mail import Address, Body, MailParameters, Recipient, Reply
from mailserver.sasl import Challenge, ClientMechanism, Credentials, Login, Malformed, Plain, mechanism
from mailserver.smtp.client import ClientConnection, Command
from mailserver.smtp.events import Auth, AuthResponse, BodyEnd, Event, Mail
from mailserver.smtp.server import Limits
from tests.support.smtp import Host, exchange

SENDER, RECIPIENT = Address("a", "bar.com"), Address("b", "foo.com")


def meet(host: Host) -> ClientConnection:
    client = ClientConnection()
    host.engine.greet(Reply(220, "ESMTP"))
    exchange(client, host)
    client.ehlo("bar.com")
    assert [answer.reply.code for answer in exchange(client, host)] == [250]
    return client


def send(client: ClientConnection, host: Host, chunks: list[bytes]) -> Reply:
    client.mail(SENDER, MailParameters(body=Body.EIGHT_BIT), size=sum(map(len, chunks)))
    client.rcpt(Recipient(RECIPIENT))
    client.data()
    assert [answer.reply.code for answer in exchange(client, host)] == [250, 250, 354]
    for chunk in chunks:
        client.body(chunk)
        exchange(client, host)
    client.end_body()
    (answer,) = exchange(client, host)
    assert answer.command is Command.BODY
    return answer.reply


CONTENTS = {
    "empty": b"",
    "8-bit": bytes(octet for octet in range(1, 256) if octet not in b"\r\n") + b"\r\n",
    "dots": b".\r\n..\r\n.a\r\na.\r\n\r\n.\r\n" * 1000,
    "a long line": b"x" * 1_000_000 + b"\r\n",
    "dots only": b"." * 100_000 + b"\r\n",
    "commands": b"Subject: x\r\n\r\nQUIT\r\nRSET\r\n.\r\nMAIL FROM:<>\r\n",
    "blank lines": b"\r\n" * 70_000,
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("cut", [7, 65536])
def test_content_comes_over_as_it_is(name: str, cut: int) -> None:
    content = CONTENTS[name]
    if len(content) > 100_000 and cut < 1000:
        content = content[:20_000] + b"\r\n"
    host = Host(limits=Limits(message_size=10**7))
    client = meet(host)
    reply = send(client, host, [content[i : i + cut] for i in range(0, len(content), cut)])
    assert reply.code == 250
    assert host.content == content
    assert host.ends == [BodyEnd(len(content))]
    assert host.events[1] == Mail(SENDER, len(content), Body.EIGHT_BIT)


@given(st.lists(st.sampled_from([b"\r\n", b".", b"\r\n.", b"\xff", b"a"]), max_size=40), st.integers(1, 9))
def test_any_content_cut_anywhere_comes_over_as_it_is(parts: list[bytes], cut: int) -> None:
    content = b"".join(parts) + b"\r\n"
    host = Host()
    client = meet(host)
    for _ in range(2):
        send(client, host, [content[i : i + cut] for i in range(0, len(content), cut)])
    assert host.content == content * 2


def test_ten_megabytes_come_over_in_a_moment() -> None:
    noise = random.Random(1).randbytes(48_000).replace(b"\0", b"0").replace(b"\r", b"\n").replace(b"\n", b"\r\n.")
    chunk = noise[:48_000] + b"\r\n"
    host = Host(limits=Limits(message_size=10**8))
    client = meet(host)
    start = time.process_time()
    assert send(client, host, [chunk] * 210).code == 250
    assert time.process_time() - start < 5
    assert host.content == chunk * 210
    assert host.most_buffered <= 4


def test_a_message_too_large_is_refused_at_mail_and_at_its_end() -> None:
    host = Host(limits=Limits(message_size=10))
    client = meet(host)
    assert client.size_limit == 10
    client.mail(SENDER, size=11)
    assert [answer.reply.code for answer in exchange(client, host)] == [552]
    client.extensions.pop("SIZE")
    assert send(client, host, [b"0123456789\r\n"]).code == 552
    assert send(client, host, [b"01234567\r\n"]).code == 250


def test_starttls_and_ehlo_again() -> None:
    host = Host(starttls=True)
    client = meet(host)
    assert "STARTTLS" in client.extensions
    client.starttls()
    assert [answer.reply.code for answer in exchange(client, host)] == [220]
    assert client.extensions == {}
    client.ehlo("bar.com")
    exchange(client, host)
    assert "STARTTLS" not in client.extensions
    assert "PIPELINING" in client.extensions


@pytest.mark.parametrize("responder", [Plain("us\u00e9r", "pa\u00df"), Login("us\u00e9r", "pa\u00df")])
def test_logging_in(responder: ClientMechanism) -> None:
    exchanges = []

    def answer(event: Event) -> Reply | bytes | None:
        if isinstance(event, Auth):
            exchanges.append(mechanism(event.mechanism))
            response = event.initial
        elif isinstance(event, AuthResponse):
            response = event.data
        else:
            return None
        assert exchanges[-1] is not None
        match exchanges[-1].step(response):
            case Challenge(data):
                return data
            case Credentials("us\u00e9r", "pa\u00df", ""):
                return Reply.of(235, "2.7.0", "Welcome")
            case Malformed() | Credentials():
                return Reply.of(535, "5.7.8", "No")

    host = Host(auth=("PLAIN", "LOGIN"), answer=answer)
    client = meet(host)
    client.auth(responder)
    assert [(event.command, event.reply.code) for event in exchange(client, host)] == [(Command.AUTH, 235)]
    assert host.engine.authenticated
