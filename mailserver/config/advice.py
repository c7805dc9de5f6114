"""What a sound configuration lacks for serving well: warnings, not faults."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from mailserver.config.certificates import expiry_warning, is_named, read_chain
from mailserver.config.model import Accounts, Configuration


def advice(configuration: Configuration, accounts: Accounts, now: datetime) -> Iterator[str]:
    """One line for each warning. Both were loaded, so the files that they name can be read."""
    if not accounts.domain and not configuration.directory:
        yield f"{configuration.accounts}: no domain yet, so no mail is taken; `mailserver domain add NAME` adds one"
    if not accounts.account and not configuration.directory:
        yield f"{configuration.accounts}: no account yet; `mailserver account add ADDRESS` adds one"
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
