"""An ordinary `pip install .` into an empty environment gives the twistd plugin and the command."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.server import ROOT


def test_an_ordinary_installation_has_plugin_and_command(tmp_path: Path) -> None:
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", "var", ".*_cache", "__pycache__", "tests")
    shutil.copytree(ROOT, source, ignore=ignored)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    bin = tmp_path / "venv/bin"
    pip = [sys.executable, "-m", "pip", "--python", bin / "python", "install", "--quiet", "--no-compile", source]
    subprocess.run(pip, check=True, cwd=tmp_path)
    told = subprocess.run([bin / "twistd", "--help"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "    mailserver " in told.stdout
    told = subprocess.run([bin / "mailserver", "--help"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "queue" in told.stdout
    told = subprocess.run(
        [bin / "twistd", "mailserver", "--help"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "--demo" in told.stdout
