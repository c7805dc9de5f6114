"""`mailserver tls`: which certificates there are, whom they are for, and whether the server shows them."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import Certificate, load_der_x509_certificate

from mailserver.cli.common import Context, Failure, as_json, counted, pass_context, print_json, printable
from mailserver.cli.probe import NotHere, ProbeError, shown_certificate
from mailserver.config.certificates import (
    CertificateFault,
    expiry_warning,
    is_named,
    names_of,
    read_chain,
    read_pair,
    validity_fault,
)
from mailserver.config.model import TLS, Configuration, Listener

MOST_PROBES = 8  # of one listener for one name: connections are spread over the processes


@dataclass(frozen=True, slots=True)
class Use:
    """A pair of files, and the names for which it is shown; none of them: for all that no other one is for."""

    certificate: Path
    private_key: Path
    names: Sequence[str]


@dataclass(slots=True)
class Findings:
    """What is told of one. `leaf` is None for a file without a certificate."""

    use: Use
    leaf: Certificate | None = None
    problems: list[str] = field(default_factory=list)
    live: list[tuple[str, str]] = field(default_factory=list)
    """Each listener, and what it shows."""


@click.group()
def tls() -> None:
    """Look at the certificates."""


@tls.command()
@click.option("--live", is_flag=True, help="Ask the server that runs here what it shows, on each of its listeners.")
@as_json
@pass_context
def show(context: Context, live: bool, as_json: bool) -> None:
    """Show each certificate: its names, until when it is valid, what uses it, and what is wrong.

    With --live it is seen whether the server has taken over a renewal. Exits with status 1 when something is wrong.
    """
    configuration = context.configuration
    if configuration.tls is None:
        raise Failure(f"{context.path}: there is no [tls] section, so nothing is encrypted")
    listeners = [listener for listener in configuration.listener if listener.tls != "none"]
    all_findings = [_look(use, configuration, datetime.now(UTC)) for use in _uses(configuration.tls)]
    if live:
        for findings in all_findings:
            _ask(findings, listeners, configuration)
    if as_json:
        print_json([_data(findings, listeners) for findings in all_findings])
    else:
        for findings in all_findings:
            _print(findings, listeners)
    wrong = sum(bool(findings.problems) for findings in all_findings)
    if wrong:
        raise Failure(f"{counted(wrong, 'certificate')} with problems; see above")


def _uses(settings: TLS) -> Iterator[Use]:
    yield Use(settings.certificate, settings.private_key, ())
    for entry in settings.sni:
        yield Use(entry.certificate, entry.private_key, entry.names)


def _look(use: Use, configuration: Configuration, now: datetime) -> Findings:
    findings = Findings(use)
    try:
        findings.leaf = leaf = read_chain(use.certificate)[0]
    except (OSError, CertificateFault) as error:
        findings.problems.append(_why(error))
        return findings
    try:
        read_pair(use.certificate, use.private_key)
    except (OSError, CertificateFault) as error:
        findings.problems.append(_why(error))
    if problem := validity_fault(use.certificate, leaf, now) or expiry_warning(use.certificate, leaf, now):
        findings.problems.append(problem)
    for name in use.names or [configuration.hostname]:
        if not is_named(leaf, name):
            findings.problems.append(f'the certificate does not name "{name}", so clients will not trust it')
    return findings


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename} cannot be read by who runs this: {error.strerror}"
    return str(error)


# What a running server shows


def _ask(findings: Findings, listeners: Sequence[Listener], configuration: Configuration) -> None:
    if findings.leaf is None:
        return
    name = findings.use.names[0].replace("*", "any") if findings.use.names else None
    many = configuration.workers != 1
    for listener in listeners:
        told = {_told(findings.leaf, listener, name) for _ in range(MOST_PROBES if many else 1)}
        findings.live += [(_called(listener), text) for text, _ in sorted(told)]
        findings.problems += [f"{_called(listener)}: {text}" for text, good in sorted(told) if not good]


def _told(expected: Certificate, listener: Listener, name: str | None) -> tuple[str, bool]:
    """What the listener shows, and whether that is as it should be."""
    try:
        shown = load_der_x509_certificate(shown_certificate(listener, name))
    except NotHere as error:
        return f"cannot be asked: {error}", True
    except ProbeError as error:
        return f"cannot be asked: {printable(str(error))}", False
    except ssl.SSLError as error:
        return f"no TLS: {error.reason or error}", False
    except (OSError, ValueError) as error:
        return f"cannot be asked: {getattr(error, 'strerror', None) or error}", False
    if shown == expected:
        return "shows it", True
    other = f"shows another one, valid until {_date(shown)}, fingerprint {_fingerprint(shown)}"
    return f"{other}; the server's log says why, and SIGHUP makes it read the files again", False


# Text and JSON


def _called(listener: Listener) -> str:
    return f"{listener.protocol} {listener.endpoint} ({listener.tls})"


def _date(leaf: Certificate) -> str:
    return f"{leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"


def _days_left(leaf: Certificate) -> int:
    return (leaf.not_valid_after_utc - datetime.now(UTC)).days


def _fingerprint(leaf: Certificate) -> str:
    return leaf.fingerprint(SHA256()).hex()


def _key_type(leaf: Certificate) -> str:
    key = leaf.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA {key.curve.name}"
    return type(key).__name__.removesuffix("PublicKey")


def _print(findings: Findings, listeners: Sequence[Listener]) -> None:
    click.echo(findings.use.certificate)
    lines: list[tuple[str, str]] = []
    if (leaf := findings.leaf) is not None:
        lines += [
            ("names", ", ".join(names_of(leaf)) or "none"),
            ("issuer", leaf.issuer.rfc4514_string()),
            ("valid until", f"{_date(leaf)}, {counted(_days_left(leaf), 'day')} left"),
            ("key", _key_type(leaf)),
            ("fingerprint", _fingerprint(leaf)),
        ]
    lines.append(("shown for", ", ".join(findings.use.names) or "all names that no other certificate is for"))
    lines += [("listener", _called(listener)) for listener in listeners if not findings.live]
    lines += [("live", f"{listener}: {text}") for listener, text in findings.live]
    lines += [("problem", problem) for problem in findings.problems]
    for what, text in lines:
        click.echo(f"  {what:<12} {printable(text)}")


def _data(findings: Findings, listeners: Sequence[Listener]) -> dict[str, Any]:
    leaf = findings.leaf
    data: dict[str, Any] = {
        "certificate": str(findings.use.certificate),
        "private_key": str(findings.use.private_key),
        "shown_for": list(findings.use.names),
        "default": not findings.use.names,
        "listeners": [_called(listener) for listener in listeners],
        "problems": findings.problems,
        "live": [{"listener": listener, "told": text} for listener, text in findings.live],
    }
    if leaf is not None:
        data |= {
            "names": list(names_of(leaf)),
            "issuer": leaf.issuer.rfc4514_string(),
            "valid_until": leaf.not_valid_after_utc.isoformat(),
            "days_left": _days_left(leaf),
            "key": _key_type(leaf),
            "fingerprint": _fingerprint(leaf),
        }
    return data
