"""A mailbox in another process, asked over a pipe as if it were here."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mailserver.mail import Address
from mailserver.store import Mailbox, Store, syncing, watch
from tests.support.sink import PATIENCE


class OtherProcess:
    """Lives until `close`. One mailbox is open in it at a time."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def open(self, root: Path, account: Address, folder: str) -> OtherMailbox:
        self.ask("open", root, account, folder)
        return OtherMailbox(self)

    def ask(self, name: str, *arguments: Any) -> Any:
        """Raises what was raised there."""
        self._pipe.send((name, arguments))
        raised, result = self._pipe.recv()
        if raised:
            raise result
        return result

    def close(self) -> None:
        self._pipe.close()
        self._process.join(PATIENCE)


class OtherMailbox:
    """Has the methods and properties of a `Mailbox` whose arguments and results can be sent."""

    def __init__(self, process: OtherProcess) -> None:
        self._process = process

    def __getattr__(self, name: str) -> Any:
        if isinstance(getattr(Mailbox, name), property):
            return self._process.ask(name)
        return lambda *arguments: self._process.ask(name, *arguments)


def be_careless() -> None:
    """Directory times are never trusted, so that nothing waits for their grain; nothing is synced."""
    watch.GRAIN, watch.RECHECK = 10**18, 0.0
    os.fsync = syncing.syncfs = lambda fd: None


def _serve(pipe: Connection) -> None:
    be_careless()
    mailbox: Any = None
    while True:
        try:
            name, arguments = pipe.recv()
        except EOFError:
            return
        try:
            if name == "open":
                root, account, folder = arguments
                mailbox, result = Store(root, hostname="other.example.test").account(account).open(folder), None
            else:
                found = getattr(mailbox, name)
                result = found(*arguments) if callable(found) else found
            pipe.send((False, result))
        except Exception as error:  # noqa: BLE001 - raised again where it was asked
            pipe.send((True, error))
