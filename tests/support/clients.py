"""Programs that nobody here wrote, run as their users run them; and messages that are hard to carry."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.server import PASSWORD

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
    *command: str | Path, home: Path, data: bytes | None = None, expect: Sequence[int] = (0,), timeout: float = 60
) -> bytes:
    """Its standard output; AssertionError with all that it said when it ends otherwise than expected."""
    done = subprocess.run(
        [str(part) for part in command],
        input=data,
        stdin=subprocess.DEVNULL if data is None else None,
        capture_output=True,
        timeout=timeout,
        cwd=home,
        env={"HOME": str(home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TMPDIR": str(home)},
    )
    assert done.returncode in expect, (
        f"{command[0]}: {done.returncode}\n{done.stdout[-4000:]!r}\n{done.stderr[-4000:]!r}"
    )
    return done.stdout


def run_on_terminal(*command: str | Path, home: Path, timeout: float = 20) -> str:
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


def fetchmail(protocol: str, port: int, transport: str, user: str, *, ca: Path, home: Path) -> list[bytes]:
    """What fetchmail hands to its delivery agent, in a sorted list, without trace fields."""
    (home / "got").mkdir()
    (home / "deliver").write_text('#!/bin/sh\nexec cat > "$(mktemp "$HOME/got/XXXXXXXX")"\n')
    (home / "deliver").chmod(0o700)
    tls = {"plain": "sslproto ''", "starttls": "sslproto 'tls1.2+'", "implicit": "ssl"}[transport]
    (home / "fetchmailrc").write_text(
        "set invisible\n"
        "set no bouncemail\n"
        f"poll localhost protocol {protocol} port {port} auth password\n"
        f'user "{user}" password "{PASSWORD}" {tls} sslcertck sslcertfile "{ca}"\n'
        f'keep fetchall no rewrite no mimedecode pass8bits mda "{home}/deliver"\n'
    )
    (home / "fetchmailrc").chmod(0o600)
    run(program("fetchmail"), "--fetchmailrc", "fetchmailrc", "--pidfile", home / "pid", "--nosyslog", home=home)
    return sorted(without_trace(file.read_bytes()) for file in (home / "got").iterdir())
