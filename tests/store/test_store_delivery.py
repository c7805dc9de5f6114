"""Delivery: what is acknowledged is on disk, what fails leaves no trace."""

import errno
import gc
import os
import shutil
import stat
import time
from pathlib import Path

import pytest

import mailserver.store.store
from mailserver.mail import Address, Content, Quota
from mailserver.store import Delivery, DeliveryError, Store, syncing, writing

ALICE = Address("alice", "example.test")
BOB = Address("bob", "example.test")
HEADER = b"Return-Path: <a@x.test>\r\nDelivered-To: alice@example.test\r\n"
BODY = b"Subject: hello\r\n\r\nHello.\r\n"


def job(account=ALICE, body=BODY, **more):
    return Delivery(account, HEADER, Content(body), **more)


def files(root: Path) -> list[str]:
    """All messages and leftovers below a directory."""
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and path.parent.name in ("new", "cur", "tmp")
    )


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "mail"


@pytest.fixture(params=["syncfs", "fsync"])
def way(request, monkeypatch):
    """Both ways to sync several files."""
    monkeypatch.setattr(syncing, "_may_syncfs", lambda fds: request.param == "syncfs")
    return request.param


def test_a_message_lies_in_new_with_its_header_on_top_and_lf(store):
    [path] = store.deliver([job()])
    assert path.parent.name == "new"
    assert path.read_bytes() == (HEADER + BODY).replace(b"\r\n", b"\n")
    assert f",S={path.stat().st_size},W={len(HEADER + BODY)}" in path.name
    assert ":" not in path.name


@pytest.mark.parametrize("body", [BODY, b"", b"no line end", b"\r\n\r\nx" * 1000])
@pytest.mark.parametrize("header", [HEADER, b"", b"Torn: header"])
def test_what_is_known_of_the_line_ends_changes_nothing(store, body, header):
    looked_at, known = Content(body), Content(body)
    known.line_ends = body.count(b"\r\n")
    first, second = store.deliver([Delivery(ALICE, header, content) for content in (looked_at, known)])
    assert first.read_bytes() == second.read_bytes() == (header + body).replace(b"\r\n", b"\n")
    assert first.name.partition(",")[2] == second.name.partition(",")[2]


def test_a_wrong_count_of_line_ends_stores_nothing(store, root):
    wrong = Content(BODY)
    wrong.line_ends = 2
    [error] = store.deliver([Delivery(ALICE, HEADER, wrong)])
    assert isinstance(error, DeliveryError) and error.reply.temporary
    assert files(root) == []


