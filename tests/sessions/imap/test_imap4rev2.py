"""IMAP4rev2 beside IMAP4rev1 (RFC 9051): each change that its Appendix E lists, and what Appendix A says."""

import base64
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.config.model import IMAP, Limits
from tests.support.imap import Client, Server, fetched

MESSAGE = (
    b"From: Joe <joe@example.net>\r\nSubject: Gr\xc3\xbc\xc3\x9fe\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain;\r\n"
    b" name*0=long;\r\n name*1=er\r\nContent-Transfer-Encoding: base64\r\n\r\nSGVsbG8=\r\n--b--\r\n"
)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path)
    server.deliver(MESSAGE, count=3)
    return server


@pytest.fixture
def client(server: Server) -> Client:
    return enabled(server)


def enabled(server: Server) -> Client:
    client = server.login()
    assert client.lines("ENABLE IMAP4rev2") == [b"ENABLED IMAP4rev2"]
    return client


def selected(client: Client) -> list[bytes]:
    return client.lines("SELECT INBOX")


def capabilities(client: Client) -> set[bytes]:
    return set(client.lines("CAPABILITY")[0].split()[1:])


# Appendix E, by its numbers


def sizes(client: Client) -> None:
    """1. What has 63 bits is taken."""
    selected(client)
    assert client.lines("SEARCH LARGER 9223372036854775807") == [b'ESEARCH (TAG "t4")']
    assert client.lines("SEARCH SMALLER 5000000000") == [b'ESEARCH (TAG "t5") ALL 1:3']
    assert b'BODY[]<5000000000> ""' in client.command("FETCH 1 BODY.PEEK[]<5000000000.5000000000>")
    assert client.command("SEARCH LARGER 9223372036854775808").startswith(b"t BAD")


def folded_in(client: Client) -> None:
    """2. What was an extension works, and is offered to those who know only that."""
    folded = {
        b"NAMESPACE", b"UNSELECT", b"UIDPLUS", b"ESEARCH", b"SEARCHRES", b"ENABLE", b"IDLE", b"SASL-IR",
        b"LIST-EXTENDED", b"LIST-STATUS", b"MOVE", b"LITERAL+", b"BINARY", b"SPECIAL-USE", b"STATUS=SIZE", b"CHILDREN",
    }  # fmt: skip
    assert folded <= capabilities(client)
    selected(client)
    for command in (
        "NAMESPACE", "SEARCH RETURN (SAVE) ALL", "FETCH $ FLAGS", "FETCH 1 BINARY.PEEK[1]", "UID EXPUNGE 1:*",
        'LIST (SUBSCRIBED) "" % RETURN (CHILDREN STATUS (MESSAGES))', "UNSELECT", "STATUS {5+}\r\nINBOX (SIZE)",
    ):  # fmt: skip
        assert b"t OK" in client.command(command), command


def new_status(client: Client) -> None:
    """3."""
    selected(client)
    client.command("STORE 2 +FLAGS.SILENT (\\Deleted)")
    size = 3 * len(MESSAGE)
    assert client.lines("STATUS INBOX (SIZE DELETED)") == [b'STATUS "INBOX" (SIZE %d DELETED 1)' % size]


def esearch(client: Client) -> None:
    """4."""
    selected(client)
    assert client.lines("SEARCH ALL") == [b'ESEARCH (TAG "t4") ALL 1:3']
    assert client.lines("UID SEARCH 2") == [b'ESEARCH (TAG "t5") UID ALL 2']
    assert client.lines("SEARCH ANSWERED") == [b'ESEARCH (TAG "t6")']
    assert client.lines("SEARCH RETURN (COUNT) ANSWERED") == [b'ESEARCH (TAG "t7") COUNT 0']
    assert client.lines('SEARCH CHARSET UTF-8 SUBJECT "\u00fc\u00df"') == [b'ESEARCH (TAG "t8") ALL 1:3']


def substrings(client: Client) -> None:
    """5. All keys with strings look for parts of texts."""
    selected(client)
    for key in ("FROM ample.n", "SUBJECT r", "HEADER Content-Type oundar", "BODY ell", "TEXT xed"):
        assert client.lines(f"SEARCH RETURN (COUNT) {key}")[0].endswith(b"COUNT 3"), key


def continuations(client: Client) -> None:
    """6. RFC 2231."""
    selected(client)
    assert b'("name" "longer" "charset" "us-ascii")' in client.command("FETCH 1 BODYSTRUCTURE")


