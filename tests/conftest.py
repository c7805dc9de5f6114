"""Settings for all tests."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent.parent))

settings.register_profile(
    "default", max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel tells nothing of what happens in directories: no thread of its own calls into a test."""
    from mailserver.store import notify

    monkeypatch.setattr(notify, "WATCHES", 0)
