"""Hashes that the Dovecot of this machine makes."""

from __future__ import annotations

import shutil
import subprocess

PROGRAM = shutil.which("doveadm")
MISSING = "" if PROGRAM else "doveadm is not installed; apt-get install dovecot-core"


def schemes() -> list[str]:
    """All that it lists."""
    return sorted(_output("-l").split())


def hashed(scheme: str, password: str, user: str = "alice@example.org") -> str:
    """With the name of the scheme."""
    return _output("-s", scheme, "-u", user, "-p", password).rstrip("\n")


def takes(stored: str, password: str) -> bool:
    """Whether Dovecot finds that the password fits."""
    command = (PROGRAM or "", "-c", "/dev/null", "pw", "-t", stored, "-p", password)
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _output(*arguments: str) -> str:
    if PROGRAM is None:
        return ""
    command = (PROGRAM, "-c", "/dev/null", "pw", *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
