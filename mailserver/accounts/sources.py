"""Makes the further sources of the directory from their sections of the configuration.

Promises   A source that another program serves need not be there when the server starts.
On failure ConfigurationError for a file that cannot be used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mailserver.accounts.model import Source
from mailserver.accounts.passwd import PasswdSource
from mailserver.config.directory import DirectorySource


class FurtherSource(Source, Protocol):
    def try_out(self) -> list[str]:
        """Asks what it can be asked; gives what is wrong with single entries. Raises SourceDown with what to do."""


def open_sources(sections: Sequence[DirectorySource]) -> tuple[FurtherSource, ...]:
    """In the order in which they are asked."""
    return tuple(map(open_source, sections))


def open_source(section: DirectorySource) -> FurtherSource:
    assert section.file is not None
    return PasswdSource(section.file, default_domain=section.default_domain, default_scheme=section.default_scheme)
