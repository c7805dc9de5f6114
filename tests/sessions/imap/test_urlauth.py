"""URLAUTH (RFC 4467) and URL-PARTIAL (RFC 5550 §5.7.1): URLs that carry their own authorisation."""

from __future__ import annotations

import logging
import os
import re
import stat
from pathlib import Path

import pytest

from mailserver.config.model import IMAP
from mailserver.mail import Address
from mailserver.sessions.imap import urlauth
from mailserver.store import Mailbox, Store, Unavailable, accesskeys, content
from tests.support.imap import Client, Server, parse_responses

MESSAGE = (
    b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\n\r\none\r\n--b\r\n\r\nSi vis pacem, para bellum.\r\n\r\n--b--\r\n"
)
OWN = "imap://alice%40example.test@mail.example.test/INBOX/;uid=1"
SUBMISSION = Address("bob", "example.test")


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path)
    server.deliver(MESSAGE)
    server.account.status("INBOX")  # it gets its UID
    return server


@pytest.fixture
def alice(server: Server) -> Client:
    return server.login()


@pytest.fixture
def bob(server: Server) -> Client:
    return server.login("bob")


def authorised(client: Client, url: str) -> str:
    (line,) = client.lines(f'GENURLAUTH "{url}" INTERNAL')
    match = re.fullmatch(rb'GENURLAUTH "([^"]+)"', line)
    assert match, line
    return match[1].decode()


def fetched_by(client: Client, *urls: str) -> list[bytes | None]:
    """What each URL gives; each answer names its URL."""
    answer = client.command("URLFETCH " + " ".join(f'"{url}"' for url in urls))
    *untagged, tagged = parse_responses(answer)
    assert tagged[:2] == [b"t", b"OK"], answer
    found: list[bytes | None] = []
    for words, url in zip(untagged, urls, strict=True):
        assert words[:3] == [b"*", b"URLFETCH", url.encode()]
        value = words[3]
        assert not isinstance(value, list)
        found.append(value)
    return found


def test_the_transcript(alice: Client, bob: Client, server: Server) -> None:
    """§7: a URL is made for a submission server, and fetched by it."""
    server.policy = IMAP(submission_servers=(str(SUBMISSION),))
    assert b" URLAUTH URL-PARTIAL" in alice.command("CAPABILITY")
    answer = alice.command(f'GENURLAUTH "{OWN}/;section=1.2" INTERNAL')
    assert answer == b"t BAD the URL has no access identifier\r\n"
    answer = alice.command('GENURLAUTH "imap://mail.example.test/Shared/;uid=20;urlauth=submit+fred" INTERNAL')
    assert answer == b"t BAD the URL's user is missing, or not the one that is logged in\r\n"
    initial = f"{OWN}/;section=2;urlauth=submit+fred"
    url = authorised(alice, initial)
    assert re.fullmatch(re.escape(initial) + ":internal:[0-9a-f]{66}", url)
    submission = server.login("bob")
    answer = submission.command(f'URLFETCH "{url}"')
    assert answer == f'* URLFETCH "{url}" {{28}}\r\nSi vis pacem, para bellum.\r\n\r\nt OK URLs fetched\r\n'.encode()
    assert fetched_by(bob, url) == [None], "he was no submission server when he logged in"
    assert fetched_by(alice, url) == [None], "not even the owner is one"


@pytest.mark.parametrize(
    ("access", "own", "others"),
    [
        ("anonymous", True, True),
        ("authuser", True, True),
        ("user+bob%40example.test", False, True),
        ("USER+alice@example.test".replace("@", "%40"), True, False),
        ("user+nobody", False, False),
        ("submit+bob%40example.test", False, False),
    ],
)
def test_access_identifiers(alice: Client, bob: Client, access: str, own: bool, others: bool) -> None:
    """§3. The URL is of alice's INBOX, whoever fetches it."""
    url = authorised(alice, f"{OWN};URLAUTH={access}")
    assert fetched_by(alice, url) == [MESSAGE if own else None]
    assert fetched_by(bob, url) == [MESSAGE if others else None]


def test_several_at_once(alice: Client) -> None:
    answer = alice.command(
        f'GENURLAUTH "{OWN};URLAUTH=anonymous" INTERNAL "{OWN}/;SECTION=1;URLAUTH=authuser" internal'
    )
    match = re.fullmatch(rb'\* GENURLAUTH "([^"]+)" "([^"]+)"\r\nt OK URLs authorised\r\n', answer)
    assert match, answer
    first, second = match[1].decode(), match[2].decode()
    assert fetched_by(alice, second, "nonsense", first) == [b"one", None, MESSAGE]


