"""The session as a whole: greeting, login, capabilities, errors, the RFC's own example."""

import base64
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.config.model import Limits
from mailserver.imap import State
from mailserver.imap.commands import GRAMMARS, Command
from mailserver.policy.connections import Refusal
from mailserver.sessions.imap import refuse
from mailserver.sessions.imap.session import HANDLERS
from tests.support.imap import Server


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def words(line: bytes) -> set[bytes]:
    found = re.search(rb"CAPABILITY ([^\]\r]*)", line)
    assert found
    return set(found[1].split())


def plain(user: str = "alice", password: str = "secret", authorize_as: str = "") -> str:
    return base64.b64encode(f"{authorize_as}\0{user}\0{password}".encode()).decode()


# capabilities


def test_the_greeting_tells_the_capabilities(server: Server) -> None:
    client = server.connect()
    assert client.greeting.startswith(b"* OK [CAPABILITY IMAP4rev1 ")
    assert words(client.greeting) == words(client.command("CAPABILITY"))


def test_in_clear_no_password_is_offered(server: Server) -> None:
    offered = words(server.connect(tls=False).greeting)
    assert {b"STARTTLS", b"LOGINDISABLED"} <= offered
    assert not any(word.startswith(b"AUTH=") for word in offered)


def test_under_tls_passwords_are_offered_and_starttls_is_not(server: Server) -> None:
    offered = words(server.connect().greeting)
    assert b"AUTH=PLAIN" in offered
    assert not {b"STARTTLS", b"LOGINDISABLED"} & offered


def test_without_a_certificate_no_starttls(server: Server) -> None:
    client = server.connect(tls=False, tls_available=False)
    assert b"STARTTLS" not in words(client.greeting)
    assert client.command("STARTTLS").startswith(b"t BAD")
    assert client.channel.tls is None


def test_capabilities_change_at_login(server: Server) -> None:
    client = server.connect()
    offered = words(client.command("LOGIN alice secret"))
    assert offered == words(client.command("CAPABILITY"))
    assert {b"IDLE", b"UIDPLUS", b"NAMESPACE", b"UNSELECT", b"MOVE", b"LITERAL+"} <= offered
    assert not any(word.startswith(b"AUTH=") for word in offered)


# login


def test_login_in_clear_is_refused(server: Server) -> None:
    client = server.connect(tls=False)
    assert client.command("LOGIN alice secret").startswith(b"t NO [PRIVACYREQUIRED]")
    assert client.command(f"AUTHENTICATE PLAIN {plain()}").startswith(b"t NO [PRIVACYREQUIRED]")
    assert client.session.awaits_login


@pytest.mark.parametrize("credentials", ["alice wrong", "nobody secret", '"" ""'])
def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(server: Server, credentials: str) -> None:
    client = server.connect()
    assert client.command(f"LOGIN {credentials}") == b"t NO [AUTHENTICATIONFAILED] authentication failed\r\n"
    assert client.command("SELECT INBOX").startswith(b"t BAD")


def test_a_directory_that_cannot_be_read_is_no_wrong_password(server: Server) -> None:
    server.passwords.broken = True
    assert server.connect().command("LOGIN alice secret").startswith(b"t NO [UNAVAILABLE]")


def test_authenticate_with_and_without_an_initial_response(server: Server) -> None:
    assert b"t OK [CAPABILITY" in server.connect().command(f"AUTHENTICATE PLAIN {plain()}")
    client = server.connect()
    assert client.command("AUTHENTICATE plain") == b"+ \r\n"
    assert b" OK [CAPABILITY" in client.say(plain().encode() + b"\r\n")
    assert not client.session.awaits_login


def test_authenticate_login(server: Server) -> None:
    client = server.connect()
    assert client.command("AUTHENTICATE LOGIN") == b"+ VXNlcm5hbWU6\r\n"
    assert client.say(b"YWxpY2U=\r\n") == b"+ UGFzc3dvcmQ6\r\n"
    assert b" OK [CAPABILITY" in client.say(b"c2VjcmV0\r\n")


