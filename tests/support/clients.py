"""Programs that nobody here wrote, run as their users run them; and messages that are hard to carry."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import ALICE, PASSWORD, ROOT, RunningServer
from tests.support.sink import PATIENCE

TRANSPORTS = ("plain", "starttls", "implicit")
TRACE_FIELDS = (b"return-path:", b"delivered-to:", b"received:", b" ", b"\t")

HEADER = b"From: Alice <alice@example.test>\r\nTo: bob@example.test\r\nDate: Mon, 24 Nov 2025 01:44:57 +0000\r\n"


def sample(name: str, body: bytes) -> bytes:
    return (
        HEADER + b"Message-ID: <%b@example.test>\r\nSubject: %b\r\n" % (name.encode(), name.encode()) + b"\r\n" + body
    )


SAMPLES: Mapping[str, bytes] = {
    name: sample(name, body)
    for name, body in {
        "usual": b"One line.\r\n\r\nAnd another.\r\n",
        "dots": b".\r\n..\r\n...\r\n.a\r\n \r\n.\r\n\r\n.\r\nquit\r\n.\r\nend\r\n",
        "dot-at-the-end": b"one\r\n.\r\n",
        "eight-bit": "Grüße aus Köln, 世界.\r\n".encode() + bytes(range(0x80, 0x100)) + b"\r\n",
        "long-lines": b"x" * 998 + b"\r\n" + b".y" * 2500 + b"\r\nshort\r\n",
        "from-lines": b"From nobody here\r\n>From quoted\r\n\r\nFrom again\r\n",
        "spaces": b"trailing  \r\n\ttabs\t\r\n\x0c form feed \x1b escape\r\n \r\n\r\n\r\n",
        "empty": b"",
    }.items()
}
LARGE = sample(
    "large", b"".join(b"%07d . The quick brown fox jumps over the lazy dog.\r\n" % n for n in range(190_000))
)


def program(name: str) -> str:
    """Its path; skips the test where it is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def run(
    *command: str | Path,
    home: Path,
    data: bytes | None = None,
    expect: Sequence[int] = (0,),
    timeout: float = 2 * PATIENCE,
) -> bytes:
    """Its standard output; AssertionError with all that it said when it ends otherwise than expected."""
    done = subprocess.run(
        [str(part) for part in command],
        input=data,
        stdin=subprocess.DEVNULL if data is None else None,
        capture_output=True,
        timeout=timeout,
        cwd=home,
        env=_environment(home),
    )
    assert done.returncode in expect, (
        f"{command[0]}: {done.returncode}\n{done.stdout[-4000:]!r}\n{done.stderr[-4000:]!r}"
    )
    return done.stdout


