"""The sample alerts ask for what the server tells."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from mailserver import metrics

FILE = Path(__file__).parents[2] / "etc" / "mailserver.rules.yml"

NAME = re.compile(r"mailserver_[a-z_]+")
SELECTED = re.compile(r"(mailserver_[a-z_]+)(?:\{([^}]*)\})?")
LABEL = re.compile(r'([a-z]+)(?:=~|!=|=)"([^"]*)"')

VALUES = {
    ("mailserver_queue_entries", "state"): {"queued", "deferred", "active", "held", "corrupt"},
    ("mailserver_queue_oldest_seconds", "state"): {"queued", "deferred", "active", "held", "corrupt"},
    ("mailserver_delivery_attempts_total", "result"): {"delivered", "relayed", "expanded", "delayed", "failed"},
    ("mailserver_deliveries_total", "result"): {"delivered", "delayed", "failed"},
    ("mailserver_messages_total", "result"): {"2xx", "4xx", "5xx"},
    ("mailserver_logins_total", "result"): {"ok", "refused", "banned", "crowded", "failed"},
    ("mailserver_connections_refused_total", "reason"): {"total", "address", "rate", "banned", "proxy"},
}


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(FILE.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_each_alert_is_complete() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names) >= 12
    for rule in rules():
        assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}, rule
        assert set(rule["annotations"]) == {"summary", "description"} and rule["labels"]["severity"]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_what_an_alert_asks_for_is_told(rule: dict[str, Any]) -> None:
    selected = SELECTED.findall(rule["expr"])
    assert selected or rule["expr"].startswith("up{")
    for name, labels in selected:
        metric = metrics.described(name.removesuffix("_bucket"))
        assert name.endswith("_bucket") == (metric.kind == "histogram"), name
        for label, value in LABEL.findall(labels):
            assert label in metric.labels, f"{name} has no label {label}"
            assert set(value.split("|")) <= VALUES[metric.name, label], f"{name} is never of {value}"


def test_each_matter_has_an_alert() -> None:
    asked = {name for rule in rules() for name in NAME.findall(rule["expr"])}
    assert asked >= {
        "mailserver_queue_oldest_seconds",
        "mailserver_logins_total",
        "mailserver_certificates_end_seconds",
        "mailserver_delivery_attempts_total",
        "mailserver_sync_seconds_bucket",
        "mailserver_index_lag_messages",
    }


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (apt-get install prometheus)")
def test_prometheus_takes_them() -> None:
    done = subprocess.run(["promtool", "check", "rules", str(FILE)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
