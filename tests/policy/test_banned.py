"""Who is banned now: the sets in memory, against a model that looks at every ban."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.policy.banned import Banned, BannedNow
from mailserver.policy.bans import ALL, Ban
from mailserver.policy.networks import Networks, network_of, parse_banned

NETWORKS = (
    "192.0.2.1",
    "192.0.2.0/24",
    "192.0.0.0/16",
    "2001:db8::/64",
    "2001:db8::/32",
    "2001:db8::5/128",
    "10.0.0.1",
)
ADDRESSES = (
    "192.0.2.1",
    "192.0.2.2",
    "192.0.3.1",
    "2001:db8::5",
    "2001:db8:1::1",
    "::ffff:192.0.2.1",
    "10.0.0.2",
    "local",
)

Puts = st.lists(
    st.tuples(st.sampled_from(NETWORKS), st.sampled_from((ALL, "a", "b")), st.floats(0, 100), st.floats(0, 50)),
    max_size=30,
)


def ban(network: str, account: str = ALL) -> Ban:
    return Ban(network, account, 0.0, 100.0, 1, False, "failed")


@given(puts=Puts, address=st.sampled_from(ADDRESSES), account=st.sampled_from((ALL, "a", "b")), now=st.floats(0, 100))
def test_it_is_what_a_look_at_every_ban_finds(
    puts: list[tuple[str, str, float, float]], address: str, account: str, now: float
) -> None:
    banned, model = BannedNow(), {}
    for network, who, ends, then in puts:
        banned.put(Banned(ban(network, who), ends), then)
        if ends > then:
            model[network, who] = ends
        else:
            model.pop((network, who), None)
    ip = None if address == "local" else ipaddress.ip_address(address.removeprefix("::ffff:"))
    fitting = [
        ends
        for (network, who), ends in model.items()
        if who == account and ends > now and ip is not None and ip in ipaddress.ip_network(network)
    ]
    assert [each.ends for each in banned.of(address, now, account)] == sorted(fitting, reverse=True)
    assert not fitting or banned.knows(address)
    banned.prune(now)
    assert [each.ends for each in banned.of(address, now, account)] == sorted(fitting, reverse=True)
    banned.prune(1000.0)
    assert len(banned) == 0 and not banned.knows(address)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1/32", "192.0.2.1"),
        ("192.0.2.9/24", "192.0.2.0/24"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::1/128", "2001:db8::1/128"),
        ("2001:db8::1/48", "2001:db8::/48"),
    ],
)
def test_what_can_be_banned(text: str, kept: str) -> None:
    assert parse_banned(text) == kept


@pytest.mark.parametrize("text", ["", "local", "example.org", "192.0.2", "0.0.0.0/0", "::/0", "2001::/15"])
def test_what_cannot(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no address|is too large"):
        parse_banned(text)


def test_sources() -> None:
    assert network_of("192.0.2.1") == network_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") == "2001:db8::/64"
    assert network_of("fe80::1%eth0") == "fe80::/64"
    assert network_of("local") == "local"
    assert "::ffff:127.0.0.9" in Networks(["127.0.0.0/8"])
    assert Networks(["127.0.0.0/8"]).meets("127.0.0.5/32") and not Networks(["127.0.0.0/8"]).meets("2001:db8::/64")