def copyuid(client: Client) -> None:
    """7."""
    client.command("CREATE there")
    for command in ("MOVE 1", "UID MOVE 2"):
        selected(client)
        untagged = client.lines(f"{command} there")
        assert untagged[0].startswith(b"OK [COPYUID "), command
        assert untagged[1].endswith(b" EXPUNGE")


def no_target(client: Client) -> None:
    """8."""
    selected(client)
    for command in ("COPY 1 none", "MOVE 1 none", "UID COPY 1 none", "APPEND none {3+}\r\na:b"):
        assert client.command(command).startswith(b"t NO [TRYCREATE]"), command
    assert client.lines('LIST "" none') == []


def closed(client: Client) -> None:
    """9."""
    selected(client)
    assert client.lines("SELECT INBOX")[0].startswith(b"OK [CLOSED]")
    assert client.lines("EXAMINE INBOX")[0].startswith(b"OK [CLOSED]")
    assert b"* OK [CLOSED]" in client.command("SELECT none")
    assert b"[CLOSED]" not in client.command("SELECT INBOX"), "there was none any longer"


def listed(client: Client) -> None:
    """10."""
    client.command("CREATE Sent")
    client.command("CREATE Sent/old")
    client.command("SUBSCRIBE Sent")
    assert b'LIST (\\HasNoChildren) "/" "INBOX"' in selected(client)
    assert b'LIST (\\HasChildren \\Sent \\Subscribed) "/" "Sent"' in client.lines("EXAMINE Sent")
    assert b'LIST (\\HasNoChildren) "/" "INBOX" ("OLDNAME" ("inbox"))' in client.lines("SELECT inbox")
    assert b"LIST" not in client.command("SELECT none")


def no_unseen(client: Client) -> None:
    """11."""
    assert not [line for line in selected(client) if b"UNSEEN" in line]


def no_recent(client: Client) -> None:
    """12."""
    answer = client.command("SELECT INBOX") + client.command("FETCH 1:* FLAGS") + client.command("NOOP")
    assert b"RECENT" not in answer.upper()
    assert client.append("INBOX", b"a: b\r\n") == b"* 4 EXISTS\r\nt OK [APPENDUID %b 4] Appended\r\n" % validity(client)
    assert client.lines("SEARCH RECENT")[0].endswith(b'")')
    assert client.lines("STATUS INBOX (RECENT)") == [b'STATUS "INBOX" (RECENT 4)'], "who asks is told"


def validity(client: Client) -> bytes:
    (line,) = client.lines("STATUS INBOX (UIDVALIDITY)")
    return line.split()[-1].rstrip(b")")


def keywords(client: Client) -> None:
    r"""13. What a client makes of \* is not told again."""
    assert any(b"PERMANENTFLAGS" in line and b"\\*" in line for line in selected(client))
    assert b"PERMANENTFLAGS" not in client.command("STORE 1 +FLAGS (own)")


def known_keywords(client: Client) -> None:
    """15. They are told of, searched for and kept."""
    lasting = next(line for line in selected(client) if b"PERMANENTFLAGS" in line)
    flags = next(line for line in client.lines("SELECT INBOX") if line.startswith(b"FLAGS"))
    client.command("CREATE there")
    for keyword in (b"$MDNSent", b"$Forwarded", b"$Junk", b"$NotJunk", b"$Phishing"):
        assert keyword in lasting and keyword in flags
    client.append("INBOX", b"a: b\r\n", flags="$MDNSent $Phishing")
    client.command("COPY 4 there")
    client.command("SELECT there")
    assert client.lines("SEARCH KEYWORD $phishing KEYWORD $MDNSent UNKEYWORD $Junk")[0].endswith(b" ALL 1")


def utf8(client: Client) -> None:
    """16."""
    client.command('CREATE "Entw\u00fcrfe & mehr"')
    assert 'LIST (\\HasNoChildren) "/" "Entw\u00fcrfe & mehr"'.encode() in client.lines('LIST "" *')
    answer = client.command('SELECT "Entw\u00fcrfe & mehr"')
    assert '"/" "Entw\u00fcrfe & mehr"\r\n'.encode() in answer
    client.append('"Entw\u00fcrfe & mehr"', "Subject: Gr\u00fc\u00dfe\r\n\r\n".encode())
    assert "Gr\u00fc\u00dfe".encode() in client.command("FETCH 1 ENVELOPE")


