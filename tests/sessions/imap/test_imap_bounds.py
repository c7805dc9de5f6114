"""Each bound on what an IMAP client may ask for, by its default: what is within it goes, what is beyond is answered.

The table in `docs/design.md` lists them. What needs a real socket (output that nobody reads, commands that wait) is in
`tests/functional/test_attacks.py`, COMPRESS in `tests/net/test_compression.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mailserver.imap import Pattern
from tests.support.fakes import Ready
from tests.support.imap import Client, Server

KIB, MIB = 1024, 2**20


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path)
    server.deliver(b"Subject: x\r\n\r\nbody\r\n")
    return server


@pytest.fixture
def client(server: Server) -> Client:
    return server.login(select="INBOX")


def test_line(client: Client) -> None:
    head = b"t SEARCH SUBJECT "
    within = head + b"x" * (64 * KIB - len(head))
    assert client.say(within + b"\r\n") == b"* SEARCH\r\nt OK Searched\r\n"
    assert client.say(within + b"x\r\n") == b"t BAD the command is too long\r\n"


def test_literal_before_login(server: Server) -> None:
    client = server.connect()
    assert client.say(b"t LOGIN {4096}\r\n") == b"+ OK\r\n"
    client = server.connect()
    assert client.say(b"t LOGIN {4097}\r\n") == b"t BAD [TOOBIG] the literal is too big\r\n"
    assert client.say(b"t LOGIN {5}\r\nalice {4092}\r\n").endswith(b"t BAD [TOOBIG] the literal is too big\r\n")


def test_literals_sent_unasked_before_login(server: Server) -> None:
    client = server.connect()
    assert client.say(b"t LOGIN {%d+}\r\n" % MIB) == b""
    assert client.say(b"x" * MIB + b"\r\n") == b"t BAD [TOOBIG] the literal is too big\r\n"
    assert client.say(b"t LOGIN {%d+}\r\n" % (MIB + 1)) == b"* BYE [TOOBIG] the literal is far too big\r\n"
    assert client.channel.closed


def test_literal(client: Client) -> None:
    assert client.say(b"t SEARCH SUBJECT {%d}\r\n" % (64 * KIB)) == b"+ OK\r\n"
    assert client.say(b"x" * 64 * KIB + b"\r\n").endswith(b"t OK Searched\r\n")
    assert client.say(b"t SEARCH SUBJECT {%d}\r\n" % (64 * KIB + 1)) == b"t BAD [TOOBIG] the literal is too big\r\n"


def test_message(client: Client) -> None:
    assert client.say(b"t APPEND INBOX {%d}\r\n" % (50 * MIB + 1)) == b"t NO [TOOBIG] the message is too big\r\n"
    assert client.say(b"t APPEND INBOX {%d}\r\n" % (50 * MIB)) == b"+ OK\r\n"


def test_literals_sent_unasked(client: Client) -> None:
    assert client.say(b"t SELECT {%d+}\r\n" % (200 * MIB)) == b""
    client.channel.closed = True


def test_literals_sent_unasked_without_end(client: Client) -> None:
    assert client.say(b"t SELECT {%d+}\r\n" % (200 * MIB + 1)) == b"* BYE [TOOBIG] the literal is far too big\r\n"
    assert client.channel.closed


@pytest.mark.parametrize("opening", ["(", "NOT ", "OR ALL "])
def test_nesting_of_search_keys(client: Client, opening: str) -> None:
    end = ")" if opening == "(" else ""
    assert client.command(f"SEARCH {opening * 50}ALL{end * 50}").endswith(b"t OK Searched\r\n")
    assert client.command(f"SEARCH {opening * 51}ALL{end * 51}") == b"t BAD the search is too complex\r\n"


def test_number_of_search_keys(client: Client) -> None:
    assert client.command("SEARCH" + " ALL" * 1000) == b"* SEARCH 1\r\nt OK Searched\r\n"
    assert client.command("SEARCH" + " ALL" * 1001) == b"t BAD the search is too complex\r\n"


@pytest.mark.parametrize(
    ("opening", "key"), [("", " FUZZY SUBJECT x"), (" FUZZY (ALL", " HEADER To x NOT TEXT x OR BODY x ALL")]
)
def test_texts_that_are_not_spelled_exactly(client: Client, opening: str, key: str) -> None:
    """Each remembers words, some 16 MB of them."""
    end, each = (")", 3) if opening else ("", 1)
    enough = 16 // each
    assert client.command("SEARCH" + opening + key * enough + end).endswith(b"t OK Searched\r\n")
    assert client.command("SEARCH" + opening + key * (enough + 1) + end) == b"t BAD the search is too complex\r\n"
    spelled = " SUBJECT x" * 100
    assert client.command("SEARCH" + opening + key * enough + end + spelled).endswith(b"t OK Searched\r\n")


def test_size_of_a_set(client: Client) -> None:
    """What fits into a line: some 30,000 elements."""
    head = "UID SEARCH UID 1"
    elements = ",2" * ((64 * KIB - len(head) - 4) // 2)
    assert client.command(head + elements) == b"* SEARCH 1\r\nt OK Searched\r\n"
    assert client.command(head + elements + ",2,2") == b"t BAD the command is too long\r\n"


def test_length_of_a_list(client: Client) -> None:
    many = " ".join(f"k{number}" for number in range(1001))
    assert client.command(f"STORE 1 FLAGS.SILENT ({many})") == b"t BAD the flag list is too long\r\n"


def test_number_of_fetch_items(client: Client) -> None:
    sections = [f"BODY.PEEK[]<{number}.1>" for number in range(257)]
    assert client.command(f"FETCH 1 ({' '.join(sections[:256])})").endswith(b"t OK Fetched\r\n")
    assert client.command(f"FETCH 1 ({' '.join(sections)})").startswith(b"t BAD ")


def test_depth_of_a_part(client: Client) -> None:
    assert client.command(f"FETCH 1 BODY.PEEK[{'.'.join('1' * 100)}]").endswith(b"t OK Fetched\r\n")
    assert client.command(f"FETCH 1 BODY.PEEK[{'.'.join('1' * 101)}]").startswith(b"t BAD ")


def test_mailbox_name(client: Client) -> None:
    assert client.command(f"SELECT {'x' * 1025}") == b"t NO [CANNOT] the mailbox name is too long\r\n"


def test_keyword(client: Client) -> None:
    assert client.command(f"STORE 1 +FLAGS.SILENT ({'k' * 128})").endswith(b"t OK Stored\r\n")
    assert client.command(f"STORE 1 +FLAGS.SILENT ({'k' * 129})") == b"t NO [LIMIT] the keyword is too long\r\n"


def test_bad_commands(client: Client) -> None:
    for _ in range(9):
        assert client.command("NONSENSE") == b"t BAD unknown command\r\n"
    assert client.command("NONSENSE").endswith(b"* BYE Too many errors\r\n")
    assert client.channel.closed


@pytest.mark.parametrize(
    "command", ['LIST "" *', 'LIST "" (* %)', 'LIST (SUBSCRIBED) "" * RETURN (CHILDREN)', 'LSUB "" %']
)
def test_many_names_and_long_patterns_keep_no_other_session_waiting(
    client: Client, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker compares them: thousands of names with 64 KiB of patterns take seconds."""
    client.command("SUBSCRIBE INBOX")
    at_work: list[object] = []
    matches = Pattern.matches

    def compare(pattern: Pattern, name: str) -> bool:
        assert at_work
        return matches(pattern, name)

    def run(work: Callable[..., object], *args: object) -> Ready[object]:
        def watched() -> object:
            at_work.append(work)
            try:
                return work(*args)
            finally:
                at_work.pop()

        return Ready(watched)

    monkeypatch.setattr(Pattern, "matches", compare)
    monkeypatch.setattr(client.session.workers, "run", run)
    assert b'"INBOX"' in client.lines(command)[0]
