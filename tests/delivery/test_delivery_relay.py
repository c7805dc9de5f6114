"""The SMTP relay against scripted servers: whatever a remote does, each recipient gets the right status."""

import gc
import weakref

import pytest

from mailserver.config.relay import Relay as Settings
from mailserver.delivery.nexthop import Unroutable
from mailserver.delivery.relay import Relay
from mailserver.delivery.routes import Encryption, LMTPServer, LMTPSocket, Routes, Smarthost
from mailserver.mail import (
    Action,
    Address,
    Content,
    DeliverBy,
    DeliveryStatus,
    Envelope,
    MailParameters,
    Notify,
    Recipient,
    Reply,
    Return,
)
from mailserver.ports import ConnectFailure
from tests.support.fakes import FakeClock, FakeWorkers, run
from tests.support.remote import CLOSE, GARBAGE, HANG, SERVFAIL, ScriptedConnector, ScriptedServer, TableResolver

ALICE = Address("alice", "example.org")
BOB, CAROL, DAVE = (Address(name, "example.net") for name in ("bob", "carol", "dave"))
BODY = b"Subject: hi\r\n\r\n.dot\r\nbye\r\n"
TRACE = b"Received: from here\r\n"


class Setup:
    """A relay and the servers of example.net: `servers` become mx1, mx2, ... by preference."""

    def __init__(
        self, *servers: ScriptedServer, settings: Settings | None = None, resolver=None, hostname="mail.example.org"
    ):
        names = [f"mx{n}.example.net" for n in range(1, len(servers) + 1)]
        addresses = [f"192.0.2.{n}" for n in range(1, len(servers) + 1)]
        self.connector = ScriptedConnector(dict(zip(addresses, servers, strict=True)))
        self.clock = FakeClock()
        self.settings = settings or Settings()
        self.own = set()
        self.leads = True
        self.relay = Relay(
            self.settings,
            hostname=hostname,
            resolver=resolver
            or TableResolver(
                {"example.net": [(n, name) for n, name in enumerate(names)]},
                {name: [address] for name, address in zip(names, addresses, strict=True)},
            ),
            connector=self.connector,
            is_own=lambda address: address in self.own,
            may_send=lambda: self.leads,
            workers=FakeWorkers(),
            clock=self.clock,
        )

    def site(self, next_hop="example.net", transport=None):
        if transport is None:
            transport = Routes.of((), self.settings).transport(BOB, ALICE)
        return run(self.relay.locate(transport, next_hop))

    def deliver(self, *recipients, idle=60.0, **arguments):
        """After it the connection waits for `idle` seconds."""
        statuses = self.hand_over(*recipients, **arguments)
        self.clock.advance(idle)
        return statuses

    def hand_over(
        self,
        *recipients,
        sender=ALICE,
        body=BODY,
        header=TRACE,
        next_hop="example.net",
        smtputf8=False,
        transport=None,
        requiretls=False,
    ):
        content = Content(body)
        told = tuple(each if isinstance(each, Recipient) else Recipient(each) for each in recipients or (BOB,))
        parameters = MailParameters(smtputf8=smtputf8, ret=Return.HEADERS, envid="id=1", requiretls=requiretls)
        try:
            site = self.site(next_hop, transport)
        except Unroutable as error:
            return [DeliveryStatus.of_reply(each.address, error.reply, None) for each in told]
        return run(self.relay.deliver(site, Envelope(sender, told, parameters), header, content))

    def outcome(self, *recipients, **arguments):
        """(action, code, host) of the one status."""
        (status,) = self.deliver(*recipients, **arguments)
        return status.action, status.reply.code, status.host


# The good way


def test_a_message_is_handed_over_with_its_trace_fields_on_top():
    server = ScriptedServer()
    (status,) = Setup(server).deliver()
    assert (status.recipient, status.action, status.host) == (BOB, Action.RELAYED, "mx1.example.net")
    assert status.reply == Reply.of(250, "2.0.0", "taken")
    size = len(TRACE + BODY)
    assert server.commands == [
        "EHLO mail.example.org",
        f"MAIL FROM:<alice@example.org> SIZE={size}",
        "RCPT TO:<bob@example.net>",
        "DATA",
        "QUIT",
    ]
    assert server.bodies == [TRACE + BODY]
    assert server.sessions[0].closed


def test_a_report_without_header_of_its_own_goes_out_whole_with_the_null_reverse_path():
    server = ScriptedServer()
    assert Setup(server).outcome(sender=None, header=b"")[0] is Action.RELAYED
    assert server.commands[1].startswith("MAIL FROM:<> ")
    assert server.bodies == [BODY]


@pytest.mark.parametrize("extensions", [(), ("PIPELINING",)])
def test_each_recipient_gets_the_answer_that_was_its_own(extensions):
    server = ScriptedServer({"RCPT TO:<carol": "550 5.1.1 unknown", "RCPT TO:<dave": "452 4.2.2 full"}, extensions)
    statuses = Setup(server).deliver(BOB, CAROL, DAVE)
    assert [(s.recipient, s.action, s.reply.code) for s in statuses] == [
        (BOB, Action.RELAYED, 250),
        (CAROL, Action.FAILED, 550),
        (DAVE, Action.DELAYED, 452),
    ]
    assert {s.host for s in statuses} == {"mx1.example.net"}
    assert server.bodies == [TRACE + BODY]


def test_without_a_valid_recipient_no_data_is_sent():
    server = ScriptedServer({"RCPT": "550 5.1.1 unknown", "DATA": "554 5.5.1 no valid recipients"})
    assert [s.action for s in Setup(server).deliver(BOB, CAROL)] == [Action.FAILED] * 2
    assert server.bodies == []


