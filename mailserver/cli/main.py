"""`mailserver` itself: its options, and the commands below it."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from mailserver import __version__
from mailserver.cli.accounts import account, alias, domain
from mailserver.cli.address import address
from mailserver.cli.ban import ban
from mailserver.cli.common import Context, Group
from mailserver.cli.config import config
from mailserver.cli.index import index
from mailserver.cli.queue import queue
from mailserver.cli.tls import tls
from mailserver.cli.why import why

DEFAULT_CONFIG = "/etc/mailserver/mailserver.toml"


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "path",
    envvar="MAILSERVER_CONFIG",
    default=DEFAULT_CONFIG,
    show_default=True,
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="The server's configuration.",
)
@click.version_option(__version__, prog_name="mailserver")
@click.pass_context
def main(ctx: click.Context, path: Path) -> None:
    """Looks after a mail server: its accounts, its queue, its indexes and its configuration."""
    logging.getLogger("mailserver").addHandler(logging.NullHandler())  # a command says itself what there is to say
    ctx.obj = Context(path)


for command in (account, address, alias, ban, config, domain, index, queue, tls, why):
    main.add_command(command)
