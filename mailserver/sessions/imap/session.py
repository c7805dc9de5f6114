"""What an IMAP client may do: the session that the pump drives. One table says which handler a command has.

Promises   Every event is answered exactly once. A handler that fails for a foreseen reason leads to NO or BAD with a
           code of RFC 5530, and the session goes on; before login that counts as an error.
On failure Other exceptions go to whoever drives the session, which closes the connection.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from math import inf
from typing import Any

from mailserver import metrics
from mailserver.imap import (
    AppendEnded,
    AppendNext,
    AppendPart,
    AppendStarted,
    AuthResponse,
    Event,
    IdleEnded,
    LiteralChunk,
    Rejected,
    Request,
    Woken,
    commands,
    responses,
)
from mailserver.policy.connections import Refusal
from mailserver.sessions.imap import (
    append,
    attention,
    batches,
    comparator,
    contexts,
    copying,
    enabling,
    fetch,
    flags,
    idle,
    listing,
    login,
    mailboxes,
    metadata,
    multisearch,
    notify,
    quota,
    search,
    selection,
    sort,
    thread,
    urlauth,
)
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.names import meant
from mailserver.sessions.imap.refusals import Refused, failure
from mailserver.store import StoreError

log = logging.getLogger(__name__)

HANDLERS: Mapping[type[commands.Command], Callable[[Core, str, Any], Awaitable[None]]] = {
    commands.Authenticate: login.authenticate,
    commands.Batches: batches.batches,
    commands.CancelUpdate: contexts.cancel_update,
    commands.Capability: login.capability,
    commands.Check: selection.check,
    commands.Close: selection.close,
    commands.Comparator: comparator.comparator,
    commands.Compress: login.compress,
    commands.Copy: copying.copy,
    commands.Create: mailboxes.create,
    commands.Delete: mailboxes.delete,
    commands.Enable: enabling.enable,
    commands.Expunge: selection.expunge,
    commands.Fetch: fetch.fetch,
    commands.FetchURLs: urlauth.fetch_urls,
    commands.GenerateURLs: urlauth.generate,
    commands.GetMetadata: metadata.get_metadata,
    commands.GetQuota: quota.get_quota,
    commands.GetQuotaRoot: quota.get_quota_root,
    commands.Identify: login.identify,
    commands.Idle: idle.idle,
    commands.List: listing.list_,
    commands.ListSubscribed: listing.list_subscribed,
    commands.Login: login.login,
    commands.Logout: login.logout,
    commands.MultiSearch: multisearch.multisearch,
    commands.Namespace: mailboxes.namespace,
    commands.Noop: login.noop,
    commands.Notify: notify.notify,
    commands.Rename: mailboxes.rename,
    commands.ResetKey: urlauth.reset_key,
    commands.Search: search.search,
    commands.Select: selection.select,
    commands.Sort: sort.sort,
    commands.SetMetadata: metadata.set_metadata,
    commands.SetQuota: quota.set_quota,
    commands.StartTLS: login.starttls,
    commands.Status: mailboxes.status,
    commands.Store: flags.store,
    commands.Subscribe: mailboxes.subscribe,
    commands.Thread: thread.thread,
    commands.Unauthenticate: login.unauthenticate,
    commands.Unselect: selection.unselect,
}


def refuse(hostname: str, refusal: Refusal) -> bytes:
    """The greeting of a client that is turned away."""
    return responses.status_line("*", "BYE", f"{hostname} {refusal.value}", "UNAVAILABLE")


class IMAPSession(Core):
    """One connection. See `Core` for what it is made of."""

    @property
    def awaits_login(self) -> bool:
        return self.user is None

    @property
    def deadline(self) -> float:
        return inf

    @property
    def idle_timeout(self) -> float:
        return self.limits.login_timeout if self.awaits_login else self.limits.imap_timeout

    @property
    def amid_message(self) -> bool:
        return isinstance(self._ongoing, append.Incoming)

    async def opened(self) -> None:
        self.engine.status("OK", f"{self.hostname} IMAP ready", login.capability_code(self))

    async def handle(self, event: Event) -> None:
        if isinstance(event, Woken):
            await attention.attend(self)
        else:
            if isinstance(event, Rejected):
                self._reject(event)
            else:
                await self._answer(event)
            if self.attentive:
                self.engine.wake()
        await self.drain_if_much()

    async def _answer(
        self,
        event: Request
        | AppendStarted
        | AppendNext
        | AppendPart
        | LiteralChunk
        | AppendEnded
        | AuthResponse
        | IdleEnded,
    ) -> None:
        if isinstance(event, Request | AppendStarted):
            self._at_work = type(event.command).__name__
        try:
            match event:
                case Request(tag, command):
                    # SELECT leaves the former mailbox before it looks for the next one
                    named = command if isinstance(command, commands.Select) else await meant(self, command)
                    await HANDLERS[type(command)](self, tag, named)
                    if not self.awaits_login:
                        self.errors = 0  # a client may try now and then what this server does not know
                case AppendStarted(tag, command):
                    await append.start(self, AppendStarted(tag, await meant(self, command)))
                case _:
                    await self.ongoing.go_on(event)
            if self._ongoing is None:
                self._count("OK")
        except (StoreError, Refused) as error:
            self.end()
            refused = error if isinstance(error, Refused) else failure(error)
            assert not isinstance(event, LiteralChunk)
            self._count(refused.status)
            if self.awaits_login and refused.code != "UNAVAILABLE" and self.count_error():
                return
            self.settle()
            self.engine.done(event.tag, refused.status, refused.text, refused.code)
            self.abandon()

    def _count(self, result: str) -> None:
        metrics.COMMANDS.add(self.channel.protocol, self._at_work, result)
        self._at_work = ""

    def _reject(self, event: Rejected) -> None:
        self.end()
        self._at_work = "Rejected"
        self._count(event.status)
        if event.loses_saved and self.has_selected:
            self.selected.view.save(())
        self.engine.reject(event)
        if event.fatal:
            log.warning("session=%s peer=%s %s", self.channel.id, self.channel.peer, event.text)
            self.channel.close()
        elif event.status == "BAD":
            self.count_error()

    def timed_out(self) -> None:
        self.engine.bye("Autologout; idle for too long")

    def lost(self) -> None:
        self.end()
        if self.notices is not None:
            self.notices.close()
            self.notices = None
        self.workers.spawn(self.release())
