"""Settings for all tests."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent.parent))

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of servers start here: compiling takes as long as the rest

settings.register_profile(
    "default", max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means. Many tests wait, for servers and for times to pass, and leave a processor to others."""
    return max(len(os.sched_getaffinity(0)) * 3 // 2, 1)


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel tells nothing of what happens in directories: no thread of its own calls into a test."""
    from mailserver.store import notify

    monkeypatch.setattr(notify, "WATCHES", 0)
