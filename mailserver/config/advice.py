"""What a sound configuration lacks for serving well: warnings, not faults."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from mailserver.config.certificates import expiry_warning, is_named, read_chain
from mailserver.config.model import Accounts, Configuration
from mailserver.config.network import parse_endpoint


def advice(configuration: Configuration, accounts: Accounts, now: datetime) -> Iterator[str]:
    """One line for each warning. Both were loaded, so the files that they name can be read."""
    if not accounts.domain and not configuration.directory:
        yield f"{configuration.accounts}: no domain yet, so no mail is taken; `mailserver domain add NAME` adds one"
    if not accounts.account and not configuration.directory:
        yield f"{configuration.accounts}: no account yet; `mailserver account add ADDRESS` adds one"
    elif not _has_postmaster(configuration, accounts):
        yield (
            f"{configuration.accounts}: no account in use, so mail for the server's postmaster is refused, and for "
            "those of domains whose source names none; `mailserver account add ADDRESS` adds one"
        )
    for name, account in accounts.account.items():
        opened = account.app_password or account.certificates or configuration.auth.oauth
        if account.app_passwords_only and not opened and account.disabled is None:
            yield (
                f"{configuration.accounts}: nobody can log in to {name}, which takes app passwords only and has none; "
                f"`mailserver account app-password add {name} NAME` makes one"
            )
    if configuration.metrics is not None and not parse_endpoint(configuration.metrics.endpoint).is_private:
        yield (
            "metrics.endpoint: whoever reaches this address sees how much mail there is; "
            'interface=127.0.0.1 keeps it to this machine, as "tcp:9155:interface=127.0.0.1"'
        )
    if tls := configuration.tls:
        shown = [(configuration.hostname, tls.certificate)]
        shown += [(name, entry.certificate) for entry in tls.sni for name in entry.names]
        leaves = {certificate: read_chain(certificate)[0] for _, certificate in shown}
        for name, certificate in shown:
            if not is_named(leaves[certificate], name):
                yield f'{certificate}: the certificate does not name "{name}", so clients will not trust it'
        for certificate, leaf in leaves.items():
            if warning := expiry_warning(certificate, leaf, now):
                yield warning


def _has_postmaster(configuration: Configuration, accounts: Accounts) -> bool:
    """Somebody gets mail for the postmaster where no domain says who: databases and LDAP servers tell no such user."""
    return (
        any(account.disabled is None for account in accounts.account.values())
        or any(name.lower().startswith("postmaster@") for name in accounts.alias)
        or any(source.kind == "passwd" for source in configuration.directory)
    )
