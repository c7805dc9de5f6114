"""Configurations on disk for tests."""

from __future__ import annotations

from pathlib import Path

# A password and its argon2id hash, with small parameters so that tests are fast.
SECRET = "secret"
SECRET_HASH = "$argon2id$v=19$m=8,t=1,p=1$8YnquBCgWRKvoESkyBqTiA$mcnR1SJWh16F9uD9yCp5IHPSG89AgLs4fEazREY3dTI"

MINIMAL = """\
hostname = "mail.example.org"
data = "data"

[[listener]]
protocol = "smtp"
endpoint = "tcp:25"
tls = "none"
"""

ACCOUNTS = f"""\
[domain."example.org"]

[domain."example.net"]
catch_all = "bob@example.org"

[account."alice@example.org"]
password = "{SECRET_HASH}"
aliases = ["info@example.org", "alice@example.net"]
quota = "5 GiB"

[account."bob@example.org"]
password = "{SECRET_HASH}"
"""


def write_configuration(directory: Path, main: str = MINIMAL, accounts: str | None = ACCOUNTS) -> Path:
    """Both files; gives the path of the first."""
    if accounts is not None:
        (directory / "accounts.toml").write_text(accounts)
    path = directory / "mailserver.toml"
    path.write_text(main)
    return path
