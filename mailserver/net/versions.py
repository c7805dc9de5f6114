"""Which versions this process runs: of the program, and of what it stands on."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Mapping

from OpenSSL import SSL

import twisted
from mailserver import __version__


def versions() -> Mapping[str, str]:
    """By name, the program first."""
    return {
        "mailserver": __version__,
        "python": platform.python_version(),
        "twisted": twisted.__version__,
        "openssl": SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode("ascii", "replace").split()[1],
        "sqlite": sqlite3.sqlite_version,
    }
