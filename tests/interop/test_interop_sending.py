"""Mail comes in from programs that nobody here wrote, and lies in the Maildir as it was sent, octet for octet."""

from __future__ import annotations

import smtplib
import subprocess
from pathlib import Path

import pytest

from tests.support.clients import LARGE, SAMPLES, TRANSPORTS, program, run, run_on_terminal, unix, without_trace
from tests.support.server import ALICE, DOMAIN, PASSWORD, RunningServer

DAVE = f"dave@{DOMAIN}"


def last_message(server: RunningServer) -> bytes:
    return without_trace(server.messages(DAVE)[-1])


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", SAMPLES)
def test_smtplib_submits(server: RunningServer, transport: str, name: str) -> None:
    client: smtplib.SMTP
    if transport == "implicit":
        client = smtplib.SMTP_SSL("localhost", server.ports.submissions, context=server.tls_context(), timeout=30)
    else:
        client = smtplib.SMTP("localhost", server.ports.submission, timeout=30)
    with client:
        if transport == "starttls":
            client.starttls(context=server.tls_context())
        client.login(ALICE, PASSWORD)
        client.sendmail(ALICE, [DAVE], SAMPLES[name], mail_options=["BODY=8BITMIME"])
    assert last_message(server) == unix(SAMPLES[name])


def test_smtplib_sends_ten_megabytes(server: RunningServer) -> None:
    with server.smtp() as client:
        client.starttls(context=server.tls_context())
        client.sendmail("sender@example.net", [DAVE], LARGE)
    assert last_message(server) == unix(LARGE)


def swaks(server: RunningServer, home: Path, name: str, *options: str) -> None:
    (home / "message").write_bytes(unix(SAMPLES[name]))
    run(program("swaks"), "--server", "127.0.0.1", "--to", DAVE, "--data", "@message", *options, home=home)


@pytest.mark.parametrize("name", ["usual", "dots", "eight-bit", "long-lines", "from-lines"])
def test_swaks_sends_to_port_25(server: RunningServer, home: Path, name: str) -> None:
    swaks(server, home, name, "--port", str(server.ports.smtp), "--from", "sender@example.net", "--pipeline")
    assert last_message(server).rstrip(b"\n") == unix(SAMPLES[name]).rstrip(b"\n")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_swaks_submits(server: RunningServer, home: Path, transport: str, mechanism: str) -> None:
    tls = {"plain": [], "starttls": ["--tls"], "implicit": ["--tls-on-connect"]}[transport]
    if tls and b"TLS supported" not in run(program("swaks"), "--support", home=home):
        pytest.skip("swaks is installed without TLS (Net::SSLeay)")
    port = server.ports.submissions if transport == "implicit" else server.ports.submission
    login = ["--auth", mechanism, "--auth-user", ALICE, "--auth-password", PASSWORD]
    swaks(server, home, "usual", "--port", str(port), "--from", ALICE, *login, *tls)
    assert last_message(server).rstrip(b"\n") == unix(SAMPLES["usual"]).rstrip(b"\n")


def test_swaks_is_told_that_a_user_is_unknown(server: RunningServer, home: Path) -> None:
    unknown = ["--to", f"nobody@{DOMAIN}", "--port", str(server.ports.smtp), "--quit-after", "RCPT"]
    said = run(program("swaks"), "--server", "127.0.0.1", *unknown, home=home, expect=(24,))
    assert b"550 5.1.1" in said


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", ["usual", "dots", "eight-bit", "long-lines", "empty"])
def test_curl_submits(server: RunningServer, home: Path, transport: str, name: str) -> None:
    (home / "message").write_bytes(SAMPLES[name])
    scheme, port = ("smtps", server.ports.submissions) if transport == "implicit" else ("smtp", server.ports.submission)
    run(
        *(program("curl"), "--silent", "--show-error", f"{scheme}://localhost:{port}/client.test"),
        *("--user", f"{ALICE}:{PASSWORD}", "--mail-from", ALICE, "--mail-rcpt", DAVE, "--upload-file", "message"),
        *("--cacert", server.ca_file, *(["--ssl-reqd"] if transport == "starttls" else [])),
        home=home,
    )
    assert last_message(server) == unix(SAMPLES[name])


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_mutt_submits(server: RunningServer, home: Path, transport: str) -> None:
    user = ALICE.replace("@", "%40")
    scheme, port = ("smtps", server.ports.submissions) if transport == "implicit" else ("smtp", server.ports.submission)
    (home / "muttrc").write_text(
        f'set smtp_url="{scheme}://{user}@localhost:{port}/"\n'
        f"set smtp_pass={PASSWORD}\n"
        f"set from={ALICE} use_from=yes use_envelope_from=yes copy=no send_charset=utf-8\n"
        f'set ssl_ca_certificates_file="{server.ca_file}" ssl_force_tls=no\n'
        f"set ssl_starttls={'yes' if transport == 'starttls' else 'no'}\n"
    )
    (home / "body").write_text(f"Grüße\n.\nvia {transport}\n")
    command = f"exec {program('mutt')} -n -F muttrc -s 'From mutt' -- {DAVE} < body"
    run_on_terminal("sh", "-c", command, home=home)
    stored = last_message(server)
    assert b"Subject: From mutt\n" in stored
    assert stored.endswith(f"\n\nGrüße\n.\nvia {transport}\n".encode())


def test_a_client_that_is_killed_while_it_sends_leaves_nothing(server: RunningServer, home: Path) -> None:
    before = server.messages(DAVE)
    url = f"smtp://localhost:{server.ports.smtp}/client.test"
    sending = subprocess.Popen(
        [program("curl"), "--silent", url, "--mail-from", "a@example.net", "--mail-rcpt", DAVE, "--upload-file", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert sending.stdin is not None
    sending.stdin.write(LARGE[:2_000_000])
    sending.stdin.flush()
    sending.kill()
    sending.wait()
    sending.stdin.close()
    with server.smtp() as client:  # by its answer all that came before has been seen
        client.noop()
    assert server.messages(DAVE) == before
    assert list((server.maildir(DAVE) / "tmp").iterdir()) == []
