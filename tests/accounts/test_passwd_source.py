from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from hypothesis import given
from hypothesis import strategies as st

from mailserver.accounts import Directory, FileSource, Mailbox, NotLocal, Unknown
from mailserver.accounts.passwd import PasswdSource, Snapshot
from mailserver.config.loader import ConfigurationError
from mailserver.mail import UNLIMITED, Address, Quota, parse_mailbox
from tests.support import doveadm
from tests.support.configs import ACCOUNTS, SECRET, SECRET_HASH

SHA = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="  # of SECRET
LINES = f"""\
# comment
carol@users.example:{SHA}:1000:1000:Carol:/home/carol:/bin/sh:userdb_quota_rule=*:storage=5G:messages=10
Dave@Users.Example:{SHA}
erin:{SHA}::::::

frank@users.example:{SHA}::::::nologin=y
grace@users.example:::::::
"""


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def make(tmp_path: Path, text: str = LINES, **settings: str) -> tuple[Directory, Path, Time]:
    (tmp_path / "accounts.toml").write_text(ACCOUNTS)
    path, moment = tmp_path / "users", Time()
    path.write_text(text)
    source = PasswdSource(path, monotonic=moment, **settings)  # type: ignore[arg-type]
    return Directory(FileSource(tmp_path / "accounts.toml"), others=[source]), path, moment


def edit(path: Path, text: str) -> None:
    path.write_text(text)
    os.utime(path, (time.time() - 10,) * 2)


def test_users_are_accounts_and_their_domains_are_ours(tmp_path: Path) -> None:
    directory, _, _ = make(tmp_path, default_domain="default.example")
    resolve = lambda text: directory.resolve(parse_mailbox(text))  # noqa: E731
    assert not directory.blocking
    assert resolve("carol+x@users.example") == Mailbox(parse_mailbox("carol@users.example"), Quota(5 * 2**30, 10))
    assert resolve("DAVE@users.example") == Mailbox(parse_mailbox("Dave@users.example"), UNLIMITED)
    assert resolve("erin@default.example") == Mailbox(parse_mailbox("erin@default.example"), UNLIMITED)
    assert resolve("frank@users.example") == Mailbox(parse_mailbox("frank@users.example"), UNLIMITED)
    assert resolve("nobody@users.example") == Unknown()
    assert resolve("carol@other.example") == NotLocal()
    assert resolve("postmaster@users.example") == resolve("carol+@users.example")
    assert isinstance(resolve("alice@example.org"), Mailbox)  # of the accounts file


def test_the_first_user_is_postmaster_where_the_accounts_file_has_none(tmp_path: Path) -> None:
    (tmp_path / "accounts.toml").write_text("")
    (tmp_path / "users").write_text(LINES)
    directory = Directory(FileSource(tmp_path / "accounts.toml"), others=[PasswdSource(tmp_path / "users")])
    assert directory.resolve(Address("postmaster", "")) == directory.resolve(parse_mailbox("carol@users.example"))


def test_logging_in(tmp_path: Path) -> None:
    directory, path, _ = make(tmp_path, default_domain="default.example")
    assert directory.authenticate("carol@users.example", SECRET) == parse_mailbox("carol@users.example")
    assert directory.authenticate("erin@default.example", SECRET) == parse_mailbox("erin@default.example")
    for user in ("erin", "frank@users.example", "grace@users.example", "nobody@users.example"):
        assert directory.authenticate(user, SECRET) is None
    assert directory.authenticate("grace@users.example", "") is None
    assert directory.authenticate("carol@users.example", "other") is None
    assert directory.authenticate("alice@example.org", SECRET) is not None
    assert path.read_text() == LINES  # never written
    assert not directory.offers_scram()


