"""Turns at a maildrop: one POP3 session at a time, and not too soon after the one before."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from mailserver.mail import Address
from mailserver.store import AccountStore, InUse, Store, TooSoon, Unavailable
from mailserver.store.turns import TURN_FILE

ALICE = Address("alice", "example.test")

HOLD = """
import sys
from pathlib import Path
from mailserver.store.turns import Turn
turn = Turn(Path(sys.argv[1]), delay=0, alone=True)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def account(tmp_path: Path) -> AccountStore:
    return Store(tmp_path, hostname="h").account(ALICE)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "example.test" / "alice"


def test_one_holder_in_a_process(account: AccountStore) -> None:
    with account.turn(delay=0, alone=True), pytest.raises(InUse):
        account.turn(delay=0, alone=True)
    account.turn(delay=0, alone=True).close()


def test_one_holder_among_processes_and_none_after_a_kill(account: AccountStore, directory: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdin is not None
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InUse):
            account.turn(delay=0, alone=True)
    finally:
        other.kill()
        other.communicate()
    account.turn(delay=0, alone=True).close()


def test_logins_keep_their_distance_over_restarts(account: AccountStore, tmp_path: Path) -> None:
    account.turn(delay=60, alone=False).close()
    again = Store(tmp_path, hostname="h").account(ALICE)
    for each in (account, again):
        with pytest.raises(TooSoon, match="less than 60 seconds"):
            each.turn(delay=60, alone=False)
    again.turn(delay=0, alone=False).close()


def test_the_distance_ends(account: AccountStore, monkeypatch: pytest.MonkeyPatch) -> None:
    account.turn(delay=60, alone=True).close()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    account.turn(delay=60, alone=True).close()
    with pytest.raises(TooSoon):
        account.turn(delay=60, alone=True)
    account.turn(delay=0, alone=True).close(), "whoever is refused holds nothing"


def test_a_clock_that_was_set_back_keeps_nobody_out(account: AccountStore, monkeypatch: pytest.MonkeyPatch) -> None:
    account.turn(delay=60, alone=True).close()
    yesterday = time.time() - 86400
    monkeypatch.setattr(time, "time", lambda: yesterday)
    account.turn(delay=60, alone=True).close()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff" * 100, b"nan", b"-1", b"inf"])
def test_a_damaged_file_keeps_nobody_out(account: AccountStore, directory: Path, content: bytes) -> None:
    (directory / TURN_FILE).write_bytes(content)
    account.turn(delay=60, alone=True).close()
    with pytest.raises(TooSoon):
        account.turn(delay=60, alone=True)


def test_a_link_is_not_followed(account: AccountStore, directory: Path, tmp_path: Path) -> None:
    (directory / TURN_FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unavailable):
        account.turn(delay=60, alone=True)
    assert not (tmp_path / "elsewhere").exists()
