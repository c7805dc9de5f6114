"""Processes wake each other by datagrams; what cannot be rung is done without."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from mailserver.net.bells import Bells
from tests.support.reactor import in_reactor


def test_all_others_are_rung_and_those_nobody_hears_are_removed(tmp_path: Path) -> None:
    heard = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(tmp_path / "1"))
        other.settimeout(60)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
            dead.bind(str(tmp_path / "2"))

        async def use(reactor: object) -> None:
            bells = Bells(reactor, tmp_path)
            bells.hang_up(lambda: heard.append("own"))
            bells.ring()
            assert (tmp_path / str(os.getpid())).is_socket()
            bells.take_down()

        in_reactor(use)
        assert other.recv(1) == b""
    assert heard == [], "not its own"
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_a_directory_that_is_not_there_is_no_fault(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bells = Bells(None, tmp_path / "a" / "b")
    bells.ring()
    bells.hang_up(lambda: None)
    bells.take_down()
    assert "waits for a second" in caplog.text


def test_a_bell_that_is_full_is_not_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(tmp_path / "1"))
        bells = Bells(None, tmp_path)
        for _ in range(2000):
            bells.ring()