def test_a_server_that_wants_data_though_it_took_no_recipient_gets_an_empty_message():
    """RFC 2920 §3.1."""
    server = ScriptedServer({"RCPT": "550 5.1.1 unknown", "BODY": "554 5.5.1 no valid recipients"})
    assert [s.action for s in Setup(server).deliver(BOB, CAROL)] == [Action.FAILED] * 2
    assert server.bodies == [b"\r\n"]


def test_without_pipelining_nothing_is_sent_before_its_time():
    server = ScriptedServer({"RCPT": "550 5.1.1 unknown"}, extensions=())
    assert [s.action for s in Setup(server).deliver(BOB, CAROL)] == [Action.FAILED] * 2
    assert "DATA" not in server.commands


def test_a_server_without_ehlo_is_greeted_by_helo():
    server = ScriptedServer({"EHLO": "502 5.5.1 what?"})
    assert Setup(server).outcome() == (Action.RELAYED, 250, "mx1.example.net")
    assert server.commands[:3] == ["EHLO mail.example.org", "HELO mail.example.org", "MAIL FROM:<alice@example.org>"]


def test_large_content_is_streamed_whole():
    server = ScriptedServer(extensions=())
    body = b"0123456789abcde\r\n" * 200_000
    assert Setup(server).outcome(body=body)[0] is Action.RELAYED
    assert server.bodies == [TRACE + body]


# Each stage: temporary and permanent answers, and servers that leave

STAGES = ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "BODY"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_temporary_answer_delays(stage):
    assert Setup(ScriptedServer({stage: "450 4.7.1 later"})).outcome() == (Action.DELAYED, 450, "mx1.example.net")


@pytest.mark.parametrize("stage", ["GREETING", "MAIL", "RCPT", "DATA", "BODY"])
def test_a_permanent_answer_fails(stage):
    assert Setup(ScriptedServer({stage: "554 5.7.1 never"})).outcome() == (Action.FAILED, 554, "mx1.example.net")


def test_a_server_that_knows_neither_ehlo_nor_helo_fails():
    server = ScriptedServer({"EHLO": "502 no", "HELO": "504 no"})
    assert Setup(server).outcome() == (Action.FAILED, 504, "mx1.example.net")


@pytest.mark.parametrize("stage", [*STAGES, "HELO"])
@pytest.mark.parametrize(
    "fault", [CLOSE, HANG, GARBAGE, b"x" * 100_000, b"250-ok\r\n" * 200, b"999 no\r\n", b"250-a\r\n550 b\r\n"]
)
def test_a_server_that_leaves_hangs_or_babbles_delays(stage, fault):
    script = {stage: fault} | ({"EHLO": "502 no"} if stage == "HELO" else {})
    action, code, host = Setup(ScriptedServer(script)).outcome()
    assert (action, code, host) == (Action.DELAYED, 451, None)


@pytest.mark.parametrize("stage", STAGES)
def test_a_server_that_is_going_down_delays(stage):
    assert Setup(ScriptedServer({stage: "421 4.3.2 shutting down"})).outcome()[:2] == (Action.DELAYED, 421)


@pytest.mark.parametrize(
    ("stage", "answer"), [("MAIL", "354 go on"), ("RCPT", "354 go on"), ("DATA", "250 ok"), ("BODY", "354 more")]
)
def test_an_answer_of_the_wrong_kind_delays_and_nothing_is_thought_delivered(stage, answer):
    server = ScriptedServer({stage: answer})
    action, _, _ = Setup(server).outcome()
    assert action is Action.DELAYED
    if stage != "BODY":
        assert server.bodies == []


# Several servers


@pytest.mark.parametrize("stage", ["GREETING", "EHLO", "MAIL", "DATA"])
@pytest.mark.parametrize("fault", [CLOSE, HANG, GARBAGE, "421 4.3.2 shutting down"])
def test_the_next_server_is_tried_when_one_has_not_taken_the_message(stage, fault):
    first, second = ScriptedServer({stage: fault}), ScriptedServer()
    assert Setup(first, second).outcome() == (Action.RELAYED, 250, "mx2.example.net")
    assert first.sessions[0].closed


def test_the_next_server_is_tried_when_one_refuses_the_connection():
    setup = Setup(ScriptedServer(), ScriptedServer())
    del setup.connector.servers["192.0.2.1"]
    assert setup.outcome() == (Action.RELAYED, 250, "mx2.example.net")
    assert setup.connector.attempts == [("192.0.2.1", 25), ("192.0.2.2", 25)]


@pytest.mark.parametrize("fault", [CLOSE, HANG, GARBAGE, "421 4.3.2 bye", "451 4.3.0 disk"])
def test_after_the_final_dot_no_other_server_is_tried(fault):
    first, second = ScriptedServer({"BODY": fault}), ScriptedServer()
    assert Setup(first, second).outcome()[0] is Action.DELAYED
    assert len(first.bodies) == 1
    assert second.sessions == []


def test_an_answer_lost_after_the_final_dot_delays_only_those_that_were_accepted():
    server = ScriptedServer({"RCPT TO:<carol": "550 5.1.1 unknown", "BODY": CLOSE})
    bob, carol = Setup(server).deliver(BOB, CAROL)
    assert (bob.action, bob.host) == (Action.DELAYED, None)
    assert "may come twice" in bob.reply.text
    assert (carol.action, carol.reply.code, carol.host) == (Action.FAILED, 550, "mx1.example.net")


def test_a_refusal_by_one_server_is_not_taken_to_the_next():
    first, second = ScriptedServer({"RCPT": "550 5.1.1 unknown"}), ScriptedServer()
    assert Setup(first, second).outcome() == (Action.FAILED, 550, "mx1.example.net")
    assert second.sessions == []


def test_when_all_servers_fail_a_temporary_failure_counts_more_than_a_permanent_one():
    servers = ScriptedServer({"GREETING": "554 5.7.1 no"}), ScriptedServer({"GREETING": CLOSE})
    assert Setup(*servers).outcome()[0] is Action.DELAYED
    servers = ScriptedServer({"GREETING": "554 5.7.1 no"}), ScriptedServer({"GREETING": "521 5.3.2 no mail"})
    assert Setup(*servers).outcome() == (Action.FAILED, 554, "mx1.example.net")


