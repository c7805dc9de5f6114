"""FETCH of sections and decoded parts against octets put together by hand, and against the standard library."""

from __future__ import annotations

import os
import re
from base64 import encodebytes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes
from pathlib import Path
from quopri import encodestring

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mailserver.sessions.imap import fetch
from tests.support.imap import Client, Server, Value, parse_responses

LONG = os.environ.get("MAILSERVER_LONG") == "1"
NAMES = (b"Subject", b"X", b"X-Y", b"x-y-z", b"Received", b"To")
VALUES = (
    b"",
    b" one",
    b" two words",
    b" folded\r\n line\r\n\tand more",
    b" =?utf-8?q?=C3=A9?=",
    b" \xc3\xa9\xff",
    b":",
)


@dataclass
class Entity:
    """A message or a part of one: exactly these octets. `inner` are a multipart's parts, or what a message holds."""

    type: bytes
    fields: list[tuple[bytes, bytes]]
    content: bytes = b""
    encoding: bytes = b""
    inner: list[Entity] = field(default_factory=list)
    around: tuple[bytes, bytes] = (b"", b"")
    boundary: bytes = b""

    @property
    def multipart(self) -> bool:
        return self.type.startswith(b"multipart/")

    @property
    def message(self) -> Entity | None:
        return self.inner[0] if self.inner and not self.multipart else None

    @property
    def all_fields(self) -> list[tuple[bytes, bytes]]:
        kind = b" " + self.type + (b'; boundary="%b"' % self.boundary if self.multipart else b"")
        encoding = [(b"Content-Transfer-Encoding", b" " + self.encoding)] if self.encoding else []
        return [*self.fields, (b"Content-Type", kind), *encoding]

    @property
    def header(self) -> bytes:
        return b"".join(b"%b:%b\r\n" % each for each in self.all_fields) + b"\r\n"

    @property
    def body(self) -> bytes:
        if self.message is not None:
            return self.message.octets
        if self.multipart:
            delimiter = b"--" + self.boundary
            parts = b"".join(delimiter + b"\r\n" + each.octets + b"\r\n" for each in self.inner)
            return self.around[0] + parts + delimiter + b"--" + self.around[1]
        if self.encoding == b"base64":
            return encodebytes(self.content).replace(b"\n", b"\r\n")
        if self.encoding == b"quoted-printable":
            return encodestring(self.content.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
        return self.content

    @property
    def octets(self) -> bytes:
        return self.header + self.body

    @property
    def decoded(self) -> bytes:
        return self.body if self.inner else self.content

    def walk(self) -> Iterator[Entity]:
        yield self
        for each in self.inner:
            yield from each.walk()


FIELDS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=6)
TEXT = st.lists(
    st.sampled_from([b"", b"line", b"-- ", b"--", b"a=b =3D", b"\xe9\xff", b"From x", b". dot", b"x" * 90]), max_size=5
).map(b"\r\n".join)


@st.composite
def leaves(draw: st.DrawFn) -> Entity:
    kind = draw(st.sampled_from([b"text/plain", b"text/html; charset=utf-8", b"image/png", b"application/x"]))
    encoding = draw(st.sampled_from([b"", b"7bit", b"8bit", b"base64", b"quoted-printable"]))
    return Entity(kind, draw(FIELDS), draw(TEXT), encoding)


@st.composite
def branches(draw: st.DrawFn, children: st.SearchStrategy[Entity]) -> Entity:
    if draw(st.integers(0, 2)) == 0:
        return Entity(b"message/rfc822", draw(FIELDS), inner=[draw(children)])
    around = draw(
        st.sampled_from([(b"", b""), (b"", b"\r\n"), (b"preamble\r\n", b"\r\nepilogue"), (b"\r\n", b"\r\n\r\n")])
    )
    kind = b"multipart/" + draw(st.sampled_from([b"mixed", b"alternative", b"related"]))
    return Entity(kind, draw(FIELDS), inner=draw(st.lists(children, min_size=1, max_size=3)), around=around)


def with_boundaries(message: Entity) -> Entity:
    for number, each in enumerate(message.walk()):
        each.boundary = b"b %d" % number
    return message


MESSAGES = st.recursive(leaves(), branches, max_leaves=7).map(with_boundaries)


def parts(message: Entity, before: str = "") -> Iterator[tuple[str, Entity]]:
    """By their numbers (RFC 3501 §6.4.5)."""
    inside = message.inner if message.multipart else [message]
    for place, part in enumerate(inside, 1):
        number = f"{before}{place}"
        yield number, part
        if part.message is not None:
            yield from parts(part.message, f"{number}.")
        elif part.multipart:
            yield from parts(part, f"{number}.")


def chosen(message: Entity, names: Sequence[bytes], *, without: bool) -> bytes:
    wanted = {name.lower() for name in names}
    picked = [each for each in message.all_fields if (each[0].lower() in wanted) is not without]
    return b"".join(b"%b:%b\r\n" % each for each in picked) + b"\r\n"


Items = dict[str, bytes | int | None]
"""What each item that can be asked for must give."""


def of_message(message: Entity, number: str, names: Sequence[bytes]) -> Items:
    before = f"{number}." if number else ""
    listed = b" ".join(names).decode()
    return {
        f"BODY[{before}HEADER]": message.header,
        f"BODY[{before}TEXT]": message.body,
        f"BODY[{before}HEADER.FIELDS ({listed})]": chosen(message, names, without=False),
        f"BODY[{before}HEADER.FIELDS.NOT ({listed})]": chosen(message, names, without=True),
    }


