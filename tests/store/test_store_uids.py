"""UIDs are given once, in ascending order."""

import os
import threading
from pathlib import Path

import pytest

from mailserver.store import uids


def never():
    raise AssertionError("the file was usable")


def take(directory: Path, count: int = 1) -> int:
    with uids.granting(directory, never) as grants:
        return grants.take(count)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    uids.begin(tmp_path, 1000)
    return tmp_path


def test_uids_begin_with_one_and_ascend_without_gaps(folder):
    assert [take(folder) for _ in range(3)] == [1, 2, 3]
    assert take(folder, 10) == 4
    assert take(folder) == 14
    assert uids.peek(folder) == (1000, 14)


def test_threads_never_get_the_same(folder):
    taken = []

    def work():
        for _ in range(50):
            with uids.granting(folder, never) as grants:
                taken.append(grants.take(1))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 201))


def test_after_a_power_cut_no_uid_is_given_again(folder, monkeypatch):
    """Only what was synced survives, and the system has a new start."""
    path = folder / uids.UIDS_FILE
    survives = path.read_bytes()
    real = os.fsync

    def fsync(fd):
        nonlocal survives
        survives = path.read_bytes()
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    given = set()
    for start in range(5):
        monkeypatch.setattr(uids, "_boot", lambda start=start: f"start-{start}")
        for count in (1, 3, 200, 300, 1):
            first = take(folder, count)
            new = set(range(first, first + count))
            assert not new & given
            assert not given or first > max(given)
            given |= new
        path.write_bytes(survives)


def test_the_reservation_is_synced_before_its_first_uid(folder, monkeypatch):
    def fail(_fd):
        raise OSError(5, "I/O error")

    take(folder, uids.BLOCK)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="I/O error"):
        take(folder)


def test_without_a_name_for_the_start_each_use_goes_on_above_the_reservation(folder, monkeypatch):
    monkeypatch.setattr(uids, "_boot", lambda: "")
    first, second = take(folder), take(folder)
    assert second > first


@pytest.mark.parametrize("damage", [b"", b"garbage", b"0\n5\n", b"\0" * 60, b"99999999999\n1\n", b"5\n"])
def test_a_damaged_file_is_made_again_from_what_is_known(folder, damage):
    (folder / uids.UIDS_FILE).write_bytes(damage)
    with uids.granting(folder, lambda: (1000, 77)) as grants:
        assert (grants.validity, grants.take(1)) == (1000, 78)
    assert take(folder) == 79


def test_the_file_of_isync_is_understood_and_the_other_way_round(tmp_path):
    (tmp_path / uids.UIDS_FILE).write_bytes(b"1234567890\n41\n")
    assert take(tmp_path) == 42
    validity, highest, *_ = (tmp_path / uids.UIDS_FILE).read_text().splitlines()
    assert validity == "1234567890"
    assert int(highest) >= 42


def test_what_isync_gives_is_not_given_again(folder):
    take(folder)
    path = folder / uids.UIDS_FILE
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "9000", *lines[2:]]) + "\n")
    assert take(folder) == 9001


def test_uids_known_from_elsewhere_are_passed_over_durably(folder):
    with uids.granting(folder, never) as grants:
        grants.advance(1000)
        grants.advance(10)
        assert grants.take(1) == 1001
    assert uids.peek(folder)[1] == 1001


def test_the_uids_of_a_mailbox_can_be_used_up_but_not_begin_anew(folder):
    (folder / uids.UIDS_FILE).write_bytes(b"1000\n4294967290\n")
    with pytest.raises(OSError, match="no UIDs left"):
        take(folder, 10)


def test_uidvalidity_only_grows(tmp_path, monkeypatch):
    lock = tmp_path / "lock"
    first = uids.next_validity(lock, lambda: 0)
    assert uids.next_validity(lock, never) == first + 1
    monkeypatch.setattr(uids.time, "time", lambda: 5.0)
    assert uids.next_validity(lock, never) == first + 2


def test_a_new_lock_file_learns_from_the_folders(tmp_path):
    assert uids.next_validity(tmp_path / "lock", lambda: 4_000_000_000) == 4_000_000_001


def test_a_symbolic_link_in_its_place_is_not_followed(tmp_path):
    (tmp_path / "other").write_bytes(b"precious")
    (tmp_path / uids.UIDS_FILE).symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic links"):
        take(tmp_path)
    assert (tmp_path / "other").read_bytes() == b"precious"
