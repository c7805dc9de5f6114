"""ENVELOPE and BODYSTRUCTURE are what Dovecot makes of the same messages, but for what `DIFFERENT` lists.

Messages without faults are read alike. Of others this server shows what their author most likely meant, and makes
nothing up; docs/design.md says more.
"""

from __future__ import annotations

import imaplib
import random
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.support import dovecot
from tests.support.dovecot import Dovecot
from tests.support.imap import Client, Server, Value, fetched, parse_responses

pytestmark = pytest.mark.skipif(bool(dovecot.missing()), reason=dovecot.missing())

COUNT = 120

Difference = tuple[str, Value, Value]
"""Where (`2.0.3`: of the third element the first, of that the fourth), what it is here, what it is there."""


def crlf(text: str) -> bytes:
    return text.encode().replace(b"\n", b"\r\n")


class Case(NamedTuple):
    """A message that the two read in different ways."""

    item: str
    message: bytes
    differences: list[Difference]


def envelope(line: str, *differences: Difference) -> Case:
    return Case("ENVELOPE", crlf(f"{line}\n\nx\n"), list(differences))


def structure(message: str, *differences: Difference) -> Case:
    return Case("BODYSTRUCTURE", crlf(message), list(differences))


def address(local: str, domain: str) -> Value:
    return [None, None, local.encode(), domain.encode()]


def text(octets: int, lines: int) -> Value:
    head: list[Value] = [b"text", b"plain", [b"charset", b"us-ascii"], None, None, b"7bit"]
    return [*head, b"%d" % octets, b"%d" % lines, None, None, None, None]


def mixed(*parts: Value) -> Value:
    return [*parts, b"mixed", [b"boundary", b"a"], None, None, None]


MIXED = 'Content-Type: multipart/mixed; boundary="a"\n\n'
A, B = address("a", "x.test"), address("b", "x.test")
NOBODY = address("MISSING_MAILBOX", "MISSING_DOMAIN")

DIFFERENT = {
    "what an address lacks is empty, not made up": envelope("To: joe", ("5.0.3", b"", b"MISSING_DOMAIN")),
    "empty elements of a list are no addresses": envelope("To: a@x.test,,b@x.test", ("5", [A, B], [A, NOBODY, B])),
    "an address without angle brackets may have a name before it": envelope(
        "To: Big Bug a@x.test",
        ("5.0.0", b"Big Bug", b"Big Bug a"),
        ("5.0.2", b"a", b"MISSING_MAILBOX"),
        ("5.0.3", b"x.test", b"MISSING_DOMAIN"),
    ),
    "addresses without a comma between them are two": envelope("To: a@x.test b@x.test", ("5", [A, B], [A])),
    "a name may have an @": envelope(
        "To: Anna @ Home <a@x.test>",
        ("5.0.0", b"Anna @ Home", None),
        ("5.0.2", b"a", b"Anna"),
        ("5.0.3", b"x.test", b"Home"),
    ),
    "of fields with the same name the first counts": envelope("Subject: 1\nSubject: 2", ("1", b"1", b"2")),
    "a folded line loses its line end only": envelope("Subject: 1\n \t 2", ("1", b"1 \t 2", b"1 2")),
    "a delimiter is the boundary and nothing more": structure(
        f"{MIXED}--a\n\none\n--ab\n\ntwo\n--a--\n", ("", mixed(text(16, 3)), mixed(text(3, 0), text(3, 0)))
    ),
    "a delimiter belongs to the outermost multipart that it fits": structure(
        f"{MIXED}--a\n{MIXED}--a\n\none\n--a--\n",
        ("", mixed(text(0, 0), text(3, 0)), mixed(mixed(text(3, 0)))),
    ),
    "a multipart without a delimiter is text": structure(f"{MIXED}body\n", ("", text(6, 1), mixed(text(0, 0)))),
    "the line end before a delimiter is the delimiter's, behind a header too": structure(
        f"{MIXED}--a\nContent-Type: message/rfc822\n\nSubject: x\n--a--\n", ("0.6", b"10", b"12"), ("0.9", b"0", b"1")
    ),
    "a value without quotes reaches to the semicolon": structure(
        "Content-Type: text/plain; name=a file.txt; charset=utf-8\n\n", ("2.1", b"a file.txt", b"a")
    ),
    "a malformed type is text": structure(
        "Content-Type: multipart/mixed boundary=a\n\nx\n",
        ("", text(3, 1), [b"", b"", None, None, None, b"7bit", b"3", None, None, None, None]),
    ),
    "of an encoding the first word counts": structure("Content-Transfer-Encoding: 8 bit\n\n", ("5", b"8", b"7bit")),
    "a carriage return alone ends no line": structure(
        "Subject: x\n\none\rtwo\n\r", ("6", b"10", b"12"), ("7", b"1", b"3")
    ),
}