def items(message: Entity, names: Sequence[bytes]) -> Items:
    octets = message.octets
    found: Items = {"BODY[]": octets, "BINARY[]": octets, "BINARY.SIZE[]": len(octets), "RFC822": octets}
    found |= of_message(message, "", names)
    numbered = dict(parts(message))
    for number, part in numbered.items():
        found[f"BODY[{number}]"] = part.body
        found[f"BODY[{number}.MIME]"] = part.header
        found[f"BINARY[{number}]"] = part.decoded
        found[f"BINARY.SIZE[{number}]"] = len(part.decoded)
        if part.message is not None:
            found |= of_message(part.message, number, names)
        else:
            found |= dict.fromkeys(of_message(part, number, names))
    for number in (f"{len(message.inner) + 2}", "1.9.9"):
        if number not in numbered:
            found |= {f"BODY[{number}]": None, f"BODY[{number}.MIME]": None, f"BINARY[{number}]": None}
    return found


@pytest.fixture(scope="module", params=["at once", "streamed"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "streamed":
            patch.setattr(fetch, "BATCH_OCTETS", 100)
        client = Server(tmp_path_factory.mktemp("sections")).login()
        client.command("EXAMINE INBOX")  # so that nothing becomes seen, and no FLAGS are told
        yield client


def fetched(client: Client, asked: Sequence[str]) -> list[Value]:
    (response,) = parse_responses(_untagged(client.command(f"FETCH * ({' '.join(asked)})")))
    assert response[2] == b"FETCH" and isinstance(response[3], list)
    return response[3]


def _untagged(answer: bytes) -> bytes:
    answer, tagged, _ = answer.rpartition(b"t OK")
    assert tagged
    return re.sub(rb"\A(?:\* \d+ (?:EXISTS|RECENT)\r\n)+", b"", answer)


@settings(max_examples=600 if LONG else 25, phases=[Phase.generate])
@given(message=MESSAGES, names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True), data=st.data())
def test_sections_are_the_octets_that_were_put_in(
    client: Client, message: Entity, names: list[bytes], data: st.DataObject
) -> None:
    assert b" OK " in client.append("INBOX", message.octets)
    expected = items(message, names)
    for item, value in expected.items():
        # one by one, and with others: what is asked for together is answered in the order asked for
        partial = ""
        if not item.startswith(("BINARY.SIZE", "RFC822")) and data.draw(st.booleans(), label=item):
            first, count = data.draw(st.tuples(st.sampled_from([0, 1, 5, 10**6]), st.sampled_from([1, 3, 50, 10**9])))
            partial = f"<{first}.{count}>"
            value = value[first : first + count] if isinstance(value, bytes) else value
        peek = item.replace("BODY[", "BODY.PEEK[").replace("BINARY[", "BINARY.PEEK[") + partial
        label = item + (f"<{partial[1:].partition('.')[0]}>" if partial else "")
        name, given_value, name_again, size = fetched(client, [peek, "RFC822.SIZE"])
        assert (name, name_again, size) == (label.encode(), b"RFC822.SIZE", b"%d" % len(message.octets))
        assert given_value == (b"%d" % value if isinstance(value, int) else value), peek
    # choices of fields are copies, of which so many are held for one answer
    together = [item for item in expected if ".FIELDS" not in item]
    values = fetched(client, [item.replace("BODY[", "BODY.PEEK[") for item in together])
    assert values[::2] == [item.encode() for item in together]
    assert values[1::2] == [b"%d" % each if isinstance(each, int) else each for each in map(expected.get, together)]


@settings(max_examples=600 if LONG else 40)
@given(message=MESSAGES)
def test_the_standard_library_sees_the_same_parts(client: Client, message: Entity) -> None:
    """So that what is put together here is what everybody takes it for."""
    client.append("INBOX", message.octets)
    numbered = [*parts(message)]
    theirs = [*message_from_bytes(message.octets).walk()]
    ours = [*message.walk()]
    assert len(theirs) == len(ours)
    for our, their in zip(ours, theirs, strict=True):
        assert [name for name, _ in our.all_fields] == [name.encode() for name in their]
        if our.inner:
            continue
        number = next((number for number, part in numbered if part is our), None)
        if number is None:
            continue  # the text of a message that is no multipart is its part 1, which is the message itself
        (_, given_value) = fetched(client, [f"BINARY.PEEK[{number}]"])
        assert given_value == their.get_payload(decode=True)


def test_a_partial_range_may_not_be_of_nothing(tmp_path: Path) -> None:
    client = Server(tmp_path).login()
    client.append("INBOX", b"Subject: x\r\n\r\nbody\r\n")
    client.command("SELECT INBOX")
    for partial in ("<0.0>", "<-1.5>", "<0>", f"<{2**63}.1>", f"<0.{2**63}>", "<1.1", "<>"):
        assert client.command(f"FETCH 1 BODY[]{partial}").startswith(b"t BAD"), partial
    largest = 2**63 - 1
    answer = client.command(f"FETCH 1 BODY[]<{largest}.{largest}>")
    assert answer.startswith(b'* 1 FETCH (BODY[]<%d> "" FLAGS' % largest)
