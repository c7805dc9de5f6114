"""IMAP clients that nobody here wrote get every message as it was sent, and find what they left."""

from __future__ import annotations

import imaplib
import re
import time
import zlib
from email.mime.text import MIMEText
from email.policy import SMTP
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import (
    LARGE,
    SAMPLES,
    TRANSPORTS,
    fetchmail,
    fetchmail_command,
    files,
    literals,
    maildir,
    program,
    run,
    run_on_terminal,
    running,
    unix,
    without_trace,
)
from tests.support.server import ALICE, BOB, DOMAIN, PASSWORD, RunningServer
from tests.support.sink import wait_until

CAROL, DAVE, ERIN = f"carol@{DOMAIN}", f"dave@{DOMAIN}", f"erin@{DOMAIN}"
ALL_UNIX = sorted(map(unix, SAMPLES.values()))


def port_of(server: RunningServer, transport: str) -> int:
    return server.ports.imaps if transport == "implicit" else server.ports.imap


def connect(server: RunningServer, transport: str, user: str) -> imaplib.IMAP4:
    if transport == "implicit":
        context = server.tls_context()
        client: imaplib.IMAP4 = imaplib.IMAP4_SSL("localhost", server.ports.imaps, ssl_context=context, timeout=30)
    else:
        client = imaplib.IMAP4("localhost", server.ports.imap, timeout=30)
    if transport == "starttls":
        client.starttls(server.tls_context())
    client.login(user, PASSWORD)
    return client


# imaplib


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_imaplib_reads_all_messages(server: RunningServer, transport: str) -> None:
    client = connect(server, transport, BOB)
    assert client.select("INBOX", readonly=True) == ("OK", [b"%d" % len(SAMPLES)])
    messages = literals(client.fetch("1:*", "(BODY.PEEK[])"))
    sizes = re.findall(rb"RFC822.SIZE (\d+)", b"".join(client.fetch("1:*", "(RFC822.SIZE)")[1]))
    client.logout()
    assert [without_trace(message) for message in messages] == list(SAMPLES.values())
    assert [int(size) for size in sizes] == [len(message) for message in messages]


def test_imaplib_reads_ten_megabytes_whole_and_in_pieces(server: RunningServer) -> None:
    client = connect(server, "implicit", CAROL)
    client.select("INBOX", readonly=True)
    (whole,) = literals(client.fetch("1", "(BODY.PEEK[])"))
    assert without_trace(whole) == LARGE
    (piece,) = literals(client.fetch("1", f"(BODY.PEEK[]<{len(whole) - 100}.200>)"))
    assert piece == whole[-100:]
    client.logout()


def test_imaplib_reads_what_it_appends(server: RunningServer) -> None:
    client = connect(server, "starttls", ALICE)
    client.create("Sent/2025")
    for message in SAMPLES.values():
        kind, _ = client.append("Sent/2025", "(\\Seen)", imaplib.Time2Internaldate(time.time()), message)
        assert kind == "OK"
    client.select("Sent/2025")
    assert literals(client.fetch("1:*", "(FLAGS BODY[])")) == list(SAMPLES.values())
    client.logout()


def test_imaplib_keeps_house(server: RunningServer) -> None:
    client = connect(server, "plain", DAVE)
    for name in ("usual", "dots", "eight-bit"):
        client.append("INBOX", None, None, SAMPLES[name])
    assert client.create("Archive")[0] == "OK"
    client.subscribe("Archive")
    assert [line.rpartition(b" ")[2].strip(b'"') for line in client.lsub()[1]] == [b"Archive"]
    assert client.select("INBOX") == ("OK", [b"3"])
    assert client.search(None, "SUBJECT", "dots") == ("OK", [b"2"])
    assert client.store("2", "+FLAGS", "(\\Flagged $Label1)")[0] == "OK"
    assert client.copy("2:3", "Archive")[0] == "OK"
    assert client.store("1", "+FLAGS", "(\\Deleted)")[0] == "OK"
    assert client.expunge() == ("OK", [b"1"])
    assert client.search(None, "FLAGGED") == ("OK", [b"1"])
    assert client.select("Archive") == ("OK", [b"2"])
    assert literals(client.fetch("1:*", "(BODY[])")) == [SAMPLES["dots"], SAMPLES["eight-bit"]]
    assert b"$Label1" in client.fetch("1", "(FLAGS)")[1][0]
    assert client.rename("Archive", '"Old Mail"')[0] == "OK"
    client.close()
    assert client.status('"Old Mail"', "(MESSAGES UNSEEN)")[0] == "OK"
    assert client.delete('"Old Mail"')[0] == "OK"
    client.logout()


