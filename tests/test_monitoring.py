"""The files below monitoring/, judged by promtool and by a Prometheus that scrapes a server.

A rule or a panel that names a metric which is not there never complains: it stays silent. So every
name they use is looked up in a real scrape.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.client import SMALL, make_root, poll
from tests.ports import free_port
from tests.server import ForkedServer, RunningServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MONITORING = Path(__file__).resolve().parent.parent / "monitoring"
RUNBOOK = MONITORING.parent / "docs" / "operations.md"
ALERTS = (MONITORING / "alerts.yml").read_text("utf-8")
ALERT_NAMES = re.findall(r"- alert: (\w+)", ALERTS)

OF_GRAFANA = {"$__rate_interval": "1m", "$job": "zerocopy", "$instance": ".*"}

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that has answered something."""
    root = tmp_path_factory.mktemp("monitored")
    make_root(root)
    with ForkedServer(root) as running:
        assert running.get(SMALL).status == 200
        assert running.get("/nothing").status == 404
        yield running
    shutil.rmtree(root)


class Prometheus:
    """A Prometheus with the repository's configuration, but for the target and the interval."""

    def __init__(self, folder: Path, target: str) -> None:
        self.port = free_port()
        configuration = (MONITORING / "prometheus.yml").read_text("utf-8")
        assert "127.0.0.1:9091" in configuration
        configuration = configuration.replace("127.0.0.1:9091", target).replace("15s", "200ms")
        (folder / "prometheus.yml").write_text(configuration, "utf-8")
        (folder / "alerts.yml").write_text(ALERTS, "utf-8")
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--log.level=warn",
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait(10)
        self._log.close()

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of the API; an error is an HTTPError that tells why."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            document = json.load(response)
        assert document["status"] == "success"
        return document["data"]

    def ask_until(
        self, is_there: Callable[[Any], bool], what: str, path: str, **parameters: str
    ) -> Any:
        """The data, once they are: between a scrape that came too late and the next is nothing."""
        deadline = time.monotonic() + 20
        while not is_there(data := self.ask(path, **parameters)):
            assert time.monotonic() < deadline, what
            time.sleep(0.05)
        return data

    def wait_for_scrapes(self) -> None:
        """Until the target is twice scraped, so that there are rates."""
        poll(self._answers, "Prometheus to be ready")
        self.ask_until(
            lambda data: data["result"] and int(data["result"][0]["value"][1]) >= 2,
            "Prometheus does not scrape",
            "query",
            query='sum_over_time(up{job="zerocopy"}[1m])',
        )

    def _answers(self) -> bool:
        try:
            self.ask("query", query="1")
        except OSError:
            return False
        return True


@pytest.fixture(scope="module")
def prometheus(
    server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """A running Prometheus that has scraped the server."""
    running = Prometheus(tmp_path_factory.mktemp("prometheus"), f"127.0.0.1:{server.metrics_port}")
    try:
        running.wait_for_scrapes()
        yield running
    finally:
        running.stop()


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    document: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text("utf-8"))
    return document


def dashboard_expressions() -> list[str]:
    """Every expression of a panel and of an annotation, with Grafana's variables filled in."""
    panels = [
        target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", [])
    ]
    notes = [note["expr"] for note in dashboard()["annotations"]["list"]]
    return [re.sub(r"\$\w+", lambda name: OF_GRAFANA[name[0]], text) for text in panels + notes]


def metric_names(text: str) -> set[str]:
    """The metrics of ours that a text names."""
    return set(re.findall(r"\b(?:zerocopy|process)_[a-z0-9_]+(?=[{\[\s)]|$)", text))


def promtool(*arguments: str) -> str:
    """What promtool prints about files in monitoring/; it must find nothing wrong."""
    done = subprocess.run(
        ["promtool", *arguments],
        capture_output=True,
        text=True,
        cwd=MONITORING,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_rules_are_right_and_say_what_their_tests_expect() -> None:
    """Promtool finds no fault in the rules and the configuration, and the unit tests pass."""
    promtool("check", "config", "prometheus.yml")
    assert f"{len(ALERT_NAMES)} rules found" in promtool("check", "rules", "alerts.yml")
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


def test_every_rule_has_a_severity_a_runbook_and_a_test() -> None:
    """Whoever is woken finds out what to do; and each rule is seen firing in alerts_test.yml."""
    tests = (MONITORING / "alerts_test.yml").read_text("utf-8")
    rules = ALERTS.split("- alert: ")[1:]
    assert len(rules) > 10
    for name, rule in zip(ALERT_NAMES, rules, strict=True):
        assert re.search(r"labels: \{severity: (critical|warning|info)\}", rule), name
        assert f"runbook: docs/operations.md#{name.lower()}\n" in rule
        assert "summary:" in rule
        assert f"# {name}\n" in RUNBOOK.read_text("utf-8"), name
        assert f'alertname="{name}",alertstate="firing"' in tests


@pytest.mark.parametrize("name", ["dashboard.json", "cluster/dashboard.json"])
def test_dashboard_can_be_laid_out(name: str) -> None:
    """No two panels share an id or a place, and each asks the chosen data source."""
    panels = json.loads((MONITORING / name).read_text("utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (column, line)
        for panel in panels
        for place in [panel["gridPos"]]
        for column in range(place["x"], place["x"] + place["w"])
        for line in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(column for column, _ in cells) == 23
    for panel in panels:
        for target in panel.get("targets", []):
            assert target["datasource"]["uid"] == "${datasource}"


@needs_promtool
def test_page_of_metrics_follows_the_conventions(server: RunningServer) -> None:
    """Promtool finds nothing to improve in names, units and help texts."""
    with urllib.request.urlopen(
        f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=10
    ) as response:
        page = response.read().decode()
    found = subprocess.run(
        ["promtool", "check", "metrics"], capture_output=True, text=True, input=page, check=False
    )
    # These are days of a market that files are named by, and no measure of time.
    of_days = {
        f'zerocopy_days_{what}_total use base unit "seconds" instead of "days"'
        for what in ("skipped", "unsound")
    }
    assert set(found.stderr.splitlines()) <= of_days


WITH_REDIS = {"zerocopy_limits_store_up"}
"""What only a server with `[auth] limits_url` has."""


@needs_prometheus
def test_running_prometheus_understands_every_rule_and_panel(prometheus: Prometheus) -> None:
    """The target is up, no rule fails or fires, every expression is answered, every name exists."""
    prometheus.ask_until(
        lambda data: [target["health"] for target in data["activeTargets"]] == ["up"],
        "the target is not up",
        "targets",
    )
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert [rule["name"] for rule in rules] == ALERT_NAMES
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
    expressions = [*dashboard_expressions(), *(rule["query"] for rule in rules)]

    def asked(expression: str) -> Any:
        return prometheus.ask_until(
            lambda answer: answer["result"] or not expression.startswith("sum("),
            f"nothing to draw: {expression}",
            "query",
            query=expression,
        )

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(asked, expressions))
    assert {answer["resultType"] for answer in answers} == {"vector"}
    scraped = set(prometheus.ask("label/__name__/values"))
    named = set().union(*map(metric_names, expressions))
    assert named - scraped <= WITH_REDIS
