"""What header fields say, held in memory: as the messages say it, whoever adds and removes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mail import Address, Content
from mailserver.message import Fuzzy, Phrase, fuzzy
from mailserver.message.searchable import searchable
from mailserver.store import Mailbox, Store
from mailserver.store.searchfields import FieldTexts, field_text
from mailserver.store.shelf import Shelf
from tests.support.otherprocess import OtherProcess

ALICE = Address("alice", "example.test")
OCTETS = st.text("ab \u00e9", max_size=4).map(str.encode)


@given(st.lists(st.dictionaries(st.integers(1, 30), st.lists(OCTETS, max_size=3)), max_size=4), OCTETS.filter(len))
def test_those_are_found_that_have_it_in_one_field(added: list[dict[int, list[bytes]]], wanted: bytes) -> None:
    texts, values = FieldTexts(), dict[int, list[bytes]]()
    for more in added:
        new = {uid: each for uid, each in more.items() if uid not in values}
        before = texts
        texts = texts.added({uid: b"".join(value + b"\xff" for value in each) for uid, each in new.items()})
        assert before.having(wanted) == {uid for uid, each in values.items() if any(wanted in value for value in each)}
        values |= new
    assert texts.known == values.keys()
    assert texts.having(wanted) == {uid for uid, each in values.items() if any(wanted in value for value in each)}
    assert texts.octets >= sum(len(value) for each in values.values() for value in each)


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (b"", b""),
        (b"To: x\r\n\r\n", b""),
        (b"Subject: One\r\n\r\n", b"ONE\xff"),
        (b"Subject:\r\nTo: x\r\nSubject: two\r\nsubject: three\r\n\r\n", b"\xffTWO\xffTHREE\xff"),
        (b"X-Subject: no\r\nSubject: subject: yes\r\n\r\n", b"SUBJECT: YES\xff"),
    ],
)
def test_all_fields_of_a_name_are_taken(header: bytes, text: bytes) -> None:
    packed, anchor = b"xyz" + searchable(header).header, Phrase("", field="subject").anchor
    assert anchor is not None
    assert field_text(packed, 3, len(packed), anchor) == text


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Mailbox]:
    inbox = Store(tmp_path, hostname="mail.example.test").account(ALICE).open("INBOX")
    for number in range(6):
        inbox.append(Content(b"Subject: number %d\r\n\r\nbody\r\n" % (number % 3)))
    yield inbox
    inbox.close()


def having(mailbox: Mailbox, text: str) -> list[int]:
    return sorted(mailbox.search_text([each.uid for each in mailbox.messages()], Phrase(text, field="subject")).uids)


def test_the_second_search_reads_nothing(inbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    assert having(inbox, "NUMBER 1") == [2, 5]
    assert having(inbox, "number 2") == [3, 6], "what was packed meanwhile"
    monkeypatch.setattr(inbox._text, "_file", None)
    assert having(inbox, "number 2") == [3, 6]
    assert having(inbox, "number 0") == [1, 4]
    assert having(inbox, "number") == [1, 2, 3, 4, 5, 6]
    assert having(inbox, "body") == []


def test_messages_that_come_and_go_are_seen(inbox: Mailbox, tmp_path: Path) -> None:
    for _ in range(2):
        assert having(inbox, "number 1") == [2, 5]
    inbox.expunge([2])
    assert having(inbox, "number 1") == [5]
    assert inbox.append(Content(b"Subject: number 1\r\n\r\nbody\r\n")) == 7
    assert having(inbox, "number 1") == [5, 7]
    other = OtherProcess()
    try:
        elsewhere = other.open(tmp_path, ALICE, "INBOX")
        elsewhere.expunge([5])
        elsewhere.append(Content(b"Subject: number 1 more\r\n\r\nbody\r\n"))
        inbox.sync()
        assert having(inbox, "number 1") == [7, 8]
        assert having(inbox, "more") == [8]
    finally:
        other.close()


def test_each_mailbox_and_each_field_has_its_own(inbox: Mailbox, tmp_path: Path) -> None:
    assert having(inbox, "number 1") == [2, 5]
    account = Store(tmp_path, hostname="mail.example.test").account(ALICE)
    account.create("twin")
    twin = account.open("twin")
    twin.append(Content(b"Subject: another\r\nTo: number 1\r\n\r\n"))
    assert having(twin, "number 1") == []
    assert twin.search_text([1], Phrase("number 1", field="to")).uids == {1}


def test_an_empty_text_asks_for_the_field(inbox: Mailbox) -> None:
    uid = inbox.append(Content(b"To: x\r\n\r\nno subject\r\n"))
    for _ in range(2):
        assert having(inbox, "") == [1, 2, 3, 4, 5, 6]
        assert uid not in inbox.search_text([uid], Phrase("x", field="subject")).uids


def test_what_is_near_is_found_beside_what_is_held(inbox: Mailbox) -> None:
    inbox.append(Content("Subject: Stra\u00dfe numbr\r\nTo: number\r\n\r\n".encode()))
    near = fuzzy(Phrase("number", field="subject"))
    assert isinstance(near, Fuzzy)
    uids = [each.uid for each in inbox.messages()]
    for _ in range(3):
        scores = inbox.rate_text(uids, near).scores
        assert sorted(scores) == uids
        assert scores[7] < scores[1]
        assert having(inbox, "number") == [1, 2, 3, 4, 5, 6]
        assert having(inbox, "STRA\u00dfE") == having(inbox, "stra\u00dfe") == [7]


def test_nothing_is_held_where_there_is_no_room(inbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf: Shelf[FieldTexts] = Shelf(100)
    monkeypatch.setattr(inbox._text, "_shelf", shelf)
    for _ in range(3):
        assert having(inbox, "number 1") == [2, 5]
    assert shelf.octets == 0