def test_no_server_that_answers_is_temporary():
    setup = Setup(ScriptedServer())
    setup.connector.servers = {}
    (status,) = setup.deliver()
    assert (status.action, str(status.reply.status), status.host) == (Action.DELAYED, "4.4.1", None)


def test_a_dns_that_does_not_answer_is_temporary():
    setup = Setup(resolver=TableResolver({"example.net": SERVFAIL}))
    assert setup.outcome() == (Action.DELAYED, 451, None)


def test_a_null_mx_fails_without_a_connection():
    setup = Setup(resolver=TableResolver({"example.net": [(0, "")]}))
    assert setup.outcome() == (Action.FAILED, 556, None)
    assert setup.connector.attempts == []


def test_a_server_that_calls_itself_like_this_one_is_a_circle():
    (status,) = Setup(ScriptedServer(name="Mail.Example.org")).deliver()
    assert (status.action, str(status.reply.status), status.host) == (Action.FAILED, "5.4.6", None)


def test_an_address_literal_is_connected_to_at_the_configured_port():
    setup = Setup(settings=Settings(port=2525))
    setup.connector.servers = {"192.0.2.9": ScriptedServer()}
    assert setup.outcome(Address("bob", "[192.0.2.9]"), next_hop="[192.0.2.9]")[0] is Action.RELAYED
    assert setup.connector.attempts == [("192.0.2.9", 2525)]


# Encryption


def tls_server(script=None, **more):
    return ScriptedServer(script or {}, extensions=("STARTTLS", "PIPELINING"), **more)


def test_encryption_is_used_where_it_is_offered_and_ehlo_is_said_again():
    server = tls_server()
    assert Setup(server).outcome()[0] is Action.RELAYED
    assert server.commands[:4] == [
        "EHLO mail.example.org",
        "STARTTLS",
        "<TLS mx1.example.net>",
        "EHLO mail.example.org",
    ]
    assert server.sessions[0].verified is False


def test_when_the_handshake_fails_the_message_goes_in_clear_over_a_new_connection():
    server = tls_server(tls_works=False)
    assert Setup(server).outcome()[0] is Action.RELAYED
    first, second = server.sessions
    assert first.closed
    assert second.tls is None
    assert server.commands.count("STARTTLS") == 1


@pytest.mark.parametrize("answer", ["454 4.7.0 not now", "502 5.5.1 what?"])
def test_when_starttls_is_refused_the_session_goes_on_in_clear(answer):
    server = tls_server({"STARTTLS": answer})
    assert Setup(server).outcome()[0] is Action.RELAYED
    assert len(server.sessions) == 1


def test_answers_injected_before_the_handshake_are_not_believed():
    server = tls_server({"STARTTLS": b"220 go\r\n250-mx.example.net\r\n250 AUTH PLAIN\r\n250 2.1.0 fine\r\n"})
    assert Setup(server).outcome()[0] is Action.RELAYED
    assert server.commands.count("EHLO mail.example.org") == 2
    assert server.bodies == [TRACE + BODY]


# What a server cannot take


def test_a_message_larger_than_the_server_takes_fails_without_being_sent():
    server = ScriptedServer(extensions=("SIZE 10",))
    (status,) = Setup(server).deliver()
    assert (status.action, str(status.reply.status)) == (Action.FAILED, "5.3.4")
    assert server.commands == ["EHLO mail.example.org", "QUIT"]


@pytest.mark.parametrize("size", ["SIZE", "SIZE 0", "SIZE many", "SIZE 99999999999999999999999999"])
def test_a_size_that_says_nothing_is_no_limit(size):
    assert Setup(ScriptedServer(extensions=(size,))).outcome()[0] is Action.RELAYED


def test_8_bit_content_is_announced_where_8bitmime_is_offered():
    server = ScriptedServer(extensions=("8BITMIME",))
    assert Setup(server).outcome(body="Grüße\r\n".encode())[0] is Action.RELAYED
    assert "MAIL FROM:<alice@example.org> BODY=8BITMIME" in server.commands


def test_8_bit_content_fails_where_8bitmime_is_not_offered():
    server = ScriptedServer(extensions=())
    (status,) = Setup(server).deliver(body="Grüße\r\n".encode())
    assert (status.action, str(status.reply.status)) == (Action.FAILED, "5.6.3")
    assert server.bodies == []


def test_addresses_that_are_not_ascii_fail_and_do_not_harm_the_others():
    umlaut = Address("jürgen", "example.net")
    server = ScriptedServer()
    first, second = Setup(server).deliver(umlaut, BOB)
    assert (first.action, str(first.reply.status)) == (Action.FAILED, "5.6.7")
    assert second.action is Action.RELAYED
    (only,) = Setup(server).deliver(BOB, sender=umlaut)
    assert only.action is Action.FAILED


def test_a_message_in_utf8_is_announced_as_such():
    umlaut = Address("jürgen", "exämple.net")
    server = ScriptedServer(extensions=("PIPELINING", "8BITMIME", "SMTPUTF8"))
    (status,) = Setup(server).deliver(BOB, sender=umlaut, smtputf8=True)
    assert status.action is Action.RELAYED
    assert server.commands[1] == "MAIL FROM:<jürgen@exämple.net> SMTPUTF8"
    server.commands.clear()
    (status,) = Setup(server).deliver(umlaut, next_hop="example.net", smtputf8=True)
    assert (status.recipient, status.action) == (umlaut, Action.RELAYED)
    assert server.commands[1:3] == [f"MAIL FROM:<{ALICE}> SMTPUTF8", "RCPT TO:<jürgen@exämple.net>"]
    server.commands.clear()
    Setup(server).deliver(body="Subject: Grüße\r\n\r\nx\r\n".encode(), smtputf8=True)
    assert server.commands[1] == f"MAIL FROM:<{ALICE}> BODY=8BITMIME SMTPUTF8"
    server.commands.clear()
    Setup(server).deliver(body="Subject: x\r\n\r\nGrüße\r\n".encode(), smtputf8=True)
    assert server.commands[1] == f"MAIL FROM:<{ALICE}> BODY=8BITMIME", "only the body has other octets"


