"""SMTP replies and enhanced status codes (RFC 5321 §4.2, RFC 2034, RFC 3463)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class EnhancedCode:
    """`class.subject.detail` of RFC 3463, as in 5.1.1."""

    kind: int
    subject: int
    detail: int

    def __str__(self) -> str:
        return f"{self.kind}.{self.subject}.{self.detail}"

    @staticmethod
    @lru_cache(maxsize=256)
    def parse(text: str) -> EnhancedCode:
        """Raises ValueError."""
        match = _ENHANCED.fullmatch(text)
        if match is None:
            raise ValueError(f"not an enhanced status code: {text!r}")
        return EnhancedCode(*map(int, match.groups()))


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply: `text` may have several lines, split by LF. `enhanced` stands before each line (RFC 2034 §4)."""

    code: int
    text: str
    enhanced: EnhancedCode | None = None

    @classmethod
    def of(cls, code: int, enhanced: str, text: str) -> Reply:
        """`Reply.of(550, "5.1.1", "No such mailbox")`."""
        return cls(code, text, EnhancedCode.parse(enhanced))

    @property
    def positive(self) -> bool:
        return self.code < 400

    @property
    def temporary(self) -> bool:
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        return self.code >= 500

    @property
    def status(self) -> EnhancedCode:
        """The enhanced code, or the nearest that the basic code allows (RFC 3464 §2.3.4 wants one always)."""
        return self.enhanced or EnhancedCode(2 if self.positive else self.code // 100, 0, 0)

    def lines(self) -> list[str]:
        """The text lines with the enhanced code before each; control characters become `?`."""
        prefix = f"{self.enhanced} " if self.enhanced else ""
        return [prefix + _UNPRINTABLE.sub("?", line) for line in self.text.split("\n")]

    def to_bytes(self) -> bytes:
        *before, last = self.lines()
        text = "".join([f"{self.code}-{line}\r\n" for line in before]) if before else ""
        return f"{text}{self.code} {last}\r\n".encode(errors="replace")

    def __str__(self) -> str:
        return f"{self.code} " + " / ".join(self.lines())
