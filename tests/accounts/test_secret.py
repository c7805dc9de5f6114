"""The secret of an installation."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mailserver.accounts import load_secret
from mailserver.accounts.secret import LENGTH


def test_it_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    made = load_secret(path)
    assert len(made) == LENGTH
    assert load_secret(path) == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_secret(tmp_path / "other") != made
    assert sorted(each.name for each in tmp_path.iterdir()) == ["other", "secret"]


def test_many_at_once_get_the_same(tmp_path: Path) -> None:
    for number in range(20):
        path = tmp_path / str(number)
        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(load_secret, [path] * 8))) == 1


def test_one_that_was_cut_short_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"short")
    assert len(load_secret(path)) == LENGTH
    assert load_secret(path) == load_secret(path)


def test_a_directory_in_its_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    with pytest.raises(OSError, match="secret"):
        load_secret(tmp_path / "secret")
