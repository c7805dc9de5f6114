"""Questions to a database or an LDAP server, with named parameters: `:address`, `:local`, `:domain` and so on.

A parameter stands where a value may stand; the value is bound or escaped, never pasted. What stands in quotes or in a
comment is left alone, and so is `::type`.

Promises   Purely textual: nothing is asked.
On failure ValueError with the remedy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

DOMAIN = ("domain",)
ADDRESS = ("address", "local", "domain")
RENEWAL = ("password", "former", *ADDRESS)

_SQL = re.compile(
    r"""(?P<other>'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/ | (?P<tag>\$\w*\$).*?(?P=tag) | ::)
    | :(?P<name>[A-Za-z_]\w*)""",
    re.VERBOSE | re.DOTALL,
)
_FILTER = re.compile(rf":({'|'.join(ADDRESS)})(?![\w:=-])")
_ELSEWHERE = re.compile(r"%(?:[uUdDnNsS]|\{[a-z_:|]+\})")
"""How Dovecot and Postfix write parameters."""


def parse_query(text: str, known: Collection[str]) -> str:
    """A query in SQL with at least one of the parameters. Raises ValueError."""
    names = {match["name"] for match in _SQL.finditer(text) if match["name"]}
    listed = ", ".join(f":{name}" for name in known)
    if match := _ELSEWHERE.search(text):
        raise ValueError(f"has {match[0]}; here parameters are {listed}, without quotes around them")
    if unknown := sorted(names - set(known)):
        raise ValueError(f"has the parameter :{unknown[0]}, which is not known here; there are {listed}")
    if not names:
        raise ValueError(f"has no parameter, so it would tell the same of everybody; there are {listed}")
    return text


def for_psycopg(text: str) -> str:
    """The same with parameters as psycopg writes them."""
    parts, at = [], 0
    for match in _SQL.finditer(text):
        parts.append(text[at : match.start()].replace("%", "%%"))
        parts.append(f"%({match['name']})s" if match["name"] else match[0].replace("%", "%%"))
        at = match.end()
    return "".join([*parts, text[at:].replace("%", "%%")])


def parse_filter(text: str) -> str:
    """An LDAP filter with at least one of the parameters. Raises ValueError."""
    listed = ", ".join(f":{name}" for name in ADDRESS)
    if match := _ELSEWHERE.search(text):
        raise ValueError(f"has {match[0]}; here parameters are {listed}")
    if not _FILTER.search(text):
        raise ValueError(f"has no parameter, so it would fit everybody; there are {listed}")
    if not (text.startswith("(") and text.endswith(")") and text.count("(") == text.count(")")):
        raise ValueError('is not a filter; write it in parentheses, as "(mail=:address)"')
    return text


def filled_filter(text: str, values: Mapping[str, str], escape: Callable[[str], str]) -> str:
    return _FILTER.sub(lambda match: escape(values[match[1]]), text)
