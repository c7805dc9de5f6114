"""SEARCH with random keys, nested, against a plain predicate over what the messages say."""

from __future__ import annotations

import datetime
import os
import re
from base64 import encodebytes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.header import Header
from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.policy import SMTP
from quopri import encodestring
from random import Random
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.imap.responses import date_time
from mailserver.sessions.imap import search
from tests.support.imap import Client, Server, fetched

UTC = datetime.UTC
AS_WRITTEN = SMTP.clone(refold_source="none")  # else long words are broken, which makes other texts of them
LONG = os.environ.get("MAILSERVER_LONG") == "1"
WORDS = (
    *("Straße", "naïve", "ΣΊΣΥΦΟΣ", "日本語", "Привет", "needle", "hay", "O'Neill", "100%", "a", "İstanbul"),
    *("back\\slash", "star*", "(par)", "x" * 40),
)
CHARSETS = ("utf-8", "utf-16-le", "iso-8859-1", "koi8-r", "shift_jis", "us-ascii", "windows-1253")
FIELDS = ("From", "To", "Cc", "Bcc", "Subject", "X-Note")
FLAGS = ("\\Seen", "\\Answered", "\\Flagged", "\\Draft", "\\Deleted", "$Junk", "Work")
DAYS = tuple(datetime.date(1999, 12, 30) + datetime.timedelta(days) for days in range(6))


@dataclass(repr=False)
class Mail:
    """A message by what it means. `texts` are those of its text parts; `header` are whole fields."""

    fields: dict[str, str]
    texts: list[str]
    sent: datetime.date | None
    stored: float
    flags: frozenset[str]
    header: list[str]
    octets: bytes
    number: int = 0
    uid: int = 0
    modseq: int = 0


Holds = Callable[[Mail], bool]


def composed(random: Random) -> Mail:
    fields = {name: phrase(random) for name in FIELDS if random.random() < 0.6}
    texts: list[str] = []
    root = entity(random, texts, depth=0)
    for name, value in fields.items():
        address = name in FIELDS[:4]
        root[name] = encoded(random, value) + (" <x@example.test>" if address else "")
        fields[name] = f"{value} <x@example.test>" if address else value
    sent = None
    if random.random() < 0.8:
        sent = random.choice(DAYS)
        root["Date"] = (
            f"{sent:%a, %d %b %Y} 23:{random.randrange(60):02d}:00 {random.choice(('-1100', '+0000', '+1400'))}"
        )
    if random.random() < 0.2:
        root["X-Empty"] = fields["X-Empty"] = ""
    day = datetime.datetime.combine(random.choice(DAYS), datetime.time(random.choice((0, 12, 23)), 30), UTC)
    flags = frozenset(flag for flag in FLAGS if random.random() < 0.3)
    octets = root.as_bytes(policy=AS_WRITTEN)
    others = [f"{name}: {value}" for name, value in root.items() if name not in fields]
    return Mail(fields, texts, sent, day.timestamp(), flags, [f"{n}: {v}" for n, v in fields.items()] + others, octets)


def phrase(random: Random) -> str:
    return " ".join(random.choice(WORDS) for _ in range(random.randrange(1, 6)))


def encoded(random: Random, value: str) -> str:
    return Header(value, "utf-8", maxlinelen=random.choice((30, 76))).encode()


def entity(random: Random, texts: list[str], depth: int) -> MIMENonMultipart | MIMEMultipart:
    kind = random.random()
    if depth < 3 and kind < 0.25:
        multipart = MIMEMultipart(random.choice(("mixed", "alternative")))
        for _ in range(random.randrange(1, 4)):
            multipart.attach(entity(random, texts, depth + 1))
        return multipart
    if depth < 3 and kind < 0.35:
        return MIMEMessage(entity(random, texts, depth + 1))
    if kind < 0.45:
        part = MIMENonMultipart("application", "octet-stream")
        part.set_payload("needle")  # not a text: not searched
        return part
    text, charset = phrase(random), random.choice(CHARSETS)
    try:
        octets = text.encode(charset)
    except UnicodeEncodeError:
        charset, octets = "utf-8", text.encode()
    part = MIMENonMultipart("text", random.choice(("plain", "html")), charset=charset)
    encode_transfer(random, part, octets)
    texts.append(text)
    return part


def encode_transfer(random: Random, part: MIMENonMultipart, octets: bytes) -> None:
    way = random.choice(("base64", "quoted-printable"))
    part["Content-Transfer-Encoding"] = way
    part.set_payload((encodebytes if way == "base64" else encodestring)(octets).decode("ascii"))


