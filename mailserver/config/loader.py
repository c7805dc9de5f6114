"""Reads `mailserver.toml` and `accounts.toml` and checks them as a whole.

Promises   What is returned can be served. All faults of both files are told at once, each as
           "FILE: KEY: what is wrong; what would be right". Relative paths are taken from the directory of the file.
On failure ConfigurationError with every fault; a file that cannot be read or parsed is a fault like any other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError

from mailserver.config.accounts import account_faults
from mailserver.config.apppasswords import app_password_faults
from mailserver.config.certificates import CertificateFault, read_authorities, read_pair, validity_fault
from mailserver.config.directory import DirectorySource
from mailserver.config.fields import Section
from mailserver.config.model import TLS, Accounts, Configuration, Listener, Metrics, OAuth, Relay
from mailserver.config.network import is_loopback, parse_endpoint
from mailserver.config.relay import RelayDomain, Route
from mailserver.config.syntax import parse
from mailserver.config.units import format_duration
from mailserver.config.words import Location, faults, key_path

S = TypeVar("S", bound=Section)
Fault = tuple[Location, str]
EndpointCheck = Callable[[str], str | None]
"""What is wrong with an endpoint string beyond its text, or None."""
_ELSEWHERE = "; write it there as etc/mailserver.toml shows, or name another with --config"


class ConfigurationError(Exception):
    """The configuration cannot be used; `problems` has a line for each fault."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(slots=True)
class _Findings:
    """The faults of one file."""

    file: Path
    problems: list[str] = field(default_factory=list)

    def add(self, location: Location, text: str) -> None:
        self.problems.append(f"{self.file}: {key_path(location)}: {text}")

    def validated(self, model: type[S], raw: Mapping[str, Any], context: Mapping[str, Any] | None = None) -> S | None:
        try:
            return model.model_validate(raw, context=dict(context or {}))
        except ValidationError as error:
            for location, text in faults(error, model):
                self.add(location, text)
            return None


def load(
    path: Path,
    *,
    text: str | None = None,
    check_endpoint: EndpointCheck | None = None,
    valid_at: datetime | None = None,
) -> Configuration:
    """The server's configuration; its accounts and all files that it names are checked as well.

    `text`: what the file held when it was read. With `valid_at` a certificate that is not valid then is a fault; the
    server starts with one rather than be silent. Raises ConfigurationError.
    """
    raw = _parse(text_of(path) if text is None else text, path)
    found = _Findings(path)
    context = {"directory": path.parent}
    configuration = found.validated(Configuration, raw, context)
    # The sections that are sound in themselves are checked against each other even if others are not.
    tls = _sound(TLS, raw.get("tls"), context)
    listeners = _sound_ones(Listener, raw.get("listener"))
    directory = _sound_ones(DirectorySource, raw.get("directory"), context)
    routes = _sound_ones(Route, raw.get("route"), context)
    relay = _sound(Relay, raw.get("relay", {}), context)
    without_tls = raw["auth"].get("without_tls", "never") if isinstance(raw.get("auth"), dict) else "never"
    checks = (
        _tls_faults(listeners, "tls" in raw, without_tls),
        _endpoint_faults(listeners, check_endpoint),
        _proxy_faults(listeners, configuration),
        _metrics_faults(_sound(Metrics, raw.get("metrics")), listeners, check_endpoint),
        _certificate_faults(tls, valid_at) if tls else (),
        _directory_faults(directory),
        _relay_faults(relay) if relay else (),
        _route_faults(routes),
        _idle_smarthost_faults(routes, relay) if relay else (),
        _oauth_faults(configuration.auth.oauth) if configuration and configuration.auth.oauth else (),
        _data_faults(path.parent / raw["data"]) if isinstance(raw.get("data"), str) else (),
    )
    for check in checks:
        for location, text in check:
            found.add(location, text)
    accounts = raw.get("accounts", "accounts.toml")
    if isinstance(accounts, str):
        _check_accounts(path.parent / accounts, raw, found)
    if found.problems or configuration is None:
        raise ConfigurationError(found.problems)
    return configuration


