"""offlineimap keeps mailboxes and Maildirs alike, whichever side changes."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.clients import SAMPLES, files, literals, maildir, program, run, unix, without_trace
from tests.support.server import BOB, PASSWORD, RunningServer

ADDED = rb"X-OfflineIMAP: [^\r\n]*\r?\n"  # what it marks its own messages with


def offlineimap(server: RunningServer, home: Path, user: str) -> Path:
    """Synchronises all folders both ways; the directory of the local Maildirs."""
    (home / "offlineimaprc").write_text(
        f"""\
[general]
accounts = all
metadata = {home}/state
ui = basic
fsync = False

[Account all]
localrepository = near
remoterepository = far

[Repository near]
type = Maildir
localfolders = {home}/mail

[Repository far]
type = IMAP
remotehost = localhost
remoteport = {server.ports.imaps}
remoteuser = {user}
remotepass = {PASSWORD}
ssl = yes
sslcacertfile = {server.ca_file}
maxconnections = 3
"""
    )
    run(program("offlineimap"), "-o", "-c", "offlineimaprc", home=home)
    return home / "mail"


def find(folder: Path, name: str) -> Path:
    """The message of `SAMPLES`."""
    (found,) = (file for file in files(folder) if without_trace(file.read_bytes()) == unix(SAMPLES[name]))
    return found


def mark(file: Path, flags: str) -> None:
    file.rename(file.parent.parent / "cur" / (file.name.partition(":")[0] + f":2,{flags}"))


def test_changes_go_both_ways(server: RunningServer, home: Path) -> None:
    client = server.imap(BOB)
    client.create("B&APw-ro")
    client.append("B&APw-ro", "(\\Flagged)", None, SAMPLES["dots"])
    mail = offlineimap(server, home, BOB)
    assert maildir(mail / "INBOX") == sorted(map(unix, SAMPLES.values()))
    assert find(mail / "B&APw-ro", "dots").name.endswith(":2,F")

    # both sides change
    client.select("INBOX")
    client.store("1", "+FLAGS", "(\\Answered \\Seen)")
    client.store("2", "+FLAGS", "(\\Deleted)")
    client.expunge()
    client.append("INBOX", None, None, SAMPLES["usual"].replace(b"One", b"Another"))
    client.create("Later")
    names = list(SAMPLES)
    mark(find(mail / "INBOX", names[2]), "FS")
    find(mail / "INBOX", names[3]).unlink()
    for part in ("cur", "new", "tmp"):
        (mail / "Drafts" / part).mkdir(parents=True)
    (mail / "Drafts/cur/1.local.host:2,DS").write_bytes(unix(SAMPLES["from-lines"]))
    offlineimap(server, home, BOB)

    client.select("INBOX")
    left = [*(SAMPLES[name] for name in (names[0], names[2], *names[4:])), SAMPLES["usual"].replace(b"One", b"Another")]
    assert [without_trace(text) for text in literals(client.fetch("1:*", "(BODY.PEEK[])"))] == left
    assert maildir(mail / "INBOX") == sorted(map(unix, left))
    assert client.search(None, "FLAGGED", "SEEN") == ("OK", [b"2"])
    assert find(mail / "INBOX", names[0]).name.endswith(":2,RS")
    assert (mail / "Later").is_dir()
    client.select("Drafts")
    (draft,) = literals(client.fetch("1", "(FLAGS BODY.PEEK[])"))
    assert re.sub(ADDED, b"", draft) == SAMPLES["from-lines"]
    assert client.search(None, "DRAFT", "SEEN") == ("OK", [b"1"])

    # nothing is left to do
    before = sorted(mail.rglob("*"))
    offlineimap(server, home, BOB)
    assert sorted(mail.rglob("*")) == before
    client.logout()