def folded(text: str) -> str:
    """By i;unicode-casemap (RFC 5051): each character in title case, if that is one, and decomposed."""
    titles = ((character, character.title()) for character in " ".join(text.split()))
    return normalize("NFKD", "".join(title if len(title) == 1 else character for character, title in titles))


def has(hay: str, needle: str) -> bool:
    return folded(needle) in folded(hay)


# keys

Written = tuple[list[bytes], Holds]
"""What a client writes, literals as pieces of their own, and what that means."""


def fixed(name: str, holds: Holds) -> Written:
    return [name.encode()], holds


FIXED = [
    fixed("ALL", lambda mail: True),
    *(fixed(flag[1:].upper(), lambda mail, flag=flag: flag in mail.flags) for flag in FLAGS[:5]),
    *(fixed(f"UN{flag[1:].upper()}", lambda mail, flag=flag: flag not in mail.flags) for flag in FLAGS[:5]),
    fixed("KEYWORD $jUNK", lambda mail: "$Junk" in mail.flags),
    fixed("UNKEYWORD work", lambda mail: "Work" not in mail.flags),
    fixed("KEYWORD $none", lambda mail: False),
]
TEXT_KEYS = {
    **{name.upper(): lambda mail, text, name=name: has_field(mail, name, text) for name in FIELDS[:5]},
    "HEADER X-Note": lambda mail, text: has_field(mail, "X-Note", text),
    "HEADER x-empty": lambda mail, text: has_field(mail, "X-Empty", text),
    "BODY": lambda mail, text: any(has(each, text) for each in mail.texts),
    "TEXT": lambda mail, text: any(has(each, text) for each in [*mail.texts, *mail.header]),
}


def has_field(mail: Mail, name: str, text: str) -> bool:
    return name in mail.fields and has(mail.fields[name], text)


def written_text(name: str, text: str, way: int) -> Written:
    octets = text.encode()
    holds = TEXT_KEYS[name]
    quoted = b'"' + re.sub(rb'(["\\])', rb"\\\1", octets) + b'"'
    string = [name.encode() + b" " + quoted] if way else [name.encode() + b" {%d+}\r\n" % len(octets) + octets]
    return string, lambda mail: holds(mail, text)


NEEDLES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=2).map(" ".join)
TEXTS = st.one_of(
    NEEDLES,
    NEEDLES.map(str.upper),
    NEEDLES.map(str.lower),
    NEEDLES.map(lambda text: text[1:-1].strip()),
    st.sampled_from(["", "x@example", "text/plain", "nowhere", "base64", "subject: a"]),
)
DATES: dict[str, Callable[[datetime.date, datetime.date], bool]] = {
    "BEFORE": lambda day, given: day < given,
    "ON": lambda day, given: day == given,
    "SINCE": lambda day, given: day >= given,
}


def stored_on(mail: Mail) -> datetime.date:
    return datetime.datetime.fromtimestamp(mail.stored, UTC).date()


def dated(relation: str, sent: bool, day: datetime.date, quoted: bool) -> Written:
    compare = DATES[relation]
    text = f"{day.day}-{day:%b-%Y}"
    key = f"{'SENT' if sent else ''}{relation} " + (f'"{text}"' if quoted else text)
    if sent:
        return fixed(key, lambda mail: mail.sent is not None and compare(mail.sent, day))
    return fixed(key, lambda mail: compare(stored_on(mail), day))


RANGES = st.lists(
    st.tuples(st.sampled_from([*range(1, 45), 0]), st.sampled_from([*range(1, 45), 0])), min_size=1, max_size=4
)


def in_set(ranges: list[tuple[int, int]], by_uid: bool, mails: list[Mail]) -> Written:
    """0 is `*`."""
    largest = mails[-1].uid if by_uid else len(mails)
    if not by_uid:
        ranges = [(min(first, largest), min(last, largest)) for first, last in ranges]
    text = ",".join(f"{first or '*'}:{last or '*'}" if first != last else f"{first or '*'}" for first, last in ranges)
    spans = [sorted((first or largest, last or largest)) for first, last in ranges]

    def holds(mail: Mail) -> bool:
        number = mail.uid if by_uid else mail.number
        return any(first <= number <= last for first, last in spans)

    return fixed(f"UID {text}" if by_uid else text, holds)


