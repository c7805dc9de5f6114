"""Servers to measure, each started in a directory of its own and stopped at the end of a `with` block.

Needs      root for Postfix and Dovecot, which give up its rights themselves.
On failure `Missing` says what to install; RuntimeError, with the server's log, when one does not answer.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from argon2 import PasswordHasher

from benchmarks.ports import free_ports

ACCOUNT = "u@bench.test"
PASSWORD = "open-sesame"
MAIL_OWNER = 5555
"""The user id whose mail Postfix and Dovecot handle; they refuse root's."""

POSTFIX = ("postfix", "smtp-source", "smtp-sink")
DOVECOT_POP3 = Path("/usr/lib/dovecot/pop3")
SETTLED = 64 * 1024  # octets: memory that moves less in half a second is at rest


class Missing(Exception):
    """A program is not installed."""


def program(name: str) -> str | None:
    """Where it is; those of administrators are not in everybody's PATH."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def missing() -> list[str]:
    """What keeps something from being measured, each with how to change it. The packages are Debian's."""
    needs = {
        "Postfix, smtp-source and smtp-sink: apt-get install postfix": all(map(program, POSTFIX)),
        "Dovecot: apt-get install dovecot-imapd": program("dovecot"),
        "Dovecot's POP3: apt-get install dovecot-pop3d": DOVECOT_POP3.exists(),
        "root's rights, without which Postfix and Dovecot cannot be started: run as root": os.geteuid() == 0,
    }
    return [need for need, there in needs.items() if not there]


class Peer(ABC):
    """A server on loopback: `smtp`, `submission`, `imap`, `imaps` and `pop3` are its ports, where it has them.

    `login`: who must log in at the submission port before mail for other servers is taken; "": nobody.
    """

    name: str
    greeting: bytes
    login = ""
    smtp = 0
    submission = 0
    imap = 0
    imaps = 0
    pop3 = 0

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        directory.chmod(0o755)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when it answers."""
        self._run()
        _wait_for(self.smtp or self.imap, self.greeting, self.directory / "log")

    @abstractmethod
    def _run(self) -> None: ...

    @abstractmethod
    def stop(self) -> None:
        """Returns when it has ended."""

    @abstractmethod
    def maildir(self, account: str) -> Path:
        """Where the account's mail lies."""

    def messages(self) -> int:
        """Files of `ACCOUNT` that are delivered, in new/ and cur/."""
        directories = (self.maildir(ACCOUNT) / "new", self.maildir(ACCOUNT) / "cur")
        return sum(1 for directory in directories if directory.is_dir() for _ in directory.iterdir())


class _Process(Peer):
    """A server that is one process with its children."""

    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def memory(self) -> int:
        """Octets of all its processes, once they are at rest; what they share counts once (PSS)."""
        before, now, end = -1, self._memory(), time.monotonic() + 10
        while abs(now - before) > SETTLED and time.monotonic() < end:
            time.sleep(0.5)
            before, now = now, self._memory()
        return now

    def _memory(self) -> int:
        return sum(proportional_set_size(process) for process in _family(self.process.pid))


class Mailserver(_Process):
    """This project's. `relay`: lines of its section of that name. `certificate`: files of a certificate and its key,
    with which there is a port `imaps`, too. `indexing`: in the background.
    """

    name = "mailserver"
    greeting = b"220"
    login = ACCOUNT

    def __init__(
        self,
        directory: Path,
        accounts: tuple[str, ...] = (ACCOUNT,),
        *,
        relay: Sequence[str] = (),
        workers: int = 1,
        certificate: tuple[Path, Path] | None = None,
        connections: int = 1000,
        indexing: bool = True,
    ) -> None:
        super().__init__(directory)
        if workers > 1:
            self.name = f"{self.name}, {workers} workers"
        self.smtp, self.submission, self.imap, self.pop3, self.imaps = free_ports(5)
        password = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
        (directory / "accounts.toml").write_text(
            '[domain."bench.test"]\n' + "".join(f'[account."{each}"]\npassword = "{password}"\n' for each in accounts)
        )
        listeners = "".join(
            f'[[listener]]\nprotocol = "{protocol}"\nendpoint = "tcp:{port}:interface=127.0.0.1"\ntls = "none"\n'
            for protocol, port in (
                ("smtp", self.smtp),
                ("submission", self.submission),
                ("imap", self.imap),
                ("pop3", self.pop3),
            )
        )
        if certificate is not None:
            file, key = certificate
            listeners += (
                f'[[listener]]\nprotocol = "imap"\nendpoint = "tcp:{self.imaps}:interface=127.0.0.1"\n'
                f'tls = "implicit"\n[tls]\ncertificate = "{file}"\nprivate_key = "{key}"\n'
            )
        (directory / "mailserver.toml").write_text(
            f'hostname = "ms.bench.test"\ndata = "data"\nworkers = {workers}\n{listeners}'
            '[auth]\nwithout_tls = "loopback"\n'
            "[abuse]\naccount_message_rate = 0\naccount_recipient_rate = 0\n"
            f"[limits]\nconnections = {max(2000, connections)}\nconnections_per_address = {connections}\n"
            "transactions = 1000000\n"
            f"[indexing]\nbackground = {str(indexing).lower()}\n"
            "[relay]\n" + "".join(f"{line}\n" for line in relay)
        )

    def _run(self) -> None:
        twistd = Path(sys.executable).parent / "twistd"
        config = self.directory / "mailserver.toml"
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [twistd, "-n", "--pidfile=", "mailserver", "--allow-root", "--config", config],
                stdout=log,
                stderr=log,
                cwd=self.directory,
            )

    def maildir(self, account: str) -> Path:
        local, _, domain = account.partition("@")
        return self.directory / "data/mail" / domain / local

    @property
    def queue(self) -> Path:
        return self.directory / "data/queue"

    def queued(self) -> int:
        with contextlib.closing(sqlite3.connect(f"file:{self.queue}/queue.db?mode=ro", uri=True, timeout=60)) as db:
            return int(db.execute("SELECT count(*) FROM entry").fetchone()[0])


