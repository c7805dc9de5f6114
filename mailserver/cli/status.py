"""`mailserver status`: what the processes of the server tell of themselves (`telling`), added up."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from mailserver import __version__, metrics
from mailserver.cli.common import Context, Failure, as_json, counted, pass_context, print_json, print_table, printable
from mailserver.cli.entries import length, time_text
from mailserver.config.model import Configuration
from mailserver.datadir import DataDirectory
from mailserver.telling import AT_LEAST_EVERY, SUPERVISOR, Process, processes

SILENT = 3 * AT_LEAST_EVERY  # seconds without a word: it hangs, or its disk does


@click.command()
@as_json
@pass_context
def status(context: Context, as_json: bool) -> None:
    """Tell whether the server runs: its processes, connections, logins, queue, index and versions.

    Counts are since the start of the server. The exit status is 1 when no server runs.
    """
    configuration = context.configuration
    told = processes(DataDirectory(configuration.data).status)
    alive = [process for process in told if process.alive]
    data = {"running": bool(alive)} | (_data(configuration, alive) if alive else {})
    if as_json:
        print_json(data)
        if not alive:
            raise SystemExit(1)
    elif alive:
        for line in _remarks(data):
            click.echo(f"mailserver: {line}", err=True)
        _print(data)
    else:
        last = f"; the last one was heard of at {time_text(max(each.told for each in told))}" if told else ""
        raise Failure(f"no server runs on {configuration.data}{last}; `systemctl start mailserver` starts it")


def _data(configuration: Configuration, alive: Sequence[Process]) -> dict[str, Any]:
    """Also what `--json` prints. Raises Failure."""
    try:
        sums = metrics.merged(process.counted for process in alive)
    except ValueError as error:
        raise Failure(f"{error}, of another version of this program than this command") from None
    now = time.time()
    return {
        "started": time_text(min(process.started for process in alive)),
        "uptime": round(now - min(process.started for process in alive)),
        "version": __version__,
        "processes": [_process(process, now) for process in alive],
        "missing_workers": _missing(configuration, alive),
        "connections": {
            name: {
                "open": _of(sums, metrics.CONNECTIONS_OPEN, name),
                "total": _of(sums, metrics.CONNECTIONS, name),
                "refused": _of(sums, metrics.CONNECTIONS_REFUSED, name),
            }
            for name in sorted({listener.protocol for listener in configuration.listener})
        },
        "logins": {
            result: int(
                sum(_number(n) for labels, n in sums.get(metrics.LOGINS.name, {}).items() if labels[1] == result)
            )
            for result in ("ok", "refused", "banned", "crowded", "failed")
        },
        "queue": {
            labels[0]: {
                "entries": int(_number(number)),
                "oldest": round(_number(sums.get(metrics.QUEUE_AGE.name, {}).get(labels, 0.0))),
            }
            for labels, number in sums.get(metrics.QUEUE_ENTRIES.name, {}).items()
        }
        or None,
        "index_lag": next((int(_number(n)) for n in sums.get(metrics.INDEX_LAG.name, {}).values()), None),
        "indexing": _indexing(configuration, sums, alive),
    }


def _indexing(
    configuration: Configuration, sums: Mapping[str, metrics.Rows], alive: Sequence[Process]
) -> dict[str, Any] | None:
    """None: it is turned off. `process`: the one that sees to it."""
    if not configuration.indexing.background:
        return None
    waiting = sums.get(metrics.INDEXING_WAITING.name, {})
    return {
        "process": next((each.name for each in alive if metrics.INDEXING.name in each.counted), None),
        "mailboxes": int(_number(waiting.get(("mailboxes",), 0.0))),
        "messages": int(_number(waiting.get(("messages",), 0.0))),
        "round": any(_number(n) > 0 for n in sums.get(metrics.INDEXING_ROUND.name, {}).values()),
    }


def _of(sums: Mapping[str, metrics.Rows], metric: metrics.Metric, first: str) -> int:
    """The sum over all further labels."""
    return int(sum(_number(n) for labels, n in sums.get(metric.name, {}).items() if labels[0] == first))


def _number(value: metrics.Value) -> float:
    assert not isinstance(value, list), "only times have several numbers"
    return value


def _missing(configuration: Configuration, alive: Sequence[Process]) -> list[int]:
    """Workers that are to run and do not: they are about to be started again."""
    names = {process.name for process in alive}
    if SUPERVISOR not in names:
        return []
    count = (os.cpu_count() or 1) if configuration.workers == "auto" else configuration.workers
    return [number for number in range(count) if str(number) not in names]


def _process(process: Process, now: float) -> dict[str, Any]:
    return {
        "name": process.name,
        "pid": process.pid,
        "started": time_text(process.started),
        "told": round(now - process.told, 1),
        "silent": now - process.told > SILENT,
        "version": process.version,
        "versions": {**process.versions},
    }


def _remarks(data: Mapping[str, Any]) -> Iterator[str]:
    """What an administrator should know first."""
    for number in data["missing_workers"]:
        yield f"warning: worker {number} does not run; the log tells why, and it is started again"
    for process in data["processes"]:
        name = _title(process["name"])
        if process["silent"]:
            yield f"warning: {name} has told nothing for {length(process['told'])}: it hangs, or the disk does"
        if process["version"] != __version__:
            yield (
                f"warning: {name} runs version {printable(process['version'])} and this command is of {__version__}: "
                "start the server again"
            )


def _title(name: str) -> str:
    return f"worker {name}" if name.isdecimal() else f"the {name}"


def _print(data: Mapping[str, Any]) -> None:
    workers = [process for process in data["processes"] if process["name"].isdecimal()]
    serving = counted(len(workers), "worker") if workers else "one process"
    click.echo(f"The server runs, {serving}, for {length(data['uptime'])}.\n")
    print_table(
        ("PROCESS", "PID", "VERSION", "SINCE", "TOLD"),
        (
            (
                printable(process["name"]),
                str(process["pid"]),
                printable(process["version"]),
                process["started"],
                f"{length(process['told'])} ago",
            )
            for process in data["processes"]
        ),
    )
    click.echo()
    print_table(
        ("PROTOCOL", "OPEN", "SERVED", "REFUSED"),
        (
            (name, str(each["open"]), str(each["total"]), str(each["refused"]))
            for name, each in data["connections"].items()
        ),
    )
    click.echo("\nlogins: " + ", ".join(f"{count} {result}" for result, count in data["logins"].items()))
    click.echo(f"queue: {_queue(data['queue'])}")
    lag = data["index_lag"]
    click.echo("search: " + ("not looked at yet" if lag is None else f"{counted(lag, 'message')} not packed yet"))
    click.echo(f"indexing: {_indexed(data['indexing'])}")
    versions = {name: version for each in data["processes"] for name, version in each["versions"].items()}
    click.echo("versions: " + ", ".join(f"{name} {printable(version)}" for name, version in versions.items()))


def _indexed(indexing: Mapping[str, Any] | None) -> str:
    if indexing is None:
        return "when a mailbox is opened; in the background it is turned off"
    if indexing["process"] is None:
        return "no process sees to it yet"
    parts = [f"{counted(indexing['mailboxes'], 'mailbox')} to go"] if indexing["mailboxes"] else []
    if indexing["messages"]:
        parts.append(f"{counted(indexing['messages'], 'message')} left in the one at work")
    if indexing["round"]:
        parts.append("looking through all accounts")
    return f"by {_title(indexing['process'])}: " + (", ".join(parts) or "nothing waits")


def _queue(states: Mapping[str, Mapping[str, int]] | None) -> str:
    if states is None:
        return "not looked at yet"
    parts = [
        f"{each['entries']} {state} (the oldest for {length(each['oldest'])})"
        for state, each in states.items()
        if each["entries"]
    ]
    return ", ".join(parts) or "empty"
