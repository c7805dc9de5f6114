"""What the server asks of the system for itself."""

import re
from pathlib import Path

from tests.support.server import RunningServer


def test_as_many_files_may_be_open_as_the_system_allows(tmp_path: Path) -> None:
    with RunningServer(tmp_path, wrapper=["sh", "-c", 'ulimit -S -n 200; exec "$0" "$@"']) as server:
        assert server.process is not None
        limits = Path(f"/proc/{server.process.pid}/limits").read_text()
    match = re.search(r"Max open files +(\d+) +(\d+)", limits)
    assert match is not None
    assert match[1] == match[2]
