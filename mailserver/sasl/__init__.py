"""Authentication mechanisms as challenge and response (RFC 4422): PLAIN (RFC 4616) and LOGIN, both ends;
SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), OAUTHBEARER (RFC 7628) and XOAUTH2, the server's end.

Promises   Pure: octets in, a step out; nothing here knows a protocol, a password or a directory. No step raises on what
           the other side sent, and no secret stands in a `repr`.
On failure `Malformed` from a server mechanism, `ValueError` from `decode_base64` and from a client mechanism.
"""

from mailserver.sasl.base64 import decode_base64, encode_base64
from mailserver.sasl.client import ClientMechanism, Login, Plain, choose
from mailserver.sasl.oauth import OAUTHBEARER, XOAUTH2, OAuth
from mailserver.sasl.prep import saslprep
from mailserver.sasl.schemes import CLEAR, Hash, SchemeError, parse_hash
from mailserver.sasl.scram import BINDINGS, SCRAM, SCRAM_PLUS, Binding, Scram, ScramKeys
from mailserver.sasl.server import SERVER_MECHANISMS, Mechanism, mechanism
from mailserver.sasl.steps import Challenge, Credentials, Failed, Lookup, Malformed, Proven, Step, Token

__all__ = [
    "BINDINGS",
    "CLEAR",
    "OAUTHBEARER",
    "SCRAM",
    "SCRAM_PLUS",
    "SERVER_MECHANISMS",
    "XOAUTH2",
    "Binding",
    "Challenge",
    "ClientMechanism",
    "Credentials",
    "Failed",
    "Hash",
    "Login",
    "Lookup",
    "Malformed",
    "Mechanism",
    "OAuth",
    "Plain",
    "Proven",
    "SchemeError",
    "Scram",
    "ScramKeys",
    "Step",
    "Token",
    "choose",
    "decode_base64",
    "encode_base64",
    "mechanism",
    "parse_hash",
    "saslprep",
]