@pytest.mark.parametrize(
    ("part", "octets"),
    [
        ("/;PARTIAL=0.7", b"Subject"),
        ("/;PARTIAL=9.99999999", MESSAGE[9:]),
        ("/;SECTION=2/;PARTIAL=7.5", b"pacem"),
        ("/;SECTION=2/;PARTIAL=7", b"pacem, para bellum.\r\n"),
        ("/;SECTION=2/;PARTIAL=700", b""),
        ("/;SECTION=HEADER.FIELDS%20%28SUBJECT%29", b"Subject: x\r\n\r\n"),
        ("/;SECTION=3", None),
        (";UIDVALIDITY=1/;UID=1", None),
    ],
)
def test_parts_by_octets(alice: Client, bob: Client, part: str, octets: bytes | None) -> None:
    """URL-PARTIAL."""
    start = OWN.replace("/;uid=1", "") if part.startswith(";") else OWN
    assert fetched_by(bob, authorised(alice, f"{start}{part};URLAUTH=anonymous")) == [octets]


def test_what_changed_in_a_url_is_not_authorised(alice: Client, bob: Client) -> None:
    """§6: the text itself is covered, without any decoding or folding of case."""
    url = authorised(alice, f"{OWN}/;SECTION=1;URLAUTH=user+bob%40example.test")
    rump, _, token = url.rpartition(":internal:")
    assert fetched_by(bob, f"{rump}:INTERNAL:{token.upper()}") == [b"one"], "neither mechanism nor digits have a case"
    for other in (
        url.replace("SECTION=1", "SECTION=2"),
        url.replace("SECTION", "section"),
        url.replace("mail.example.test", "MAIL.example.test"),
        url.replace("INBOX", "%49NBOX"),
        url.replace("uid=1", "uid=01"),
        url.replace("user+bob%40example.test", "anonymous"),
        f"{rump}:internal:{token[:-1]}{'1' if token[-1] == '0' else '0'}",
        f"{rump}:internal:{token[2:]}",
        f"{rump}:internal:{token}0",
        f"{rump}:internal:{token[:64]}",
        f"{rump}:internal:{'0' * 66}",
        f"{rump}:external:{token}",
        rump,
    ):
        assert fetched_by(bob, other) == [None], other


def test_urls_end_with_their_time(server: Server, alice: Client, bob: Client) -> None:
    moment = "2023-11-14T22:13:20Z"  # as the clock has it
    url = authorised(alice, f"{OWN};EXPIRE={moment};URLAUTH=anonymous")
    assert fetched_by(bob, url) == [MESSAGE]
    server.clock.epoch += 1
    assert fetched_by(bob, url) == [None]
    late = authorised(alice, f"{OWN};EXPIRE=2023-11-14T23:13:21+01:00;URLAUTH=anonymous")
    assert fetched_by(bob, late, late.replace("23:13:21", "23:13:22")) == [MESSAGE, None]


def test_keys_are_renewed_and_removed(server: Server, alice: Client, bob: Client) -> None:
    """§7, RESETKEY."""
    alice.command("CREATE Work")
    alice.append("Work", b"at work")
    work = OWN.replace("INBOX", "Work")
    first, other = authorised(alice, f"{OWN};URLAUTH=anonymous"), authorised(alice, f"{work};URLAUTH=anonymous")
    assert authorised(alice, f"{OWN};URLAUTH=anonymous") == first, "the key stays"
    assert alice.command("RESETKEY INBOX") == b"t OK [URLMECH INTERNAL] Key renewed\r\n"
    assert fetched_by(bob, first, other) == [None, b"at work"]
    second = authorised(alice, f"{OWN};URLAUTH=anonymous")
    assert fetched_by(bob, second) == [MESSAGE]
    assert alice.command("RESETKEY INBOX internal INTERNAL").startswith(b"t OK [URLMECH INTERNAL]")
    assert alice.command("RESETKEY") == b"t OK All keys removed\r\n"
    assert fetched_by(bob, first, second, other) == [None, None, None]
    assert alice.command("RESETKEY INBOX XSAMPLE").startswith(b"t NO [CANNOT] ")
    assert alice.command("RESETKEY None").startswith(b"t NO [NONEXISTENT] ")
    assert bob.command("RESETKEY INBOX").startswith(b"t OK "), "his own"


