"""OAUTHBEARER and XOAUTH2, the server's end."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.sasl import Challenge, Failed, Malformed, OAuth, Token, mechanism

TOKEN = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="
BEARER = f"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer {TOKEN}\x01\x01".encode()
"""RFC 7628 §4.1."""


def test_the_example_of_rfc_7628() -> None:
    assert OAuth("OAUTHBEARER").step(BEARER) == Token("user@example.com", TOKEN)


def test_a_refusal_is_told_acknowledged_and_then_final() -> None:
    server = OAuth("OAUTHBEARER", "https://example.com/.well-known/openid-configuration")
    server.step(BEARER)
    challenge = server.refuse()
    assert isinstance(challenge, Challenge)
    assert json.loads(challenge.data) == {
        "status": "invalid_token",
        "openid-configuration": "https://example.com/.well-known/openid-configuration",
    }
    assert server.step(b"\x01") == Failed()
    assert isinstance(server.step(b"\x01"), Malformed)


def test_an_empty_authorization_asks_where_tokens_are_to_be_had() -> None:
    """RFC 7628 §4.3."""
    server = OAuth("OAUTHBEARER", "https://example.com/.well-known/openid-configuration")
    told = server.step(b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=\x01\x01")
    assert isinstance(told, Challenge)
    assert json.loads(told.data)["openid-configuration"].startswith("https://example.com/")
    assert server.step(b"\x01") == Failed()


@pytest.mark.parametrize(
    ("name", "first", "step"),
    [
        ("XOAUTH2", b"user=a@b.c\x01auth=Bearer ya29.v-F~9+/=\x01\x01", Token("a@b.c", "ya29.v-F~9+/=")),
        ("OAUTHBEARER", b"n,,\x01auth=bearer x\x01\x01", Token("", "x")),
        ("OAUTHBEARER", b"y,a=a=2Cb=3D,\x01auth=Bearer x\x01unknown=1\x01\x01", Token("a,b=", "x")),
        ("XOAUTH2", "user=jürgen\x01auth=Bearer x\x01\x01".encode(), Token("jürgen", "x")),
    ],
)
def test_what_clients_send(name: str, first: bytes, step: Token) -> None:
    assert OAuth(name).step(first) == step
    server = mechanism(name)
    assert server is not None
    assert server.step(None) == Challenge(b"")
    assert server.step(first) == step


@pytest.mark.parametrize("name", ["OAUTHBEARER", "XOAUTH2"])
@pytest.mark.parametrize(
    "first",
    [
        b"", b"\x01", b"\0a\0b", b"n,,", b"n,,\x01\x01", b"user=a\x01\x01", b"n,,\x01auth=Basic x\x01\x01",
        b"n,,\x01auth=Bearer \x01\x01", b"n,,\x01auth=Bearer x y\x01\x01", b"user=a\x01auth=Bearer x\x01",
        b"p=tls-exporter,,\x01auth=Bearer x\x01\x01", b"n,a=\xff,\x01auth=Bearer x\x01\x01",
        b"user=\xff\x01auth=Bearer x\x01\x01",
        b"n,a=" + b"u" * 2000 + b",\x01auth=Bearer x\x01\x01", b"user=u\x01auth=Bearer " + b"x" * 9000 + b"\x01\x01",
    ],
)  # fmt: skip
def test_malformed_beginnings(name: str, first: bytes) -> None:
    server = OAuth(name)
    assert isinstance(server.step(first), Malformed)
    assert isinstance(server.step(BEARER), Malformed), "it is over"


@given(st.sampled_from(["OAUTHBEARER", "XOAUTH2"]), st.lists(st.none() | st.binary(max_size=40), max_size=4))
def test_garbage_never_raises(name: str, responses: list[bytes | None]) -> None:
    server = OAuth(name)
    for response in responses:
        assert isinstance(server.step(response), Challenge | Malformed | Token)


def test_no_token_stands_in_a_repr() -> None:
    assert "secret" not in repr(Token("user", "secret"))
