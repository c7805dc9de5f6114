"""The routing table, the ways that an administrator names, and what differs for some domains."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mailserver.config.relay import Relay, RelayDomain, Route
from mailserver.delivery.overrides import Overrides
from mailserver.delivery.routes import (
    BY_MX,
    DISCARD,
    HOLD,
    Encryption,
    LMTPServer,
    LMTPSocket,
    Refusal,
    Routes,
    Rule,
    Smarthost,
    parse_transport,
)
from mailserver.delivery.schedule import Limits
from mailserver.mail import Address, Reply, parse_mailbox

ALICE = parse_mailbox("alice@example.org")


def table(*routes: dict[str, object], **relay: object) -> Routes:
    return Routes.of([Route.model_validate(route) for route in routes], Relay.model_validate(relay))


def way(routes: Routes, to: str, sender: Address | None = ALICE) -> str:
    return str(routes.transport(parse_mailbox(to), sender))


# Which rule


def test_without_routes_mail_goes_to_the_exchangers_or_the_smarthost() -> None:
    assert table().transport(ALICE, None) == BY_MX
    assert table(smarthost="smtp.example.net:25").transport(ALICE, None) == Smarthost("smtp.example.net", 25)
    login = {"smarthost_user": "u", "smarthost_password_file": "/p"}
    assert table(smarthost="[2001:db8::1]:465", **login).transport(ALICE, None) == Smarthost(
        "2001:db8::1", 465, Encryption.VERIFIED, "u", Path("/p")
    )


@pytest.mark.parametrize(
    ("pattern", "fits", "fails"),
    [
        ("example.net", ["a@example.net", "b@EXAMPLE.net"], ["a@x.example.net", "a@net", "a@anexample.net"]),
        (".example.net", ["a@x.example.net", "a@x.y.Example.NET"], ["a@example.net", "a@xexample.net"]),
        ("Bob@Example.net", ["bob@example.net", "BOB@EXAMPLE.NET"], ["bobby@example.net", "bob@x.example.net"]),
        ('"bob b"@example.net', ['"BOB B"@example.net'], ["bob@example.net"]),
        ("müller.example", ["a@xn--mller-kva.example", "a@MÜLLER.example"], ["a@muller.example"]),
        ("xn--mller-kva.example", ["a@müller.example"], ["a@x.müller.example"]),
        (".xn--mller-kva.example", ["a@x.müller.example"], ["a@müller.example"]),
        ("jürgen@müller.example", ["JÜRGEN@xn--mller-kva.example"], ["jurgen@müller.example"]),
        ("[192.0.2.1]", ["a@[192.0.2.1]"], ["a@[192.0.2.2]"]),
        ("[IPv6:2001:db8::1]", ["a@[ipv6:2001:DB8:0::1]"], ["a@[IPv6:2001:db8::2]"]),
        (".0.2.1", [], ["a@[192.0.2.1]"]),
    ],
)
def test_what_a_recipient_fits(pattern: str, fits: list[str], fails: list[str]) -> None:
    routes = table({"to": [pattern], "via": "discard"})
    assert [way(routes, to) for to in fits] == ["discard"] * len(fits)
    assert [way(routes, to) for to in fails] == ["mx"] * len(fails)


def test_the_first_rule_that_fits_counts_not_the_nearest() -> None:
    routes = table(
        {"to": [".example.net"], "via": "hold"},
        {"to": ["mail.example.net", "example.net"], "via": "discard"},
        {"to": ["bob@example.net"], "via": "mx"},
        {"via": "lmtp", "host": "unix:/run/lmtp"},
    )
    assert way(routes, "a@mail.example.net") == "hold"
    assert way(routes, "bob@example.net") == "discard"
    assert way(routes, "a@example.com") == "lmtp:unix:/run/lmtp"


def test_a_sender_alone_and_both() -> None:
    routes = table(
        {"from": ["bob@example.org", "<>"], "to": ["example.net"], "via": "hold"},
        {"from": [".example.org", "example.org"], "via": "discard"},
        {"from": ["<>"], "via": "lmtp", "host": "lmtp.example.org:24"},
    )
    bob, other = parse_mailbox("bob@example.org"), parse_mailbox("a@b.example")
    assert way(routes, "a@example.net", bob) == "hold"
    assert way(routes, "a@example.net", None) == "hold"
    assert way(routes, "a@example.com", None) == "lmtp:lmtp.example.org:24"
    assert way(routes, "a@example.com", bob) == "discard"
    assert way(routes, "a@example.net", parse_mailbox("a@sub.example.org")) == "discard"
    assert way(routes, "a@example.net", other) == "mx"


def test_a_mailbox_that_is_called_like_the_marks_of_the_table_fits_nothing() -> None:
    routes = table({"to": ["*@example.net"], "via": "hold"})
    assert way(routes, "*@example.net") == "hold"
    assert way(routes, "a@example.net") == "mx"
    assert str(routes.transport(Address("Postmaster", ""), None)) == "mx"


def test_many_rules_cost_a_lookup_nothing() -> None:
    few, many = (
        Routes([Rule([f"d{i}.example"], None, DISCARD) for i in range(count)] + [Rule(None, ["<>"], HOLD)])
        for count in (10, 20_000)
    )
    recipient = parse_mailbox("a@b.c.d.example.net")
    times = []
    for routes in (few, many):
        rounds = []
        for _ in range(3):
            begun = time.thread_time()
            for _ in range(1000):
                routes.transport(recipient, None)
            rounds.append(time.thread_time() - begun)
        times.append(min(rounds))
    assert times[1] < 20 * times[0]  # a walk through them takes a thousand times as long
    assert way(many, "a@d19999.example") == "discard"


def test_each_kind_of_route() -> None:
    every = ["x.example"]
    routes: list[tuple[dict[str, object], object]] = [
        ({"via": "mx"}, BY_MX),
        ({"via": "discard"}, DISCARD),
        ({"via": "hold"}, HOLD),
        ({"via": "lmtp", "host": "[::1]:24"}, LMTPServer("::1", 24)),
        ({"via": "lmtp", "host": "unix:/run/a:b"}, LMTPSocket("/run/a:b")),
        ({"via": "smarthost", "host": "S.example:25"}, Smarthost("s.example", 25)),
        (
            {"via": "smarthost", "host": "s.example:25", "tls": "required"},
            Smarthost("s.example", 25, Encryption.REQUIRED),
        ),
        (
            {"via": "smarthost", "host": "s.example:587", "user": "u", "password_file": "/p"},
            Smarthost("s.example", 587, Encryption.VERIFIED, "u", Path("/p")),
        ),
        (
            {"via": "smarthost", "host": "s.example:587", "user": "u", "password_file": "/p", "tls": "required"},
            Smarthost("s.example", 587, Encryption.REQUIRED, "u", Path("/p")),
        ),
        ({"via": "error", "text": "5.1.1 It has moved"}, Refusal(Reply.of(550, "5.1.1", "It has moved"))),
        ({"via": "error", "text": "4.2.1 Come again"}, Refusal(Reply.of(450, "4.2.1", "Come again"))),
        ({"via": "error", "text": "No"}, Refusal(Reply(550, "No"))),
        ({"via": "error", "text": "4 apples"}, Refusal(Reply(550, "4 apples"))),
    ]
    for route, expected in routes:
        assert table({"to": every, **route}).transport(parse_mailbox("a@x.example"), None) == expected
    assert Smarthost("s.example", 465).implicit_tls
    assert not Smarthost("s.example", 587).implicit_tls


# The ways that an administrator names


@pytest.mark.parametrize(
    ("text", "transport"),
    [
        ("mx", BY_MX),
        ("discard", DISCARD),
        ("hold", HOLD),
        ("smarthost:smtp.example.net:587", Smarthost("smtp.example.net", 587)),
        ("smarthost:[2001:db8::1]:25", Smarthost("2001:db8::1", 25)),
        ("lmtp:127.0.0.1:24", LMTPServer("127.0.0.1", 24)),
        ("lmtp:unix:/run/dovecot/lmtp", LMTPSocket("/run/dovecot/lmtp")),
        ("error:5.1.1 Moved: go away", Refusal(Reply.of(550, "5.1.1", "Moved: go away"))),
        ("error:Moved", Refusal(Reply(550, "Moved"))),
    ],
)
def test_a_way_and_its_text(text: str, transport: object) -> None:
    assert parse_transport(text) == transport
    assert str(transport) == text


def test_smtp_is_another_word_for_smarthost() -> None:
    assert parse_transport("smtp:a.example:25") == parse_transport("smarthost:a.example:25")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "write mx, smarthost:HOST:PORT, lmtp:HOST:PORT"),
        ("relay:a.example:25", "is no way to go"),
        ("mx:example.net", 'mx stands alone; write "mx"'),
        ("hold:", 'write "hold"'),
        ("smarthost:", "must be HOST:PORT"),
        ("smtp:a.example", "must be HOST:PORT"),
        ("lmtp:a.example", 'or "unix:/path/to/socket"'),
        ("lmtp:unix:run/x", "needs an absolute path"),
        ("lmtp:unix:/a\0b", "needs an absolute path"),
        ("error:", "says nothing"),
    ],
)
def test_what_is_no_way(text: str, complaint: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_transport(text)
    assert complaint in str(caught.value)


def test_a_smarthost_that_is_known_is_used_with_its_login() -> None:
    login = {"user": "u", "password_file": "/p"}
    routes = table(
        {"to": ["x.example"], "via": "smarthost", "host": "s.example:587", **login}, smarthost="t.example:25"
    )
    completed = routes.completed(parse_transport("smarthost:s.example:587"))
    assert completed == Smarthost("s.example", 587, Encryption.VERIFIED, "u", Path("/p"))
    for text in ("smarthost:s.example:25", "smarthost:t.example:25", "lmtp:s.example:587", "mx"):
        assert routes.completed(parse_transport(text)) == parse_transport(text)


# What differs for some domains


def test_overrides() -> None:
    relay = Relay(
        retry_first="1 min",
        rate_per_host=7,
        domain={
            "Example.com": RelayDomain(lifetime="1 h", rate=0),
            ".example.com": RelayDomain(concurrency=2),
            ".b.example.com": RelayDomain(retry_max="2 h", retry_first="30 s", delay_warning="1 min"),
            "MÜLLER.example": RelayDomain(rate=1),
        },
    )
    overrides = Overrides(relay)
    usual = overrides.of("example.net")
    assert (usual.retry.first, usual.retry.lifetime, usual.limits) == (60, 5 * 86400, Limits(20, 7, 30, 900))
    own = overrides.of("EXAMPLE.com")
    assert (own.retry.lifetime, own.retry.first, own.limits) == (3600, 60, Limits(20, 0, 30, 900))
    below = overrides.of("a.example.com")
    assert (below.retry.lifetime, below.limits) == (5 * 86400, Limits(2, 7, 30, 900))
    nearest = overrides.of("a.b.example.com")
    assert (nearest.retry.longest, nearest.retry.first, nearest.retry.warning) == (7200, 30, 60)
    assert nearest.limits.concurrency == 20
    assert overrides.of("b.example.com") == below
    assert overrides.of("xn--mller-kva.example").limits.rate == overrides.of("müller.example").limits.rate == 1
    assert overrides.horizon == 4 * 3600
    assert overrides.of("[192.0.2.1]") == usual
    assert Overrides(Relay()).of("a.example") == Overrides(Relay()).of("b.example")
