"""Hashes of other servers, against the program that makes them and against known ones."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.sasl import SchemeError, parse_hash
from tests.support import doveadm
from tests.support.configs import SECRET, SECRET_HASH

NOT_CHECKED = {"OTP", "HMAC-MD5", "CRAM-MD5", "DIGEST-MD5", "PLAIN-MD4", "PLAIN-TRUNC"}
"""Schemes of Dovecot that are refused with a word."""

SECRET_IN = [
    SECRET_HASH,
    "{ARGON2ID}" + SECRET_HASH,
    "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
    "{sha.hex}e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4",
    "{SHA}e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4",
    "{SHA1.b64}5en6G6MezRroT3XKqkdPOmY/BfQ=",
    "{PLAIN-MD5}5ebe2294ecd0e0f08eab7690d2a6ee69",
    "{PLAIN}secret",
    "{PLAIN.HEX}736563726574",
    "{CLEARTEXT.B64}c2VjcmV0",
    "{CRYPT}$1$lyQcL6zt$pPNBa4mnDOvAv4uJ9zoeS.",
]


@pytest.mark.parametrize("stored", SECRET_IN)
def test_a_password_that_fits_and_none_else(stored: str) -> None:
    if stored.startswith("{CRYPT}$1$"):
        from passlib.hash import md5_crypt

        stored = "{CRYPT}" + md5_crypt.hash(SECRET)
    fits = parse_hash(stored).fits
    assert fits(SECRET.encode())
    assert not any(map(fits, (b"", b"Secret", b"secret ", b"secret\0", b"s", b"x" * 1024)))


@pytest.mark.skipif(doveadm.MISSING != "", reason=doveadm.MISSING)
@pytest.mark.parametrize("scheme", doveadm.schemes())
def test_every_scheme_of_dovecot(scheme: str) -> None:
    stored = doveadm.hashed(scheme, "sécret pass")
    if scheme in NOT_CHECKED:
        with pytest.raises(SchemeError, match=f"has the scheme {scheme}, which this server does not check"):
            parse_hash(stored)
        return
    found = parse_hash(stored)
    assert found.scheme == scheme
    assert found.fits("sécret pass".encode())
    assert not found.fits(b"secret pass") and not found.fits(b"")


@pytest.mark.skipif(doveadm.MISSING != "", reason=doveadm.MISSING)
@pytest.mark.parametrize("scheme", ["SSHA512.HEX", "SHA256.HEX", "SHA512-CRYPT.B64", "SSHA.HEX", "PLAIN.B64"])
def test_encodings_of_dovecot(scheme: str) -> None:
    found = parse_hash(doveadm.hashed(scheme, SECRET))
    assert found.fits(SECRET.encode()) and not found.fits(b"other")


def test_a_hash_without_a_name_is_argon2id_or_of_the_scheme_that_is_usual() -> None:
    with pytest.raises(SchemeError, match="no hash of the scheme argon2id"):
        parse_hash("5en6G6MezRroT3XKqkdPOmY/BfQ=")
    assert parse_hash("5en6G6MezRroT3XKqkdPOmY/BfQ=", "SHA").fits(SECRET.encode())
    assert parse_hash(SECRET_HASH, "CRYPT").fits(SECRET.encode())


@pytest.mark.parametrize(
    "stored",
    [
        "{SHA512-CRYPT}$6$rounds=1000001$salt$" + "a" * 86,
        "{SHA256-CRYPT}$5$rounds=999999999$salt$" + "a" * 43,
        "{CRYPT}$6$rounds=99999999999999999999$salt$" + "a" * 86,
        "{BLF-CRYPT}$2y$31$" + "a" * 53,
        "{CRYPT}$2b$15$" + "a" * 53,
        "{PBKDF2}$1$salt$999999999$" + "a" * 40,
        "{SCRAM-SHA-256}999999999,c2FsdA==,c2FsdA==,c2FsdA==",
        "{ARGON2ID}$argon2id$v=19$m=4194304,t=1,p=1$8YnquBCgWRKvoESkyBqTiA$mcnR1SJWh16F9uD9yCp5IHPSG89AgLs4fEazREY3dTI",
        "$argon2id$v=19$m=65536,t=999999,p=1$8YnquBCgWRKvoESkyBqTiA$mcnR1SJWh16F9uD9yCp5IHPSG89AgLs4fEazREY3dTI",
        "$argon2id$v=19$m=65536,t=1,p=9999$8YnquBCgWRKvoESkyBqTiA$mcnR1SJWh16F9uD9yCp5IHPSG89AgLs4fEazREY3dTI",
    ],
)
def test_a_hash_of_absurd_cost_is_refused_before_it_costs(stored: str) -> None:
    start = time.process_time()
    with pytest.raises(SchemeError, match="more work than a login may cost"):
        parse_hash(stored)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "{",
        "{}x",
        "{SHA",
        "{SHA}",
        "{SHA}é",
        "{SHA.HEX}xyz",
        "{SHA.ROT13}5en6G6MezRroT3XKqkdPOmY/BfQ=",
        "{SSHA}c2FsdA==",
        "{PLAIN}",
        "{ARGON2I}" + SECRET_HASH,
        "{ARGON2ID}$argon2id$v=19$m=8,t=1,p=1$$",
        "{BLF-CRYPT}$2y$05$short",
        "{SHA512-CRYPT}$5$salt$" + "a" * 43,
        "{SHA512-CRYPT}$6$rounds=x$salt$" + "a" * 86,
        "{CRYPT}!",
        "{CRYPT}*",
        "{CRYPT}\ud800",
        "{PBKDF2}$2$salt$1$" + "a" * 40,
        "{SCRAM-SHA-256}0,c2FsdA==,c2FsdA==,c2FsdA==",
        "{NO-SUCH}x",
        "{SHA}" + "a" * 5000,
        "$2y$05$" + "a" * 53,
    ],
)
def test_what_is_no_hash_is_told_without_it(stored: str) -> None:
    with pytest.raises(SchemeError) as caught:
        parse_hash(stored)
    assert "take a new password" in str(caught.value)
    assert len(stored) < 20 or stored[-20:] not in str(caught.value)


@given(
    scheme=st.sampled_from(["", *(f"{{{name}}}" for name in ("SHA", "CRYPT", "BLF-CRYPT", "PBKDF2", "SMD5"))]),
    text=st.text(),
)
def test_no_text_does_anything_else(scheme: str, text: str) -> None:
    try:
        fits = parse_hash(scheme + text).fits
    except SchemeError:
        return
    fits(b"x")


def test_bcrypt_and_octets_that_it_never_counted() -> None:
    import bcrypt

    stored = "{BLF-CRYPT}" + bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    assert parse_hash(stored).fits(b"x" * 100)
    assert not parse_hash(stored).fits(b"x" * 71)
    assert not parse_hash("{BLF-CRYPT}$2y$05$" + "~" * 0 + "9" * 53).fits(b"x")
