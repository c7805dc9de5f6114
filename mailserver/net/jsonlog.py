"""The log as JSON: one object a line.

The program logs text with `key=value` in it, as `log.info("session=%s peer=%s opened", ...)`. Here the values of such
keys become members of the object, as they were given, and `event` is what remains of the text: there is one way of
logging, and no line needs two forms.

Promises   One line an event, in ASCII, that begins as `BEGINNING`. A value cannot make a second line or another member:
           keys are taken from the program's own text alone.
On failure A record whose text and values do not fit is written as it is.
"""

from __future__ import annotations

import json
import logging
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from twisted.application.service import MultiService, Service
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile
from zope.interface import implementer

BEGINNING = b'{"time": "'

OWN = ("time", "level", "logger", "event", "traceback")
"""Members that no key of a text becomes."""

_PAIR = re.compile(r"([a-z][a-z0-9_-]*)=(<?(?:%[-0-9.]*[a-z%]|[^\s%;:,]+)>?)")
_CONVERSION = re.compile(r"%[-0-9.]*([a-z%])")


class _Piece(NamedTuple):
    """A part of a text: with how many values it is formatted, and under which key, if it is a pair."""

    text: str
    values: int
    key: str | None


def output(reactor: Any, path: str | None) -> Any:
    """What twistd would write to: the file, a new one at SIGUSR1, or without a path standard output."""
    if path is None:
        return sys.stdout
    file = LogFile.fromFullPath(path)
    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(file.rotate))
    return file


class Observed(MultiService):
    """One service, with an observer that twistd takes in place of its own."""

    def __init__(self, service: Service, observer: ILogObserver) -> None:
        super().__init__()
        self._observer = observer
        service.setServiceParent(self)

    def setServiceParent(self, parent: Any) -> None:
        if isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)


@implementer(ILogObserver)
class JSONObserver:
    """Writes what is at least `info`. `always`: members of each object."""

    def __init__(self, out: Any, always: Mapping[str, object] | None = None) -> None:
        self._out = out
        self._always = dict(always or {})

    def __call__(self, event: LogEvent) -> None:
        line = event.get("json_line")
        if line is None:
            if event.get("log_level", LogLevel.info) < LogLevel.info:
                return
            line = json.dumps(_members(event) | self._always, default=str)
        self._out.write(f"{line}\n")
        self._out.flush()


def _members(event: LogEvent) -> dict[str, object]:
    moment = datetime.fromtimestamp(event.get("log_time", time.time()), UTC)
    level: LogLevel = event.get("log_level", LogLevel.info)
    members: dict[str, object] = {
        "time": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "level": level.name,
        "logger": str(event.get("log_namespace", "-")),
    }
    record = event.get("record")
    if isinstance(record, logging.LogRecord):
        return members | _of_record(record)
    text = eventAsText(event, includeTraceback=False, includeTimestamp=False, includeSystem=False)
    members["event"] = text.strip()
    if (failure := event.get("log_failure")) is not None:
        members["traceback"] = failure.getTraceback()
    return members


def _of_record(record: logging.LogRecord) -> dict[str, object]:
    members: dict[str, object] = {"event": ""}
    words: list[str] = []
    values = record.args if isinstance(record.args, tuple) else ()
    try:
        for piece in _pieces(record.msg) if values and isinstance(record.msg, str) else ():
            own, values = values[: piece.values], values[piece.values :]
            if piece.key is None:
                words.append((piece.text % own).strip())
            else:
                members.setdefault(piece.key, _value(own[0]) if own else piece.text)
    except (TypeError, ValueError):
        members, words = {"event": ""}, []
    members["event"] = " ".join(filter(None, words)).strip(";:, ") or record.getMessage()
    if record.exc_info:
        members["traceback"] = logging.Formatter().formatException(record.exc_info)
    return members


def _value(value: object) -> object:
    return value if isinstance(value, int | float) or value is None else str(value)


@lru_cache(maxsize=1000)
def _pieces(text: str) -> Sequence[_Piece]:
    pieces: list[_Piece] = []
    end = 0
    for pair in _PAIR.finditer(text):
        if pair[1] in OWN:
            continue
        if before := text[end : pair.start()]:
            pieces.append(_Piece(before, _conversions(before), None))
        end = pair.end()
        pieces.append(_Piece(pair[2], _conversions(pair[2]), pair[1]))
    if rest := text[end:]:
        pieces.append(_Piece(rest, _conversions(rest), None))
    return tuple(pieces)


def _conversions(text: str) -> int:
    return sum(kind != "%" for kind in _CONVERSION.findall(text))
