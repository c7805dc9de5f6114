from __future__ import annotations

import os
from pathlib import Path

import pytest

from mailserver.config import files
from mailserver.config.files import replace_text


def test_a_new_file_is_private_unless_told_otherwise(tmp_path: Path) -> None:
    replace_text(tmp_path / "a", "one")
    replace_text(tmp_path / "b", "two", mode=0o640)
    assert (tmp_path / "a").read_text() == "one"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o640


def test_mode_and_owner_stay(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("old")
    file.chmod(0o644)
    if os.getuid() == 0:
        os.chown(file, 12345, 23456)
    before = file.stat()
    replace_text(file, "new")
    after = file.stat()
    assert file.read_text() == "new"
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino


def test_a_symbolic_link_stays(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    replace_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


@pytest.mark.parametrize("step", ["fsync", "fchmod"])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "a").write_text("old")
    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(OSError, match="No space"):
        replace_text(tmp_path / "a", "new")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_file_is_synced_then_renamed_then_the_directory_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sync, rename = os.fsync, Path.rename

    def noted_sync(fd: int) -> None:
        steps.append("sync directory" if Path(f"/proc/self/fd/{fd}").is_dir() else "sync file")
        sync(fd)

    def noted_rename(self: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(self, target)

    monkeypatch.setattr(files.os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    replace_text(tmp_path / "a", "new")
    assert steps == ["sync file", "rename", "sync directory"]
