"""IMAP clients that nobody here wrote list mailboxes with their status, and read quotas and metadata."""

from __future__ import annotations

import imaplib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomlkit

from tests.support.clients import SAMPLES, imapflow, program, run
from tests.support.server import ALICE, PASSWORD, RunningServer

for _command in ("GETMETADATA", "SETMETADATA"):
    imaplib.Commands[_command] = ("AUTH", "SELECTED")  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Alice may have two megabytes, or a hundred messages."""
    server = RunningServer(tmp_path_factory.mktemp("limited"), accounts={ALICE: ()})
    accounts = server.directory / "accounts.toml"
    document = tomlkit.parse(accounts.read_text(encoding="utf-8"))
    document["account"][ALICE].update({"quota": "2 MiB", "quota_messages": 100})  # type: ignore[index, union-attr]
    accounts.write_text(tomlkit.dumps(document), encoding="utf-8")
    with server as running:
        client = running.imap(ALICE)
        for name in ("Sent", "Work", "Work/2025"):
            client.create(name)
        client.subscribe("Work/2025")
        client.append("Work", "(\\Deleted)", "", SAMPLES["usual"])
        client.logout()
        yield running


def test_imaplib_reads_quotas(limited: RunningServer) -> None:
    client = limited.imap(ALICE)
    (octets,) = (file.stat().st_size for file in limited.maildir(ALICE).glob(".Work/cur/*"))
    quota = b'"account" (STORAGE %d 2048 MESSAGE 1 100)' % -(-octets // 1024)
    assert client.getquotaroot("Work") == ("OK", [[b'"Work" "account"'], [quota]])
    assert client.getquota("account") == ("OK", [quota])
    assert client.setquota("account", "(STORAGE 1)")[0] == "NO"
    assert client.status("Work", "(DELETED DELETED-STORAGE APPENDLIMIT)") == (
        "OK",
        [b'"Work" (DELETED 1 DELETED-STORAGE %d APPENDLIMIT %d)' % (octets, 50 * 2**20)],
    )
    client.logout()


def test_imapclient_reads_quotas(limited: RunningServer) -> None:
    imapclient = pytest.importorskip("imapclient", reason="imapclient is not installed; pip install imapclient")
    with imapclient.IMAPClient("localhost", limited.ports.imap, ssl=False, timeout=30) as client:
        client.login(ALICE, PASSWORD)
        roots, quotas = client.get_quota_root("Work/2025")
        assert (roots.mailbox, roots.quota_roots) == ("Work/2025", ["account"])
        assert [(quota.resource, quota.usage, quota.limit) for quota in quotas] == [
            ("STORAGE", 1, 2048),
            ("MESSAGE", 1, 100),
        ]
        assert client.get_quota("Work") == quotas


def test_imapflow_reads_quotas(limited: RunningServer) -> None:
    quota = imapflow(limited, "quota")
    assert quota["quotaRoot"] == "account"
    assert quota["message"] == {"usage": 1, "limit": 100, "status": "1%"}
    assert quota["storage"] == {"usage": 1024, "limit": 2 * 2**20, "status": "0%"}


def test_imaplib_keeps_metadata(limited: RunningServer) -> None:
    client = limited.imap(ALICE)
    assert client._simple_command("SETMETADATA", "Work", '(/private/comment "a note")')[0] == "OK"  # type: ignore[attr-defined]
    assert client._simple_command("GETMETADATA", "Work", "/private/comment")[0] == "OK"  # type: ignore[attr-defined]
    assert client.response("METADATA") == ("METADATA", [b'"Work" (/private/comment "a note")'])
    client.logout()


def curl(server: RunningServer, request: str, *, home: Path) -> str:
    url = f"imap://localhost:{server.ports.imap}"
    done = run(program("curl"), "-sS", "--user", f"{ALICE}:{PASSWORD}", "--request", request, url, home=home)
    return done.decode().replace("\r\n", "\n")


def test_curl_lists_mailboxes(limited: RunningServer, home: Path) -> None:
    listed = curl(limited, 'LIST (SUBSCRIBED RECURSIVEMATCH) "" %', home=home)
    assert listed == '* LIST (\\HasChildren) "/" "Work" ("CHILDINFO" ("SUBSCRIBED"))\n'
    listed = curl(limited, 'LIST "" (Sent "Work/%") RETURN (STATUS (MESSAGES MAILBOXID))', home=home)
    assert listed == '* LIST (\\HasNoChildren \\Sent) "/" "Sent"\n* LIST (\\HasNoChildren) "/" "Work/2025"\n'
    status = curl(limited, "STATUS Work (MESSAGES MAILBOXID)", home=home)
    assert re.fullmatch(r'\* STATUS "Work" \(MESSAGES 1 MAILBOXID \(F\w+\)\)\n', status)
