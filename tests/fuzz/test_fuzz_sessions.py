"""Mutated dialogues with complete sessions: only proper replies, no exception, bounded memory, however they are cut.

The sessions are the real ones, with their engines, router, intake, queue and store; their data is kept in memory.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import shutil
import tempfile
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mailserver.accounts import Directory, FileSource
from mailserver.imap.commands import GRAMMARS
from tests.fuzz.connections import House, Troubles
from tests.fuzz.dialogues import (
    IMAP,
    IMAP_WORDS,
    POP3,
    POP3_WORDS,
    SMTP,
    SMTP_WORDS,
    SUBMISSION,
    Dialogue,
)
from tests.fuzz.mutation import Mutator, cases
from tests.support.configs import ACCOUNTS

SLOW = 20.0
"""Seconds of processor time that no dialogue of a few thousand octets may take."""
MEMORY = 8 * 2**20
"""Octets that no session of a few hundred thousand octets may hold at any time."""
LARGE = (
    b"m SEARCH SUBJECT {4000+}\r\n" + b"x" * 4000 + b"\r\n",
    b"m FETCH " + b"1:*," * 2000 + b"1 BODY[]\r\n",
    b"m APPEND INBOX {8000+}\r\n" + b"x" * 8000 + b"\r\n",
    b"m SEARCH " + b"NOT (" * 1600 + b"\r\n",
    b"m LIST (" + b"x " * 4000,
    b"m BOGUS {8000+}\r\n" + b"x" * 8000 + b" ",
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Directory:
    path = tmp_path_factory.mktemp("accounts") / "accounts.toml"
    path.write_text(ACCOUNTS)
    return Directory(FileSource(path))


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a place: here nothing is to outlast anything."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as directory:
        yield Path(directory) / "house"


@pytest.fixture(autouse=True)
def troubles() -> Iterator[Troubles]:
    handler, root = Troubles(), logging.getLogger("mailserver")
    root.addHandler(handler)
    root.setLevel(logging.ERROR)
    yield handler
    root.setLevel(logging.NOTSET)
    root.removeHandler(handler)


class Bench:
    """Has the same dialogue several times, each time in a house of its own."""

    def __init__(self, protocol: str, root: Path, directory: Directory, troubles: Troubles) -> None:
        self._protocol = protocol
        self._root = root
        self._directory = directory
        self._troubles = troubles

    def hear(
        self, turns: Sequence[Sequence[bytes]], *, tls: bool, in_time: bool
    ) -> tuple[list[tuple[str, object]], int]:
        """What was said, and how often TLS or compression was begun. `turns` consist of pieces."""
        began = time.process_time()
        self._root.mkdir()
        house = House(self._root, self._directory)
        talk = getattr(house, self._protocol)(tls=tls)
        for pieces in turns:
            talk.hear(pieces)
        talk.end(in_time=in_time)
        house.close()
        self._look_around()
        shutil.rmtree(self._root)
        assert time.process_time() - began < SLOW
        return talk.said, talk.channel.starts

    def _look_around(self) -> None:
        assert self._troubles.found == []
        assert {path.name for path in self._root.iterdir()} <= {"mail", "queue"}
        for path in (self._root / "mail").rglob("*"):
            assert path.parent.name != "tmp", path
            assert path.relative_to(self._root / "mail").parts[0] == "example.org", path


TARGETS = (
    ("smtp", SMTP, SMTP_WORDS, 120, 35.0),
    ("submission", SUBMISSION, SMTP_WORDS, 80, 25.0),
    ("pop3", POP3, POP3_WORDS, 80, 25.0),
    ("imap", IMAP, IMAP_WORDS, 120, 50.0),
)


@pytest.mark.parametrize(
    ("protocol", "dialogues", "words", "count", "seconds"), TARGETS, ids=[protocol for protocol, *_ in TARGETS]
)
def test_mutated_dialogues(
    protocol: str,
    dialogues: Sequence[Dialogue],
    words: Sequence[bytes],
    count: int,
    seconds: float,
    root: Path,
    directory: Directory,
    troubles: Troubles,
) -> None:
    bench = Bench(protocol, root, directory, troubles)
    files = open_files()
    for case in cases(protocol, count, seconds):
        with case as random:
            dialogue = random.choice(dialogues)
            mutator = Mutator(random, words, [other.turns for other in dialogues])
            turns = mutator.dialogue(dialogue.turns)
            in_time = random.random() < 0.5
            ways: Sequence[list[list[bytes]]] = (
                [[turn] for turn in turns],
                [mutator.cut(turn) for turn in turns],
                [octets(turn) for turn in turns],
                [[b"".join(turns)]],
            )
            first, *others = (bench.hear(way, tls=dialogue.tls, in_time=in_time) for way in ways)
            for other in others:
                # What is dropped at STARTTLS and COMPRESS depends on how much has come by then.
                assert other == first or first[1] or other[1]
    assert open_files() < files + 10


def test_memory_stays_bounded(root: Path, directory: Directory, troubles: Troubles) -> None:
    """Also for large literals and long lines, whole and octet by octet."""
    bench = Bench("imap", root, directory, troubles)
    bench.hear([[turn] for turn in IMAP[0].turns], tls=True, in_time=True)  # what is made once and kept
    for case in cases("memory", 5, 30.0):
        with case as random:
            dialogue = random.choice(IMAP)
            mutator = Mutator(random, IMAP_WORDS, [other.turns for other in IMAP])
            turns = [*mutator.dialogue(dialogue.turns), random.choice(LARGE) * 40]
            for way in ([[turn] for turn in turns], [mutator.cut(turn) for turn in turns], [octets(b"".join(turns))]):
                tracemalloc.start()
                bench.hear(way, tls=dialogue.tls, in_time=True)
                _, peak = tracemalloc.get_traced_memory()
                tracemalloc.stop()
                assert peak < MEMORY, peak


def test_seeds_have_every_imap_command() -> None:
    said = b"".join(turn for dialogue in IMAP for turn in dialogue.turns)
    missing = [name for name in GRAMMARS if not re.search(rb"(?m)^\w+ " + name + rb"\b", said)]
    assert missing == []


def open_files() -> int:
    gc.collect()
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def octets(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


@pytest.mark.parametrize(("protocol", "dialogues"), [(p, d) for p, d, *_ in TARGETS], ids=[p for p, *_ in TARGETS])
def test_seeds_are_dialogues_that_go_well(
    protocol: str, dialogues: Sequence[Dialogue], root: Path, directory: Directory, troubles: Troubles
) -> None:
    bench = Bench(protocol, root, directory, troubles)
    said, _ = bench.hear([[turn] for turn in dialogues[0].turns], tls=True, in_time=True)
    assert len(said) >= len(dialogues[0].turns)
    assert not [answer for _, answer in said if re.search(r"b'(5|4|-ERR|NO|BAD)", repr(answer))]
