"""The whole server as a process of its own, as a user would start it: for functional, fault and interop tests.

`RunningServer(directory).start()` writes configuration, accounts and certificates into the directory, starts twistd on
free loopback ports and returns when all of them serve. Everything may be stopped, killed and started again over the
same data. Each account's password is `PASSWORD`.
"""

from __future__ import annotations

import imaplib
import os
import poplib
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import tomlkit
import trustme
from argon2 import PasswordHasher

from benchmarks.ports import free_ports
from mailserver.sasl import ScramKeys

ROOT = Path(__file__).parent.parent.parent
PASSWORD = "open-sesame"
DOMAIN = "example.test"
ALICE, BOB = f"alice@{DOMAIN}", f"bob@{DOMAIN}"
HOSTNAME = f"mail.{DOMAIN}"
START_TIMEOUT = 90.0
STOP_TIMEOUT = 90.0

Section = str | Mapping[str, Any] | Sequence[Mapping[str, Any]]

_CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass(frozen=True)
class Ports:
    """One listener for each; the names are those of the services."""

    smtp: int
    submission: int
    submissions: int
    pop3: int
    pop3s: int
    imap: int
    imaps: int


LISTENERS: Mapping[str, tuple[str, str]] = {
    "smtp": ("smtp", "starttls"),
    "submission": ("submission", "starttls"),
    "submissions": ("submission", "implicit"),
    "pop3": ("pop3", "starttls"),
    "pop3s": ("pop3", "implicit"),
    "imap": ("imap", "starttls"),
    "imaps": ("imap", "implicit"),
}


