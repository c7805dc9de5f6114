"""ESORT (RFC 5267): results of SORT, in its order."""

from collections.abc import Iterator

import pytest

from tests.support.imap import Client, Server


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    server = Server(tmp_path_factory.mktemp("esort"))
    for subject in "xdefgab":
        server.deliver(f"Subject: {subject}\r\n\r\nx\r\n".encode())
    client = server.login(select="INBOX")
    client.command("STORE 1 +FLAGS (\\Deleted)")
    client.command("EXPUNGE")
    yield client  # d e f g a b, with UIDs from 2 on


@pytest.mark.parametrize(
    ("returns", "answer"),
    [
        ("()", b" ALL 5:6,1:4"),
        ("(ALL COUNT)", b" ALL 5:6,1:4 COUNT 6"),
        ("(MIN MAX)", b" MIN 5 MAX 4"),
        ("(COUNT)", b" COUNT 6"),
    ],
)
def test_each_result(client: Client, returns: str, answer: bytes) -> None:
    tag = b"t%d" % (client._tags + 1)
    assert client.lines(f"SORT RETURN {returns} (SUBJECT) UTF-8 ALL") == [b'ESEARCH (TAG "%b")%b' % (tag, answer)]


def test_ranges_ascend(client: Client) -> None:
    (line,) = client.lines("UID SORT RETURN (ALL) (REVERSE SUBJECT) UTF-8 ALL")
    assert line.endswith(b" UID ALL 5,4,3,2,7,6")


def test_nothing_found(client: Client) -> None:
    (line,) = client.lines("SORT RETURN (ALL MIN MAX COUNT) (DATE) UTF-8 DRAFT")
    assert line.endswith(b'") COUNT 0')


def test_it_is_offered(client: Client) -> None:
    assert b" ESORT" in client.lines("CAPABILITY")[0]


@pytest.mark.parametrize("text", ["RETURN (ALL)", "RETURN (ALL) UTF-8 ALL"])
def test_what_is_malformed_is_refused(client: Client, text: str) -> None:
    assert client.command(f"SORT {text}").startswith(b"t BAD")
