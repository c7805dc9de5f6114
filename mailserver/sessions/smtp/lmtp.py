"""LMTP (RFC 2033): mail for the mailboxes of this server, handed over by a mail server that trusts it with delivery.

Promises   After the content each accepted recipient has an answer of its own: `250` means that this copy is on disk.
           Nothing is queued and nobody is sent a report: what failed stays with the client, which keeps a queue.
"""

from __future__ import annotations

from mailserver.sessions.smtp.session import SMTPSession


class LMTPSession(SMTPSession):
    """One connection."""

    lmtp = True
