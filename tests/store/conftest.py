"""Stores in a temporary directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailserver.mail import Address, Content
from mailserver.store import AccountStore, Delivery, Mailbox, Store, watch

ALICE = Address("alice", "example.test")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "mail", hostname="mx.example.test")


@pytest.fixture
def account(store: Store) -> AccountStore:
    return store.account(ALICE)


@pytest.fixture
def maildir(tmp_path: Path, account: AccountStore) -> Path:
    """Alice's directory."""
    return tmp_path / "mail/example.test/alice"


@pytest.fixture
def inbox(account: AccountStore) -> Mailbox:
    return account.open("INBOX")


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Directory times are never trusted, so that tests need not wait for the clock's grain."""
    monkeypatch.setattr(watch, "GRAIN", 10**18)
    monkeypatch.setattr(watch, "RECHECK", 0.0)


class Post:
    """Delivers numbered messages."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.count = 0

    def __call__(self, count: int = 1, *, folder: str = "INBOX") -> None:
        jobs = []
        for _ in range(count):
            self.count += 1
            content = Content(b"Subject: %d\r\n\r\nbody\r\n" % self.count)
            jobs.append(Delivery(ALICE, b"Return-Path: <>\r\n", content, folder))
        for result in self.store.deliver(jobs):
            assert isinstance(result, Path), result


@pytest.fixture
def post(store: Store) -> Post:
    return Post(store)