def test_an_account_of_the_accounts_file_goes_first(tmp_path: Path) -> None:
    directory, _, _ = make(tmp_path, "alice@example.org:{PLAIN}other\nzoe@example.org:{PLAIN}other\n")
    assert directory.authenticate("alice@example.org", "other") is None
    assert directory.resolve(parse_mailbox("zoe@example.org")) == Unknown()  # the domain is the accounts file's


@pytest.mark.skipif(doveadm.MISSING != "", reason=doveadm.MISSING)
def test_a_file_with_every_hash_that_dovecot_makes(tmp_path: Path) -> None:
    schemes = doveadm.schemes()
    lines = [f"{name.lower()}@users.example:{doveadm.hashed(name, SECRET)}::::::\n" for name in schemes]
    directory, _, _ = make(tmp_path, "".join(lines))
    refused = {name for name in schemes if directory.authenticate(f"{name.lower()}@users.example", SECRET) is None}
    assert refused == {"OTP", "HMAC-MD5", "CRAM-MD5", "DIGEST-MD5", "PLAIN-MD4", "PLAIN-TRUNC"}
    assert not any(directory.authenticate(f"{name.lower()}@users.example", "other") for name in schemes)


def test_hashes_without_a_scheme_are_of_crypt_unless_told_otherwise(tmp_path: Path) -> None:
    from passlib.hash import sha512_crypt

    stored = sha512_crypt.using(rounds=1000).hash(SECRET)
    directory, _, _ = make(tmp_path, f"a@users.example:{stored}\n")
    assert directory.authenticate("a@users.example", SECRET) is not None
    directory, _, _ = make(tmp_path, "a@users.example:secret\n", default_scheme="PLAIN")
    assert directory.authenticate("a@users.example", SECRET) is not None


@pytest.mark.parametrize(
    ("rule", "quota"),
    [
        ("userdb_quota_rule=*:storage=5G", Quota(5 * 2**30)),
        ("userdb_quota_rule=*:storage=100", Quota(100 * 1024)),
        ("userdb_quota_rule=*:bytes=1000", Quota(1000)),
        ("userdb_quota_rule=*:bytes=1m", Quota(2**20)),
        ("userdb_quota_rule=*:storage=1M:messages=7", Quota(2**20, 7)),
        ("userdb_quota_rule=*:messages=7 userdb_quota_rule2=*:storage=1T", Quota(2**40, 7)),
        ("userdb_quota_rule=*:storage=0", UNLIMITED),
        ("userdb_quota_rule=Trash:storage=1M", UNLIMITED),
        ("quota_rule=*:storage=1M", UNLIMITED),
    ],
)
def test_quotas(tmp_path: Path, rule: str, quota: Quota) -> None:
    directory, _, _ = make(tmp_path, f"a@users.example:{SHA}::::::{rule}\n")
    found = directory.resolve(parse_mailbox("a@users.example"))
    assert isinstance(found, Mailbox) and found.quota == quota


@pytest.mark.parametrize(
    ("line", "problem", "known"),
    [
        ("a", "line 2: the user has no domain, and there is no default_domain; the user is passed over", False),
        ("a@b@c:x", "line 2: the user is not a mail address", False),
        ("é@users.example:x", "line 2: the user has letters beyond ASCII before the @", False),
        ("a@users.example:{OTP}x", "line 2: the hash has the scheme OTP, which this server does not check", True),
        ("a@users.example:{CRYPT}$6$rounds=999999999$x$y", "line 2: the hash asks for more work than", True),
        (f"a@users.example:{SHA}::::::userdb_quota_rule=*:storage=50%", "line 2: userdb_quota_rule is not", True),
        (f"a@users.example:{SHA}::::::allow_nets=10.0.0.0/8", "has allow_nets, which this server cannot judge", True),
        (
            f"a@users.example:{SHA}::::::nologin=n allow_nets=::1",
            "has allow_nets, which this server cannot judge",
            True,
        ),
        (f"a@users.example:{SHA}::::::nopassword", "has nopassword, which this server cannot judge", True),
        (
            "Z@users.example:x",
            "line 2: Z@users.example is there already, case does not count; the first one stays",
            False,
        ),
    ],
)
def test_a_line_with_a_fault_is_told_and_costs_no_more_than_it_must(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line: str, problem: str, known: bool
) -> None:
    directory, _, _ = make(tmp_path, f"z@users.example:{SHA}\n{line}\n")
    (told,) = [record.getMessage() for record in caplog.records]
    assert problem in told and SHA not in told and "rounds=" not in told
    assert isinstance(directory.resolve(parse_mailbox("a@users.example")), Mailbox) == known
    assert isinstance(directory.resolve(parse_mailbox("z@users.example")), Mailbox)
    if "quota" not in problem:
        assert directory.authenticate("a@users.example", SECRET) is None
    assert directory.authenticate("z@users.example", SECRET) is not None


