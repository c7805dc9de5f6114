"""Maildirs as other servers leave them."""

from __future__ import annotations

import os
from pathlib import Path


def import_maildir(directory: Path, count: int = 3) -> None:
    """Read messages, which have lain there for long."""
    for part in ("tmp", "new", "cur"):
        (directory / part).mkdir(parents=True)
    for number in range(count):
        text = f"Subject: {number}\n\nsome words\n"
        (directory / "cur" / f"{1000 + number}.M1P1.elsewhere:2,S").write_text(text)
    for path in (directory, directory / "cur"):
        os.utime(path, (1, 1))
