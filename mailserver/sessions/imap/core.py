"""What the command families of an IMAP session share: the connection, the account, the selected mailbox.

Promises   Sequence numbers of one command mean the same from its start to its end: changes are told between commands,
           and, while the client idles, as they come.
On failure `Refused` (`refusals`) and what the store raises go to the caller, who answers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path
from typing import Protocol

from mailserver.config.model import IMAP, Limits
from mailserver.imap import Event, ServerConnection
from mailserver.imap import Limits as EngineLimits
from mailserver.imap.sequence import LARGEST
from mailserver.mail import Address, parse_mailbox
from mailserver.ports import Channel, Clock, Workers
from mailserver.sessions.imap import indexing
from mailserver.sessions.imap.appends import Appends
from mailserver.sessions.imap.refusals import Refused
from mailserver.sessions.imap.selected import ALL_EARS, Selected
from mailserver.sessions.imap.watching import Watch
from mailserver.sessions.login import Authenticator, LoginRefused
from mailserver.store import AccountStore, StoreError

log = logging.getLogger(__name__)

UNSENT_LIMIT = 64 * 1024
"""Octets that may wait to be sent before a handler waits for the client."""
MECHANISMS = "URLMECH INTERNAL"
"""How URLs can be authorised (RFC 4467 §8); it has no data that would have to stay secret."""


class Ongoing(Protocol):
    """A command that takes more than one event: AUTHENTICATE, APPEND, IDLE."""

    listens: bool
    """News may be told meanwhile."""

    async def go_on(self, event: Event) -> None:
        """Raises as handlers do."""

    def close(self) -> None:
        """The command is over, however it ended; called once."""


class Notices(Protocol):
    """What NOTIFY asks for, but for messages of the selected mailbox."""

    async def tell(self) -> None:
        """Tells what is new; raises Disconnected only."""

    def left(self, selected: Selected) -> None:
        """It is selected no longer; the client knows of it what its view has told."""

    def did(self, what: str, *names: str) -> None:
        """The client itself did that to mailboxes, so it need not be told."""

    def noted(self, name: str | None, values: Mapping[str, bytes | None]) -> None:
        """The client itself changed these metadata of a mailbox, None: of the server."""

    def close(self) -> None: ...


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
        policy: IMAP,
    ) -> None:
        """`open_account` may block; `appends` is shared by all sessions. Large messages lie in `spool`, nameless,
        while they are appended.
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
        self.policy = policy
        self.submitters = frozenset(map(parse_mailbox, policy.submission_servers))
        """The accounts of submission servers, which fetch by URLs made for them."""
        self.engine = ServerConnection(
            EngineLimits(line=limits.imap_line, literal=limits.imap_literal, message=limits.message_size),
            policy.separator,
        )
        self.user: Address | None = None
        self.errors = 0
        self.enabled: set[str] = set()
        """Capabilities, in upper case, that change what the client is told (RFC 5161)."""
        self.ears = ALL_EARS
        self.notices: Notices | None = None
        self._ongoing: Ongoing | None = None
        self._at_work = ""
        """The command, as it is counted when it has ended."""
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

    async def account_of(self, name: str) -> Address | None:
        """The account that somebody of this name logs in to. Raises Refused when that cannot be known now."""
        try:
            return await self.authenticator.account_of(self.channel, name)
        except LoginRefused as error:
            raise Refused(str(error), "UNAVAILABLE") from error

    async def is_user(self, name: str) -> bool:
        """Whether it is a name that this user logs in with. Raises Refused."""
        return self.user is not None and (name == str(self.user) or await self.account_of(name) == self.user)

    def log_in(self, user: Address, account: AccountStore) -> None:
        self.user, self._account = user, account

    async def log_out(self) -> None:
        """Forgets all that belongs to the user, and what was enabled for it."""
        await self.release()
        if self.notices is not None:
            self.notices.close()
            self.notices = None
        self.ears = ALL_EARS
        self.user = self._account = None
        self.enabled.clear()

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

    @property
    def idles(self) -> bool:
        return self._ongoing is not None and self._ongoing.listens

    @property
    def occupied(self) -> bool:
        """A command goes on during which nothing is told."""
        return self._ongoing is not None and not self._ongoing.listens

    def select(self, selected: Selected) -> None:
        self._selected = selected
        self.listen()
        selected.view.condstore = "CONDSTORE" in self.enabled
        selected.view.qresync = "QRESYNC" in self.enabled
        selected.view.uid_only = "UIDONLY" in self.enabled
        self._index(selected)

    def leave(self) -> Selected | None:
        """The mailbox that was selected, which is so no longer; the caller closes it."""
        previous, self._selected = self._selected, None
        if previous is not None:
            if previous.watch is not None:
                previous.watch.close()
            if self.notices is not None:
                self.notices.left(previous)
        return previous

    async def release(self) -> None:
        """Lets the selected mailbox go, if there is one."""
        previous = self.leave()
        if previous is not None:
            await self.workers.run(previous.close)

    # waking

    def wake(self) -> None:
        """`attention` has its turn soon."""
        self.engine.wake()
        self.channel.wake()

    def stir(self) -> None:
        """As `wake`, when something may have happened to the selected mailbox."""
        if self._selected is not None:
            self._selected.stirred = True
        self.wake()

    def watch(self) -> Watch:
        """Of the selected mailbox. The caller closes it."""
        return Watch(self.selected.mailbox, self.workers, self.clock, self.stir)

    def listen(self) -> None:
        """To the selected mailbox, as `ears` says from now on."""
        selected = self._selected
        if selected is None:
            return
        self.begin_listening()
        if self.ears.at_once and selected.watch is None:
            selected.watch = self.watch()
        elif not self.ears.at_once and selected.watch is not None:
            selected.watch.close()
            selected.watch = None

    def begin_listening(self) -> None:
        """Messages that come from now on are new."""
        view = self.selected.view
        self.selected.fetched = view.uids[view.exists_told - 1] if view.exists_told else 0

    @property
    def attentive(self) -> bool:
        """There may be something to tell after each command."""
        updates = self._selected is not None and bool(self._selected.contexts)
        return updates or self.ears.at_once or self.notices is not None

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
            self._selected.take_changes(new=self.ears.messages)
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
            view = self._selected.view
            if self.ears.messages:
                if expunges:
                    self._tell_removals(self._selected, view.gone)
                self.untagged(view.news(expunges=expunges, flags=self.ears.flags))
            self._tell_what_waits()
            self._tell_new_key()

    def _tell_new_key(self) -> None:
        """RFC 4467 §7: whoever has the mailbox selected."""
        selected = self.selected
        if selected.key_changes != selected.mailbox.key_changes:
            selected.key_changes = selected.mailbox.key_changes
            self.engine.status("OK", "The mailbox has a new key for URLs", MECHANISMS)

    def did(self, what: str, *names: str) -> None:
        """As `Notices.did`."""
        if self.notices is not None:
            self.notices.did(what, *names)

    def tell_expunged(self, uids: Iterable[int]) -> None:
        """What the client itself expunged: it hears that also when it wants to hear of nothing unasked."""
        if not self.ears.messages:
            gone = self.selected.view.gone.intersection(uids)
            self._tell_removals(self.selected, gone)
            self.untagged(self.selected.view.expunges(gone))

    def _tell_removals(self, selected: Selected, gone: Set[int]) -> None:
        """These messages leave the results that are kept up to date (RFC 5267 §4.3.4), before their numbers change."""
        if gone:
            for context in selected.contexts.values():
                self.untagged(context.remove(selected.view, gone))

    def brought(self, mailbox: str, validity: int, uids: Iterable[int]) -> None:
        """The client itself put these messages into a mailbox."""
        selected = self._selected
        if selected is None or not self.attentive:
            return
        if (selected.mailbox.name, selected.mailbox.uidvalidity) == (mailbox, validity):
            selected.brought.update(uids)

    def _tell_what_waits(self) -> None:
        """What may not be told now: the client must not take a greater MODSEQ for all that it missed.

        RFC 7162 §3.2: what it would ask for after a broken connection begins where it was told everything.
        """
        if "CONDSTORE" in self.enabled and self.selected.view.waits:
            self.engine.status("OK", "Not all changes are told", self.modseq_code)

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

    @property
    def rev2(self) -> bool:
        """The client speaks IMAP4rev2 (RFC 9051, Appendix A)."""
        return "IMAP4REV2" in self.enabled

    def enable_rev2(self) -> None:
        self.enabled.add("IMAP4REV2")
        self.engine.utf8 = True
        if self._selected is not None:
            self._selected.speak_rev2()
            self.untagged(self._selected.view.known_flags())

    def enable_utf8(self) -> None:
        """Mailbox names and quoted strings are in UTF-8 from now on (RFC 6855, RFC 9755)."""
        self.enabled.add("UTF8=ACCEPT")
        self.engine.utf8 = True

    def enable_uid_only(self) -> None:
        """From now on messages are named by UIDs alone, in both directions (RFC 9586)."""
        self.enabled.add("UIDONLY")
        self.engine.uid_only = True
        if self._selected is not None:
            self._selected.view.uid_only = True

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
