"""Line ends on disk and on the wire."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.store import content
from mailserver.store.content import Form

OCTETS = st.lists(st.sampled_from([b"\r\n", b"\n", b"\r", b"a", b"bc", b"\0", b"."]), max_size=12).map(b"".join)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    places = sorted({min(place, len(data)) for place in at})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def wire_of(data: bytes, directory: Path) -> bytes:
    path = directory / "message"
    path.write_bytes(data)
    fd = content.open_message(str(path))
    try:
        return content.wire(fd)
    finally:
        os.close(fd)


def normalised(data: bytes) -> bytes:
    """What must come back: the message, but for bare LFs of one whose first line ends in a bare LF."""
    first = data.find(b"\n")
    if first >= 0 and not data[:first].endswith(b"\r"):
        return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return data


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("content")


@given(data=OCTETS, cuts=st.lists(st.integers(0, 20), max_size=4))
def test_nothing_is_lost_on_the_way_to_disk_and_back(directory, data, cuts):
    chunks = cut(data, cuts)
    plan = content.plan(chunks)
    on_disk = b"".join(content.stored(chunks, plan.form))
    assert len(on_disk) == plan.size
    back = wire_of(on_disk, directory)
    assert back == normalised(data)
    assert len(back) == plan.wire_size


@given(data=OCTETS, size=st.integers(1, 5))
def test_reading_does_not_depend_on_chunks(directory, data, size):
    whole = wire_of(data, directory)
    before = content.CHUNK
    content.CHUNK = size
    try:
        assert wire_of(data, directory) == whole
    finally:
        content.CHUNK = before


def test_plain_mail_is_stored_with_lf():
    data = b"Subject: x\r\n\r\nbody\r\n"
    plan = content.plan([data])
    assert plan.form is Form.LF
    assert b"".join(content.stored([data], plan.form)) == b"Subject: x\n\nbody\n"


def test_a_bare_cr_or_lf_keeps_the_message_verbatim():
    for data in (b"a\r\nb\nc\r\n", b"a\r\nb\rc\r\n", b"a\r\r\nb\r\n", b"a\r\nb\r"):
        plan = content.plan([data])
        assert plan.form is Form.VERBATIM, data
        assert b"".join(content.stored([data], plan.form)) == data


def test_files_of_other_programs_with_mixed_line_ends_never_get_a_second_cr(directory):
    assert wire_of(b"a\nb\r\nc\n", directory) == b"a\r\nb\r\nc\r\n"
    assert wire_of(b"a\r\nb\nc", directory) == b"a\r\nb\nc"


def test_a_symbolic_link_is_never_opened(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        content.open_message(str(tmp_path / "link"))


def test_a_fifo_or_directory_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    for name in ("fifo", "directory"):
        with pytest.raises(OSError, match="not a regular file"):
            content.open_message(str(tmp_path / name))


@given(OCTETS)
def test_small_messages_are_read_as_any_other(directory, data):
    expected = wire_of(data, directory)
    with content.SmallMessages(str(directory)) as small:
        assert small.read("message", len(expected)) == expected
        assert small.read("message", len(expected) + 1) is None
        assert small.read("message", len(expected) - 1) is None
        assert small.read("another", len(expected)) is None


def test_only_regular_files_are_small_messages(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with content.SmallMessages(str(tmp_path)) as small:
        assert small.read("secret", 6) == b"secret"
        for name, size in (("link", 6), ("directory", 0), ("fifo", 0)):
            assert small.read(name, size) is None
    with content.SmallMessages("/dev") as small:
        assert small.read("zero", 10) is None
        assert small.read("null", 10) is None
    with content.SmallMessages(str(tmp_path / "nowhere")) as small:
        assert small.read("secret", 6) is None
