"""THREAD (RFC 5256): as the client sees it; the algorithms have their own tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailserver.message import Forest
from mailserver.sessions.imap.thread import written
from tests.support.imap import Client, Server


def mail(name: str, subject: str, minute: int, refers: str = "", answers: str = "") -> bytes:
    lines = [
        f"Subject: {subject}",
        f"Date: 1 Jan 2001 00:{minute:02}:00 +0000",
        *([f"Message-ID: <{name}@x>"] if name else []),
        *(["References: " + " ".join(f"<{each}@x>" for each in refers.split())] if refers else []),
        *([f"In-Reply-To: <{answers}@x>"] if answers else []),
    ]
    return ("\r\n".join(lines) + "\r\n\r\nx\r\n").encode()


MAILS = [
    mail("a", "Hello", 0),  # 1
    mail("b", "Re: hello", 5, "a"),  # 2
    mail("c", "Re: hello", 4, answers="a"),  # 3
    mail("d", "other", 7, "lost"),  # 4
    mail("e", "other still", 6, "lost"),  # 5
    mail("f", "Re: Hello", 9),  # 6: by its subject
    mail("g", "alone", 1),  # 7
    mail("h", "deep", 8, "a b"),  # 8
    mail("", "[fwd: hello]", 3),  # 9
]


@pytest.fixture
def client(tmp_path: Path) -> Client:
    server = Server(tmp_path)
    for message in MAILS:
        server.deliver(message)
    return server.login(select="INBOX")


@pytest.mark.parametrize(
    ("algorithm", "answer"),
    [
        ("ORDEREDSUBJECT", b"THREAD (1 (9)(3)(2)(6))(7)(5)(4)(8)"),
        ("REFERENCES", b"THREAD (1 (9)(3)(2 8)(6))(7)((5)(4))"),
        ("REFS", b"THREAD (7)(9)((5)(4))(1 (3)(2 8))(6)"),
    ],
)
def test_each_algorithm(client: Client, algorithm: str, answer: bytes) -> None:
    assert client.lines(f"THREAD {algorithm} UTF-8 ALL") == [answer]
    assert client.lines(f"thread {algorithm.lower()} us-ascii all") == [answer]
    assert f" THREAD={algorithm}".encode() in client.lines("CAPABILITY")[0]


def test_only_what_is_found_is_threaded(client: Client) -> None:
    assert client.lines("THREAD REFERENCES UTF-8 2:3,8") == [b"THREAD ((3)(2 8))"]
    assert client.lines("THREAD REFS UTF-8 5") == [b"THREAD (5)"]
    assert client.lines("THREAD ORDEREDSUBJECT US-ASCII TEXT gewp") == [b"THREAD"]


def test_uids(client: Client) -> None:
    client.command("STORE 1 +FLAGS (\\Deleted)")
    client.command("EXPUNGE")
    assert client.lines("THREAD REFS UTF-8 1:2") == [b"THREAD ((2)(1))"]
    assert client.lines("UID THREAD REFS UTF-8 1:2") == [b"THREAD ((3)(2))"]


def test_a_message_that_another_expunged_is_left_out(tmp_path: Path) -> None:
    server = Server(tmp_path)
    for message in MAILS[:3]:
        server.deliver(message)
    client, other = server.login(select="INBOX"), server.login(select="INBOX")
    other.command("STORE 2 +FLAGS (\\Deleted)")
    other.command("EXPUNGE")
    answer = client.command("THREAD REFERENCES UTF-8 ALL")
    assert answer.startswith(b"* THREAD (1 3)\r\n")
    assert b"t OK [EXPUNGEISSUED]" in answer


def test_mail_that_comes_later_is_threaded_in(client: Client, tmp_path: Path) -> None:
    client.lines("THREAD REFS UTF-8 ALL")
    client.append("INBOX", mail("lost", "found", 2))
    assert client.lines("THREAD REFS UTF-8 ALL") == [b"THREAD (7)(9)(10 (5)(4))(1 (3)(2 8))(6)"]


@pytest.mark.parametrize(
    "text", ["", "REFS", "REFS UTF-8", "BOGUS UTF-8 ALL", "REFS ALL", "(REFS) UTF-8 ALL", "RETURN () REFS UTF-8 ALL"]
)
def test_what_is_malformed_is_refused(client: Client, text: str) -> None:
    assert client.command(f"THREAD {text}").split()[1] in (b"BAD", b"NO")


def test_an_unknown_charset(client: Client) -> None:
    assert client.command("THREAD REFS KOI8-R ALL").startswith(b"t NO [BADCHARSET (US-ASCII UTF-8)]")


@pytest.mark.parametrize(
    ("roots", "children", "text"),
    [
        ([2, 3], {3: [6], 6: [4, 44], 4: [23], 44: [7], 7: [96]}, b"(2)(3 6 (4 23)(44 7 96))"),
        ([100], {100: [3, 5]}, b"((3)(5))"),
        ([], {}, b""),
    ],
)
def test_the_examples_of_the_rfc(roots: list[int], children: dict[int, list[int]], text: bytes) -> None:
    assert written(Forest(100, roots, children), range(100)) == text


def test_threads_may_be_as_deep_as_there_are_messages() -> None:
    deep = {place: [place + 1] for place in range(9_999)}
    assert written(Forest(10_000, [0], deep), range(10_000)).count(b" ") == 9_999
    forks = {place: [place + 1, place + 2] for place in range(0, 9_998, 2)}
    assert written(Forest(10_001, [0], forks), range(10_001)).endswith(b")" * 100)
