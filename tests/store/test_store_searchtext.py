"""Packed search text: the same answers as without it, whatever happens to the file, the index, and who writes."""

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailserver.mail import Address, Content
from mailserver.message import Phrase, body_texts, casemapped, fields, folded, header_end, header_text, parse
from mailserver.store import AccountStore, Mailbox, Store, Unavailable, searchfile, searchtable, searchtext
from mailserver.store.index import INDEX_FILE, Index, Packed, PackedTexts
from mailserver.store.searchfile import SEARCH_FILE
from mailserver.store.searchtable import Table

ALICE = Address("alice", "example.test")

MESSAGES = [
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= to you\r\nTo: bob@example.test\r\n\r\nplain needle\r\n",
    b"Subject: two\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    b"w5xiZXIgbmVlZGxl\r\n",
    b"Subject: header\r\n\r\nSubject: body, not header\r\n",
    b"Subject: a\r\n\tb   c\r\nX-Empty:\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n\r\nna=EFve soft=\r\nline\r\n",
    b"\r\nno header at all\r\n",
    b"Content-Type: application/octet-stream\r\n\r\nneedle nobody finds\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nnee\r\n--b\r\n\r\ndle\r\n--b\r\nX-Empty:\r\n"
    b"Content-Type: message/rfc822\r\n\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= to all\r\n\r\nx\r\n--b\r\n"
    b"Content-Type: message/feedback\r\n\r\nabout: you\r\n--b\r\n"
    b"Content-Type: image/png;\r\n name=over.png\r\n--b--\r\n",
]


def naive(message: bytes, phrase: Phrase) -> bool:
    """What SEARCH means, text by text."""
    wanted = folded(phrase.text)
    header = fields(message[: header_end(message)])
    if phrase.field is not None:
        values = [field.value for field in header if field.name.lower() == phrase.field.encode()]
        return any(wanted in folded(header_text(value)) for value in values)
    for part in parse(message).inner():
        header += fields(message[slice(*part.header)])
    lines = [f"{casemapped(field.name.decode('latin-1'))}: {folded(header_text(field.value))}" for field in header]
    bodies = [folded(text) for text in body_texts(parse(message))]
    return any(wanted in text for text in (lines if phrase.header else []) + (bodies if phrase.body else []))


PHRASES = [
    Phrase(text, header, body, field)
    for text in (
        "needle",
        "GRÜSSE",
        "grüße TO",
        "über",
        "naïve softline",
        "a b c",
        "",
        "subject: two",
        "subject",
        "e",
        "nee",
        "over.png",
        "about",
    )
    for header, body, field in (
        (True, True, None),
        (False, True, None),
        (True, False, None),
        (True, False, "subject"),
        (True, False, "x-empty"),
        (True, False, "subject: a"),
        (True, False, ""),
    )
]


def fill(inbox: Mailbox, messages: list[bytes] = MESSAGES) -> dict[int, bytes]:
    return {inbox.append(Content(message)): message for message in messages}


def agree(inbox: Mailbox, messages: dict[int, bytes], phrases: list[Phrase] = PHRASES) -> None:
    for phrase in phrases:
        expected = {uid for uid, message in messages.items() if naive(message, phrase)}
        assert inbox.search_text(messages, phrase) == (expected, set()), phrase


def pack_all(inbox: Mailbox) -> None:
    for _ in range(1000):
        if not inbox.pack(3):
            return
    raise AssertionError("something always remains")


def no_reading(monkeypatch: pytest.MonkeyPatch, inbox: Mailbox) -> None:
    def refuse(uid: int) -> bytes:
        raise AssertionError(f"message {uid} was read")

    monkeypatch.setattr(inbox, "read", refuse)


