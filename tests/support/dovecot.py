"""A real Dovecot on this machine's loopback, with one user and a Maildir of its own."""

from __future__ import annotations

import imaplib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

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
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={home}
}}
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
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


def missing() -> str:
    """Why there is no Dovecot to talk to; empty when there is one."""
    program = shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        return "dovecot is not installed"
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return "" if version.startswith("2.3.") else f"this configuration is for Dovecot 2.3, not {version.strip()}"


class Dovecot:
    """`with Dovecot() as dovecot:` it serves `dovecot.maildir` until the block ends; `stop` ends it before that."""

    def __init__(self) -> None:
        # Not below pytest's directory, which only root may enter.
        self.home = Path(tempfile.mkdtemp(prefix="dovecot-", dir="/tmp"))
        self.maildir = self.home / "Maildir"
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]

    def __enter__(self) -> Dovecot:
        root = os.getuid() == 0
        uid, gid = (UID, UID) if root else (os.getuid(), os.getgid())
        config = _CONFIG.format(home=self.home, uid=uid, gid=gid, port=self._port)
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
            self._process.wait(20)
            self._process = None

    def own(self, directory: Path) -> None:
        """Gives what was put there to Dovecot."""
        if os.getuid() == 0:
            for path in (directory, *directory.rglob("*")):
                os.chown(path, UID, UID)

    def imap(self) -> imaplib.IMAP4:
        """A connection, logged in. Waits until Dovecot serves."""
        deadline = time.monotonic() + 20
        while True:
            try:
                client = imaplib.IMAP4("127.0.0.1", self._port, timeout=60)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise AssertionError((self.home / "log").read_text()) from error
                time.sleep(0.05)
        client.login("alice", "any")
        return client


def _environment() -> dict[str, str]:
    return os.environ | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin"}
