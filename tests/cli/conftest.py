"""What all tests of the command begin with."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher

from mailserver.accounts import passwords


@pytest.fixture(autouse=True)
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a hash costs is tested where passwords are."""
    monkeypatch.setattr(passwords, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
