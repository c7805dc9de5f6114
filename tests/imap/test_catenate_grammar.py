"""APPEND with CATENATE in the engine (RFC 4469 §5), with MULTIAPPEND and REPLACE."""

from __future__ import annotations

import pytest

from mailserver.imap import (
    AppendEnded,
    AppendNext,
    AppendPart,
    AppendStarted,
    Event,
    Limits,
    LiteralChunk,
    Rejected,
    SequenceSet,
    ServerConnection,
    State,
)
from mailserver.imap.commands import Append, CatPart

SMALL = Limits(line=1500, literal=3000, message=5000)
NONE: frozenset[str] = frozenset()


def put_together(mailbox: str = "x", *flags: str) -> Append:
    return Append(mailbox, frozenset(flags), None, None)


def url(text: str) -> AppendPart:
    return AppendPart("a", CatPart(url=text))


def text(size: int) -> AppendPart:
    return AppendPart("a", CatPart(size))


class Driver:
    """Accepts all of an APPEND, or what `until` allows; everything else is done at once."""

    def __init__(self, *, until: int = 10_000) -> None:
        self.engine = ServerConnection(SMALL)
        self.engine.state = State.SELECTED
        self.left = until
        self.events: list[Event] = []
        self.sent = b""

    def feed(self, data: bytes) -> Driver:
        self.engine.receive_data(data)
        while (event := self.engine.next_event()) is not None:
            self.events.append(event)
            match event:
                case Rejected():
                    self.engine.reject(event)
                case AppendStarted(tag) | AppendNext(tag) | AppendPart(tag):
                    self.left -= 1
                    if self.left < 0:
                        self.engine.done(tag, "NO", "refused")
                    else:
                        self.engine.accept()
                case LiteralChunk():
                    pass
                case _:
                    self.engine.done(event.tag, "OK", "done")
        self.sent += self.engine.data_to_send()
        return self


def test_urls_and_texts_come_one_by_one() -> None:
    driver = Driver().feed(b'a APPEND x (\\Seen) CATENATE (URL "/a;UID=1" TEXT {3}\r\n')
    assert driver.events == [AppendStarted("a", put_together("x", "\\Seen")), url("/a;UID=1"), text(3)]
    assert driver.sent == b"+ OK\r\n"
    driver.feed(b"abc URL b URL c TEXT {2}\r\n")
    assert driver.events[3:] == [LiteralChunk(b"abc"), url("b"), url("c"), text(2)]
    driver.feed(b"de)\r\nb NOOP\r\n")
    assert driver.events[7:-1] == [LiteralChunk(b"de"), AppendEnded("a")]
    assert driver.sent.endswith(b"a OK done\r\nb OK done\r\n")


def test_urls_alone_need_no_literal() -> None:
    driver = Driver().feed(b'a append x catenate (url b URL "c d")\r\n')
    assert driver.events == [AppendStarted("a", put_together()), url("b"), url("c d"), AppendEnded("a")]
    assert driver.sent == b"a OK done\r\n"


def test_a_url_may_be_a_literal_and_so_may_the_mailbox() -> None:
    driver = Driver().feed(b"a APPEND {1+}\r\nx CATENATE (URL {3+}\r\nb\\c URL {2}\r\n")
    assert driver.sent == b"+ OK\r\n"
    driver.feed(b"de TEXT {1+}\r\n! URL {1+}\r\nf)\r\n")
    assert driver.events == [
        AppendStarted("a", put_together()), url("b\\c"), url("de"), text(1), LiteralChunk(b"!"), url("f"),
        AppendEnded("a"),
    ]  # fmt: skip


def test_a_mailbox_may_be_called_url() -> None:
    driver = Driver().feed(b"a APPEND URL {3+}\r\nabc\r\n")
    assert driver.events == [AppendStarted("a", Append("URL", NONE, None, 3)), LiteralChunk(b"abc"), AppendEnded("a")]