def test_authenticate_fails_in_every_way_it_can(server: Server) -> None:
    client = server.connect()
    assert client.command(f"AUTHENTICATE PLAIN {plain(password='x')}").startswith(b"t NO [AUTHENTICATIONFAILED]")
    assert client.command(f"AUTHENTICATE PLAIN {plain(authorize_as='bob')}").startswith(b"t NO [AUTHORIZATIONFAILED]")
    assert client.command("AUTHENTICATE GSSAPI").startswith(b"t NO")
    assert client.command("AUTHENTICATE PLAIN AA==").startswith(b"t NO")
    client.command("AUTHENTICATE PLAIN")
    assert b" BAD authentication cancelled" in client.say(b"*\r\n")
    client.command("AUTHENTICATE PLAIN")
    assert b" BAD malformed base64" in client.say(b"not base64\r\n")
    assert b"t OK" in client.command("LOGIN alice secret"), "one may still log in"


def test_a_second_login_is_bad(server: Server) -> None:
    client = server.login()
    assert client.command("LOGIN bob secret").startswith(b"t BAD")
    assert client.session.user is not None
    assert client.session.user.local == "alice"


@pytest.mark.parametrize("command", ["LOGIN alice wrong", "AUTHENTICATE PLAIN AAAA", "AUTHENTICATE NONE"])
def test_guessing_ends_the_connection(tmp_path: Path, command: str) -> None:
    server = Server(tmp_path, limits=Limits(errors=3))
    client = server.connect()
    answers = [client.command(command) for _ in range(3)]
    assert answers[-1] == b"* BYE Too many errors\r\n"
    assert client.channel.closed


def test_garbage_ends_the_connection(tmp_path: Path) -> None:
    server = Server(tmp_path, limits=Limits(errors=3))
    client = server.connect()
    assert client.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nxx\r\n").count(b"BAD") == 3
    assert client.channel.closed
    assert client.say(b"a NOOP\r\n") == b""


def test_after_login_only_errors_in_a_row_count(tmp_path: Path) -> None:
    client = Server(tmp_path, limits=Limits(errors=3)).login()
    for _ in range(5):
        assert client.command("XUNKNOWN").startswith(b"t BAD")
        assert client.command("XUNKNOWN").startswith(b"t BAD")
        assert client.command("NOOP").startswith(b"t OK")
    assert not client.channel.closed


def test_before_login_all_errors_count(tmp_path: Path) -> None:
    client = Server(tmp_path, limits=Limits(errors=3)).connect()
    for _ in range(3):
        client.command("LOGIN alice wrong")
        client.command("NOOP")
    assert client.channel.closed


def test_starttls_drops_what_was_injected_before_it(server: Server) -> None:
    client = server.connect(tls=False)
    answer = client.say(b"a STARTTLS\r\nb LOGIN alice secret\r\nc NOOP\r\n")
    assert answer == b"a OK Begin TLS now\r\n"
    assert client.channel.tls is not None
    assert client.session.awaits_login
    assert client.command("STARTTLS").startswith(b"t BAD")
    assert b"t OK" in client.command("LOGIN alice secret")