def test_a_header_in_utf8_fails_where_smtputf8_is_not_offered():
    server = ScriptedServer()
    (status,) = Setup(server).deliver(body="Subject: Grüße\r\n\r\nx\r\n".encode(), smtputf8=True)
    assert (status.action, str(status.reply.status)) == (Action.FAILED, "5.6.7")
    assert server.bodies == []


def test_a_domain_is_spelled_in_ascii_where_smtputf8_is_not_offered():
    server = ScriptedServer()
    recipient = Address("bob", "bücher.example")
    resolver = TableResolver({"xn--bcher-kva.example": [(1, "mx1.example.net")]}, {"mx1.example.net": ["192.0.2.1"]})
    (status,) = Setup(server, resolver=resolver).deliver(recipient, next_hop=recipient.domain, smtputf8=True)
    assert (status.recipient, status.action) == (recipient, Action.RELAYED)
    assert server.commands[2] == "RCPT TO:<bob@xn--bcher-kva.example>"
    assert resolver.asked[0] == "MX xn--bcher-kva.example"


@pytest.mark.parametrize("octets", [b"a\rb\r\n", b"a\nb\r\n", b"\0\r\n", b"a\r"])
def test_binary_content_goes_by_bdat_octet_for_octet(octets):
    server = ScriptedServer(extensions=("8BITMIME", "CHUNKING", "BINARYMIME"))
    (status,) = Setup(server).deliver(body=octets)
    assert status.action is Action.RELAYED
    assert server.commands[1] == f"MAIL FROM:<{ALICE}> BODY=BINARYMIME"
    assert server.commands[-2] == "BDAT 0 LAST"
    assert b"".join(server.bodies) == TRACE + octets


def test_binary_content_fails_where_it_is_not_taken():
    server = ScriptedServer(extensions=("8BITMIME", "CHUNKING"))
    (status,) = Setup(server).deliver(body=b"\0\r\n")
    assert (status.action, str(status.reply.status)) == (Action.FAILED, "5.6.3")


@pytest.mark.parametrize(("answer", "action"), [("552 5.3.4 no", Action.FAILED), ("452 4.3.1 no", Action.DELAYED)])
def test_a_chunk_that_is_refused_ends_the_attempt(answer, action):
    server = ScriptedServer({"BDAT": answer}, extensions=("CHUNKING", "BINARYMIME"))
    (status,) = Setup(server).deliver(body=b"\0\r\n")
    assert (status.action, len(server.bodies)) == (action, 1)


DSN_SERVER = ("PIPELINING", "8BITMIME", "DSN")


def test_what_the_sender_wants_to_be_told_is_passed_on():
    server = ScriptedServer(extensions=DSN_SERVER)
    told = Recipient(BOB, None, frozenset({Notify.SUCCESS, Notify.FAILURE}), "rfc822;b+ob@x")
    first, second = Setup(server).deliver(told, Recipient(CAROL, None, frozenset({Notify.NEVER})))
    assert server.commands[1:4] == [
        f"MAIL FROM:<{ALICE}> RET=HDRS ENVID=id+3D1",
        f"RCPT TO:<{BOB}> NOTIFY=FAILURE,SUCCESS ORCPT=rfc822;b+2Bob@x",
        f"RCPT TO:<{CAROL}> NOTIFY=NEVER",
    ]
    assert first.passed_on and second.passed_on


@pytest.mark.parametrize(
    ("address", "extensions", "told"),
    [
        (Address("ü", "example.net"), ("8BITMIME", "SMTPUTF8", "DSN"), "utf-8;ü@x"),
        (BOB, ("8BITMIME", "DSN"), r"utf-8;\x{FC}@x"),
    ],
)
def test_what_the_sender_calls_a_recipient_is_written_as_the_server_takes_it(address, extensions, told):
    server = ScriptedServer(extensions=extensions)
    Setup(server).deliver(Recipient(address, None, None, "utf-8;ü@x"))
    assert f"RCPT TO:<{address}> ORCPT={told}" in server.commands


def test_a_server_without_dsn_is_told_nothing_and_tells_nothing():
    server = ScriptedServer()
    (status,) = Setup(server).deliver(Recipient(BOB, None, frozenset({Notify.SUCCESS})))
    assert server.commands[2] == f"RCPT TO:<{BOB}>"
    assert (status.action, status.passed_on) == (Action.RELAYED, False)
    (status,) = Setup(ScriptedServer({"RCPT": "550 5.1.1 no"}, extensions=DSN_SERVER)).deliver(BOB)
    assert not status.passed_on, "what was refused is ours to tell"


REQUIRING = ("PIPELINING", "8BITMIME", "STARTTLS", "REQUIRETLS")


def required(*servers):
    setup = Setup(*servers)
    envelope = Envelope(ALICE, (Recipient(BOB),), MailParameters(requiretls=True))
    (status,) = run(setup.relay.deliver(setup.site(), envelope, TRACE, Content(BODY)))
    return status.action, str(status.reply.status)


def test_requiretls_verifies_the_server_and_passes_the_demand_on():
    server = ScriptedServer(extensions=REQUIRING)
    assert required(server) == (Action.RELAYED, "2.0.0")
    assert server.sessions[0].verified
    assert f"MAIL FROM:<{ALICE}> REQUIRETLS" in server.commands


