"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the server's end (RFC 5802, RFC 7677); the keys that stand for a password.

    client-first -> step -> Lookup -> supply(keys) -> Challenge -> client-final -> step -> Challenge -> step -> Proven

Promises   Neither the password nor anything that could be used in its place crosses the wire or is kept. With PLUS the
           exchange holds on this TLS connection only: whoever stands between gets no further. A client that could do
           PLUS and was made to believe that the server cannot is refused (RFC 5802 §6).
On failure `Malformed` for what is not SCRAM, `Failed` for a wrong proof. ValueError from `ScramKeys.parse`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mailserver.sasl.base64 import decode_base64, encode_base64
from mailserver.sasl.steps import LIMIT, OVER, Challenge, Failed, Lookup, Malformed, Proven, Step

SCRAM = "SCRAM-SHA-256"
SCRAM_PLUS = "SCRAM-SHA-256-PLUS"
BINDINGS = ("tls-exporter", "tls-server-end-point")
"""The kinds of channel binding that are understood: RFC 9266, RFC 5929 §4."""

ITERATIONS = 50_000  # Cyrus SASL's clients take no more than 65,536
_MOST_ITERATIONS = 10_000_000
_SALT = 16  # octets
_NONCE = 18  # octets

_GS2 = re.compile(rb"(?:([ny])|p=([A-Za-z0-9.-]{1,50})),(?:a=([^,\0]*))?,")
_BARE = re.compile(rb"n=([^,\0]+),r=([!-+\--~]{1,512})(?:,.*)?", re.DOTALL)
_FINAL = re.compile(rb"(c=([A-Za-z0-9+/=]+),r=([!-+\--~]+)(?:,[A-Za-z]=[^,]*)*),p=([A-Za-z0-9+/=]+)")
_NAME = re.compile(rb"(?:[^=]|=2C|=3D)*")  # saslname: no other use of "="
_TEXT = re.compile(r"SCRAM-SHA-256\$([0-9]{1,8}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What is kept instead of a password (RFC 5802 §3). As text it has the form of RFC 5803."""

    iterations: int
    salt: bytes
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @classmethod
    def of(cls, password: bytes, *, salt: bytes | None = None, iterations: int = ITERATIONS) -> ScramKeys:
        """`password` is normalised. Takes some 20 ms."""
        salt = salt or secrets.token_bytes(_SALT)
        salted = hashlib.pbkdf2_hmac("sha256", password, salt, iterations)
        stored_key = hashlib.sha256(_mac(salted, b"Client Key")).digest()
        return cls(iterations, salt, stored_key, _mac(salted, b"Server Key"))

    @classmethod
    def decoy(cls, secret: bytes, user: bytes, iterations: Sequence[int] = (ITERATIONS,)) -> ScramKeys:
        """For somebody who does not exist: always the same salt, and no password that fits.

        `iterations`: those of all who do exist; a decoy has one of them as often as they do.
        """
        salt = _mac(secret, b"salt " + user)[:_SALT]
        iterations = iterations or (ITERATIONS,)  # the last who had keys has gone a moment ago
        count = iterations[int.from_bytes(_mac(secret, b"count " + user)[:8], "big") % len(iterations)]
        return cls(count, salt, _mac(secret, b"stored " + user), _mac(secret, b"server " + user))

    @classmethod
    def parse(cls, text: str) -> ScramKeys:
        """Raises ValueError."""
        match = _TEXT.fullmatch(text)
        if match is None or not 4096 <= int(match[1]) <= _MOST_ITERATIONS:
            raise ValueError("not the keys of SCRAM-SHA-256")
        salt, stored_key, server_key = (decode_base64(match[n].encode()) for n in (2, 3, 4))
        if len(stored_key) != 32 or len(server_key) != 32:
            raise ValueError("the keys of SCRAM-SHA-256 have 32 octets")
        return cls(int(match[1]), salt, stored_key, server_key)

    def __str__(self) -> str:
        salt, stored_key, server_key = (
            encode_base64(each).decode() for each in (self.salt, self.stored_key, self.server_key)
        )
        return f"{SCRAM}${self.iterations}:{salt}${stored_key}:{server_key}"


Binding = Callable[[str], bytes | None]
"""Gives the data of a kind of channel binding on this connection, None where there are none."""


class Scram:
    """One exchange. `binding` None: without channel binding; `plus_offered`: this connection could have had it."""

    def __init__(self, *, binding: Binding | None, plus_offered: bool, nonce: bytes | None = None) -> None:
        self._binding = binding
        self._plus_offered = plus_offered
        self._server_nonce = nonce or encode_base64(secrets.token_bytes(_NONCE))
        self._next: Callable[[bytes], Step] = self._first
        self._claim = Lookup("", "")
        self._expected = b""  # what stands behind c=, decoded
        self._nonce = self._first_bare = self._server_first = b""
        self._keys: ScramKeys | None = None

    def step(self, response: bytes | None) -> Step:
        if response is None:
            return Challenge(b"")
        act, self._next = self._next, _over
        return act(response)

    def supply(self, keys: ScramKeys) -> Step:
        """The answer to `Lookup`: the keys of that user, or a decoy."""
        self._keys = keys
        fields = (self._nonce, encode_base64(keys.salt), keys.iterations)
        self._server_first = b"r=%b,s=%b,i=%d" % fields
        self._next = self._final
        return Challenge(self._server_first)

    def _first(self, message: bytes) -> Step:
        header = _GS2.match(message)
        bare = _BARE.fullmatch(message, header.end()) if header else None
        if header is None or bare is None or not (_NAME.fullmatch(bare[1]) and _NAME.fullmatch(header[3] or b"")):
            return Malformed("a client-first-message is expected")
        bound = self._bound(header[1], header[2])
        if isinstance(bound, Malformed):
            return bound
        try:
            self._claim = Lookup(_decoded(bare[1]), _decoded(header[3] or b""))
        except UnicodeDecodeError:
            return Malformed("a field is not UTF-8")
        if len(bare[1]) > LIMIT or len(header[3] or b"") > LIMIT:
            return Malformed(f"a field is longer than {LIMIT} octets")
        self._expected = header[0] + bound
        self._nonce = bare[2] + self._server_nonce
        self._first_bare = message[header.end() :]
        return self._claim

    def _bound(self, flag: bytes | None, kind: bytes | None) -> bytes | Malformed:
        """The data of the channel binding that the client asks for, empty without."""
        if kind is None:
            if self._binding is not None:
                return Malformed("PLUS needs channel binding")
            if flag == b"y" and self._plus_offered:
                return Malformed("channel binding was offered; somebody took the offer away")
            return b""
        data = self._binding(kind.decode()) if self._binding is not None and kind.decode() in BINDINGS else None
        return Malformed("that kind of channel binding is not supported") if data is None else data

    def _final(self, message: bytes) -> Step:
        match = _FINAL.fullmatch(message)
        try:
            bound, proof = (decode_base64(match[n]) for n in (2, 4)) if match else (b"", b"")
        except ValueError:
            match = None
        if match is None or self._keys is None:
            return Malformed("a client-final-message is expected")
        if match[3] != self._nonce:
            return Malformed("the nonce is another one")
        exchanged = b",".join((self._first_bare, self._server_first, match[1]))
        signature = _mac(self._keys.stored_key, exchanged)
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=False))
        fits = hmac.compare_digest(hashlib.sha256(client_key).digest(), self._keys.stored_key)
        if not (fits and len(proof) == len(signature) and hmac.compare_digest(bound, self._expected)):
            return Failed()
        self._next = self._end
        return Challenge(b"v=" + encode_base64(_mac(self._keys.server_key, exchanged)))

    def _end(self, message: bytes) -> Step:
        return Proven() if not message else Malformed("nothing more is expected")


def _over(_message: bytes) -> Step:
    return OVER


def _decoded(name: bytes) -> str:
    return name.replace(b"=2C", b",").replace(b"=3D", b"=").decode()


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
