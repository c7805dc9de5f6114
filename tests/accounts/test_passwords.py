from __future__ import annotations

import pytest

from mailserver.accounts import PasswordError, generate_password, hash_password, scram_keys, verify_password
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


@pytest.mark.parametrize(
    "password", ["", "sieben7", "abcdefgh\nij", "abcdefgh\0", "abcdefgh\x7f", "abcdefgh\ud800", "é" * 600]
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
        hash_password("password\ue000", scram=True)
