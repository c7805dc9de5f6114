"""What a POP3 client may do: log in (`authorization`), read its INBOX and delete from it (`transaction`)."""

from mailserver.sessions.pop3.core import POP3Rooms
from mailserver.sessions.pop3.session import POP3Session, refuse

__all__ = ["POP3Rooms", "POP3Session", "refuse"]
