"""Servers to measure, each started in a directory of its own and stopped at the end.

Needs      root for Postfix (it drops privileges itself); `postfix` with smtp-source from the distribution.
On failure `Missing` says what to install.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ACCOUNT = "u@bench.test"


class Missing(Exception):
    """A program is not installed."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A running server that takes mail for `ACCOUNT` on `port` and puts it below `maildir`."""

    name: str
    port: int
    maildir: Path

    def messages(self) -> int:
        """Files that are delivered, in new/ and cur/."""
        directories = (self.maildir / "new", self.maildir / "cur")
        return sum(1 for directory in directories if directory.is_dir() for _ in directory.iterdir())


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def wait_for_port(port: int, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as s:
            if s.recv(3) == b"220":
                return
        time.sleep(0.05)
    raise RuntimeError(f"nothing answers on port {port}")


@contextlib.contextmanager
def mailserver(directory: Path) -> Iterator[Peer]:
    port = free_port()
    directory.mkdir(parents=True)
    (directory / "accounts.toml").write_text(
        f'[domain."bench.test"]\n[account."{ACCOUNT}"]\npassword = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$'
        'Kf3mHbcJqjTAMlYcAKmM4vkaGXWYbvSRKhmnMAF4pxI"\n'
    )
    config = directory / "mailserver.toml"
    config.write_text(
        f'hostname = "ms.bench.test"\ndata = "data"\n'
        f'[[listener]]\nprotocol = "smtp"\nendpoint = "tcp:{port}:interface=127.0.0.1"\ntls = "none"\n'
        f"[limits]\nconnections_per_address = 1000\n"
    )
    twistd = Path(sys.executable).parent / "twistd"
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [twistd, "-n", "--pidfile=", "mailserver", "--config", config], stdout=log, stderr=log, cwd=directory
        )
        try:
            wait_for_port(port)
            yield Peer("mailserver", port, directory / "data/mail/bench.test/u")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


@contextlib.contextmanager
def postfix(directory: Path) -> Iterator[Peer]:
    if not shutil.which("postfix") or os.geteuid():
        raise Missing("Postfix: apt-get install postfix, and run as root")
    port = free_port()
    for part in ("etc", "queue", "data", "mail"):
        (directory / part).mkdir(parents=True)
    directory.chmod(0o755)
    (directory / "mail").chmod(0o777)
    shutil.chown(directory / "data", "postfix")
    (directory / "etc/main.cf").write_text(
        f"""compatibility_level=3.6
inet_interfaces=loopback-only
inet_protocols=ipv4
myhostname=pf.bench.test
mydestination=
mynetworks=127.0.0.0/8
smtpd_peername_lookup=no
disable_dns_lookups=yes
smtp_dns_support_level=disabled
virtual_mailbox_domains=bench.test
virtual_mailbox_base={directory}/mail
virtual_mailbox_maps=static:Maildir/
virtual_uid_maps=static:5555
virtual_gid_maps=static:5555
virtual_mailbox_limit=0
alias_maps=
local_recipient_maps=
smtpd_relay_restrictions=permit_mynetworks,reject
smtpd_client_connection_count_limit=0
message_size_limit=52428800
queue_directory={directory}/queue
data_directory={directory}/data
maillog_file={directory}/log
maillog_file_prefixes={directory}
"""
    )
    stock = Path("/usr/share/postfix/master.cf.dist").read_text()
    services = [line for line in stock.splitlines() if line and not line.startswith(("#", " ", "smtp      inet"))]
    services = [
        " ".join([*fields[:4], "n", *fields[5:]])
        for fields in (line.split() for line in services)
        if fields[1] != "inet"
    ]
    services = [
        line
        for line in services
        if not line.startswith(("maildrop", "uucp", "ifmail", "bsmtp", "scalemail", "mailman"))
    ]
    services.append(f"127.0.0.1:{port} inet n - n - - smtpd")
    if not any(line.startswith("postlog") for line in services):
        services.append("postlog unix-dgram n - n - 1 postlogd")
    (directory / "etc/master.cf").write_text("\n".join(services) + "\n")
    Path("/etc/postfix/main.cf").touch()
    postfix = ["postfix", "-c", str(directory / "etc")]
    subprocess.run([*postfix, "start"], check=True, capture_output=True)
    try:
        wait_for_port(port)
        yield Peer("Postfix", port, directory / "mail/Maildir")
    finally:
        subprocess.run([*postfix, "stop"], check=False, capture_output=True)
