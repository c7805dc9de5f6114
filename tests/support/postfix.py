"""A real Postfix in a directory of its own, and the smtp-sink that comes with it, both on this machine's loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.ports import free_ports
from tests.support.sink import PATIENCE

DOMAIN = "postfix.test"
HOSTNAME = f"mx.{DOMAIN}"
UID = 5555  # of the mail: Postfix refuses to deliver as root

_MAIN = {
    "compatibility_level": "3.6",
    "inet_interfaces": "loopback-only",
    "inet_protocols": "ipv4",
    "myhostname": HOSTNAME,
    "mydestination": "",
    "mynetworks": "127.0.0.0/8",
    "smtpd_peername_lookup": "no",
    "disable_dns_lookups": "yes",
    "smtp_dns_support_level": "disabled",
    "smtputf8_enable": "yes",
    "local_header_rewrite_clients": "",
    "enable_original_recipient": "no",
    "alias_maps": "",
    "local_recipient_maps": "",
    "virtual_mailbox_domains": DOMAIN,
    "virtual_mailbox_limit": "0",
    "virtual_uid_maps": f"static:{UID}",
    "virtual_gid_maps": f"static:{UID}",
    "default_transport": "error:this Postfix sends nothing to the world",
    "smtpd_relay_restrictions": "permit_mynetworks,reject",
    "smtpd_client_connection_count_limit": "0",
    "message_size_limit": "52428800",
    "queue_run_delay": "1s",
    "minimal_backoff_time": "1s",
    "maximal_backoff_time": "1s",
}

# Name, type, private, unprivileged, chroot, wakeup, maxproc, command.
_SERVICES = """
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
lmtp unix - - n - - lmtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def missing(*programs: str) -> str:
    """Why there is no Postfix to talk to, or none of those programs of it; empty when there is one."""
    for program in programs or ("postfix",):
        if _program(program) is None:
            return f"{program} is not installed; apt-get install postfix"
    if "postfix" in (programs or ("postfix",)):
        if os.geteuid():
            return "Postfix must be started as root"
        if not Path("/etc/postfix/main.cf").exists():
            return "Postfix's programs want an /etc/postfix/main.cf, be it empty; touch it"
    return ""


class Postfix:
    """`with Postfix(mailboxes=["anna"]) as postfix:` takes mail for anna@postfix.test at `postfix.port`, from anybody.

    Mail for the domains of `transports` is passed on. Before the block begins, `settings` (of main.cf) may be changed,
    and `listener` and `client` add servers and clients that differ in some of them.
    """

    def __init__(self, *, mailboxes: Sequence[str]) -> None:
        # Not below pytest's directory, which only root may enter.
        self.directory = Path(tempfile.mkdtemp(prefix="postfix-", dir="/tmp"))
        self.directory.chmod(0o755)
        self.settings = dict(_MAIN)
        self.transports: dict[str, str] = {}
        self._mailboxes = mailboxes
        self._services: list[str] = []
        self._ports: list[int] = []
        self.port = self.listener()

    def listener(self, **settings: str) -> int:
        """The port of a further SMTP server."""
        (port,) = free_ports(1)
        self._ports.append(port)
        self._services.append(f"127.0.0.1:{port} inet n - n - - smtpd" + _options(settings))
        return port

    def client(self, name: str, program: str = "smtp", **settings: str) -> None:
        """A way to go for `transports`."""
        self._services.append(f"{name} unix - - n - - {program}" + _options(settings))

    def __enter__(self) -> Postfix:
        self._write_files()
        try:
            self._run("postfix", "start")
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._run("postfix", "stop", check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _write_files(self) -> None:
        for part in ("etc", "queue", "data", "mail"):
            (self.directory / part).mkdir()
        shutil.chown(self.directory / "data", "postfix")
        shutil.chown(self.directory / "mail", UID, UID)
        etc = self.directory / "etc"
        self.settings |= {
            "queue_directory": f"{self.directory}/queue",
            "data_directory": f"{self.directory}/data",
            "maillog_file": f"{self.directory}/log",
            "maillog_file_prefixes": str(self.directory),
            "virtual_mailbox_base": f"{self.directory}/mail",
            "virtual_mailbox_maps": f"texthash:{etc}/mailboxes",
            "relay_domains": " ".join(self.transports),
            "transport_maps": f"texthash:{etc}/transports",
        }
        (etc / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in self.settings.items()))
        (etc / "master.cf").write_text(_SERVICES + "\n".join(self._services) + "\n")
        (etc / "mailboxes").write_text("".join(f"{name}@{DOMAIN} {name}/\n" for name in self._mailboxes))
        (etc / "transports").write_text("".join(f"{domain} {way}\n" for domain, way in self.transports.items()))

    def _run(self, name: str, *arguments: str, check: bool = True) -> None:
        command = [_program(name) or name, "-c", str(self.directory / "etc"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0 or not check, f"{done.stderr}\n{self.log()}"

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + PATIENCE
        for port in self._ports:
            while not _greets(port):
                assert time.monotonic() < end, f"no answer on port {port}:\n{self.log()}"
                time.sleep(0.02)

    def log(self) -> str:
        file = self.directory / "log"
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""

    def messages(self, mailbox: str) -> list[bytes]:
        """What was delivered there, in that order."""
        found = (self.directory / "mail" / mailbox / "new").glob("*")
        return [file.read_bytes() for file in sorted(found, key=lambda file: file.stat().st_mtime_ns)]

    def queued(self) -> int:
        places = [self.directory / "queue" / name for name in ("maildrop", "incoming", "active", "deferred")]
        return sum(len(files) for place in places for _, _, files in os.walk(place))


class SmtpSink:
    """smtp-sink on a port of its own, which stays the same when it is stopped and started with other options.

    It refuses, closes and waits at commands as its options say: `start("-r", "RCPT")`. `taken` are the messages that
    came in since the last start, below what smtp-sink notes of their envelope; lines end with a line feed alone.
    """

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self._home = Path(tempfile.mkdtemp(prefix="smtp-sink-", dir="/tmp"))
        self._home.chmod(0o755)
        self._runs = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> SmtpSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def start(self, *options: str) -> SmtpSink:
        """In place of the one that runs."""
        self.stop()
        self._runs += 1
        self._run.mkdir()
        self._run.chmod(0o777)
        user = [] if os.geteuid() else ["-u", "nobody"]
        command = [_program("smtp-sink") or "smtp-sink", *user, *options, "-d", f"{self._run}/message."]
        self._process = subprocess.Popen([*command, f"127.0.0.1:{self.port}", "100"])
        end = time.monotonic() + PATIENCE
        while not self._listens():
            assert time.monotonic() < end, "smtp-sink does not answer"
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE)
            self._process = None

    @property
    def _run(self) -> Path:
        return self._home / str(self._runs)

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1):
                return True
        except OSError:
            return False

    @property
    def taken(self) -> list[bytes]:
        return [file.read_bytes() for file in self._run.iterdir()]


def _options(settings: Mapping[str, str]) -> str:
    return "".join(f" -o {{{name} = {value}}}" for name, value in settings.items())


def _greets(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            return connection.recv(3) == b"220"
    except OSError:
        return False


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
