from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import endpoints
from twisted.internet.testing import MemoryReactor

from mailserver.config.network import (
    Endpoint,
    parse_address_port,
    parse_domain_name,
    parse_endpoint,
    parse_host_port,
    parse_hostname,
    parse_own_hostname,
)

GOOD_ENDPOINTS = {
    "tcp:25": Endpoint("tcp", 25, "0.0.0.0"),
    "tcp:port=25": Endpoint("tcp", 25, "0.0.0.0"),
    "tcp:25:interface=127.0.0.1:backlog=100": Endpoint("tcp", 25, "127.0.0.1"),
    "tcp6:587": Endpoint("tcp6", 587, "::"),
    r"tcp6:587:interface=\:\:1": Endpoint("tcp6", 587, "::1"),
    "unix:/run/smtp": Endpoint("unix", None, "/run/smtp"),
    r"unix:/run/a\:b:mode=660": Endpoint("unix", None, "/run/a:b"),
}


@pytest.mark.parametrize("text", GOOD_ENDPOINTS)
def test_endpoints_that_twisted_takes_too(text: str) -> None:
    assert parse_endpoint(text) == GOOD_ENDPOINTS[text]
    assert endpoints.serverFromString(MemoryReactor(), text) is not None


def test_a_socket_from_systemd() -> None:
    assert parse_endpoint("systemd:domain=INET6:name=imap") == Endpoint("systemd", None, "imap")
    assert parse_endpoint("systemd:domain=INET:index=0") == Endpoint("systemd", None, "0")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "begins with none of tcp, tcp6"),
        ("25", "begins with none of tcp, tcp6"),
        ("udp:25", "begins with none of"),
        ("tcp", "needs a port"),
        ("tcp:", "needs a port"),
        ("tcp:smtp", "'smtp' for a port"),
        ("tcp:65536", "'65536' for a port"),
        ("tcp:-1", "'-1' for a port"),
        ("tcp:25:interface=localhost", "'localhost' for an interface"),
        ("tcp:25:interface=::1", "a backslash"),
        ("tcp6:25:interface=127.0.0.1", "'127.0.0.1' for an interface"),
        ("tcp:25:host=127.0.0.1", "'host=127.0.0.1'"),
        ("tcp:25:backlog=many", "'many' for a backlog"),
        ("tcp:25:interface=127.0.0.1:extra", "'extra' for a backlog"),
        ("unix:/run/smtp:mode=rw", "'rw' for a mode"),
        ("ssl:993:privateKey=key.pem", 'tls = "implicit"'),
        ("tls:cert:tcp:993", 'tls = "implicit"'),
        ("unix:", "needs a path"),
        ("systemd:domain=INET", "needs an address family"),
        ("systemd:index=0", "needs an address family"),
        ("systemd:domain=INET:index=0:name=x", "needs an address family"),
    ],
)
def test_endpoints_that_cannot_be(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_endpoint(text)


@given(st.text(alphabet="tcp6:unix=\\25systemdINE/é \n", max_size=30))
def test_any_endpoint_text_is_parsed_or_refused(text: str) -> None:
    try:
        assert parse_endpoint(text).kind in ("tcp", "tcp6", "unix", "systemd")
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("tcp:25", "tcp:25", True),
        ("tcp:25", "tcp:port=25", True),
        ("tcp:25", "tcp:25:interface=127.0.0.1", True),
        ("tcp:25:interface=127.0.0.2", "tcp:25:interface=127.0.0.1", False),
        ("tcp:25", "tcp6:25", True),
        ("tcp:25:interface=127.0.0.1", "tcp6:25", True),
        ("tcp:25", r"tcp6:25:interface=\:\:1", False),
        ("tcp:25", "tcp:26", False),
        ("tcp:0", "tcp:0", False),
        ("unix:/a", "unix:/a", True),
        ("unix:/a", "unix:/b", False),
        ("systemd:domain=INET:name=a", "systemd:domain=INET:name=a", True),
    ],
)
def test_which_endpoints_the_system_would_not_bind_together(one: str, other: str, overlap: bool) -> None:
    assert parse_endpoint(one).overlaps(parse_endpoint(other)) is overlap
    assert parse_endpoint(other).overlaps(parse_endpoint(one)) is overlap


def test_hosts_with_ports() -> None:
    assert parse_host_port("smtp.Example.net:587") == ("smtp.example.net", 587)
    assert parse_host_port("127.0.0.1:25") == ("127.0.0.1", 25)
    assert parse_host_port("[2001:DB8::1]:25") == ("2001:db8::1", 25)
    assert parse_address_port("[::1]:53") == ("::1", 53)


@pytest.mark.parametrize(
    "text", ["", ":25", "host", "host:", "host:0", "host:65536", "::1:25", "[x]:25", "a b:25", "a:25\n"]
)
def test_what_is_no_host_with_port(text: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|host name|IPv6"):
        parse_host_port(text)


@pytest.mark.parametrize("text", ["localhost:53", "127.0.0.1", "::1", "256.0.0.1:53"])
def test_what_is_no_address_with_port(text: str) -> None:
    with pytest.raises(ValueError, match="ADDRESS:PORT"):
        parse_address_port(text)


@pytest.mark.parametrize(
    "text", ["", "a_b.example", "-a.example", "a-.example", "a..example", "a.example.", "é.example", "a\n"]
)
def test_what_is_no_host_name(text: str) -> None:
    with pytest.raises(ValueError, match="is not a host name"):
        parse_hostname(text)


def test_the_own_name_is_fully_qualified() -> None:
    assert parse_own_hostname("Mail.Example.org") == "mail.example.org"
    for text in ("localhost", "192.0.2.1"):
        with pytest.raises(ValueError, match="fully qualified"):
            parse_own_hostname(text)


def test_domains_are_in_ascii_form() -> None:
    assert parse_domain_name("Example.ORG") == "example.org"
    with pytest.raises(ValueError, match=r"xn--bcher-kva\.example"):
        parse_domain_name("bücher.example")
    with pytest.raises(ValueError, match="address literal"):
        parse_domain_name("[127.0.0.1]")
    with pytest.raises(ValueError, match="is not a domain name"):
        parse_domain_name("example..org")
