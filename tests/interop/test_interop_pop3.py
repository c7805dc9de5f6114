"""POP3 clients that nobody here wrote get every message as it was sent, octet for octet, and get it once."""

from __future__ import annotations

import poplib
import shutil
from pathlib import Path

import pytest

from tests.support import dovecot
from tests.support.clients import (
    LARGE,
    SAMPLES,
    TRANSPORTS,
    fetchmail,
    getmail,
    mpop,
    program,
    run,
    run_on_terminal,
    take,
    unix,
    without_trace,
)
from tests.support.server import ALICE, BOB, DOMAIN, PASSWORD, RunningServer

CAROL, DAVE = f"carol@{DOMAIN}", f"dave@{DOMAIN}"
ALL_UNIX = sorted(map(unix, SAMPLES.values()))


def port_of(server: RunningServer, transport: str) -> int:
    return server.ports.pop3s if transport == "implicit" else server.ports.pop3


def connect(server: RunningServer, transport: str, user: str) -> poplib.POP3:
    client: poplib.POP3
    if transport == "implicit":
        client = poplib.POP3_SSL("localhost", server.ports.pop3s, context=server.tls_context(), timeout=30)
    else:
        client = poplib.POP3("localhost", server.ports.pop3, timeout=30)
    if transport == "starttls":
        client.stls(server.tls_context())
    client.user(user)
    client.pass_(PASSWORD)
    return client


def retrieve(client: poplib.POP3, number: int) -> bytes:
    return b"".join(line + b"\r\n" for line in client.retr(number)[1])


def send(server: RunningServer, user: str, *messages: bytes) -> None:
    with server.smtp() as sender:
        for message in messages:
            sender.sendmail("sender@example.net", [user], message)


@pytest.fixture(autouse=True)
def long_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poplib, "_MAXLINE", 10_000)


# poplib


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_poplib_reads_all_messages(server: RunningServer, transport: str) -> None:
    client = connect(server, transport, BOB)
    messages = [retrieve(client, number + 1) for number in range(len(SAMPLES))]
    sizes = [int(line.split()[1]) for line in client.list()[1]]
    client.quit()
    assert [without_trace(message) for message in messages] == list(SAMPLES.values())
    assert sizes == [len(message) for message in messages]


def test_poplib_reads_ten_megabytes(server: RunningServer) -> None:
    client = connect(server, "implicit", CAROL)
    assert without_trace(retrieve(client, 1)) == LARGE
    client.quit()


def test_poplib_sees_the_top_and_stable_identifiers(server: RunningServer) -> None:
    client = connect(server, "plain", BOB)
    identifiers = client.uidl()[1]
    top = client.top(2, 2)[1]
    client.quit()
    assert top[-3:] == [b"", b".", b".."]
    assert len({line.split()[1] for line in identifiers}) == len(SAMPLES)
    client = connect(server, "plain", BOB)
    assert client.uidl()[1] == identifiers
    client.quit()


def test_poplib_deletes_at_quit_only(server: RunningServer) -> None:
    send(server, DAVE, SAMPLES["usual"], SAMPLES["dots"])
    client = connect(server, "plain", DAVE)
    client.dele(1)
    client.close()
    client = connect(server, "plain", DAVE)
    assert client.stat()[0] == 2
    client.dele(1)
    client.quit()
    assert [without_trace(message) for message in server.messages(DAVE)] == [unix(SAMPLES["dots"])]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_poplib_gets_the_answers_of_a_pipeline_in_order(server: RunningServer, transport: str) -> None:
    client = connect(server, transport, BOB)
    identifiers, sizes = client.uidl()[1], client.list()[1]
    places = [n % len(SAMPLES) for n in range(100)]
    client.sock.sendall(
        b"".join(b"NOOP\r\nUIDL %d\r\nRETR %d\r\nLIST %d\r\nTOP %d 1\r\n" % ((n + 1,) * 4) for n in places)
    )
    for place in places:
        message = list(SAMPLES.values())[place]
        assert client._getresp().startswith(b"+OK")
        assert client._getresp() == b"+OK " + identifiers[place]
        assert without_trace(b"".join(line + b"\r\n" for line in client._getlongresp()[1])) == message
        assert client._getresp() == b"+OK " + sizes[place]
        assert b"Subject: " + list(SAMPLES)[place].encode() in client._getlongresp()[1]
    client.quit()


