"""The `mailserver` command on a directory of its own."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from mailserver.cli import main
from mailserver.config.loader import load_accounts
from tests.support.configs import write_configuration
from tests.support.sink import PATIENCE


class Command:
    """`mailserver --config ...` on a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = write_configuration(directory)

    def run(self, *arguments: str, stdin: str | bytes = "") -> Result:
        result = CliRunner().invoke(main, ["--config", str(self.path), *arguments], input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def good(self, *arguments: str, stdin: str = "") -> str:
        result = self.run(*arguments, stdin=stdin)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    def refused(self, *arguments: str, stdin: str | bytes = "") -> str:
        result = self.run(*arguments, stdin=stdin)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("mailserver: ")
        return result.stderr.strip()

    def password_of(self, address: str) -> str:
        return load_accounts(self.directory / "accounts.toml").account[address].password

    def at_terminal(self, answers: list[bytes], *arguments: str) -> tuple[int, bytes]:
        """Runs it at a terminal, and answers each question when it stands there; gives status and what was shown."""
        ours, its = pty.openpty()
        code = "from mailserver.cli import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, "--config", str(self.path), *arguments],
            cwd=Path(__file__).parents[2],
            stdin=its,
            stdout=its,
            stderr=its,
            start_new_session=True,
        )
        os.close(its)
        shown = b""
        while select.select([ours], [], [], PATIENCE)[0]:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # Linux: the other side is closed
                break
            if shown.endswith(b": ") and answers:
                os.write(ours, answers.pop(0) + b"\n")
        os.close(ours)
        return process.wait(PATIENCE), shown