def test_many_faults_do_not_flood_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, "nobody\n" * 1000)
    assert len(caplog.records) == 21 and "and 980 more faults" in caplog.text


@given(st.binary(max_size=200))
def test_no_line_does_anything_else(line: bytes) -> None:
    snapshot = Snapshot(iter([line]), "users.example", "CRYPT")
    assert len(snapshot.accounts) <= 1


def test_a_change_is_taken_over_and_an_empty_file_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory, path, moment = make(tmp_path, f"a@users.example:{SHA}\n")
    edit(path, f"b@users.example:{SHA}\n")
    moment.now += 5
    assert directory.resolve(parse_mailbox("a@users.example")) == Unknown()
    b = parse_mailbox("b@users.example")
    assert directory.resolve(b) == Mailbox(b, UNLIMITED)
    for action in (lambda: edit(path, "# nothing\n"), path.unlink):
        action()
        moment.now += 5
        assert directory.resolve(b) == Mailbox(b, UNLIMITED)
    assert "has no user any more" in caplog.text and "cannot be read" in caplog.text


def test_a_file_that_cannot_be_used_at_first_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        PasswdSource(tmp_path / "users")
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        PasswdSource(tmp_path)


@pytest.mark.parametrize("password", ["wrong", "w" * 2000])
def test_a_user_whom_no_password_lets_in_costs_the_same_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    hashed = f"{{ARGON2ID}}{SECRET_HASH}"
    users = {"a": hashed, "nologin": f"{hashed}::::::nologin", "nets": f"{hashed}::::::allow_nets=10.0.0.0/8"}
    users |= {"none": "", "broken": "{OTP}x"}
    directory, _, _ = make(tmp_path, "".join(f"{name}@users.example:{rest}\n" for name, rest in users.items()))
    work: list[str] = []

    def done(name: str) -> list[str]:
        work.clear()
        assert directory.authenticate(f"{name}@users.example", password) is None
        return list(work)

    monkeypatch.setattr(PasswordHasher, "verify", _refusing(work))
    assert len(done("a")) == 2
    for name in ("nologin", "nets", "none", "broken", "nobody"):
        assert done(name) == done("a"), name


def _refusing(work: list[str]) -> Callable[[PasswordHasher, str, bytes], bool]:
    def verify(self: PasswordHasher, stored: str, octets: bytes) -> bool:
        work.append(stored.partition(",p=")[0])
        raise VerifyMismatchError

    return verify


def test_a_user_who_is_unknown_costs_what_a_user_of_the_file_costs(tmp_path: Path) -> None:
    import bcrypt

    stored = bcrypt.hashpw(SECRET.encode(), bcrypt.gensalt(10)).decode()
    directory, _, _ = make(tmp_path, f"a@users.example:{stored}\n")

    def cost(user: str) -> float:
        start = time.process_time()
        assert directory.authenticate(user, "wrong") is None
        return time.process_time() - start

    cost("a@users.example")
    known, unknown = (min(cost(f"{name}@users.example") for _ in range(5)) for name in "ab")  # others only add to it
    assert 0.6 < unknown / known < 1.6