def test_imaplib_finds_text_of_decoded_bodies(server: RunningServer) -> None:
    client = connect(server, "plain", ALICE)
    client.create("Found")
    client.append("Found", None, None, SAMPLES["usual"])
    client.append("Found", None, None, MIMEText("Grüße aus Köln", "plain", "utf-8").as_bytes(policy=SMTP))
    client.select("Found")
    assert client.search(None, "BODY", '"one line"') == ("OK", [b"1"])
    client.literal = "KÖLN".encode()
    assert client.search("UTF-8", "BODY") == ("OK", [b"2"])
    assert client.search(None, "BODY", "=", "NOT", "BODY", "=") == ("OK", [b""])
    client.logout()


# curl and fetchmail


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_curl_reads_all_messages(server: RunningServer, home: Path, transport: str) -> None:
    scheme = "imaps" if transport == "implicit" else "imap"
    for number, message in enumerate(SAMPLES.values(), 1):
        got = run(
            *(program("curl"), "--silent", "--show-error"),
            f"{scheme}://localhost:{port_of(server, transport)}/INBOX;MAILINDEX={number}",
            *("--user", f"{BOB}:{PASSWORD}", "--cacert", server.ca_file),
            *(["--ssl-reqd"] if transport == "starttls" else []),
            home=home,
        )
        assert without_trace(got) == message


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_fetchmail_fetches_all_messages(server: RunningServer, home: Path, transport: str) -> None:
    got = fetchmail("imap", port_of(server, transport), transport, BOB, ca=server.ca_file, home=home)
    assert got == ALL_UNIX


def test_fetchmail_is_told_by_idle(server: RunningServer, home: Path) -> None:
    where = {"ca": server.ca_file, "home": home}
    got, command = fetchmail_command("imap", server.ports.imaps, "implicit", ERIN, options="no keep idle", **where)
    with running(*command, "--verbose", home=home) as said, server.smtp() as smtp:

        def idles(times: int) -> None:
            wait_until(lambda: said.read_bytes().count(b"+ idling") == times, what="IDLE")

        idles(1)
        smtp.sendmail("sender@example.net", [ERIN], SAMPLES["usual"])
        wait_until(lambda: len(files(got)) == 1, what="the first message")
        idles(2)
        smtp.sendmail("sender@example.net", [ERIN], SAMPLES["dots"])
        wait_until(lambda: len(files(got)) == 2, what="the second message")
        idles(3)
    assert maildir(got) == sorted((unix(SAMPLES["usual"]), unix(SAMPLES["dots"])))
    client = connect(server, "plain", ERIN)
    assert client.select("INBOX") == ("OK", [b"0"])
    client.logout()


def test_curl_sends_searches_and_files(server: RunningServer, home: Path) -> None:
    def curl(path: str, *options: str | Path) -> bytes:
        account = ("--cacert", server.ca_file, "--user", f"{ERIN}:{PASSWORD}")
        url = f"imaps://localhost:{server.ports.imaps}/{path}"
        return run(program("curl"), "--silent", "--show-error", *account, url, *options, home=home)

    curl("", "--request", "CREATE curl")
    for name, message in SAMPLES.items():
        (home / name).write_bytes(message)
        curl("curl", "--upload-file", home / name)
    assert curl("curl;UID=2") == SAMPLES["dots"]
    assert curl("curl;MAILINDEX=2;SECTION=TEXT") == SAMPLES["dots"].partition(b"\r\n\r\n")[2]
    assert curl("curl?SUBJECT%20dots") == b"* SEARCH 2\r\n"
    assert b"FETCH (FLAGS (\\Deleted" in curl("curl", "--request", "STORE 1 +FLAGS \\Deleted")
    assert curl("curl", "--request", "EXPUNGE") == b"* 1 EXPUNGE\r\n"
    assert b"EXISTS" in curl("", "--request", "EXAMINE curl")
    curl("", "--request", "DELETE curl")


# imaplib, with zlib below it