# Messages without faults


class Maker:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.boundaries = 0

    def pick(self, *choices: str) -> str:
        return self.chance.choice(choices)

    def field(self, name: str, often: float, *values: str) -> str:
        return f"{name}: {self.pick(*values)}\n" if self.chance.random() < often else ""

    def address(self) -> str:
        return self.pick(
            "a@x.test",
            "Anna <a@x.test>",
            '"Anna, of \\"X\\"" <anna.b@x.test>',
            "=?utf-8?q?J=C3=B6rg?= <j@x.test>",
            "Jörg <j@x.test>",
            "c@x.test (Cara)",
            "<d@[192.0.2.1]>",
            '"odd local"@x.test',
            "<@one.test,@two.test:e@x.test>",
            "Anna Maria\n <am@x.test>",
        )

    def addresses(self) -> str:
        listed = ", ".join(self.address() for _ in range(self.chance.randrange(1, 4)))
        return self.pick(listed, listed, f"Team: {listed};", "undisclosed-recipients:;")

    def envelope(self) -> str:
        return (
            self.field("Date", 0.9, "Mon, 24 Nov 2025 01:44:57 +0000", "yesterday", "1 Jan 99 0:0 EST (x)")
            + self.field("Subject", 0.9, "", "one", "=?utf-8?q?=C3=84?= two", "Ä", "one\n two")
            + self.field("From", 0.9, self.address())
            + self.field("Sender", 0.2, self.address())
            + self.field("Reply-To", 0.2, self.addresses())
            + self.field("To", 0.9, self.addresses())
            + self.field("Cc", 0.5, self.addresses())
            + self.field("Bcc", 0.2, self.addresses())
            + self.field("In-Reply-To", 0.5, "<a@x.test>", "<a@x.test>\n <b@x.test>")
            + self.field("Message-ID", 0.9, "<m@x.test>")
        )

    def of_part(self) -> str:
        name = self.pick(
            "filename=a.txt",
            'filename="a \\"b\\".txt"',
            "filename*=utf-8''%C3%84.txt",
            'filename="Ä.txt"',
            'size=10;\n\tfilename="=?utf-8?q?=C3=84?="',
        )
        return (
            self.field("Content-ID", 0.3, "<part@x.test>")
            + self.field("Content-Description", 0.3, "a part (of it)")
            + self.field("Content-Disposition", 0.5, "inline", "attachment", f"attachment; {name}")
            + self.field("Content-MD5", 0.2, "Q2hlY2sgSW50ZWdyaXR5IQ==")
            + self.field("Content-Language", 0.2, "de", "de, en-GB")
            + self.field("Content-Location", 0.2, "http://x.test/a", "a/b.html")
        )

    def part(self, depth: int, start: str = "") -> str:
        """`start`: what is a message's own of its header."""
        encoding = self.field("Content-Transfer-Encoding", 0.7, "7bit", "8bit", "base64", "Quoted-Printable", "binary")
        body = "".join(f"line {'x' * self.chance.randrange(60)}\n" for _ in range(self.chance.randrange(5)))
        kinds = ["text", "text", "image", "none", *(["multipart", "multipart", "digest", "message"] if depth else [])]
        match self.pick(*kinds):
            case "text":
                kind = self.pick("text/plain", "TEXT/HTML; charset=utf-8", 'text/plain; charset="UTF-8"; format=flowed')
                return f"{start}Content-Type: {kind}\n{encoding}{self.of_part()}\n{body}"
            case "image":
                return f'{start}Content-Type: image/png; name="a b.png"\n{encoding}{self.of_part()}\n{body}'
            case "message":
                return f"{start}Content-Type: message/rfc822\n{self.of_part()}\n{self.message(depth - 1)}"
            case "multipart":
                kind = self.pick("mixed", "alternative", 'related; type="text/html"')
                return start + self.multipart(kind, [self.part(depth - 1) for _ in range(self.chance.randrange(1, 4))])
            case "digest":
                return start + self.multipart("digest", ["\n" + self.message(depth - 1) for _ in range(2)])
        return f"{start}\n{body}"

    def message(self, depth: int) -> str:
        return self.part(depth, self.envelope() + "X-Other: field\n")

    def multipart(self, kind: str, parts: list[str]) -> str:
        self.boundaries += 1
        boundary = f"=_{self.boundaries}_"
        inner = "".join(f"--{boundary}{self.pick('', ' ')}\n{part}\n" for part in parts)
        before, behind = self.pick("", "preamble\n"), self.pick("", "epilogue\n")
        head = f'Content-Type: multipart/{kind}; boundary="{boundary}"\n{self.of_part()}'
        return f"{head}\n{before}{inner}--{boundary}--\n{behind}"