def removed(client: Client) -> None:
    """17, 18, 19. CHECK, RFC822 and LSUB are still there for who uses them: IMAP4rev1 is offered as well."""
    selected(client)
    for command in ("CHECK", "FETCH 1 (RFC822.HEADER RFC822.TEXT RFC822)", 'LSUB "" *'):
        assert b"t OK" in client.command(command)


def subscribed(client: Client) -> None:
    """19."""
    client.command("SUBSCRIBE none")
    assert client.lines('LIST (SUBSCRIBED) "" *') == [b'LIST (\\NonExistent \\HasNoChildren \\Subscribed) "/" "none"']


def uids(client: Client) -> None:
    """21."""
    selected(client)
    for command in ("STORE 1 +FLAGS (\\Seen)", "STORE 2 FLAGS (\\Draft)", "FETCH 3 BODY[TEXT]"):
        told = fetched(client.command(command))
        assert told and all(b"UID" in items and b"FLAGS" in items for items in told.values()), command


def limits_of_text(client: Client) -> None:
    """23, 24. All text that is sent has something to say, in ASCII."""
    answer = client.command("SELECT INBOX") + client.command("NOOP") + client.command('SELECT "\u00fc"')
    for line in re.findall(rb"(?m)^(?:t|\*) (?:OK|NO) (?:\[[^\]]*\] )?(.*)\r$", answer):
        assert line and line.isascii()


APPENDIX_E: dict[str, Callable[[Client], None]] = {
    "1": sizes,
    "2": folded_in,
    "3": new_status,
    "4": esearch,
    "5": substrings,
    "6": continuations,
    "7": copyuid,
    "8": no_target,
    "9": closed,
    "10": listed,
    "11": no_unseen,
    "12": no_recent,
    "13": keywords,
    "15": known_keywords,
    "16": utf8,
    "17 to 19": removed,
    "19": subscribed,
    "21": uids,
    "23, 24": limits_of_text,
}
"""Not here: 14 (no such element is used), 20 (only what is selected is told), 22, 26 (for clients), 25 (see below and
the tests of TLS), 28 (see `test_any_command_resets_the_timer`), 27, 29 and 30 (nothing for a server to do)."""


@pytest.mark.parametrize("number", APPENDIX_E)
def test_changes_since_rev1(client: Client, number: str) -> None:
    APPENDIX_E[number](client)


def test_news_of_flags_have_uids(server: Server, client: Client) -> None:
    """21."""
    selected(client)
    server.login(select="INBOX").command("STORE 2 +FLAGS (\\Flagged)")
    assert fetched(client.command("NOOP")) == {2: {b"UID": b"2", b"FLAGS": [b"\\Flagged"]}}


def test_tls_and_logindisabled(server: Server) -> None:
    """25, 27; §6.1.1: what must be there on ports in clear."""
    greeting = server.connect(tls=False).greeting
    assert b" IMAP4rev1 IMAP4rev2 " in greeting and b"STARTTLS" in greeting and b"LOGINDISABLED" in greeting
    assert b"AUTH=PLAIN" in server.connect().greeting


def test_any_command_resets_the_timer(server: Server) -> None:
    """28 is the pump's; after login a session has at least the 30 minutes of §5.4 to go from each command."""
    assert server.login().session.idle_timeout >= 30 * 60


# Appendix A


def test_without_enable_all_is_as_in_rev1(server: Server) -> None:
    client = server.login()
    client.command("CREATE &APw-")
    lines = client.lines("SELECT inbox")
    assert b"3 RECENT" in lines and any(b"UNSEEN" in line for line in lines)
    assert not any(line.startswith(b"LIST") for line in lines)
    assert not any(b"$Junk" in line for line in lines)
    assert client.lines("SEARCH ALL") == [b"SEARCH 1 2 3"]
    assert client.lines("STORE 1 +FLAGS (\\Seen)") == [b"1 FETCH (FLAGS (\\Seen \\Recent))"]
    assert client.lines('LIST "" &APw-*') == [b'LIST (\\HasNoChildren) "/" "&APw-"']
    assert b"\xc3" not in client.command("FETCH 1 ENVELOPE").replace(b"{7}\r\nGr\xc3\xbc\xc3\x9fe", b""), "a literal"


def test_a_rev2_client_leaves_what_is_recent_to_others(server: Server, client: Client) -> None:
    selected(client)
    server.deliver(MESSAGE)
    client.command("NOOP")
    assert b"4 RECENT" in server.login().lines("SELECT INBOX")


