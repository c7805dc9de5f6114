"""`mailserver config`."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from mailserver.cli.common import Context, pass_context
from mailserver.config.advice import advice
from mailserver.config.loader import load, load_accounts
from mailserver.config.reference import page


@click.group()
def config() -> None:
    """Check the configuration, or look up its keys."""


@config.command()
@pass_context
def check(context: Context) -> None:
    """Check both files and all that they name; tell every fault at once. A warning is no fault."""
    now = datetime.now(UTC)
    configuration = load(context.path, valid_at=now)
    for warning in advice(configuration, load_accounts(configuration.accounts), now):
        click.echo(f"mailserver: warning: {warning}", err=True)
    click.echo(f"{context.path}: the configuration is good")


@config.command()
def reference() -> None:
    """Print the reference of all keys, as Markdown."""
    click.echo(page(), nl=False)
