"""OAuth tokens: which are good, and whose they are."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mailserver.accounts import Directory, FileSource, Tokens, TokensUnavailable
from mailserver.config.model import OAuth
from mailserver.mail import parse_mailbox
from tests.support.configs import ACCOUNTS
from tests.support.issuer import AUDIENCE, ISSUER, Issuer

ALICE = "alice@example.org"


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer("one", "two")


def settings(path: Path, **more: Any) -> OAuth:
    return OAuth(issuer=ISSUER, audience=AUDIENCE, keys=path, **more)


@pytest.fixture
def tokens(issuer: Issuer, tmp_path: Path) -> Tokens:
    return Tokens(settings(issuer.publish(tmp_path / "keys.json")))


@pytest.mark.parametrize("key", ["one", "two"])
def test_a_token_by_each_kind_of_key_is_good(issuer: Issuer, tokens: Tokens, key: str) -> None:
    assert tokens.address(issuer.token(ALICE, key=key)) == ALICE


def test_several_audiences_and_another_claim(issuer: Issuer, tmp_path: Path) -> None:
    tokens = Tokens(settings(issuer.publish(tmp_path / "keys.json"), address_claim="preferred_username"))
    claims = {"aud": ["other", AUDIENCE], "preferred_username": ALICE, "email_verified": False}
    assert tokens.address(issuer.token("", **claims)) == ALICE
    assert Tokens(settings(tmp_path / "keys.json")).address(issuer.token(ALICE, email_verified=True)) == ALICE


@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "another"},
        {"aud": None},
        {"exp": 1},
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"exp": float("inf")},
        {"exp": int(time.time()) - 100},
        {"nbf": 4_000_000_000},
        {"nbf": int(time.time()) + 600},
        {"nbf": "soon"},
        {"iat": 4_000_000_000},
        {"aud": []},
        {"aud": ["another", "one"]},
        {"aud": [AUDIENCE, 3]},
        {"aud": {AUDIENCE: True}},
        {"aud": AUDIENCE.upper()},
        {"iss": ISSUER + "/"},
        {"email": None},
        {"email": [ALICE]},
        {"email_verified": False},
        {"email_verified": "false"},
        {"headers": {"kid": "three"}},
        {"headers": {"kid": "two"}},
        {"headers": {}},
        {"headers": {"kid": "../../../../etc/passwd"}},
        {"headers": {"kid": "ONE"}},
        {"headers": {"kid": "one", "crit": ["x"], "x": 1}},
        {"headers": {"kid": "one", "crit": []}},
    ],
)
def test_what_makes_a_token_bad(issuer: Issuer, tokens: Tokens, wrong: dict[str, Any]) -> None:
    assert tokens.address(issuer.token(ALICE, key="one", **wrong)) is None


def test_a_key_needs_no_name_where_it_is_the_only_one(tmp_path: Path) -> None:
    issuer = Issuer("only")
    tokens = Tokens(settings(issuer.publish(tmp_path / "keys.json")))
    assert tokens.address(issuer.token(ALICE, headers={})) == ALICE


def test_another_issuers_key_of_the_same_name_is_another_key(tokens: Tokens) -> None:
    assert tokens.address(Issuer("one").token(ALICE)) is None


def encoded(value: object) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


def test_no_token_without_a_signature_nor_with_one_by_the_public_key(
    issuer: Issuer, tokens: Tokens, tmp_path: Path
) -> None:
    claims = encoded({"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600, "email": ALICE})
    unsigned = b".".join((encoded({"alg": "none", "kid": "one"}), claims, b""))
    assert tokens.address(unsigned.decode()) is None
    signed = encoded({"alg": "HS256", "kid": "one"}) + b"." + claims
    for secret in (b"", (tmp_path / "keys.json").read_bytes()):
        signature = base64.urlsafe_b64encode(hmac.digest(secret, signed, hashlib.sha256)).rstrip(b"=")
        assert tokens.address((signed + b"." + signature).decode()) is None


@pytest.mark.parametrize("garbage", ["", "x", "a.b.c", "....", "e30.e30.e30", "\0", "eyJhbGciOiJSUzI1NiJ9..", "é"])
def test_garbage_is_no_token(tokens: Tokens, garbage: str) -> None:
    assert tokens.address(garbage) is None


def test_new_keys_are_taken_up_and_broken_ones_are_not(issuer: Issuer, tmp_path: Path) -> None:
    path = issuer.publish(tmp_path / "keys.json")
    tokens = Tokens(settings(path))
    path.write_text("{")
    os.utime(path, (1, 1))
    assert tokens.address(issuer.token(ALICE)) == ALICE
    new = Issuer("one")
    new.publish(path)
    os.utime(path, (2, 2))
    assert tokens.address(new.token(ALICE)) == ALICE
    assert tokens.address(issuer.token(ALICE)) is None


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"keys": []}', '{"keys": [{"kty": "x"}]}', "3"])
def test_a_file_without_keys_stops_the_start(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TokensUnavailable, match="save what the issuer publishes"):
        Tokens(settings(path))


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(TokensUnavailable, match="pip install 'mailserver\\[oauth\\]'"):
        Tokens(settings(tmp_path / "keys.json"))


@pytest.mark.parametrize(
    ("version", "works"), [("2.8.0", False), ("2.12.1", False), ("2.13.0rc1", True), ("3.0", True)]
)
def test_a_library_that_checks_too_little_is_refused(
    issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, works: bool
) -> None:
    keys = issuer.publish(tmp_path / "keys.json")
    monkeypatch.setattr("jwt.__version__", version)
    if works:
        assert Tokens(settings(keys)).address(issuer.token(ALICE)) == ALICE
        return
    with pytest.raises(TokensUnavailable, match=f"PyJWT {version} is too old; .* 'mailserver\\[oauth\\]'"):
        Tokens(settings(keys))


@pytest.mark.parametrize(
    ("username", "address", "account"),
    [
        (ALICE, ALICE, ALICE),
        ("", ALICE, ALICE),
        ("info@example.org", ALICE, ALICE),
        (ALICE, "INFO@example.org", ALICE),
        ("bob@example.org", ALICE, None),
        (ALICE, "bob@example.org", None),
        ("nobody@example.org", "nobody@example.org", None),
        ("", "nobody@example.org", None),
        ("", "alice+detail@example.org", None),
        ("", "", None),
        ("", "\0", None),
    ],
)
def test_a_token_opens_the_account_that_it_is_for(
    issuer: Issuer, tmp_path: Path, username: str, address: str, account: str | None
) -> None:
    (tmp_path / "accounts.toml").write_text(ACCOUNTS)
    tokens = Tokens(settings(issuer.publish(tmp_path / "keys.json")))
    directory = Directory(FileSource(tmp_path / "accounts.toml"), tokens=tokens)
    assert directory.offers_tokens
    found = directory.by_token(username, issuer.token(address))
    assert found == (parse_mailbox(account) if account else None)


def test_no_issuer_no_tokens(issuer: Issuer, tmp_path: Path) -> None:
    (tmp_path / "accounts.toml").write_text(ACCOUNTS)
    directory = Directory(FileSource(tmp_path / "accounts.toml"))
    assert not directory.offers_tokens
    assert directory.by_token(ALICE, issuer.token(ALICE)) is None


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
def test_the_clocks_may_differ_a_little(issuer: Issuer, tokens: Tokens, claim: str) -> None:
    a_moment = -10 if claim == "exp" else 10
    assert tokens.address(issuer.token(ALICE, **{claim: int(time.time()) + a_moment})) == ALICE


def test_headers_that_name_keys_elsewhere_are_not_followed(issuer: Issuer, tokens: Tokens) -> None:
    other = Issuer("one")
    for name in ("jku", "x5u"):
        headers = {"kid": "one", name: "http://127.0.0.1:1/keys.json"}
        assert tokens.address(other.token(ALICE, headers=headers)) is None
    public = json.loads(other._algorithm(other.private["one"]).to_jwk(other.private["one"].public_key()))
    assert tokens.address(other.token(ALICE, headers={"kid": "one", "jwk": public})) is None


def test_a_key_signs_by_its_own_algorithm_only(issuer: Issuer, tokens: Tokens) -> None:
    """`alg` of one kind over a key of the other kind."""
    header, claims, signature = issuer.token(ALICE, key="one").split(".")
    for alg in ("ES256", "EdDSA", "RS512", "PS256", "rs256", "HS256", "none", "None", "", ["RS256"], None, {}):
        told = encoded({"alg": alg, "kid": "one", "typ": "JWT"}).decode()
        assert tokens.address(f"{told}.{claims}.{signature}") is None
    assert tokens.address(f"{header}.{claims}.{signature}") == ALICE


def test_only_public_keys_for_signatures_are_taken(issuer: Issuer, tmp_path: Path) -> None:
    path = issuer.publish(tmp_path / "keys.json")
    keys = json.loads(path.read_text())["keys"]
    secret = b"s" * 64
    shared = {"kty": "oct", "k": base64.urlsafe_b64encode(secret).rstrip(b"=").decode(), "kid": "shared"}
    path.write_text(json.dumps({"keys": [*keys, shared, keys[0] | {"kid": "other", "use": "enc"}]}))
    tokens = Tokens(settings(path))
    claims = encoded({"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600, "email": ALICE})
    for alg in ("HS256", "RS256"):
        signed = encoded({"alg": alg, "kid": "shared"}) + b"." + claims
        signature = base64.urlsafe_b64encode(hmac.digest(secret, signed, hashlib.sha256)).rstrip(b"=")
        assert tokens.address((signed + b"." + signature).decode()) is None
    assert tokens.address(issuer.token(ALICE, key="one", headers={"kid": "other"})) is None
    assert tokens.address(issuer.token(ALICE, key="one")) == ALICE
    path.write_text(json.dumps({"keys": [shared]}))
    with pytest.raises(TokensUnavailable, match="no public key for signatures"):
        Tokens(settings(path))


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 5000,
        b"[" * 3000 + b"]" * 3000,
        b'{"kid":' * 900 + b"1" + b"}" * 900,
        b'{"kid":"one","alg":' + b"[" * 2900 + b"]" * 2900 + b"}",
        b'{"kid":"one","alg":"RS256","n":' + b"9" * 6000 + b"}",
        b'{"kid":"one","alg":"RS256","n":1e999}',
        b'{"kid":"one",' * 400,
        b"\xff" * 6000,
        b" " * 6000,
    ],
)
def test_a_hostile_header_costs_nothing_and_breaks_nothing(tokens: Tokens, header: bytes) -> None:
    token = base64.urlsafe_b64encode(header).rstrip(b"=").decode()
    start = time.process_time()
    for rest in (".e30.e30", ".e30.", f".{token}.e30", "." * 8000):
        assert tokens.address(token + rest) is None
    assert time.process_time() - start < 5


def test_keys_change_while_tokens_are_checked(issuer: Issuer, tmp_path: Path) -> None:
    """An issuer publishes the next key beside the present one, then takes that away."""
    path = issuer.publish(tmp_path / "keys.json")
    tokens = Tokens(settings(path))
    next_one = Issuer("next")
    later = next_one.publish(tmp_path / "next.json")
    both = json.loads(path.read_text())["keys"] + json.loads(later.read_text())["keys"]
    assert tokens.address(next_one.token(ALICE)) is None
    (tmp_path / "both.json").write_text(json.dumps({"keys": both}))
    (tmp_path / "both.json").replace(path)
    assert tokens.address(next_one.token(ALICE)) == tokens.address(issuer.token(ALICE)) == ALICE
    later.replace(path)
    assert tokens.address(next_one.token(ALICE)) == ALICE
    assert tokens.address(issuer.token(ALICE)) is None
