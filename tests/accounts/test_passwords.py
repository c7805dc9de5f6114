from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable
from functools import partial

import pytest
from argon2 import PasswordHasher, extract_parameters

from mailserver.accounts import PasswordError, generate_password, hash_password, scram_keys, verify_password
from mailserver.accounts.passwords import Decoys, refuse_password, renewed
from mailserver.sasl import ScramKeys
from tests.support.configs import SECRET, SECRET_HASH


def test_a_hash_is_argon2id_salted_and_verifies() -> None:
    one, other = hash_password("pässword"), hash_password("pässword")
    assert one.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert one != other
    assert verify_password(one, "pässword")
    assert not verify_password(one, "passwörd")


def test_the_composition_of_letters_does_not_count() -> None:
    assert verify_password(hash_password("pa\u0308sswort"), "p\u00e4sswort")


def test_the_kind_of_space_does_not_count() -> None:
    stored = hash_password("pass\u00a0wort")
    assert verify_password(stored, "pass wort")
    assert verify_password(stored, "pass\u2003wort")
    assert not verify_password(stored, "passwort")


@pytest.mark.parametrize("password", ["pass\u00a0wort", "pa\u0308ss\u3000wort", "pass\ue000wort", "\u200bpasswort"])
def test_what_was_hashed_before_names_and_passwords_were_prepared_still_fits(password: str) -> None:
    former = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(unicodedata.normalize("NFC", password))
    assert verify_password(former, password)
    assert not verify_password(former, password + "x")


@pytest.mark.parametrize("password", ["wrong one", "wrong\u00a0one", "wrong\ue000", "x" * 3000, "\ud800", ""])
def test_the_work_of_refusing_hangs_on_the_password_alone(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[int, ...]] = []
    verify = PasswordHasher.verify

    def counted(self: PasswordHasher, stored: str, octets: bytes) -> bool:
        cost = extract_parameters(stored)
        done.append((cost.time_cost, cost.memory_cost, cost.parallelism, len(octets)))
        return verify(self, stored, octets)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    stored = hash_password("the right one")
    work = []
    for refuse in (
        lambda: verify_password(stored, password),
        lambda: refuse_password(password, stored),
        lambda: refuse_password(password),
        lambda: verify_password("", password),
        lambda: verify_password("damaged", password),
        lambda: verify_password("{PLAIN}x", password),
        lambda: refuse_password(password, "{PLAIN}x"),
    ):
        done.clear()
        assert not refuse()
        work.append(sorted(done))
    assert len(work[0]) == (2 if "\u00a0" in password else 1)
    assert all(each == work[0] for each in work)


@pytest.mark.parametrize(
    "password",
    ["", "sieben7", "abcdefgh\nij", "abcdefgh\0", "abcdefgh\x7f", "abcdefgh\ud800", "abcdefgh\ue000", "é" * 600],
)
def test_passwords_that_cannot_be_set(password: str) -> None:
    with pytest.raises(PasswordError) as caught:
        hash_password(password)
    assert not password or password not in str(caught.value)


@pytest.mark.parametrize("stored", ["", "x", SECRET_HASH[:-1], SECRET_HASH + "=", "$argon2id$v=19$m=8,t=1,p=1$$"])
def test_a_damaged_hash_lets_nobody_in(stored: str) -> None:
    assert verify_password(SECRET_HASH, SECRET)
    assert not verify_password(stored, SECRET)


def test_generated_passwords_are_long_and_never_the_same() -> None:
    made = {generate_password() for _ in range(100)}
    assert len(made) == 100
    assert all(len(password) == 23 and password.replace("-", "").isalnum() for password in made)


def test_keys_for_scram_stand_behind_the_hash_and_belong_to_the_same_password() -> None:
    stored = hash_password("p\u00e4ssword", scram=True)
    keys = scram_keys(stored)
    assert keys is not None
    assert keys == ScramKeys.of("p\u00e4ssword".encode(), salt=keys.salt)
    assert verify_password(stored, "pa\u0308ssword")
    assert not verify_password(stored, "passw\u00f6rd")
    assert scram_keys(hash_password("p\u00e4ssword")) is None


def test_keys_for_scram_are_of_the_password_as_clients_prepare_it() -> None:
    keys = scram_keys(hash_password("pass\u00a0word-\ufb01", scram=True))
    assert keys is not None
    assert keys == ScramKeys.of(b"pass word-fi", salt=keys.salt)
    with pytest.raises(PasswordError, match="cannot be used with SCRAM"):
        hash_password("password\ufffd", scram=True)


SHA = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="  # of SECRET


def test_a_hash_of_another_server_is_checked_and_is_to_be_renewed() -> None:
    assert verify_password(SHA, SECRET)
    assert not verify_password(SHA, "other")
    stored = renewed(SHA, SECRET)
    assert stored is not None and stored.startswith("$argon2id$") and verify_password(stored, SECRET)
    assert scram_keys(stored) is None
    keys = renewed(SHA, SECRET, scram=True)
    assert keys is not None and scram_keys(keys) is not None
    assert renewed(SECRET_HASH, SECRET) is None
    assert renewed("{ARGON2ID}" + SECRET_HASH, SECRET) is None
    assert renewed(SHA.removeprefix("{SHA}"), SECRET, default="SHA") is not None


def test_what_scram_does_not_take_is_renewed_without_its_keys() -> None:
    stored = renewed("{PLAIN}pass\ue000", "pass\ue000", scram=True)
    assert stored is not None and scram_keys(stored) is None and verify_password(stored, "pass\ue000")


def test_other_servers_compare_the_octets_that_were_sent() -> None:
    assert verify_password("{PLAIN}pa\u0308ss", "pa\u0308ss")
    assert verify_password("{PLAIN}p\u00e4ss", "pa\u0308ss")
    assert not verify_password("{PLAIN}pa\u0308ss", "p\u00e4ss")
    assert verify_password("{PLAIN}with a space", "with a space")


def test_refusing_costs_what_an_argon2id_hash_costs_whatever_is_kept() -> None:
    def cost(act: Callable[[], object]) -> float:
        times = []
        for _ in range(5):
            start = time.process_time()
            act()
            times.append(time.process_time() - start)
        return min(times)  # what disturbs only adds

    refuse_password("wrong")
    usual = cost(lambda: verify_password(hash_password("the right one"), "wrong")) / 2  # with the hash made
    for stored in (SHA, "", "damaged", "{NO-SUCH}x", "{PLAIN}x"):
        assert 0.4 < cost(partial(verify_password, stored, "wrong")) / usual < 2.5
        assert 0.4 < cost(partial(refuse_password, "wrong", stored)) / usual < 2.5
    assert 0.4 < cost(partial(verify_password, SHA, "x" * 5000)) / usual < 2.5


def test_a_decoy_is_always_the_same_for_a_name_and_as_frequent_as_its_kind() -> None:
    decoys = Decoys([SHA] * 3 + [SECRET_HASH])
    found = [decoys.of((f"user{n}", "example.org")) for n in range(400)]
    assert found == [decoys.of((f"user{n}", "example.org")) for n in range(400)]
    assert 200 < found.count(SHA) < 380
    assert Decoys([]).of(("a", "b")) == ""
