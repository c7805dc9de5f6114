"""Which entries a filter selects: what SQL finds is what a plain look at each entry finds."""

from __future__ import annotations

import random
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mail import Address, Content, Envelope, Recipient, Reply
from mailserver.mail.address import domain_in_ascii
from mailserver.queue import Administration, Attempted, Entry, Filter, NewEntry, Queue, QueuedRecipient, Standing
from mailserver.queue.filter import EVERYTHING, parse_address_pattern, parse_sender_pattern

NOW = 1_700_000_000.0
LOCALS = ("alice", "Alice", "bob", "b_b", "b%b", "a!b", "news-1", "a b", "a*b", "é")
DOMAINS = ("example.org", "a.example.org", "example.net", "xexample.org", "ex_mple.org", "b\u00fccher.example",
           "xn--bcher-kva.example", "mail.b\u00fccher.example", "[192.0.2.1]")  # fmt: skip
REPLIES = (
    None,
    Reply.of(450, "4.2.1", "Mailbox Busy"),
    Reply(451, "100% full_disk"),
    Reply.of(421, "4.7.0", "Too many\nconnections, É!"),
)
PATTERNS = ("alice@example.org", "ALICE@EXAMPLE.ORG", "@example.org", "*@example.org", "@*.example.org", "b_b@*", "*",
            "b%b@example.org", "%@example.org", "news-*", "*-1@*.org", "@b\u00dccher.example",
            "*@XN--bcher-kva.example", "@*.xn--bcher-kva.example", "a!b@*", '"a b"@*', "a*b@*", "é@example.net",
            "@[192.0.2.1]", "@ex_mple.org")  # fmt: skip


def _made() -> list[NewEntry]:
    chance = random.Random(5)

    def address() -> Address:
        return Address(chance.choice(LOCALS), chance.choice(DOMAINS))

    return [
        NewEntry(
            Envelope(
                chance.choice((None, address(), address(), address())),
                tuple(Recipient(address()) for _ in range(chance.randint(1, 3))),
            ),
            Content(b"x\r\n"),
            b"",
            NOW - chance.choice((0.0, 60.0, 3600.0, 7200.0, 86400.0)),
        )
        for _ in range(250)
    ]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Administration, list[Entry]]]:
    directory: Path = tmp_path_factory.mktemp("filter") / "queue"
    chance = random.Random(6)
    queue = Queue(directory)
    ids = queue.add(_made())
    queue.record(
        [
            Attempted(
                str(id),
                keep=[replace(r, attempts=1, reply=chance.choice(REPLIES)) for r in queue.show(str(id)).recipients],
            )
            for id in ids
        ]
    )
    db = sqlite3.connect(directory / "queue.db")
    for id in ids:
        state, lease = chance.choice(
            (("queued", None), ("queued", "t"), ("held", None), ("held", "t"), ("corrupt", None))
        )
        db.execute("UPDATE entry SET state = ?, lease = ? WHERE id = ?", (state, lease, id))
    db.commit()
    db.close()
    administration = queue.administration
    administration._clock = lambda: NOW
    yield administration, queue.list()
    queue.close()


def _folded(text: str) -> str:
    return "".join(c.lower() if c.isascii() else c for c in text)


def _fits_pattern(address: Address, pattern: str) -> bool:
    local, at, domain = pattern.rpartition("@")
    if not at:
        wanted, found = domain, str(address)
    else:
        labels = [label if "*" in label else domain_in_ascii(label) or label for label in domain.lower().split(".")]
        wanted = f"{local or '*'}@{'.'.join(labels)}"
        found = str(Address(address.local, domain_in_ascii(address.domain) or address.domain))
    expression = ".*".join(re.escape(_folded(part)) for part in wanted.split("*"))
    return re.fullmatch(expression, _folded(found), re.DOTALL) is not None


