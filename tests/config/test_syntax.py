from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.config.syntax import parse

QUOTES = "text, sizes and durations stand in double quotes"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("\nhostname = mail.example.org\n", f"line 2: not a value; {QUOTES}"),
        ("hostname =\n", f"line 1: not a value; {QUOTES}"),
        ("size = 50 MiB\n", f"line 1: something stands behind the value; {QUOTES}"),
        ("smarthost = 192.0.2.1:25", f"line 1: something stands behind the value; {QUOTES}"),
        ('a = 1\nhostname = "mail\ndata = "x"\n', "line 2: a text has no quote at its end; add it"),
        ('a = 1\nhostname = "mail', "line 2: a text has no quote at its end; add it"),
        ("a = 1\nhostname = 'mail", "line 2: a text has no quote at its end; add it"),
        ('endpoint = "tcp6:25:interface=\\:\\:1"', r"line 1: a backslash in double quotes is written \\;"),
        ("a = 1\na = 2\n", "line 2: this key stands twice in its section; keep one"),
        ("[tls]\n\n[tls]\n", "line 3: tls stands twice; keep one"),
        ("[listener]\n[listener]\n", "line 2: listener stands twice; write each header as [[listener]]"),
        (
            "[listener]\n[[listener]]\n",
            "line 2: listener stands above in single brackets; write each header as [[listener]]",
        ),
        (
            "\ufeff# comment\n",
            "line 1: begins with a byte order mark, which is not TOML; save the file as UTF-8 without",
        ),
        ('[account."bob@a.test"]\n' * 2, "line 2: account bob@a.test stands twice; keep one"),
        ('[account."o\'b@a.test"]\n' * 2, "line 2: account o'b@a.test stands twice; keep one"),
        ("[account.bob@a.test]\n", 'line 1: the name stands in quotes; write [account."bob@a.test"]'),
        (" [ domain.m\u00fcller.test ] # ours", 'line 1: the name stands in quotes; write [domain."m\u00fcller.test"]'),
        ("[tls\n", "line 1: the header has no ] at its end"),
        ("[[listener]\n", "line 1: the header has no ]] at its end"),
        ('hostname: "x"\n', "line 1: there is no = behind the key"),
        ('names = ["a" "b"]\n', "line 1: a list has no ] at its end, or no comma between two values"),
        ("x = 1\n// comment\n", "line 2: neither a [section] nor a key"),
        ("x = {a = 1", "line 1: not TOML: unclosed inline table"),
        ("x = " + "[" * 5000, "not TOML that can be read"),
    ],
)
def test_syntax_errors_say_what_to_write(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=r": |TOML") as caught:
        parse(text)
    assert str(caught.value).startswith(complaint)


def test_a_password_without_quotes_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="line 1") as caught:
        parse("password = geheim\n")
    assert "geheim" not in str(caught.value)


@given(st.text(st.sampled_from("ab.=\"'[]{}#\n\r\\1\x85\u2028 "), max_size=40))
def test_any_text_is_read_or_refused_with_an_existing_line(text: str) -> None:
    try:
        parse(text)
    except ValueError as error:
        number = int(str(error).removeprefix("line ").partition(":")[0])
        assert 1 <= number <= text.count("\n") + 1