def test_enabling_while_a_mailbox_is_selected(server: Server) -> None:
    client = server.login(select="INBOX")
    client.command("ENABLE IMAP4rev2")
    server.deliver(MESSAGE)
    assert client.lines("NOOP") == [b"4 EXISTS"]
    assert fetched(client.command("FETCH 1:* FLAGS"))[4] == {b"FLAGS": []}
    another_process = Server(server.root)
    assert b"1 RECENT" in another_process.login().lines("SELECT INBOX"), "here nobody waits for it any more"


def test_enabled_is_spelled_as_it_is_offered(server: Server) -> None:
    client = server.login()
    before = client.lines("CAPABILITY")
    assert client.lines("ENABLE imap4REV2 condstore IMAP4rev1 X") == [b"ENABLED IMAP4rev2 CONDSTORE"]
    assert client.lines("CAPABILITY") == before


def test_names_are_the_same_for_both(server: Server, client: Client) -> None:
    old = server.login()
    client.command('CREATE "\u53f0\u5317"')
    assert old.lines('LIST "" &U,BTFw-') == [b'LIST (\\HasNoChildren) "/" "&U,BTFw-"']
    old.command("CREATE &AOQ-/b&-c")
    assert '"\u00e4/b&c"'.encode() in client.command('LIST "" *')
    assert b"t OK" in client.command('STATUS "\u00e4/b&c" (MESSAGES)')
    for name in ("&U,BTFw-", "&AOQ-/b&-c"):
        assert client.command(f'SELECT "{name}"').startswith(b"t NO [NONEXISTENT]"), "it is no UTF-7 any longer"
    client.command('SUBSCRIBE "\u53f0\u5317"')
    assert client.lines('LSUB "" *') == ['LSUB () "/" "\u53f0\u5317"'.encode()]
    assert old.lines('LSUB "" *') == [b'LSUB () "/" "&U,BTFw-"']


def test_utf8_names_are_understood_before_they_are_enabled(server: Server) -> None:
    """RFC 6855 §3; the answers are in UTF-7."""
    client = server.login()
    assert b"t OK" in client.command('CREATE "\u00fc & b"')
    assert client.lines('LIST "" "*\u00fc*"') == [b'LIST (\\HasNoChildren) "/" "&APw- &- b"']
    assert client.command(b'CREATE "\xfc"').startswith(b"t NO [CANNOT]")


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        (b'"a\xff"', b"t BAD the string is not UTF-8"),
        (b'"\xc0\x80"', b"t BAD"),
        (b'"\xed\xa0\x80"', b"t BAD"),
        (b"{1+}\r\n\xff", b"t NO [CANNOT]"),
        (b'"\xe2\x80\xa8"', b"t NO [CANNOT]"),
        (b'"\xc2\x85"', b"t NO [CANNOT]"),
        (b'"a\x7f"', b"t NO [CANNOT]"),
        (b"a\xc3\xbcb", b"t BAD"),  # no atom
        (b'"' + b"\xc3\xbc" * 513 + b'"', b"t NO [CANNOT]"),
    ],
)
def test_what_is_no_name(client: Client, name: bytes, answer: bytes) -> None:
    assert client.command(b"CREATE " + name).startswith(answer)
    assert client.lines('LIST "" *') == [b'LIST (\\HasNoChildren) "/" "INBOX"']


# §5.1: names in other normal forms

DECOMPOSED, COMPOSED = "a\u0308", "\u00e4"


def test_a_name_is_made_in_form_c(client: Client) -> None:
    """§6.3.4, §6.3.2, §6.3.5."""
    told = f'"{COMPOSED}" ("OLDNAME" ("{DECOMPOSED}"))'.encode()
    assert client.lines(f'CREATE "{DECOMPOSED}"') == [b'LIST (\\HasNoChildren) "/" ' + told]
    assert b'LIST (\\HasNoChildren) "/" ' + told in client.lines(f'SELECT "{DECOMPOSED}"')
    assert f'LIST (\\HasNoChildren) "/" "{COMPOSED}"'.encode() in client.lines(f'EXAMINE "{COMPOSED}"')
    assert client.lines(f'LIST "" "{DECOMPOSED}*"') == [f'LIST (\\HasNoChildren) "/" "{COMPOSED}"'.encode()]
    assert client.command(f'CREATE "{DECOMPOSED}"').startswith(b"t NO [ALREADYEXISTS]")
    client.command("UNSELECT")
    assert client.lines(f'DELETE "{DECOMPOSED}"') == [b'LIST (\\NonExistent \\HasNoChildren) "/" ' + told]


