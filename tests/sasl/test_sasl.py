"""PLAIN and LOGIN, both ends, and their base64."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.sasl import (
    SERVER_MECHANISMS,
    Challenge,
    ClientMechanism,
    Credentials,
    Login,
    Malformed,
    Mechanism,
    Plain,
    Step,
    Vouched,
    choose,
    decode_base64,
    encode_base64,
    mechanism,
)

WORD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=50)


def begin(name: str) -> Mechanism:
    made = mechanism(name)
    assert made is not None
    return made


def run(server: Mechanism, client: ClientMechanism) -> Step:
    """The whole exchange, in memory."""
    step = server.step(client.initial)
    while isinstance(step, Challenge):
        step = server.step(client.respond(step.data))
    return step


# Base64


@given(st.binary(max_size=100))
def test_base64_round_trip(data: bytes) -> None:
    assert encode_base64(data) == base64.b64encode(data)
    assert decode_base64(encode_base64(data)) == data


@given(st.binary(max_size=12) | st.text("AB=+/ \r\n-_", max_size=12).map(str.encode))
def test_base64_is_decoded_from_its_one_spelling_only(line: bytes) -> None:
    try:
        data = decode_base64(line)
    except ValueError:
        return
    assert base64.b64encode(data) == line


@pytest.mark.parametrize(
    "line",
    [b"=", b"A", b"AA", b"AA=", b"AA===", b"AB==", b"AA==AA==", b"AA AA", b"AAAA\n", b"A-_A", b"\xff\xff\xff\xff"],
)
def test_base64_malformed(line: bytes) -> None:
    with pytest.raises(ValueError, match="base64"):
        decode_base64(line)


# Server


def test_mechanisms_by_name() -> None:
    assert SERVER_MECHANISMS == (
        "EXTERNAL",
        "SCRAM-SHA-256-PLUS",
        "SCRAM-SHA-256",
        "OAUTHBEARER",
        "XOAUTH2",
        "PLAIN",
        "LOGIN",
    )
    assert mechanism("plain") is not None
    for absent in ("CRAM-MD5", "DIGEST-MD5", "NTLM", "ANONYMOUS", "GSSAPI", "SCRAM-SHA-1", ""):
        assert mechanism(absent) is None
    assert begin("LOGIN") is not begin("LOGIN")


@pytest.mark.parametrize(
    ("message", "credentials"),
    [
        (b"\0tim\0tanstaaftanstaaf", Credentials("tim", "tanstaaftanstaaf")),  # RFC 4616 §4
        (b"Ursel\0Kurt\0xipj3plmq", Credentials("Kurt", "xipj3plmq", "Ursel")),
        ("\0\u00fcser\0p\u00e4ss".encode(), Credentials("\u00fcser", "p\u00e4ss")),
    ],
)
def test_plain(message: bytes, credentials: Credentials) -> None:
    assert begin("PLAIN").step(message) == credentials
    later = begin("PLAIN")
    assert later.step(None) == Challenge(b"")
    assert later.step(message) == credentials


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\0",
        b"\0\0",
        b"user\0pass",
        b"\0user\0",
        b"\0\0pass",
        b"\0user\0pass\0",
        b"\0user\0pa\0ss",
        b"\0\xff\0pass",
        b"\0user\0\xc3",
        b"\xff\0user\0pass",
        b"\0" + b"u" * 1025 + b"\0pass",
        b"\0user\0" + b"p" * 1025,
        b"a" * 1025 + b"\0user\0pass",
    ],
    ids=lambda message: repr(message[:20]),
)
def test_plain_malformed(message: bytes) -> None:
    server = begin("PLAIN")
    assert isinstance(server.step(message), Malformed)
    assert isinstance(server.step(b"\0user\0pass"), Malformed)  # no second guess in one exchange


def test_login() -> None:
    server = begin("LOGIN")
    assert server.step(None) == Challenge(b"Username:")
    assert server.step(b"user") == Challenge(b"Password:")
    assert server.step(b"pass") == Credentials("user", "pass")
    assert isinstance(server.step(b"pass"), Malformed)


def test_login_with_an_initial_response() -> None:
    server = begin("LOGIN")
    assert server.step(b"user") == Challenge(b"Password:")
    assert server.step(b"pass") == Credentials("user", "pass")


@pytest.mark.parametrize(
    ("user", "password"),
    [(b"", b"p"), (b"u", b""), (b"u\0", b"p"), (b"u", b"\0"), (b"\xff", b"p"), (b"u" * 1025, b"p")],
)
def test_login_malformed(user: bytes, password: bytes) -> None:
    server = begin("LOGIN")
    server.step(user)
    assert isinstance(server.step(password), Malformed)


@given(st.sampled_from(["PLAIN", "LOGIN"]), st.lists(st.none() | st.binary(max_size=20), max_size=6))
def test_a_server_mechanism_never_raises(name: str, responses: list[bytes | None]) -> None:
    server = begin(name)
    for response in responses:
        step = server.step(response)
        assert isinstance(step, Challenge | Credentials | Malformed)
        if isinstance(step, Credentials):
            assert step.user
            assert step.password


def test_no_password_stands_in_a_repr() -> None:
    assert "secret" not in repr(begin("PLAIN").step(b"\0user\0secret"))
    assert "secret" not in repr(Plain("user", "secret"))


# Client, and both


@given(WORD, WORD, st.just("") | WORD)
def test_plain_between_both_ends(user: str, password: str, authorize_as: str) -> None:
    assert run(begin("PLAIN"), Plain(user, password, authorize_as)) == Credentials(user, password, authorize_as)


@given(WORD, WORD)
def test_login_between_both_ends(user: str, password: str) -> None:
    assert run(begin("LOGIN"), Login(user, password)) == Credentials(user, password)


@pytest.mark.parametrize(("user", "password"), [("", "p"), ("u", ""), ("u\0", "p"), ("u", "p\0")])
def test_credentials_that_plain_cannot_carry(user: str, password: str) -> None:
    with pytest.raises(ValueError, match="NUL"):
        Plain(user, password)


def test_a_client_gives_nothing_to_a_server_that_asks_for_more() -> None:
    with pytest.raises(ValueError, match="PLAIN"):
        Plain("u", "p").respond(b"more?")
    login = Login("u", "p")
    assert [login.respond(b""), login.respond(b"")] == [b"u", b"p"]
    with pytest.raises(ValueError, match="LOGIN"):
        login.respond(b"more?")


@pytest.mark.parametrize(
    ("offered", "name"),
    [(["LOGIN", "plain"], "PLAIN"), (["GSSAPI", "LOGIN"], "LOGIN"), (["CRAM-MD5"], None), ([], None)],
)
def test_the_best_mechanism_is_chosen(offered: list[str], name: str | None) -> None:
    chosen = choose(offered, "u", "p")
    assert (chosen.name if chosen else None) == name


# EXTERNAL


@pytest.mark.parametrize(
    ("response", "step"),
    [
        (b"", Vouched("")),  # RFC 4422 appendix A.2
        (b"fred@example.com", Vouched("fred@example.com")),
        ("j\u00fcrgen".encode(), Vouched("j\u00fcrgen")),
    ],
)
def test_external(response: bytes, step: Step) -> None:
    assert begin("EXTERNAL").step(response) == step
    server = begin("EXTERNAL")
    assert server.step(None) == Challenge(b"")
    assert server.step(response) == step
    assert isinstance(server.step(response), Malformed), "it is over"


@pytest.mark.parametrize("response", [b"a\0b", b"\0", b"\xff", b"x" * 1025])
def test_what_is_no_identity(response: bytes) -> None:
    assert isinstance(begin("EXTERNAL").step(response), Malformed)
