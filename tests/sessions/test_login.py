"""Authentication as all protocols share it: which mechanisms there are, and how an exchange ends."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from mailserver.accounts import Visit
from mailserver.config.abuse import Abuse
from mailserver.mail import Address
from mailserver.policy.failures import SIEGE, Failures
from mailserver.policy.guard import Guard
from mailserver.policy.ledger import Ledger
from mailserver.ports import ClientCertificate, TLSState
from mailserver.sasl import ScramKeys
from mailserver.sessions.login import NO_NAME, Authenticator, LoginRefused
from tests.support.fakes import FakeChannel, FakeClock, FakeWorkers, PasswordsOnly, run
from tests.support.scram import ScramClient

ALICE = Address("alice", "example.test")
TLS = TLSState("TLSv1.3", "TLS_AES_256_GCM_SHA384")
BINDINGS = {"tls-exporter": b"\1" * 32}
ALIAS = "postmaster@example.test"
SHOWN = ClientCertificate("CN=Alice", (str(Address("alice", "example.test")),), "ab" * 32)
KEYS = ScramKeys.of(b"secret", iterations=4096)


class Directory(PasswordsOnly):
    scram = True
    broken = False

    def authenticate(self, username: str, password: str, visit: Visit) -> Address | None:
        return self.account_of(username) if password == "secret" else None

    def by_certificate(self, certificate: ClientCertificate, authorize_as: str) -> Address | None:
        if self.broken:
            raise OSError("the disk is gone")
        return ALICE if certificate == SHOWN and authorize_as in ("", str(ALICE)) else None

    def offers_scram(self) -> bool:
        return self.scram

    def account_of(self, username: str) -> Address | None:
        return ALICE if username in (str(ALICE), ALIAS) else None

    def scram_iterations(self) -> list[int]:
        return [4096, 4096, 50_000]

    def scram_keys(self, username: str) -> tuple[Address, ScramKeys] | None:
        if self.broken:
            raise OSError("the disk is gone")
        return (ALICE, KEYS) if username == str(ALICE) else None


def guarded(path: Path, **rules: int) -> Authenticator:
    """Who has failed twice at an account is banned there."""
    asked = authenticator()
    asked.guard = Guard(Abuse(**({"failures": 4, "failures_per_account": 2} | rules)), asked.clock, FakeWorkers())
    asked.guard.open(Ledger(path / "bans.db"))
    return asked


def authenticator(**directory: bool) -> Authenticator:
    made = Directory()
    for name, value in directory.items():
        setattr(made, name, value)
    return Authenticator(made, FakeWorkers(), FakeClock(), Failures(), secret=b"x" * 32)


def encrypted() -> FakeChannel:
    return FakeChannel(tls=TLS, bindings=BINDINGS)


@pytest.mark.parametrize(
    ("channel", "scram", "offered"),
    [
        (FakeChannel(), True, ()),
        (FakeChannel(tls=TLS), False, ("PLAIN", "LOGIN")),
        (FakeChannel(tls=TLS), True, ("SCRAM-SHA-256", "PLAIN", "LOGIN")),
        (encrypted(), True, ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN")),
        (encrypted(), False, ("PLAIN", "LOGIN")),
        (FakeChannel(tls=TLS, client_certificate=SHOWN), False, ("EXTERNAL", "PLAIN", "LOGIN")),
    ],
)
def test_what_is_offered_is_what_can_be_begun(channel: FakeChannel, scram: bool, offered: tuple[str, ...]) -> None:
    asked = authenticator(scram=scram)
    assert asked.mechanisms(channel) == offered
    for name in ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN", "EXTERNAL", "CRAM-MD5", ""):
        assert (asked.begin(channel, name, "imap") is not None) == (name in offered)


def prove(asked: Authenticator, client: ScramClient, name: str = "SCRAM-SHA-256") -> tuple[Any, bytes]:
    """How it ended, and what the server said first."""
    exchange = asked.begin(encrypted(), name, "imap")
    assert exchange is not None
    first = run(exchange.step(client.first))
    assert isinstance(first, bytes)
    last = run(exchange.step(client.final(first)))
    assert isinstance(last, bytes) and client.trusts(last)
    return run(exchange.step(b"")), first


def test_scram_with_and_without_binding() -> None:
    bound = ScramClient(str(ALICE), "secret", binding=("tls-exporter", BINDINGS["tls-exporter"]))
    assert prove(authenticator(), ScramClient(str(ALICE), "secret"))[0] == ALICE
    assert prove(authenticator(), bound, "SCRAM-SHA-256-PLUS")[0] == ALICE
    assert prove(authenticator(), ScramClient(str(ALICE), "secret", authorize_as=str(ALICE)))[0] == ALICE


@pytest.mark.parametrize(
    "client",
    [
        ScramClient(str(ALICE), "guess"),
        ScramClient("nobody@example.test", "secret"),
        ScramClient("../../etc/passwd", "secret"),
    ],
)
def test_wrong_passwords_and_unknown_users_get_the_same_answers(client: ScramClient) -> None:
    asked = authenticator()
    exchange = asked.begin(encrypted(), "SCRAM-SHA-256", "imap")
    assert exchange is not None
    first = run(exchange.step(client.first))
    assert isinstance(first, bytes) and b",s=" in first
    before = asked.clock.monotonic()
    with pytest.raises(LoginRefused, match="authentication failed") as refused:
        run(exchange.step(client.final(first)))
    assert not refused.value.malformed and not refused.value.temporary
    assert asked.clock.monotonic() > before, "guessing costs time"


@pytest.mark.parametrize(
    "names",
    [
        ("nobody@example.test", "NOBODY@example.test", '"nobody"@example.test', "\uff2eobody@example.test"),
        ("nobody@b\u00fccher.example", "nobody@B\u00dcCHER.example", "nobody@xn--bcher-kva.example"),
    ],
)
def test_an_unknown_user_has_the_same_salt_each_time_in_every_process(names: tuple[str, ...]) -> None:
    salts = set()
    for name in names:
        exchange = authenticator().begin(encrypted(), "SCRAM-SHA-256", "imap")
        assert exchange is not None
        first = run(exchange.step(ScramClient(name, "x").first))
        assert isinstance(first, bytes)
        salts.add(first.partition(b",")[2])
    assert len(salts) == 1


def test_unknown_users_have_iterations_as_known_ones_have() -> None:
    counts = []
    for number in range(300):
        exchange = authenticator().begin(encrypted(), "SCRAM-SHA-256", "imap")
        assert exchange is not None
        first = run(exchange.step(ScramClient(f"nobody{number}@example.test", "x").first))
        assert isinstance(first, bytes)
        counts.append(int(first.rpartition(b"i=")[2]))
    assert set(counts) == {4096, 50_000}
    assert 150 < counts.count(4096) < 250


def test_scram_that_was_begun_when_the_last_account_with_keys_went_ends_as_for_an_unknown_user() -> None:
    asked = authenticator()
    asked.directory.scram_iterations = list  # type: ignore[method-assign]
    exchange, client = asked.begin(encrypted(), "SCRAM-SHA-256", "imap"), ScramClient("nobody@example.test", "secret")
    assert exchange is not None
    first = run(exchange.step(client.first))
    assert isinstance(first, bytes)
    with pytest.raises(LoginRefused, match="authentication failed"):
        run(exchange.step(client.final(first)))


def test_who_asks_for_many_salts_and_never_answers_is_slowed_down() -> None:
    asked = authenticator()
    waits = []
    for number in range(5):
        before = asked.clock.monotonic()
        exchange = asked.begin(encrypted(), "SCRAM-SHA-256", "imap")
        assert exchange is not None
        run(exchange.step(ScramClient(f"nobody{number}@example.test", "x").first))
        waits.append(asked.clock.monotonic() - before)
    assert waits == [0, 1, 2, 4, 8]
    prove(asked, ScramClient(str(ALICE), "secret"))
    before = asked.clock.monotonic()
    prove(asked, ScramClient(str(ALICE), "secret"))
    assert asked.clock.monotonic() == before, "who gets in has a clean slate"


@pytest.mark.parametrize("identity", [str(ALICE), ALIAS])
def test_an_identity_may_be_spelled_in_another_way(identity: str) -> None:
    asked = authenticator()
    assert run(asked.login(encrypted(), str(ALICE), "secret", "imap", identity)) == ALICE
    assert prove(asked, ScramClient(str(ALICE), "secret", authorize_as=identity))[0] == ALICE


def test_another_identity_is_refused_even_with_the_right_password() -> None:
    with pytest.raises(LoginRefused, match="authentication failed"):
        prove(authenticator(), ScramClient(str(ALICE), "secret", authorize_as="bob@example.test"))


def test_a_directory_that_cannot_be_read_is_temporary() -> None:
    exchange = authenticator(broken=True).begin(encrypted(), "SCRAM-SHA-256", "imap")
    assert exchange is not None
    with pytest.raises(LoginRefused) as refused:
        run(exchange.step(ScramClient(str(ALICE), "secret").first))
    assert refused.value.temporary


def test_what_is_not_scram_is_malformed() -> None:
    exchange = authenticator().begin(encrypted(), "SCRAM-SHA-256", "imap")
    assert exchange is not None
    with pytest.raises(LoginRefused) as refused:
        run(exchange.step(b"\0alice\0secret"))
    assert refused.value.malformed


def by_certificate(asked: Authenticator, identity: bytes, *, former: bool = False) -> Any:
    shown = ClientCertificate("CN=Alice", (), "cd" * 32) if former else SHOWN
    exchange = asked.begin(FakeChannel(tls=TLS, client_certificate=shown, peer="192.0.2.1"), "EXTERNAL", "imap")
    assert exchange is not None
    assert run(exchange.step(None)) == b""
    return run(exchange.step(identity))


@pytest.mark.parametrize("identity", [b"", str(ALICE).encode()])
def test_a_certificate_opens_its_account(identity: bytes) -> None:
    assert by_certificate(authenticator(), identity) == ALICE


def test_a_certificate_opens_no_other_and_trying_costs_time() -> None:
    asked = authenticator()
    before = asked.clock.monotonic()
    with pytest.raises(LoginRefused, match="authentication failed") as refused:
        by_certificate(asked, b"bob@example.test")
    assert not refused.value.malformed and not refused.value.temporary
    assert asked.clock.monotonic() > before
    with pytest.raises(LoginRefused) as refused:
        by_certificate(authenticator(broken=True), b"")
    assert refused.value.temporary
    with pytest.raises(LoginRefused) as refused:
        by_certificate(authenticator(), b"\0")
    assert refused.value.malformed


# Bans


def outcome(asked: Authenticator, password: str, *, user: str = str(ALICE), peer: str = "192.0.2.1") -> str:
    channel = FakeChannel(tls=TLS, peer=peer)
    try:
        return str(run(asked.login(channel, user, password, "imap")))
    except LoginRefused as refused:
        return f"{'temporary: ' if refused.temporary else ''}{refused}"


BANNED = "temporary: too many failed logins from your address, try again in 10 min"


@pytest.mark.parametrize("user", [str(ALICE), "nobody@example.test"])
def test_who_is_banned_hears_so_whether_the_password_is_right_or_the_user_exists(tmp_path: Path, user: str) -> None:
    asked = guarded(tmp_path)
    assert [outcome(asked, each, user=user) for each in ("a", "b")] == ["authentication failed"] * 2
    before = asked.clock.monotonic()
    assert outcome(asked, "secret", user=user) == BANNED
    assert asked.clock.monotonic() - before == 10, "and waits for it"
    assert outcome(asked, "secret", peer="192.0.2.2") == str(ALICE)
    assert outcome(asked, "c", user="bob@example.test") == "authentication failed"


SECRETS = ("Tr0ub4dor&3", "correct horse", "p@ssword", "p@ss.w0rd1", "me@3.14", "a@b@c", "alice@localhost", "")


@pytest.mark.parametrize("typed", SECRETS)
def test_a_password_in_the_field_of_the_name_is_written_down_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, typed: str
) -> None:
    caplog.set_level(logging.DEBUG)
    asked = guarded(tmp_path)
    for number in range(3):
        outcome(asked, f"guess{number}", user=typed)
    assert f"login refused user={NO_NAME!r}" in caplog.text
    assert f"banned network=192.0.2.1 account={NO_NAME!r}" in caplog.text, "it counts all the same"
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not typed or (typed not in caplog.text and typed.encode() not in files)


def test_one_password_for_many_names_is_a_guess_for_each_though_none_is_written_down(tmp_path: Path) -> None:
    asked = guarded(tmp_path)
    assert {outcome(asked, "123456", user="root") for _ in range(3)} == {"authentication failed"}, "counts once"
    assert outcome(asked, "123456", user="admin") == "authentication failed"
    assert "too many failed logins" in outcome(asked, "123456", user="backup")


@pytest.mark.parametrize("typed", [str(ALICE), "nobody@far.example", "Nobody+x@B\u00fccher.example"])
def test_what_looks_like_an_address_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture, typed: str) -> None:
    outcome(guarded(tmp_path), "guess", user=typed)
    assert f"login refused user={typed!r}" in caplog.text


def test_an_alias_is_no_second_way_to_guess(tmp_path: Path) -> None:
    asked = guarded(tmp_path)
    outcome(asked, "a")
    outcome(asked, "b", user=ALIAS)
    assert outcome(asked, "secret") == outcome(asked, "secret", user=ALIAS) == BANNED


def test_guesses_by_scram_lead_to_a_ban_and_those_who_only_begin_do_not(tmp_path: Path) -> None:
    asked = guarded(tmp_path)
    channel = FakeChannel(tls=TLS, peer="192.0.2.1", bindings=BINDINGS)
    for _ in range(5):  # as a client that opens many connections at once
        begun = asked.begin(channel, "SCRAM-SHA-256", "imap")
        assert begun is not None
        run(begun.step(ScramClient(str(ALICE), "secret").first))
    for _ in range(2):
        exchange, client = asked.begin(channel, "SCRAM-SHA-256", "imap"), ScramClient(str(ALICE), "guess")
        assert exchange is not None
        first = run(exchange.step(client.first))
        assert isinstance(first, bytes)
        with pytest.raises(LoginRefused, match="authentication failed"):
            run(exchange.step(client.final(first)))
    last = asked.begin(channel, "SCRAM-SHA-256", "imap")
    assert last is not None
    with pytest.raises(LoginRefused, match="too many failed logins"):
        run(last.step(ScramClient(str(ALICE), "secret").first))


def test_who_was_here_before_gets_in_whatever_is_guessed_beside_him(tmp_path: Path) -> None:
    asked = guarded(tmp_path)
    assert outcome(asked, "secret") == str(ALICE)
    for n in range(20):
        outcome(asked, f"guess {n}")
    for n in range(4):
        outcome(asked, "x", user=f"u{n}@example.test")
    assert outcome(asked, "secret", user=ALIAS) == str(ALICE), "by an alias too"
    assert outcome(asked, "secret", user="bob@example.test") == BANNED


def test_many_sources_that_guess_at_one_account_make_unknown_ones_wait(tmp_path: Path) -> None:
    asked = guarded(tmp_path)
    assert outcome(asked, "secret", peer="198.51.100.1") == str(ALICE)
    for n in range(SIEGE + 10):
        outcome(asked, "x", peer=f"10.0.0.{n}")
    before = asked.clock.monotonic()
    assert outcome(asked, "secret", peer="198.51.100.1") == str(ALICE)
    assert asked.clock.monotonic() == before, "where he was before the owner does not wait"
    assert outcome(asked, "secret", peer="198.51.100.2") == str(ALICE)
    assert asked.clock.monotonic() - before == 10, "from elsewhere he waits, and gets in"


class Tokens(Directory):
    offers_tokens = True

    def by_token(self, username: str, token: str) -> Address | None:  # type: ignore[override]
        return ALICE if token == "good" and username in ("", str(ALICE)) else None


def by_token(asked: Authenticator, token: str, user: str = "") -> str:
    exchange = asked.begin(FakeChannel(tls=TLS, peer="192.0.2.1"), "OAUTHBEARER", "imap")
    assert exchange is not None
    name = f"a={user}," if user else ","
    try:
        outcome = run(exchange.step(f"n,{name}\1auth=Bearer {token}\1\1".encode()))
        return str(run(exchange.step(b"\1")) if isinstance(outcome, bytes) else outcome)
    except LoginRefused as refused:
        return str(refused)


def test_a_program_whose_token_has_expired_bans_nobody_and_who_was_here_gets_in_by_token(tmp_path: Path) -> None:
    asked = guarded(tmp_path)
    asked.directory = Tokens()
    for _ in range(50):
        assert by_token(asked, "expired", str(ALICE)) == "authentication failed"
    assert by_token(asked, "good") == str(ALICE)
    for n in range(4):
        outcome(asked, "x", user=f"u{n}@example.test")
    assert outcome(asked, "x", user="bob@example.test") == BANNED
    assert by_token(asked, "good") == by_token(asked, "good", str(ALICE)) == str(ALICE), "named by the token alone"
    assert by_token(asked, "bad").startswith("too many failed logins")


def test_a_program_with_a_certificate_that_opens_nothing_any_more_bans_nobody(tmp_path: Path) -> None:
    asked = guarded(tmp_path)
    for identity in (b"", b"bob@example.test") * 20:
        with pytest.raises(LoginRefused, match="authentication failed"):
            by_certificate(asked, identity, former=identity == b"")
    assert outcome(asked, "secret") == str(ALICE)
    assert by_certificate(asked, b"") == ALICE


def test_the_users_of_an_exempt_source_are_slowed_each_for_himself() -> None:
    failures = Failures(exempt=("192.0.2.1",))
    for _ in range(5):
        failures.note("192.0.2.1", 0.0, "alice@example.test")
    assert failures.delay("192.0.2.1", 0.0, "alice@example.test") == 10
    assert failures.delay("192.0.2.1", 0.0, "bob@example.test") == 0


def test_logins_by_scram_that_succeed_besiege_no_account() -> None:
    asked = authenticator()
    for _ in range(40):
        assert prove(asked, ScramClient(str(ALICE), "secret"))[0] == ALICE
    assert asked.failures.siege(str(ALICE), asked.clock.monotonic()) == 0


def test_who_fails_is_noted_though_the_directory_cannot_be_asked_a_moment_later(tmp_path: Path) -> None:
    asked = guarded(tmp_path)

    class Flapping(Directory):
        def authenticate(self, username: str, password: str, visit: Visit | None = None) -> Address | None:
            self.broken = True
            return None

        def account_of(self, username: str) -> Address | None:
            if self.broken:
                raise OSError("gone")
            return super().account_of(username)

    asked.directory = Flapping()
    for number in range(2):
        asked.directory.broken = False
        assert "authentication failed" in outcome(asked, f"guess {number}")
    asked.directory.broken = False
    outcome(asked, "guess", user="Tr0ub4dor&3")
    assert b"Tr0ub4dor" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    asked.directory = Directory()
    assert "too many failed logins" in outcome(asked, "secret")


def test_what_no_directory_should_do_is_temporary() -> None:
    class Odd(Directory):
        def authenticate(self, username: str, password: str, visit: Visit | None = None) -> Address | None:
            raise ValueError("no such row")

    asked = authenticator()
    asked.directory = Odd()
    with pytest.raises(LoginRefused) as refused:
        run(asked.login(FakeChannel(tls=TLS), str(ALICE), "secret", "imap"))
    assert refused.value.temporary
