"""The `mailserver` command: accounts, domains, aliases, the queue, its history and the configuration, from a shell.

Promises   What goes wrong is told in one line for each problem on standard error, with exit status 1, or 2 when the
           command was not understood; never by a traceback. What was asked for goes to standard output, and
           where that is a secret or JSON, nothing else does.
"""

from mailserver.cli.main import main

__all__ = ["main"]
