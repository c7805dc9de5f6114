"""What a client may do by SMTP on port 25 (`session`), on the submission ports (`submission`), and by LMTP (`lmtp`)."""

from mailserver.sessions.smtp.lmtp import LMTPSession
from mailserver.sessions.smtp.rooms import SMTPRooms
from mailserver.sessions.smtp.session import SMTPSession, refuse
from mailserver.sessions.smtp.submission import SubmissionSession

__all__ = ["LMTPSession", "SMTPRooms", "SMTPSession", "SubmissionSession", "refuse"]
