"""INPROGRESS (RFC 9585): a command that takes long says so."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailserver.sessions.imap import search, sort
from mailserver.sessions.imap.progress import EVERY, FIRST
from tests.support.imap import Client, Server

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"
COUNT = 10


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path)
    server.deliver(MESSAGE, count=COUNT)
    return server


@pytest.fixture
def client(server: Server) -> Client:
    client = server.login(select="INBOX")
    client.command("CREATE there")
    return client


@pytest.fixture
def slow(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, float], None]:
    """Makes each call of something take so long."""

    def slow(name: str, seconds: float) -> None:
        module, _, rest = name.partition(":")
        owner, _, method = rest.rpartition(".")
        target: Any = __import__(module, fromlist=["x"])
        for part in filter(None, owner.split(".")):
            target = getattr(target, part)
        original = getattr(target, method)

        def slowed(*args: Any, **kwargs: Any) -> Any:
            server.clock.advance(seconds)
            return original(*args, **kwargs)

        monkeypatch.setattr(target, method, slowed)

    return slow


def told(answer: bytes) -> list[bytes]:
    """What stands behind the tag."""
    lines = re.findall(rb'(?m)^\* OK \[INPROGRESS \("t\d+" ([^)]*)\)\] [^\r]+\r$', answer)
    assert len(lines) == answer.count(b"INPROGRESS")
    return lines


TEXT = "mailserver.store.mailbox:Mailbox.search_text"


def test_a_quick_command_says_nothing(client: Client, slow: Callable[[str, float], None]) -> None:
    slow(TEXT, FIRST / 2)
    assert told(client.command("SEARCH BODY body")) == []


def test_the_first_comes_after_a_second_and_the_others_are_rare(
    client: Client, slow: Callable[[str, float], None]
) -> None:
    slow(TEXT, FIRST)
    assert told(client.command("SEARCH BODY body")) == [b"0 10"]
    slow(TEXT, 3 * EVERY)
    answer = client.command("SEARCH BODY body")
    assert told(answer) == [b"0 10"] * 4
    assert answer.endswith(b"* SEARCH 1 2 3 4 5 6 7 8 9 10\r\nt OK Searched\r\n")


def test_it_says_how_far_the_command_is(
    client: Client, slow: Callable[[str, float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "FIRST_BATCH", 3)
    monkeypatch.setattr(search, "LONG", 1e9)
    slow(TEXT, EVERY / 2)
    answer = client.command("SEARCH BODY body")
    assert told(answer) == [b"0 10", b"6 10"]
    assert b"] 60% done\r\n" in answer


def test_it_is_never_over_before_the_answer(
    client: Client, slow: Callable[[str, float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sort, "FIRST_BATCH", 5)
    slow("mailserver.sessions.imap.sort:ordered", 2 * EVERY)
    assert told(client.command("SORT (SUBJECT FROM) UTF-8 ALL")) == [b"29 30", b"29 30"]


def test_learning_what_is_sorted_by_counts(
    client: Client, slow: Callable[[str, float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sort, "FIRST_BATCH", 5)
    slow("mailserver.store.sorting:Sorting.learn", EVERY)
    numbers = [int(line.split()[0]) for line in told(client.command("SORT (SUBJECT FROM) UTF-8 ALL"))]
    assert numbers == sorted(numbers)
    assert 10 <= numbers[0] < numbers[-1] < 30
    numbers = [int(line.split()[0]) for line in told(client.command("THREAD REFERENCES UTF-8 ALL"))]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("COPY 1:* there", "mailserver.store.mailbox:Mailbox.copy"),
        ("MOVE 1:* there", "mailserver.store.mailbox:Mailbox.move"),
        ("EXPUNGE", "mailserver.store.mailbox:Mailbox.expunge"),
        ("SELECT there", "mailserver.store.account:AccountStore.open"),
    ],
)
def test_commands_of_which_nobody_knows_how_far_they_are(
    client: Client, slow: Callable[[str, float], None], command: str, what: str
) -> None:
    client.command("STORE 1:* +FLAGS.SILENT (\\Deleted)")
    slow(what, EVERY + FIRST)
    answer = client.command(command)
    assert told(answer) == [b"NIL NIL", b"NIL NIL"]
    assert answer.splitlines()[-1].startswith(b"t OK")


def test_it_is_sent_while_the_work_goes_on(server: Server, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []

    def slowed(*_args: object) -> object:
        server.clock.advance(FIRST)
        sent.append(client.channel.sent)
        raise AssertionError

    monkeypatch.setattr("mailserver.store.mailbox.Mailbox.search_text", slowed)
    with pytest.raises(AssertionError):
        client.command("SEARCH BODY body")
    assert sent[0].startswith(b"* OK [INPROGRESS ")


def test_nothing_is_left_running(server: Server, client: Client, slow: Callable[[str, float], None]) -> None:
    slow(TEXT, 2 * EVERY)
    client.command("SEARCH BODY body")
    assert not [timer for timer in server.clock.timers if not timer.cancelled]


def test_an_empty_mailbox(client: Client) -> None:
    client.command("SELECT there")
    assert client.command("SORT (DATE) UTF-8 ALL").endswith(b"* SORT\r\nt OK Sorted\r\n")


def test_what_is_kept_up_to_date_says_nothing_of_it(
    server: Server, client: Client, slow: Callable[[str, float], None]
) -> None:
    client.command("SEARCH RETURN (UPDATE) BODY body")
    slow(TEXT, 2 * EVERY)
    server.deliver(MESSAGE)
    answer = client.command("NOOP")
    assert b"ADDTO (0 11)" in answer
    assert b"INPROGRESS" not in answer