def test_every_command_takes_such_a_name(client: Client) -> None:
    client.command(f'CREATE "{COMPOSED}"')
    name = f'"{DECOMPOSED}"'
    told = f'LIST (\\HasNoChildren) "/" "{COMPOSED}" ("OLDNAME" ({name}))'.encode()
    assert told in client.append(name, b"a: b\r\n")
    selected(client)
    for command in (
        f"COPY 1 {name}", f"SUBSCRIBE {name}", f"STATUS {name} (MESSAGES)", f"GETQUOTAROOT {name}",
        f'SETMETADATA {name} (/private/comment "x")', f"GETMETADATA {name} /private/comment", f"MOVE 1 {name}",
        f"UNSUBSCRIBE {name}", f"REPLACE 1 {name} {{3+}}\r\na:b",
    ):  # fmt: skip
        assert b"t OK" in client.command(command), command
    assert client.lines(f"STATUS {name} (MESSAGES)") == [f'STATUS "{COMPOSED}" (MESSAGES 4)'.encode()]


def test_rename_tells_both_names(client: Client) -> None:
    """§6.3.6."""
    client.command("CREATE old")
    new = f'LIST (\\HasNoChildren) "/" "{COMPOSED}" ("OLDNAME" ("%s"))'
    assert client.lines(f'RENAME old "{DECOMPOSED}"') == [(new % "old").encode()]
    assert client.lines(f'RENAME "{DECOMPOSED}" plain') == [
        f'LIST (\\HasNoChildren) "/" "plain" ("OLDNAME" ("{DECOMPOSED}"))'.encode()
    ]
    assert client.lines("RENAME plain other") == []
    assert client.lines("RENAME inbox away") == [], "INBOX is still there"
    assert client.lines(f'RENAME INBOX "{DECOMPOSED}"') == [(new % DECOMPOSED).encode()]


def test_a_name_in_another_form_that_is_there_is_meant_itself(server: Server, client: Client) -> None:
    """Made by a client that knows IMAP4rev1 only, or by another program."""
    assert b"t OK" in server.login().command("CREATE YQ-&AwgDCA-".replace("YQ-", "a"))
    strange = "a\u0308\u0308"
    assert f'"{strange}"'.encode() in client.command('LIST "" *')
    assert b"OLDNAME" not in client.command(f'SELECT "{strange}"')
    assert client.lines(f'LIST "" "{strange}"') == [f'LIST (\\HasNoChildren) "/" "{strange}"'.encode()]
    client.command("UNSELECT")
    assert client.lines(f'DELETE "{strange}"') == []
    assert client.command(f'SELECT "{strange}"').startswith(b"t NO [NONEXISTENT]")


def test_a_reference_is_no_mailbox(client: Client) -> None:
    client.command(f'CREATE "{COMPOSED}/b"')
    assert client.lines(f'LIST "{DECOMPOSED}/" %') == [f'LIST (\\HasNoChildren) "/" "{COMPOSED}/b"'.encode()]
    assert client.lines(f'LIST "{DECOMPOSED}//" %') == []


def test_a_name_that_only_looks_like_inbox(client: Client) -> None:
    name = "\u0131nbox"  # without its dot an i is no I
    assert client.lines(f'CREATE "{name}"') == []
    assert f'LIST (\\HasNoChildren) "/" "{name}"'.encode() in client.lines('LIST "" *')
    assert b"* 0 EXISTS" in client.command(f'SELECT "{name}"')


def test_filters_mean_the_same_names_as_commands(server: Server, client: Client) -> None:
    """NOTIFY and ESEARCH: a mailbox of just that name, or else the one in form C."""
    client.command(f'CREATE "{COMPOSED}"')
    client.append(f'"{COMPOSED}"', b"text")
    for scope in ("mailboxes", "subtree"):
        found = client.lines(f'ESEARCH IN ({scope} ("plain" "{DECOMPOSED}")) RETURN (COUNT) ALL')
        assert len(found) == 1 and f'MAILBOX "{COMPOSED}"'.encode() in found[0]
    watcher = enabled(server)
    watcher.command(f'NOTIFY SET (mailboxes ("{DECOMPOSED}") (MessageNew MessageExpunge))')
    assert f'STATUS "{COMPOSED}"'.encode() in watcher.pushed(lambda: client.append(f'"{COMPOSED}"', b"more"))