def faultless(seed: int) -> list[bytes]:
    maker = Maker(seed)
    return [crlf(maker.message(3)) for _ in range(COUNT)]


# Both


class Both(NamedTuple):
    ours: Client
    theirs: imaplib.IMAP4


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    ours = Server(tmp_path_factory.mktemp("structures")).login()
    with Dovecot() as running:
        theirs = running.imap()
        yield Both(ours, theirs)
        theirs.logout()


def read(both: Both, messages: list[bytes], *items: str) -> Iterator[tuple[bytes, Value, Value]]:
    """Each message, and what the two make of it."""
    both.theirs.create("box")
    both.theirs.select("box")
    for command in ("CREATE box", "SELECT box"):
        both.ours.command(command)
    for number, message in enumerate(messages, 1):
        assert both.theirs.append("box", "", "", message)[0] == "OK"
        assert b"t OK" in both.ours.append("box", message)
        for item in items:
            answer = both.theirs.fetch(str(number), item)[1]
            raw = b"".join(piece if isinstance(piece, bytes) else b"\r\n".join(piece) for piece in answer if piece)
            ((_, theirs),) = parse_responses(raw + b"\r\n")
            assert isinstance(theirs, list)
            yield message, fetched(both.ours.command(f"FETCH {number} {item}"))[number][item.encode()], theirs[1]
    for command in ("CLOSE", "DELETE box"):
        both.ours.command(command)
    both.theirs.close()
    both.theirs.delete("box")


def compare(ours: Value, theirs: Value, place: str = "") -> Iterator[Difference]:
    """Words of which case does not matter are in lower case here."""
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from compare(one, other, f"{place}.{number}".strip("."))
    elif ours != theirs and not (isinstance(theirs, bytes) and ours == theirs.lower()):
        yield place, ours, theirs


def test_messages_without_faults(both: Both) -> None:
    for message, ours, theirs in read(both, faultless(1), "ENVELOPE", "BODY", "BODYSTRUCTURE"):
        assert list(compare(ours, theirs)) == [], message.decode()


@pytest.mark.parametrize("case", DIFFERENT.values(), ids=list(DIFFERENT))
def test_differences(both: Both, case: Case) -> None:
    ((_, ours, theirs),) = read(both, [case.message], case.item)
    assert list(compare(ours, theirs)) == case.differences
