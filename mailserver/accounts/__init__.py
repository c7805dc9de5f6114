"""The directory: which domains, accounts and aliases there are, and whose password it is.

Promises   Any thread may look up; the file's accounts are answered from memory. An edit of the file is taken over
           within a second or two; one that is broken, or leaves no domain, is logged and passed over.
On failure ConfigurationError when the file cannot be used at the start; `EditError` from an edit that cannot be made;
           `SourceDown` when a source cannot be asked now.
"""

from mailserver.accounts.directory import Directory
from mailserver.accounts.editor import AccountsFile, EditError
from mailserver.accounts.file import FileSource
from mailserver.accounts.model import (
    Disabled,
    Mailbox,
    Members,
    NotLocal,
    Resolution,
    Sending,
    SourceDown,
    Unknown,
)
from mailserver.accounts.passwords import (
    PasswordError,
    generate_password,
    hash_password,
    scram_keys,
    verify_password,
)
from mailserver.accounts.secret import load_secret
from mailserver.accounts.sources import open_source, open_sources
from mailserver.accounts.tokens import Tokens, TokensUnavailable

__all__ = [
    "AccountsFile",
    "Directory",
    "Disabled",
    "EditError",
    "FileSource",
    "Mailbox",
    "Members",
    "NotLocal",
    "PasswordError",
    "Resolution",
    "Sending",
    "SourceDown",
    "Tokens",
    "TokensUnavailable",
    "Unknown",
    "generate_password",
    "hash_password",
    "load_secret",
    "open_source",
    "open_sources",
    "scram_keys",
    "verify_password",
]
