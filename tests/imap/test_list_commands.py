"""The grammar of LIST with options (RFC 5258, RFC 5819, RFC 6154)."""

import time

import pytest

from mailserver.imap import Pattern
from mailserver.imap.commands import List, parse
from mailserver.imap.states import State
from mailserver.imap.syntax import Fault, Reader


def parsed(text: str) -> object:
    return parse(Reader(text.encode()), State.AUTHENTICATED)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ('LIST () "" *', List("", ("*",), extended=True)),
        ('LIST "" (a "b c" "")', List("", ("a", "b c", ""), extended=True)),
        ('LIST "" * RETURN ()', List("", ("*",), extended=True)),
        (
            "list (remote Subscribed recursivematch subscribed) a/ %",
            List("a/", ("%",), True, frozenset({b"REMOTE", b"SUBSCRIBED", b"RECURSIVEMATCH"})),
        ),
        (
            'LIST "" * RETURN (CHILDREN SUBSCRIBED SPECIAL-USE STATUS (MESSAGES unseen))',
            List(
                "",
                ("*",),
                True,
                returning=frozenset({b"CHILDREN", b"SUBSCRIBED", b"SPECIAL-USE", b"STATUS"}),
                status=(b"MESSAGES", b"UNSEEN"),
            ),
        ),
    ],
)
def test_options_and_patterns(text: str, command: List) -> None:
    assert parsed(text) == command


@pytest.mark.parametrize(
    "text",
    [
        'LIST (RECURSIVEMATCH) "" *',
        'LIST (REMOTE RECURSIVEMATCH) "" *',
        'LIST (CHILDREN) "" *',
        'LIST (NONSENSE) "" *',
        'LIST ( SUBSCRIBED) "" *',
        'LIST (SUBSCRIBED ) "" *',
        'LIST (SUBSCRIBED)"" *',
        'LIST (SUBSCRIBED "" *',
        'LIST "" ()',
        'LIST "" (a',
        'LIST "" (a (b))',
        'LIST "" * RETURN',
        'LIST "" * RETURN CHILDREN',
        'LIST "" * RETURN (REMOTE)',
        'LIST "" * RETURN (RECURSIVEMATCH)',
        'LIST "" * RETURN (STATUS)',
        'LIST "" * RETURN (STATUS ())',
        'LIST "" * RETURN (STATUS (NONSENSE))',
        'LIST "" * RETURN (CHILDREN) x',
        'LIST "" * (CHILDREN)',
        'LIST "" (' + " ".join(["a"] * 1001) + ")",
        "LIST (" + " ".join(["SUBSCRIBED"] * 1001) + ') "" *',
        'LSUB (SUBSCRIBED) "" *',
        'LSUB "" (a b)',
        'LSUB "" * RETURN ()',
    ],
)
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(Fault) as fault:
        parsed(text)
    assert fault.value.status == "BAD"


def test_one_of_several_patterns_is_enough() -> None:
    pattern = Pattern("a/%", "b*", "inbox")
    assert [name for name in ("a", "a/b", "a/b/c", "b/c", "INBOX", "ab", "") if pattern.matches(name)] == [
        "a/b",
        "b/c",
        "INBOX",
    ]
    assert not Pattern().matches("")
    assert not Pattern("a", "b").matches("ab"), "two texts are not one"


def test_many_patterns_cannot_blow_up() -> None:
    pattern = Pattern(*(f"*{number}*a*%b" for number in range(1000)))
    began = time.process_time()
    assert not any(pattern.matches("123456789a" * 20) for _ in range(20))
    assert time.process_time() - began < 5
