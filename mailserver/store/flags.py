r"""Flags: letters in file names, and the keywords that stand behind a to z.

Letters D F R S T are the system flags. A letter a to z is a keyword by its line in the folder's `dovecot-keywords`
("0 $Forwarded"). Further keywords have no letter: they live in the index alone.

Promises   Letters that say nothing to us stay where they are. A letter once given to a keyword is never given to
           another. The file is replaced as a whole and synced before its letter appears in a name.
On failure OSError; a file that cannot be understood counts as empty lines for what is malformed in it.
"""

from __future__ import annotations

import re
import string
from pathlib import Path

from mailserver.store.model import InvalidFlag, TooManyKeywords
from mailserver.store.syncing import locked, replace_file

SYSTEM = {"D": r"\Draft", "F": r"\Flagged", "R": r"\Answered", "S": r"\Seen", "T": r"\Deleted"}
KEYWORDS_FILE = "dovecot-keywords"
_LOCK_FILE = "dovecot-keywords.mailserver-lock"
_LETTERS = string.ascii_lowercase
WITHOUT_LETTER = 200
"""So many new keywords beyond the letters are taken while a mailbox is open."""

_SYSTEM_LETTER = {flag.lower(): letter for letter, flag in SYSTEM.items()}
_KEYWORD = re.compile(r"[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]{1,255}")  # RFC 9051 §9: atom
_LINE = re.compile(r"([0-9]|1[0-9]|2[0-5]) (\S+)")


class Flags:
    """The flags of one folder's messages. Calls must not overlap but for `decode`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._keywords: dict[str, str] = {}  # letter -> keyword
        self._letters: dict[str, str] = {}  # lower case keyword -> letter
        self._spelling: dict[str, str] = {}  # of keywords without a letter
        self._stamp: tuple[int, int, int] | None = None
        self.version = 0
        self._decoded: dict[str, frozenset[str]] = {}

    def moved(self, directory: Path) -> None:
        """The folder was renamed."""
        self._directory = directory

    def refresh(self) -> None:
        """Reads the file again if it changed. `version` moves when letters mean something else now."""
        try:
            status = (self._directory / KEYWORDS_FILE).stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        except FileNotFoundError:
            stamp = None
        if stamp == self._stamp:
            return
        before = self._keywords
        self._stamp = stamp
        self._keywords = self._read() if stamp else {}
        self._letters = {keyword.lower(): letter for letter, keyword in self._keywords.items()}
        self._decoded = {}
        if before != self._keywords:
            self.version += 1

    def decode(self, letters: str) -> frozenset[str]:
        """The flags that letters stand for."""
        flags = self._decoded.get(letters)
        if flags is None:
            found = (SYSTEM.get(letter) or self._keywords.get(letter) for letter in letters)
            flags = self._decoded[letters] = frozenset(flag for flag in found if flag)
        return flags

    def without_letter(self, flags: frozenset[str]) -> frozenset[str]:
        """Those that no file name carries."""
        if len(flags) == 0 or all(flag[0] == "\\" for flag in flags):
            return frozenset()
        return frozenset(flag for flag in flags if flag[0] != "\\" and flag.lower() not in self._letters)

    def encode(self, flags: frozenset[str], kept: str = "") -> str:
        """The letters for the flags; of the letters `kept` those that mean nothing to us stay."""
        letters = {letter for letter in kept if letter not in SYSTEM and letter not in self._keywords}
        for flag in flags:
            letter = _SYSTEM_LETTER.get(flag.lower()) or self._letters.get(flag.lower())
            if letter:
                letters.add(letter)
        return "".join(sorted(letters))

    def accept(self, flags: frozenset[str], *, giving: bool = True) -> frozenset[str]:
        r"""The flags as they are kept: in known spelling, without `\Recent`; new keywords get letters if `giving`.

        Raises InvalidFlag.
        """
        accepted = set()
        for flag in flags:
            if flag[:1] == "\\":
                letter = _SYSTEM_LETTER.get(flag.lower())
                if letter:
                    accepted.add(SYSTEM[letter])
                elif flag.lower() != r"\recent":
                    raise InvalidFlag("That system flag does not exist")
            elif _KEYWORD.fullmatch(flag):
                accepted.add(flag)
            else:
                raise InvalidFlag("That keyword cannot be kept")
        new = sorted(flag for flag in accepted if flag[0] != "\\" and flag.lower() not in self._letters)
        if giving and new and len(self._keywords) < len(_LETTERS):
            self._give_letters(new)
        return frozenset(self._spelled(flag, giving) for flag in accepted)

    def _spelled(self, flag: str, giving: bool) -> str:
        key = flag.lower()
        letter = self._letters.get(key)
        if letter:
            return self._keywords[letter]
        if flag[0] == "\\" or not giving:
            return self._spelling.get(key, flag)
        if key not in self._spelling and len(self._spelling) >= WITHOUT_LETTER:
            raise TooManyKeywords("There are too many keywords here")
        return self._spelling.setdefault(key, flag)

    def _give_letters(self, keywords: list[str]) -> None:
        with locked(self._directory / _LOCK_FILE):
            self.refresh()
            table = dict(self._keywords)
            free = [letter for letter in _LETTERS if letter not in table]
            for keyword in keywords:
                if free and keyword.lower() not in {known.lower() for known in table.values()}:
                    table[free.pop(0)] = self._spelling.get(keyword.lower(), keyword)
            lines = (f"{_LETTERS.index(letter)} {keyword}\n" for letter, keyword in sorted(table.items()))
            replace_file(self._directory / KEYWORDS_FILE, "".join(lines).encode())
            self.refresh()

    def _read(self) -> dict[str, str]:
        text = (self._directory / KEYWORDS_FILE).read_text(encoding="utf-8", errors="replace")
        lines = (_LINE.fullmatch(line) for line in text.splitlines())
        return {_LETTERS[int(line[1])]: line[2] for line in lines if line and _KEYWORD.fullmatch(line[2])}
