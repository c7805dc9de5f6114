"""SQLite and PostgreSQL, as far as the directory asks them: a query with named parameters, and its rows.

Promises   Values are bound, never pasted. An answer comes within `timeout` seconds or not at all, whatever the server
           does; no more rows are read than are asked for.
On failure ConnectionLost when the database cannot be reached, or does not answer; SourceDown for a query that it does
           not take.
           ConfigurationError from `postgres` when psycopg is missing.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mailserver.accounts.model import SourceDown
from mailserver.accounts.pool import ConnectionLost
from mailserver.config.loader import ConfigurationError
from mailserver.config.queries import for_psycopg

if TYPE_CHECKING:
    from psycopg import Connection

Values = Mapping[str, str]
STEPS = 10_000  # of SQLite's machine, some milliseconds: so often it is looked whether time is up


@dataclass(frozen=True, slots=True)
class Answer:
    columns: Sequence[str]
    rows: Sequence[Mapping[str, object]]
    changed: int
    """Rows."""


class Database(Protocol):
    """A connection."""

    def ask(self, query: str, values: Values, most: int) -> Answer:
        """No more than `most` rows."""

    def close(self) -> None: ...


def sqlite(path: Path, *, writable: bool, timeout: float) -> Callable[[], Database]:
    """Gives what connects."""
    return lambda: _SQLite(path, writable=writable, timeout=timeout)


class _SQLite:
    def __init__(self, path: Path, *, writable: bool, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._deadline = math.inf
        self._file = self._inode()
        uri = f"{path.as_uri()}?mode={'rw' if writable else 'ro'}"
        try:
            self._connection = sqlite3.connect(
                uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise ConnectionLost(f"{path} cannot be opened: {error}") from error
        self._connection.set_progress_handler(lambda: time.monotonic() > self._deadline, STEPS)

    def ask(self, query: str, values: Values, most: int) -> Answer:
        if self._inode() != self._file:
            raise ConnectionLost(f"{self._path} was replaced")
        self._deadline = time.monotonic() + self._timeout
        try:
            cursor = self._connection.execute(query, values)
            columns = [column[0] for column in cursor.description or ()]
            rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchmany(most)]
            cursor.close()
        except sqlite3.OperationalError as error:
            late = time.monotonic() > self._deadline
            raise ConnectionLost(f"{self._path}: {error}", late=late) from error
        except sqlite3.Error as error:
            raise SourceDown(f"{self._path}: {error}") from error
        return Answer(columns, rows, cursor.rowcount)

    def close(self) -> None:
        self._connection.close()

    def _inode(self) -> int:
        try:
            return self._path.stat().st_ino
        except OSError as error:
            raise ConnectionLost(f"{self._path} cannot be opened: {error.strerror}") from error


def postgres(url: str, *, password: Callable[[], str | None], timeout: float) -> Callable[[], Database]:
    """Gives what connects. `password` is asked for each connection, so that it can be changed."""
    try:
        import psycopg
    except ImportError:
        raise ConfigurationError(
            ["directory: psycopg is missing; install it with: pip install 'mailserver[postgres]'"]
        ) from None

    class Bounded(psycopg.Connection[dict[str, Any]]):
        """A server that is stopped, or behind a network that swallows what is sent, is not waited for longer."""

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = timeout) -> Any:
            return super().wait(gen, interval, timeout if timeout is not None else limit)

    limit = timeout + 1  # the server's own limit is told in better words

    def connect() -> Database:
        try:
            connection = Bounded.connect(
                url,
                autocommit=True,
                row_factory=psycopg.rows.dict_row,
                password=password(),
                connect_timeout=max(2, math.ceil(timeout)),  # less than 2 is not taken
                application_name="mailserver",
                options=f"-c statement_timeout={int(timeout * 1000)}",
                keepalives_idle=30,
                client_encoding="utf8",
            )
        except psycopg.Error as error:
            raise ConnectionLost(_line(error)) from error
        except OSError as error:
            raise ConnectionLost(f"the password for the database cannot be read: {error}") from error
        return _Postgres(connection)

    return connect


class _Postgres:
    def __init__(self, connection: Connection[dict[str, Any]]) -> None:
        self._connection = connection

    def ask(self, query: str, values: Values, most: int) -> Answer:
        import psycopg

        try:
            with self._connection.cursor() as cursor:
                cursor.execute(for_psycopg(query).encode(), values)
                columns = [column.name for column in cursor.description or ()]
                return Answer(columns, cursor.fetchmany(most) if columns else [], cursor.rowcount)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            late = isinstance(error, psycopg.errors.QueryCanceled) or "Timeout" in type(error).__name__
            raise ConnectionLost(_line(error) or "no answer came in time", late=late) from error
        except psycopg.Error as error:
            raise SourceDown(_line(error)) from error

    def close(self) -> None:
        self._connection.close()


def _line(error: Exception) -> str:
    """What it says, without where in the query: that stands on lines of its own."""
    return next(iter(str(error).strip().splitlines()), "")
