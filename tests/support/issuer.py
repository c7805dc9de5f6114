"""Somebody who issues OAuth tokens."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ISSUER, AUDIENCE = "https://login.example.test", "mail.example.test"


class Issuer:
    """`keys` are the names of its keys, each of the other kind than the one before: RSA, EC, RSA ..."""

    def __init__(self, *keys: str) -> None:
        self.private: dict[str, Any] = {}
        for number, name in enumerate(keys or ("one",)):
            if number % 2:
                self.private[name] = ec.generate_private_key(ec.SECP256R1())
            else:
                self.private[name] = rsa.generate_private_key(65537, 2048)

    def publish(self, path: Path) -> Path:
        """Writes the public keys as a JSON Web Key Set."""
        keys = [
            {**self._algorithm(key).to_jwk(key.public_key(), as_dict=True), "kid": name, "use": "sig"}
            for name, key in self.private.items()
        ]
        path.write_text(json.dumps({"keys": keys}))
        return path

    def token(
        self, address: str, *, key: str | None = None, headers: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A claim that is None is left out."""
        name = key or next(iter(self.private))
        kind = "ES256" if isinstance(self.private[name], ec.EllipticCurvePrivateKey) else "RS256"
        now = int(time.time())
        told = {"iss": ISSUER, "aud": AUDIENCE, "exp": now + 600, "iat": now, "email": address} | claims
        return jwt.encode(
            {claim: value for claim, value in told.items() if value is not None},
            self.private[name],
            kind,
            headers={"kid": name} if headers is None else headers,
        )

    @staticmethod
    def _algorithm(key: object) -> type[ECAlgorithm] | type[RSAAlgorithm]:
        return ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else RSAAlgorithm
