"""The core logs with the standard library; this hands its records to twisted.logger, which twistd writes out."""

from __future__ import annotations

import logging
import os
from functools import cache

from twisted.logger import InvalidLogLevelError, LogEvent, Logger, LogLevel, eventAsText

from mailserver.net.jsonlog import BEGINNING

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
        text = self.format(record) if record.exc_info or record.stack_info else record.getMessage()
        if record.levelno < logging.CRITICAL and not text.isprintable():  # a traceback is ours and keeps its lines
            text = text.replace("\r", "\\r").replace("\n", "\\n")
        logger = _logger(record.name)
        logger.observer(  # as `Logger.emit` has it, which looks at its arguments at length
            {
                "log_logger": logger,
                "log_level": level,
                "log_namespace": record.name,
                "log_source": None,
                "log_format": "{text}",
                "log_time": record.created,
                "text": text,
                "record": record,
            }
        )


_logger = cache(Logger)


def hand_up(event: LogEvent) -> None:
    """An observer for a worker process: one line for the process that started it, which gives it its time."""
    level: LogLevel = event.get("log_level", LogLevel.info)
    if level < LogLevel.info:
        return
    text = event["text"] if "record" in event else eventAsText(event, includeTimestamp=False, includeSystem=False)
    line = f"{level.name} {event.get('log_namespace', '-')} {text.strip()}".replace("\r", " ").replace("\n", "\r")
    os.write(1, f"{line}\n".encode("utf-8", "backslashreplace"))


def take_up(line: bytes) -> None:
    """What `hand_up` or `jsonlog` wrote, into the log of this process; other words as they are."""
    if line.startswith(BEGINNING):
        text = line.decode("ascii", "backslashreplace")
        _logger("worker").emit(LogLevel.info, "{text}", text=text, json_line=text)
        return
    name, _, rest = line.decode("utf-8", "backslashreplace").partition(" ")
    namespace, _, text = rest.partition(" ")
    try:
        level = LogLevel.levelWithName(name)
    except InvalidLogLevelError:
        level, namespace, text = LogLevel.info, "worker", f"{name} {rest}"
    _logger(namespace).emit(level, "{text}", text=text.replace("\r", "\n"), record=None)  # one of the program's, too


def bridge() -> None:
    """Sends what `mailserver` logs to Twisted; a second call changes nothing."""
    logging._srcfile = None  # from which line and thread a record comes is not looked for: nobody asks
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger("mailserver")
    if not any(isinstance(handler, TwistedHandler) for handler in root.handlers):
        root.addHandler(TwistedHandler())
    root.setLevel(logging.INFO)
    root.propagate = False
