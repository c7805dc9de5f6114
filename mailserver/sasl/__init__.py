"""Authentication mechanisms as challenge and response, both ends (RFC 4422): PLAIN (RFC 4616) and LOGIN.

Promises   Pure: octets in, a step out; nothing here knows a protocol, a password or a directory. No step raises on what
           the other side sent, and no secret stands in a `repr`.
On failure `Malformed` from a server mechanism, `ValueError` from `decode_base64` and from a client mechanism.
"""

from mailserver.sasl.base64 import decode_base64, encode_base64
from mailserver.sasl.client import ClientMechanism, Login, Plain, choose
from mailserver.sasl.server import SERVER_MECHANISMS, Challenge, Credentials, Malformed, Mechanism, Step, mechanism

__all__ = [
    "SERVER_MECHANISMS",
    "Challenge",
    "ClientMechanism",
    "Credentials",
    "Login",
    "Malformed",
    "Mechanism",
    "Plain",
    "Step",
    "choose",
    "decode_base64",
    "encode_base64",
    "mechanism",
]
