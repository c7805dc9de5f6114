"""How much is not packed for search, as the indexes tell it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailserver.mail import Content, parse_mailbox
from mailserver.store import Delivery, Store
from mailserver.store.checking import check
from mailserver.store.lag import Lag, unpacked

ALICE, BOB = parse_mailbox("alice@example.org"), parse_mailbox("bob@example.net")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path, hostname="test")


def put(store: Store, address=ALICE, number: int = 1) -> None:  # type: ignore[no-untyped-def]
    store.deliver([Delivery(address, b"", Content(b"Subject: x\r\n\r\nhello\r\n")) for _ in range(number)])


def looked_at(store: Store, address=ALICE, packed: int = 0) -> None:  # type: ignore[no-untyped-def]
    mailbox = store.account(address).open("INBOX")
    if packed:
        mailbox.pack(packed)
    mailbox.close()


def snapshot(directory: Path) -> dict[str, tuple[int, int]]:
    return {
        str(file): (file.stat().st_mtime_ns, file.stat().st_size) for file in directory.rglob("*") if file.is_file()
    }


def total(lag: Lag) -> int:
    for _ in lag.round():
        pass
    return lag.messages


def test_what_is_known_and_not_packed_is_counted(store: Store, tmp_path: Path) -> None:
    account = tmp_path / "example.org" / "alice"
    lag = Lag(tmp_path)
    assert total(lag) == 0
    put(store, number=5)
    assert total(lag) == 0, "nobody looked yet"
    looked_at(store)
    assert total(lag) == unpacked(account) == check(account).unpacked == 5
    looked_at(store, packed=3)
    assert total(lag) == unpacked(account) == check(account).unpacked == 2
    put(store, BOB, 7)
    looked_at(store, BOB)
    assert total(lag) == 9
    (account / "mailserver.search").unlink()
    assert unpacked(account) == check(account).unpacked == 5


def test_looking_leaves_no_trace_whoever_has_it_open(store: Store, tmp_path: Path) -> None:
    put(store, number=3)
    looked_at(store)
    account = tmp_path / "example.org" / "alice"
    before = snapshot(account)
    assert any(name.endswith("-wal") for name in before), "the store keeps it open"
    assert unpacked(account) == 3
    assert snapshot(account).keys() == before.keys()
    store._warm._indexes.popitem()[0].close()
    before = snapshot(account)
    assert not any(name.endswith("-wal") for name in before)
    assert unpacked(account) == 3
    assert snapshot(account) == before


def test_what_did_not_change_is_not_read_again(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, number=2)
    looked_at(store)
    lag = Lag(tmp_path)
    assert total(lag) == 2
    monkeypatch.setattr("mailserver.store.lag.unpacked", lambda account: pytest.fail("read again"))
    assert total(lag) == 2


def test_an_account_that_is_gone_counts_no_more(store: Store, tmp_path: Path) -> None:
    put(store, number=2)
    looked_at(store)
    lag = Lag(tmp_path)
    assert total(lag) == 2
    (tmp_path / "example.org").rename(tmp_path.parent / "elsewhere")
    assert total(lag) == 0


@pytest.mark.parametrize("content", [b"", b"no database" * 1000])
def test_an_index_that_cannot_be_read_counts_as_before(store: Store, tmp_path: Path, content: bytes) -> None:
    put(store, number=2)
    looked_at(store)
    store._warm._indexes.popitem()[0].close()
    lag = Lag(tmp_path)
    assert total(lag) == 2
    index = tmp_path / "example.org" / "alice" / "mailserver.index"
    index.write_bytes(content)
    assert total(lag) == (2 if content else 0), "an empty one is new"
