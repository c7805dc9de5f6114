"""POP3, the server's end, as a sans-IO engine: RFC 1939, with RFC 2449, RFC 2595 §4, RFC 5034 and RFC 6856.

Promises   `ServerConnection` turns octets into the events of `mailserver.pop3.events` and answers into octets.
On failure Bad input becomes a `Rejected` event that carries the text it deserves; nothing else is raised.
Not done   APOP: it needs passwords kept in clear, and MD5. LAST: RFC 1939 took it out.
"""

from mailserver.pop3.server import ServerConnection, State

__all__ = ["ServerConnection", "State"]
