"""APPEND and REPLACE (RFC 3501 §6.3.11, RFC 3502, RFC 4315 §3; RFC 4469 CATENATE; RFC 8508).

Promises   A message goes into a `Content` as it comes, with what URLs point at copied in between: what is large lies in
           a file, never in memory as a whole. No message is larger than one that is sent, and all of them are not
           larger than what one APPEND may send.
           The positive answer means that all messages are durable; a negative one, that none is there.
           What is replaced goes when the new message is durable; the client hears of that one first.
On failure A mailbox that does not exist is told before the message is sent, with TRYCREATE. When the spool cannot be
           written the rest of the message is read and dropped, then refused. A URL that points at nothing is told, with
           BADURL, before what follows it is sent.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence

from mailserver.imap import AppendEnded, AppendNext, AppendPart, AppendStarted, Event, LiteralChunk, compress
from mailserver.imap.commands import Append
from mailserver.imap.urls import BadURL, parse
from mailserver.mail import Content
from mailserver.sessions.imap import urls
from mailserver.sessions.imap.appends import Job, Stored
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.messagelimit import require_few_appended
from mailserver.sessions.imap.names import correct_name
from mailserver.sessions.imap.refusals import Refused
from mailserver.store import AccountStore, Addition, Mailbox, MessageGone, NoSuchMailbox

_HEADER_END = re.compile(rb"\n\r?\n")

log = logging.getLogger(__name__)


class Incoming:
    """An APPEND under way. All its messages lie in one content, one behind the other."""

    listens = False

    def __init__(self, core: Core, command: Append, replaced: int | None) -> None:
        """`replaced`: the UID of a message of the selected mailbox."""
        self._core = core
        self._replaced = replaced
        # None: it cannot be kept
        self._content: Content | None = Content(directory=core.spool)
        self._heads = [command]
        self._starts = [0]

    async def go_on(self, event: Event) -> None:
        match event:
            case LiteralChunk(data):
                self._write(data)
            case AppendNext(_, command):
                self._end_message()
                self._heads.append(command)
                require_few_appended(self._core, len(self._heads))
                self._starts.append(self._keep().size)
                self._core.engine.accept()
            case AppendPart(_, part):
                if part.url is not None:
                    await self._copy(part.url)
                elif part.size > self._room():
                    raise Refused("the message would be too big", "TOOBIG")
                self._core.engine.accept()
            case AppendEnded(tag):
                await self._finish(tag)

    def close(self) -> None:
        self._content = None  # closes itself when no worker has it any more

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

    def _room(self) -> int:
        """Octets that the message may still grow by."""
        limits, size = self._core.engine.limits, self._keep().size
        return min(limits.message - (size - self._starts[-1]), limits.appended - size)

    async def _copy(self, text: str) -> None:
        core = self._core
        content, room = self._keep(), self._room()
        try:
            selected = core.selected.mailbox.name if core.has_selected else None
            url = parse(text, selected=selected, separator=core.engine.separator)
            if url.authorisation is not None:
                raise BadURL("URLs with an authorisation are for URLFETCH")
            if url.host and not urls.is_here(core, url.host):
                raise BadURL("the URL is of another server")
            if url.user and not await core.is_user(url.user):
                raise BadURL("the URL is of another user")
            await core.workers.run(urls.copy, core.account, url, content, room)
        except BadURL as error:
            raise Refused(str(error), urls.code(text)) from error

    def _end_message(self) -> None:
        if self._keep().size == self._starts[-1]:
            raise Refused("the message is empty", "CANNOT")

    async def _finish(self, tag: str) -> None:
        core = self._core
        self._end_message()
        additions = list(_additions(self._keep(), self._heads, self._starts))
        if core.policy.utf8_only_when_enabled and not core.engine.utf8:
            await core.workers.run(_only_ascii, additions)
        try:
            if self._replaced is None:
                validity, uids = await core.appends.store(Job(core.account, self._heads[0].mailbox, additions))
            else:
                validity, uids = await core.workers.run(
                    _replace, core.selected.mailbox, self._replaced, core.account, self._heads[0].mailbox, additions[0]
                )
        except NoSuchMailbox as error:
            raise Refused(str(error), "TRYCREATE") from error
        except MessageGone as error:
            raise Refused(str(error), "EXPUNGEISSUED") from error
        code = f"APPENDUID {validity} {compress(uids)}"
        core.brought(self._heads[0].mailbox, validity, uids)
        if self._replaced is not None:
            core.engine.status("OK", "The new message is there", code)  # RFC 8508 §4.3: before the expunge
        await correct_name(core, self._heads[0].mailbox, self._heads[0].mailbox)
        await core.glance()
        if self._replaced is not None:
            core.tell_expunged([self._replaced])
        core.tell_news(expunges=True)
        replaced = self._replaced is not None
        core.end()
        if replaced:
            core.engine.done(tag, "OK", "Replaced", core.modseq_code)  # as UID EXPUNGE (§4.5)
        else:
            core.engine.done(tag, "OK", "Appended", code)


def _additions(content: Content, heads: Iterable[Append], starts: Sequence[int]) -> Iterator[Addition]:
    for head, start, end in zip(heads, starts, (*starts[1:], content.size), strict=True):
        yield Addition(content.piece(start, end - start), head.flags, head.internal_date, head.zone)


def _only_ascii(additions: Iterable[Addition]) -> None:
    """Blocking. Raises Refused where a header is not ASCII (RFC 6855 §4)."""
    for addition in additions:
        tail = b"\n"  # the blank line may be the first
        for chunk in addition.content.chunks():
            joint = tail + chunk
            end = _HEADER_END.search(joint)
            if not joint[: end.start() if end else None].isascii():
                raise Refused("ENABLE UTF8=ACCEPT comes before messages whose header is not ASCII", "CANNOT")
            if end:
                break
            tail = joint[-2:]


def _replace(mailbox: Mailbox, uid: int, account: AccountStore, name: str, addition: Addition) -> Stored:
    """Blocking."""
    target = account.open(name)
    try:
        return Stored(target.uidvalidity, [mailbox.replace(uid, addition, target)])
    finally:
        target.close()


def _replaced(core: Core, command: Append) -> int | None:
    """The UID of the message that is to go. Raises Refused when there is none."""
    if command.replaced is None:
        return None
    selected = core.writable
    core.catch_up()
    numbers = selected.pick(command.replaced, by_uid=command.by_uid)
    if not numbers:
        raise Refused("there is no message with that UID", "NONEXISTENT")
    return selected.view.uids_of(numbers)[0]


async def start(core: Core, event: AppendStarted) -> None:
    replaced = _replaced(core, event.command)
    try:
        await core.workers.run(_probe, core.account, event.command.mailbox)
    except NoSuchMailbox as error:
        raise Refused(str(error), "TRYCREATE") from error
    core.begin(Incoming(core, event.command, replaced))
    core.engine.accept()


def _probe(account: AccountStore, name: str) -> None:
    account.open(name).close()
