"""A connection to an LDAP server, as far as the directory asks it: searches, and binding as somebody.

Promises   Values in filters are escaped (RFC 4515 §3). Nothing is sent in clear that is to be encrypted: with LDAPS and
           StartTLS (RFC 4513 §3) the server's certificate must hold for its name. An empty password binds nobody,
           though servers call that a success (RFC 4513 §5.1.2). Referrals are not followed.
On failure ConnectionLost when the server cannot be reached, or does not answer in time; SourceDown for what it refuses.
           ConfigurationError when ldap3 is missing.
"""

from __future__ import annotations

import logging
import math
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mailserver.accounts.model import SourceDown
from mailserver.accounts.pool import ConnectionLost
from mailserver.config.loader import ConfigurationError
from mailserver.config.queries import filled_filter

log = logging.getLogger(__name__)

SUCCESS, SIZE_LIMIT, NO_SUCH_OBJECT = 0, 4, 32
WRONG_PASSWORD = (49, 48, NO_SUCH_OBJECT)  # invalidCredentials, inappropriateAuthentication
NOT_THIS_ONE = (19, 53)  # constraintViolation, unwillingToPerform: locked, expired


@dataclass(frozen=True, slots=True)
class Entry:
    """The values of each attribute that was asked for and is there."""

    name: str
    attributes: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Server:
    """How a server is reached, and as whom. `password` is asked for each connection, so that it can be changed."""

    url: str
    starttls: bool
    ca_file: Path | None
    bind_dn: str | None
    password: Callable[[], str | None]
    timeout: float

    def connect(self) -> LDAPConnection:
        """Bound, for searches."""
        try:
            password = self.password()
        except OSError as error:
            raise ConnectionLost(f"the password for the server cannot be read: {error}") from error
        client = self.open(self.bind_dn, password.encode() if password is not None else None)
        bound = LDAPConnection(self, client)
        code, text = bound.bind()
        if code != SUCCESS:
            bound.close()
            raise ConnectionLost(f"binding as {self.bind_dn or 'nobody'} is refused: {text}")
        return bound

    def open(self, user: str | None, password: bytes | None) -> Any:
        """A client of ldap3, connected and encrypted, that has not bound."""
        ldap3 = _ldap3()
        url = urlsplit(self.url)
        tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=str(self.ca_file) if self.ca_file else None)
        server = ldap3.Server(
            url.hostname,
            port=url.port,
            use_ssl=url.scheme == "ldaps",
            tls=tls,
            get_info=ldap3.NONE,
            connect_timeout=self.timeout,
        )
        client = ldap3.Connection(
            server,
            user=user,
            password=password,
            authentication=ldap3.SIMPLE if user else ldap3.ANONYMOUS,
            auto_referrals=False,
            check_names=False,
            read_only=True,
            receive_timeout=math.ceil(self.timeout),
        )
        try:
            client.open(read_server_info=False)
            if self.starttls and not client.start_tls(read_server_info=False):
                raise ConnectionLost(f"StartTLS is refused: {_text(client)}")
        except (ldap3.core.exceptions.LDAPException, OSError, ValueError) as error:
            _close(client)
            raise error if isinstance(error, ConnectionLost) else ConnectionLost(_line(error)) from error
        return client


class LDAPConnection:
    def __init__(self, server: Server, client: Any) -> None:
        self._server = server
        self._client = client

    def bind(self) -> tuple[int, str]:
        """The result, as a code and in words."""
        self._do(lambda: self._client.bind(read_server_info=False))
        return int(self._client.result["result"]), _text(self._client)

    def search(
        self, base: str, filter: str, values: Mapping[str, str], attributes: Sequence[str], most: int
    ) -> list[Entry]:
        """No more than `most`, one of them to spare where there are more."""
        ldap3 = _ldap3()
        self._do(
            lambda: self._client.search(
                base,
                filled_filter(filter, values, ldap3.utils.conv.escape_filter_chars),
                search_scope=ldap3.SUBTREE,
                attributes=list(attributes) or [ldap3.NO_ATTRIBUTES],
                size_limit=most,
                time_limit=math.ceil(self._server.timeout),
            )
        )
        code = self._client.result["result"]
        if code == NO_SUCH_OBJECT:
            raise SourceDown(f'the base "{base}" is not there, or not for {self._server.bind_dn or "nobody"} to see')
        if code not in (SUCCESS, SIZE_LIMIT):
            raise SourceDown(f"a search is refused: {_text(self._client)}")
        found = (each for each in self._client.response if each["type"] == "searchResEntry")
        return [Entry(each["dn"], _decoded(each["raw_attributes"], attributes)) for each in found]

    def is_password(self, name: str, password: str) -> bool:
        """Whether binding as `name` succeeds, on a connection of its own."""
        try:
            octets = password.encode()
        except UnicodeEncodeError:
            return False
        if not octets or not name:
            return False
        other = LDAPConnection(self._server, self._server.open(name, octets))
        try:
            code, text = other.bind()
        finally:
            other.close()
        if code in (SUCCESS, *WRONG_PASSWORD):
            return code == SUCCESS
        if code in NOT_THIS_ONE:
            log.info("the LDAP server does not let in %s: %s", name, text)
            return False
        raise SourceDown(f"binding as a user fails: {text}")

    def close(self) -> None:
        _close(self._client)

    def _do(self, act: Callable[[], object]) -> None:
        ldap3 = _ldap3()
        try:
            act()
        except ldap3.core.exceptions.LDAPInvalidFilterError as error:
            raise SourceDown(f"a filter is not one: {error}") from error
        except (ldap3.core.exceptions.LDAPException, OSError) as error:
            raise ConnectionLost(_line(error), late="receiving" in str(error) or "timed out" in str(error)) from error


def check_library() -> None:
    """Raises ConfigurationError."""
    try:
        _ldap3()
    except ImportError:
        raise ConfigurationError(
            ["directory: ldap3 is missing; install it with: pip install 'mailserver[ldap]'"]
        ) from None


def _ldap3() -> Any:
    import ldap3
    import ldap3.core.exceptions
    import ldap3.utils.conv

    return ldap3


def _close(client: Any) -> None:
    try:
        client.strategy.close()  # without a word: a server that hangs would not take it
    except Exception as error:  # noqa: BLE001 - there is nothing left to do
        log.debug("an LDAP connection was not closed well: %s", error)


def _decoded(raw: Mapping[str, Sequence[bytes]], wanted: Sequence[str]) -> dict[str, list[str]]:
    """By the names that were asked for: the server may spell them otherwise."""
    by_name = {name.lower(): values for name, values in raw.items()}
    found = ((name, by_name.get(name.lower())) for name in wanted)
    return {name: [value.decode("utf-8", "surrogateescape") for value in values] for name, values in found if values}


def _text(client: Any) -> str:
    result = client.result or {}
    return ": ".join(filter(None, (str(result.get("description", "")), str(result.get("message") or ""))))


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