@pytest.mark.parametrize("extensions", [("REQUIRETLS",), ("STARTTLS",), ()])
def test_requiretls_fails_where_it_cannot_be_promised(extensions):
    server = ScriptedServer(extensions=extensions)
    assert required(server) == (Action.FAILED, "5.7.30")
    assert server.bodies == []
    setup = Setup(ScriptedServer(extensions=extensions))
    envelope = Envelope(ALICE, (Recipient(BOB),), MailParameters(requiretls=True))
    (status,) = run(setup.relay.deliver(setup.site(), envelope, TRACE, Content(BODY)))
    assert status.host is None, "the words are ours"


def test_requiretls_never_falls_back_to_clear():
    server = ScriptedServer(extensions=REQUIRING, tls_works=False)
    assert required(server) == (Action.DELAYED, "4.7.0")
    assert len(server.sessions) == 1
    assert required(ScriptedServer(extensions=()), ScriptedServer(extensions=REQUIRING)) == (Action.RELAYED, "2.0.0")


# Hostile servers and time


def test_a_server_that_answers_octet_by_octet_runs_out_of_time():
    server = ScriptedServer()
    setup = Setup(server)

    class Dripping:
        tls = certificate = None
        peer = "192.0.2.1"
        closed = False

        async def read(self, timeout):
            assert timeout >= 0
            setup.clock.advance(60.0)
            if timeout < 60.0:
                raise ConnectFailure("no answer within the timeout")
            return b"2"

        async def write(self, data, timeout):
            pass

        def close(self):
            self.closed = True

    dripping = Dripping()

    class Connector:
        async def connect_any(self, addresses, port, timeout):
            return dripping

    setup.relay._connector = Connector()
    begun = setup.clock.monotonic()
    assert setup.outcome(idle=0.0) == (Action.DELAYED, 451, None)
    assert setup.clock.monotonic() - begun <= 300.0 + 60.0
    assert dripping.closed


def test_a_domain_of_many_hanging_servers_runs_out_of_patience():
    servers = [ScriptedServer({"GREETING": HANG}) for _ in range(10)]
    setup = Setup(*servers)
    real = setup.connector.connect_any

    async def connect(*arguments):
        setup.clock.advance(300.0)
        return await real(*arguments)

    setup.connector.connect_any = connect
    assert setup.outcome() == (Action.DELAYED, 451, None)
    assert len(setup.connector.attempts) == 4


def test_a_server_that_reads_slowly_for_hours_is_given_up():
    server = ScriptedServer(extensions=())
    setup = Setup(server)
    body = b"0123456789abcde\r\n" * 200_000
    content = Content(body)
    real = Content.chunks

    class Slow(Content):
        in_memory = False

        def chunks(self):
            for chunk in real(content):
                if "DATA" in server.commands:
                    setup.clock.advance(1000.0)
                yield chunk

    slow = Slow()
    slow.size = content.size
    (status,) = run(setup.relay.deliver(setup.site(), Envelope(ALICE, (Recipient(BOB),)), TRACE, slow))
    assert (status.action, status.host) == (Action.DELAYED, None)
    assert "too slow" in status.reply.text
    assert server.bodies == []


def test_each_stage_waits_as_long_as_the_standard_asks():
    server = ScriptedServer(extensions=())
    Setup(server).deliver()
    assert server.sessions[0].timeouts == [300.0, 300.0, 300.0, 300.0, 120.0, 600.0]


def test_unreadable_content_never_gets_a_final_dot():
    server = ScriptedServer()
    setup = Setup(server)

    class Broken(Content):
        def chunks(self):
            yield b"Subject: x\r\n"
            if any(command == "DATA" for command in server.commands):
                raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input"):
        run(setup.relay.deliver(setup.site(), Envelope(ALICE, (Recipient(BOB),)), TRACE, Broken()))
    assert server.bodies == []
    assert server.sessions[0].closed


def test_abort_closes_what_is_open_and_tries_no_other_server():
    first, second = ScriptedServer(), ScriptedServer()
    setup = Setup(first, second)
    original = first.answer

    def answer(command):
        if command.startswith("MAIL"):
            setup.relay.abort()
        return original(command)

    first.answer = answer
    assert setup.outcome()[0] is Action.DELAYED
    assert second.sessions == []


# The smarthost


@pytest.fixture
def password(tmp_path):
    file = tmp_path / "password"
    file.write_text("secret\n")
    return file


def smarthost(server, password=None, *, port=587, user="relay@example.org"):
    settings = Settings(
        smarthost=f"smart.example.com:{port}",
        smarthost_user=user if password else None,
        smarthost_password_file=password,
    )
    resolver = TableResolver({}, {"smart.example.com": ["192.0.2.1"]})
    return Setup(server, settings=settings, resolver=resolver)


def test_all_domains_share_the_smarthost_and_no_mx_is_asked_for():
    server = ScriptedServer()
    setup = smarthost(server)
    assert setup.site("example.net").key == setup.site("example.com").key == "smarthost:smart.example.com:587"
    assert setup.outcome() == (Action.RELAYED, 250, "smart.example.com")
    assert setup.connector.attempts == [("192.0.2.1", 587)]


def test_a_login_is_made_over_verified_tls_only(password):
    server = ScriptedServer(extensions=("STARTTLS", "AUTH PLAIN LOGIN"))
    assert smarthost(server, password).outcome()[0] is Action.RELAYED
    assert server.sessions[0].verified is True
    assert server.commands.index("<TLS smart.example.com>") < server.commands.index(
        "AUTH PLAIN AHJlbGF5QGV4YW1wbGUub3JnAHNlY3JldA=="
    )


