"""What messages are sorted by of their addresses (RFC 5256 §3, RFC 5957 §3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.message import addresses, display, local_part


@pytest.mark.parametrize(
    ("field", "local", "shown"),
    [
        (b"", "", ""),
        (b"alice@example.org", "alice", "alice@example.org"),
        (b"Alice <alice@example.org>, Bob <bob@example.org>", "alice", "Alice"),
        (b'"Example, Alice" <alice@example.org>', "alice", "Example, Alice"),
        (b"=?utf-8?Q?J=C3=BCrgen?= <j@example.org>", "j", "Jürgen"),
        (b"=?utf-8?Q??= <j@example.org>", "j", "j@example.org"),
        (b"alice (Alice A.)", "alice", "Alice A."),
        (b"undisclosed-recipients:;", "undisclosed-recipients", "undisclosed-recipients"),
        (b"<gr\xc3\xbcn@example.org>", "grün", "grün@example.org"),
        (b"just-a-name", "just-a-name", "just-a-name"),
    ],
)
def test_the_first_address_counts(field: bytes, local: str, shown: str) -> None:
    found = addresses(field)
    assert local_part(found) == local
    assert display(found) == shown


@given(st.binary(max_size=80))
def test_any_octets_give_text_that_can_be_stored(field: bytes) -> None:
    found = addresses(field)
    assert isinstance(local_part(found).encode(), bytes)
    assert isinstance(display(found).encode(), bytes)