def test_urls_mean_the_same_names_as_commands(client: Client) -> None:
    """They are in UTF-8, whatever is enabled."""
    client.command(f'CREATE "{COMPOSED}"')
    client.append(f'"{COMPOSED}"', b"text")
    for form in (COMPOSED, DECOMPOSED):
        url = f"imap://alice%40example.test@mail.example.test/{quote(form)}/;uid=1"
        (line,) = client.lines(f'GENURLAUTH "{url};urlauth=anonymous" INTERNAL')
        answer = client.command("URLFETCH " + line.partition(b" ")[2].decode())
        assert answer.endswith(b"{4}\r\ntext\r\nt OK URLs fetched\r\n")
        assert b"t OK [APPENDUID " in client.command(f'APPEND INBOX CATENATE (URL "{url}")')


@settings(max_examples=60)
@given(
    st.text(
        st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"), exclude_characters="./"), min_size=1, max_size=20
    )
)
def test_any_name_is_found_again_in_any_form(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    client = enabled(Server(tmp_path_factory.mktemp("names")))

    def quoted(form: Literal["NFC", "NFD"]) -> str:
        escaped = unicodedata.normalize(form, name).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'

    if name.isascii() and name.upper() == "INBOX":
        return
    answer = client.command(f"CREATE {quoted('NFD')}")
    assert answer.endswith(b"] Created\r\n"), answer
    assert f'LIST (\\HasNoChildren) "/" {quoted("NFC")}'.encode() in client.lines('LIST "" *')
    for form in ("NFC", "NFD"):
        assert b"t OK [READ-WRITE]" in client.command(f"SELECT {quoted(form)}")
    assert b"t OK" in client.command(f"DELETE {quoted('NFD')}")


def test_another_separator(tmp_path: Path) -> None:
    client = enabled(Server(tmp_path, policy=IMAP(separator=".")))
    assert client.lines(f'CREATE "{DECOMPOSED}.b."') == [
        f'LIST (\\HasNoChildren) "." "{COMPOSED}.b" ("OLDNAME" ("{DECOMPOSED}.b"))'.encode()
    ]


# §7.1: response codes


def code(answer: bytes) -> str:
    found = re.search(rb"(?m)^t (?:OK|NO|BAD) \[([A-Z-]+)", answer)
    return found[1].decode() if found else ""


CODES = [
    ("ALREADYEXISTS", ["CREATE a", "CREATE a"]),
    ("ALREADYEXISTS", ["CREATE a", "CREATE b", "RENAME a b"]),
    ("APPENDUID", ["APPEND INBOX {3+}\r\na:b"]),
    ("BADCHARSET", ["SELECT INBOX", "SEARCH CHARSET X ALL"]),
    ("CANNOT", ["CREATE a//b"]),
    ("CANNOT", ["DELETE INBOX"]),
    ("COPYUID", ["CREATE a", "SELECT INBOX", "COPY 1 a"]),
    ("HASCHILDREN", ["CREATE a/b", "DELETE a"]),
    ("NONEXISTENT", ["DELETE a"]),
    ("NONEXISTENT", ["RENAME a b"]),
    ("NONEXISTENT", ["SELECT a"]),
    ("NONEXISTENT", ["STATUS a (MESSAGES)"]),
    ("NOPERM", ["SETMETADATA \"\" (/shared/comment \"x\")"]),
    ("READ-ONLY", ["EXAMINE INBOX"]),
    ("READ-ONLY", ["EXAMINE INBOX", "EXPUNGE"]),
    ("READ-WRITE", ["SELECT INBOX"]),
    ("TRYCREATE", ["SELECT INBOX", "MOVE 1 a"]),
    ("UNKNOWN-CTE", ["APPEND INBOX {40+}\r\nContent-Transfer-Encoding: x-none\r\n\r\nabc\r\n", "SELECT INBOX",
                     "FETCH 4 BINARY[1]"]),
    ("LIMIT", ["SELECT INBOX", "STORE 1 FLAGS (" + "k" * 129 + ")"]),
    ("USEATTR", ["CREATE a (USE (\\All))"]),
]  # fmt: skip


@pytest.mark.parametrize(("expected", "commands"), CODES)
def test_response_codes(client: Client, expected: str, commands: list[str]) -> None:
    *before, last = commands
    for command in before:
        assert b"t OK" in client.command(command), command
    assert code(client.command(last)) == expected


def test_codes_of_login(server: Server) -> None:
    def plain(text: str) -> str:
        return "AUTHENTICATE PLAIN " + base64.b64encode(text.encode()).decode()

    client = server.connect()
    assert code(client.command(plain("\0alice\0wrong"))) == "AUTHENTICATIONFAILED"
    assert code(client.command(plain("bob\0alice\0secret"))) == "AUTHORIZATIONFAILED"
    assert code(client.command(plain("bob\0alice\0wrong"))) == "AUTHENTICATIONFAILED", "nothing is told of others"
    assert code(client.command("LOGIN alice secret")) == "CAPABILITY"
    assert code(server.connect(tls=False).command("LOGIN alice secret")) == "PRIVACYREQUIRED"
    server.passwords.broken = True
    assert code(server.connect().command("LOGIN alice secret")) == "UNAVAILABLE"


def test_expungeissued(server: Server, client: Client) -> None:
    selected(client)
    server.login(select="INBOX").command("STORE 1 +FLAGS.SILENT (\\Deleted)")
    other = server.login(select="INBOX")
    other.command("EXPUNGE")
    assert code(client.command("FETCH 1 BODY[]")) == "EXPUNGEISSUED"


def test_when_there_is_room_for_no_more_keywords(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """§7.1, PERMANENTFLAGS."""
    monkeypatch.setattr("mailserver.store.flags.WITHOUT_LETTER", 1)
    selected(client)
    for start in range(0, 26, 13):
        client.command(f"STORE 1 +FLAGS.SILENT ({' '.join(f'k{number}' for number in range(start, start + 13))})")
    assert b"t OK" in client.command("STORE 1 +FLAGS.SILENT (one-more)")
    answer = client.command("STORE 1 +FLAGS.SILENT (too-many)")
    assert code(answer) == "LIMIT"
    assert re.search(rb"(?m)^\* OK \[PERMANENTFLAGS \([^*]*\)\]", answer)
    assert b"t OK" in client.command("STORE 2 +FLAGS.SILENT (k1)")


# literals (§4.3, RFC 7888 §4, §5)


def test_literals_that_do_not_wait(server: Server) -> None:
    """At most 4096 octets before login; after it as many as LITERAL+ allows. Never both names at once."""
    client = server.connect()
    assert b" LITERAL+ " in client.greeting and b"LITERAL-" not in client.greeting
    long = client.command(b"LOGIN alice {4097+}\r\n" + b"x" * 4097)
    assert long.startswith(b"t BAD [TOOBIG]")
    assert code(client.command(b"LOGIN alice {4091+}\r\n" + b"x" * 4091)) == "AUTHENTICATIONFAILED"
    client.command("LOGIN {5+}\r\nalice {6+}\r\nsecret")
    assert b"t OK" in client.command(b"STATUS {5+}\r\nINBOX (MESSAGES)")
    assert b"t OK" in client.append("INBOX", b"a: " + b"b" * 50_000 + b"\r\n")


def test_a_flood_of_literals_before_login(tmp_path: Path) -> None:
    server = Server(tmp_path, limits=Limits(errors=1000))
    client = server.connect()
    assert client.command(b"LOGIN " + b"{1+}\r\nx" * 5000 + b" y").startswith(b"t BAD")
    answer = client.command(b"LOGIN {2000000+}\r\n")
    assert answer.startswith(b"* BYE [TOOBIG]")


def test_a_name_that_cannot_be_meant_leaves_no_mailbox_selected(tmp_path: Path) -> None:
    client = enabled(Server(tmp_path))
    client.command("SELECT INBOX")
    answer = client.say('a SELECT "e\u0301//x"\r\n'.encode())
    assert b"[CLOSED]" in answer and b"a NO [CANNOT]" in answer
    assert b"EXISTS" not in client.say(b"b NOOP\r\n")


def test_keywords_are_made_known_when_rev2_is_enabled_in_a_selected_mailbox(tmp_path: Path) -> None:
    client = Server(tmp_path).login()
    client.command("SELECT INBOX")
    told = client.say(b"a ENABLE IMAP4rev2\r\n")
    assert told.index(b"* FLAGS (") < told.index(b"* ENABLED") and b"$Junk" in told
