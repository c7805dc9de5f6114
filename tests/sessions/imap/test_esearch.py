"""ESEARCH (RFC 4731): what of the result is told, and how."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.imap import Client, Server


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Twelve messages; UIDs are sequence numbers and one."""
    server = Server(tmp_path_factory.mktemp("esearch"))
    server.deliver(b"Subject: x\r\n\r\nx\r\n", count=13)
    client = server.login(select="INBOX")
    client.command("STORE 1 +FLAGS (\\Deleted)")
    client.command("EXPUNGE")
    client.command("STORE 2,10,11 +FLAGS (\\Flagged)")
    yield client


@pytest.mark.parametrize(
    ("returns", "answer"),
    [
        ("()", b" ALL 2,10:11"),
        ("(ALL)", b" ALL 2,10:11"),
        ("(all count)", b" ALL 2,10:11 COUNT 3"),
        ("(MIN)", b" MIN 2"),
        ("(MAX)", b" MAX 11"),
        ("(COUNT MAX MIN)", b" MIN 2 MAX 11 COUNT 3"),
        ("(MIN MIN)", b" MIN 2"),
        ("(COUNT)", b" COUNT 3"),
    ],
)
def test_each_result(client: Client, returns: str, answer: bytes) -> None:
    tag = b"t%d" % (client._tags + 1)
    assert client.lines(f"SEARCH RETURN {returns} FLAGGED") == [b'ESEARCH (TAG "%b")%b' % (tag, answer)]


def test_uids_are_told_as_such(client: Client) -> None:
    (line,) = client.lines("UID SEARCH RETURN (MIN MAX ALL) FLAGGED")
    assert line.endswith(b") UID MIN 3 MAX 12 ALL 3,11:12")


@pytest.mark.parametrize(("returns", "answer"), [("()", b""), ("(MIN MAX ALL)", b""), ("(MIN COUNT)", b" COUNT 0")])
def test_nothing_found_is_answered_all_the_same(client: Client, returns: str, answer: bytes) -> None:
    (line,) = client.lines(f"SEARCH RETURN {returns} DRAFT")
    assert line.startswith(b"ESEARCH (TAG ")
    assert line.endswith(b'")' + answer)


def test_a_charset_follows_the_results(client: Client) -> None:
    (line,) = client.lines("SEARCH return (COUNT) CHARSET UTF-8 FLAGGED")
    assert line.endswith(b" COUNT 3")


def test_without_return_the_answer_is_the_old_one(client: Client) -> None:
    assert client.lines("SEARCH FLAGGED") == [b"SEARCH 2 10 11"]


def test_it_is_offered(client: Client) -> None:
    assert b" ESEARCH" in client.lines("CAPABILITY")[0]


@pytest.mark.parametrize(
    "text",
    ["RETURN", "RETURN ALL", "RETURN (ALL", "RETURN (BOGUS) ALL", "RETURN (ALL)", "RETURN (ALL)ALL", "RETURN(ALL) ALL"],
)
def test_what_is_malformed_is_refused(client: Client, text: str) -> None:
    assert client.command(f"SEARCH {text}").startswith(b"t BAD")


def test_a_flood_of_results_is_refused(tmp_path: Path) -> None:
    client = Server(tmp_path).login(select="INBOX")
    assert client.command("SEARCH RETURN (" + " ".join(["ALL"] * 2000) + ") ALL").startswith(b"t BAD")
