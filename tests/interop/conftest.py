"""One server for each module; messages that are hard to carry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import LARGE, SAMPLES
from tests.support.server import ALICE, BOB, DOMAIN, RunningServer

CAROL, DAVE, ERIN = f"carol@{DOMAIN}", f"dave@{DOMAIN}", f"erin@{DOMAIN}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Alice, Dave and Erin have no mail at first, Bob has the samples, Carol the large message."""
    accounts = dict.fromkeys((ALICE, BOB, CAROL, DAVE, ERIN), ())
    with RunningServer(tmp_path_factory.mktemp("server"), accounts=accounts) as running:
        with running.smtp() as client:
            for message in SAMPLES.values():
                client.sendmail("sender@example.net", [BOB], message)
            client.sendmail("sender@example.net", [CAROL], LARGE)
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home directory for a client program."""
    (tmp_path / "home").mkdir(mode=0o700)
    return tmp_path / "home"