def keys(mails: list[Mail]) -> st.SearchStrategy[Written]:
    sizes = [size + more for size in (len(mail.octets) for mail in mails) for more in (-1, 0, 1)]
    modseqs = [modseq + more for modseq in (mail.modseq for mail in mails) for more in (0, 1)]
    leaf = st.one_of(
        st.sampled_from(FIXED),
        st.builds(written_text, st.sampled_from(list(TEXT_KEYS)), TEXTS, st.integers(0, 1)),
        st.builds(written_text, st.sampled_from(list(TEXT_KEYS)), TEXTS, st.integers(0, 1)),
        st.builds(dated, st.sampled_from(list(DATES)), st.booleans(), st.sampled_from(DAYS), st.booleans()),
        st.sampled_from(sizes).map(lambda size: fixed(f"LARGER {size}", lambda mail: len(mail.octets) > size)),
        st.sampled_from(sizes).map(lambda size: fixed(f"SMALLER {size}", lambda mail: len(mail.octets) < size)),
        st.sampled_from(modseqs).map(lambda modseq: fixed(f"MODSEQ {modseq}", lambda mail: mail.modseq >= modseq)),
        st.builds(in_set, RANGES, st.booleans(), st.just(mails)),
    )
    return st.recursive(leaf, nested, max_leaves=10)


def nested(inner: st.SearchStrategy[Written]) -> st.SearchStrategy[Written]:
    return st.one_of(
        inner.map(lambda key: ([b"NOT ", *key[0]], lambda mail: not key[1](mail))),
        st.tuples(inner, inner).map(
            lambda both: (
                [b"OR ", *both[0][0], b" ", *both[1][0]],
                lambda mail: both[0][1](mail) or both[1][1](mail),
            )
        ),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda each: (
                [b"(", *_joined([key for key, _ in each]), b")"],
                lambda mail: all(holds(mail) for _, holds in each),
            )
        ),
    )


def _joined(written: list[list[bytes]]) -> Iterator[bytes]:
    for place, key in enumerate(written):
        if place:
            yield b" "
        yield from key


# the mailbox


@dataclass
class Filled:
    client: Client
    mails: list[Mail]


def fill(server: Server) -> Filled:
    random = Random(3501)
    client = server.login()
    mails = [composed(random) for _ in range(40)]
    for mail in mails:
        flags = " ".join(mail.flags)
        assert b"t OK" in client.append("INBOX", mail.octets, flags, date_time(mail.stored).decode() + " ")
    client.command("SELECT INBOX")
    for uid in (2, 3, 17, 33):  # so that numbers are no UIDs
        client.command(f"UID STORE {uid} +FLAGS.SILENT (\\Deleted)")
        client.command(f"UID EXPUNGE {uid}")
    client.command("STORE 5:9 -FLAGS (\\Answered)")
    kept = [mail for uid, mail in enumerate(mails, 1) if uid not in (2, 3, 17, 33)]
    for number, items in fetched(client.command("FETCH 1:* (UID FLAGS MODSEQ RFC822.SIZE)")).items():
        mail = kept[number - 1]
        mail.number, mail.uid, (modseq,) = number, int(items[b"UID"]), items[b"MODSEQ"]
        mail.modseq = int(modseq)
        mail.flags = frozenset(flag.decode() for flag in items[b"FLAGS"])
        assert int(items[b"RFC822.SIZE"]) == len(mail.octets)
    return Filled(client, kept)


@pytest.fixture(scope="module", params=["packed", "unpacked"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    server = Server(tmp_path_factory.mktemp("model"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "FIRST_BATCH", 7)
        patch.setattr(search, "GROWTH", 1)
        if request.param == "unpacked":
            patch.setattr(server.account._search, "append", lambda *_: None)
        yield fill(server)


@settings(max_examples=2000 if LONG else 150)
@given(data=st.data(), by_uid=st.booleans(), charset=st.sampled_from([b"", b"CHARSET UTF-8 ", b'charset "utf-8" ']))
def test_search_finds_what_a_plain_predicate_finds(
    filled: Filled, data: st.DataObject, by_uid: bool, charset: bytes
) -> None:
    written, holds = data.draw(keys(filled.mails))
    wanted = [mail.uid if by_uid else mail.number for mail in filled.mails if holds(mail)]
    answer = filled.client.lines((b"UID SEARCH " if by_uid else b"SEARCH ") + charset + b"".join(written))
    found = next(line for line in answer if line.startswith(b"SEARCH"))
    numbers, _, modseq = found.removeprefix(b"SEARCH").partition(b" (MODSEQ ")
    assert [int(number) for number in numbers.split()] == wanted, b"".join(written).decode()
    if modseq:
        here = [mail.modseq for mail in filled.mails if (mail.uid if by_uid else mail.number) in wanted]
        assert int(modseq.rstrip(b")")) == max(here)
