"""ENABLE (RFC 5161): what changes answers in ways that a client must ask for.

Promises   ENABLED names what the client asked for and now has, also what it had before. Unknown names are passed over.
           What is on stays on until the connection ends, or the user logs out (RFC 8437 §4.1).
On failure Nothing here fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mailserver.imap.commands import Enable
from mailserver.sessions.imap.core import Core

_EFFECTS: Mapping[str, Callable[[Core], None]] = {
    "CONDSTORE": Core.enable_condstore,
    "IMAP4rev2": Core.enable_rev2,
    "QRESYNC": Core.enable_qresync,
    "UIDONLY": Core.enable_uid_only,
    "UTF8=ACCEPT": Core.enable_utf8,
}
"""What can be enabled."""
_NAMES = {name.upper(): name for name in _EFFECTS}


async def enable(core: Core, tag: str, command: Enable) -> None:
    known = [_NAMES[name] for name in command.capabilities if name in _NAMES]
    for name in known:
        _EFFECTS[name](core)
    core.engine.untagged(" ".join(["ENABLED", *known]).encode())
    core.engine.done(tag, "OK", "Enabled")
