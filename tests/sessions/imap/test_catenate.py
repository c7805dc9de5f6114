"""CATENATE (RFC 4469): messages put together from what is sent and what is there."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from mailserver.imap import Limits
from mailserver.mail import Address, Content, Quota
from mailserver.store import AccountStore, Mailbox, Message, Store
from tests.support.imap import Client, Server, fetched

MIXED = (
    b"Subject: draft\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
    b"--x\r\nContent-Type: text/plain\r\n\r\nHello\r\n"
    b"--x\r\nContent-Type: application/x-zip-compressed\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    b"UEsDBA==\r\n--x--\r\n"
)
HEADER = MIXED[: MIXED.index(b"--x\r\n")]


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


@pytest.fixture
def client(server: Server) -> Client:
    client = server.login()
    client.command("CREATE Drafts")
    client.append("Drafts", MIXED)
    return client


def validity(server: Server, name: str = "Drafts") -> int:
    return server.account.status(name).uidvalidity


def texts(client: Client, name: str = "Drafts") -> list[object]:
    client.command(f"EXAMINE {name}")
    found = [item[b"BODY[]"] for item in fetched(client.command("FETCH 1:* BODY.PEEK[]")).values()]
    client.command("UNSELECT")
    return found


def text(octets: bytes) -> bytes:
    return b"TEXT {%d+}\r\n%b" % (len(octets), octets)


def spool_is_empty(server: Server) -> bool:
    return not any((server.root / "example.test/alice/tmp").iterdir())


def test_the_transcript(server: Server, client: Client) -> None:
    """Appendix A, example 1: an attachment is replaced without being loaded."""
    assert b" CATENATE" in client.command("CAPABILITY")
    client.append("Drafts", b"UEsDBC==")
    base = b"/Drafts;UIDVALIDITY=%d/;UID=" % validity(server)
    between, end = b"\r\n--x\r\n", b"\r\n--x--\r\n"
    assert client.say(
        b'A003 APPEND Drafts (\\Seen \\Draft $MDNSent) CATENATE (URL "%b1/;section=HEADER" TEXT {5}\r\n' % base
    ) == b"+ OK\r\n"  # fmt: skip
    assert client.say(
        b'--x\r\n URL "%b1/;section=1.MIME" URL "%b1/;section=1" TEXT {7}\r\n' % (base, base)
    ) == b"+ OK\r\n"  # fmt: skip
    assert client.say(between + b' URL "%b1/;section=2.MIME" URL "%b2" TEXT {9}\r\n' % (base, base)) == b"+ OK\r\n"
    answer = client.say(end + b")\r\n")
    assert answer == b"A003 OK [APPENDUID %d 3] Appended\r\n" % validity(server)
    assert texts(client)[2] == MIXED.replace(b"UEsDBA==", b"UEsDBC==")
    client.command("SELECT Drafts")
    assert b"FLAGS (\\Seen \\Draft $MDNSent" in client.command("FETCH 3 FLAGS")
    assert b"\\Seen" not in client.command("FETCH 1:2 FLAGS"), "no part is marked"


def test_a_failed_append(server: Server, client: Client) -> None:
    """Appendix A, example 4."""
    bad = b"/Drafts;UIDVALIDITY=%d/;UID=1/;section=1.5.9" % validity(server)
    answer = client.say(b'A003 APPEND Drafts (\\Seen $MDNSent) CATENATE (TEXT {3}\r\nabc URL "%b" TEXT {3}\r\n' % bad)
    assert answer == b"+ OK\r\nA003 NO [BADURL %b] there is no such part\r\n" % bad, "told before the rest is sent"
    assert client.command("NOOP") == b"t OK Done\r\n"
    assert texts(client) == [MIXED]
    assert spool_is_empty(server)


@pytest.mark.parametrize(
    ("section", "octets"),
    [
        (b"", MIXED),
        (b"/;SECTION=HEADER", HEADER),
        (b"/;section=TEXT", MIXED[len(HEADER) :]),
        (b"/;SECTION=1", b"Hello"),
        (b"/;SECTION=1/;PARTIAL=1.3", b"ell"),
        (b"/;SECTION=1/;PARTIAL=1", b"ello"),
        (b"/;PARTIAL=9.5", b"draft"),
        (b"/;PARTIAL=9.99999", MIXED[9:]),
        (b"/;SECTION=HEADER.FIELDS%20(subject)", b"Subject: draft\r\n\r\n"),
        (b"/;SECTION=2.MIME/;PARTIAL=0.12", b"Content-Type"),
    ],
)
def test_what_urls_point_at(client: Client, section: bytes, octets: bytes) -> None:
    assert client.command(b'APPEND INBOX CATENATE (URL "/Drafts/;UID=1%b")' % section).startswith(b"t OK [APPENDUID ")
    assert texts(client, "INBOX") == [octets]


@pytest.mark.parametrize(
    "url",
    [
        "imap://alice%40example.test@mail.example.test/Drafts/;UID=1",
        "imap://alice%40example.test@MAIL.example.test:143/Drafts/;UID=1",
        "imap://alice%40example.test;AUTH=*@example.test/Drafts/;UID=1",
        "//mail.example.test/Drafts/;UID=1",
        "../Drafts/;UID=1",
        "Drafts/;UID=1",
    ],
)
def test_absolute_urls_of_this_account(client: Client, url: str) -> None:
    assert client.command(f'APPEND INBOX CATENATE (URL "{url}")').startswith(b"t OK [APPENDUID ")


def test_relative_to_the_selected_mailbox(client: Client) -> None:
    assert client.command("APPEND INBOX CATENATE (URL ;UID=1)").startswith(b"t NO [BADURL ;UID=1] ")
    client.command("SELECT Drafts")
    answer = client.command("APPEND Drafts CATENATE (URL ;UID=1/;SECTION=1 TEXT {2+}\r\n\r\n URL ;UID=1/;SECTION=2)")
    assert b"* 2 EXISTS\r\n" in answer
    assert re.search(rb"t OK \[APPENDUID \d+ 2\] Appended\r\n$", answer)
    assert texts(client)[1] == b"Hello\r\nUEsDBA=="


@pytest.mark.parametrize(
    "url",
    [
        "/Drafts/;UID=2", "/Drafts;UIDVALIDITY=1/;UID=1", "/None/;UID=1", "/Drafts/;UID=1/;SECTION=3", "/Drafts",
        "/Drafts/;UID=1/;SECTION=1.2.HEADER", "/../bob/;UID=1", "/..%2F..%2Fbob/;UID=1", "/.%2Fcur/;UID=1",
        "/a%00b/;UID=1",
        "/%2Eevil/;UID=1", "imap://bob%40example.test@mail.example.test/Drafts/;UID=1", "http://x/", "x] OK",
        "imap://alice%40example.test@elsewhere.test/Drafts/;UID=1", "imap://elsewhere.test/Drafts/;UID=1",
        "/Drafts/;UID=1;URLAUTH=anonymous:internal:" + "0" * 32, "", "/\u00fc/;UID=1",
        "/" + "a" * 9000 + "/;UID=1",
    ],
)  # fmt: skip
def test_bad_urls(server: Server, client: Client, url: str) -> None:
    answer = client.command(f'APPEND Drafts CATENATE (TEXT {{3+}}\r\nabc URL "{url}" TEXT {{5+}}\r\nt NO )'.encode())
    assert answer.startswith(b"t NO [BADURL " + url.replace("]", "%5D").replace("\u00fc", "??").encode()[:9]), answer
    assert answer.count(b"]") == 1
    assert answer.count(b"\r\n") == 1
    assert texts(client) == [MIXED]
    assert spool_is_empty(server)


def test_several_messages_all_or_none(client: Client) -> None:
    """With MULTIAPPEND."""
    first, second = b"(\\Seen) CATENATE (URL /Drafts/;UID=1/;SECTION=1 %b)" % text(b"!"), b"{3+}\r\nabc"
    third = b'"17-Jul-1996 02:44:25 +0000" CATENATE (%b URL /Drafts/;UID=1/;SECTION=2)' % text(b"?")
    whole = b"APPEND INBOX %b %b %b" % (first, second, third)
    assert re.match(rb"t OK \[APPENDUID \d+ 1:3\] Appended\r\n", client.command(whole))
    assert texts(client, "INBOX") == [b"Hello!", b"abc", b"?UEsDBA=="]
    assert client.command(whole + b" CATENATE (URL /Drafts/;UID=9)").startswith(b"t NO [BADURL /Drafts/;UID=9]")
    assert len(texts(client, "INBOX")) == 3
    client.command("SELECT INBOX")
    assert b'INTERNALDATE "17-Jul-1996 02:44:25 +0000" FLAGS (\\Recent)' in client.command(
        "FETCH 3 (INTERNALDATE FLAGS)"
    )


def test_replace_with_a_part_of_what_goes(client: Client) -> None:
    client.command("SELECT Drafts")
    answer = client.command(
        b"UID REPLACE 1 Drafts (\\Draft) CATENATE (URL ;UID=1/;SECTION=HEADER %b)" % text(b"new\r\n")
    )
    assert answer.index(b"APPENDUID") < answer.index(b"* 1 EXPUNGE")
    assert texts(client) == [HEADER + b"new\r\n"]
    client.command("SELECT Drafts")
    assert client.command(b"UID REPLACE 2 Drafts CATENATE (URL ;UID=7)").startswith(b"t NO [BADURL ;UID=7]")
    assert texts(client) == [HEADER + b"new\r\n"]


@pytest.mark.parametrize("parts", [text(b""), text(b"") + b" URL /Drafts/;UID=1/;PARTIAL=99999"])
def test_a_message_of_nothing_is_refused(client: Client, parts: bytes) -> None:
    assert client.command(b"APPEND Drafts CATENATE (%b)" % parts) == b"t NO [CANNOT] the message is empty\r\n"
    answer = client.command(b"APPEND Drafts CATENATE (%b) CATENATE (URL /Drafts/;UID=1)" % parts)
    assert answer == b"t NO [CANNOT] the message is empty\r\n"


def test_a_missing_mailbox_is_told_first(client: Client) -> None:
    assert client.command("APPEND None CATENATE (URL /Drafts/;UID=1)").startswith(b"t NO [TRYCREATE] ")
    assert client.command("APPEND None CATENATE (TEXT {3}").startswith(b"t NO [TRYCREATE] ")


def test_what_grows_too_big_is_refused(server: Server, client: Client) -> None:
    client.append("Drafts", b"x" * 900)
    client.session.engine._limits = Limits(message=1000)
    big = b"URL /Drafts/;UID=2"
    assert client.command(b"APPEND INBOX CATENATE (%b URL /Drafts/;UID=2/;PARTIAL=0.100)" % big).startswith(b"t OK ")
    for more in (
        b"URL /Drafts/;UID=2/;PARTIAL=0.101",
        b" ".join([b"URL /Drafts/;UID=1/;SECTION=1"] * 21),
        text(b"y" * 101),
    ):
        assert client.command(b"APPEND INBOX CATENATE (%b %b)" % (big, more)).startswith(b"t NO [TOOBIG]"), more
    assert client.command(b"APPEND INBOX" + b" CATENATE (%b)" % big * 12).startswith(b"t NO [TOOBIG]"), "all together"
    assert b" 2:12] Appended" in client.command(b"APPEND INBOX" + b" CATENATE (%b)" % big * 11)
    assert spool_is_empty(server)


def test_the_quota_holds_for_what_was_put_together(server: Server, client: Client) -> None:
    server.account.space.quota = Quota(octets=2 * len(MIXED))
    assert client.command(b"APPEND INBOX CATENATE (URL /Drafts/;UID=1 URL /Drafts/;UID=1)").startswith(
        b"t NO [OVERQUOTA]"
    )
    assert client.command(b"APPEND INBOX CATENATE (URL /Drafts/;UID=1/;SECTION=1)").startswith(b"t OK ")


def test_large_parts_pass_through_the_spool(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    large = b"Subject: large\r\n\r\n" + b"0123456789abcde\r\n" * 200_000
    client.append("Drafts", large)
    most = 0
    real = Content.write

    def write(self: Content, data: bytes) -> None:
        nonlocal most
        most = max(most, len(data))
        real(self, data)

    monkeypatch.setattr(Content, "write", write)
    answer = client.command(
        b"APPEND INBOX CATENATE (%b URL /Drafts/;UID=2/;PARTIAL=0.3000000 %b)" % (text(b"a"), text(b"b"))
    )
    assert b"Appended" in answer
    assert most <= 2 * 256 * 1024, "in chunks"
    assert texts(client, "INBOX") == [b"a" + large[:3_000_000] + b"b"]


def test_a_spool_that_fails(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_self: Content, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Content, "write", full)
        assert client.command(b"APPEND INBOX CATENATE (URL /Drafts/;UID=1)").startswith(b"t NO [UNAVAILABLE]")
        assert client.command(b"APPEND INBOX CATENATE (%b)" % text(b"abc")).startswith(b"t NO [UNAVAILABLE]")
    assert client.command("NOOP") == b"t OK Done\r\n"


def test_a_connection_lost_in_between_leaves_nothing(server: Server, client: Client) -> None:
    client.say(b"a APPEND INBOX CATENATE (URL /Drafts/;UID=1 TEXT {100+}\r\nhalf")
    client.session.lost()
    assert server.account.status("INBOX").messages == 0
    assert spool_is_empty(server)


# What goes at that moment


@pytest.mark.parametrize("section", ["", "/;SECTION=1", "/;PARTIAL=3.5"])
@pytest.mark.parametrize("moment", ["before", "opened", "found"])
@pytest.mark.parametrize("what", ["mailbox", "message"])
def test_a_mailbox_or_message_that_goes_at_that_moment_is_a_bad_url(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch, section: str, moment: str, what: str
) -> None:
    """Whichever of the steps finds it: the URL is told, nothing is stored, nothing is left behind."""
    elsewhere = Store(server.root, hostname="x").account(Address("alice", "example.test"))

    def vanish() -> None:
        monkeypatch.undo()
        if what == "mailbox":
            elsewhere.delete("Drafts")
        else:
            (path,) = (server.root / "example.test/alice/.Drafts/cur").iterdir()
            path.unlink()

    open_, get = AccountStore.open, Mailbox.get

    def opening(account: AccountStore, name: str) -> Mailbox:
        if moment == "before":
            vanish()
        mailbox = open_(account, name)
        if moment == "opened":
            vanish()
        return mailbox

    def getting(mailbox: Mailbox, uids: Iterable[int]) -> list[Message]:
        messages = get(mailbox, uids)
        if moment == "found":
            vanish()
        return messages

    url = f"/Drafts/;UID=1{section}"
    monkeypatch.setattr(AccountStore, "open", opening)
    monkeypatch.setattr(Mailbox, "get", getting)
    answer = client.command(f'APPEND INBOX CATENATE (TEXT {{3+}}\r\nabc URL "{url}")')
    assert answer.startswith(f"t NO [BADURL {url}] there is no such ".encode()), answer
    assert server.account.status("INBOX").messages == 0
    assert spool_is_empty(server)