def _fits_recipient(recipient: QueuedRecipient, filter: Filter) -> bool:
    domain = domain_in_ascii(recipient.address.domain)
    wanted = domain_in_ascii((filter.domain or "").removeprefix(".").lower())
    assert domain is not None
    return (
        (filter.recipient is None or _fits_pattern(recipient.address, filter.recipient))
        and (
            filter.domain is None
            or domain == wanted
            or (filter.domain.startswith(".") and domain.endswith(f".{wanted}"))
        )
        and (
            filter.error is None
            or (recipient.reply is not None and _folded(filter.error) in _folded(str(recipient.reply)))
        )
    )


def _fits(entry: Entry, filter: Filter) -> bool:
    age = NOW - entry.created
    if filter.sender == "<>":
        sender = entry.sender is None and entry.standing is not Standing.CORRUPT
    else:
        sender = filter.sender is None or (entry.sender is not None and _fits_pattern(entry.sender, filter.sender))
    return (
        sender
        and (not filter.ids or entry.id in filter.ids)
        and (filter.standing is None or entry.standing is filter.standing)
        and (filter.older_than is None or age >= filter.older_than)
        and (filter.newer_than is None or age < filter.newer_than)
        and any(_fits_recipient(each, filter) for each in entry.recipients)
    )


_ages = st.none() | st.sampled_from((0.0, 60.0, 61.0, 3600.0, 90000.0))


@given(
    sender=st.none() | st.sampled_from((*PATTERNS, "<>")),
    recipient=st.none() | st.sampled_from(PATTERNS),
    domain=st.none()
    | st.sampled_from(("example.org", ".EXAMPLE.org", "B\u00fccher.example", ".xn--bcher-kva.example", "%", ".org")),
    older_than=_ages,
    newer_than=_ages,
    standing=st.none() | st.sampled_from(Standing),
    error=st.none()
    | st.sampled_from(("busy", "4.2.1 m", "450 4", "0% f", "l_d", "%", "_", "many / 4.7.0 Conn", "É", "!")),
    some=st.none() | st.sets(st.integers(0, 249), min_size=1),
)
def test_what_sql_selects_is_what_a_look_at_each_entry_finds(
    pool: tuple[Administration, list[Entry]],
    sender: str | None,
    recipient: str | None,
    domain: str | None,
    older_than: float | None,
    newer_than: float | None,
    standing: Standing | None,
    error: str | None,
    some: set[int] | None,
) -> None:
    administration, entries = pool
    ids = tuple(entries[number].id for number in some or ())
    filter = Filter(ids, sender, recipient, domain, older_than, newer_than, standing, error)
    expected = [entry.id for entry in entries if _fits(entry, filter)]
    assert [entry.id for entry in administration.entries(filter)] == expected
    assert sum(administration.counts(filter).values()) == len(expected)
    assert [entry.id for entry in administration.entries(filter, limit=3)] == expected[:3]


def test_every_criterion_of_the_property_selects_some_but_not_all(pool: tuple[Administration, list[Entry]]) -> None:
    administration, entries = pool
    for filter in (*(Filter(recipient=p) for p in PATTERNS if p not in "*"), Filter(sender="<>"), Filter(error="busy")):
        found = sum(administration.counts(filter).values())
        assert 0 < found < len(entries) or filter.recipient == "%@example.org", filter


def test_values_stand_beside_the_condition() -> None:
    hostile = "x' OR 1 --@example.org"
    where, values = Filter((hostile,), hostile, hostile, hostile, error=hostile).where(NOW)
    assert "OR 1" not in where and where.count("?") == len(values)
    assert EVERYTHING.where(NOW) == ("1", [])


def test_what_a_filter_asks_for() -> None:
    assert EVERYTHING.for_all and not Filter(sender="<>").for_all
    assert Filter(ids=("a",)).names_only
    assert not EVERYTHING.names_only and not Filter(ids=("a",), older_than=0.0).names_only


def test_patterns_that_fit_nothing_are_refused_with_what_would_be_right() -> None:
    assert parse_sender_pattern("<>") == "<>"
    assert parse_address_pattern("news*") == "news*"
    with pytest.raises(ValueError, match=r'write "bob@example\.org", "@example\.net" for a domain'):
        parse_sender_pattern("example.net")
    with pytest.raises(ValueError, match="no recipient"):
        parse_address_pattern("<>")
