"""What an IMAP client may do with its account (RFC 3501): one file a command family, and the view of what it knows."""

from mailserver.sessions.imap.session import IMAPSession, refuse

__all__ = ["IMAPSession", "refuse"]
