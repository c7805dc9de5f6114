"""The benchmarks run: a short form of `make bench`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import ROOT


@pytest.mark.skipif(shutil.which("smtp-source") is None, reason="smtp-source is not installed: apt-get install postfix")
def test_smtp_benchmark_prints_a_row_for_each_work(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.smtp", "--messages", "100", "--rounds", "1", "--results", tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0].strip() for row in rows[1:]] == [
        "4 KB, 20 sessions",
        "4 KB, 1 session",
        "100 KB, 20 sessions",
        "4 KB, one message a connection",
    ]
    assert (tmp_path / "smtp.json").exists()
    assert all(float(row[1]) > 0 for row in rows[1:])
