"""What rows and entries say, in the many forms that databases have for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.accounts.model import Account, Sending
from mailserver.accounts.rows import account_of, alias_of, domain_of, password_of
from mailserver.mail import Address, Quota, parse_mailbox

KEY = ("carol", "sql.example")
A = parse_mailbox
CAROL = Account(Address(*KEY))


@pytest.mark.parametrize(
    ("row", "account"),
    [
        ({}, CAROL),
        ({"password": "x", "home": "/home/carol", "uid": 1000}, CAROL),
        (dict.fromkeys(("address", "quota", "forward", "keep_copy", "disabled", "send_as")), CAROL),
        ({"address": "Carol@SQL.example"}, Account(A("Carol@SQL.example"))),
        ({"address": b"c@sql.example"}, Account(A("c@sql.example"))),
        ({"address": ["c@sql.example"]}, Account(A("c@sql.example"))),
        ({"address": "c"}, Account(A("c@default.example"))),
        ({"quota": 1000, "quota_messages": "7"}, Account(CAROL.address, quota=Quota(1000, 7))),
        ({"quota": "5 GiB"}, Account(CAROL.address, quota=Quota(5 * 2**30))),
        ({"quota": 1000.0}, Account(CAROL.address, quota=Quota(1000))),
        ({"quota": 0, "quota_messages": "0"}, CAROL),
        ({"forward": " a@b.example,\tc@d.example  "}, replace(CAROL, forward=(A("a@b.example"), A("c@d.example")))),
        ({"forward": ["a@b.example"], "keep_copy": "f"}, replace(CAROL, forward=(A("a@b.example"),), keep_copy=False)),
        ({"keep_copy": True, "disabled": False}, CAROL),
        ({"disabled": True}, Account(CAROL.address, disabled="refuse")),
        ({"disabled": "TRUE"}, Account(CAROL.address, disabled="refuse")),
        ({"disabled": 1}, Account(CAROL.address, disabled="refuse")),
        ({"disabled": "Keep"}, Account(CAROL.address, disabled="keep")),
        (
            {"send_as": "*@x.example Y@z.example"},
            replace(CAROL, send_as=frozenset({("*", "x.example"), ("y", "z.example")})),
        ),
        ({"messages_per_day": 5, "recipients": "6"}, Account(CAROL.address, sending=Sending(5, 6))),
    ],
)  # fmt: skip
def test_an_account(row: dict[str, object], account: Account) -> None:
    found = account_of(row, KEY, "default.example")
    assert found == account and found.password == ""


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"address": "no address"}, "its address 'no address' is not a mail address"),
        ({"address": "c"}, "its address 'c' is not a mail address"),
        ({"address": ["a@b.example", "c@d.example"]}, "it has 2 values of address; one is expected"),
        ({"quota": "much"}, "its quota 'much' is not a size"),
        ({"quota": -1}, "its quota '-1' is not a size"),
        ({"quota_messages": "many"}, "its quota_messages 'many' is not a number"),
        ({"quota_messages": 10**30}, "is not a number"),
        ({"forward": "a@b.example, nobody@"}, "its forward 'nobody@' is not a mail address"),
        ({"keep_copy": "perhaps"}, "its keep_copy 'perhaps' is neither true nor false"),
        ({"disabled": "perhaps"}, "its disabled 'perhaps' is neither true nor false"),
        ({"send_as": "*"}, "its send_as '*' is neither an address"),
    ],
)
def test_what_makes_no_sense(row: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=r"its|it has") as caught:
        account_of(row, KEY)
    assert complaint in str(caught.value)


def test_an_alias_and_a_domain() -> None:
    rows: list[dict[str, object]] = [
        {"member": "a@b.example, c@d.example"},
        {"member": ["a@b.example"]},
        {"member": None},
    ]
    assert alias_of(rows, KEY).members == (A("a@b.example"), A("c@d.example"))
    with pytest.raises(ValueError, match="it has no member"):
        alias_of([{"member": " "}], KEY)
    with pytest.raises(ValueError, match="more than 1000 members"):
        alias_of([{"member": f"u{n}@b.example"} for n in range(1001)], KEY)
    found = domain_of({"catch_all": "a@b.example", "postmaster": ""}, "sql.example")
    assert (found.name, found.catch_all, found.caretaker) == ("sql.example", A("a@b.example"), None)


def test_a_password_keeps_its_spaces() -> None:
    assert password_of({"password": "{PLAIN} x "}) == "{PLAIN} x "
    assert password_of({"password": None}) == password_of({}) == ""


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.binary(max_size=20),
    st.lists(st.text(max_size=10), max_size=3),
)  # fmt: skip
NAMES = ("address", "password", "quota", "quota_messages", "forward", "keep_copy", "disabled", "send_as", "recipients")


@given(st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_no_row_does_anything_else(row: dict[str, Any]) -> None:
    for read in (lambda: account_of(row, KEY), lambda: password_of(row), lambda: alias_of([row], KEY)):
        try:
            read()
        except ValueError:
            continue