def test_only_the_owner_may_read(store, root):
    [path] = store.deliver([job()])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for directory in (path.parent, path.parent.parent, root, root / "example.test"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_batch_goes_to_several_accounts_and_folders(store, root, way):
    results = store.deliver([job(), job(BOB), job(folder="Lists/Python"), job()])
    assert all(isinstance(result, Path) for result in results)
    assert [str(path.parent.relative_to(root / "example.test")) for path in results] == [
        "alice/new",
        "bob/new",
        "alice/.Lists.Python/new",
        "alice/new",
    ]
    assert (root / "example.test/alice/.Lists.Python/maildirfolder").exists()


def test_a_large_message_is_delivered_in_pieces(store):
    body = b"Subject: large\r\n\r\n" + b"0123456789abcdef" * 70_000 + b"\r\n" * 70_001
    [path] = store.deliver([job(body=body)])
    assert path.read_bytes() == (HEADER + body).replace(b"\r\n", b"\n")


def test_a_message_with_bare_line_ends_is_kept_to_the_octet(store):
    body = b"Subject: x\r\n\r\na\nb\rc\0\r\n"
    [path] = store.deliver([job(body=body)])
    assert path.read_bytes() == HEADER + body


def test_an_empty_batch_is_nothing(store):
    assert store.deliver([]) == []


def fail_at(monkeypatch, name: str, number: int, when: int, module=os) -> None:
    """The `when`-th call from now fails."""
    real = getattr(module, name)
    calls = 0

    def call(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == when:
            raise OSError(number, os.strerror(number))
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, call)


@pytest.mark.parametrize("name", ["fsync", "rename", "write", "open"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_any_error_gives_4xx_and_leaves_no_trace(store, root, monkeypatch, name, number):
    store.account(ALICE)
    for when in range(1, 4):
        with monkeypatch.context() as patch:
            fail_at(patch, name, number, when)
            [result] = store.deliver([job()])
        if isinstance(result, Path):
            result.unlink()
            continue
        assert result.reply.code == (452 if number in (errno.ENOSPC, errno.EDQUOT) else 451)
        assert str(result.reply.enhanced) in ("4.3.0", "4.3.1")
        assert files(root) == []


def test_a_file_sync_error_is_that_message_s_alone(store, root, monkeypatch):
    store.account(ALICE)
    monkeypatch.setattr(syncing, "_may_syncfs", lambda fds: False)
    fail_at(monkeypatch, "fsync", errno.EIO, 2)
    results = store.deliver([job(), job(), job()])
    assert [isinstance(result, Path) for result in results] == [True, False, True]
    assert len(files(root)) == 2


def test_when_syncfs_fails_each_file_is_asked_by_itself(store, root, monkeypatch):
    store.account(ALICE)
    monkeypatch.setattr(syncing, "_may_syncfs", lambda fds: True)
    fail_at(monkeypatch, "syncfs", errno.EIO, 1, module=syncing)
    fail_at(monkeypatch, "fsync", errno.EIO, 1)
    results = store.deliver([job(), job(), job()])
    assert [isinstance(result, Path) for result in results] == [False, True, True]
    assert len(files(root)) == 2


def test_a_rename_error_is_that_message_s_alone(store, root, monkeypatch, way):
    store.account(ALICE)
    fail_at(monkeypatch, "rename", errno.EIO, 1)
    results = store.deliver([job(), job()])
    assert [isinstance(result, Path) for result in results] == [False, True]
    assert files(root) == [str(results[1].relative_to(root))]


def test_a_directory_sync_error_takes_back_what_went_into_that_directory(store, root, monkeypatch, way):
    for address in (ALICE, BOB):
        store.account(address)
    real = os.fsync

    def fsync(fd):
        if Path(f"/proc/self/fd/{fd}").readlink().match("alice/new"):
            raise OSError(errno.EIO, "I/O error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    results = store.deliver([job(), job(BOB), job()])
    assert [isinstance(result, Path) for result in results] == [False, True, False]
    assert files(root) == [str(results[1].relative_to(root))]


def test_files_are_synced_before_they_are_renamed_and_directories_after(store, monkeypatch, way):
    store.account(ALICE)
    order = []

    def spy(module, name, show):
        real = getattr(module, name)

        def call(*args):
            order.append(show(*args))
            return real(*args)

        monkeypatch.setattr(module, name, call)

    spy(os, "fsync", lambda fd: "sync " + ("new" if Path(f"/proc/self/fd/{fd}").readlink().name == "new" else "file"))
    spy(syncing, "syncfs", lambda fd: "sync file")
    spy(os, "rename", lambda source, target: "rename")
    store.deliver([job(), job()])
    syncs = ["sync file"] if way == "syncfs" else ["sync file"] * 2
    assert order == [*syncs, "rename", "rename", "sync new"]


def test_quota_refuses_what_does_not_fit(store, root):
    size = len(HEADER + BODY)
    [fits, full] = store.deliver([job(quota=Quota(size + 5)), job(quota=Quota(size + 5))])
    assert isinstance(fits, Path)
    assert str(full.reply).startswith("452 4.2.2")
    [never] = store.deliver([job(quota=Quota(size - 1))])
    assert str(never.reply).startswith("552 5.2.2")
    assert len(files(root)) == 1


def test_quota_counts_all_folders_and_sees_room_that_was_made(hurry, store, root):
    size = len(HEADER + BODY)
    [first] = store.deliver([job(folder="Archive", quota=Quota(2 * size))])
    assert isinstance(store.deliver([job(quota=Quota(2 * size))])[0], Path)
    assert isinstance(store.deliver([job(quota=Quota(2 * size))])[0], DeliveryError)
    first.unlink()
    assert isinstance(store.deliver([job(quota=Quota(2 * size))])[0], Path)


def test_an_account_name_never_leaves_the_store(store, root, tmp_path):
    for local in ("..", "../../x", "a/../../b", "\0", ".", "x/y"):
        [path] = store.deliver([job(Address(local, "example.test"))])
        assert path.resolve().is_relative_to(root / "example.test")
        assert len(path.relative_to(root).parts) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["mail"]


def test_an_impossible_account_or_folder_is_an_error_of_that_message(store, root):
    results = store.deliver([job(Address("x", "")), job(), job(folder="../../etc")])
    assert [isinstance(result, Path) for result in results] == [False, True, False]
    assert results[0].reply.temporary
    assert len(files(root)) == 1


def test_removed_directories_are_made_again(store, root):
    store.deliver([job()])
    for part in ("tmp", "new", "cur"):
        for path in (root / "example.test/alice" / part).iterdir():
            path.unlink()
        (root / "example.test/alice" / part).rmdir()
    assert isinstance(store.deliver([job()])[0], Path)
    shutil.rmtree(root)
    assert isinstance(store.deliver([job()])[0], Path)


def test_many_accounts_are_served_with_few_kept(store, root, monkeypatch):
    monkeypatch.setattr(mailserver.store.store, "ACCOUNTS_KEPT", 3)
    held = store.account(ALICE)
    for number in range(10):
        assert isinstance(store.deliver([job(Address(f"user{number}", "example.test"))])[0], Path)
    assert len(store._accounts) <= 4
    assert store.account(ALICE) is held
    assert len(files(root)) == 10


@pytest.mark.parametrize(("hours", "left"), [(35, ["dated", "file", "link"]), (37, ["link"])])
def test_leftovers_in_tmp_are_swept_after_36_hours(account, maildir, monkeypatch, hours, left):
    (maildir / "tmp/file").write_bytes(b"x")
    (maildir / "tmp/link").symlink_to(maildir)
    dated = maildir / "tmp/dated"  # as a message that is just being appended or copied elsewhere
    dated.write_bytes(b"x")
    os.utime(dated, (86400, 86400))
    now = time.time()
    monkeypatch.setattr(writing.time, "time", lambda: now + hours * 3600)
    account.open("INBOX").close()
    assert sorted(path.name for path in (maildir / "tmp").iterdir()) == left
    assert writing.TMP_LIFETIME == 36 * 3600


def test_no_descriptor_stays_open(store, monkeypatch):
    store.deliver([job()])
    gc.collect()  # what other tests left
    before = open_files()
    for _ in range(5):
        store.deliver([job(), job()])
        with monkeypatch.context() as patch:
            fail_at(patch, "rename", errno.EIO, 1)
            store.deliver([job(), job()])
    assert open_files() <= before


def test_slow_syncfs_is_avoided_for_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(syncing, "_trustworthy", lambda device: True)
    monkeypatch.setattr(syncing, "SLOW", -1.0)
    monkeypatch.setattr(syncing, "_avoid_syncfs_until", 0.0)
    with (tmp_path / "a").open("wb") as one, (tmp_path / "b").open("wb") as other:
        fds = [one.fileno(), other.fileno()]
        assert syncing._may_syncfs(fds)
        assert syncing.sync_files(fds) == [None, None]
        assert not syncing._may_syncfs(fds)
        assert syncing.sync_files(fds) == [None, None]


def test_two_stores_over_one_directory_deliver_side_by_side(tmp_path):
    stores = [Store(tmp_path / "mail", hostname="mx.example.test") for _ in range(2)]
    results = [result for store in stores for result in store.deliver([job(), job()])]
    assert len({result.name for result in results}) == 4


# The same octets for several


def same(content: Content, *accounts: Address, header: bytes = HEADER) -> list[Delivery]:
    return [Delivery(account, header, content) for account in accounts]


def test_the_same_octets_for_several_are_one_file(store, root, way):
    content = Content(BODY)
    paths = store.deliver([*same(content, ALICE, BOB), job(BOB)])
    assert [path.read_bytes() for path in paths] == [(HEADER + BODY).replace(b"\r\n", b"\n")] * 3
    one, other, separate = (path.stat().st_ino for path in paths)
    assert one == other != separate
    assert len({path.name for path in paths}) == 3
    assert [name for name in files(root) if "/tmp/" in name] == []
    inboxes = [store.account(account).open("INBOX") for account in (ALICE, BOB)]
    inboxes[0].update_flags([1], "add", frozenset({"\\Seen"}))
    assert [message.flags for message in inboxes[1].messages()] == [frozenset()] * 2
    inboxes[0].expunge([1])
    assert inboxes[1].read(1) == HEADER + BODY


def test_copies_with_a_header_of_their_own_are_files_of_their_own(store):
    content = Content(BODY)
    jobs = [*same(content, ALICE, header=b"X: 1\r\n"), *same(content, BOB, header=b"X: 2\r\n")]
    one, other = (path.read_bytes() for path in store.deliver(jobs))
    assert (one[:5], other[:5]) == (b"X: 1\n", b"X: 2\n")


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EMLINK, errno.EPERM])
def test_where_there_can_be_no_links_it_is_written_again(store, root, monkeypatch, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    one, other = store.deliver(same(Content(BODY), ALICE, BOB))
    assert one.read_bytes() == other.read_bytes()
    assert not one.samefile(other)
    assert len(files(root)) == 2


def test_a_link_that_fails_is_that_copy_s_alone(store, root, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(os, "link", refuse)
    one, other = store.deliver(same(Content(BODY), ALICE, BOB))
    assert isinstance(one, Path)
    assert str(other.reply).startswith("451 4.3.0")
    assert len(files(root)) == 1


def test_a_file_that_was_not_synced_is_refused_to_all_that_share_it(store, root, monkeypatch):
    for account in (ALICE, BOB):
        store.account(account)
    monkeypatch.setattr(syncing, "_may_syncfs", lambda fds: False)
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error")))
    results = store.deliver(same(Content(BODY), ALICE, BOB))
    assert [str(result.reply)[:9] for result in results] == ["451 4.3.0"] * 2
    assert files(root) == []
