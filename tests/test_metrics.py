"""What is counted, and how processes are added up."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailserver import metrics
from tests.support.counted import counting

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def nothing_counted() -> Iterator[None]:
    with counting():
        yield


def by_json() -> Any:
    return json.loads(json.dumps(metrics.told()))


def test_processes_are_added_up() -> None:
    metrics.LOGINS.add("imap", "ok")
    metrics.CONNECTIONS_OPEN.add("imap", amount=3)
    metrics.QUEUE_TIMES.observe(0.003)
    metrics.QUEUE_TIMES.observe(99.0)
    metrics.QUEUE_AGE.put(7.0, "queued")
    metrics.CERTIFICATES_END.put(500.0)
    one = by_json()
    metrics.LOGINS.add("pop3", "refused", amount=2)
    metrics.QUEUE_AGE.put(5.0, "queued")
    metrics.CERTIFICATES_END.put(400.0)
    sums = metrics.merged([one, by_json()])
    assert sums["mailserver_logins_total"] == {("imap", "ok"): 2, ("pop3", "refused"): 2}
    assert sums["mailserver_connections_open"] == {("imap",): 6}
    assert sums["mailserver_queue_oldest_seconds"] == {("queued",): 7.0}, "the oldest of all"
    assert sums["mailserver_certificates_end_seconds"] == {(): 400.0}, "the first of all"
    (times,) = sums["mailserver_queue_commit_seconds"].values()
    assert isinstance(times, list)
    assert times[metrics.SECONDS.index(0.005)] == 2 and times[len(metrics.SECONDS)] == 2
    assert times[-1] == pytest.approx(2 * 99.003)


def test_what_an_ended_process_counted_stays_but_not_what_it_held() -> None:
    metrics.LOGINS.add("imap", "ok")
    metrics.CONNECTIONS_OPEN.add("imap")
    metrics.SYNC_TIMES.observe(0.1)
    ended = by_json()
    metrics.take_over(ended)
    assert metrics.LOGINS.values == {("imap", "ok"): 2}
    assert metrics.CONNECTIONS_OPEN.values == {("imap",): 1}
    (times,) = metrics.SYNC_TIMES.values.values()
    assert times[-1] == pytest.approx(0.2)
    before = metrics.told()
    metrics.take_over({})
    assert metrics.told() == before


def test_what_is_handed_over_is_counted_once() -> None:
    metrics.LOGINS.add("imap", "ok")
    metrics.INDEX_TIMES.observe(0.1, "pack")
    handed = json.loads(json.dumps(metrics.hand_over()))
    assert metrics.told() == {}
    metrics.LOGINS.add("imap", "ok")
    metrics.take_over(handed)
    assert metrics.LOGINS.values == {("imap", "ok"): 2}
    assert sum(metrics.INDEX_TIMES.values["pack",][:-1]) == 1


@pytest.mark.parametrize(
    "told",
    [
        {"mailserver_logins_total": [[["imap"], 1]]},
        {"mailserver_logins_total": [[["imap", "ok"], "x"]]},
        {"mailserver_logins_total": [[["imap", "ok"], [1.0]]]},
        {"mailserver_logins_total": [["imap"]]},
        {"mailserver_logins_total": 5},
        {"mailserver_queue_commit_seconds": [[[], [1.0, 2.0]]]},
        {"mailserver_queue_commit_seconds": [[[], 1.0]]},
    ],
)
def test_what_is_of_another_form_is_refused(told: Any) -> None:
    with pytest.raises(ValueError, match=r"mailserver_|values to unpack|convert"):
        metrics.merged([told])


def test_metrics_of_another_version_are_passed_over() -> None:
    assert metrics.merged([{"mailserver_of_tomorrow": [(["x"], 1.0)]}]) == {}


def test_threads_may_observe_times() -> None:
    def observe() -> None:
        for _ in range(2000):
            metrics.INDEX_TIMES.observe(0.001, "pack")

    threads = [threading.Thread(target=observe) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        metrics.told()
    for thread in threads:
        thread.join()
    assert sum(metrics.INDEX_TIMES.values["pack",][:-1]) == 8000


def test_names_are_those_that_prometheus_expects() -> None:
    for metric in metrics.METRICS:
        assert metric.name.startswith("mailserver_"), metric.name
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert metric.kind != "histogram" or metric.name.endswith("_seconds"), metric.name
        assert metrics.described(metric.name) is metric
    assert len({metric.name for metric in metrics.METRICS}) == len(metrics.METRICS)
