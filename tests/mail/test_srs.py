"""The sender rewriting scheme: there and back, and nothing that was not made here."""

import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mailserver.mail import Address, parse_mailbox
from mailserver.mail.srs import SRS, VALID_DAYS, SRSError

SRS_HERE, ELSEWHERE = SRS(b"here"), SRS(b"elsewhere")
DAY = 86400
NOW = 20_000 * DAY + 5.0
SENDER = Address("Carol.Smith", "example.com")

LOCALS = st.text(string.ascii_letters + string.digits + "!#$%&'*+-/=?^_`{|}~", min_size=1, max_size=20)
DOMAINS = st.from_regex(r"[a-z]{1,8}\.[a-z]{2,5}", fullmatch=True)


def test_a_report_finds_the_way_back():
    made = SRS_HERE.rewritten(SENDER, "example.org", NOW)
    assert made.domain == "example.org"
    assert made.local.startswith("SRS0=") and made.local.endswith("=example.com=Carol.Smith")
    assert SRS_HERE.is_rewritten(made)
    assert SRS_HERE.original(made, NOW) == SENDER
    assert len(made.local) <= 64


@given(LOCALS, DOMAINS)
def test_every_sender_comes_back_whatever_case_the_address_has_then(local, domain):
    sender = Address(local, domain)
    assume(not SRS.is_rewritten(sender))
    made = SRS_HERE.rewritten(sender, "example.org", NOW)
    for seen in (made, Address(made.local.lower(), made.domain), Address(made.local.upper(), made.domain)):
        assert SRS_HERE.original(seen, NOW).key == sender.key
    assert parse_mailbox(str(made)) == made


def test_what_another_forwarder_has_rewritten_is_shortened_and_goes_back_to_that_one():
    first = ELSEWHERE.rewritten(SENDER, "forwarder.example", NOW)
    again = SRS_HERE.rewritten(first, "example.org", NOW)
    assert again.local.startswith("SRS1=") and "=forwarder.example==" in again.local
    assert SRS_HERE.original(again, NOW) == first
    assert ELSEWHERE.original(first, NOW) == SENDER
    third = SRS(b"third").rewritten(again, "third.example", NOW)
    assert SRS(b"third").original(third, NOW) == first, "the one in the middle is left out"


def test_an_address_of_another_installation_leads_nowhere():
    for made in (
        ELSEWHERE.rewritten(SENDER, "example.org", NOW),
        ELSEWHERE.rewritten(SRS(b"third").rewritten(SENDER, "third.example", NOW), "example.org", NOW),
    ):
        with pytest.raises(SRSError, match="not made here"):
            SRS_HERE.original(made, NOW)


@pytest.mark.parametrize("changed", ["mallory", "example.net"])
def test_a_changed_address_leads_nowhere(changed):
    made = SRS_HERE.rewritten(SENDER, "example.org", NOW).local
    old = "Carol.Smith" if changed == "mallory" else "example.com"
    with pytest.raises(SRSError, match="not made here"):
        SRS_HERE.original(Address(made.replace(old, changed), "example.org"), NOW)


@pytest.mark.parametrize(("days", "good"), [(0, True), (VALID_DAYS, True), (VALID_DAYS + 1, False), (900, False)])
def test_it_is_good_for_a_few_weeks(days, good):
    made = SRS_HERE.rewritten(SENDER, "example.org", NOW)
    if good:
        assert SRS_HERE.original(made, NOW + days * DAY) == SENDER
    else:
        with pytest.raises(SRSError, match="too long ago"):
            SRS_HERE.original(made, NOW + days * DAY)


def test_a_sender_that_would_become_too_long_stays():
    sender = Address("x" * 60, "example.com")
    assert SRS_HERE.rewritten(sender, "example.org", NOW) == sender


@given(st.text(max_size=70))
def test_whatever_looks_like_one_is_looked_at_without_harm(rest):
    for start in ("SRS0=", "srs0+", "SRS1-", ""):
        with pytest.raises(SRSError):
            SRS_HERE.original(Address(start + rest, "example.org"), NOW)
