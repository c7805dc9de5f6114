"""strace: reading its log (`strace -f -y -o FILE`), and failing system calls of a running process."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.sink import PATIENCE

_LINE = re.compile(r"(\d+) +(.*)")
_UNFINISHED = re.compile(r"(.*) <unfinished \.\.\.>")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|\?)(?:<.*>)?.*")


@dataclass(frozen=True, slots=True)
class Call:
    """One system call. `begin` and `end` are line numbers: what ended on an earlier line was over before."""

    name: str
    arguments: str
    result: int
    begin: int
    end: int


def read_calls(log: Path) -> list[Call]:
    """In the order of their beginnings."""
    calls: list[Call] = []
    open_calls: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(log.read_text(errors="replace").splitlines()):
        match = _LINE.match(line)
        if match is None:
            continue
        thread, text = match.groups()
        if unfinished := _UNFINISHED.fullmatch(text):
            open_calls[thread] = (number, unfinished[1])
            continue
        begin = number
        if resumed := _RESUMED.match(text):
            begin, start = open_calls.pop(thread, (number, f"{resumed[1]}("))
            text = start + resumed[2]
        if (call := _CALL.fullmatch(text)) and call[3] != "?":
            calls.append(Call(call[1], call[2], int(call[3]), begin, number))
    return sorted(calls, key=lambda call: call.begin)


@contextmanager
def injected(pid: int, *faults: str) -> Iterator[None]:
    """While the block runs, system calls of the process fail as told, as "fsync:error=EIO:when=2"."""
    names = ",".join(fault.partition(":")[0] for fault in faults)
    options = [word for fault in faults for word in ("-e", f"inject={fault}")]
    command = ["strace", "-f", "-p", str(pid), "-e", f"trace={names}", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        try:
            assert strace.stderr is not None
            line = strace.stderr.readline()
            assert "attached" in line, line
            yield
        finally:
            strace.terminate()
            strace.communicate(timeout=PATIENCE)
