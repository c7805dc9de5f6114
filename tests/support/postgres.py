"""A real PostgreSQL in a directory of its own, reached by a UNIX socket and on this machine's loopback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.ports import free_ports
from tests.support.sink import PATIENCE
from tests.support.stopping import freeze

USER = "nobody"  # who runs it when root runs the tests: PostgreSQL refuses root


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def missing() -> str:
    """Why there is no PostgreSQL to talk to; empty when there is one."""
    if _programs() is None:
        return "PostgreSQL is not installed; apt-get install postgresql"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed; pip install 'mailserver[postgres]'"
    return ""


class Postgres:
    """`with Postgres() as server:` it serves until the block ends. `PASSWORD` is asked for by TCP."""

    PASSWORD = "database-secret"

    def __init__(self) -> None:
        programs = _programs()
        assert programs is not None
        self._programs = programs
        self._as = ("setpriv", f"--reuid={USER}", "--clear-groups") if os.getuid() == 0 else ()
        self.home = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
        (self.port,) = free_ports(1)
        self.url = f"postgresql://mail@127.0.0.1:{self.port}/postgres"
        self.password_file = self.home / "password"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Postgres:
        self.password_file.write_text(self.PASSWORD)
        self.password_file.chmod(0o644)
        self.home.chmod(0o755)
        if self._as:
            shutil.chown(self.home, USER)
        options = ("--auth=scram-sha-256", "--auth-local=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
        owner = ("--username=mail", f"--pwfile={self.password_file}")
        self._run("initdb", *options, *owner, f"--pgdata={self.home / 'data'}")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def start(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.home),
            "fsync": "off",
            "max_connections": "20",
        }
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [*self._as, self._programs / "postgres", "-D", self.home / "data", *arguments]
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError((self.home / "log").read_text())
            time.sleep(0.05)

    def stop(self) -> None:
        """At once; clients lose their connections."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(PATIENCE)
            self._process = None

    def freeze(self, frozen: bool) -> None:
        """Nothing is answered, and no connection is closed."""
        assert self._process is not None
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self._process.pid)], capture_output=True, check=True
        )
        for pid in (self._process.pid, *map(int, children.stdout.split())):
            freeze(pid, frozen)

    def sql(self, text: str) -> str:
        """Runs it, and gives what is told."""
        return self._run("psql", "-qAt", "-v", "ON_ERROR_STOP=1", *self._reach(), "-c", text).strip()

    def _reach(self) -> tuple[str, ...]:
        return ("-h", str(self.home), "-p", str(self.port), "-U", "mail", "-d", "postgres")

    def _answers(self) -> bool:
        command = [self._programs / "pg_isready", *self._reach()]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _run(self, program: str, *arguments: str) -> str:
        command = [*self._as, self._programs / program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stderr
        return done.stdout
