"""What all commands share: the configuration, errors, values and tables."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from textwrap import indent
from typing import IO, Any

import click

from mailserver.accounts import AccountsFile, EditError, PasswordError
from mailserver.config.accounts import parse_account_address
from mailserver.config.loader import ConfigurationError, read
from mailserver.config.model import Configuration
from mailserver.mail import Address, AddressError, parse_mailbox
from mailserver.policy.ledger import LedgerError
from mailserver.queue import QueueError
from mailserver.store.model import StoreError

PART_OF_TABLE = 2000
"""Lines that are held in memory, to find out how wide the columns are."""


class Failure(click.ClickException):
    """Ends the command with exit status 1; one line for each problem."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))

    def show(self, file: IO[Any] | None = None) -> None:
        for line in self.message.splitlines():
            click.echo(f"mailserver: {line}", file=file, err=True)


class Group(click.Group):
    """Turns the errors of all rooms into a `Failure`."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            raise Failure(*error.problems) from None
        except (EditError, LedgerError, PasswordError, QueueError, StoreError) as error:
            raise Failure(str(error)) from None
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # click ends quietly when nobody reads on
            remedy = (
                "; run this as root, or as the server's user" if os.geteuid() and error.errno == errno.EACCES else ""
            )
            raise Failure((f"{error.filename}: {error.strerror}" if error.filename else str(error)) + remedy) from None


@dataclass
class Context:
    """What `--config` names."""

    path: Path

    @cached_property
    def configuration(self) -> Configuration:
        """Raises ConfigurationError."""
        return read(self.path)

    @property
    def accounts(self) -> AccountsFile:
        return AccountsFile(self.configuration.accounts)


pass_context = click.make_pass_decorator(Context)


def parse_address(ctx: click.Context, param: click.Parameter, value: str) -> Address:
    """Callback of an argument: a mail address that an account or alias may have."""
    try:
        return parse_account_address(value)
    except ValueError as error:
        raise Failure(f"{value!r} {error}") from None


def parse_members(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[Address, ...]:
    """Callback of an argument: mail addresses anywhere."""
    try:
        return tuple(map(parse_mailbox, value))
    except AddressError as error:
        raise Failure(f"{' '.join(value)}: {error}; write each as name@example.org") from None


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_json_list(values: Iterable[object]) -> None:
    """As `print_json` of a list, one value after the other: there may be very many."""
    separator = "["
    for value in values:
        click.echo(f"{separator}\n{indent(json.dumps(value, indent=2, ensure_ascii=False), '  ')}", nl=False)
        separator = ","
    click.echo("[]" if separator == "[" else "\n]")


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as they must be; nothing but the header when there are no rows. A long table comes in parts."""
    source = iter(rows)
    lines = [header, *islice(source, PART_OF_TABLE)]
    widths = [0] * len(header)
    while lines:
        widths = [max(width, *(len(line[i]) for line in lines)) for i, width in enumerate(widths)]
        for line in lines:
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        lines = [*islice(source, PART_OF_TABLE)]


def printable(text: str) -> str:
    """What others have written, without anything that a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text)


def counted(number: int, noun: str) -> str:
    """`1 entry`, `3 entries`, `2 days`, `4 mailboxes`."""
    if number == 1:
        return f"1 {noun}"
    plural = f"{noun.removesuffix('y')}ies" if noun.endswith("ry") else f"{noun}{'es' if noun.endswith('x') else 's'}"
    return f"{number} {plural}"
