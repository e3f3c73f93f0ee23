"""The files below monitoring/cluster/: promtool accepts them, and every metric they name exists."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.cluster.front import Front, Node

FOLDER = Path(__file__).resolve().parents[2] / "monitoring" / "cluster"
ALERTS = (FOLDER / "alerts.yml").read_text("utf-8")
NAMES = re.findall(r"- alert: (\w+)", ALERTS)
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text("utf-8"))
OF_GRAFANA = {"$__rate_interval": "1m", "$job": "zerocopy"}


def panel_expressions() -> list[str]:
    """Every expression of the dashboard, with Grafana's variables filled in."""
    found = [
        target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])
    ] + [note["expr"] for note in DASHBOARD["annotations"]["list"]]
    return [re.sub(r"\$\w+", lambda name: OF_GRAFANA[name[0]], text) for text in found]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_rules_and_panels_are_right(tmp_path: Path) -> None:
    """Promtool finds no fault in rules and expressions, and each rule fires in its unit test."""
    panels = [
        {"record": f"panel_{number}", "expr": expression}
        for number, expression in enumerate(panel_expressions())
    ]
    (tmp_path / "panels.yml").write_text(
        json.dumps({"groups": [{"name": "panels", "rules": panels}]}), "utf-8"
    )
    for command in (
        ["check", "rules", "alerts.yml"],
        ["check", "rules", str(tmp_path / "panels.yml")],
        ["test", "rules", "alerts_test.yml"],
    ):
        done = subprocess.run(
            ["promtool", *command], capture_output=True, text=True, cwd=FOLDER, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_has_a_severity_a_runbook_and_a_test() -> None:
    """Whoever is woken finds out what to do."""
    tests = (FOLDER / "alerts_test.yml").read_text("utf-8")
    page = (FOLDER.parents[1] / "docs" / "scale-out.md").read_text("utf-8")
    for name, rule in zip(NAMES, ALERTS.split("- alert: ")[1:], strict=True):
        assert re.search(r"labels: \{severity: (critical|warning|info)\}", rule), name
        assert f"runbook: docs/scale-out.md#{name.lower()}\n" in rule
        assert f"# {name}\n" in page, name
        assert f'alertname="{name}",alertstate="firing"' in tests


def test_every_metric_exists(front: Front, three: list[Node]) -> None:
    """A rule that names a metric which is not there would stay silent for ever."""
    ports = (front.metrics_port, three[0].metrics_port)
    pages = [
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
        for port in ports
    ]
    there = set(re.findall(r"^([a-z0-9_]+)[{ ]", "".join(pages), re.MULTILINE))
    text = "".join([ALERTS, *panel_expressions()])
    named = set(re.findall(r"\b(?:haproxy|zerocopy)_[a-z0-9_]+(?=[{\[\s)]|$)", text))
    assert len(named) > 10
    assert named - there == set()
