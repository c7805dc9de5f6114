"""Metrics from nothing: they are global to a process, as they are to the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mailserver import metrics


@contextmanager
def counting() -> Iterator[None]:
    """Nothing is counted as it begins; afterwards there is what there was before."""
    kept = [dict(metric.values) for metric in metrics.METRICS]
    for metric in metrics.METRICS:
        metric.values.clear()
    try:
        yield
    finally:
        for metric, values in zip(metrics.METRICS, kept, strict=True):
            metric.values.clear()
            metric.values.update(values)  # type: ignore[arg-type]
