"""DELIVERBY (RFC 2852), MT-PRIORITY (RFC 6710) and FUTURERELEASE (RFC 4865) in MAIL: what is taken and what is not."""

from __future__ import annotations

import pytest

from mailserver.smtp.events import By
from mailserver.smtp.syntax import Refusal, parse_mail


@pytest.mark.parametrize(
    ("value", "by"),
    [
        ("120;R", By(120, returned=True, trace=False)),
        ("+00120;rt", By(120, returned=True, trace=True)),
        ("999999999;NT", By(999_999_999, returned=False, trace=True)),
        ("0;N", By(0, returned=False, trace=False)),
        ("-999999999;n", By(-999_999_999, returned=False, trace=False)),
    ],
)
def test_by(value: str, by: By) -> None:
    assert parse_mail(f"FROM:<a@b.example> BY={value}").by == by


@pytest.mark.parametrize(
    "value", ["0;R", "-1;R", "120", "120;", "120;X", "120;T", "1000000000;N", "--1;N", "1.5;R", "1;R,T"]
)
def test_by_malformed(value: str) -> None:
    with pytest.raises(Refusal, match=r"501 5\.5\.4 BY "):
        parse_mail(f"FROM:<a@b.example> BY={value}")


@pytest.mark.parametrize("priority", range(-9, 10))
def test_priority(priority: int) -> None:
    assert parse_mail(f"FROM:<a@b.example> MT-PRIORITY={priority}").priority == priority


@pytest.mark.parametrize("value", ["10", "-10", "+1", "-0", "00", "1.0", "x", "\u0663"])
def test_priority_malformed(value: str) -> None:
    with pytest.raises(Refusal, match=r"50[01] 5\.5\.[24] "):
        parse_mail(f"FROM:<a@b.example> MT-PRIORITY={value}")


@pytest.mark.parametrize("parameters", ["BY=1;R BY=2;R", "MT-PRIORITY=1 MT-PRIORITY=1", "BY", "MT-PRIORITY"])
def test_parameters_are_given_once_and_have_values(parameters: str) -> None:
    with pytest.raises(Refusal, match=r"501 "):
        parse_mail(f"FROM:<a@b.example> {parameters}")


@pytest.mark.parametrize(
    ("parameter", "hold"),
    [("HOLDFOR=60", "for;60"), ("holduntil=2030-01-01T00:00:00Z", "until;2030-01-01T00:00:00Z"), ("SIZE=1", None)],
)
def test_what_a_report_will_say_of_a_hold(parameter: str, hold: str | None) -> None:
    assert parse_mail(f"FROM:<a@b.example> {parameter}").hold == hold