def test_unpacked_and_packed_answers_are_those_of_the_definition(
    inbox: Mailbox, maildir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = fill(inbox)
    for phrase in PHRASES:
        (maildir / SEARCH_FILE).unlink(missing_ok=True)
        agree(inbox, messages, [phrase])
    pack_all(inbox)
    no_reading(monkeypatch, inbox)
    agree(inbox, messages)
    assert (maildir / SEARCH_FILE).stat().st_mode & 0o777 == 0o600


def test_a_search_packs_what_it_read(inbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = fill(inbox)
    inbox.search_text(messages, Phrase("needle"))
    assert inbox.pack(0) == 0
    no_reading(monkeypatch, inbox)
    agree(inbox, messages)


def test_packing_goes_in_batches_and_tells_what_remains(inbox: Mailbox) -> None:
    fill(inbox)
    assert [inbox.pack(0), inbox.pack(4), inbox.pack(4), inbox.pack(4)] == [7, 3, 0, 0]


def test_another_start_uses_what_was_packed(
    store: Store, inbox: Mailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = fill(inbox)
    pack_all(inbox)
    other = Store(tmp_path / "mail", hostname="mx.example.test").account(ALICE).open("INBOX")
    no_reading(monkeypatch, other)
    agree(other, messages)


def test_only_the_messages_asked_for_are_found(inbox: Mailbox) -> None:
    uids = sorted(fill(inbox))
    pack_all(inbox)
    assert inbox.search_text([uids[1], uids[4], 999], Phrase("needle")) == ({uids[1]}, {999})


def test_expunged_messages_are_not_found(inbox: Mailbox) -> None:
    messages = fill(inbox)
    pack_all(inbox)
    first = min(messages)
    inbox.expunge([first])
    assert inbox.search_text(messages, Phrase("needle", header=False)).gone == {first}
    assert first not in inbox.search_text(messages, Phrase("")).uids


text = st.text(st.sampled_from("aAßẞ éİıſK\t\n\u00a0\u3000ﬁ=?_-:"), max_size=12)
parts = st.one_of(
    text.map(lambda value: b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + value.encode()),
    text.map(lambda value: b"Content-Type: text/plain; charset=utf-7\r\n\r\n" + value.encode("utf-7")),
    st.binary(max_size=12).map(lambda value: b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + value),
    st.binary(max_size=12),
)
names = st.sampled_from([b"Subject", b"To", b"X-\xc4", b"subject", b"Sub"])
values = st.one_of(st.binary(max_size=10), text.map(str.encode), st.just(b"=?utf-8?q?=C3=9F_a?="))
headers = st.lists(st.tuples(names, values).map(lambda pair: pair[0] + b": " + pair[1] + b"\r\n")).map(b"".join)
whole = st.builds(
    lambda header, parts: (
        header
        + b"Content-Type: multipart/mixed; boundary=BB\r\n\r\n"
        + b"".join(b"--BB\r\n" + part + b"\r\n" for part in parts)
        + b"--BB--\r\n"
    ),
    headers,
    st.lists(parts, max_size=3),
)
phrases = st.builds(
    lambda text, scope: Phrase(text, *scope),
    text,
    st.sampled_from([(True, True), (False, True), (True, False), (True, False, "subject"), (True, False, "x-\xe4")]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.one_of(whole, st.binary(max_size=80)), min_size=1, max_size=6), st.lists(phrases, max_size=8), st.data()
)
def test_packed_equals_unpacked(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], asked: list[Phrase], data: st.DataObject
) -> None:
    inbox = Store(tmp_path_factory.mktemp("s"), hostname="mx.example.test").account(ALICE).open("INBOX")
    uids = fill(inbox, contents)
    messages = {uid: inbox.read(uid) for uid in uids}  # line ends may have become CRLF
    inbox.pack(data.draw(st.integers(0, len(contents))))
    agree(inbox, messages, asked)
    agree(inbox, messages, asked)


def damage(path: Path, how: str) -> None:
    octets = path.read_bytes()
    match how:
        case "deleted":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "truncated":
            os.truncate(path, len(octets) * 2 // 3)
        case "garbage":
            path.write_bytes(os.urandom(len(octets)))
        case "garbage inside":
            path.write_bytes(octets[:40] + os.urandom(len(octets) - 60) + octets[-20:])
        case "one octet":
            middle = len(octets) // 2
            path.write_bytes(octets[:middle] + bytes([octets[middle] ^ 1]) + octets[middle + 1 :])
        case "another":
            path.write_bytes(octets[:20] + b"anothers" + octets[28:])
        case "directory":
            path.unlink()
            path.mkdir()
        case "fifo":
            path.unlink()
            os.mkfifo(path)
        case "link":
            path.unlink()
            path.symlink_to("/etc/passwd")


DAMAGES = ["deleted", "empty", "truncated", "garbage", "garbage inside", "one octet", "another"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_is_packed_again(
    inbox: Mailbox, maildir: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = fill(inbox)
    pack_all(inbox)
    damage(maildir / SEARCH_FILE, how)
    agree(inbox, messages)
    pack_all(inbox)
    no_reading(monkeypatch, inbox)
    agree(inbox, messages)


@pytest.mark.parametrize("how", ["directory", "link", "fifo"])
def test_what_is_no_file_is_left_alone(inbox: Mailbox, maildir: Path, how: str) -> None:
    messages = fill(inbox)
    pack_all(inbox)
    damage(maildir / SEARCH_FILE, how)
    agree(inbox, messages, PHRASES[:10])
    assert inbox.pack(5) == 0


@pytest.mark.parametrize("how", [*DAMAGES, "directory"])
def test_a_damaged_index_is_no_harm(
    store: Store, account: AccountStore, inbox: Mailbox, maildir: Path, how: str, tmp_path: Path
) -> None:
    messages = fill(inbox)
    pack_all(inbox)
    account._index.close()
    damage(maildir / INDEX_FILE, how)
    other = Store(tmp_path / "mail", hostname="mx.example.test").account(ALICE).open("INBOX")
    agree(other, messages, PHRASES[:20])
    agree(inbox, messages, PHRASES[:20])


def test_an_older_file_with_a_newer_index(inbox: Mailbox, maildir: Path) -> None:
    messages = fill(inbox)
    pack_all(inbox)
    old = (maildir / SEARCH_FILE).read_bytes()
    messages |= fill(inbox)
    pack_all(inbox)
    (maildir / SEARCH_FILE).write_bytes(old)
    messages |= fill(inbox, MESSAGES[::-1])
    pack_all(inbox)
    agree(inbox, messages)


def test_rows_that_lie_are_found_out(inbox: Mailbox, account: AccountStore, maildir: Path, tmp_path: Path) -> None:
    messages = fill(inbox)
    pack_all(inbox)
    index: Index = account._index
    for statement in ("SET start = start + 1", "SET uid = 100 - uid", "SET stop = 1 << 62", "SET start = 'x'"):
        index.file.run(lambda db, statement=statement: db.execute(f"UPDATE packed {statement}"), None)
        other = Store(tmp_path / "mail", hostname="mx.example.test").account(ALICE).open("INBOX")
        agree(other, messages, PHRASES[:20])


def test_a_full_disk_costs_time_only(inbox: Mailbox, maildir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = fill(inbox)

    def full(fd: int, data: bytes) -> None:
        os.write(fd, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(searchfile, "write_all", full)
    agree(inbox, messages)
    assert inbox.pack(3) == 0
    monkeypatch.undo()
    pack_all(inbox)
    agree(inbox, messages)


def test_a_long_text_is_read_whole(inbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searchtext, "CHUNK", 100)
    monkeypatch.setattr(searchtable, "GAP", 10)
    messages = fill(inbox, [*MESSAGES, b"Subject: long\r\n\r\n" + b"x" * 5000 + b" needle\r\n"])
    pack_all(inbox)
    agree(inbox, messages)


def test_text_that_another_process_packs_at_this_moment_is_not_taken_for_damaged(
    inbox: Mailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file was opened before, the index asked after."""
    messages = fill(inbox)
    inbox.pack(1)
    other = Store(tmp_path / "mail", hostname="mx.example.test").account(ALICE).open("INBOX")
    find, others = PackedTexts.find, [other]

    def late(*arguments: Any) -> list[Packed]:
        if others:
            pack_all(others.pop())
        return find(*arguments)

    monkeypatch.setattr(PackedTexts, "find", late)
    no_reading(monkeypatch, inbox)
    agree(inbox, messages)
    assert not others


# Compaction


def wasteful(monkeypatch: pytest.MonkeyPatch, inbox: Mailbox) -> dict[int, bytes]:
    monkeypatch.setattr(searchfile, "SPARED", 0)
    monkeypatch.setattr(searchtext, "COMPACTION_INTERVAL", 0.0)
    messages = fill(inbox, MESSAGES * 3)
    pack_all(inbox)
    dead = sorted(messages)[2:11]
    inbox.expunge(dead)
    return {uid: message for uid, message in messages.items() if uid not in dead}


def test_the_file_is_compacted_when_a_third_is_dead(
    inbox: Mailbox, maildir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = wasteful(monkeypatch, inbox)
    before = (maildir / SEARCH_FILE).stat()
    pack_all(inbox)
    after = (maildir / SEARCH_FILE).stat()
    assert after.st_size < before.st_size * 0.7
    assert after.st_mode & 0o777 == 0o600
    assert [path.name for path in maildir.glob(SEARCH_FILE + "*")] == [SEARCH_FILE]
    no_reading(monkeypatch, inbox)
    agree(inbox, messages)
    pack_all(inbox)
    assert (maildir / SEARCH_FILE).stat().st_ino == after.st_ino


def test_little_waste_is_left(inbox: Mailbox, maildir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wasteful(monkeypatch, inbox)
    monkeypatch.setattr(searchfile, "SPARED", 2**20)
    before = (maildir / SEARCH_FILE).stat().st_ino
    pack_all(inbox)
    assert (maildir / SEARCH_FILE).stat().st_ino == before


def test_other_folders_and_processes_keep_their_text(
    account: AccountStore, inbox: Mailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.create("Work")
    work = account.open("Work")
    kept = fill(work)
    pack_all(work)
    other = Store(tmp_path / "mail", hostname="mx.example.test").account(ALICE).open("INBOX")
    messages = wasteful(monkeypatch, inbox)
    other.sync()
    agree(other, messages, PHRASES[:3])
    pack_all(inbox)
    no_reading(monkeypatch, other)
    no_reading(monkeypatch, work)
    agree(other, messages)
    agree(work, kept)


class Killed(BaseException):
    """The process ends here."""


def test_killed_at_any_call_while_packing_and_compacting(
    account: AccountStore, inbox: Mailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = 0
    for at in range(100):
        calls = itertools.count()

        def counted(call: Callable[..., object], calls: Iterator[int] = calls, at: int = at) -> Callable[..., object]:
            def wrapped(*arguments: object, **options: object) -> object:
                if next(calls) == at:
                    raise Killed
                return call(*arguments, **options)

            return wrapped

        messages = wasteful(monkeypatch, inbox)
        victim = Store(tmp_path / "mail", hostname="mx.example.test").account(ALICE).open("INBOX")
        late = fill(victim, MESSAGES[:2])
        try:
            with monkeypatch.context() as patch:
                for name in ("ftruncate", "fchmod", "pread", "lseek", "write"):
                    patch.setattr(os, name, counted(getattr(os, name)))
                patch.setattr(Path, "rename", counted(Path.rename))
                for name in ("store", "move", "octets", "all"):
                    patch.setattr(PackedTexts, name, counted(getattr(PackedTexts, name)))
                pack_all(victim)
                done = True
        except Killed:
            done = False
            points += 1
        victim.close()
        inbox.sync()
        agree(inbox, messages | late, PHRASES[:8])
        pack_all(inbox)
        agree(inbox, messages | late, PHRASES[:8])
        inbox.expunge(messages | late)
        if done:
            break
    assert done
    assert points > 10


PACK = """
    import sys
    from pathlib import Path
    from mailserver.mail import Address
    from mailserver.message import Phrase
    from mailserver.store import Store, searchfile, searchtext

    searchfile.SPARED, searchtext.COMPACTION_INTERVAL, searchtext.CHUNK = 0, 0.0, 2000
    inbox = Store(Path(sys.argv[1]), hostname="mx.example.test").account(Address("alice", "example.test")).open("INBOX")
    print("ready", flush=True)
    while True:
        inbox.sync()
        inbox.pack(3)
        everything = {message.uid for message in inbox.messages()}
        found, gone = inbox.search_text(everything, Phrase("common"))
        assert everything - found - gone == set(), (everything, found, gone)
"""


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_that_pack_at_once_and_are_killed(
    inbox: Mailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searchfile, "SPARED", 0)
    monkeypatch.setattr(searchtext, "COMPACTION_INTERVAL", 0.0)
    messages: dict[int, bytes] = {}
    for _ in range(3):
        processes = [start(PACK, tmp_path / "mail") for _ in range(2)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for number in range(25):
            messages |= fill(inbox, [b"Subject: common %d\r\n\r\nbody\r\n" % number + b"x" * 300])
            if number % 3:
                messages.pop(inbox.expunge([min(messages)])[0])
            inbox.pack(2)
            assert inbox.search_text(messages, Phrase("common")).uids == messages.keys()
        for process in processes:
            assert process.poll() is None, process.communicate()
            process.send_signal(signal.SIGKILL)
            process.communicate()
        agree(inbox, messages, [Phrase("common"), Phrase("x" * 300, header=False), Phrase("7", body=False)])


def test_large_messages_are_packed_one_at_a_time(inbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searchtext, "CHUNK", 10)
    messages = fill(inbox)
    assert [inbox.pack(50) for _ in messages] == [6, 5, 4, 3, 2, 1, 0]
    agree(inbox, messages)


def test_a_message_that_cannot_be_read_stops_no_packing(inbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = fill(inbox)
    read = inbox.read

    def broken(uid: int) -> bytes:
        if uid == min(messages):
            raise Unavailable("broken")
        return read(uid)

    with monkeypatch.context() as patch:
        patch.setattr(inbox, "read", broken)
        pack_all(inbox)
        assert inbox.search_text(messages.keys() - {min(messages)}, Phrase("needle")).uids
        with pytest.raises(Unavailable):
            inbox.search_text(messages, Phrase("needle"))
    agree(inbox, messages)


def test_an_index_that_is_busy_drops_no_text(inbox: Mailbox, maildir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = wasteful(monkeypatch, inbox)
    before = (maildir / SEARCH_FILE).stat().st_ino
    for name in ("octets", "all"):
        with monkeypatch.context() as patch:
            patch.setattr(PackedTexts, name, lambda *_: None)
            pack_all(inbox)
    assert (maildir / SEARCH_FILE).stat().st_ino == before
    agree(inbox, messages)


# What is trusted


def checks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The UIDs of the texts whose checksum is computed from now on."""
    seen: list[int] = []
    crc32 = zlib.crc32

    def counting(data: bytes, start: int = 0) -> int:
        seen.append(start)
        return crc32(data, start)

    monkeypatch.setattr(searchtext.zlib, "crc32", counting)
    return seen


def test_a_text_is_checked_once_as_long_as_the_file_is_ours(inbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = fill(inbox)
    pack_all(inbox)
    seen = checks(monkeypatch)
    agree(inbox, messages, [Phrase("needle", body=False), Phrase("needle", body=False), Phrase("needle")])
    assert sorted(seen) == sorted([*messages, *messages])  # the headers, then the texts
    more = fill(inbox)
    agree(inbox, messages | more, [Phrase("needle")])  # packs them, too
    seen.clear()
    agree(inbox, messages | more)
    assert sorted(set(seen)) == sorted(more)


def test_damage_after_a_search_is_found_by_the_next(inbox: Mailbox, maildir: Path) -> None:
    messages = fill(inbox)
    pack_all(inbox)
    agree(inbox, messages)
    for how in ("one octet", "garbage inside", "truncated"):
        damage(maildir / SEARCH_FILE, how)
        agree(inbox, messages)


def test_an_older_file_to_which_another_process_appends_is_checked_again(
    inbox: Mailbox, maildir: Path, tmp_path: Path
) -> None:
    messages = fill(inbox)
    pack_all(inbox)
    old = (maildir / SEARCH_FILE).read_bytes()
    messages |= fill(inbox)
    agree(inbox, messages)
    (maildir / SEARCH_FILE).write_bytes(old)
    messages |= fill(inbox, MESSAGES[::-1] * 2)
    pack_all(Store(tmp_path / "mail", hostname="mx.example.test").account(ALICE).open("INBOX"))
    agree(inbox, messages)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 60)), max_size=30), st.data())
def test_runs_cover_what_is_wanted_in_the_order_of_the_file(
    sizes: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    uids = data.draw(st.just(range(1, len(sizes) + 1)) | st.permutations(range(1, len(sizes) + 1)))
    rows, end = {}, 0
    for uid, (header, body, gap) in zip(uids, sizes, strict=True):
        start = end + gap
        end = start + header + body
        rows[uid] = Packed(uid, start, start + header, end, 0, 0)
    table = Table(1)
    for uid in data.draw(st.just(uids) | st.permutations(uids)):
        table = table.added([rows[uid]])
    assert sorted(table.uids) == sorted(uids)
    stretches = [(table.starts[place], table.stop(place)) for place in range(len(table))]
    assert stretches == sorted(row[1:4:2] for row in rows.values())
    assert table.in_order or list(table.uids) != sorted(uids)
    wanted = data.draw(st.sets(st.integers(1, 40)))
    assert table.having(wanted) == wanted & set(uids)
    runs = list(table.runs(wanted, 100))
    assert [table.uids[place] for run in runs for place in run] == [uid for uid in table.uids if uid in wanted]
    assert all(len(run) == 1 or table.stop(run[-1]) - table.starts[run[0]] <= 100 for run in runs)


def test_a_table_holds_few_octets_a_message() -> None:
    table = Table(1).added(Packed(uid, 10 * uid, 10 * uid + 5, 10 * uid + 10, 1, 2) for uid in range(1, 1001))
    columns = (table.uids, table.starts, table.headers, table.lengths, table.header_sums, table.whole_sums)
    assert sum(column.itemsize for column in columns) + len(table.sound) // len(table) == 29
