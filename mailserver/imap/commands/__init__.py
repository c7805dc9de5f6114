"""The commands: one file a family, each with the values that commands become and the grammar that makes them.

Promises   `parse` gives one frozen value for a command that is right in grammar and allowed in the state.
On failure `Fault`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mailserver.imap.commands import (
    batches,
    comparator,
    compression,
    connection,
    contexts,
    enable,
    fetch,
    listing,
    mailboxes,
    messages,
    metadata,
    multisearch,
    notify,
    quota,
    search,
    sort,
    urlauth,
)
from mailserver.imap.commands.append import (
    Append,
    CatPart,
    Stretch,
    append_head,
    append_onward,
    append_whole,
    ends_in_url,
    replace_head,
    replace_whole,
)
from mailserver.imap.commands.batches import Batches
from mailserver.imap.commands.comparator import Comparator
from mailserver.imap.commands.compression import Compress
from mailserver.imap.commands.connection import (
    Authenticate,
    Capability,
    Identify,
    Idle,
    Login,
    Logout,
    Noop,
    StartTLS,
    Unauthenticate,
)
from mailserver.imap.commands.contexts import CancelUpdate
from mailserver.imap.commands.enable import Enable
from mailserver.imap.commands.fetch import Attribute, Fetch, Item, Section, Text, section_of
from mailserver.imap.commands.listing import List, ListSubscribed
from mailserver.imap.commands.mailboxes import (
    Create,
    Delete,
    Namespace,
    Rename,
    Select,
    Status,
    Subscribe,
)
from mailserver.imap.commands.messages import Check, Close, Copy, Expunge, FlagAction, Store, Unselect
from mailserver.imap.commands.metadata import GetMetadata, SetMetadata
from mailserver.imap.commands.multisearch import MultiSearch
from mailserver.imap.commands.notify import Notify
from mailserver.imap.commands.parts import Partial
from mailserver.imap.commands.quota import GetQuota, GetQuotaRoot, SetQuota
from mailserver.imap.commands.resync import Match, Resync
from mailserver.imap.commands.returns import Returns
from mailserver.imap.commands.search import (
    Aged,
    And,
    Dated,
    Fuzzy,
    HasFlag,
    HasId,
    InHeader,
    InSet,
    InText,
    Key,
    Modified,
    Not,
    Or,
    Saved,
    Search,
    Sized,
    leaves,
    names_by_number,
)
from mailserver.imap.commands.sort import Criterion, Sort, Thread
from mailserver.imap.commands.urlauth import FetchURLs, GenerateURLs, ResetKey, WantedURL, text_of
from mailserver.imap.states import State
from mailserver.imap.syntax import Fault, Reader

__all__ = [
    "Aged",
    "And",
    "Append",
    "Attribute",
    "Authenticate",
    "Batches",
    "CancelUpdate",
    "Capability",
    "CatPart",
    "Check",
    "Close",
    "Command",
    "Comparator",
    "Compress",
    "Copy",
    "Create",
    "Criterion",
    "Dated",
    "Delete",
    "Enable",
    "Expunge",
    "Fetch",
    "FetchURLs",
    "FlagAction",
    "Fuzzy",
    "GenerateURLs",
    "GetMetadata",
    "GetQuota",
    "GetQuotaRoot",
    "HasFlag",
    "HasId",
    "Identify",
    "Idle",
    "InHeader",
    "InSet",
    "InText",
    "Item",
    "Key",
    "List",
    "ListSubscribed",
    "Login",
    "Logout",
    "Match",
    "Modified",
    "MultiSearch",
    "Namespace",
    "Noop",
    "Not",
    "Notify",
    "Or",
    "Partial",
    "Rename",
    "ResetKey",
    "Resync",
    "Returns",
    "Saved",
    "Search",
    "Section",
    "Select",
    "SetMetadata",
    "SetQuota",
    "Sized",
    "Sort",
    "StartTLS",
    "Status",
    "Store",
    "Stretch",
    "Subscribe",
    "Text",
    "Thread",
    "Unauthenticate",
    "Unselect",
    "WantedURL",
    "append_onward",
    "ends_in_url",
    "leaves",
    "lookup",
    "parse",
    "section_of",
    "text_of",
    "uses_numbers",
]

Command = (
    Authenticate
    | Batches
    | CancelUpdate
    | Capability
    | Check
    | Close
    | Comparator
    | Compress
    | Copy
    | Create
    | Delete
    | Enable
    | Expunge
    | Fetch
    | FetchURLs
    | GenerateURLs
    | GetMetadata
    | GetQuota
    | GetQuotaRoot
    | Identify
    | Idle
    | List
    | ListSubscribed
    | Login
    | Logout
    | MultiSearch
    | Namespace
    | Noop
    | Notify
    | Rename
    | ResetKey
    | Search
    | Select
    | Sort
    | SetMetadata
    | SetQuota
    | StartTLS
    | Status
    | Store
    | Subscribe
    | Thread
    | Unauthenticate
    | Unselect
)


Head = Callable[[Reader, int | None], Stretch | None]


@dataclass(frozen=True, slots=True)
class Grammar:
    """`head`: messages in literals are not part of the command but passed through (APPEND); it reads what is before.

    Such a command becomes a `Stretch` when it has no such literal.
    """

    parse: Callable[[Reader], Command | Stretch]
    states: frozenset[State]
    head: Head | None = None


_ANY = frozenset(State) - {State.LOGOUT}
_BEFORE_LOGIN = frozenset({State.NOT_AUTHENTICATED})
_AFTER_LOGIN = frozenset({State.AUTHENTICATED, State.SELECTED})
_SELECTED = frozenset({State.SELECTED})


GRAMMARS: dict[bytes, Grammar] = {
    b"CAPABILITY": Grammar(connection.capability, _ANY),
    b"NOOP": Grammar(connection.noop, _ANY),
    b"LOGOUT": Grammar(connection.logout, _ANY),
    b"ID": Grammar(connection.identify, _ANY),
    b"STARTTLS": Grammar(connection.starttls, _BEFORE_LOGIN),
    b"AUTHENTICATE": Grammar(connection.authenticate, _BEFORE_LOGIN),
    b"LOGIN": Grammar(connection.login, _BEFORE_LOGIN),
    b"UNAUTHENTICATE": Grammar(connection.unauthenticate, _AFTER_LOGIN),
    b"COMPARATOR": Grammar(comparator.comparator, _AFTER_LOGIN),
    b"COMPRESS": Grammar(compression.compress, _AFTER_LOGIN),
    b"ENABLE": Grammar(enable.enable, _AFTER_LOGIN),
    b"IDLE": Grammar(connection.idle, _AFTER_LOGIN),
    b"NOTIFY": Grammar(notify.notify, _AFTER_LOGIN),
    b"NAMESPACE": Grammar(mailboxes.namespace, _AFTER_LOGIN),
    b"SELECT": Grammar(mailboxes.select, _AFTER_LOGIN),
    b"EXAMINE": Grammar(mailboxes.examine, _AFTER_LOGIN),
    b"CREATE": Grammar(mailboxes.create, _AFTER_LOGIN),
    b"DELETE": Grammar(mailboxes.delete, _AFTER_LOGIN),
    b"RENAME": Grammar(mailboxes.rename, _AFTER_LOGIN),
    b"SUBSCRIBE": Grammar(mailboxes.subscribe, _AFTER_LOGIN),
    b"UNSUBSCRIBE": Grammar(mailboxes.unsubscribe, _AFTER_LOGIN),
    b"LIST": Grammar(listing.list_, _AFTER_LOGIN),
    b"LSUB": Grammar(listing.lsub, _AFTER_LOGIN),
    b"STATUS": Grammar(mailboxes.status, _AFTER_LOGIN),
    b"GETMETADATA": Grammar(metadata.get_metadata, _AFTER_LOGIN),
    b"SETMETADATA": Grammar(metadata.set_metadata, _AFTER_LOGIN),
    b"GETQUOTA": Grammar(quota.get_quota, _AFTER_LOGIN),
    b"GETQUOTAROOT": Grammar(quota.get_quota_root, _AFTER_LOGIN),
    b"SETQUOTA": Grammar(quota.set_quota, _AFTER_LOGIN),
    b"APPEND": Grammar(append_whole, _AFTER_LOGIN, append_head),
    b"GENURLAUTH": Grammar(urlauth.generate, _AFTER_LOGIN),
    b"RESETKEY": Grammar(urlauth.reset_key, _AFTER_LOGIN),
    b"URLFETCH": Grammar(urlauth.fetch_urls, _AFTER_LOGIN),
    b"ESEARCH": Grammar(multisearch.multisearch, _AFTER_LOGIN),
    b"CANCELUPDATE": Grammar(contexts.cancel_update, _SELECTED),
    b"CHECK": Grammar(messages.check, _SELECTED),
    b"CLOSE": Grammar(messages.close, _SELECTED),
    b"UNSELECT": Grammar(messages.unselect, _SELECTED),
    b"EXPUNGE": Grammar(messages.expunge, _SELECTED),
    b"SEARCH": Grammar(search.search, _SELECTED),
    b"SORT": Grammar(sort.sort, _SELECTED),
    b"THREAD": Grammar(sort.thread, _SELECTED),
    b"FETCH": Grammar(fetch.fetch, _SELECTED),
    b"STORE": Grammar(messages.store, _SELECTED),
    b"COPY": Grammar(messages.copy, _SELECTED),
    b"MOVE": Grammar(messages.move, _SELECTED),
    b"REPLACE": Grammar(replace_whole, _SELECTED, replace_head),
    b"UID REPLACE": Grammar(partial(replace_whole, by_uid=True), _SELECTED, partial(replace_head, by_uid=True)),
    b"UIDBATCHES": Grammar(batches.batches, _SELECTED),
    b"UID EXPUNGE": Grammar(messages.uid_expunge, _SELECTED),
    b"UID SEARCH": Grammar(partial(search.search, by_uid=True), _SELECTED),
    b"UID SORT": Grammar(partial(sort.sort, by_uid=True), _SELECTED),
    b"UID THREAD": Grammar(partial(sort.thread, by_uid=True), _SELECTED),
    b"UID FETCH": Grammar(partial(fetch.fetch, by_uid=True), _SELECTED),
    b"UID STORE": Grammar(partial(messages.store, by_uid=True), _SELECTED),
    b"UID COPY": Grammar(partial(messages.copy, by_uid=True), _SELECTED),
    b"UID MOVE": Grammar(partial(messages.move, by_uid=True), _SELECTED),
}

_WRONG_STATE = {
    State.NOT_AUTHENTICATED: "log in first",
    State.AUTHENTICATED: "not allowed now: select a mailbox first, or you are logged in already",
    State.SELECTED: "you are logged in already",
}


def lookup(reader: Reader, state: State) -> Grammar:
    """Reads the command's name. Raises Fault when there is no such command, or not in this state."""
    name = reader.keyword("command")
    if name == b"UID":
        reader.space()
        name += b" " + reader.keyword("command")
    grammar = GRAMMARS.get(name)
    if grammar is None:
        raise Fault("unknown command")
    if state not in grammar.states:
        raise Fault(_WRONG_STATE[state])
    return grammar


def uses_numbers(command: Command | Stretch) -> bool:
    """Does it name messages by their sequence numbers, or would it be answered with them (RFC 9586 §3)?"""
    match command:
        case Stretch(steps=(Append(replaced=replaced, by_uid=by_uid), *_)):
            return replaced is not None and not by_uid
        case Select(resync=resync):
            return resync is not None and bool(resync.matches)
        case Search(key=key, by_uid=by_uid) | Sort(key=key, by_uid=by_uid) | Thread(key=key, by_uid=by_uid):
            return not by_uid or any(map(names_by_number, leaves(key)))
        case MultiSearch(key=key):
            return any(map(names_by_number, leaves(key)))
        case Copy(by_uid=by_uid) | Fetch(by_uid=by_uid) | Store(by_uid=by_uid):
            return not by_uid
        case _:
            return False


def parse(reader: Reader, state: State) -> Command | Stretch:
    """A whole command behind its tag. Raises Fault."""
    command = lookup(reader, state).parse(reader)
    reader.end()
    return command
