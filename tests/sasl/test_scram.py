"""SCRAM-SHA-256 and -PLUS, the server's end: the example of RFC 7677, bindings, downgrades, garbage."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.sasl import Challenge, Failed, Lookup, Malformed, Proven, Scram, ScramKeys, Step, mechanism
from tests.support.scram import ScramClient

SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
KEYS = ScramKeys.of(b"pencil", salt=SALT, iterations=4096)
BINDINGS = {"tls-exporter": b"\1" * 32, "tls-server-end-point": b"\2" * 32}


def plain(**settings: bool) -> Scram:
    return Scram(binding=None, plus_offered=settings.get("plus_offered", False))


def plus() -> Scram:
    return Scram(binding=BINDINGS.get, plus_offered=True)


def meet(server: Scram, client: ScramClient, keys: ScramKeys = KEYS) -> Step:
    """The whole exchange; whoever is proven has seen the server's proof too."""
    step = server.step(client.first)
    if isinstance(step, Lookup):
        step = server.supply(keys)
    if isinstance(step, Challenge):
        step = server.step(client.final(step.data))
    if isinstance(step, Challenge):
        assert client.trusts(step.data)
        step = server.step(b"")
    return step


def test_the_example_of_rfc_7677() -> None:
    server = Scram(binding=None, plus_offered=False, nonce=b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    assert server.step(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO") == Lookup("user", "")
    assert server.supply(KEYS) == Challenge(
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    final = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    final += b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    assert server.step(final) == Challenge(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    assert server.step(b"") == Proven()
    assert isinstance(server.step(b""), Malformed)


@pytest.mark.parametrize("user", ["alice@example.test", "a,b=c", "jürgen", "x" * 900])
def test_users_of_every_kind(user: str) -> None:
    server, client = plain(), ScramClient(user, "pencil", authorize_as="somebody")
    assert server.step(client.first) == Lookup(user, "somebody")
    assert meet(plain(), client) == Proven()


@pytest.mark.parametrize("kind", BINDINGS)
def test_channel_binding(kind: str) -> None:
    assert meet(plus(), ScramClient("u", "pencil", binding=(kind, BINDINGS[kind]))) == Proven()


def test_a_binding_to_another_connection_fails() -> None:
    assert meet(plus(), ScramClient("u", "pencil", binding=("tls-exporter", b"\7" * 32))) == Failed()


def test_a_wrong_password_fails_and_so_does_a_decoy() -> None:
    assert meet(plain(), ScramClient("u", "pencils")) == Failed()
    assert meet(plain(), ScramClient("u", "pencil"), ScramKeys.decoy(b"secret", b"u")) == Failed()


def test_decoys_are_as_steady_as_real_keys_and_different_for_each() -> None:
    one, again, other = (ScramKeys.decoy(b"secret", user) for user in (b"u", b"u", b"v"))
    assert one == again
    assert one.salt != other.salt != ScramKeys.decoy(b"another", b"v").salt
    assert (len(one.salt), one.iterations) == (len(ScramKeys.of(b"x").salt), ScramKeys.of(b"x").iterations)


def test_a_downgrade_is_noticed() -> None:
    assert meet(plain(plus_offered=True), ScramClient("u", "pencil", flag="n")) == Proven()
    assert isinstance(meet(plain(plus_offered=True), ScramClient("u", "pencil", flag="y")), Malformed)
    assert meet(plain(plus_offered=False), ScramClient("u", "pencil", flag="y")) == Proven()


@pytest.mark.parametrize(
    "client",
    [
        ScramClient("u", "pencil", binding=("tls-unique", b"x")),
        ScramClient("u", "pencil", flag="n"),
        ScramClient("u", "pencil", flag="y"),
    ],
)
def test_plus_needs_a_binding_that_is_known(client: ScramClient) -> None:
    assert isinstance(meet(plus(), client), Malformed)


def test_a_binding_without_plus_is_refused() -> None:
    assert isinstance(meet(plain(), ScramClient("u", "pencil", binding=("tls-exporter", b"x"))), Malformed)


@pytest.mark.parametrize(
    "first",
    [
        b"", b"n", b"n,,", b"n,,n=,r=x", b"n,,n=u,r=", b"n,,n=u", b"n,,m=x,n=u,r=x", b"x,,n=u,r=x", b"n,n=u,r=x",
        b"n,,n=a=b,r=x", b"n,a=x=,n=u,r=x", b"n,,n=\xff,r=x", b"n,,n=u,r=\xff", b"p=,,n=u,r=x",
        b"n,,n=" + b"x" * 2000 + b",r=x", b"n,,n=u,r=" + b"x" * 2000, b"n,a=\xff,n=u,r=x",
    ],
)  # fmt: skip
def test_malformed_beginnings(first: bytes) -> None:
    server = plain()
    assert isinstance(server.step(first), Malformed)
    assert isinstance(server.step(b"n,,n=u,r=x"), Malformed), "it is over"


@pytest.mark.parametrize(
    "change",
    [
        lambda final: b"",
        lambda final: final.replace(b"r=", b"r=x"),
        lambda final: final[:-4],
        lambda final: final + b"x",
        lambda final: final.replace(b"c=biws", b"c=@@@@"),
        lambda final: final.replace(b",p=", b",q="),
        lambda final: b"v=" + final,
    ],
)
def test_malformed_ends(change: object) -> None:
    server, client = plain(), ScramClient("u", "pencil")
    server.step(client.first)
    step = server.supply(KEYS)
    assert isinstance(step, Challenge)
    assert isinstance(server.step(change(client.final(step.data))), Malformed | Failed)  # type: ignore[operator]
    assert isinstance(server.step(b""), Malformed)


def test_a_header_that_differs_from_the_first_one_fails() -> None:
    server, client = plain(), ScramClient("u", "pencil")
    server.step(client.first)
    step = server.supply(KEYS)
    assert isinstance(step, Challenge)
    client._header = b"y,,"
    assert server.step(client.final(step.data)) == Failed()


def test_a_proof_of_another_length_fails() -> None:
    for proof in (b"", b"x" * 31, b"x" * 33):
        server, client = plain(), ScramClient("u", "pencil")
        server.step(client.first)
        step = server.supply(KEYS)
        assert isinstance(step, Challenge)
        final = client.final(step.data).rpartition(b",p=")[0] + b",p=" + base64.b64encode(proof)
        assert isinstance(server.step(final), Failed | Malformed)


def test_something_behind_the_end_is_no_proof() -> None:
    server, client = plain(), ScramClient("u", "pencil")
    server.step(client.first)
    step = server.supply(KEYS)
    assert isinstance(step, Challenge)
    server.step(client.final(step.data))
    assert isinstance(server.step(b"more"), Malformed)


@given(
    st.lists(st.none() | st.binary(max_size=60) | st.sampled_from([b"n,,n=u,r=x", b"c=biws,r=x,p=eA=="]), max_size=5)
)
def test_garbage_never_raises_and_proves_nothing(responses: list[bytes | None]) -> None:
    for server in (plain(), plus()):
        for response in responses:
            step = server.step(response)
            if isinstance(step, Lookup):
                step = server.supply(KEYS)
            assert not isinstance(step, Proven)


def test_keys_as_text() -> None:
    text = str(KEYS)
    assert text.startswith("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$")
    assert ScramKeys.parse(text) == KEYS
    assert "stored_key" not in repr(KEYS) and "server_key" not in repr(KEYS)
    for damaged in ("", text[:-1], text[1:], text.replace("4096", "4095"), text.replace("$", "$A", 1), text + "\n"):
        with pytest.raises(ValueError, match=r"SCRAM-SHA-256|base64"):
            ScramKeys.parse(damaged)


def test_plus_exists_only_where_there_is_something_to_bind_to() -> None:
    assert mechanism("SCRAM-SHA-256-PLUS") is None
    assert mechanism("scram-sha-256-plus", BINDINGS.get) is not None
