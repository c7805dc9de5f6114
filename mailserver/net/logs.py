"""The core logs with the standard library; this hands its records to twisted.logger, which twistd writes out."""

from __future__ import annotations

import logging
from functools import cache

from twisted.logger import Logger, LogLevel

_LEVELS = (
    (logging.CRITICAL, LogLevel.critical),
    (logging.ERROR, LogLevel.error),
    (logging.WARNING, LogLevel.warn),
    (logging.INFO, LogLevel.info),
)


class TwistedHandler(logging.Handler):
    """One event a record; line ends inside a record are written as `\\n`, so that a record stays one line."""

    def emit(self, record: logging.LogRecord) -> None:
        level = next((twisted for least, twisted in _LEVELS if record.levelno >= least), LogLevel.debug)
        text = self.format(record)
        if record.levelno < logging.CRITICAL and not text.isprintable():  # a traceback is ours and keeps its lines
            text = text.replace("\r", "\\r").replace("\n", "\\n")
        _logger(record.name).emit(level, "{text}", text=text)


_logger = cache(Logger)


def bridge() -> None:
    """Sends what `mailserver` logs to Twisted; a second call changes nothing."""
    root = logging.getLogger("mailserver")
    if not any(isinstance(handler, TwistedHandler) for handler in root.handlers):
        root.addHandler(TwistedHandler())
    root.setLevel(logging.INFO)
    root.propagate = False