def test_who_has_the_mailbox_selected_hears_of_a_new_key(server: Server, alice: Client, bob: Client) -> None:
    selected, elsewhere, idling = (server.login(select="INBOX") for _ in range(3))
    assert b"* OK [URLMECH INTERNAL] " in elsewhere.command("EXAMINE INBOX")
    alice.command("CREATE Work")
    elsewhere.command("SELECT Work")
    idling.command("IDLE")
    heard = idling.pushed(lambda: alice.command("RESETKEY INBOX"))
    assert heard.startswith(b"* OK [URLMECH INTERNAL] ")
    assert selected.command("NOOP").startswith(b"* OK [URLMECH INTERNAL] ")
    assert selected.command("NOOP") == b"t OK Done\r\n", "once"
    assert elsewhere.command("NOOP") == b"t OK Done\r\n"
    assert selected.command("RESETKEY INBOX").count(b"URLMECH") == 1
    assert selected.command("NOOP") == b"t OK Done\r\n", "it was told by the answer"


def test_who_has_the_mailbox_selected_hears_of_a_new_key_from_another_process(server: Server, alice: Client) -> None:
    selected, idling = server.login(select="INBOX"), server.login(select="INBOX")
    elsewhere = Store(server.root, hostname="x").account(Address("alice", "example.test"))
    elsewhere.make_access_key("INBOX")
    assert selected.command("NOOP") == b"t OK Done\r\n", "the first one ends nothing"
    idling.command("IDLE")
    elsewhere.renew_access_key("INBOX")
    heard = idling.pushed(lambda: selected.command("NOOP"))
    assert heard == b"* OK [URLMECH INTERNAL] The mailbox has a new key for URLs\r\n"
    assert selected.command("NOOP") == b"t OK Done\r\n", "once"
    elsewhere.remove_access_keys()
    assert selected.command("NOOP") == b"t OK Done\r\n"
    elsewhere.make_access_key("INBOX")
    assert selected.command("NOOP").startswith(b"* OK [URLMECH INTERNAL] ")
    assert alice.command("RESETKEY INBOX").count(b"URLMECH") == 1
    assert selected.command("NOOP").count(b"URLMECH") == 1
    assert selected.command("NOOP") == b"t OK Done\r\n"


def test_a_deleted_mailbox_takes_its_key_along(alice: Client, bob: Client) -> None:
    alice.command("CREATE Work")
    alice.append("Work", b"first")
    url = authorised(alice, f"{OWN.replace('INBOX', 'Work')};URLAUTH=anonymous")
    assert fetched_by(bob, url) == [b"first"]
    alice.command("DELETE Work")
    assert fetched_by(bob, url) == [None]
    alice.command("CREATE Work")
    alice.append("Work", b"second")
    assert fetched_by(bob, url) == [None], "the same name and UID, and another mailbox"
    alice.command("RENAME Work Old")
    assert fetched_by(bob, url) == [None]


def test_an_expunged_message_is_gone(alice: Client, bob: Client) -> None:
    url = authorised(alice, f"{OWN};URLAUTH=anonymous")
    alice.command("SELECT INBOX")
    alice.command("STORE 1 FLAGS (\\Deleted)")
    alice.command("EXPUNGE")
    assert fetched_by(bob, url) == [None]


def test_fetching_leaves_all_as_it_was(server: Server, alice: Client, bob: Client) -> None:
    url = authorised(alice, f"{OWN};URLAUTH=anonymous")
    bob.command("SELECT INBOX")
    assert fetched_by(bob, url) == [MESSAGE]
    assert bob.command("NOOP") == b"t OK Done\r\n"
    assert server.account.status("INBOX").unseen == 1


@pytest.mark.parametrize(
    "url",
    [
        "imap://bob%40example.test@mail.example.test/INBOX/;uid=1;URLAUTH=anonymous",
        "imap://nobody%40example.test@mail.example.test/INBOX/;uid=1;URLAUTH=anonymous",
        "imap://alice%40example.test@elsewhere.test/INBOX/;uid=1;URLAUTH=anonymous",
        "/INBOX/;uid=1;URLAUTH=anonymous",
        "imap://alice%40example.test@mail.example.test/None/;uid=1;URLAUTH=anonymous",
        "imap://alice%40example.test@mail.example.test/..%2Fbob/;uid=1;URLAUTH=anonymous",
        "imap://alice%40example.test@mail.example.test/INBOX;URLAUTH=anonymous",
        "imap://alice%40example.test@mail.example.test/;URLAUTH=anonymous",
        f"{OWN};URLAUTH=root",
        f"{OWN};URLAUTH=user+",
        f"{OWN};URLAUTH=anonymous:internal:" + "0" * 66,
        f"{OWN};EXPIRE=tomorrow;URLAUTH=anonymous",
    ],
)
def test_what_cannot_be_authorised(alice: Client, url: str) -> None:
    """§7, GENURLAUTH: BAD, and nothing is made."""
    answer = alice.command(f'GENURLAUTH "{OWN};URLAUTH=anonymous" INTERNAL "{url}" INTERNAL')
    assert answer.startswith(b"t BAD ")
    assert answer.count(b"\r\n") == 1


