"""OAUTHBEARER (RFC 7628) and XOAUTH2, the server's end: a token that somebody else has issued.

    client -> step -> Token -> (accepted, or) refused -> Challenge with the error -> dummy response -> step -> Failed

XOAUTH2 is what Google and Microsoft made before there was an RFC, and what most clients speak.

Promises   User and token are valid UTF-8 of at most `LIMIT` and `TOKEN_LIMIT` octets.
On failure `Malformed` for what is not of the mechanism. What a wrong token is answered with tells nothing of users.
"""

from __future__ import annotations

import json
import re

from mailserver.sasl.steps import LIMIT, OVER, Challenge, Failed, Malformed, Step, Token

OAUTHBEARER = "OAUTHBEARER"
XOAUTH2 = "XOAUTH2"
TOKEN_LIMIT = 8192  # octets

_FIRST = {
    OAUTHBEARER: re.compile(rb"[ny],(?:a=([^,\x01]*))?,\x01((?:[A-Za-z]+=[^\x01]*\x01)*)\x01"),
    XOAUTH2: re.compile(rb"user=([^\x01]*)\x01((?:[A-Za-z]+=[^\x01]*\x01)*)\x01"),
}
_EMPTY = re.compile(rb"(?:^|\x01)auth= *\x01", re.IGNORECASE)
_BEARER = re.compile(rb"(?:^|\x01)auth=bearer +([A-Za-z0-9._~+/-]+=*)\x01", re.IGNORECASE)


class OAuth:
    """One exchange of either mechanism. `configuration`: a URL that tells clients where tokens are to be had."""

    def __init__(self, name: str, configuration: str | None = None) -> None:
        self._first = _FIRST[name]
        self._configuration = configuration
        self._asked = self._refused = False

    def step(self, response: bytes | None) -> Step:
        if response is None and not self._asked:
            return Challenge(b"")
        if self._refused:
            self._refused = False
            return Failed()
        if self._asked or response is None:
            return OVER
        self._asked = True
        match = self._first.fullmatch(response)
        if match is not None and _EMPTY.search(match[2]):
            return self.refuse()  # how a client asks where tokens are to be had (RFC 7628 §4.3)
        bearer = _BEARER.search(match[2]) if match else None
        if match is None or bearer is None:
            return Malformed("a user and a bearer token are expected")
        user = (match[1] or b"").replace(b"=2C", b",").replace(b"=3D", b"=")
        if len(user) > LIMIT or len(bearer[1]) > TOKEN_LIMIT:
            return Malformed("a field is too long")
        try:
            return Token(user.decode(), bearer[1].decode())
        except UnicodeDecodeError:
            return Malformed("a field is not UTF-8")

    def refuse(self) -> Step:
        """The answer to `Token`, when it is not good; the client answers, and then the exchange fails (§3.2.3)."""
        self._refused = True
        told = {"status": "invalid_token"}
        if self._configuration is not None:
            told["openid-configuration"] = self._configuration
        return Challenge(json.dumps(told).encode())