def test_parts_in_utf8() -> None:
    """RFC 6855 §4: `UTF8 (literal8)`, whose bracket follows the literal."""
    driver = Driver().feed(b"a APPEND x CATENATE (UTF8 (~{1}\r\n")
    assert driver.events == [AppendStarted("a", put_together()), text(1)]
    driver.feed(
        b"b) URL {1+}\r\nc utf8 (~{1+}\r\nd)) UTF8 (~{2+}\r\nef) CATENATE (UTF8 (~{1+}\r\ng) TEXT {1+}\r\nh)\r\n"
    )
    assert driver.events[2:] == [
        LiteralChunk(b"b"), url("c"), text(1), LiteralChunk(b"d"),
        AppendNext("a", Append("x", NONE, None, 2, binary=True)), LiteralChunk(b"ef"),
        AppendNext("a", put_together()), text(1), LiteralChunk(b"g"), text(1), LiteralChunk(b"h"), AppendEnded("a"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "refused"),
    [
        (b"UTF8 (~{1+}\r\n!", b"a BAD ')' expected"),
        (b"UTF8 (~{1+}\r\n!)", b"a BAD space expected"),
        (b"UTF8 (~{1+}\r\n!)))", b"a BAD"),
        (b"UTF8 (~{1+}\r\n! URL b)", b"a BAD ')' expected"),
        (b"UTF8 (~{1+}\r\n! URL {1+}\r\nb)", b"a BAD ')' expected"),
        (b"UTF8 (~{1+}\r\n!)URL b)", b"a BAD space expected"),
        (b"TEXT {1+}\r\n!))", b"a BAD"),
        (b"UTF8 ({1+}\r\n!))", b"a BAD"),
        (b"UTF8 ~{1+}\r\n!)", b"a BAD"),
        (b'UTF8 (~"!"))', b"a BAD literal expected"),
        (b"UTF8 (~{1+}\r\n\0))", b"a NO [UNKNOWN-CTE]"),
        (b"UTF8 (~{6000+}\r\n" + b"x" * 6000 + b"))", b"a NO [TOOBIG]"),
    ],
)
def test_odd_parts_in_utf8(parts: bytes, refused: bytes) -> None:
    sent = Driver().feed(b"a APPEND x CATENATE (" + parts + b"\r\nb NOOP\r\n").sent
    assert sent.startswith(refused)
    assert sent.endswith(b"b OK done\r\n")


def test_two_spaces_between_messages_also_here() -> None:
    driver = Driver().feed(b"a APPEND x CATENATE (TEXT {1+}\r\nb)  (\\Seen) {1+}\r\nc  CATENATE (URL d)\r\n")
    assert driver.sent == b"a OK done\r\n"


def test_a_text_may_be_empty() -> None:
    driver = Driver().feed(b"a APPEND x CATENATE (TEXT {0+}\r\n URL b TEXT {0}\r\n)\r\n")
    assert driver.events == [AppendStarted("a", put_together()), text(0), url("b"), text(0), AppendEnded("a")]


def test_several_messages_of_both_kinds() -> None:
    driver = Driver().feed(
        b"a APPEND x CATENATE (URL b) (\\Seen) CATENATE (TEXT {1+}\r\nc URL d) (\\Draft) {2+}\r\nef"
        b" CATENATE (URL g) {1+}"
        b"\r\nh CATENATE (URL i)\r\n"
    )
    assert driver.events == [
        AppendStarted("a", put_together()), url("b"), AppendNext("a", put_together("x", "\\Seen")), text(1),
        LiteralChunk(b"c"), url("d"), AppendNext("a", Append("x", frozenset({"\\Draft"}), None, 2)),
        LiteralChunk(b"ef"), AppendNext("a", put_together()), url("g"),
        AppendNext("a", Append("x", NONE, None, 1)), LiteralChunk(b"h"), AppendNext("a", put_together()), url("i"),
        AppendEnded("a"),
    ]  # fmt: skip


def test_replace_takes_one_that_is_put_together() -> None:
    driver = Driver().feed(b"a UID REPLACE 4 x CATENATE (URL b TEXT {1+}\r\nc)\r\n")
    first = Append("x", NONE, None, None, replaced=SequenceSet.parse("4"), by_uid=True)
    assert driver.events == [AppendStarted("a", first), url("b"), text(1), LiteralChunk(b"c"), AppendEnded("a")]
    for more in (b" CATENATE (URL b)", b" {1+}\r\n!"):
        refused = Driver().feed(b"a REPLACE 4 x CATENATE (URL b)" + more + b"\r\nb NOOP\r\n")
        assert refused.sent.startswith(b"a BAD ")
        assert refused.sent.endswith(b"b OK done\r\n")
        refused = Driver().feed(b"a REPLACE 4 x CATENATE (TEXT {1+}\r\n!)" + more + b"\r\nb NOOP\r\n")
        assert refused.sent.startswith(b"a BAD ")
        assert refused.sent.endswith(b"b OK done\r\n")


@pytest.mark.parametrize("allowed", range(5))
@pytest.mark.parametrize("plus", [b"", b"+"])
def test_a_refusal_anywhere_takes_the_rest_along(allowed: int, plus: bytes) -> None:
    driver = Driver(until=allowed)
    for piece in (
        b"a APPEND x CATENATE (URL b TEXT {3%b}\r\n" % plus,
        b"cde",
        b" URL f TEXT {3%b}\r\n" % plus,
        b"ghi",
        b")\r\n",
    ):
        if b"NO refused" in driver.sent and not plus:
            break  # a client that waits sends nothing more
        driver.feed(piece)
    driver.feed(b"b NOOP\r\n")
    assert driver.sent.replace(b"+ OK\r\n", b"") == b"a NO refused\r\nb OK done\r\n"