@pytest.mark.parametrize(
    "server",
    [
        ScriptedServer(extensions=("AUTH PLAIN",)),
        ScriptedServer(extensions=("STARTTLS", "AUTH PLAIN"), tls_works=False),
        ScriptedServer({"STARTTLS": "454 4.7.0 no"}, extensions=("STARTTLS", "AUTH PLAIN")),
    ],
)
def test_without_encryption_no_password_is_sent_and_the_mail_waits(server, password):
    (status,) = smarthost(server, password).deliver()
    assert (status.action, str(status.reply.status)) == (Action.DELAYED, "4.7.0")
    assert not any(command.startswith(("AUTH", "MAIL")) for command in server.commands)
    assert len(server.sessions) == 1  # not even tried in clear


@pytest.mark.parametrize(
    ("script", "mechanisms"), [({"AUTH": "535 5.7.8 wrong"}, "AUTH PLAIN"), ({}, "AUTH XOAUTH2"), ({}, "DSN")]
)
def test_a_login_that_fails_returns_no_mail(script, mechanisms, password):
    server = ScriptedServer(script, extensions=("STARTTLS", mechanisms))
    (status,) = smarthost(server, password).deliver()
    assert (status.action, str(status.reply.status)) == (Action.DELAYED, "4.7.0")
    assert "secret" not in str(status)
    assert not any(command.startswith("MAIL") for command in server.commands)


def test_a_password_that_cannot_be_read_returns_no_mail(tmp_path):
    server = ScriptedServer(extensions=("STARTTLS", "AUTH PLAIN"))
    (status,) = smarthost(server, tmp_path / "missing").deliver()
    assert status.action is Action.DELAYED
    assert str(tmp_path) not in str(status)


def test_port_465_is_encrypted_from_the_first_octet(password):
    server = ScriptedServer(extensions=("AUTH LOGIN",), script={"AUTH": "235 2.7.0 ok"})
    assert smarthost(server, password, port=465).outcome()[0] is Action.RELAYED
    assert server.commands[0] == "<TLS smart.example.com>"
    assert "STARTTLS" not in server.commands


def test_a_smarthost_that_cannot_be_found_returns_no_mail():
    setup = Setup(settings=Settings(smarthost="typo.example.com:25"), resolver=TableResolver())
    assert setup.outcome() == (Action.DELAYED, 451, None)


# Twice


def test_a_recipient_named_twice_is_sent_once_and_both_have_the_answer():
    server = ScriptedServer()
    statuses = Setup(server).deliver(BOB, BOB)
    assert [(status.recipient, status.action) for status in statuses] == [(BOB, Action.RELAYED)] * 2
    assert sum(command.startswith("RCPT") for command in server.commands) == 1


def test_no_session_begins_on_a_connection_that_comes_after_the_stop():
    server = ScriptedServer()
    setup = Setup(server)
    connect = setup.connector.connect_any

    async def late(*arguments):
        setup.relay.abort()
        return await connect(*arguments)

    setup.connector.connect_any = late
    assert setup.outcome() == (Action.DELAYED, 451, None)
    assert server.commands == []


@pytest.mark.parametrize(("stage", "status"), [("GREETING", "4.4.1"), ("MAIL", "4.4.2")])
def test_a_server_that_says_nothing_at_all_is_told_from_one_that_breaks_off(stage, status):
    (outcome,) = Setup(ScriptedServer({stage: CLOSE})).deliver()
    assert str(outcome.reply.status) == status


def hang_up_within_the_content(setup, words):
    """The server says these words and closes the connection when the content begins."""
    connect = setup.connector.connect_any

    async def connect_to_one_that_hangs_up(*arguments):
        connection = await connect(*arguments)
        write = connection.write

        async def hang_up(data, timeout):
            if connection._in_body:
                connection._answers = [words]
                raise ConnectFailure("the connection broke")
            await write(data, timeout)

        connection.write = hang_up
        return connection

    setup.connector.connect_any = connect_to_one_that_hangs_up


@pytest.mark.parametrize(
    ("words", "outcome"),
    [
        ("552 5.3.4 too large", (Action.FAILED, 552, "mx1.example.net")),
        ("451 4.3.0 not now", (Action.DELAYED, 451, "mx1.example.net")),
        ("250 2.0.0 taken", (Action.DELAYED, 451, None)),  # of half a message
        (GARBAGE, (Action.DELAYED, 451, None)),
        (CLOSE, (Action.DELAYED, 451, None)),
    ],
)
def test_the_last_words_of_a_server_that_hangs_up_within_the_content_count(words, outcome):
    setup = Setup(ScriptedServer())
    hang_up_within_the_content(setup, words)
    assert setup.outcome() == outcome


def test_last_words_that_came_with_the_go_ahead_count_as_well():
    setup = Setup(ScriptedServer({"DATA": "354 go on\r\n554 5.7.1 no, do not"}))
    hang_up_within_the_content(setup, CLOSE)
    assert setup.outcome() == (Action.FAILED, 554, "mx1.example.net")


@pytest.mark.parametrize("stage", ["GREETING", "EHLO", "MAIL"])
def test_a_server_that_wants_no_session_is_taken_leave_of(stage):
    """RFC 5321 §4.1.1.10."""
    server = ScriptedServer({stage: "450 4.7.1 later"}, extensions=())
    assert Setup(server).outcome()[0] is Action.DELAYED
    assert server.commands[-1:] == ["QUIT"]
    assert server.sessions[0].closed


@pytest.mark.parametrize(("stage", "fault"), [("EHLO", HANG), ("EHLO", CLOSE), ("DATA", HANG), ("BODY", CLOSE)])
def test_nothing_more_is_said_where_no_command_is_awaited(stage, fault):
    server = ScriptedServer({stage: fault})
    assert Setup(server).outcome()[0] is Action.DELAYED
    assert "QUIT" not in server.commands
    assert server.sessions[0].closed


# DELIVERBY (RFC 2852 §4.1.4) and MT-PRIORITY (RFC 6710 §4.2)


