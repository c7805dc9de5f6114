"""A Maildir that a real Dovecot made, opened here: no client has to download anything again."""

import imaplib
import re
import shutil
import time
from pathlib import Path

import pytest

from mailserver.mail import Address
from mailserver.store import AccountStore, Store
from tests.support import dovecot

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(dovecot.missing()), reason=dovecot.missing() or "-")]

NAMES = [
    "INBOX",
    "Arbeit",
    "Arbeit/Entw\u00fcrfe & mehr",
    "Arbeit/Entw\u00fcrfe & mehr/2024",
    "Sent",
    "\u65e5\u672c\u8a9e",
]
SUBSCRIBED = ["Arbeit/Entw\u00fcrfe & mehr", "INBOX", "Nicht mehr da", "\u65e5\u672c\u8a9e"]
ENCODED = {"&": "&-", "/": ".", "\u00fc": "&APw-", "\u65e5\u672c\u8a9e": "&ZeVnLIqe-"}  # RFC 3501 §5.1.3
MANY = 10_000

_FETCHED = re.compile(rb'UID (\d+) FLAGS \(([^)]*)\) INTERNALDATE "([^"]+)" RFC822.SIZE (\d+)')


def wire(name: str) -> str:
    """The name as Dovecot's clients send it; its separator is a dot."""
    for text, encoded in ENCODED.items():
        name = name.replace(text, encoded)
    return f'"{name}"'


def ok(answer):
    assert answer[0] == "OK", answer
    return answer[1]


def fill(client: imaplib.IMAP4) -> None:
    for number, name in enumerate(NAMES):
        if name != "INBOX":
            ok(client.create(wire(name)))
        for count in range(5 + number):
            when = imaplib.Time2Internaldate(1_500_000_000 + 86_400 * count)
            flags = ("", "(\\Seen)", "(\\Seen $Forwarded)", "(\\Draft Work)", "(\\Flagged \\Answered)")[count % 5]
            text = b"Subject: %d in %d\r\n\r\n%s\r\n" % (count, number, b"x\r\n" * count)
            ok(client.append(wire(name), flags, when, text))
        ok(client.select(wire(name)))
        ok(client.uid("STORE", "1", "+FLAGS", "(Later NonJunk \\Seen)"))
        ok(client.uid("STORE", "3", "-FLAGS", "($Forwarded)"))
        ok(client.uid("STORE", "2,4", "+FLAGS", "(\\Deleted)"))
        ok(client.uid("EXPUNGE", "4"))
    ok(client.uid("COPY", "1:3", wire("Sent")))
    for name in SUBSCRIBED:
        if name not in NAMES:
            ok(client.create(wire(name)))
        ok(client.subscribe(wire(name)))
    ok(client.delete(wire("Nicht mehr da")))


def as_dovecot_says(client: imaplib.IMAP4, name: str) -> dict:
    status = ok(client.status(wire(name), "(UIDVALIDITY UIDNEXT)"))[0]
    ok(client.select(wire(name), readonly=True))
    lines = ok(client.uid("FETCH", "1:*", "(UID FLAGS INTERNALDATE RFC822.SIZE)"))
    messages = {}
    for line in filter(None, lines):
        uid, flags, _, size = _FETCHED.search(line).groups()
        date = time.mktime(imaplib.Internaldate2tuple(line))
        messages[int(uid)] = (set(flags.decode().split()) - {"\\Recent"}, date, int(size))
    return {
        "uidvalidity": int(re.search(rb"UIDVALIDITY (\d+)", status)[1]),
        "uidnext": int(re.search(rb"UIDNEXT (\d+)", status)[1]),
        "messages": messages,
    }


def as_we_say(account: AccountStore, name: str) -> dict:
    mailbox = account.open(name)
    messages = {m.uid: (set(m.flags), m.internal_date // 1, m.size) for m in mailbox.messages()}
    assert all(len(mailbox.read(uid)) == size for uid, (_, _, size) in list(messages.items())[:50])
    said = {"uidvalidity": mailbox.uidvalidity, "uidnext": mailbox.uidnext, "messages": messages}
    mailbox.close()
    return said


def moved(maildir: Path, tmp_path: Path) -> AccountStore:
    """As the README says: the old server is stopped, and the Maildir is copied."""
    shutil.copytree(maildir, tmp_path / "mail/example.test/alice", symlinks=True)
    return Store(tmp_path / "mail", hostname="mx.example.test").account(Address("alice", "example.test"))


def test_everything_is_as_it_was(tmp_path):
    with dovecot.Dovecot() as peer:
        client = peer.imap()
        fill(client)
        before = {name: as_dovecot_says(client, name) for name in NAMES}
        client.logout()
        peer.stop()
        account = moved(peer.maildir, tmp_path)
    assert [folder.name for folder in account.folders() if folder.selectable] == sorted(
        NAMES, key=lambda name: (name != "INBOX", name)
    )
    for _ in range(2):
        for name in NAMES:
            assert as_we_say(account, name) == before[name], name
    assert len(before["INBOX"]["messages"]) == 4
    assert before["Arbeit"]["messages"][1][0] == {"\\Seen", "Later", "NonJunk"}
    assert account.subscriptions() == SUBSCRIBED


def test_dovecot_understands_what_we_made_of_it(tmp_path):
    """Moving back: the flags are kept, and what Dovecot makes of its old list then does not reach us."""
    with dovecot.Dovecot() as peer:
        client = peer.imap()
        fill(client)
        client.logout()
        peer.stop()
        account = moved(peer.maildir, tmp_path)
        before = {name: as_we_say(account, name) for name in NAMES}
        del account
        shutil.rmtree(peer.maildir)
        shutil.copytree(tmp_path / "mail/example.test/alice", peer.maildir)
        peer.own(peer.maildir)
        with peer:
            client = peer.imap()
            there = as_dovecot_says(client, "INBOX")
            assert list(there["messages"].values()) == list(before["INBOX"]["messages"].values())
            client.logout()
            peer.stop()
            shutil.rmtree(tmp_path / "mail/example.test/alice")
            account = moved(peer.maildir, tmp_path)
    assert {name: as_we_say(account, name) for name in NAMES} == before


def test_ten_thousand_messages_open_at_once(tmp_path):
    """Brought by an MTA that tells no sizes in the names, so that each file is read once."""
    with dovecot.Dovecot() as peer:
        for part in ("cur", "new", "tmp"):
            (peer.maildir / part).mkdir(parents=True)
        for number in range(MANY):
            path = peer.maildir / f"new/{1_600_000_000 + number}.V1I{number}.mta"
            path.write_bytes(b"Subject: %d\n\n%s" % (number, b"a line of text\n" * 50))
        peer.own(peer.maildir)
        client = peer.imap()
        ok(client.select())
        ok(client.store("1:5000", "+FLAGS", "(\\Seen Work)"))
        client.logout()
        client = peer.imap()
        before = as_dovecot_says(client, "INBOX")
        client.logout()
        peer.stop()
        account = moved(peer.maildir, tmp_path)
    began = time.process_time()
    mailbox = account.open("INBOX")
    took = time.process_time() - began
    assert len(mailbox.messages()) == MANY
    assert as_we_say(account, "INBOX") == before
    assert took < 6, "much less where nothing else is at work"
