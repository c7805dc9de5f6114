"""What the command families of an IMAP session share: the connection, the account, the selected mailbox.

Promises   Sequence numbers of one command mean the same from its start to its end: changes are told between commands,
           and, while the client idles, as they come.
On failure `Refused` is answered as it says; `failure` turns what the store raises into such an answer.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

from mailserver.config.model import Limits
from mailserver.imap import SEPARATOR, Event, SequenceSet, ServerConnection
from mailserver.imap import Limits as EngineLimits
from mailserver.imap.sequence import LARGEST
from mailserver.mail import Address
from mailserver.ports import Channel, Clock, Workers
from mailserver.sessions.imap import indexing
from mailserver.sessions.imap.appends import Appends
from mailserver.sessions.imap.view import View
from mailserver.sessions.login import Authenticator
from mailserver.store import (
    AccountStore,
    InvalidFlag,
    InvalidName,
    Mailbox,
    MailboxExists,
    MailboxHasChildren,
    NoSuchMailbox,
    OverQuota,
    SpecialUseRefused,
    StoreError,
)

log = logging.getLogger(__name__)

UNSENT_LIMIT = 64 * 1024
"""Octets that may wait to be sent before a handler waits for the client."""


class Refused(Exception):
    """The command fails: the tagged answer."""

    def __init__(self, text: str, code: str | None = None, *, status: str = "NO") -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.status = status


# RFC 5530 §3, RFC 6154 §3. The more special comes first.
_CODES: tuple[tuple[type[StoreError], str], ...] = (
    (NoSuchMailbox, "NONEXISTENT"),
    (MailboxExists, "ALREADYEXISTS"),
    (MailboxHasChildren, "CANNOT"),
    (SpecialUseRefused, "USEATTR"),
    (InvalidName, "CANNOT"),
    (InvalidFlag, "CANNOT"),
    (OverQuota, "OVERQUOTA"),
    (StoreError, "UNAVAILABLE"),
)


def failure(error: StoreError) -> Refused:
    """The answer to what the store cannot do."""
    code = next(code for kind, code in _CODES if isinstance(error, kind))
    return Refused(str(error) or "Not possible now", code)


@dataclass(slots=True)
class Selected:
    """The mailbox that SELECT or EXAMINE opened."""

    mailbox: Mailbox
    view: View
    read_only: bool
    indexing: bool = False
    """It is being indexed."""

    def pick(self, messages: SequenceSet, *, by_uid: bool) -> Sequence[int]:
        """The sequence numbers of the messages that a command means, ascending. Raises Refused.

        RFC 3501 §9: a number that is not in the mailbox is an error of the client, a UID that is not is none.
        """
        view = self.view
        if not by_uid and (messages.highest > len(view) or (messages.uses_star and not len(view))):
            raise Refused("there is no message with that number", status="BAD")
        ranges = view.ranges(messages, by_uid=by_uid)
        if len(ranges) == 1:
            ((first, last),) = ranges
            return range(first, last + 1)
        return array("I", chain.from_iterable(range(first, last + 1) for first, last in ranges))

    def take_changes(self) -> None:
        """Takes into the view what is known in memory."""
        view = self.view
        before = len(view)
        changes = self.mailbox.changes(view.modseq)
        if changes.complete:
            view.take(changes)
        else:
            view.compare(self.mailbox.listing())
        if len(view) > before:
            view.add_recent(self.mailbox.peek_recent() if self.read_only else self.mailbox.claim_recent())


class Ongoing(Protocol):
    """A command that takes more than one event: AUTHENTICATE, APPEND, IDLE."""

    async def go_on(self, event: Event) -> None:
        """Raises as handlers do."""

    def close(self) -> None:
        """The command is over, however it ended; called once."""


class Core:
    """One connection. Handlers of commands work on it."""

    def __init__(
        self,
        channel: Channel,
        *,
        hostname: str,
        limits: Limits,
        spool: Path,
        authenticator: Authenticator,
        open_account: Callable[[Address], AccountStore],
        workers: Workers,
        clock: Clock,
        tls_available: bool,
        appends: Appends,
        separator: str = SEPARATOR,
    ) -> None:
        """`open_account` may block; `appends` is shared by all sessions. Large messages lie in `spool`, nameless,
        while they are appended.

        `separator` stands between the parts of a mailbox name as the client knows it.
        """
        self.channel = channel
        self.hostname = hostname
        self.limits = limits
        self.authenticator = authenticator
        self.open_account = open_account
        self.workers = workers
        self.clock = clock
        self.tls_available = tls_available
        self.spool = spool
        self.appends = appends
        self.engine = ServerConnection(
            EngineLimits(line=limits.imap_line, literal=limits.imap_literal, message=limits.message_size),
            separator,
        )
        self.user: Address | None = None
        self.errors = 0
        self.enabled: set[str] = set()
        """Capabilities that change what the client is told (RFC 5161)."""
        self._ongoing: Ongoing | None = None
        self._account: AccountStore | None = None
        self._selected: Selected | None = None

    @property
    def account(self) -> AccountStore:
        assert self._account is not None, "the engine lets no such command through before login"
        return self._account

    @property
    def selected(self) -> Selected:
        assert self._selected is not None, "the engine lets no such command through without a mailbox"
        return self._selected

    @property
    def has_selected(self) -> bool:
        return self._selected is not None

    @property
    def writable(self) -> Selected:
        """The selected mailbox. Raises Refused when it was opened by EXAMINE."""
        if self.selected.read_only:
            raise Refused("the mailbox is read-only", "READ-ONLY")
        return self.selected

    @property
    def append_limit(self) -> int:
        """Octets of the largest message that APPEND takes, as far as the protocol's numbers go (RFC 7889)."""
        return min(self.limits.message_size, LARGEST)

    def log_in(self, user: Address, account: AccountStore) -> None:
        self.user, self._account = user, account

    def begin(self, ongoing: Ongoing) -> None:
        self._ongoing = ongoing

    @property
    def ongoing(self) -> Ongoing:
        assert self._ongoing is not None, "the engine goes on only with what was begun"
        return self._ongoing

    def end(self) -> None:
        """Closes the command that goes on, if there is one."""
        ongoing, self._ongoing = self._ongoing, None
        if ongoing is not None:
            ongoing.close()

    def select(self, selected: Selected) -> None:
        self._selected = selected
        selected.view.condstore = "CONDSTORE" in self.enabled
        selected.view.qresync = "QRESYNC" in self.enabled
        self._index(selected)

    def leave(self) -> Mailbox | None:
        """The mailbox that was selected; the caller closes it."""
        previous, self._selected = self._selected, None
        return previous.mailbox if previous is not None else None

    async def release(self) -> None:
        """Lets the selected mailbox go, if there is one."""
        previous = self.leave()
        if previous is not None:
            await self.workers.run(previous.close)

    def _index(self, selected: Selected) -> None:
        """In the background, unless it goes on already."""
        if not selected.indexing:
            selected.indexing = True
            self.workers.spawn(self._keep_indexing(selected))

    async def _keep_indexing(self, selected: Selected) -> None:
        try:
            await indexing.index(
                self.account,
                selected.mailbox.name,
                wanted=lambda: self._selected is selected,
                workers=self.workers,
                clock=self.clock,
            )
        finally:
            selected.indexing = False

    # answering

    def take_changes(self) -> None:
        """Takes into the view of the selected mailbox what is known in memory."""
        if self._selected is not None:
            before = len(self._selected.view)
            self._selected.take_changes()
            if len(self._selected.view) > before:
                self._index(self._selected)

    def catch_up(self) -> None:
        """Tells what is known in memory, but for expunges: before a command whose answer is about messages.

        So no answer speaks of a message that the client has not heard of, nor builds on flags that it does not know.
        """
        self.take_changes()
        self.tell_news(expunges=False)

    def settle(self) -> None:
        """Before the answer to a command that failed: it may have told MODSEQs that are greater than those of news."""
        if "CONDSTORE" in self.enabled:
            self.catch_up()

    async def look(self) -> None:
        """As `take_changes`, with what others did on disk."""
        if self._selected is not None:
            await self.workers.run(self._selected.mailbox.sync)
            self.take_changes()

    async def glance(self) -> None:
        """As `look`, when the command is done already: what hinders it is for the next one to tell."""
        try:
            await self.look()
        except StoreError as error:
            log.info("session=%s the selected mailbox: %s", self.channel.id, error)

    def tell_news(self, *, expunges: bool) -> None:
        if self._selected is not None:
            self.untagged(self._selected.view.news(expunges=expunges))

            self._tell_what_waits()

    def _tell_what_waits(self) -> None:
        """An expunge that may not be told now: the client must not take a greater MODSEQ for all that it missed.

        RFC 7162 §3.2: what it would ask for after a broken connection begins where it was told everything.
        """
        if "CONDSTORE" in self.enabled and self.selected.view.gone:
            self.engine.status("OK", "Expunges are told later", self.modseq_code)

    @property
    def modseq_code(self) -> str:
        """Up to where the client has been told everything of the selected mailbox."""
        return f"HIGHESTMODSEQ {self.selected.view.told_modseq}"

    def enable_condstore(self) -> None:
        """The client knows MODSEQs (RFC 7162 §3.1): from now on it is told them."""
        if "CONDSTORE" in self.enabled:
            return
        self.enabled.add("CONDSTORE")
        if self._selected is not None:
            self._selected.view.condstore = True
            self.engine.status("OK", "Changes are known", self.modseq_code)

    def enable_qresync(self) -> None:
        """The client knows VANISHED (RFC 7162 §3.2.3)."""
        self.enable_condstore()
        self.enabled.add("QRESYNC")
        if self._selected is not None:
            self._selected.view.qresync = True

    def require_qresync(self) -> None:
        """Raises Refused."""
        if "QRESYNC" not in self.enabled:
            raise Refused("ENABLE QRESYNC comes first", status="BAD")

    def untagged(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            self.engine.untagged(line)

    async def drain_if_much(self) -> None:
        if self.engine.unsent > UNSENT_LIMIT:
            await self.channel.drain()

    def abandon(self) -> bool:
        """Ends the connection when the selected mailbox was deleted: RFC 3501 knows no way to go on."""
        if self._selected is None or self._selected.mailbox.alive:
            return False
        self.engine.bye("The selected mailbox was deleted")
        self.channel.close()
        return True

    def count_error(self) -> bool:
        """A bad command, or a failed login. True: it was one too many in a row, and the client has been told."""
        self.errors += 1
        if self.errors < self.limits.errors:
            return False
        log.warning("session=%s peer=%s too many errors", self.channel.id, self.channel.peer)
        self.engine.bye("Too many errors")
        self.channel.close()
        return True
