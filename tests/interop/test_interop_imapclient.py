"""imapclient does what programs built upon it do: folders, flags, search, sort, threads, IDLE, MOVE."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterator
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.policy import compat32
from typing import Any

import pytest

from tests.support.clients import SAMPLES
from tests.support.server import ALICE, DOMAIN, PASSWORD, RunningServer
from tests.support.sink import PATIENCE

imapclient = pytest.importorskip("imapclient", reason="imapclient is not installed; pip install imapclient")

DAVE = f"dave@{DOMAIN}"
WHEN = datetime.datetime(2024, 2, 29, 23, 59, 58, tzinfo=datetime.UTC)


def note(subject: str, text: str = "x", day: int = 1, **fields: str) -> bytes:
    message = MIMEText(text, "plain", "utf-8")
    message["Subject"] = subject
    message["From"] = "Jörg <joerg@example.net>"
    message["Date"] = f"{day} Jan 2025 12:00:00 +0000"
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    return message.as_bytes(policy=compat32.clone(linesep="\r\n"))


@contextlib.contextmanager
def logged_in(server: RunningServer, user: str = ALICE) -> Iterator[Any]:
    with imapclient.IMAPClient("localhost", server.ports.imaps, ssl_context=server.tls_context(), timeout=30) as client:
        client.login(user, PASSWORD)
        yield client


def test_starttls_and_id(server: RunningServer) -> None:
    with imapclient.IMAPClient("localhost", server.ports.imap, ssl=False, timeout=30) as client:
        client.starttls(server.tls_context())
        client.plain_login(ALICE, PASSWORD)
        assert client.id_({"name": "test"})[0]
        assert client.namespace().personal == (("", "/"),)


def test_folders(server: RunningServer) -> None:
    with logged_in(server) as client:
        for name in ("Entwürfe & mehr", "Entwürfe & mehr/日本語", 'Odd "name" \\ here', "Sent"):
            client.create_folder(name)
        listed = {name: flags for flags, separator, name in client.list_folders() if separator == b"/"}
        assert set(listed) == {"INBOX", "Entwürfe & mehr", "Entwürfe & mehr/日本語", 'Odd "name" \\ here', "Sent"}
        assert b"\\HasChildren" in listed["Entwürfe & mehr"]
        assert client.find_special_folder(imapclient.imapclient.SENT) == "Sent"
        client.subscribe_folder("Entwürfe & mehr/日本語")
        assert [name for _, _, name in client.list_sub_folders()] == ["Entwürfe & mehr/日本語"]
        client.rename_folder("Entwürfe & mehr", "Entwürfe")
        assert client.folder_exists("Entwürfe/日本語")
        status = client.folder_status("Entwürfe/日本語", ["MESSAGES", "UIDNEXT", "SIZE"])
        assert status == {b"MESSAGES": 0, b"UIDNEXT": 1, b"SIZE": 0}
        client.unsubscribe_folder("Entwürfe & mehr/日本語")
        for name in ("Entwürfe/日本語", "Entwürfe", 'Odd "name" \\ here', "Sent"):
            client.delete_folder(name)
        assert [name for _, _, name in client.list_folders()] == ["INBOX"]


def test_append_fetch_and_flags(server: RunningServer) -> None:
    with logged_in(server) as client:
        client.create_folder("kept")
        for message in SAMPLES.values():
            assert b"APPENDUID" in client.append("kept", message, [imapclient.SEEN, "$Label1"], WHEN)
        both = list(SAMPLES.values())[:2]
        client.multiappend("kept", [both[0], {"msg": both[1], "flags": [imapclient.SEEN], "date": WHEN}])
        selected = client.select_folder("kept")
        assert (selected[b"EXISTS"], selected[b"UIDNEXT"]) == (len(SAMPLES) + 2, len(SAMPLES) + 3)
        assert b"\\*" in selected[b"PERMANENTFLAGS"]
        client.normalise_times = False  # datetimes know their zone
        got = client.fetch(
            client.search(), ["BODY.PEEK[]", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE"]
        )
        assert [item[b"BODY[]"] for item in got.values()] == [*SAMPLES.values(), *both]
        for uid, name in enumerate(SAMPLES, 1):
            assert got[uid][b"INTERNALDATE"] == WHEN
            assert set(got[uid][b"FLAGS"]) == {b"\\Seen", b"$Label1", b"\\Recent"}
            assert got[uid][b"ENVELOPE"].subject == name.encode()
            assert str(got[uid][b"ENVELOPE"].from_[0]) == "Alice <alice@example.test>"
            assert got[uid][b"ENVELOPE"].date == datetime.datetime(2025, 11, 24, 1, 44, 57, tzinfo=datetime.UTC)
        assert imapclient.FLAGGED in client.add_flags([1, 2], [imapclient.FLAGGED])[2]
        assert client.search("FLAGGED") == [1, 2]
        client.remove_flags([1], [imapclient.FLAGGED], silent=True)
        client.set_flags([2], [imapclient.DRAFT])
        assert client.search(["DRAFT", "NOT", "SEEN"]) == [2]
        client.delete_messages([3, 4])
        client.uid_expunge([3])
        assert client.search("DELETED") == [4]
        client.expunge()
        assert client.search() == [1, 2, *range(5, len(SAMPLES) + 3)]
        client.unselect_folder()
        client.delete_folder("kept")


def test_search_sort_and_thread(server: RunningServer) -> None:
    with logged_in(server) as client:
        client.create_folder("found")
        client.append("found", note("Ärger", "Grüße aus Köln", 3, Message_ID="<a@x>"))
        client.append("found", note("Re: Ärger", "世界", 2, Message_ID="<b@x>", References="<a@x>"))
        client.append("found", note("zebra", 'a "quoted" \\ word', 1, Message_ID="<c@x>"))
        outer = MIMEMultipart()
        outer["Subject"] = "Apfel"
        outer.attach(MIMEText("nothing", "plain", "utf-8"))
        outer.attach(MIMEText("<b>Straße</b>", "html", "utf-8"))
        client.append("found", outer.as_bytes(policy=compat32.clone(linesep="\r\n")))
        client.select_folder("found")
        assert client.search(["SUBJECT", "ärger"], "UTF-8") == [1, 2]
        assert client.search(["TEXT", "KÖLN"], "UTF-8") == [1]
        assert client.search(["BODY", "世界", "FROM", "jörg"], "UTF-8") == [2]
        assert client.search(["BODY", 'a "quoted" \\ word']) == [3]
        assert client.search(["BODY", "STRAßE", "NOT", ["SUBJECT", "x", "SUBJECT", "y"]], "UTF-8") == [4]
        assert client.search(["OR", ["SUBJECT", "zebra"], ["SENTSINCE", datetime.date(2025, 1, 3)]]) == [1, 3]
        assert client.search(["MODSEQ", 3]).modseq
        assert client.sort(["SUBJECT"], "ALL") == [4, 1, 2, 3]
        assert client.sort("REVERSE DATE", ["SUBJECT", "ärger"], "UTF-8") == [1, 2]
        assert client.thread() == ((3,), (1, 2), (4,))
        assert client.thread("ORDEREDSUBJECT", ["SUBJECT", "ärger"], "UTF-8") == ((2, 1),)
        client.close_folder()
        client.delete_folder("found")


def test_idle_tells_of_a_delivery_and_of_flags(server: RunningServer) -> None:
    with logged_in(server, DAVE) as client, logged_in(server, DAVE) as other:
        before = client.select_folder("INBOX")[b"EXISTS"]
        client.idle()
        with server.smtp() as smtp:
            smtp.sendmail("x@example.net", [DAVE], SAMPLES["usual"])
        assert (before + 1, b"EXISTS") in answers(client, b"EXISTS")
        other.select_folder("INBOX")
        other.add_flags(other.search(), [imapclient.FLAGGED])
        (number, _, items), *_ = answers(client, b"FETCH")
        assert number == before + 1
        assert b"\\Flagged" in items[items.index(b"FLAGS") + 1]
        assert client.idle_done() == (b"Idle no longer", [])


def answers(client: Any, kind: bytes) -> list[Any]:
    """The first of its kind that come while it idles."""
    end = time.monotonic() + PATIENCE
    while not (got := [answer for answer in client.idle_check(1) if answer[1] == kind]):
        assert time.monotonic() < end, kind
    return got


def test_move_copy_and_condstore(server: RunningServer) -> None:
    with logged_in(server) as client:
        for name in ("from", "to"):
            client.create_folder(name)
        for message in SAMPLES.values():
            client.append("from", message)
        assert client.enable("CONDSTORE", "QRESYNC") == [b"CONDSTORE", b"QRESYNC"]
        highest = client.select_folder("from")[b"HIGHESTMODSEQ"]
        client.add_flags([2, 3], [imapclient.ANSWERED], silent=True)
        changed = client.fetch(client.search(), ["FLAGS"], [f"CHANGEDSINCE {highest}"])
        assert sorted(changed) == [2, 3]
        assert changed[2][b"MODSEQ"][0] > highest
        client.move([1, 2], "to")
        client.copy([3], "to")
        assert client.search() == list(range(3, len(SAMPLES) + 1))
        client.select_folder("to", readonly=True)
        got = client.fetch(client.search(), ["BODY[]", "FLAGS"])
        assert [item[b"BODY[]"] for item in got.values()] == list(SAMPLES.values())[:3]
        assert imapclient.ANSWERED in got[2][b"FLAGS"]
        client.unselect_folder()
        for name in ("from", "to"):
            client.delete_folder(name)
