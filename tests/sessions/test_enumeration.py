"""Nobody learns from a refused login whether there is such a user: not by its words, its work, or its delay.

Work is counted, not timed: which hashes of which cost were computed. `functional/test_enumeration_by_time.py` measures
a real server.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import VerifyMismatchError

from mailserver.accounts import Directory, FileSource, Tokens, hash_password
from mailserver.config.model import OAuth
from mailserver.policy.failures import Failures
from mailserver.ports import ClientCertificate, TLSState
from mailserver.sasl import ScramKeys
from mailserver.sessions.login import Authenticator, LoginRefused
from tests.support.fakes import FakeChannel, FakeClock, FakeWorkers, run
from tests.support.issuer import AUDIENCE, ISSUER, Issuer
from tests.support.scram import ScramClient

PASSWORD = "the right one"
HASH = hash_password(PASSWORD)
SCHEME = "{SSHA512}f1QZ8hwLzTRZ9OybpJZc4gJ4nN8ZPM8rvqe6l9RFZE6lJ0aKjXqgE2kVJHyLkQn4kXcJQzDQ2Q7wO6hhsTCOe2FiY2Q="
APP = f'[[account."%s@example.org".app_password]]\nname = "phone"\npassword = "abcde:{"0" * 64}"\n'
USERS = (
    "known@example.org",
    "alias@example.org",
    "disabled@example.org",
    "kept@example.org",
    "app@example.org",
    "apponly@example.org",
    "unknown@example.org",
    "known+detail@example.org",
    "group@example.org",
    "postmaster@example.org",
    "unknown@elsewhere.example",
    "no address",
    "\uff4bnown@example.org",
)


def accounts(keys: str = "", *, app_passwords: bool = True) -> str:
    stored = f'password = "{HASH}{keys}"\n'
    text = '[domain."example.org"]\n[alias."group@example.org"]\nmembers = ["known@example.org"]\n'
    text += f'[account."known@example.org"]\n{stored}aliases = ["alias@example.org"]\n'
    text += f'[account."disabled@example.org"]\n{stored}disabled = "refuse"\n'
    text += f'[account."kept@example.org"]\n{stored}disabled = "keep"\n'
    if app_passwords:
        text += f'[account."app@example.org"]\n{stored}{APP % "app"}'
        text += f'[account."apponly@example.org"]\n{stored}app_passwords_only = true\n{APP % "apponly"}'
    return text


class House:
    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, text: str, **more: Any) -> None:
        (path / "accounts.toml").write_text(text)
        self.directory = Directory(FileSource(path / "accounts.toml"), **more)
        self.work: list[tuple[int, ...]] = []
        monkeypatch.setattr(PasswordHasher, "verify", self._verify)

    def _verify(self, stored: str, password: bytes) -> bool:
        cost = extract_parameters(stored)
        self.work.append((cost.time_cost, cost.memory_cost, cost.parallelism, len(password)))
        raise VerifyMismatchError

    def refused(self, name: str, talk: Callable[[bytes | None], bytes | None], **channel: Any) -> tuple[object, ...]:
        """What anybody can see of a login by this mechanism."""
        clock = FakeClock()
        asked = Authenticator(self.directory, FakeWorkers(), clock, Failures(), secret=b"x" * 32)
        exchange = asked.begin(FakeChannel(tls=TLSState("TLSv1.3", "x"), **channel), name, "imap")
        assert exchange is not None
        self.work.clear()
        seen: list[bytes] = []
        begun = clock.monotonic()
        answer = talk(None)
        with pytest.raises(LoginRefused) as refusal:
            for _ in range(5):
                challenge = run(exchange.step(answer))
                assert isinstance(challenge, bytes)
                seen.append(re.sub(rb"(?<=r=)[^,]+|(?<=s=)[A-Za-z0-9+/]{22}==", b"*", challenge))
                answer = talk(challenge)
        error = refusal.value
        return seen, str(error), error.temporary, error.malformed, list(self.work), clock.monotonic() - begun


ONE_HASH = [(3, 65536, 4, 5)]


@pytest.mark.parametrize("name", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("scheme", [False, True])
def test_passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, scheme: bool) -> None:
    house = House(tmp_path, monkeypatch, accounts().replace(HASH, SCHEME) if scheme else accounts())

    def seen(user: str) -> tuple[object, ...]:
        if name == "PLAIN":
            return house.refused(name, lambda _: f"\0{user}\0wrong".encode())
        answers = iter([None, user.encode(), b"wrong"])
        return house.refused(name, lambda _: next(answers))

    first = seen(USERS[0])
    assert first[1:5] == ("authentication failed", False, False, ONE_HASH)
    for user in USERS:
        assert seen(user) == first, user


def test_another_scheme_is_told_from_argon2id_by_no_word_and_no_hash_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = accounts() + f'[account."old@example.org"]\npassword = "{SCHEME}"\n'
    house = House(tmp_path, monkeypatch, text)
    first = house.refused("PLAIN", lambda _: b"\0known@example.org\0wrong")
    assert house.refused("PLAIN", lambda _: b"\0old@example.org\0wrong") == first


def test_the_right_password_of_an_account_that_nobody_may_open_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path, monkeypatch, accounts())
    seen = [
        house.refused("PLAIN", lambda _, user=user: f"\0{user}@example.org\0{PASSWORD}".encode())  # type: ignore[misc]
        for user in ("disabled", "kept", "apponly", "unknown")
    ]
    assert all(each == seen[0] for each in seen)
    assert len(house.work) == 1


@pytest.mark.parametrize("identity", ["unknown@example.org", "disabled@example.org", "app@example.org", "x"])
def test_another_identity_with_a_wrong_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, identity: str) -> None:
    house = House(tmp_path, monkeypatch, accounts())
    first = house.refused("PLAIN", lambda _: b"\0known@example.org\0wrong")
    assert house.refused("PLAIN", lambda _: f"{identity}\0known@example.org\0wrong".encode()) == first
    assert house.refused("PLAIN", lambda _: f"{identity}\0unknown@example.org\0wrong".encode()) == first


def test_scram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = f" {ScramKeys.of(PASSWORD.encode(), iterations=4096)}"
    house = House(tmp_path, monkeypatch, accounts(keys, app_passwords=False))

    def seen(user: str) -> tuple[object, ...]:
        client = ScramClient(user, "wrong")
        return house.refused("SCRAM-SHA-256", lambda said: client.final(said) if said else client.first)

    first = seen(USERS[0])
    assert first[0] == [b"r=*,s=*,i=4096"]
    assert first[1:4] == ("authentication failed", False, False)
    for user in USERS:
        assert seen(user) == first, user


@pytest.mark.parametrize("name", ["OAUTHBEARER", "XOAUTH2"])
def test_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    issuer = Issuer()
    keys = issuer.publish(tmp_path / "keys.json")
    tokens = Tokens(OAuth(issuer=ISSUER, audience=AUDIENCE, keys=keys))
    house = House(tmp_path, monkeypatch, accounts(), tokens=tokens)

    def seen(user: str, token: str) -> tuple[object, ...]:
        first = f"user={user}" if name == "XOAUTH2" else f"n,a={user},"
        said = f"{first}\x01auth=Bearer {token}\x01\x01".encode()
        return house.refused(name, lambda challenge: b"\x01" if challenge else said)

    first = seen(USERS[0], "x")
    for user in USERS:
        for token in ("x", issuer.token("apponly@example.org" if user != "apponly@example.org" else "app@example.org")):
            assert seen(user, token) == first, user
    for user in ("unknown@example.org", "disabled@example.org"):
        assert seen(user, issuer.token(user)) == first


def test_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(tmp_path, monkeypatch, accounts())
    shown = ClientCertificate("CN=x", ("unknown@example.org",), "ab" * 32)

    def seen(identity: str) -> tuple[object, ...]:
        return house.refused("EXTERNAL", lambda _: identity.encode(), client_certificate=shown)

    first = seen("")
    for user in USERS:
        assert seen(user) == first, user