def read(path: Path) -> Configuration:
    """The configuration without a look at the files that it names, for commands that do not serve.

    Raises ConfigurationError.
    """
    found = _Findings(path)
    raw = _parse(text_of(path), path)
    configuration = found.validated(Configuration, raw, {"directory": path.parent})
    if configuration is None:
        raise ConfigurationError(found.problems)
    return configuration


def load_accounts(path: Path) -> Accounts:
    """Raises ConfigurationError."""
    return parse_accounts(text_of(path, remedy="; `mailserver domain add NAME` makes it"), path)


def parse_accounts(text: str, path: Path) -> Accounts:
    """The content of an accounts file; `path` stands in the faults only. Raises ConfigurationError."""
    raw = _parse(text, path)
    found = _Findings(path)
    accounts = found.validated(Accounts, raw)
    for location, fault in (*account_faults(raw), *app_password_faults(raw)):
        found.add(location, fault)
    if found.problems or accounts is None:
        raise ConfigurationError(found.problems)
    return accounts


def text_of(path: Path, *, remedy: str = _ELSEWHERE) -> str:
    """What a file of the configuration holds. Raises ConfigurationError."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigurationError([f"{path}: line {line}: is not UTF-8 text; save the file as UTF-8"]) from None
    except FileNotFoundError:
        raise ConfigurationError([f"{path}: does not exist{remedy}"]) from None
    except OSError as error:
        raise ConfigurationError([f"{path}: {_why(error)}"]) from None
    except ValueError:
        raise ConfigurationError([f"{str(path)!r}: cannot be the path of a file"]) from None


def _why(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigurationError([f"{path}: {error}"]) from None


def _sound(model: type[S], raw: object, context: Mapping[str, Any] | None = None) -> S | None:
    try:
        return model.model_validate(raw, context=dict(context or {}))
    except ValidationError:
        return None


def _sound_ones(model: type[S], given: object, context: Mapping[str, Any] | None = None) -> dict[int, S]:
    """Of a list of sections, each with its place."""
    sound = ((i, _sound(model, one, context)) for i, one in enumerate(given if isinstance(given, list) else []))
    return {i: one for i, one in sound if one is not None}


def _tls_faults(listeners: Mapping[int, Listener], have_tls: bool, without_tls: object) -> Iterator[Fault]:
    for i, listener in listeners.items():
        if listener.tls != "none" and not have_tls:
            remedy = "add that section with certificate and private_key"
            yield ("listener", i, "tls"), f'is "{listener.tls}", but there is no [tls] section; {remedy}'
        if listener.tls == "none" and listener.protocol not in ("smtp", "lmtp") and without_tls == "never":
            remedy = 'write tls = "starttls", or auth.without_tls = "loopback"'
            yield ("listener", i, "tls"), f'is "none", and without TLS nobody may log in there; {remedy}'


def _endpoint_faults(listeners: Mapping[int, Listener], check: EndpointCheck | None) -> Iterator[Fault]:
    for i, listener in listeners.items():
        if check is not None and (fault := check(listener.endpoint)) is not None:
            yield ("listener", i, "endpoint"), fault
    for (i, one), (j, other) in combinations(listeners.items(), 2):
        if parse_endpoint(one.endpoint).overlaps(parse_endpoint(other.endpoint)):
            remedy = "give each its own port or interface; tcp6 takes IPv4 in as well"
            yield ("listener", j, "endpoint"), f"collides with {key_path(('listener', i, 'endpoint'))}; {remedy}"


def _proxy_faults(listeners: Mapping[int, Listener], configuration: Configuration | None) -> Iterator[Fault]:
    for i, listener in listeners.items():
        if listener.proxy and configuration and not configuration.proxies.networks:
            remedy = "write the addresses of the load balancers there"
            yield ("listener", i, "proxy"), f"is true, but proxies.networks is empty, so nobody gets in; {remedy}"


def _metrics_faults(
    metrics: Metrics | None, listeners: Mapping[int, Listener], check: EndpointCheck | None
) -> Iterator[Fault]:
    if metrics is None:
        return
    if check is not None and (fault := check(metrics.endpoint)) is not None:
        yield ("metrics", "endpoint"), fault
    for i, listener in listeners.items():
        if parse_endpoint(listener.endpoint).overlaps(parse_endpoint(metrics.endpoint)):
            other = key_path(("listener", i, "endpoint"))
            yield ("metrics", "endpoint"), f"collides with {other}; give it its own port or interface"


def _certificate_faults(tls: TLS, valid_at: datetime | None) -> Iterator[Fault]:
    places: list[tuple[Location, Path, Path]] = [(("tls",), tls.certificate, tls.private_key)]
    places += [(("tls", "sni", i), name.certificate, name.private_key) for i, name in enumerate(tls.sni)]
    for location, certificate, private_key in places:
        unreadable = [
            ((*location, key), fault)
            for key, file in (("certificate", certificate), ("private_key", private_key))
            if (fault := _file_fault(file))
        ]
        yield from unreadable
        if unreadable:
            continue
        try:
            pair = read_pair(certificate, private_key)
        except CertificateFault as error:
            yield (*location, error.key), str(error)
            continue
        if valid_at and (fault := validity_fault(certificate, pair.chain[0], valid_at)):
            yield (*location, "certificate"), fault
    for (i, one), (j, other) in combinations(enumerate(tls.sni), 2):
        for name in sorted({*one.names} & {*other.names}):
            text = f'"{name}" stands in {key_path(("tls", "sni", i))} too; each name has one certificate'
            yield ("tls", "sni", j, "names"), text
    if tls.client_ca is not None:
        if fault := _file_fault(tls.client_ca):
            yield ("tls", "client_ca"), fault
            return
        try:
            read_authorities(tls.client_ca)
        except CertificateFault as error:
            yield ("tls", error.key), str(error)


def _directory_faults(directory: Mapping[int, DirectorySource]) -> Iterator[Fault]:
    for i, source in directory.items():
        if source.kind == "sql":
            if (source.file is None) == (source.database is None):
                what = "no database" if source.file is None else "two databases"
                yield ("directory", i), f"names {what}; write file for SQLite, or database for PostgreSQL"
            if source.password_file is not None and source.database is None:
                yield ("directory", i, "password_file"), "says nothing without database; leave it out"
            if source.domains is None and source.domain_query is None:
                yield ("directory", i), "tells no domain; write domains, or domain_query"
        if source.kind == "ldap":
            yield from _ldap_faults(("directory", i), source)
        if source.password_file and (fault := _file_fault(source.password_file)):
            yield ("directory", i, "password_file"), fault
        if source.file and (fault := _file_fault(source.file)):
            yield ("directory", i, "file"), fault


def _ldap_faults(location: Location, source: DirectorySource) -> Iterator[Fault]:
    url = urlsplit(source.server or "")
    if source.domains is None and source.domain_filter is None:
        yield location, "tells no domain; write domains, or domain_filter"
    if (source.bind_dn is None) != (source.password_file is None):
        missing, other = ("bind_dn", "password_file") if source.bind_dn is None else ("password_file", "bind_dn")
        yield (*location, other), f"is given without {missing}; give both or neither"
    if source.starttls is not None and url.scheme == "ldaps":
        yield (*location, "starttls"), "says nothing with ldaps:, which is encrypted from its beginning; leave it out"
    if source.starttls is False and not is_loopback(url.hostname or ""):
        yield (*location, "starttls"), "is false, and passwords would cross the network in clear; leave it out"
    if source.ca_file and (fault := _file_fault(source.ca_file)):
        yield (*location, "ca_file"), fault


def _relay_faults(relay: Relay) -> Iterator[Fault]:
    yield from _time_faults(("relay",), relay, relay)
    for name, domain in relay.domain.items():
        yield from _time_faults(("relay", "domain", name), domain, relay)
    if relay.smarthost_password_file and (fault := _file_fault(relay.smarthost_password_file)):
        yield ("relay", "smarthost_password_file"), fault


def _time_faults(location: Location, section: Relay | RelayDomain, relay: Relay) -> Iterator[Fault]:
    """What the section leaves out, `relay` has. Only what was written is a fault: not a usual value beside it."""
    given = section.model_fields_set
    first, longest = section.retry_first or relay.retry_first, section.retry_max or relay.retry_max
    if longest < first and (section is relay or given & {"retry_first", "retry_max"}):
        other = key_path((*(location if section.retry_first else ("relay",)), "retry_first"))
        yield (*location, "retry_max"), f"is shorter than {other}; make it at least {format_duration(first)}"
    lifetime = section.lifetime or relay.lifetime
    if "delay_warning" in given and section.delay_warning and section.delay_warning > lifetime:
        remedy = f"so nobody would be warned; make it less than {format_duration(lifetime)}"
        other = key_path((*(location if section.lifetime else ("relay",)), "lifetime"))
        yield (*location, "delay_warning"), f"is longer than {other}, {remedy}"


def _route_faults(routes: Mapping[int, Route]) -> Iterator[Fault]:
    catching = next((i for i, route in routes.items() if route.fits_all), None)
    for i, route in routes.items():
        if catching is not None and i > catching:
            yield ("route", i), f"is never reached, since {key_path(('route', catching))} fits all mail; write it above"
        if route.password_file and (fault := _file_fault(route.password_file)):
            yield ("route", i, "password_file"), fault


def _idle_smarthost_faults(routes: Mapping[int, Route], relay: Relay) -> Iterator[Fault]:
    catching = next((i for i, route in routes.items() if route.fits_all), None)
    if relay.smarthost is not None and catching is not None:
        yield ("relay", "smarthost"), f"is never used, since {key_path(('route', catching))} fits all mail; keep one"


def _oauth_faults(oauth: OAuth) -> Iterator[Fault]:
    if fault := _file_fault(oauth.keys):
        yield ("auth", "oauth", "keys"), fault


def _data_faults(data: Path) -> Iterator[Fault]:
    remedy = "name one, or a place where one can be made"
    try:
        existing = next(place for place in (data, *data.absolute().parents) if place.exists())
        if not existing.is_dir():
            yield ("data",), f"{existing} is not a directory; {remedy}"
        elif not os.access(existing, os.W_OK | os.X_OK):
            who = f"by the one who runs this (user {os.getuid()})"
            if existing == data:
                remedy = "give it to the server's user, or run this as that user"
                yield ("data",), f"{data} cannot be written {who}; {remedy}"
            else:
                remedy = "make it, and give it to the server's user"
                yield ("data",), f"{data} does not exist, and {existing} cannot be written {who}; {remedy}"
    except OSError as error:
        yield ("data",), f"the directory {_why(error)}; {remedy}"


def _file_fault(file: Path) -> str | None:
    try:
        if not file.is_file():
            return f"{file} {'is not a file' if file.exists() else 'does not exist'}; name a readable file"
        os.close(os.open(file, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return f"{file} {_why(error)}; name a readable file"
    return None


def _check_accounts(path: Path, raw: Mapping[str, Any], found: _Findings) -> None:
    try:
        accounts = load_accounts(path)
    except ConfigurationError as error:
        found.problems += error.problems
        return
    demo = raw.get("demo")
    outbox = demo.get("outbox") if isinstance(demo, dict) else None
    if isinstance(outbox, str) and outbox not in accounts.account:
        found.add(("demo", "outbox"), f"{outbox!r} is not an account of {path}; add it there")