@pytest.mark.parametrize(
    "command",
    [
        b"a APPEND x CATENATE ()\r\n",
        b"a APPEND x CATENATE (URL)\r\n",
        b"a APPEND x CATENATE (URL b\r\n",
        b"a APPEND x CATENATE (URL  b)\r\n",
        b"a APPEND x CATENATE ( URL b)\r\n",
        b"a APPEND x CATENATE (URL b )\r\n",
        b"a APPEND x CATENATE (URL b),\r\n",
        b"a APPEND x CATENATE (TEXT b)\r\n",
        b'a APPEND x CATENATE (TEXT "b")\r\n',
        b"a APPEND x CATENATE (FILE b)\r\n",
        b"a APPEND x CATENATE URL b\r\n",
        b"a APPEND x CATENATE (TEXT ~{3+}\r\nabc)\r\n",
        b"a APPEND x CATENATE (TEXT {3+}\r\nabc\r\n",
        b"a APPEND x CATENATE (TEXT {3+}\r\nabcURL b)\r\n",
        b"a APPEND x CATENATE (TEXT {3+}\r\nabc) )\r\n",
        b"a APPEND x CATENATE (TEXT {3+}\r\nabc) URL b\r\n",
        b"a APPEND x CATENATE (TEXT {3+}\r\nabc URL {1+}\r\nb\r\n",
        b"a APPEND x CATENATE (TEXT {3+}\r\nabcURL {1+}\r\nb)\r\n",
        b"a APPEND x {3+}\r\nabc URL {1+}\r\nb\r\n",
        b"a APPEND x {3+}\r\nabc)\r\n",
        b"a APPEND x CATENATE {3+}\r\nabc\r\n",
        b"a APPEND x CATENATE (URL {3+}\r\nab\0)\r\n",
        b"a APPEND x CATENATE (TEXT {3+}\r\nabc URL {3001+}\r\n" + b"u" * 3001 + b")\r\n",
        b"a APPEND x CATENATE (TEXT {3+}\r\nabc" + b" URL {1501+}\r\n%b" % (b"u" * 1501) * 2 + b")\r\n",
        b"a APPEND x CATENATE (TEXT {3+}\r\nabc" + b" URL b" * 500 + b")\r\n",
        b"a APPEND x CATENATE (URL b" + b" URL b" * 500 + b" TEXT {3+}\r\nabc)\r\n",
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_as_a_whole(command: bytes) -> None:
    driver = Driver().feed(command + b"b NOOP\r\n")
    assert driver.sent.startswith(b"a BAD "), driver.sent
    assert driver.sent.endswith(b"b OK done\r\n")
    assert driver.sent.count(b"\r\n") == 2


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (b"a APPEND x CATENATE (TEXT {5001+}\r\n" + b"y" * 5001 + b")\r\n", b"a NO [TOOBIG]"),
        (b"a APPEND x CATENATE (TEXT {3+}\r\na\0c)\r\n", b"a NO [CANNOT] a message must not have NUL"),
        (b"a APPEND x CATENATE (TEXT {3+}\r\na\0c URL {3+}\r\nabc)\r\n", b"a NO [CANNOT] a message must not have NUL"),
        (b"a APPEND x CATENATE (TEXT {5000+}\r\n" + b"y" * 5000 + (b" TEXT {5000+}\r\n" + b"y" * 5000) * 10 + b")\r\n",
         b"a NO [TOOBIG]"),
    ],
)  # fmt: skip
def test_too_big_and_nul(command: bytes, answer: bytes) -> None:
    driver = Driver().feed(command + b"b NOOP\r\n")
    assert driver.sent.startswith(answer), driver.sent
    assert driver.sent.endswith(b"b OK done\r\n")


def test_so_many_messages_are_not_kept() -> None:
    """Each takes memory until the end, though it has no literal."""
    driver = Driver()
    driver.feed(b"a APPEND x CATENATE (TEXT {1+}\r\nb)")
    driver.feed((b" CATENATE (URL b)" * 80 + b" CATENATE (TEXT {1+}\r\nb)") * 20 + b"\r\nb NOOP\r\n")
    assert b"a NO [LIMIT] " in driver.sent


def test_octet_by_octet_gives_the_same_events() -> None:
    conversation = (
        b"a APPEND {1+}\r\nx CATENATE (URL b TEXT {3+}\r\nab) URL {2+}\r\nde) (\\Seen) {2+}\r\nef\r\n"
        b"a APPEND x CATENATE (TEXT {3+}\r\nabc URL (\r\na APPEND x CATENATE (TEXT {3+}\r\na\0c)\r\n"
    )
    whole, split = Driver().feed(conversation), Driver()
    for octet in conversation:
        split.feed(bytes([octet]))

    def kinds(driver: Driver) -> list[Event]:
        return [event for event in driver.events if not isinstance(event, LiteralChunk)]

    assert kinds(split) == kinds(whole)
    assert split.sent == whole.sent
    assert len(kinds(whole)) == 12