class RunningServer:
    """`accounts` maps addresses to aliases. `sections` is merged into the configuration:
    `{"relay": {"port": 2525}, "worker_timeout": "10 s"}`; lists, as `{"route": [...]}`, come behind what is there.
    `wrapper` goes before the command, as `["strace", "-f"]`. `scram`: the accounts have keys for SCRAM; `costly`:
    their passwords are hashed as the server does it, not as cheaply as tests like it. `twistd`: options for it, as
    `["--uid", "nobody"]`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        hostname: str = HOSTNAME,
        accounts: Mapping[str, Sequence[str]] | None = None,
        sections: Mapping[str, Section] | None = None,
        workers: int = 1,
        environment: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
        scram: bool = False,
        costly: bool = False,
        twistd: Sequence[str] = (),
        allow_root: bool = True,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.directory = directory
        self.hostname = hostname
        self.data = directory / "data"
        self.config = directory / "mailserver.toml"
        self.ca_file = directory / "ca.pem"
        self.log_file = directory / "server.log"
        self.ports = Ports(*free_ports(len(LISTENERS)))
        self.accounts = dict(accounts or {ALICE: [f"postmaster@{DOMAIN}"], BOB: []})
        self.process: subprocess.Popen[bytes] | None = None
        self.forgiven = ""
        """A traceback with this word in it is no reason for `stop` to complain."""
        self._environment = dict(environment or {})
        self._wrapper = list(wrapper)
        self._scram = scram
        self._costly = costly
        self._twistd = list(twistd)
        self._allow_root = allow_root
        self._pass_fds = list(pass_fds)
        self._workers = workers
        directory.mkdir(parents=True, exist_ok=True)
        self._make_certificates()
        self.write_accounts()
        self.write_configuration(sections or {})

    # Files

    def _make_certificates(self) -> None:
        ca = trustme.CA()
        certificate = ca.issue_cert(
            "localhost", "127.0.0.1", self.hostname, common_name="localhost"
        )  # fetchmail asks for one
        ca.cert_pem.write_to_path(str(self.ca_file))
        for number, pem in enumerate(certificate.cert_chain_pems):
            pem.write_to_path(str(self.directory / "certificate.pem"), append=number > 0)
        (self.directory / "key.pem").touch(mode=0o600)
        certificate.private_key_pem.write_to_path(str(self.directory / "key.pem"))

    def write_accounts(self) -> None:
        """Writes `self.accounts` into the file that the server re-reads."""
        domains = {address.partition("@")[2]: {} for address in self.accounts}  # type: dict[str, dict[str, str]]
        table = {
            address: {"password": self._stored_password(), "aliases": list(aliases)}
            for address, aliases in self.accounts.items()
        }
        text = tomlkit.dumps({"domain": domains, "account": table})
        (self.directory / "accounts.toml").write_text(text, encoding="utf-8")

    def _stored_password(self) -> str:
        keys = f" {ScramKeys.of(PASSWORD.encode(), iterations=4096)}" if self._scram else ""
        return (PasswordHasher() if self._costly else _CHEAP).hash(PASSWORD) + keys

    def write_configuration(self, sections: Mapping[str, Section]) -> None:
        configuration: dict[str, Any] = {
            "hostname": self.hostname,
            "workers": self._workers,
            "data": str(self.data),
            "accounts": "accounts.toml",
            "tls": {"certificate": "certificate.pem", "private_key": "key.pem"},
            "listener": [
                {
                    "protocol": protocol,
                    "endpoint": f"tcp:{getattr(self.ports, name)}:interface=127.0.0.1",
                    "tls": tls,
                }
                for name, (protocol, tls) in LISTENERS.items()
            ],
            "auth": {"without_tls": "loopback"},
        }
        for name, section in sections.items():
            if isinstance(section, str):
                configuration[name] = section
            elif isinstance(section, Mapping):
                configuration[name] = configuration.get(name, {}) | dict(section)
            else:
                configuration[name] = [*configuration.get(name, []), *section]
        self.config.write_text(tomlkit.dumps(configuration), encoding="utf-8")

    def maildir(self, address: str) -> Path:
        """Where the mail of a simple address lies."""
        local, _, domain = address.partition("@")
        return self.data / "mail" / domain / local

    def messages(self, address: str) -> list[bytes]:
        """The files of the INBOX, oldest name first."""
        while True:
            found = [f for folder in ("new", "cur") for f in (self.maildir(address) / folder).glob("*")]
            try:
                return [f.read_bytes() for f in sorted(found, key=lambda f: f.name)]
            except FileNotFoundError:  # the server has just given it another name
                continue

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    # The process

    def start(self) -> RunningServer:
        command = [str(Path(sys.executable).parent / "twistd"), "-n", "--pidfile=", *self._twistd, "mailserver"]
        command += ["--allow-root"] if self._allow_root else []
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **self._environment}
        environment.pop("MAILSERVER_CONFIG", None)
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._wrapper, *command, "--config", str(self.config)],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=self._pass_fds,
            )
        try:
            self._wait_until_ready(self.process)
        except BaseException:
            self.kill()
            raise
        return self

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START_TIMEOUT
        for name, (_, tls) in LISTENERS.items():
            while not self._serves(name, greets=tls != "implicit"):
                assert process.poll() is None, f"the server ended with {process.returncode}:\n{self.log()}"
                assert time.monotonic() < end, f"{name} does not answer:\n{self.log()}"
                time.sleep(0.05)

    def _serves(self, name: str, *, greets: bool) -> bool:
        """Ports are bound before the server is ready: only a greeting tells that it is."""
        try:
            with socket.create_connection(("127.0.0.1", getattr(self.ports, name)), timeout=5) as connection:
                return not greets or connection.recv(1) != b""
        except OSError:
            return False

    def kill(self) -> None:
        """SIGKILL to the whole process group; nothing gets a chance to finish."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """SIGTERM; AssertionError unless the server ends by it, in time and without a traceback in its log."""
        assert self.process is not None
        process = self.process
        process.terminate()
        try:
            status = process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the server did not stop within {STOP_TIMEOUT} s:\n{self.log()}") from None
        self.process = None
        assert status in (0, -signal.SIGTERM), f"exit status {status}:\n{self.log()}"
        tracebacks = self.log().split("Traceback")[1:]
        assert all(self.forgiven and self.forgiven in each for each in tracebacks), self.log()

    def __enter__(self) -> RunningServer:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self.process is None:
            return
        if kind is None:
            self.stop()
        else:
            self.kill()

    # Clients

    def tls_context(self) -> ssl.SSLContext:
        """Trusts this server's certificate and nothing else."""
        return ssl.create_default_context(cafile=str(self.ca_file))

    def smtp(self) -> smtplib.SMTP:
        """Port 25, before any command."""
        return smtplib.SMTP("localhost", self.ports.smtp, local_hostname="client.test", timeout=60)

    def submission(self, user: str = ALICE) -> smtplib.SMTP:
        """Logged in, encrypted."""
        client = smtplib.SMTP("localhost", self.ports.submission, local_hostname="client.test", timeout=60)
        client.starttls(context=self.tls_context())
        client.login(user, PASSWORD)
        return client

    def imap(self, user: str = ALICE) -> imaplib.IMAP4:
        """Logged in, no mailbox selected."""
        client = imaplib.IMAP4("localhost", self.ports.imap, timeout=60)
        client.login(user, PASSWORD)
        return client

    def pop3(self, user: str = ALICE) -> poplib.POP3:
        """Logged in."""
        client = poplib.POP3("localhost", self.ports.pop3, timeout=60)
        client.user(user)
        client.pass_(PASSWORD)
        return client
