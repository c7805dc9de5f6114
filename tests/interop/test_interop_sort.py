"""SORT and THREAD give what Dovecot gives for the same mailbox."""

from __future__ import annotations

import imaplib
import random
from collections.abc import Iterator

import pytest

from tests.support import dovecot
from tests.support.dovecot import Dovecot
from tests.support.imap import Client, Server

pytestmark = pytest.mark.skipif(bool(dovecot.missing()), reason=dovecot.missing())

COUNT = 400
SUBJECTS = ["Plan", "plan of work", "Bericht", "=?utf-8?q?=C3=84rger?=", "ärger".encode().decode("latin-1"), "x", "Zug"]
MARKS = ["", "", "", "Re: ", "re[2]: ", "Fwd: ", "[list] ", "[list] Re: ", "Re: [list] AW: "]
NAMES = ["anna", "Bert", "cara", "Dora", "émil".encode().decode("latin-1")]


def mails(seed: int) -> Iterator[tuple[bytes, str]]:
    """Messages with references among each other and to others, and the internal date of each."""
    chance = random.Random(seed)
    known: list[tuple[str, str]] = []  # name, and what it refers to
    for number in range(COUNT):
        name = f"<{number}.{chance.randrange(3)}@x.test>"
        subject = chance.choice(MARKS) + chance.choice(SUBJECTS) + (f" {chance.randrange(40)}" if number % 3 else "")
        day, hour = chance.randrange(1, 28), chance.randrange(24)
        zone = chance.choice(["+0000", "-0800", "+0530"])
        lines = [f"Subject: {subject}" + (" (fwd)" if chance.random() < 0.1 else "")]
        lines += [
            f"From: {chance.choice(['', 'Some Body ', '=?utf-8?q?=C3=89?= '])}<{chance.choice(NAMES[:4])}@x.test>"
        ]
        lines += [f"To: {chance.choice(NAMES[:4])}@x.test, other@x.test"] if chance.random() < 0.8 else []
        lines += [f"Cc: {chance.choice(NAMES[:4])}@x.test"] if chance.random() < 0.5 else []
        if chance.random() < 0.95:
            lines += [f"Date: {day} Jan 2001 {hour:02}:{number % 60:02}:00 {zone}"]
        if chance.random() < 0.95:
            lines += [f"Message-ID: {name}"]
        refers = ""
        if known and chance.random() < 0.7:
            before, theirs = chance.choice(known)
            refers = f"{theirs} {before}".strip()
            if chance.random() < 0.1:
                refers = f"<lost{chance.randrange(5)}@x.test> {before}"
            lines += [f"References: {refers}"] if chance.random() < 0.8 else [f"In-Reply-To: {before}"]
        known.append((name, refers))
        text = ("\r\n".join(lines) + "\r\n\r\n" + "y" * chance.randrange(50) + "\r\n").encode("latin-1")
        yield text, f'"{chance.randrange(1, 28):02}-Feb-2001 00:00:{number % 50:02} +0000"'


@pytest.fixture(scope="module", params=[1, 2])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Client, imaplib.IMAP4]]:
    ours = Server(tmp_path_factory.mktemp("sort")).login()
    with Dovecot() as running:
        theirs = running.imap()
        for message, date in mails(request.param):
            assert theirs.append("INBOX", "", date, message)[0] == "OK"
            assert b"t OK" in ours.append("INBOX", message, extra=f"{date} ")
        theirs.select("INBOX")
        ours.command("SELECT INBOX")
        yield ours, theirs
        theirs.logout()


@pytest.mark.parametrize(
    "criteria",
    [
        *("SUBJECT", "FROM", "TO", "CC", "DATE", "ARRIVAL", "SIZE", "DISPLAYFROM", "DISPLAYTO"),
        *("REVERSE SUBJECT", "SUBJECT REVERSE DATE", "REVERSE FROM TO REVERSE SIZE", "CC REVERSE ARRIVAL SUBJECT"),
    ],
)
def test_sort(both: tuple[Client, imaplib.IMAP4], criteria: str) -> None:
    ours, theirs = both
    for keys in ("ALL", "NOT SUBJECT plan"):
        (line,) = theirs.uid("SORT", f"({criteria})", "UTF-8", keys)[1]
        assert ours.lines(f"UID SORT ({criteria}) UTF-8 {keys}") == [b"SORT " + line]


@pytest.mark.parametrize("algorithm", ["ORDEREDSUBJECT", "REFERENCES", "REFS"])
def test_thread(both: tuple[Client, imaplib.IMAP4], algorithm: str) -> None:
    ours, theirs = both
    for keys in ("ALL", "NOT SUBJECT plan", "1:50"):
        (line,) = theirs.uid("THREAD", algorithm, "UTF-8", keys)[1]
        assert ours.lines(f"UID THREAD {algorithm} UTF-8 {keys}") == [b"THREAD " + line]
