"""Address lists of header fields (RFC 5322 §3.4, with the obsolete forms of §4.4), as IMAP shows them.

Theory     The usual forms of a mailbox are taken by one regular expression; whatever it does not match goes to a
           tokeniser that gives every octet some place.
Promises   Linear time; what lies past `VALUE_LIMIT` octets is not looked at. Encoded words stay as they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from mailserver.message.header import comment_end, unfold

VALUE_LIMIT = 256 * 1024
PLAIN_LIMIT = 8 * 1024


class MailAddress(NamedTuple):
    """One address of RFC 3501 §7.4.2. `host` None: a group begins (`mailbox` is its name) or ends (`mailbox` None)."""

    name: bytes | None
    route: bytes | None
    mailbox: bytes | None
    host: bytes | None


GROUP_END = MailAddress(None, None, None, None)

_ATEXT = rb"A-Za-z0-9!#$%&'*+\-/=?^_`{|}~\x80-\xff"
# `"Name" <a@b>`, `Name <a@b>`, `<a@b>` or `a@b`, then a comma or the end. Possessive: it never tries a second way.
_USUAL = re.compile(
    rb'[ \t]*+(?:(?:"([^"\\]*+)"[ \t]*+|((?:[%b.]++ ?)*+))<([%b.]++)@([%b.]++)>|([%b.]++)@([%b.]++))[ \t]*+(?:,|\Z)'
    % ((_ATEXT,) * 5)
)
_TOKEN = re.compile(
    rb'[ \t]++|"((?:[^"\\]++|\\.)*+)(?:"|\\?\Z)|([^\x00-\x20"(),:;<>@\[\\]++)|(\[[^\]\\]*+\]?)|(.)', re.DOTALL
)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)


def addresses(value: bytes) -> list[MailAddress]:
    """The addresses of a raw field value. A mailbox without a domain has an empty `host`."""
    value = unfold(value)[:VALUE_LIMIT]
    found: list[MailAddress] = []
    scanner = _Scanner(value)
    while scanner.position < len(value):
        usual = _USUAL.match(value, scanner.position)
        if usual is None:
            found += scanner.next_address()
            continue
        scanner.position = usual.end()
        quoted, phrase, local, host, bare_local, bare_host = usual.groups()
        if bare_local is not None:
            found.append(MailAddress(None, None, bare_local, bare_host))
        else:
            found.append(MailAddress(quoted or (phrase.rstrip() if phrase else None) or None, None, local, host))
    if scanner.in_group:
        found.append(GROUP_END)
    return found


_CFWS = rb"(?:[ \t]|\((?:[^()\\]|\\.)*+\))*+"  # comments are not nested here
_ADDR_SPEC = rb'((?:[%b]++(?:\.[%b]++)*+|"(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*+")@(?:[%b.]++|\[[!-Z^-~]++\]))' % (
    _ATEXT, _ATEXT, _ATEXT,
)  # fmt: skip
_PHRASE = rb'(?:(?:[%b.]++|"(?:[^"\\]|\\.)*+")%b)*+' % (_ATEXT, _CFWS)
_PLAIN = re.compile(
    rb"%b(?:%b<[ \t]*+%b[ \t]*+>|%b)%b(?:,|\Z)" % (_CFWS, _PHRASE, _ADDR_SPEC, _ADDR_SPEC, _CFWS), re.DOTALL
)


def plain_mailboxes(value: bytes) -> list[bytes]:
    """The `local@domain` of each mailbox of a raw field value that every reader understands in the same way.

    That is the mailbox-list of RFC 5322 §3.4 without the obsolete forms of §4.4 but for dots in names, and without
    groups. Raises ValueError for all else, also for a list of none.
    """
    value = unfold(value)
    found: list[bytes] = []
    position = 0
    while position < len(value) or not found:
        mailbox = _PLAIN.match(value, position) if len(value) <= PLAIN_LIMIT else None
        if mailbox is None:
            raise ValueError("no plain list of mailboxes")
        found.append(mailbox[1] or mailbox[2])
        position = mailbox.end()
    if value.endswith(b","):
        raise ValueError("no plain list of mailboxes")
    return found


@dataclass(slots=True)
class _Words:
    """Tokens of one stretch, split where "@" stood."""

    before: list[bytes] = field(default_factory=list)
    after: list[bytes] | None = None

    def add(self, word: bytes) -> None:
        (self.before if self.after is None else self.after).append(word)

    def at(self) -> None:
        if self.after is not None:  # a second one: the last divides
            self.before += [b"@", *self.after]
        self.after = []

    def text(self, separator: bytes) -> bytes:
        return separator.join(self.before if self.after is None else [*self.before, b"@", *self.after])

    def address(self, name: bytes | None, route: bytes | None) -> MailAddress:
        """Words before the last one of a local part are a name, unless dots join them (RFC 5322 §4.4)."""
        *words, local = self.before or [b""]
        if self.after is None:
            if words:
                return MailAddress(name or self.text(b" "), route, b"", b"")
        elif b"@" in words or any(
            word.endswith(b".") or after.startswith(b".") for word, after in pairwise(self.before)
        ):
            words, local = [], b"".join(self.before)
        return MailAddress(name or b" ".join(words) or None, route, local, b"".join(self.after or ()))

    def complete(self, word: bytes) -> bool:
        """A domain stands here and `word`, after space, does not continue it."""
        if not self.after:
            return False
        return not self.after[-1].endswith(b".") and not word.startswith(b".")


class _Scanner:
    """Takes one address after the other, whatever its form."""

    __slots__ = ("in_group", "position", "value")

    def __init__(self, value: bytes) -> None:
        self.value = value
        self.position = 0
        self.in_group = False

    def next_address(self) -> list[MailAddress]:
        """Up to and with the next comma, semicolon, or colon that begins a group; empty if nothing stands there."""
        words = _Words()
        angle: _Words | None = None
        here: _Words | None = words  # where tokens go; None after the ">"
        comment = route = special = None
        after_space = False
        while match := _TOKEN.match(self.value, self.position):
            self.position = match.end()
            quoted, atom, literal, special = match.groups()
            if special is None:
                word = _QUOTED_PAIR.sub(rb"\1", quoted) if quoted is not None else atom or literal
                if word is None:
                    after_space = True
                    continue
                if here is words and after_space and words.complete(word):
                    self.position = match.start()  # a comma is missing
                    break
                if here is not None:
                    here.add(word)
                after_space = False
            elif special == b"<":
                if angle is not None and here is None:
                    self.position = match.start()
                    break
                angle = here = _Words()
            elif special == b">":
                here = None
            elif special == b"(":
                start, self.position = self.position, comment_end(self.value, match.start())
                comment = self.value[start : self.position].removesuffix(b")")
            elif here is None or here is words:
                if special == b":" and not self.in_group:
                    self.in_group = True
                    return [MailAddress(None, None, words.text(b" "), None)]
                if special in b",;":
                    break
                if special == b"@" and here is words:
                    words.at()
            elif special == b"@":
                here.at()
            elif special == b",":  # of a route: <@one,@two:user@host>
                here.add(b",")
            elif special == b":":
                route, angle = here.text(b""), _Words()
                here = angle
        found = self._address(words, angle, comment, route)
        if special == b";" and self.in_group:
            self.in_group = False
            found.append(GROUP_END)
        return found

    @staticmethod
    def _address(words: _Words, angle: _Words | None, comment: bytes | None, route: bytes | None) -> list[MailAddress]:
        name = _QUOTED_PAIR.sub(rb"\1", comment).strip() if comment is not None else None
        if angle is not None:
            found = angle.address(words.text(b" ") or name or None, route)
        elif words.before or words.after:
            found = words.address(name or None, None)
        else:
            return []
        return [found] if found.name or found.mailbox or found.host else []