def asked_for(server, notify=None, **parameters):
    setup = Setup(server)
    by = parameters.pop("by", None)
    if by is not None:
        seconds, returned, trace = by
        parameters["deliver_by"] = DeliverBy(setup.clock.wall() + seconds, returned, trace)
    envelope = Envelope(ALICE, (Recipient(BOB, notify=notify),), MailParameters(**parameters))
    (status,) = run(setup.relay.deliver(setup.site(), envelope, TRACE, Content(BODY)))
    return status


@pytest.mark.parametrize(
    ("by", "told"),
    [
        ((98.7, True, False), "BY=98;R"),
        ((0.5, True, False), "BY=1;R"),
        ((120.0, False, True), "BY=120;NT"),
        ((-30.0, False, False), "BY=-30;N"),
        ((-2e9, False, False), "BY=-999999999;N"),
    ],
)
def test_the_seconds_that_are_left_are_passed_on(by, told):
    server = ScriptedServer(extensions=("DELIVERBY", "PIPELINING"))
    status = asked_for(server, by=by)
    assert (status.action, status.in_time) == (Action.RELAYED, True)
    assert f"MAIL FROM:<{ALICE}> {told}" in server.commands


@pytest.mark.parametrize("extensions", [(), ("DELIVERBY 240",), ("DELIVERBY 121,SOMETHING",)])
def test_what_is_to_come_back_in_time_goes_to_no_server_that_does_not_promise_it(extensions):
    server = ScriptedServer(extensions=extensions)
    status = asked_for(server, by=(120.0, True, False))
    assert (status.action, str(status.reply.status)) == (Action.FAILED, "5.3.3")
    assert not any(command.startswith("MAIL") for command in server.commands)


def test_a_shorter_time_than_the_least_is_promised():
    assert asked_for(ScriptedServer(extensions=("DELIVERBY 119",)), by=(120.0, True, False)).in_time


def test_what_is_to_come_back_and_is_too_late_is_not_sent():
    server = ScriptedServer(extensions=("DELIVERBY",))
    status = asked_for(server, by=(-1.0, True, False))
    assert (status.action, str(status.reply.status)) == (Action.FAILED, "5.4.7")
    assert server.bodies == []


@pytest.mark.parametrize(
    ("notify", "told"),
    [
        (None, "DELAY,FAILURE"),
        ({Notify.SUCCESS}, "DELAY,SUCCESS"),
        ({Notify.DELAY}, "DELAY"),
        ({Notify.NEVER}, "NEVER"),
    ],
)
def test_a_server_that_knows_no_time_is_to_tell_of_delays(notify, told):
    server = ScriptedServer(extensions=("DSN",))
    status = asked_for(server, notify and frozenset(notify), by=(120.0, False, False))
    assert (status.action, status.in_time, status.passed_on) == (Action.RELAYED, False, True)
    assert f"RCPT TO:<{BOB}> NOTIFY={told}" in server.commands


def test_the_priority_is_passed_on_where_it_is_known():
    for extensions, told in ((("MT-PRIORITY STANAG4406",), f"MAIL FROM:<{ALICE}> MT-PRIORITY=-4"), ((), None)):
        server = ScriptedServer(extensions=extensions)
        asked_for(server, priority=-4)
        assert (told or f"MAIL FROM:<{ALICE}>") in server.commands


# Connections that stay open


def test_the_next_message_to_the_site_goes_over_the_same_connection():
    server = ScriptedServer()
    setup = Setup(server)
    for recipient in (BOB, CAROL, DAVE):
        assert setup.outcome(recipient, idle=4.0)[0] is Action.RELAYED
    assert len(server.sessions) == 1
    assert server.commands.count("EHLO mail.example.org") == 1
    assert "RSET" not in server.commands
    assert not server.sessions[0].closed
    setup.clock.advance(5.0)
    assert server.commands[-1] == "QUIT"
    assert server.sessions[0].closed


def test_after_a_message_that_was_refused_the_transaction_is_reset():
    for extensions in (("PIPELINING",), ()):
        server = ScriptedServer({"RCPT TO:<bob": "550 5.1.1 no", "DATA": "354 go on"}, extensions=extensions)
        setup = Setup(server)
        assert setup.outcome(BOB, idle=0.0)[0] is Action.FAILED
        assert setup.outcome(CAROL, idle=0.0)[0] is Action.RELAYED
        assert len(server.sessions) == 1
        assert server.commands.index("RSET") < server.commands.index("RCPT TO:<carol@example.net>")


def test_a_connection_takes_so_many_messages_and_no_more():
    server = ScriptedServer()
    setup = Setup(server, settings=Settings(messages_per_connection=2))
    for _ in range(5):
        assert setup.outcome(idle=0.0)[0] is Action.RELAYED
    assert len(server.sessions) == 3
    assert [session.closed for session in server.sessions] == [True, True, False]


@pytest.mark.parametrize("fault", [CLOSE, "421 4.4.2 idle for too long"])
def test_a_connection_that_ended_while_it_waited_is_no_failure(fault):
    server = ScriptedServer()
    setup = Setup(server)
    assert setup.outcome(idle=0.0)[0] is Action.RELAYED
    server.sessions[0]._answers = [fault]
    server.sessions[0]._server = ScriptedServer({"MAIL": fault})
    assert setup.outcome(CAROL, idle=0.0)[0] is Action.RELAYED
    assert len(server.sessions) == 2
    assert server.bodies == [TRACE + BODY] * 2


def test_a_connection_on_which_the_answer_was_lost_is_not_used_again():
    server = ScriptedServer({"BODY": HANG})
    setup = Setup(server)
    assert setup.outcome(idle=0.0)[0] is Action.DELAYED
    assert setup.outcome(CAROL, idle=0.0)[0] is Action.DELAYED
    assert len(server.sessions) == 2
    assert server.sessions[0].closed


