"""The index is a cache: it may be deleted between two sessions, or under a running one."""

from __future__ import annotations

import imaplib
import re
from pathlib import Path

from tests.support.server import ALICE, RunningServer


def uids_and_flags(client: imaplib.IMAP4) -> list[tuple[int, bytes]]:
    _, fetched = client.uid("FETCH", "1:*", "(FLAGS)")
    matches = [re.search(rb"UID (\d+).*FLAGS \(([^)]*)\)|FLAGS \(([^)]*)\).*UID (\d+)", line) for line in fetched]
    return [(int(m[1] or m[4]), (m[2] or m[3] or b"").replace(b"\\Recent", b"").strip()) for m in matches if m]


def test_the_index_may_be_deleted_at_any_moment(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        with server.smtp() as client:
            for number in range(5):
                client.sendmail("x@example.net", [ALICE], f"Subject: {number}\r\n\r\nhello\r\n".encode())
        with server.imap() as reader:
            reader.select("INBOX")
            reader.uid("STORE", "2", "+FLAGS", "(\\Seen $Work)")
            reader.uid("STORE", "4", "+FLAGS", "(\\Deleted)")
            reader.expunge()
            validity = reader.response("UIDVALIDITY")
            before = uids_and_flags(reader)
            assert [uid for uid, _ in before] == [1, 2, 3, 5]
            for file in server.maildir(ALICE).glob("mailserver.index*"):
                file.unlink()
            assert uids_and_flags(reader) == before
        server.stop()
        for file in server.maildir(ALICE).glob("mailserver.index*"):
            file.unlink()
        server.start()
        with server.imap() as reader:
            reader.select("INBOX")
            assert reader.response("UIDVALIDITY") == validity
            assert uids_and_flags(reader) == before
            _, (uidnext,) = reader.response("UIDNEXT")
            assert uidnext is not None
            assert int(uidnext) > 5
