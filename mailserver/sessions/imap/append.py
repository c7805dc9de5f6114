"""APPEND (RFC 3501 §6.3.11, RFC 3502, RFC 4315 §3).

Promises   A message goes into a `Content` as it comes: what is large lies in a file, never in memory as a whole.
           The positive answer means that all messages are durable; a negative one, that none is there.
On failure A mailbox that does not exist is told before the message is sent, with TRYCREATE. When the spool cannot be
           written the rest of the message is read and dropped, then refused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from mailserver.imap import AppendEnded, AppendNext, AppendStarted, Event, LiteralChunk, compress
from mailserver.imap.commands import Append
from mailserver.mail import Content
from mailserver.sessions.imap.appends import Job
from mailserver.sessions.imap.core import Core, Refused
from mailserver.store import AccountStore, Addition, NoSuchMailbox

log = logging.getLogger(__name__)


class Incoming:
    """An APPEND under way. All its messages lie in one content, one behind the other."""

    def __init__(self, core: Core, command: Append) -> None:
        self._core = core
        # None: it cannot be kept
        self._content: Content | None = Content(directory=core.spool)
        self._heads = [command]

    async def go_on(self, event: Event) -> None:
        match event:
            case LiteralChunk(data):
                self._write(data)
            case AppendNext(_, command):
                self._keep()
                self._heads.append(command)
                self._core.engine.accept()
            case AppendEnded(tag):
                await self._finish(tag)

    def close(self) -> None:
        if self._content is not None:
            self._content.close()
            self._content = None

    def _write(self, data: bytes) -> None:
        if self._content is None:
            return
        try:
            self._content.write(data)
        except OSError as error:
            log.error("session=%s the appended message cannot be spooled: %s", self._core.channel.id, error)
            self.close()

    def _keep(self) -> Content:
        if self._content is None:
            raise Refused("the message cannot be kept now", "UNAVAILABLE")
        return self._content

    async def _finish(self, tag: str) -> None:
        core = self._core
        additions = list(_additions(self._keep(), self._heads))
        try:
            validity, uids = await core.appends.store(Job(core.account, self._heads[0].mailbox, additions))
        except NoSuchMailbox as error:
            raise Refused(str(error), "TRYCREATE") from error
        await core.glance()
        core.tell_news(expunges=True)
        core.end()
        core.engine.done(tag, "OK", "Appended", f"APPENDUID {validity} {compress(uids)}")


def _additions(content: Content, heads: Iterable[Append]) -> Iterator[Addition]:
    start = 0
    for head in heads:
        yield Addition(content.piece(start, head.size), head.flags, head.internal_date)
        start += head.size


async def start(core: Core, event: AppendStarted) -> None:
    try:
        await core.workers.run(_probe, core.account, event.command.mailbox)
    except NoSuchMailbox as error:
        raise Refused(str(error), "TRYCREATE") from error
    core.begin(Incoming(core, event.command))
    core.engine.accept()


def _probe(account: AccountStore, name: str) -> None:
    account.open(name).close()