def test_id_is_answered_and_logged_without_line_breaks(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        answer = server.connect().command(b'ID ("name" {6}\r\n')
        answer = server.connect().command(b'ID ("name" {6+}\r\nx\r\ny=z "version" NIL)')
    assert b'* ID ("name" "mailserver")' in answer
    assert "x\\r\\ny=z" in caplog.text
    assert b"t OK" in server.connect().command("ID NIL")


def test_passwords_stay_out_of_the_log(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        server.connect().command("LOGIN alice hunter2")
        server.connect().command(f"AUTHENTICATE PLAIN {plain(password='hunter2')}")
    assert "hunter2" not in caplog.text
    assert plain(password="hunter2") not in caplog.text


# the connection


def test_logout(server: Server) -> None:
    client = server.login(select="INBOX")
    assert client.command("LOGOUT") == b"* BYE Logging out\r\nt OK Goodbye\r\n"
    assert client.channel.closed


def test_timeouts_are_short_before_login_and_long_after(server: Server) -> None:
    client = server.connect()
    assert client.session.idle_timeout == server.limits.login_timeout
    client.command("LOGIN alice secret")
    assert client.session.idle_timeout == server.limits.imap_timeout == 1800
    client.session.timed_out()
    assert client.session.engine.data_to_send().startswith(b"* BYE Autologout")


def test_a_lost_connection_lets_everything_go(server: Server) -> None:
    client = server.login(select="INBOX")
    client.command("IDLE")
    client.session.lost()
    assert not client.session.has_selected
    assert all(timer.cancelled for timer in server.clock.timers)
    assert client.pushed(lambda: server.deliver(b"a: b\r\n\r\n")) == b""


def test_turned_away() -> None:
    assert refuse("mail.example.test", Refusal.TOTAL).startswith(b"* BYE [UNAVAILABLE] ")


def test_every_command_has_a_handler() -> None:
    kinds = set(Command.__args__)  # type: ignore[attr-defined]
    assert {kind.__name__ for kind in kinds} - {"Append"} == {kind.__name__ for kind in HANDLERS}
    assert len(GRAMMARS) > len(HANDLERS)


def test_another_users_mail_cannot_be_named(server: Server) -> None:
    bob = server.connect()
    bob.command("LOGIN bob secret")
    server.deliver(b"Subject: for alice\r\n\r\n")
    for name in ("../alice", "../../example.test/alice", "/etc/passwd", "..", "a/../b", '"~/x"', "a//b", "/"):
        for command in ("SELECT", "CREATE", "DELETE", "STATUS"):
            answer = bob.command(f"{command} {name}" + (" (MESSAGES)" if command == "STATUS" else ""))
            if not (command in ("CREATE", "DELETE") and name == '"~/x"'):
                assert answer.startswith(b"t NO"), (command, name, answer)
    assert bob.lines('LIST "" *') == [b'LIST (\\HasNoChildren) "/" "INBOX"']


# the example of RFC 3501 §8

EXAMPLE = b"""\
From: Terry Gray <gray@cac.washington.edu>\r
Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r
Subject: IMAP4rev1 WG mtg summary and minutes\r
To: imap@cac.washington.edu\r
cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\r
Message-Id: <B27397-0100000@cac.washington.edu>\r
MIME-Version: 1.0\r
Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r
\r
"""


def test_the_example_of_the_rfc(server: Server) -> None:
    body = b"x" * 70 + b"\r\n"
    text = EXAMPLE + body * 42 + b"\r\n" * (92 - 42)
    server.login().append("INBOX", text, extra='"17-Jul-1996 02:44:25 -0700" ')
    client = server.connect()
    assert client.command("login alice secret").startswith(b"t OK")
    selected = client.command("select inbox")
    for line in (b"* 1 EXISTS", b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)", b"* OK [UNSEEN 1]"):
        assert line in selected
    assert selected.splitlines()[-1].startswith(b"t OK [READ-WRITE]")
    full = client.command("fetch 1 full")
    assert b'INTERNALDATE "17-Jul-1996 02:44:25 -0700"' in full
    assert b"RFC822.SIZE %d" % len(text) in full
    assert (
        b'ENVELOPE ("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" "IMAP4rev1 WG mtg summary and minutes" '
        b'(("Terry Gray" NIL "gray" "cac.washington.edu")) (("Terry Gray" NIL "gray" "cac.washington.edu")) '
        b'(("Terry Gray" NIL "gray" "cac.washington.edu")) ((NIL NIL "imap" "cac.washington.edu")) '
        b'((NIL NIL "minutes" "CNRI.Reston.VA.US")("John Klensin" NIL "KLENSIN" "MIT.EDU")) NIL NIL '
        b'"<B27397-0100000@cac.washington.edu>")'
    ) in full
    assert re.search(rb'BODY \("TEXT" "PLAIN" \("CHARSET" "US-ASCII"\) NIL NIL "7BIT" 3124 92\)', full, re.IGNORECASE)
    header = client.command("fetch 1 body[header]")
    assert b"* 1 FETCH (BODY[HEADER] {%d}\r\n" % len(EXAMPLE) + EXAMPLE in header
    assert b"* 1 FETCH (FLAGS (\\Deleted \\Seen \\Recent))" in client.command("store 1 +flags \\deleted")
    assert client.command("logout").startswith(b"* BYE ")


# every state and command

ARGUMENTS = {
    b"AUTHENTICATE": "PLAIN AGFsaWNlAHNlY3JldA==", b"LOGIN": "alice secret", b"ID": "NIL", b"SELECT": "INBOX",
    b"EXAMINE": "INBOX", b"CREATE": "new", b"DELETE": "none", b"RENAME": "none new", b"SUBSCRIBE": "INBOX",
    b"UNSUBSCRIBE": "INBOX", b"LIST": '"" *', b"LSUB": '"" *', b"STATUS": "INBOX (UNSEEN)",
    b"APPEND": "INBOX {4+}\r\na:b\n", b"SEARCH": "ALL", b"FETCH": "1 FULL", b"STORE": "1 FLAGS ()", b"COPY": "1 INBOX",
    b"THREAD": "REFS UTF-8 ALL", b"UID THREAD": "REFS UTF-8 ALL",
    b"SORT": "(DATE) UTF-8 ALL", b"UID SORT": "(DATE) UTF-8 ALL",
    b"MOVE": "1 INBOX", b"UID EXPUNGE": "1", b"UID SEARCH": "ALL", b"UID FETCH": "1 BODY[]", b"UID STORE": "1 FLAGS ()",
    b"UID COPY": "1 INBOX", b"UID MOVE": "1 INBOX", b"COMPRESS": "DEFLATE",
    b"GETMETADATA": "INBOX /private/y", b"SETMETADATA": "INBOX (/private/y NIL)",
    b"GETQUOTA": "x", b"GETQUOTAROOT": "INBOX", b"SETQUOTA": "x ()",
    b"REPLACE": "1 INBOX {4+}\r\na:b\n", b"UID REPLACE": "1 INBOX {4+}\r\na:b\n",
    b"ENABLE": "CONDSTORE", b"CANCELUPDATE": '"x"', b"NOTIFY": "SET STATUS (personal (MessageNew MessageExpunge))",
    b"UIDBATCHES": "500", b"ESEARCH": "IN (personal) ALL",
    b"GENURLAUTH": '"imap://alice%40example.test@mail.example.test/INBOX/;UID=1;URLAUTH=anonymous" INTERNAL',
    b"URLFETCH": "x",
}  # fmt: skip


@pytest.mark.parametrize("state", [State.NOT_AUTHENTICATED, State.AUTHENTICATED, State.SELECTED])
@pytest.mark.parametrize("name", GRAMMARS)
def test_every_command_in_every_state_has_one_answer(server: Server, name: bytes, state: State) -> None:
    server.deliver(b"Subject: x\r\n\r\n")
    client = server.connect()
    if state is not State.NOT_AUTHENTICATED:
        client.command("LOGIN alice secret")
    if state is State.SELECTED:
        client.command("SELECT INBOX")
    if name == b"CANCELUPDATE" and state is State.SELECTED:
        client.say(b"x SEARCH RETURN (UPDATE) ALL\r\n")
    answer = client.command(f"{name.decode()} {ARGUMENTS.get(name, '')}".strip())
    if name == b"IDLE" and state in GRAMMARS[name].states:
        assert answer == b"+ idling\r\n"
        answer = client.say(b"DONE\r\n").replace(b"t3 ", b"t ").replace(b"t2 ", b"t ")
    tagged = re.findall(rb"(?m)^t (OK|NO|BAD) .*\r$", answer)
    assert len(tagged) == 1
    assert (tagged[0] == b"BAD") == (state not in GRAMMARS[name].states or name == b"STARTTLS")


# whatever comes

TOKENS = st.sampled_from(
    [
        b"a ", b"FETCH ", b"1:* ", b"1 ", b"UID ", b"BODY[]", b"BODY.PEEK[1.2]<0.9>", b"FLAGS", b"(", b")", b"STORE ",
        b"+FLAGS ", b"(\\Seen)", b"\\Deleted", b"SEARCH ", b"OR ", b"NOT ", b"SUBJECT ", b"x", b"COPY ", b"INBOX", b" ",
        b"EXPUNGE", b"SELECT ", b"IDLE", b"DONE", b"NOOP", b"\r\n", b"{3+}\r\n", b"{5}\r\n", b"APPEND ", b"*", b'"',
        b"\x00", b"CLOSE", b"LIST ", b'"" ', b"%", b"STATUS ", b"(MESSAGES)", b"MOVE ", b"CHECK", b"CREATE ", b"y/z",
        b"RENAME ",
    ]
)  # fmt: skip


@settings(max_examples=40)
@given(st.lists(st.one_of(TOKENS, st.binary(max_size=5)), max_size=60))
def test_whatever_is_said_the_session_answers_or_waits(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    server = Server(tmp_path_factory.mktemp("garbage"), limits=Limits(errors=1000))
    server.deliver(b"Subject: x\r\n\r\nbody\r\n")
    client = server.login(select="INBOX")
    for piece in pieces:
        client.say(piece)
    client.session.lost()
    assert not client.session.has_selected
