"""The options by which all commands of the queue say which entries they are for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from mailserver.config.patterns import parse_domain_pattern
from mailserver.config.units import parse_duration
from mailserver.queue import Filter, Standing
from mailserver.queue.filter import parse_address_pattern, parse_sender_pattern

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Selection:
    """`every`: all entries were asked for in so many words."""

    filter: Filter
    every: bool

    def for_a_change(self) -> Filter:
        """Nobody changes all entries by saying nothing."""
        if self.filter.for_all != self.every:
            raise click.UsageError(
                "name entries by their IDs or by options as --sender or --domain, or all of them by --all alone"
            )
        return self.filter


def _with(parse: Callable[[str], T]) -> Callable[[click.Context, click.Parameter, str | None], T | None]:
    """A callback; what cannot be read is refused with its reason."""

    def callback(ctx: click.Context, param: click.Parameter, value: str | None) -> T | None:
        try:
            return None if value is None else parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from None

    return callback


def _said(text: str) -> str:
    if not text:
        raise ValueError("is empty; write a part of the reply")
    return text


_STATES = click.Choice([standing.value for standing in Standing])

_OPTIONS = (
    click.argument("ids", nargs=-1, metavar="[ID]..."),
    click.option("--id", "more_ids", multiple=True, metavar="ID", help="As an ID without option."),
    click.option(
        "--sender",
        callback=_with(parse_sender_pattern),
        metavar="PATTERN",
        help='An address, "@example.org" or "<>"; * stands for anything.',
    ),
    click.option(
        "--recipient",
        callback=_with(parse_address_pattern),
        metavar="PATTERN",
        help='An address or "@example.org"; * stands for anything.',
    ),
    click.option(
        "--domain",
        callback=_with(parse_domain_pattern),
        metavar="DOMAIN",
        help='A domain of recipients; ".example.org": also those below it.',
    ),
    click.option(
        "--older-than", callback=_with(parse_duration), metavar="TIME", help='In the queue for longer, as "2h".'
    ),
    click.option(
        "--newer-than", callback=_with(parse_duration), metavar="TIME", help='In the queue for less, as "10min".'
    ),
    click.option(
        "--state", "standing", type=click.Choice([each.value for each in Standing]), help="What is done with it now."
    ),
    click.option("--error", callback=_with(_said), metavar="TEXT", help="A part of the last answer to a recipient."),
    click.option("--all", "every", is_flag=True, help="All entries."),
)


def selecting(command: F) -> F:
    """Gives the command its `selection`. Of several options all must hold."""

    @functools.wraps(command)
    def selected(
        *args: Any, ids: tuple[str, ...], more_ids: tuple[str, ...], standing: str | None, every: bool, **kwargs: Any
    ) -> Any:
        criteria = {name: kwargs.pop(name) for name in _CRITERIA}
        filter = Filter(
            ids=tuple(dict.fromkeys(ids + more_ids)),
            standing=None if standing is None else Standing(standing),
            **criteria,
        )
        return command(*args, selection=Selection(filter, every), **kwargs)

    for option in reversed(_OPTIONS):
        selected = option(selected)
    return selected  # type: ignore[return-value]


_CRITERIA = ("sender", "recipient", "domain", "older_than", "newer_than", "error")