@contextmanager
def running(*command: str | Path, home: Path) -> Iterator[Path]:
    """The program runs until the block ends; the file holds what it says."""
    said = home / "said"
    with said.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=home,
            env=_environment(home),
        )
    try:
        yield said
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _environment(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TMPDIR": str(home)}


def run_on_terminal(*command: str | Path, home: Path, timeout: float = PATIENCE) -> str:
    """Runs a full-screen program on a terminal of its own; what it drew there."""
    leader, follower = pty.openpty()
    drawn: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(leader, 4096):
                drawn.append(data)
        except OSError:
            pass  # the other end is closed

    reader = threading.Thread(target=read, daemon=True)
    process = subprocess.Popen(
        [str(part) for part in command],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=home,
        env={"HOME": str(home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TERM": "xterm", "LINES": "40"},
        start_new_session=True,
    )
    os.close(follower)
    reader.start()
    try:
        status = process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        status = None
    reader.join(5)
    os.close(leader)
    text = b"".join(drawn).decode("utf-8", "replace")
    assert status == 0, f"{command[0]}: {status}\n{text[-4000:]}"
    return text


def without_trace(message: bytes) -> bytes:
    """The message as it was sent: without the fields that the server put on top. Lines end as they do in `message`."""
    lines = message.splitlines(keepends=True)
    position = 0
    while position < len(lines) and lines[position].lower().startswith(TRACE_FIELDS):
        position += 1
    return b"".join(lines[position:])


def unix(message: bytes) -> bytes:
    return message.replace(b"\r\n", b"\n")


def literals(answer: tuple[str, list[object]]) -> list[bytes]:
    """Those of an answer to FETCH, as imaplib gives it."""
    assert answer[0] == "OK"
    return [piece[1] for piece in answer[1] if isinstance(piece, tuple)]


def files(folder: Path) -> list[Path]:
    """The messages of a Maildir."""
    return [file for part in ("cur", "new") for file in (folder / part).iterdir()]


def maildir(folder: Path, added: bytes = b"") -> list[bytes]:
    """The messages of a Maildir that a client has written, in a sorted list, without trace fields and what the client
    has `added`.
    """
    return sorted(re.sub(added, b"", without_trace(file.read_bytes()), count=1) for file in files(folder))


def take(folder: Path, added: bytes = b"") -> list[bytes]:
    """As `maildir`; empties it."""
    messages = maildir(folder, added)
    for file in files(folder):
        file.unlink()
    return messages


def delivery(home: Path) -> tuple[Path, Path]:
    """A Maildir, and a program that puts into it what it reads."""
    for part in ("cur", "new", "tmp"):
        (home / "got" / part).mkdir(parents=True, exist_ok=True)
    (home / "deliver").write_text(f'#!/bin/sh\nexec cat > "$(mktemp "{home}/got/new/XXXXXXXX")"\n')
    (home / "deliver").chmod(0o700)
    return home / "got", home / "deliver"


def fetchmail_command(
    protocol: str, port: int, transport: str, user: str, *, ca: Path, home: Path, options: str, server_options: str = ""
) -> tuple[Path, list[str | Path]]:
    """What runs fetchmail, and the Maildir that it fills."""
    maildir, deliver = delivery(home)
    tls = {"plain": "sslproto ''", "starttls": "sslproto 'tls1.2+'", "implicit": "ssl"}[transport]
    (home / "fetchmailrc").write_text(
        "set invisible\n"
        "set no bouncemail\n"
        f"poll localhost protocol {protocol} port {port} auth password {server_options}\n"
        f'user "{user}" password "{PASSWORD}" {tls} sslcertck sslcertfile "{ca}"\n'
        f'{options} no rewrite no mimedecode pass8bits mda "{deliver}"\n'
    )
    (home / "fetchmailrc").chmod(0o600)
    return maildir, [program("fetchmail"), "--fetchmailrc", "fetchmailrc", "--pidfile", home / "pid", "--nosyslog"]


def fetchmail(
    protocol: str, port: int, transport: str, user: str, *, ca: Path, home: Path, known: bool = False
) -> list[bytes]:
    """What one run of fetchmail hands to its delivery agent, in a sorted list, without trace fields; not what an
    earlier run took, where that is `known` by its unique-ids.
    """
    options, server_options = ("keep", "uidl") if known else ("keep fetchall", "")
    maildir, command = fetchmail_command(
        protocol, port, transport, user, ca=ca, home=home, options=options, server_options=server_options
    )
    run(*command, home=home, expect=(0, 1) if known else (0,))  # 1: no mail
    return take(maildir)


def mpop(
    port: int,
    transport: str,
    user: str,
    *,
    ca: Path,
    home: Path,
    pipelining: bool = True,
    keep: bool = True,
    auth: str = "",
    secret: str = PASSWORD,
) -> list[bytes]:
    """What one run of mpop fetches, in a sorted list, without trace fields; not what an earlier run took.

    `auth` is what mpop calls a mechanism; it chooses by itself without one.
    """
    maildir, _ = delivery(home)
    settings = {
        "host": "localhost",
        "port": port,
        "user": user,
        "passwordeval": "cat secret",  # a line of the file takes 500 characters
        "auth": auth or ("user" if transport == "plain" else "on"),  # by itself it sends no password in clear
        "tls": "off" if transport == "plain" else "on",
        "tls_starttls": "on" if transport == "starttls" else "off",
        "tls_trust_file": ca,
        "pipelining": "on" if pipelining else "off",
        "keep": "on" if keep else "off",
        "uidls_file": home / "uidls",
        "received_header": "off",
        "delivery": f"maildir {maildir}",
    }
    lines = [f"{name} {value}\n" for name, value in settings.items()]
    (home / "mpoprc").write_text("account default\n" + "".join(lines))
    (home / "mpoprc").chmod(0o600)
    (home / "secret").write_text(f"{secret}\n")
    run(program("mpop"), "--file", "mpoprc", home=home)
    return take(maildir)


def getmail(port: int, transport: str, user: str, *, ca: Path, home: Path) -> list[bytes]:
    """What one run of getmail fetches, in a sorted list, without trace fields; not what an earlier run took.

    It would not write to a Maildir itself as root.
    """
    maildir, deliver = delivery(home)
    kind = {"plain": "SimplePOP3Retriever", "implicit": "SimplePOP3SSLRetriever"}[transport]
    (home / "getmailrc").write_text(
        "[retriever]\n"
        f"type = {kind}\n"
        "server = localhost\n"
        f"port = {port}\n"
        f"username = {user}\n"
        f"password = {PASSWORD}\n"
        f"{f'ca_certs = {ca}' if transport == 'implicit' else ''}\n"
        "[destination]\n"
        "type = MDA_external\n"
        f"path = {deliver}\n"
        "allow_root_commands = true\n"
        "[options]\n"
        "read_all = false\n"
        "delivered_to = false\n"
        "received = false\n"
    )
    run(program("getmail"), "--getmaildir", home, "--rcfile", "getmailrc", home=home)
    return take(maildir)


def imapflow(server: RunningServer, scenario: str) -> Any:
    """What a scenario of tests/interop/imapflow.cjs tells of alice's account."""
    node, directory = program("node"), ROOT / "tests/interop"
    if not (directory / "node_modules/imapflow").exists():
        pytest.skip("imapflow is not installed; npm install --no-package-lock --prefix tests/interop")
    settings = {"PORT": str(server.ports.imaps), "CA": str(server.ca_file), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [node, directory / "imapflow.cjs", scenario],
        env=settings | {"IMAP_USER": ALICE, "IMAP_PASSWORD": PASSWORD},
        capture_output=True,
        timeout=2 * PATIENCE,
    )
    assert done.returncode == 0, done.stderr[-4000:].decode(errors="replace")
    return json.loads(done.stdout)