# curl


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_curl_reads_all_messages(server: RunningServer, home: Path, transport: str) -> None:
    url = f"{'pop3s' if transport == 'implicit' else 'pop3'}://localhost:{port_of(server, transport)}"
    for number, message in enumerate(SAMPLES.values(), 1):
        got = run(
            *(program("curl"), "--silent", "--show-error", f"{url}/{number}"),
            *("--user", f"{BOB}:{PASSWORD}", "--cacert", server.ca_file),
            *(["--ssl-reqd"] if transport == "starttls" else []),
            home=home,
        )
        assert without_trace(got) == message


# fetchmail


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_fetchmail_fetches_all_messages(server: RunningServer, home: Path, transport: str) -> None:
    got = fetchmail("pop3", port_of(server, transport), transport, BOB, ca=server.ca_file, home=home)
    assert got == ALL_UNIX


def test_fetchmail_fetches_ten_megabytes(server: RunningServer, home: Path) -> None:
    got = fetchmail("pop3", server.ports.pop3s, "implicit", CAROL, ca=server.ca_file, home=home)
    assert got == [unix(LARGE)]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_fetchmail_fetches_nothing_again(server: RunningServer, home: Path, transport: str) -> None:
    port, ca = port_of(server, transport), server.ca_file
    assert fetchmail("pop3", port, transport, BOB, ca=ca, home=home, known=True) == ALL_UNIX
    assert fetchmail("pop3", port, transport, BOB, ca=ca, home=home, known=True) == []


# mpop


@pytest.mark.parametrize("pipelining", (True, False), ids=("pipelining", "in-turns"))
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_mpop_fetches_all_messages_once(server: RunningServer, home: Path, transport: str, pipelining: bool) -> None:
    port, ca = port_of(server, transport), server.ca_file
    assert mpop(port, transport, BOB, ca=ca, home=home, pipelining=pipelining) == ALL_UNIX
    assert mpop(port, transport, BOB, ca=ca, home=home, pipelining=pipelining) == []


@pytest.mark.parametrize("pipelining", (True, False), ids=("pipelining", "in-turns"))
def test_mpop_deletes_what_it_fetched(server: RunningServer, home: Path, pipelining: bool) -> None:
    send(server, ALICE, *SAMPLES.values())
    got = mpop(server.ports.pop3, "starttls", ALICE, ca=server.ca_file, home=home, pipelining=pipelining, keep=False)
    assert got == ALL_UNIX
    assert server.messages(ALICE) == []


def test_mpop_fetches_ten_megabytes(server: RunningServer, home: Path) -> None:
    assert mpop(server.ports.pop3s, "implicit", CAROL, ca=server.ca_file, home=home) == [unix(LARGE)]


# getmail, which has no STLS


@pytest.mark.parametrize("transport", ("plain", "implicit"))
def test_getmail_fetches_all_messages_once(server: RunningServer, home: Path, transport: str) -> None:
    port, ca = port_of(server, transport), server.ca_file
    assert getmail(port, transport, BOB, ca=ca, home=home) == ALL_UNIX
    assert getmail(port, transport, BOB, ca=ca, home=home) == []


