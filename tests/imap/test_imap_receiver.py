"""Lines and literal octets; bounded memory."""

from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.receiver import Announcement, Line, Octets, Receiver


def lines(receiver: Receiver) -> list[Line | Octets]:
    found = []
    while (item := receiver.next()) is not None:
        found.append(item)
    return found


def test_lines_end_with_crlf_or_lf() -> None:
    receiver = Receiver(100)
    receiver.feed(b"a NOOP\r\nb NOOP\nc NO")
    assert [line.text for line in lines(receiver) if isinstance(line, Line)] == [b"a NOOP", b"b NOOP"]
    assert receiver.buffered == 4


def test_an_announced_literal_is_seen() -> None:
    receiver = Receiver(100)
    receiver.feed(b"a LOGIN {3}\r\nb LOGIN {4+}\r\nc {}\r\nd {5} \r\ne {99999999999999999999999}\r\n")
    found = [line.announcement for line in lines(receiver) if isinstance(line, Line)]
    assert found == [Announcement(3, waits=True), Announcement(4, waits=False), None, None, None]


def test_expected_octets_are_handed_on_as_they_come() -> None:
    receiver = Receiver(100)
    receiver.expect(6)
    receiver.feed(b"ab\r")
    assert lines(receiver) == [Octets(b"ab\r", 3)]
    receiver.feed(b"\ncdef\r\n")
    assert lines(receiver) == [Octets(b"\ncd", 0), Line(b"ef\r\n", None, overlong=False)]


def test_an_endless_line_is_cut_and_keeps_its_head_and_its_literal() -> None:
    receiver = Receiver(1000)
    receiver.feed(b"tag LOGIN ")
    for _ in range(1000):
        receiver.feed(b"x" * 1000)
        assert receiver.next() is None
        assert receiver.buffered <= 2100
    receiver.feed(b" {7+}\r\n")
    (line,) = lines(receiver)
    assert isinstance(line, Line)
    assert line.overlong
    assert line.data.startswith(b"tag LOGIN xxx")
    assert line.announcement == Announcement(7, waits=False)


@given(st.integers(280, 310), st.lists(st.integers(1, 60), max_size=12), st.sampled_from([b"\n", b"\r\n"]))
def test_the_limit_holds_however_the_line_is_cut(length: int, cuts: list[int], end: bytes) -> None:
    data = b"t " + b"x" * (length - 2) + end + b"next\r\n"
    whole = Receiver(300)
    whole.feed(data)
    split = Receiver(300)
    found: list[Line | Octets] = []
    for cut in cuts:
        split.feed(data[:cut])
        data = data[cut:]
        found += lines(split)
    split.feed(data)
    assert found + lines(split) == lines(whole)


def test_clear_forgets_everything() -> None:
    receiver = Receiver(300)
    receiver.feed(b"x" * 1000)
    assert receiver.next() is None
    receiver.clear()
    receiver.feed(b"a NOOP\r\n")
    assert lines(receiver) == [Line(b"a NOOP\r\n", None, overlong=False)]