class Compressed(imaplib.IMAP4):
    """After `compress` all octets go through zlib (RFC 4978)."""

    _codecs: tuple[Any, Any] | None = None
    _inflated = b""

    def compress(self) -> tuple[str, list[Any]]:
        imaplib.Commands["COMPRESS"] = ("AUTH", "SELECTED")
        answer = self._simple_command("COMPRESS", "DEFLATE")
        self._codecs = zlib.compressobj(wbits=-15), zlib.decompressobj(-15)
        return answer

    def send(self, data: Any) -> None:
        if self._codecs is not None:
            data = self._codecs[0].compress(data) + self._codecs[0].flush(zlib.Z_SYNC_FLUSH)
        super().send(data)

    def read(self, size: int) -> bytes:
        if self._codecs is None:
            return super().read(size)
        while len(self._inflated) < size:
            self._inflate()
        data, self._inflated = self._inflated[:size], self._inflated[size:]
        return data

    def readline(self) -> bytes:
        if self._codecs is None:
            return super().readline()
        while b"\n" not in self._inflated:
            self._inflate()
        return self.read(self._inflated.index(b"\n") + 1)

    def _inflate(self) -> None:
        assert self._codecs is not None
        data = self.sock.recv(65536)
        assert data, "closed by the server"
        self._inflated += self._codecs[1].decompress(data)


def test_compressed_both_ways(server: RunningServer) -> None:
    client = Compressed("localhost", server.ports.imap, timeout=30)
    client.starttls(server.tls_context())
    client.login(f"dave@{DOMAIN}", PASSWORD)
    assert client.compress() == ("OK", [b"DEFLATE active"])
    client.create("compressed")
    for message in (*SAMPLES.values(), LARGE):
        assert client.append("compressed", None, None, message)[0] == "OK"
    client.select("compressed")
    assert literals(client.fetch("1:*", "(BODY.PEEK[])")) == [*SAMPLES.values(), LARGE]
    client.delete("compressed")
    assert client.logout()[0] == "BYE"


# mutt


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_mutt_copies_all_messages(server: RunningServer, home: Path, transport: str) -> None:
    scheme = "imaps" if transport == "implicit" else "imap"
    (home / "muttrc").write_text(
        f"set imap_pass={PASSWORD} imap_check_subscribed=no\n"
        f'set ssl_ca_certificates_file="{server.ca_file}" ssl_force_tls=no\n'
        f"set ssl_starttls={'yes' if transport == 'starttls' else 'no'}\n"
        f"set folder={home} mbox_type=Maildir confirmcreate=no confirmappend=no quit=yes\n"
        'push "<tag-pattern>~A<enter><tag-prefix><copy-message><kill-line>=copy<enter><quit>"\n'
    )
    url = f"{scheme}://{BOB.replace('@', '%40')}@localhost:{port_of(server, transport)}/INBOX"
    run_on_terminal(program("mutt"), "-n", "-R", "-F", "muttrc", "-f", url, home=home)
    assert maildir(home / "copy", rb"Content-Length: \d+\nLines: \d+\n") == ALL_UNIX


def test_mutt_comes_back_by_qresync(server: RunningServer, home: Path) -> None:
    client = connect(server, "plain", DAVE)
    client.create("away")
    names = list(SAMPLES)[:4]
    for name in names:
        client.append("away", None, None, SAMPLES[name])
    (home / "headers").mkdir()
    url = f"imap://{DAVE.replace('@', '%40')}@localhost:{server.ports.imap}/away"
    settings = (
        f"set imap_pass={PASSWORD} imap_check_subscribed=no ssl_force_tls=no ssl_starttls=no\n"
        f"set header_cache={home}/headers imap_condstore=yes imap_qresync=yes\n"
        f"set folder={home} mbox_type=Maildir confirmcreate=no confirmappend=no quit=yes\n"
    )

    def mutt(*keys: str) -> str:
        """What it said and heard."""
        (home / "muttrc").write_text(settings + f'push "{"".join(keys)}<quit>"\n')
        run_on_terminal(program("mutt"), "-d", "4", "-n", "-R", "-F", "muttrc", "-f", url, home=home)
        return (home / ".muttdebug0").read_text(errors="replace")

    def copy(pattern: str, folder: str) -> str:
        return (
            f"<tag-pattern>{pattern}<enter><tag-prefix><copy-message><kill-line>={folder}<enter>"
            "<untag-pattern>~A<enter>"
        )

    assert "ENABLED QRESYNC" in mutt()
    client.select("away")
    client.store("1", "+FLAGS", "(\\Flagged)")
    client.store("2", "+FLAGS", "(\\Deleted)")
    client.expunge()
    log = mutt(copy("~A", "all"), copy("~F", "flagged"))
    assert re.search(r"UID FETCH 1:4 \(FLAGS\) \(CHANGEDSINCE \d+ VANISHED\)", log)
    assert "VANISHED (EARLIER) 2" in log
    added = rb"Content-Length: \d+\nLines: \d+\n"
    assert maildir(home / "all", added) == sorted(unix(SAMPLES[name]) for name in (names[0], *names[2:]))
    assert maildir(home / "flagged", added) == [unix(SAMPLES[names[0]])]
    client.delete("away")
    client.logout()