# mutt


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_mutt_copies_all_messages(server: RunningServer, home: Path, transport: str) -> None:
    scheme = "pops" if transport == "implicit" else "pop"
    (home / "muttrc").write_text(
        f"set pop_pass={PASSWORD}\n"
        f'set ssl_ca_certificates_file="{server.ca_file}" ssl_force_tls=no\n'
        f"set ssl_starttls={'yes' if transport == 'starttls' else 'no'}\n"
        f"set folder={home} mbox_type=Maildir confirmcreate=no confirmappend=no quit=yes\n"
        'push "<tag-pattern>~A<enter><tag-prefix><copy-message><kill-line>=copy<enter><quit>"\n'
    )
    url = f"{scheme}://{BOB.replace('@', '%40')}@localhost:{port_of(server, transport)}/"
    run_on_terminal(program("mutt"), "-n", "-R", "-F", "muttrc", "-f", url, home=home)
    assert take(home / "copy", rb"Content-Length: \d+\nLines: \d+\n") == ALL_UNIX


# A Maildir that Dovecot served before

adopts = pytest.mark.skipif(bool(dovecot.missing("pop3")), reason=dovecot.missing("pop3") or "-")

FIRST = (
    "new/1700000001.V1I1M1.mta.example.net",  # from an MTA that tells no sizes
    "new/1700000002.M2P2.imap.example.net,S={size},W={wire}",  # from Dovecot's own agent
    "cur/1700000003.V1I3M3.mta.example.net:2,",
    "cur/1700000004.M4P4.imap.example.net,S={size},W={wire}:2,",
    "cur/1700000005.M5P5.imap.example.net,S={size},W={wire}:2,FRS",
    "cur/1700000006.M6P6.imap.example.net,S={size}:2,S",
    "cur/1700000007.V1I7M7.mta.example.net:2,T",
    "new/1700000008.P8Q8.odd_name=x+y",
)
LATER = ("new/1700000009.V1I9M9.mta.example.net", "new/1700000010.M10P1.imap.example.net,S={size},W={wire}")


def put(peer: dovecot.Dovecot, *names: str) -> None:
    """Messages in files of those names. Dovecot takes what is in new/ to cur/ when a client comes."""
    for part in ("cur", "new", "tmp"):
        (peer.maildir / part).mkdir(parents=True, exist_ok=True)
    for name in names:
        message = unix(SAMPLES["usual"]) + name.encode() + b"\n"
        wire = len(message) + message.count(b"\n")
        (peer.maildir / name.format(size=len(message), wire=wire)).write_bytes(message)
    peer.own(peer.maildir)


@adopts
@pytest.mark.parametrize("unique_id", ("%08Xu%08Xv", "%v.%u", "%08Xv%08Xu", "%f"))
def test_unique_ids_are_those_that_dovecot_gives(tmp_path: Path, unique_id: str) -> None:
    server = RunningServer(tmp_path, sections={"pop3": {"unique_id": unique_id}})
    with dovecot.Dovecot(pop3_uidl_format=unique_id) as peer:
        put(peer, *FIRST)
        client = peer.pop3()
        client.dele(3)
        client.quit()
        peer.stop()
        put(peer, *LATER)
        shutil.copytree(peer.maildir, server.maildir(BOB))
        with peer:
            client = peer.pop3()
            identifiers, sizes = client.uidl()[1], client.list()[1]
            client.quit()
    assert len(identifiers) == len(FIRST) - 1 + len(LATER)
    with server:
        for _ in range(2):
            client = server.pop3(BOB)
            assert client.uidl()[1] == identifiers
            assert client.list()[1] == sizes
            client.quit()


@adopts
def test_mpop_fetches_nothing_again_after_the_move(tmp_path: Path, home: Path) -> None:
    server = RunningServer(tmp_path / "server")
    with dovecot.Dovecot(pop3_uidl_format="%08Xu%08Xv") as peer:
        put(peer, *FIRST)
        peer.pop3().quit()
        assert len(mpop(peer.pop3_port, "plain", BOB, ca=server.ca_file, home=home)) == len(FIRST)
        peer.stop()
        shutil.copytree(peer.maildir, server.maildir(BOB))
    with server:
        assert mpop(server.ports.pop3s, "implicit", BOB, ca=server.ca_file, home=home) == []
        send(server, BOB, SAMPLES["dots"])
        assert mpop(server.ports.pop3, "plain", BOB, ca=server.ca_file, home=home) == [unix(SAMPLES["dots"])]
