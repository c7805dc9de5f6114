"""ENABLE (RFC 5161)."""

from pathlib import Path

import pytest

from tests.support.imap import Client, Server


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Server(tmp_path).login()


def test_what_is_not_known_is_passed_over(client: Client) -> None:
    assert client.lines("ENABLE X-GOOD-IDEA") == [b"ENABLED"]
    assert client.lines("enable imap4rev1 x-a AUTH=PLAIN idle") == [b"ENABLED"]


def test_the_capabilities_stay_as_they_are(client: Client) -> None:
    before = client.lines("CAPABILITY")
    assert b" ENABLE " in before[0]
    client.command("ENABLE X-GOOD-IDEA")
    assert client.lines("CAPABILITY") == before


def test_it_needs_a_login_and_a_name(tmp_path: Path, client: Client) -> None:
    assert Server(tmp_path).connect().command("ENABLE X").startswith(b"t BAD")
    for bad in ("ENABLE", "ENABLE ", "ENABLE X ", "ENABLE  X", "ENABLE (X)", 'ENABLE "X"'):
        assert client.command(bad).startswith(b"t BAD"), bad


def test_a_flood_of_names_is_answered(client: Client) -> None:
    assert client.lines("ENABLE " + " ".join(f"X{number}" for number in range(9000))) == [b"ENABLED"]
