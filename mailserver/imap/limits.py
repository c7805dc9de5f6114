"""How much of a command the engine reads."""

from __future__ import annotations

from dataclasses import dataclass

HEAD_COST = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """`line`: octets of all lines of a command; `literal`: of all its literals but the message of an APPEND.

    `before_login`: of all its literals while nobody is logged in. `discard`: octets of refused literals of one command
    that are read and dropped before the connection is given up.
    """

    line: int = 65536
    literal: int = 65536
    message: int = 50 * 2**20
    before_login: int = 4096
    discard_before_login: int = 2**20

    @property
    def appended(self) -> int:
        """Octets of all messages of an APPEND."""
        return 10 * self.message

    @property
    def append_heads(self) -> int:
        """Octets of what stands before the messages of an APPEND, for each `HEAD_COST` more: this is kept in memory."""
        return 10 * self.line

    @property
    def discard(self) -> int:
        return 4 * self.message
