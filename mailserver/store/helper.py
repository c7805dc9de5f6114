"""The process of a helper (see `helpers`): reads message files, makes what it is asked for, sends it back.

Promises   Ends when the pipe does. Only regular files are opened, never through a symbolic link.
On failure A file that cannot be read gives None. Anything else ends the process, and with it the pipe.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from mailserver.garbage import look_rarely
from mailserver.store import content
from mailserver.store.digest import DIGESTS

NICENESS = 5  # mail that arrives goes first


def made(name: str, path: str) -> Any:
    try:
        fd = content.open_message(path)
    except OSError:
        return None
    try:
        message = content.wire(fd)
    except OSError:
        return None
    finally:
        os.close(fd)
    return DIGESTS[name].make(message)


def main() -> None:
    with suppress(OSError):  # where that is not allowed it helps all the same
        os.nice(NICENESS)
    look_rarely()
    with Connection(int(sys.argv[1])) as pipe, suppress(EOFError, ConnectionError):
        while True:
            name, paths = pipe.recv()
            pipe.send([made(name, path) for path in paths])


if __name__ == "__main__":
    main()
