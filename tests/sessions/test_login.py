"""Authentication as all protocols share it: which mechanisms there are, and how an exchange ends."""

from __future__ import annotations

from typing import Any

import pytest

from mailserver.accounts import Visit
from mailserver.mail import Address
from mailserver.policy.failures import Failures
from mailserver.ports import ClientCertificate, TLSState
from mailserver.sasl import ScramKeys
from mailserver.sessions.login import Authenticator, LoginRefused
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
        return ALICE if (username, password) == (str(ALICE), "secret") else None

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


def by_certificate(asked: Authenticator, identity: bytes) -> Any:
    exchange = asked.begin(FakeChannel(tls=TLS, client_certificate=SHOWN), "EXTERNAL", "imap")
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
