"""MULTISEARCH (RFC 7377): ESEARCH in several mailboxes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mailserver.config.model import IMAP, Limits
from mailserver.sessions.imap import multisearch
from mailserver.store import Mailbox, Unavailable
from tests.support.imap import Client, Server


def message(subject: str) -> bytes:
    return f"Subject: {subject}\r\n\r\nbody\r\n".encode()


MAILBOXES = ("a", "a/b", "a/b/c", "d", "x/y")


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A plum and a pear in each of six mailboxes; `x` is none. `a/b` has a fig too."""
    server = Server(tmp_path)
    client = server.login()
    for name in MAILBOXES:
        client.command(f"CREATE {name}")
    for name in ("INBOX", *MAILBOXES):
        client.append(name, message("plum"))
        client.append(name, message("pear"), "\\Flagged")
    client.append("a/b", message("fig"))
    return server


@pytest.fixture
def client(server: Server) -> Client:
    return server.login()


def found(client: Client, arguments: str) -> dict[str, str]:
    """What is told of each mailbox, in the order told; the correlators must be right."""
    told = {}
    for line in client.lines(f"ESEARCH {arguments}"):
        match = re.fullmatch(rb'ESEARCH \(TAG "t%d" MAILBOX "(\S+)" UIDVALIDITY (\d+)\) UID (.*)' % client._tags, line)
        assert match, line
        name = match[1].decode()
        assert name not in told
        assert int(match[2]) == client.session.account.status(name).uidvalidity
        told[name] = match[3].decode()
    return told


# which mailboxes


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        ("personal", "INBOX a a/b a/b/c d x/y"),
        ("inboxes", "INBOX"),
        ("mailboxes d", "d"),
        ("mailboxes (d a INBOX)", "d a INBOX"),
        ("subtree a", "a a/b a/b/c"),
        ("subtree-one a", "a a/b"),
        ("subtree x", "x/y"),
        ("subtree-one (x a/b)", "a/b a/b/c x/y"),
        ("mailboxes (d d) mailboxes d subtree d", "d"),
        ("mailboxes d subtree-one a inboxes personal", "d a a/b INBOX a/b/c x/y"),
        ("mailboxes (none x .. a/b/c/d) subtree none", ""),
        ("mailboxes A", ""),
    ],
)
def test_sources(client: Client, sources: str, names: str) -> None:
    assert found(client, f"IN ({sources}) SUBJECT plum") == dict.fromkeys(names.split(), "ALL 1")


def test_subscribed_mailboxes(client: Client) -> None:
    for name in ("d", "a/b/c", "gone"):
        client.command(f"SUBSCRIBE {name}")
    assert list(found(client, "IN (subscribed) ALL")) == ["a/b/c", "d"]


def test_the_selected_mailbox_is_meant_where_none_is_named(client: Client) -> None:
    client.command("SELECT d")
    assert found(client, "SUBJECT pear") == {"d": "ALL 2"}
    assert found(client, "IN (selected) SUBJECT pear") == {"d": "ALL 2"}
    assert found(client, "RETURN (COUNT) ALL") == {"d": "COUNT 2"}
    assert list(found(client, "IN (mailboxes a selected) ALL")) == ["a", "d"]


@pytest.mark.parametrize("arguments", ["ALL", "IN (selected) ALL", "IN (personal selected) ALL", "RETURN (SAVE) ALL"])
def test_the_selected_mailbox_must_be_there_then(client: Client, arguments: str) -> None:
    assert client.command(f"ESEARCH {arguments}").startswith(b"t BAD")
    assert client.command("ESEARCH IN (personal) ALL").endswith(b"t OK Searched\r\n")


def test_names_are_those_that_the_client_knows(server: Server, client: Client) -> None:
    client.command("CREATE &AOQ-")
    client.append("&AOQ-", message("plum"))
    (line,) = client.lines("ESEARCH IN (mailboxes &AOQ-) ALL")
    assert b' MAILBOX "&AOQ-" ' in line
    server.policy = IMAP(separator="|")
    other = server.login()
    (line,) = other.lines("ESEARCH IN (subtree a|b|c) ALL")
    assert b' MAILBOX "a|b|c" ' in line


# what is told


def test_the_transcript(client: Client) -> None:
    assert found(client, 'IN (mailboxes "d" subtree "a") flagged') == {
        "d": "ALL 2",
        "a": "ALL 2",
        "a/b": "ALL 2",
        "a/b/c": "ALL 2",
    }
    assert found(client, 'IN (mailboxes "d" subtree-one "a") subject "fig"') == {"a/b": "ALL 3"}


@pytest.mark.parametrize(
    ("returns", "told"),
    [
        ("()", "ALL 1:3"),
        ("(MIN MAX)", "MIN 1 MAX 3"),
        ("(COUNT)", "COUNT 3"),
        ("(PARTIAL -1:-2)", "PARTIAL (-1:-2 2:3)"),
        ("(PARTIAL 7:9)", "PARTIAL (7:9 NIL)"),
    ],
)
def test_results_are_those_of_the_mailbox(client: Client, returns: str, told: str) -> None:
    assert found(client, f"IN (mailboxes a/b) RETURN {returns} ALL") == {"a/b": told}


@pytest.mark.parametrize("returns", ["", "RETURN (COUNT) ", "RETURN (MIN MAX ALL) ", "RETURN (PARTIAL 1:2) "])
def test_where_nothing_is_found_nothing_is_told(client: Client, returns: str) -> None:
    assert list(found(client, f"IN (personal) {returns}SUBJECT fig")) == ["a/b"]
    assert client.command(f"ESEARCH IN (personal) {returns}SUBJECT kiwi") == b"t OK Searched\r\n"


