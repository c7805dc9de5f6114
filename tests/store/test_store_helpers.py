"""Processes that help with many messages: the same results, whatever becomes of them."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mailserver.mail import Address, Content
from mailserver.message import Phrase
from mailserver.store import Addition, Mailbox, Store, helpers, mailbox
from mailserver.store.digest import DIGESTS, PIECES, TEXT
from mailserver.store.helpers import PORTION, Helpers
from tests.support.sink import wait_until

ALICE = Address("alice", "example.test")


def text_of(number: int) -> bytes:
    return b"Subject: message %d\r\nFrom: a@b.test\r\n\r\nsome words, and %d\r\n" % (number, number)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = [tmp_path / str(number) for number in range(3 * PORTION + 7)]
    for number, path in enumerate(paths):
        path.write_bytes(text_of(number).replace(b"\r\n", b"\n"))
    return list(map(str, paths))


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[Helpers]:
    monkeypatch.setattr(helpers, "RETRY", 0.0)
    pool = Helpers(2)
    yield pool
    pool.close()


def made(pool: Helpers, name: str, files: list[str]) -> list[object]:
    portions = [files[start : start + PORTION] for start in range(0, len(files), PORTION)]
    return [each for portion in pool.made(name, portions) for each in portion]


def children() -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "store.helper"], capture_output=True, check=False)
    return [int(line) for line in found.stdout.split()]


@pytest.mark.parametrize("name", list(DIGESTS))
def test_helpers_make_what_would_be_made_here(pool: Helpers, files: list[str], name: str) -> None:
    assert made(pool, name, files) == [DIGESTS[name].make(text_of(number)) for number in range(len(files))]
    assert made(pool, name, files[:3]) == [DIGESTS[name].make(text_of(number)) for number in range(3)]
    assert made(pool, name, []) == []


def test_without_threads_there_is_nobody_who_ends_them_but_they_help(
    pool: Helpers, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(helpers, "IDLE", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert None not in made(pool, TEXT.name, files[:3])
    assert pool._free
    assert None not in made(pool, TEXT.name, files[:3])
    deadline = time.monotonic() + 60
    while pool._free and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not pool._free, "the next one sees to that"


def test_what_cannot_be_read_is_left_to_the_caller(pool: Helpers, files: list[str], tmp_path: Path) -> None:
    Path(files[1]).unlink()
    Path(files[2]).unlink()
    Path(files[2]).symlink_to(files[3])
    os.mkfifo(tmp_path / "fifo")
    found = made(pool, TEXT.name, [*files[:5], str(tmp_path / "fifo"), str(tmp_path)])
    assert [each is None for each in found] == [False, True, True, False, False, True, True]


def test_a_helper_that_dies_is_replaced(pool: Helpers, files: list[str]) -> None:
    whole = made(pool, PIECES.name, files)
    for helper in pool._free:
        os.kill(helper._process.pid, signal.SIGKILL)
    broken = made(pool, PIECES.name, files)
    assert all(each in (None, expected) for each, expected in zip(broken, whole, strict=True))
    assert None in broken
    assert made(pool, PIECES.name, files) == whole


def test_one_that_cannot_be_started_is_done_without(
    pool: Helpers, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(helpers.sys, "executable", "/nonexistent")
        assert made(pool, PIECES.name, files) == [None] * len(files)
    assert None not in made(pool, PIECES.name, files)


def test_a_job_that_breaks_a_helper_harms_no_other(pool: Helpers, files: list[str]) -> None:
    assert made(pool, "no such digest", files[:5]) == [None] * 5
    assert None not in made(pool, PIECES.name, files)


def test_many_threads_share_them(pool: Helpers, files: list[str]) -> None:
    expected = made(pool, TEXT.name, files)
    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(made(pool, TEXT.name, files))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [expected] * 6
    assert 1 <= len(pool._free) <= 2


def test_they_end_when_nothing_is_asked_of_them(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*arguments, **options))
        return started[-1]

    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(helpers, "IDLE", 0.1)
    pool = Helpers(2)
    made(pool, TEXT.name, files)
    assert started
    wait_until(lambda: all(process.poll() is not None for process in started), what="their end")
    assert None not in made(pool, TEXT.name, files)
    pool.close()


def test_they_end_with_their_process(tmp_path: Path, files: list[str]) -> None:
    """However it ends."""
    program = f"""
import os, signal
from mailserver.store.helpers import Helpers
pool = Helpers(2)
list(pool.made("text", [[file] for file in {files!r}]))
print(*[helper._process.pid for helper in pool._free], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2, done.stderr
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}/stat").exists() and not _ended(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except FileNotFoundError:
        return True


@pytest.fixture
def many(store: Store) -> Mailbox:
    inbox = store.account(ALICE).open("INBOX")
    inbox.append_many([Addition(Content(text_of(number))) for number in range(3 * mailbox.FEW)])
    return inbox


