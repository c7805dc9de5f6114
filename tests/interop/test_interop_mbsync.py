"""mbsync keeps mailboxes and Maildirs alike, whichever side changes."""

from __future__ import annotations

import imaplib
import re
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.support.clients import LARGE, SAMPLES, TRANSPORTS, files, maildir, program, run, sample, unix
from tests.support.server import ALICE, BOB, DOMAIN, PASSWORD, RunningServer

CAROL = f"carol@{DOMAIN}"
TUID = rb"X-TUID: [^\r\n]*\r?\n"  # mbsync marks what it copies
THOUSANDS = 1500  # on each side


def mbsync(server: RunningServer, home: Path, user: str, transport: str) -> Path:
    """Synchronises all folders both ways; the directory of the local Maildirs."""
    (home / "mail").mkdir(exist_ok=True)
    tls = {"plain": "None", "starttls": "STARTTLS", "implicit": "IMAPS"}[transport]
    (home / "mbsyncrc").write_text(
        f"""\
FSync no

IMAPStore far
Host localhost
Port {server.ports.imaps if transport == "implicit" else server.ports.imap}
User {user}
Pass {PASSWORD}
SSLType {tls}
SystemCertificates no
CertificateFile {server.ca_file}

MaildirStore near
Path {home}/mail/
Inbox {home}/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
SyncState *
"""
    )
    run(program("mbsync"), "--config", "mbsyncrc", "all", home=home)
    return home / "mail"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_mbsync_copies_all_messages(server: RunningServer, home: Path, transport: str) -> None:
    mail = mbsync(server, home, BOB, transport)
    assert maildir(mail / "INBOX", TUID) == sorted(map(unix, SAMPLES.values()))
    before = sorted(mail.rglob("*"))
    mbsync(server, home, BOB, transport)
    assert sorted(mail.rglob("*")) == before


def test_mbsync_copies_ten_megabytes(server: RunningServer, home: Path) -> None:
    mail = mbsync(server, home, CAROL, "implicit")
    assert maildir(mail / "INBOX", TUID) == [unix(LARGE)]


def note(number: int, where: str) -> bytes:
    return unix(sample(f"{where}-{number}", b"x" * (number % 97) + b"\r\n"))


def fill(folder: Path, messages: Iterable[bytes]) -> None:
    for part in ("cur", "new", "tmp"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number, message in enumerate(messages):
        (folder / "new" / f"{time.time_ns()}.M{number}.local").write_bytes(message)


def uids(client: imaplib.IMAP4, folder: str) -> dict[str, int]:
    """By the subjects of the messages."""
    client.select(folder, readonly=True)
    answer = client.fetch("1:*", "(UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
    octets = b"".join(piece if isinstance(piece, bytes) else b" ".join(piece) for piece in answer)
    return {subject.decode(): int(uid) for uid, subject in re.findall(rb"UID (\d+) .*?Subject: (\S+)", octets)}


def by_subject(folder: Path) -> dict[str, Path]:
    return {re.search(r"(?m)^Subject: (.*)$", file.read_text())[1]: file for file in files(folder)}  # type: ignore[index]


def mark(file: Path, flags: str) -> None:
    file.rename(file.parent.parent / "cur" / (file.name.partition(":")[0] + f":2,{flags}"))


def test_thousands_of_messages_both_ways(server: RunningServer, home: Path) -> None:
    far = {f"far-{number}" for number in range(THOUSANDS)}
    near = {f"near-{number}" for number in range(THOUSANDS)}
    fill(server.maildir(ALICE), (note(number, "far") for number in range(THOUSANDS)))
    fill(home / "mail/INBOX", (note(number, "near") for number in range(THOUSANDS)))
    fill(home / "mail/Projects", [note(1, "project")])
    mail = mbsync(server, home, ALICE, "implicit")
    client = server.imap(ALICE)
    first = uids(client, "INBOX")
    assert set(first) == set(by_subject(mail / "INBOX")) == far | near
    assert list(uids(client, "Projects")) == ["project-1"]

    # both sides change
    client.select("INBOX")
    client.uid("STORE", str(first["far-1"]), "+FLAGS", "(\\Flagged \\Answered)")
    client.uid("STORE", f"{first['far-2']},{first['near-2']}", "+FLAGS", "(\\Deleted)")
    client.expunge()
    client.append("INBOX", None, None, sample("far-new", b"x\r\n"))
    client.create("Later")
    client.append("Later", "(\\Seen)", None, sample("later", b"x\r\n"))
    local = by_subject(mail / "INBOX")
    mark(local["near-1"], "FS")
    for subject in ("near-3", "far-3"):
        mark(local[subject], "T")
    fill(mail / "INBOX", [note(0, "near-new")])
    fill(mail / "Drafts", [note(0, "draft")])
    client.logout()

    mbsync(server, home, ALICE, "implicit")
    client = server.imap(ALICE)
    second = uids(client, "INBOX")
    gone = {"far-2", "near-2", "near-3", "far-3"}
    assert set(second) == set(by_subject(mail / "INBOX")) == (far | near | {"far-new", "near-new-0"}) - gone
    assert {subject: uid for subject, uid in second.items() if subject in first} == {
        subject: uid for subject, uid in first.items() if subject not in gone
    }
    assert client.select("INBOX")[0] == "OK"
    assert client.uid("SEARCH", "FLAGGED", "SEEN") == ("OK", [b"%d" % second["near-1"]])
    assert client.uid("SEARCH", "ANSWERED") == ("OK", [b"%d" % second["far-1"]])
    local = by_subject(mail / "INBOX")
    assert local["far-1"].name.endswith(":2,FR")
    assert list(uids(client, "Drafts")) == ["draft-0"]
    assert list(by_subject(mail / "Later")) == ["later"]

    # nothing is left to do
    def state() -> object:
        return sorted(mail.rglob("*")), [uids(client, name) for name in ("INBOX", "Projects", "Drafts", "Later")]

    before = state()
    mbsync(server, home, ALICE, "implicit")
    client.noop()
    assert state() == before
    client.logout()
