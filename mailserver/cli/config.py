"""`mailserver config`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from mailserver.accounts import SourceDown, open_source
from mailserver.cli.common import Context, Failure, pass_context
from mailserver.config.advice import advice
from mailserver.config.directory import DirectorySource
from mailserver.config.loader import load, load_accounts
from mailserver.config.reference import page
from mailserver.config.words import key_path


@click.group()
def config() -> None:
    """Check the configuration, or look up its keys."""


@config.command()
@pass_context
def check(context: Context) -> None:
    """Check both files and all that they name; tell every fault at once. A warning is no fault."""
    now = datetime.now(UTC)
    configuration = load(context.path, valid_at=now)
    problems, warnings = _tried(context.path, configuration.directory)
    if problems:
        raise Failure(*problems)
    for warning in (*advice(configuration, load_accounts(configuration.accounts), now), *warnings):
        click.echo(f"mailserver: warning: {warning}", err=True)
    click.echo(f"{context.path}: the configuration is good")


def _tried(path: Path, directory: Sequence[DirectorySource]) -> tuple[list[str], list[str]]:
    """What is wrong with sources as a whole, and with entries of them."""
    problems, warnings = [], []
    for i, section in enumerate(directory):
        try:
            warnings += open_source(section).try_out()
        except SourceDown as error:
            problems.append(f"{path}: {key_path(('directory', i))}: {error}")
    return problems, warnings


@config.command()
def reference() -> None:
    """Print the reference of all keys, as Markdown."""
    click.echo(page(), nl=False)