def test_a_message_that_requires_tls_uses_no_connection_that_was_not_verified():
    server = ScriptedServer(extensions=REQUIRING)
    setup = Setup(server)
    assert setup.outcome(idle=0.0)[0] is Action.RELAYED
    assert setup.outcome(requiretls=True, idle=0.0)[0] is Action.RELAYED
    assert [session.verified for session in server.sessions] == [False, True]


@pytest.mark.parametrize("script", [{}, {"MAIL": "450 4.7.1 later"}, {"BODY": CLOSE}])
def test_a_connection_that_ended_is_forgotten(script):
    server = ScriptedServer(script)
    setup = Setup(server)
    setup.deliver()
    session = weakref.ref(server.sessions.pop())
    gc.collect()
    assert session() is None


def test_the_stop_closes_connections_that_wait():
    server = ScriptedServer()
    setup = Setup(server)
    setup.deliver(idle=0.0)
    setup.relay.abort()
    assert server.sessions[0].closed


# Circles


def test_an_exchanger_at_an_address_of_this_machine_ends_the_search():
    first, second, third = ScriptedServer({"GREETING": CLOSE}), ScriptedServer(), ScriptedServer()
    setup = Setup(first, second, third)
    setup.own = {"192.0.2.2"}
    assert setup.outcome()[0] is Action.DELAYED
    assert [len(server.sessions) for server in (first, second, third)] == [1, 0, 0]
    setup.own = {"192.0.2.1"}
    (status,) = setup.deliver()
    assert (status.action, str(status.reply.status)) == (Action.FAILED, "5.4.6")


# LMTP, and one answer for each recipient


@pytest.mark.parametrize(
    ("transport", "where"), [(LMTPServer("192.0.2.1", 24), ("192.0.2.1", 24)), (LMTPSocket("/run/l"), ("/run/l", 0))]
)
def test_lmtp_has_an_answer_for_each_recipient(transport, where):
    answers = ["250 2.0.0 for bob", "452 4.2.2 carol is full", "550 5.7.1 not for dave"]
    server = ScriptedServer({"LHLO": "250-mx\r\n250 PIPELINING", "BODY": "\r\n".join(answers)})
    setup = Setup()
    setup.connector.servers = {where[0]: server}
    statuses = setup.deliver(BOB, CAROL, DAVE, transport=transport)
    assert setup.connector.attempts == [where]
    assert server.commands[0] == "LHLO mail.example.org"
    assert [(status.action, status.reply.code) for status in statuses] == [
        (Action.RELAYED, 250),
        (Action.DELAYED, 452),
        (Action.FAILED, 550),
    ]


def test_lmtp_answers_that_came_before_the_connection_broke_count():
    server = ScriptedServer({"LHLO": "250-mx\r\n250 PIPELINING", "BODY": "250 2.0.0 for bob"})
    setup = Setup()
    setup.connector.servers = {"/run/l": server}
    bob, carol = setup.deliver(BOB, CAROL, transport=LMTPSocket("/run/l"))
    assert (bob.action, carol.action, carol.host) == (Action.RELAYED, Action.DELAYED, None)


# Routes


def test_a_route_may_demand_encryption_without_a_login():
    server = ScriptedServer(extensions=())
    setup = Setup()
    setup.connector.servers = {"192.0.2.1": server}
    required = Smarthost("192.0.2.1", 25, Encryption.REQUIRED)
    (status,) = setup.deliver(transport=required)
    assert (status.action, str(status.reply.status)) == (Action.DELAYED, "4.7.0")
    server.extensions = ("STARTTLS",)
    assert setup.outcome(transport=required)[0] is Action.RELAYED
    assert server.sessions[-1].verified is False
    assert setup.outcome(transport=Smarthost("192.0.2.1", 25, Encryption.VERIFIED))[0] is Action.RELAYED
    assert server.sessions[-1].verified is True


# Limits, and whose the message is


def test_a_server_that_takes_few_recipients_at_a_time_gets_several_transactions():
    server = ScriptedServer(extensions=("PIPELINING", "LIMITS MAILMAX=9 RCPTMAX=2"))
    setup = Setup(server)
    statuses = setup.deliver(*(Address(f"u{n}", "example.net") for n in range(5)))
    assert [status.action for status in statuses] == [Action.RELAYED] * 5
    assert len(server.bodies) == 3
    assert len(server.sessions) == 1


def test_no_final_dot_is_sent_when_another_process_has_taken_over():
    server = ScriptedServer()
    setup = Setup(server)
    original = server.answer

    def answer(command):
        setup.leads &= command != "DATA"
        return original(command)

    server.answer = answer
    (status,) = setup.deliver()
    assert (status.action, str(status.reply.status)) == (Action.DELAYED, "4.3.2")
    assert server.bodies == []
    assert server.sessions[0].closed


@pytest.mark.parametrize("fault", [CLOSE, "421 4.3.2 bye", "450 4.7.1 enough"])
def test_when_a_later_transaction_fails_those_that_were_served_are_not_sent_again(fault):
    server, second = ScriptedServer(extensions=("PIPELINING", "LIMITS RCPTMAX=1")), ScriptedServer()
    original, mails = server.answer, []

    def answer(command):
        if command.startswith("MAIL"):
            mails.append(command)
        return fault if len(mails) > 1 and command.startswith("MAIL") else original(command)

    server.answer = answer
    statuses = Setup(server, second).deliver(BOB, CAROL, DAVE)
    assert [status.action for status in statuses] == [Action.RELAYED, Action.DELAYED, Action.DELAYED]
    assert len(server.bodies) == 1
    assert second.sessions == []
    assert server.sessions[0].closed


def test_after_a_lost_answer_nothing_more_is_sent_on_the_connection():
    server = ScriptedServer({"BODY": CLOSE}, extensions=("PIPELINING", "LIMITS RCPTMAX=1"))
    statuses = Setup(server).deliver(BOB, CAROL)
    assert [status.action for status in statuses] == [Action.DELAYED] * 2
    assert len(server.sessions) == len(server.bodies) == 1
