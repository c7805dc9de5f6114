"""OAuth 2.0 bearer tokens: JWTs (RFC 7519) that an issuer has signed, checked against its keys in a file.

Promises   A token is good only if it is signed by one of the issuer's keys, with an algorithm that has a public key; if
           it is of that issuer, for this audience, not expired and not for later, and its address is not one that the
           issuer calls unverified. The file is read again when it
           changes; while a new one cannot be read the old keys stay.
On failure TokensUnavailable from the constructor, with the remedy. A bad token is no address, whatever is wrong.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mailserver.config.model import OAuth

if TYPE_CHECKING:
    from jwt import PyJWK

log = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
PUBLIC = ("RSA", "EC", "OKP")
"""Kinds of keys that have a public half: a secret that both sides know is none of the issuer's alone."""
LEEWAY = 30.0  # seconds that the issuer's clock may be off

OLDEST = (2, 13)
"""Of PyJWT: older ones do not hold a token to the algorithm of its key, or take no such keys and refuse all tokens."""

_INSTALL = "install it with: pip install 'mailserver[oauth]'"
_REMEDY = "save what the issuer publishes as its jwks_uri there"


class TokensUnavailable(ValueError):
    """Tokens cannot be checked; the text says why."""


class Tokens:
    """Of one issuer. Any thread may call. Raises TokensUnavailable."""

    def __init__(self, settings: OAuth) -> None:
        try:
            import jwt
        except ImportError as error:
            raise TokensUnavailable(f"auth.oauth: PyJWT is missing; {_INSTALL}") from error
        if tuple(map(int, re.findall(r"[0-9]+", jwt.__version__)[:2])) < OLDEST:
            raise TokensUnavailable(f"auth.oauth: PyJWT {jwt.__version__} is too old; {_INSTALL}")
        self._jwt = jwt
        self._settings = settings
        self._stamp = _stamp(settings.keys)
        self._keys = self._load()

    def address(self, token: str) -> str | None:
        """The address that the token was issued for; None: it is not good. Blocking, well below a millisecond."""
        self._refresh()
        try:
            header: Mapping[str, Any] = self._jwt.get_unverified_header(token)
            key = self._key(header.get("kid"))
            if key is None:
                return None
            claims: Mapping[str, Any] = self._jwt.decode(
                token,
                key,
                algorithms=[name for name in ALGORITHMS if name == header.get("alg")],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "aud"]},
            )
        except (self._jwt.PyJWTError, TypeError, ValueError, OverflowError, RecursionError) as error:
            log.info("auth=oauth refused=%s", type(error).__name__)
            return None
        claim = self._settings.address_claim
        if claim == "email" and claims.get("email_verified", True) is not True:
            log.info("auth=oauth refused=email-not-verified")
            return None
        address = claims.get(claim)
        return address if isinstance(address, str) else None

    def _key(self, key_id: object) -> PyJWK | None:
        """The key of that name; where the token names none, the only one."""
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id) if isinstance(key_id, str) else None

    def _refresh(self) -> None:
        stamp = _stamp(self._settings.keys)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = self._load()
            log.info("auth=oauth keys=%d read again", len(self._keys))
        except TokensUnavailable as error:
            log.error("the former keys stay in use: %s", error)

    def _load(self) -> Mapping[str, PyJWK]:
        path = self._settings.keys
        try:
            keys = self._jwt.PyJWKSet.from_dict(json.loads(path.read_bytes())).keys
        except (OSError, ValueError, TypeError, AttributeError, RecursionError, self._jwt.PyJWTError) as error:
            raise TokensUnavailable(f"{path}: no JSON Web Key Set can be read: {error}; {_REMEDY}") from error
        usable = [key for key in keys if key.key_type in PUBLIC and key.public_key_use in (None, "sig")]
        if not usable:
            raise TokensUnavailable(f"{path}: has no public key for signatures; {_REMEDY}")
        return {key.key_id or str(number): key for number, key in enumerate(usable)}


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Differs when the file was changed or replaced, or made readable."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino
