from __future__ import annotations

import pytest

from mailserver.config.queries import ADDRESS, DOMAIN, filled_filter, for_psycopg, parse_filter, parse_query


@pytest.mark.parametrize(
    ("text", "for_postgres"),
    [
        ("SELECT :domain", "SELECT %(domain)s"),
        ("a = :local AND b = ':domain' AND c = :domain", "a = %(local)s AND b = ':domain' AND c = %(domain)s"),
        ("x = :local::text", "x = %(local)s::text"),
        ("x LIKE '%' || :local", "x LIKE '%%' || %(local)s"),
        ("5 % 2 = :local", "5 %% 2 = %(local)s"),
        ("'it''s :domain' = :local", "'it''s :domain' = %(local)s"),
        ('"a:b" = :local', '"a:b" = %(local)s'),
        ("$q$:domain ' $q$ = :local", "$q$:domain ' $q$ = %(local)s"),
        ("-- :domain'\n:local /* :domain ' */", "-- :domain'\n%(local)s /* :domain ' */"),
    ],
)
def test_parameters_of_sql(text: str, for_postgres: str) -> None:
    assert parse_query(text, ADDRESS) == text
    assert for_psycopg(text) == for_postgres


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("SELECT 1", "has no parameter, so it would tell the same of everybody; there are :address, :local, :domain"),
        ("SELECT ':local'", "has no parameter"),
        ("x = :user", "has the parameter :user, which is not known here; there are :address, :local, :domain"),
        ("x = '%u'", "has %u; here parameters are :address, :local, :domain, without quotes around them"),
        ("x = '%{user}'", "has %{user}; here parameters are"),
    ],
)
def test_queries_that_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=r"^has") as caught:
        parse_query(text, ADDRESS)
    assert complaint in str(caught.value)


def test_a_parameter_that_is_another_querys() -> None:
    with pytest.raises(ValueError, match=r":local, which is not known here; there are :domain"):
        parse_query("x = :local", DOMAIN)


def test_filters() -> None:
    text = "(|(mail=:address)(&(uid=:local)(cn:dn:=x)(o=:domain)(x=:localpart)))"
    assert parse_filter(text) == text
    values = {"address": "A", "local": "L", "domain": "D"}
    assert filled_filter(text, values, lambda value: f"<{value}>") == (
        "(|(mail=<A>)(&(uid=<L>)(cn:dn:=x)(o=<D>)(x=:localpart)))"
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("(mail=x)", "has no parameter"),
        ("mail=:address", "is not a filter"),
        ("(mail=:address", "is not a filter"),
        ("(mail=%u)", "has %u"),
    ],
)
def test_filters_that_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_filter(text)