class Dovecot(_Process):
    """Dovecot 2.3, with what its distribution sets but for what must be told. It takes any account and password.

    `certificate`: as with `Mailserver`.
    """

    name = "Dovecot"
    greeting = b"* OK"

    def __init__(
        self, directory: Path, *, certificate: tuple[Path, Path] | None = None, connections: int = 2000
    ) -> None:
        if not program("dovecot") or os.geteuid():
            raise Missing("Dovecot: apt-get install dovecot-imapd, and run as root")
        super().__init__(directory)
        self.imap, imaps, pop3 = free_ports(3)
        self.imaps = imaps if certificate is not None else 0
        tls = "ssl = no"
        if certificate is not None:
            tls = "ssl = yes\nssl_cert = <{}\nssl_key = <{}".format(*certificate)
        self.pop3 = pop3 if DOVECOT_POP3.exists() else 0
        (directory / "mail").mkdir()
        (directory / "log").touch()
        for part in ("mail", "log"):
            shutil.chown(directory / part, MAIL_OWNER, MAIL_OWNER)
        (directory / "dovecot.conf").write_text(
            f"""base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/log
protocols = imap{" pop3" if self.pop3 else ""}
listen = 127.0.0.1
{tls}
disable_plaintext_auth = no
mail_location = maildir:{directory}/mail/%n
mail_max_userip_connections = 0
default_process_limit = {connections}
default_client_limit = 8000
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid={MAIL_OWNER} gid={MAIL_OWNER} home={directory}/mail/%n
}}
service imap-login {{
  inet_listener imap {{
    port = {self.imap}
  }}
  inet_listener imaps {{
    port = {self.imaps}
  }}
}}
service imap {{
  process_limit = {connections}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {self.pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
"""
        )

    def _run(self) -> None:
        self.process = subprocess.Popen([str(program("dovecot")), "-c", self.directory / "dovecot.conf", "-F"])

    def maildir(self, account: str) -> Path:
        return self.directory / "mail" / account.partition("@")[0]


class Postfix(Peer):
    """Takes mail for any account of bench.test into one Maildir, and from anybody. `more`: lines of its main.cf."""

    name = "Postfix"
    greeting = b"220"

    def __init__(self, directory: Path, *, more: Sequence[str] = ()) -> None:
        if not program("postfix") or os.geteuid():
            raise Missing("Postfix: apt-get install postfix, and run as root")
        super().__init__(directory)
        (port,) = free_ports(1)
        self.smtp = self.submission = port
        for part in ("etc", "queue", "data", "mail"):
            (directory / part).mkdir()
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
virtual_uid_maps=static:{MAIL_OWNER}
virtual_gid_maps=static:{MAIL_OWNER}
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
            + "".join(f"{line}\n" for line in more)
        )
        stock = Path("/usr/share/postfix/master.cf.dist").read_text()
        services = [line.split() for line in stock.splitlines() if line and not line.startswith(("#", " "))]
        left_out = ("maildrop", "uucp", "ifmail", "bsmtp", "scalemail", "mailman")
        lines = [
            " ".join([*fields[:4], "n", *fields[5:]])  # not in a chroot
            for fields in services
            if fields[1] != "inet" and not fields[0].startswith(left_out)
        ]
        lines.append(f"127.0.0.1:{self.smtp} inet n - n - - smtpd")
        if not any(line.startswith("postlog") for line in lines):
            lines.append("postlog unix-dgram n - n - 1 postlogd")
        (directory / "etc/master.cf").write_text("\n".join(lines) + "\n")
        Path("/etc/postfix/main.cf").touch()

    def _run(self) -> None:
        self._tool("postfix", "start")

    def stop(self) -> None:
        self._tool("postfix", "stop", check=False)

    def release(self) -> None:
        """Everything on hold may go; `flush` lets it."""
        self._tool("postsuper", "-H", "ALL")

    def flush(self) -> None:
        self._tool("postqueue", "-f")

    def _tool(self, name: str, *arguments: str, check: bool = True) -> None:
        subprocess.run([str(program(name)), "-c", self.directory / "etc", *arguments], check=check, capture_output=True)

    def maildir(self, account: str) -> Path:
        return self.directory / "mail/Maildir"

    def queued(self) -> int:
        places = [self.directory / "queue" / name for name in ("maildrop", "hold", "incoming", "active", "deferred")]
        return sum(len(files) for place in places for _, _, files in os.walk(place))


def _wait_for(port: int, greeting: bytes, log: Path, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as s:
            if s.recv(len(greeting)) == greeting:
                return
        time.sleep(0.02)
    raise RuntimeError(f"nothing answers on port {port}:\n{log.read_text()[-2000:] if log.exists() else ''}")


def _family(process: int) -> list[int]:
    """A process and all that come of it."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return [process, *(each for child in children for each in _family(int(child)))]
    return []


def proportional_set_size(process: int) -> int:
    """Octets that a process holds, its share of what it shares included; 0: it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
