"""LMTP (RFC 2033): mail for the mailboxes of this server, handed over by a mail server that trusts it with delivery.

Promises   After the content each accepted recipient has an answer of its own: `250` means that this copy is on disk.
           No copy is queued and no failure reported: what failed stays with the client, which keeps a queue. A sender
           who asked for it (NOTIFY=SUCCESS) is told that a copy was delivered.
"""

from __future__ import annotations

from mailserver.sessions.smtp.session import SMTPSession


class LMTPSession(SMTPSession):
    """One connection."""

    lmtp = True
