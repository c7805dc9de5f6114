"""What several functional tests begin with."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pair import two_servers
from tests.support.server import RunningServer


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[RunningServer, RunningServer]]:
    """Servers of example.test and other.test that relay to each other."""
    with two_servers(tmp_path) as servers:
        yield servers


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that others may enter, which those of pytest are not."""
    made = Path(tempfile.mkdtemp(prefix="mailserver-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)
