"""Where and with what a benchmark runs: the machine, the date, the versions of all that is measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.peers import program

ROOT = Path(__file__).parent.parent


def about(directory: Path) -> dict[str, object]:
    """As it is kept with the figures of what runs in this directory."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "system": platform.platform(),
            "processor": _found(r"^model name\s*: (.*)", Path("/proc/cpuinfo")) or platform.machine(),
            "processors": os.cpu_count(),
            "memory_gb": round(int(_found(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo")) or 0) / 2**20, 1),
            "file_system": _file_system(directory),
            "python": platform.python_version(),
        },
        "load_before": round(os.getloadavg()[0], 2),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of those servers that are installed."""
    commit = _said("git", "-C", str(ROOT), "describe", "--always", "--dirty")
    ours = importlib.metadata.version("mailserver") + (f" ({commit})" if commit else "")
    asked = {
        "mailserver": ours,
        "Postfix": _said("postconf", "-d", "-h", "mail_version"),
        "Dovecot": _said("dovecot", "--version").partition(" ")[0],
    }
    return {name: version for name, version in asked.items() if version}


def _said(name: str, *arguments: str) -> str:
    """What a program prints; "": it is missing, or fails."""
    found = program(name)
    if found is None:
        return ""
    done = subprocess.run([found, *arguments], capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _file_system(directory: Path) -> str:
    """Its kind, of the mount point that is the longest part of the path."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return ""
    under = [(len(point), kind) for point, kind in mounts if directory.resolve().is_relative_to(point)]
    return max(under)[1] if under else ""


def _found(pattern: str, file: Path) -> str:
    try:
        match = re.search(pattern, file.read_text(), re.MULTILINE)
    except OSError:
        return ""
    return match[1].strip() if match else ""
