"""ENABLE (RFC 5161): what changes answers in ways that a client must ask for.

Promises   ENABLED names what the client asked for and now has, also what it had before. Unknown names are passed over.
           What is on stays on until the connection ends.
On failure Nothing here fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mailserver.imap.commands import Enable
from mailserver.sessions.imap.core import Core

_EFFECTS: Mapping[str, Callable[[Core], None]] = {
    "CONDSTORE": Core.enable_condstore,
    "QRESYNC": Core.enable_qresync,
    "UIDONLY": Core.enable_uid_only,
}
"""What can be enabled."""


async def enable(core: Core, tag: str, command: Enable) -> None:
    known = [name for name in command.capabilities if name in _EFFECTS]
    for name in known:
        _EFFECTS[name](core)
    core.engine.untagged(" ".join(["ENABLED", *known]).encode())
    core.engine.done(tag, "OK", "Enabled")