def test_all_keys_mean_the_same_in_each_mailbox(client: Client) -> None:
    assert found(client, "IN (subtree a) 3:9") == {"a/b": "ALL 3"}
    assert found(client, "IN (subtree a) UID *") == {"a": "ALL 2", "a/b": "ALL 3", "a/b/c": "ALL 2"}
    assert found(client, "IN (mailboxes (a d)) NOT (SUBJECT pear)") == {"a": "ALL 1", "d": "ALL 1"}
    assert found(client, "IN (mailboxes a) TEXT plum BODY body SMALLER 1000 SINCE 1-Jan-2020") == {"a": "ALL 1"}
    assert client.command("ESEARCH IN (mailboxes a) CHARSET KOI8-R TEXT x").startswith(b"t NO [BADCHARSET ")


def test_modseqs(client: Client) -> None:
    (line,) = client.lines("ESEARCH IN (mailboxes a) MODSEQ 1")
    status = client.session.account.status("a")
    assert line.endswith(b" UID ALL 1:2 MODSEQ %d" % status.highest_modseq)


# what is saved


def test_what_is_found_in_the_selected_mailbox_can_be_saved(client: Client) -> None:
    client.command("SELECT a/b")
    assert client.command("ESEARCH IN (selected) RETURN (SAVE) SUBJECT fig") == b"t OK Searched\r\n"
    assert client.lines("SEARCH $") == [b"SEARCH 3"]
    assert found(client, "IN (selected mailboxes d) UID $") == {"a/b": "ALL 3"}, "elsewhere nothing was saved"
    assert client.command("ESEARCH IN (selected mailboxes d) RETURN (SAVE) ALL").startswith(b"t BAD")
    assert client.lines("SEARCH $") == [b"SEARCH 3"]
    client.command("ESEARCH RETURN (SAVE) SUBJECT kiwi")
    assert client.lines("SEARCH $") == [b"SEARCH"]


# what stays as it is


def test_the_selected_mailbox_stays_selected(client: Client) -> None:
    client.command("SELECT d")
    found(client, "IN (subtree a) ALL")
    assert client.lines("UID SEARCH SUBJECT pear") == [b"SEARCH 2"]
    client.command("UNSELECT")
    found(client, "IN (subtree a) ALL")
    assert client.command("SEARCH ALL").startswith(b"t BAD")


def test_no_message_is_claimed_as_recent(server: Server, client: Client) -> None:
    server.deliver(message("kiwi"))
    assert found(client, "IN (inboxes) RECENT SUBJECT kiwi") == {"INBOX": "ALL 3"}
    assert b"3 RECENT" in client.command("SELECT INBOX")


def test_mailboxes_are_closed_again(server: Server, client: Client) -> None:
    found(client, "IN (personal) ALL")
    assert server.account._users == {}
    assert b"t OK" in client.command("DELETE d")


def test_they_are_closed_when_the_search_fails(server: Server, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise Unavailable("no disk")

    monkeypatch.setattr(Mailbox, "search_text", fail)
    assert client.command("ESEARCH IN (personal) TEXT x").startswith(b"t NO [UNAVAILABLE] no disk")
    assert server.account._users == {}


def test_the_selected_mailbox_is_searched_as_the_client_knows_it(server: Server) -> None:
    client = server.login(select="INBOX")
    other = server.login(select="INBOX")
    other.append("INBOX", message("plum"))
    other.command("UID STORE 1 +FLAGS.SILENT (\\Deleted)")
    other.command("UID EXPUNGE 1")
    first, *lines = [line for line in client.lines("ESEARCH IN (personal) ALL") if b"RECENT" not in line]
    assert first == b"3 EXISTS"
    assert b'MAILBOX "INBOX"' in lines[0]
    assert lines[0].endswith(b" ALL 1:3"), "what is gone is there until that is told"
    assert lines[-1] == b"1 EXPUNGE"


def test_a_mailbox_that_goes_meanwhile_is_passed_over(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    named = multisearch._named

    def named_then_gone(*arguments: object) -> list[str]:
        names = named(*arguments)  # type: ignore[arg-type]
        client.session.account.delete("d")
        return names

    monkeypatch.setattr(multisearch, "_named", named_then_gone)
    assert list(found(client, "IN (subtree a mailboxes d inboxes) ALL")) == ["a", "a/b", "a/b/c", "INBOX"]


# bounds


def test_too_many_mailboxes_are_refused_before_any_is_searched(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multisearch, "MAILBOXES", 3)
    assert client.command("ESEARCH IN (personal) ALL").startswith(b"t NO [LIMIT] more than 3 mailboxes")
    assert len(found(client, "IN (subtree a) ALL")) == 3


def test_a_limit_for_messages_is_one_for_all_mailboxes(tmp_path: Path, server: Server) -> None:
    server.limits = Limits().model_copy(update={"imap_messages": 4})
    client = server.login()
    answer = client.command("ESEARCH IN (mailboxes (a a/b d)) ALL")
    assert re.findall(rb"UID (ALL \S+)", answer) == [b"ALL 1:2", b"ALL 2:3"]
    assert b"t OK [LIMIT] " in answer
    assert found(client, "IN (mailboxes (a a/b d)) UID 1") == dict.fromkeys(("a", "a/b", "d"), "ALL 1")


def test_numbers_are_refused_with_uidonly(client: Client) -> None:
    client.command("ENABLE UIDONLY")
    assert client.command("ESEARCH IN (personal) 1:2").startswith(b"t BAD [UIDREQUIRED] ")
    assert len(found(client, "IN (personal) UID 1:2")) == 6


def test_it_is_offered(client: Client) -> None:
    assert b" MULTISEARCH " in client.command("CAPABILITY")
