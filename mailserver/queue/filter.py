"""Which entries of the queue a command is for: criteria that must all hold, as one condition of SQL.

Promises   Values stand beside the condition, never in it. In patterns `*` alone is a wildcard. The case of A to Z does
           not count, and both forms of an internationalised domain are the same. What is asked of recipients must hold
           for one and the same of them.
On failure The parsers raise ValueError that says what would be right.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields

from mailserver.mail.address import domain_in_ascii, forms_of_domain
from mailserver.queue.model import Standing

NULL_SENDER = "<>"

_STANDINGS = {
    Standing.QUEUED: "state = 'queued' AND lease IS NULL",
    Standing.ACTIVE: "state = 'queued' AND lease IS NOT NULL",
    Standing.HELD: "state = 'held'",
    Standing.CORRUPT: "state = 'corrupt'",
}

_ENHANCED = "coalesce(enhanced || ' ', '')"
_REPLY = f"code || ' ' || {_ENHANCED} || replace(text, char(10), ' / ' || {_ENHANCED})"
"""The last reply in the words of `str(Reply)`, as lists show it."""

NAMED = "id IN (SELECT value FROM json_each(?))"
"""For the ids that `json.dumps` writes: any number of them as one value."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Without criteria it is for all entries.

    `sender` and `recipient`: an address, `@domain`, or either with `*`; `sender` also `<>`. `domain`: a recipient's,
    with a dot before it also those below it. `older_than`, `newer_than`: in seconds. `error`: a part of the last reply.
    """

    ids: tuple[str, ...] = ()
    sender: str | None = None
    recipient: str | None = None
    domain: str | None = None
    older_than: float | None = None
    newer_than: float | None = None
    standing: Standing | None = None
    error: str | None = None

    @property
    def for_all(self) -> bool:
        return self == EVERYTHING

    @property
    def names_only(self) -> bool:
        """Nothing but ids is asked for: whoever wrote them meant these entries."""
        return bool(self.ids) and all(getattr(self, each.name) is None for each in fields(self) if each.name != "ids")

    def where(self, now: float) -> tuple[str, list[object]]:
        """A condition on the table `entry`, and its values."""
        conditions: list[str] = []
        values: list[object] = []
        if self.ids:
            conditions.append(NAMED)
            values.append(json.dumps(self.ids))
        if self.standing is not None:
            conditions.append(_STANDINGS[self.standing])
        if self.older_than is not None:
            conditions.append("created <= ?")
            values.append(now - self.older_than)
        if self.newer_than is not None:
            conditions.append("created > ?")
            values.append(now - self.newer_than)
        if self.sender == NULL_SENDER:
            conditions.append("sender IS NULL AND state != 'corrupt'")  # of what is broken nobody knows the sender
        elif self.sender is not None:
            conditions.append(_like("sender", _address_patterns(self.sender), values))
        if of_recipient := self._of_recipient(values):
            found = f"SELECT 1 FROM recipient WHERE entry = entry.id AND {' AND '.join(of_recipient)}"  # noqa: S608
            conditions.append(f"EXISTS ({found})")
        return " AND ".join(conditions) or "1", values

    def _of_recipient(self, values: list[object]) -> list[str]:
        conditions = []
        if self.recipient is not None:
            conditions.append(_like("address", _address_patterns(self.recipient), values))
        if self.domain is not None:
            conditions.append(_like("address", _domain_patterns(self.domain), values))
        if self.error is not None:
            conditions.append(_like(_REPLY, [f"%{_escaped(self.error)}%"], values))
        return conditions


EVERYTHING = Filter()


def parse_address_pattern(text: str) -> str:
    """For `Filter.recipient`. Raises ValueError."""
    if text == NULL_SENDER:
        raise ValueError('"<>" is the sender of reports, and no recipient')
    return parse_sender_pattern(text)


def parse_sender_pattern(text: str) -> str:
    """For `Filter.sender`. Raises ValueError."""
    if text != NULL_SENDER and "@" not in text and "*" not in text:
        raise ValueError(f'"{text}" is no address; write "bob@example.org", "@{text}" for a domain, or use "*"')
    return text


def _like(expression: str, patterns: Iterable[str], values: list[object]) -> str:
    wanted = sorted(patterns)
    values += wanted
    return "(" + " OR ".join(f"{expression} LIKE ? ESCAPE '!'" for _ in wanted) + ")"


def _escaped(text: str) -> str:
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def _address_patterns(pattern: str) -> Iterable[str]:
    local, at, domain = pattern.rpartition("@")
    forms = _forms(domain) if at else {domain}
    anybody = "*" if at and not local else local
    return {_escaped(f"{anybody}{at}{form}").replace("*", "%") for form in forms}


def _domain_patterns(domain: str) -> Iterable[str]:
    for form in _forms(domain.removeprefix(".")):
        yield f"%@{_escaped(form)}"
        if domain.startswith("."):
            yield f"%.{_escaped(form)}"


def _forms(domain: str) -> set[str]:
    """In A-labels and in U-labels, also where some labels are patterns."""
    domain = domain.lower()
    if "*" not in domain:
        return forms_of_domain(domain)
    labels = domain.split(".")
    ascii = ".".join(label if "*" in label else domain_in_ascii(label) or label for label in labels)
    return {domain, ascii, ".".join(label if "*" in label else _in_unicode(label) for label in labels)}


def _in_unicode(label: str) -> str:
    return next((form for form in forms_of_domain(label) if not form.isascii()), label)
