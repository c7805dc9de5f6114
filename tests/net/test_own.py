"""Which addresses are this machine's own."""

from __future__ import annotations

import socket

import pytest

from mailserver.net import own
from mailserver.net.own import HOLDS, LocalAddresses
from tests.support.fakes import FakeClock


def an_address_of_this_machine() -> str:
    """One that is not of loopback, where there is one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.77", 9))
        except OSError:
            pytest.skip("this machine has no network")
        return str(probe.getsockname()[0])


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "127.1.2.3", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1"])
def test_loopback_is_our_own(address: str) -> None:
    assert LocalAddresses().is_own(address)


def test_the_address_of_an_interface_is_our_own() -> None:
    address = an_address_of_this_machine()
    assert LocalAddresses().is_own(address)
    assert LocalAddresses().is_own(f"::ffff:{address}")


@pytest.mark.parametrize(
    "address",
    ["203.0.113.1", "2001:db8::1", "8.8.8.8", "255.255.255.255", "", "mx.example.net", "1.2.3"],
)
def test_others_are_not(address: str) -> None:
    assert not LocalAddresses().is_own(address)


def test_an_answer_is_remembered_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def leads_here(address: str) -> bool:
        asked.append(address)
        return len(asked) == 1

    monkeypatch.setattr(own, "_leads_here", leads_here)
    clock = FakeClock()
    addresses = LocalAddresses(clock.monotonic)
    assert [addresses.is_own("192.0.2.1") for _ in range(3)] == [True] * 3
    assert asked == ["192.0.2.1"]
    clock.advance(HOLDS)
    assert not addresses.is_own("192.0.2.1")


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "REMEMBERED", 3)
    addresses = LocalAddresses()
    for last in range(10):
        addresses.is_own(f"127.0.0.{last}")
    assert len(addresses._known) <= 3
