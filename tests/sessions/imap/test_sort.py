"""SORT (RFC 5256): each criterion, against a naive model, and what must be made first."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.sessions.imap import sort
from mailserver.store.index import INDEX_FILE
from mailserver.store.shelf import Shelf
from tests.support.imap import Client, Server


@dataclass(frozen=True)
class Mail:
    """One message, and what it is sorted by."""

    subject: str
    base: str
    sender: str
    to: str
    cc: str
    sent: str
    sent_at: int | None
    arrived: int
    filler: int

    def octets(self) -> bytes:
        lines = [
            f"Subject: {self.subject}",
            f"From: Somebody <{self.sender}@example.test>",
            *([f"To: {self.to}@example.test, zzz@example.test"] if self.to else []),
            *([f"Cc: {self.cc}@example.test"] if self.cc else []),
            *([f"Date: {self.sent}"] if self.sent else []),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n" + "x" * self.filler + "\r\n").encode()


BOXES = [
    Mail("Re: beta", "BETA", "bob", "dora", "", "1 Jan 2001 00:00:00 +0000", 978307200, 5, 10),
    Mail("Alpha", "ALPHA", "Carl", "", "eve", "31 Dec 2000 16:01:33 -0800", 978307293, 4, 10),
    Mail("[list] BETA (fwd)", "BETA", "adam", "Dora", "EVE", "", None, 3, 500),
    Mail("", "", "bob", "Zoe", "", "1 Jan 2001 01:00:00 +0100", 978307200, 2, 3),
    Mail("beta", "BETA", "BOB", "", "adam", "not a date", None, 1, 10),
    Mail("alpha beta", "ALPHA BETA", "zed", "zoe", "", "3 Jan 1999 00:00:00 +0000", 915321600, 5, 99),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    server = Server(tmp_path_factory.mktemp("sort"))
    client = server.login()
    for mail in BOXES:
        date = f'"01-Feb-1990 00:00:0{mail.arrived} +0000" '
        assert b"t OK" in client.append("INBOX", mail.octets(), extra=date)
    return server


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    yield server.login(select="INBOX")


def sorted_by(client: Client, criteria: str, keys: str = "ALL") -> list[int]:
    (line,) = client.lines(f"SORT ({criteria}) UTF-8 {keys}")
    assert line.startswith(b"SORT")
    return [int(number) for number in line.split()[1:]]


def numbers_by(name: str) -> list[Any]:
    """The naive model."""
    epoch = 633830400
    match name:
        case "SUBJECT":
            return [mail.base for mail in BOXES]
        case "FROM":
            return [mail.sender.upper() for mail in BOXES]
        case "TO":
            return [mail.to.upper() for mail in BOXES]
        case "CC":
            return [mail.cc.upper() for mail in BOXES]
        case "DATE":
            return [epoch + mail.arrived if mail.sent_at is None else mail.sent_at for mail in BOXES]
        case "ARRIVAL":
            return [mail.arrived for mail in BOXES]
        case _:
            return [len(mail.octets()) for mail in BOXES]


NAMES = ["SUBJECT", "FROM", "TO", "CC", "DATE", "ARRIVAL", "SIZE"]
CRITERIA = st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), min_size=1, max_size=9)


@settings(max_examples=150)
@given(CRITERIA, st.sets(st.integers(1, len(BOXES)), min_size=1))
def test_it_agrees_with_the_naive_model(client: Client, criteria: list[tuple[str, bool]], among: set[int]) -> None:
    expected = sorted(among)
    for name, reverse in reversed(criteria):
        values = numbers_by(name)
        expected.sort(key=lambda number, values=values: values[number - 1], reverse=reverse)  # type: ignore[misc]
    written = " ".join(("REVERSE " if reverse else "") + name for name, reverse in criteria)
    assert sorted_by(client, written, ",".join(map(str, among))) == expected


def test_what_is_equal_stays_in_the_order_of_the_mailbox_when_reversed(client: Client) -> None:
    assert sorted_by(client, "SUBJECT") == [4, 2, 6, 1, 3, 5]
    assert sorted_by(client, "REVERSE SUBJECT") == [1, 3, 5, 6, 2, 4]
    assert sorted_by(client, "SUBJECT REVERSE DATE") == [4, 2, 6, 1, 3, 5]


def test_uids_and_nothing_found(server: Server, client: Client) -> None:
    assert client.lines("UID SORT (reverse arrival) us-ascii 2:4") == [b"SORT 2 3 4"]
    assert client.lines('SORT (SUBJECT) US-ASCII TEXT "not in mailbox"') == [b"SORT"]
    assert b" SORT" in client.lines("CAPABILITY")[0]


@pytest.mark.parametrize(
    "text",
    [
        "", "()", "(DATE)", "(DATE) UTF-8", "(BOGUS) UTF-8 ALL", "(REVERSE) UTF-8 ALL",
        "(REVERSE REVERSE DATE) UTF-8 ALL", "(DATE ) UTF-8 ALL", "DATE UTF-8 ALL", "(DATE) UTF-8 CHARSET UTF-8 ALL",
        "(" + "DATE " * 2000 + "DATE) UTF-8 ALL",
    ],
)  # fmt: skip
def test_what_is_malformed_is_refused(tmp_path: Path, text: str) -> None:
    client = Server(tmp_path).login(select="INBOX")
    assert client.command(f"SORT {text}").startswith(b"t BAD")


def test_an_unknown_charset(client: Client) -> None:
    assert client.command("SORT (DATE) KOI8-R ALL").startswith(b"t NO [BADCHARSET (US-ASCII UTF-8)]")


def test_texts_in_their_collation(tmp_path: Path) -> None:
    """i;unicode-casemap: without regard to case, compatible characters as what they stand for, then by code points."""
    server = Server(tmp_path)
    subjects = ["zebra", "Éclair", "éclair", "eclairs", "Äpfel", "äpfel", "ﬁsh", "FISH", "ǆ"]
    for subject in subjects:
        server.deliver(f"Subject: {subject}\r\n\r\nx\r\n".encode())
    order = sorted_by(server.login(select="INBOX"), "SUBJECT")
    # accents stand behind their letters: A-diaeresis after A, but before "DZ", "E-acute", "EC..."
    assert [subjects[number - 1] for number in order] == [
        "Äpfel", "äpfel", "ǆ", "eclairs", "Éclair", "éclair", "FISH", "zebra", "ﬁsh",
    ]  # fmt: skip


def test_new_messages_are_sorted_in_and_old_ones_leave(tmp_path: Path) -> None:
    server = Server(tmp_path)
    client = server.login(select="INBOX")
    for subject in ("m", "c", "x"):
        server.deliver(f"Subject: {subject}\r\n\r\nx\r\n".encode())
    client.command("NOOP")
    assert sorted_by(client, "SUBJECT") == [2, 1, 3]
    server.deliver(b"Subject: a\r\n\r\nx\r\n")
    server.deliver(b"Subject: n\r\n\r\nx\r\n")
    client.command("NOOP")
    assert sorted_by(client, "SUBJECT") == [4, 2, 1, 5, 3]
    client.command("STORE 2 +FLAGS (\\Deleted)")
    client.command("EXPUNGE")
    assert sorted_by(client, "SUBJECT") == [3, 1, 4, 2]


def test_a_message_that_another_expunged_is_left_out(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.deliver(b"Subject: x\r\n\r\nx\r\n", count=3)
    client, other = server.login(select="INBOX"), server.login(select="INBOX")
    other.command("STORE 2 +FLAGS (\\Deleted)")
    other.command("EXPUNGE")
    for criteria in ("SUBJECT", "DATE", "SIZE"):
        answer = client.command(f"SORT ({criteria}) UTF-8 ALL")
        assert b"* SORT 1 3\r\n" in answer
        assert b"EXPUNGE\r\n" not in answer
        assert b"t OK [EXPUNGEISSUED]" in answer
    assert b"* 2 EXPUNGE\r\n" in client.command("UID SORT (SUBJECT) UTF-8 ALL")


def test_without_an_index_the_messages_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(tmp_path)
    for subject in ("b", "a", "c"):
        server.deliver(f"Subject: {subject}\r\n\r\nx\r\n".encode())
    client = server.login(select="INBOX")
    for path in tmp_path.rglob(f"{INDEX_FILE}*"):
        path.unlink()

    def broken(_fd: int, _size: int, _offset: int) -> bytes:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", broken)
        assert client.command("SORT (SUBJECT) UTF-8 ALL").startswith(b"t NO [UNAVAILABLE]")
        assert sorted_by(client, "SIZE") == [1, 2, 3]
    assert sorted_by(client, "SUBJECT") == [2, 1, 3]


@pytest.mark.parametrize("limit", [0, 150, 600])
def test_columns_in_memory_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(sort, "FIRST_BATCH", 1)
    server = Server(tmp_path)
    for subject in ("b", "a", "c"):
        server.deliver(f"Subject: {subject}\r\n\r\nx\r\n".encode())
    client = server.login(select="INBOX")
    mailbox = server.account.open("INBOX")
    mailbox.sorting._shelf = shelf = Shelf(limit=limit)
    for _ in range(3):
        assert sorted_by(client, "SUBJECT FROM TO CC DATE") == [2, 1, 3]
        assert shelf.octets <= limit
    assert shelf.octets == sum(column.octets for column in shelf._columns.values())