def test_no_answer_tells_who_exists(alice: Client) -> None:
    answers = {
        alice.command(f'GENURLAUTH "imap://{user}@mail.example.test/INBOX/;uid=1;URLAUTH=anonymous" INTERNAL')
        for user in ("bob%40example.test", "nobody%40example.test", "", "x@y".replace("@", "%40"))
    }
    assert len(answers) == 1
    assert alice.command(f'GENURLAUTH "{OWN};URLAUTH=user+nobody" INTERNAL').startswith(b"* GENURLAUTH ")


def test_other_mechanisms_are_refused(alice: Client) -> None:
    assert alice.command(f'GENURLAUTH "{OWN};URLAUTH=anonymous" XSAMPLE').startswith(b"t NO [CANNOT] ")


def test_an_unknown_mailbox_costs_a_token_too(alice: Client, bob: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """§6: so that time does not tell which names exist."""
    made = []
    real = urlauth._token
    monkeypatch.setattr(urlauth, "_token", lambda key, rump: made.append(key) or real(key, rump))
    end = ";URLAUTH=anonymous:internal:" + "0" * 66
    for url in (
        OWN + end,
        OWN.replace("INBOX", "None") + end,
        OWN.replace("alice", "a b") + end,
        OWN.replace("INBOX", ".a") + end,
    ):
        fetched_by(bob, url)
    assert len(made) == 3, "the URL with a space is malformed"
    assert len(set(made)) == 3
    assert all(len(key) == 32 for key in made)


@pytest.mark.parametrize(
    "command",
    ["GENURLAUTH", "GENURLAUTH x", 'GENURLAUTH x "INTERNAL"', "GENURLAUTH x INTERNAL y", "GENURLAUTH x INTERNAL ",
     "RESETKEY ", "RESETKEY INBOX ", "RESETKEY INBOX a=b", "URLFETCH", "URLFETCH ", "URLFETCH x ", "URLFETCH (x"],
)  # fmt: skip
def test_malformed_commands(alice: Client, command: str) -> None:
    assert alice.command(command).startswith(b"t BAD ")


def test_many_urls(alice: Client) -> None:
    answer = alice.command("URLFETCH" + " x" * 1000)
    assert answer.count(b"* URLFETCH x NIL\r\n") == 1000
    assert alice.command("URLFETCH" + " x" * 1002).startswith(b"t NO [LIMIT] ")


def test_what_comes_back_cannot_break_out(alice: Client) -> None:
    """The URL in the answer is the one that was sent, and stays a string."""
    assert alice.command(b"URLFETCH {8+}\r\n\r\nt OK x") == b"* URLFETCH {8}\r\n\r\nt OK x NIL\r\nt OK URLs fetched\r\n"


def test_large_messages_pass_through_the_spool(server: Server, alice: Client, bob: Client) -> None:
    large = b"Subject: large\r\n\r\n" + b"0123456789abcde\r\n" * 200_000
    alice.append("INBOX", large)
    url = authorised(alice, f"{OWN.replace('uid=1', 'uid=2')};URLAUTH=anonymous")
    assert fetched_by(bob, url) == [large]
    assert not [path for path in server.root.iterdir() if path.is_file()]


def test_keys_on_disk(server: Server, alice: Client, caplog: pytest.LogCaptureFixture) -> None:
    """They last, nobody else reads them, and they stand in no log."""
    caplog.set_level(logging.DEBUG)
    url = authorised(alice, f"{OWN};URLAUTH=anonymous")
    path = server.root / "example.test/alice" / accesskeys.FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert fetched_by(alice, url) == [MESSAGE]
    key, token = path.read_text().strip(), url.rpartition(":")[2]
    assert len(key) == 64
    assert key not in caplog.text
    assert token not in caplog.text
    again = Server(server.root)
    assert fetched_by(again.login("bob"), url) == [MESSAGE]


@pytest.mark.parametrize("content", [b"", b"0" * 64, b"0" * 63 + b"\n", b"x" * 64 + b"\n", b"0" * 1000 + b"\n"])
def test_a_damaged_key_authorises_nothing(server: Server, alice: Client, content: bytes) -> None:
    url = authorised(alice, f"{OWN};URLAUTH=anonymous")
    path = server.root / "example.test/alice" / accesskeys.FILE
    path.write_bytes(content)
    assert fetched_by(alice, url) == [None]
    renewed = authorised(alice, f"{OWN};URLAUTH=anonymous")
    assert renewed != url
    assert fetched_by(alice, renewed, url) == [MESSAGE, None]


def test_a_key_is_no_link(server: Server, alice: Client, tmp_path: Path) -> None:
    known = tmp_path / "known"
    known.write_bytes(b"0" * 64 + b"\n")
    (server.root / "example.test/alice" / accesskeys.FILE).symlink_to(known)
    account = server.account
    assert account.access_key("INBOX") is None
    assert account.make_access_key("INBOX") != bytes(32)
    assert known.read_bytes() == b"0" * 64 + b"\n"


def test_a_disk_that_refuses(server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    url = authorised(alice, f"{OWN};URLAUTH=anonymous")

    def refuse(*_arguments: object, **_more: object) -> int:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(accesskeys, "replace_file", refuse)
        assert alice.command("RESETKEY INBOX").startswith(b"t NO [UNAVAILABLE] ")
    with monkeypatch.context() as patched:
        patched.setattr(accesskeys.content, "open_message", refuse)
        answer = alice.command(f'URLFETCH "{url}"')
    assert answer.startswith(f'* URLFETCH "{url}" NIL\r\nt NO [UNAVAILABLE] '.encode())
    assert fetched_by(alice, url) == [MESSAGE]


@pytest.mark.parametrize("form", ['"%s"', '("%s" BODY)'])
def test_one_message_that_cannot_be_read_does_not_keep_back_the_others(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    server.deliver(MESSAGE.replace(b"Subject: x", b"Subject: y"))
    first, second, third = (authorised(alice, f"{OWN[:-1]}{uid};URLAUTH=anonymous") for uid in (1, 2, 99))
    read, files = Mailbox.read, content.open_message

    def no_text(mailbox: Mailbox, uid: int) -> bytes:
        if uid == 1:
            raise Unavailable("The message cannot be read", 5)
        return read(mailbox, uid)

    def no_file(path: str) -> int:
        if ",U=1" in path:
            raise OSError(5, "Input/output error")
        return files(path)

    monkeypatch.setattr(Mailbox, "read", no_text)
    monkeypatch.setattr(content, "open_message", no_file)
    answer = alice.command("URLFETCH " + " ".join(form % url for url in (first, second, third)))
    assert f'* URLFETCH "{first}" NIL\r\n'.encode() in answer
    assert b"Subject: y" in answer and b"Subject: x" not in answer
    assert f'* URLFETCH "{third}" NIL\r\nt NO [UNAVAILABLE] '.encode() in answer
    monkeypatch.undo()
    assert alice.command("URLFETCH " + form % first).endswith(b"t OK URLs fetched\r\n")


def test_accounts_that_cannot_be_looked_up(server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    url = authorised(alice, f"{OWN};URLAUTH=anonymous")

    def refuse(_username: str) -> Address | None:
        raise OSError("no directory")

    with monkeypatch.context() as patched:
        patched.setattr(server.passwords, "account_of", refuse)
        assert alice.command(f'URLFETCH "{url}"').startswith(f'* URLFETCH "{url}" NIL\r\nt NO [UNAVAILABLE] '.encode())
        other = OWN.replace("alice%40example.test", "alice")
        assert alice.command(f'GENURLAUTH "{other};URLAUTH=anonymous" INTERNAL').startswith(b"t NO [UNAVAILABLE] ")
    assert fetched_by(alice, url) == [MESSAGE]


def test_a_new_key_is_durable(server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    alice.command("RESETKEY INBOX")
    home = str(server.root / "example.test/alice")
    assert synced[0].startswith(f"{home}/{accesskeys.FILE}")
    assert synced[1:] == [home]
    assert Store(server.root, hostname="x").account(Address("alice", "example.test")).access_key("INBOX")
