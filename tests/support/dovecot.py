"""A real Dovecot on this machine's loopback, with one user and a Maildir of its own."""

from __future__ import annotations

import imaplib
import os
import poplib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks.ports import free_ports
from tests.support.sink import PATIENCE

T = TypeVar("T")

UID = 5555  # of the mail, when root runs the tests: Dovecot refuses to handle mail as root

_CONFIG = """
base_dir = {home}/run
state_dir = {home}/state
log_path = {home}/log
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
mail_location = maildir:{home}/Maildir
mail_fsync = never
passdb {{
  driver = static
  args = {password}
}}
service imap-login {{
  inet_listener imap {{
    port = {imap_port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
"""

_POP3 = """
protocols = imap pop3
pop3_uidl_format = {pop3_uidl_format}
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    port = {pop3_port}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
"""

_AUTH = """
service auth {{
  inet_listener {{
    address = 127.0.0.1
    port = {auth_port}
  }}
}}
"""

# In place of the one user for whom all mail is: accounts, each with a Maildir of its own.
_LMTP = """
protocols = imap lmtp
mail_location = maildir:{home}/mail/%n
protocol lmtp {{
  mail_plugins = quota
}}
plugin {{
  quota = maildir
}}
service lmtp {{
  inet_listener lmtp {{
    port = {lmtp_port}
  }}
}}
"""

_ACCOUNTS = """
userdb {{
  driver = passwd-file
  args = {home}/accounts
}}
"""

_ONE_USER = """
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={home}
}}
"""

_WITHOUT_ROOT = """
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
service anvil {{
  chroot =
}}
service imap-login {{
  chroot =
}}
"""


def missing(*protocols: str) -> str:
    """Why there is no Dovecot to talk to, by IMAP or by those protocols; empty when there is one."""
    path = _environment()["PATH"]
    program = shutil.which("dovecot", path=path)
    if program is None:
        return "dovecot is not installed; apt-get install dovecot-imapd"
    version = _output(program, "--version")
    if not version.startswith("2.3."):
        return f"this configuration is for Dovecot 2.3, not {version}"
    programs = Path(_output(shutil.which("doveconf", path=path) or "doveconf", "-d", "-h", "libexec_dir"))
    absent = [protocol for protocol in protocols if not (programs / protocol).exists()]
    package = f"dovecot-{absent[0]}d" if absent else ""
    return f"{package} is not installed; apt-get install {package}" if absent else ""


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


class Dovecot:
    """`with Dovecot() as dovecot:` it serves `dovecot.maildir` until the block ends; `stop` ends it before that.

    By IMAP, and by POP3 as well where it is told what unique-ids look like. Any password is right, unless one is given.
    With `accounts` it takes mail for these addresses by LMTP, at `lmtp_port` and `lmtp_socket`; see `delivered`. Those
    that are `full` have no room, which is told after the content. Other servers may ask at `auth_port` whether a
    password is right.
    """

    def __init__(
        self,
        *,
        pop3_uidl_format: str | None = None,
        password: str | None = None,
        accounts: Sequence[str] = (),
        full: Sequence[str] = (),
    ) -> None:
        # Not below pytest's directory, which only root may enter.
        self.home = Path(tempfile.mkdtemp(prefix="dovecot-", dir="/tmp"))
        self.maildir = self.home / "Maildir"
        self.imap_port, self.pop3_port, self.lmtp_port, self.auth_port = free_ports(4)
        self.lmtp_socket = self.home / "run/lmtp"
        self._password = "nopassword=y" if password is None else f"password={password}"
        self._accounts = {address: "userdb_quota_rule=*:bytes=1" if address in full else "" for address in accounts}
        self._pop3_uidl_format = pop3_uidl_format
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Dovecot:
        root = os.getuid() == 0
        uid, gid = (UID, UID) if root else (os.getuid(), os.getgid())
        config = _CONFIG.format(home=self.home, imap_port=self.imap_port, password=self._password)
        config += (_ACCOUNTS if self._accounts else _ONE_USER).format(home=self.home, uid=uid, gid=gid)
        config += _AUTH.format(auth_port=self.auth_port)
        if self._accounts:
            config += _LMTP.format(home=self.home, lmtp_port=self.lmtp_port)
            lines = [f"{address}::{uid}:{gid}::{self.home}::{more}\n" for address, more in self._accounts.items()]
            (self.home / "accounts").write_text("".join(lines))
        if self._pop3_uidl_format is not None:
            config += _POP3.format(pop3_uidl_format=self._pop3_uidl_format, pop3_port=self.pop3_port)
        if not root:
            import grp
            import pwd

            config += _WITHOUT_ROOT.format(user=pwd.getpwuid(uid).pw_name, group=grp.getgrgid(gid).gr_name)
        (self.home / "conf").write_text(config)
        (self.home / "log").touch()
        self.home.chmod(0o755)
        if root:
            os.chown(self.home, uid, gid)
            os.chown(self.home / "log", uid, gid)
        self._process = subprocess.Popen(["dovecot", "-c", self.home / "conf", "-F"], env=_environment())
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE)
            self._process = None

    def own(self, directory: Path) -> None:
        """Gives what was put there to Dovecot."""
        if os.getuid() == 0:
            for path in (directory, *directory.rglob("*")):
                os.chown(path, UID, UID)

    def delivered(self, address: str) -> list[bytes]:
        """What LMTP brought to one of the accounts, in that order."""
        found = (self.home / "mail" / address.partition("@")[0] / "new").glob("*")
        return [file.read_bytes() for file in sorted(found, key=_moment)]

    def wait(self) -> None:
        """Returns when Dovecot serves."""
        port = self.lmtp_port if self._accounts else self.imap_port
        self._when_served(lambda: socket.create_connection(("127.0.0.1", port), 5)).close()

    def imap(self) -> imaplib.IMAP4:
        """A connection, logged in. Waits until Dovecot serves."""
        client = self._when_served(lambda: imaplib.IMAP4("127.0.0.1", self.imap_port, timeout=60))
        client.login("alice", "any")
        return client

    def pop3(self) -> poplib.POP3:
        """A connection, logged in. Waits until Dovecot serves."""
        client = self._when_served(lambda: poplib.POP3("127.0.0.1", self.pop3_port, timeout=60))
        client.user("alice")
        client.pass_("any")
        return client

    def _when_served(self, connect: Callable[[], T]) -> T:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return connect()
            except OSError as error:
                if time.monotonic() > deadline:
                    raise AssertionError((self.home / "log").read_text()) from error
                time.sleep(0.05)


def _moment(file: Path) -> tuple[int, ...]:
    """When Dovecot wrote it: SECONDS.MMICROSECONDSP..., without leading zeros."""
    seconds, rest = file.name.split(".M", 1)
    return int(seconds), int(rest.partition("P")[0])


def _environment() -> dict[str, str]:
    return os.environ | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin"}