def test_a_mailbox_with_many_messages_has_help_and_the_same_answers(
    many: Mailbox, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    uids = many.listing().uids
    with monkeypatch.context() as patch:
        patch.setattr(many, "read", None)  # helpers do it all
        prepared, keys = many.prepared(uids), many.sort_keys(uids)
        serving = {helper._process.pid for helper in helpers.helpers._free}
        found = many.search_text(uids, Phrase("and 17"))
    assert serving
    assert serving == {helper._process.pid for helper in helpers.helpers._free}
    assert found.uids == {18}
    assert len(prepared) == len(keys) == len(uids)
    monkeypatch.setattr(mailbox, "FEW", 10**9)
    for path in (tmp_path / "mail/example.test/alice").glob("mailserver.*"):
        path.unlink()
    again = Store(tmp_path / "mail", hostname="mx").account(ALICE).open("INBOX")
    assert (again.prepared(uids), again.sort_keys(uids)) == (prepared, keys)
    assert again.search_text(uids, Phrase("and 17")) == found


def test_what_others_rename_or_remove_meanwhile_is_found_or_left_out(
    many: Mailbox, hurry: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cur = tmp_path / "mail/example.test/alice/cur"
    real = helpers.helpers.made

    def meddled(name: str, portions: Iterable[list[str]]) -> Iterator[list[object]]:
        first, *more = portions
        Path(first[0]).unlink()
        Path(first[1]).rename(cur / (Path(first[1]).name + "F"))
        yield from real(name, [first, *more])

    monkeypatch.setattr(helpers.helpers, "made", meddled)
    uids = list(many.listing().uids)
    assert sorted(many.prepared(uids)) == uids[1:]


def test_one_large_message_is_not_held_with_others(many: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    many.append(Content(text_of(0) + b"x" * 70 + b"\r\n" + b"y" * 2_000_000))
    asked: list[int] = []
    real = helpers.helpers.made

    def counted(name: str, portions: Iterable[list[str]]) -> Iterator[list[object]]:
        some = list(portions)
        asked.extend(map(len, some))
        yield from real(name, some)

    monkeypatch.setattr(helpers.helpers, "made", counted)
    monkeypatch.setattr(mailbox, "PORTION_OCTETS", 10_000)
    assert len(many.prepared(many.listing().uids)) == 3 * mailbox.FEW + 1
    assert sum(asked) == 3 * mailbox.FEW
    assert max(asked) < 2 * mailbox.FEW + 60
    gc.collect()


def test_one_that_does_not_answer_is_ended(pool: Helpers, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made(pool, TEXT.name, files)
    monkeypatch.setattr(helpers, "ANSWER_TIMEOUT", 0.3)
    stopped = {helper._process.pid for helper in pool._free}
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    assert None in made(pool, TEXT.name, files)
    assert not stopped & set(children())
    monkeypatch.undo()
    assert made(pool, TEXT.name, files) == whole


@pytest.mark.parametrize("executable", [None, ""])
def test_without_an_interpreter_no_slot_is_lost(
    pool: Helpers, files: list[str], monkeypatch: pytest.MonkeyPatch, executable: str | None
) -> None:
    monkeypatch.setattr(helpers.sys, "executable", executable)
    for _ in range(5):
        assert made(pool, TEXT.name, files[:3]) == [None] * 3
    monkeypatch.undo()
    assert None not in made(pool, TEXT.name, files[:3])


def test_where_none_can_be_started_it_is_not_tried_all_the_time(
    pool: Helpers, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[object] = []
    monkeypatch.setattr(helpers, "RETRY", 60.0)
    monkeypatch.setattr(helpers.subprocess, "Popen", lambda *_, **__: tried.append(1) or 1 / 0)
    for _ in range(5):
        assert made(pool, TEXT.name, files[:3]) == [None] * 3
    assert len(tried) == 1


def test_others_have_their_turn_while_much_is_made(
    pool: Helpers, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helpers, "TURN", 2)
    much = pool.made(TEXT.name, [[file] for file in files])
    first, second = next(much), next(much)
    assert [first, second] == [[DIGESTS[TEXT.name].make(text_of(number))] for number in range(2)]
    third = threading.Thread(target=lambda: results.extend(made(pool, TEXT.name, files[:3])))
    results: list[object] = []
    third.start()
    assert len([first, second, *much]) == len(files)
    third.join(60)
    assert None not in results
    assert len(results) == 3


def test_who_goes_away_in_the_middle_leaves_no_answers_to_others(pool: Helpers, files: list[str]) -> None:
    begun = pool.made(TEXT.name, [[file] for file in files])
    next(begun)
    serving = set(children())
    begun.close()
    assert {helper._process.pid for helper in pool._free} <= serving
    assert len(pool._free) == 2
    assert made(pool, PIECES.name, files) == [
        DIGESTS[PIECES.name].make(text_of(number)) for number in range(len(files))
    ]
