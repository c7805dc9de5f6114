"""A directory with all that a server needs to be tried out on this machine's loopback.

Promises   A directory that was prepared before is left as it is, and nothing secret is shown again; what is missing in
           it is made anew. Everything in it can be read by its owner only.
On failure OSError.
"""

from __future__ import annotations

import ipaddress
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mailserver.accounts import generate_password, hash_password
from mailserver.config.files import replace_text

DOMAIN = "example.test"
HOSTNAME = f"mail.{DOMAIN}"
USERS = (f"alice@{DOMAIN}", f"bob@{DOMAIN}")
OUTBOX = f"outbox@{DOMAIN}"

PORTS: Mapping[str, int] = {
    "smtp": 2525,
    "submission": 1587,
    "submissions": 1465,
    "pop3": 1110,
    "pop3s": 1995,
    "imap": 1143,
    "imaps": 1993,
}
"""Where the demo listens, by the service's registered name; those that end in s begin with TLS."""

_LIFETIME = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class DemoNotes:
    """`configuration` is the file to start with; `text` is for the user. `passwords` only of accounts just made."""

    configuration: Path
    text: str
    passwords: Mapping[str, str]


def prepare(directory: Path, ports: Mapping[str, int] = PORTS) -> DemoNotes:
    """Makes what is missing in the directory. `ports` has the keys of `PORTS`. Raises OSError."""
    directory = directory.absolute()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    (directory / "tls").mkdir(mode=0o700, exist_ok=True)
    certificate, key = directory / "tls" / "certificate.pem", directory / "tls" / "key.pem"
    if not (certificate.exists() and key.exists()):
        key_text, certificate_text = _self_signed()
        replace_text(key, key_text)
        replace_text(certificate, certificate_text)
    configuration = directory / "mailserver.toml"
    if not configuration.exists():
        replace_text(configuration, _configuration(ports))
    accounts = directory / "accounts.toml"
    if accounts.exists():
        return DemoNotes(configuration, _old_notes(directory, configuration, certificate, ports), {})
    passwords = {address: generate_password() for address in (*USERS, OUTBOX)}
    replace_text(accounts, _accounts(passwords))
    return DemoNotes(configuration, _new_notes(directory, configuration, certificate, passwords, ports), passwords)


def _configuration(ports: Mapping[str, int]) -> str:
    text = f"""\
# Made by --demo: a server for {DOMAIN} on this machine's loopback. Nothing leaves this machine.
# Every key and its meaning: docs/configuration.md, or `mailserver config reference`.
hostname = "{HOSTNAME}"
data     = "."
accounts = "accounts.toml"

[tls]
certificate = "tls/certificate.pem"
private_key = "tls/key.pem"

[auth]
without_tls = "loopback"

[demo]
outbox = "{OUTBOX}"   # keeps what would have been sent to the outside world
"""
    for service in PORTS:
        implicit = service in ("submissions", "pop3s", "imaps")
        text += f"""
[[listener]]
protocol = "{service.removesuffix("s") if implicit else service}"
endpoint = "tcp:{ports[service]}:interface=127.0.0.1"
tls      = "{"implicit" if implicit else "starttls"}"
"""
    return text


def _accounts(passwords: Mapping[str, str]) -> str:
    text = f'# The accounts of the demo. Changes are taken over within a second or two.\n\n[domain."{DOMAIN}"]\n'
    for address, password in passwords.items():
        text += f'\n[account."{address}"]\npassword = "{hash_password(password)}"\n'
    return text


def _self_signed() -> tuple[str, str]:
    """A private key and a certificate for it, both PEM, good for ten years."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOSTNAME)])
    names = [x509.DNSName(n) for n in ("localhost", DOMAIN, HOSTNAME)]
    addresses = [x509.IPAddress(ipaddress.ip_address(a)) for a in ("127.0.0.1", "::1")]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectAlternativeName([*names, *addresses]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return key_text, certificate.public_bytes(Encoding.PEM).decode()


def _shown(path: Path) -> str:
    """Fit for pasting into a shell; relative when that is shorter."""
    return shlex.quote(min(str(path), os.path.relpath(path), key=len))


def _new_notes(
    directory: Path, configuration: Path, certificate: Path, passwords: Mapping[str, str], ports: Mapping[str, int]
) -> str:
    width = max(map(len, passwords))
    listed = "\n".join(f"  {address:{width}}  {password}" for address, password in passwords.items())
    return f"""\
A demo server for {DOMAIN}, all of it in {directory}. Its passwords are shown this once:

{listed}

{_commands(certificate, passwords, ports)} A new password:

{_set_password(configuration)}
"""


def _old_notes(directory: Path, configuration: Path, certificate: Path, ports: Mapping[str, int]) -> str:
    return f"""\
The demo server for {DOMAIN} in {directory}, with the accounts and the mail that it had.
Passwords were shown when it was made; put yours where PASSWORD stands below. A new one:

{_set_password(configuration)}

{_commands(certificate, dict.fromkeys(USERS, "PASSWORD"), ports)}
"""


def _commands(certificate: Path, passwords: Mapping[str, str], ports: Mapping[str, int]) -> str:
    alice, bob = USERS
    curl = f"curl -sS --cacert {_shown(certificate)}"
    at = {service: f"127.0.0.1:{port}" for service, port in ports.items()}
    return f"""\
Send to Alice as if from another server:

swaks --server {at["smtp"]} --from you@elsewhere.test --to {alice} --header 'Subject: Hello Alice'

Send as Alice, with her password over TLS:

{curl} --ssl-reqd -u {alice}:{passwords[alice]} --crlf --upload-file - \\
  smtp://{at["submission"]} --mail-from {alice} --mail-rcpt {bob} <<'END'
From: Alice <{alice}>
To: Bob <{bob}>
Subject: Hello Bob

How are you?
END

Read Alice's first message by IMAP, and Bob's by POP3:

{curl} -u {alice}:{passwords[alice]} 'imaps://{at["imaps"]}/INBOX;MAILINDEX=1'
{curl} -u {bob}:{passwords[bob]} pop3s://{at["pop3s"]}/1

A mail program may use 127.0.0.1 as well: IMAP on {ports["imap"]} (STARTTLS) or {ports["imaps"]} (TLS),
POP3 on {ports["pop3"]} or {ports["pop3s"]}, submission on {ports["submission"]} or {ports["submissions"]}.
Mail for anywhere else stays here, in the mailbox of {OUTBOX}."""


def _set_password(configuration: Path) -> str:
    command = Path(sys.executable).with_name("mailserver")
    name = _shown(command) if command.exists() else command.name
    return f"{name} --config {_shown(configuration)} account passwd {USERS[0]} --generate"
