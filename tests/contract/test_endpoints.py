"""Also served: health, readiness, the description, and metrics on a listener of their own."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING

from tests.contract.site import Site, data_target, serve
from tests.storage.trees import DAY_START_S, age, marks, put, u32
from tests.table import each

if TYPE_CHECKING:
    from pathlib import Path

    from tests.contract.transports import Transport
    from zerocopy.storage.tree import Series


@each("path", ["/healthz", "/readyz", "/healthz?x=1", "/readyz?"])
def test_health_is_tiny_json_that_nobody_keeps(site: Site, path: str) -> None:
    """200 while alive and ready."""
    answer = site.ask(path)
    assert answer.status == 200
    assert answer.fields["content-type"] == "application/json"
    assert "no-cache" in answer.fields["cache-control"]
    assert isinstance(json.loads(answer.content), dict)
    assert len(answer.content) < 100


def test_readiness_root_that_never_was_is_not_ready(transport: Transport, tmp_path: Path) -> None:
    """The server starts without its root, says that it is not ready, and becomes so."""
    root = tmp_path / "later"
    with serve(transport, str(root)) as site:
        answer = site.ask("/readyz")
        assert answer.status == 503
        assert answer.fields["content-type"] == "application/problem+json"
        assert site.ask("/healthz").status == 200
        root.mkdir()
        assert site.ask("/readyz").status == 200


def test_openapi_describes_every_path(site: Site) -> None:
    """An OpenAPI 3.1 document with all paths and the statuses of the table."""
    answer = site.ask("/openapi.json")
    document = json.loads(answer.content)
    assert answer.status == 200
    assert answer.fields["content-type"] == "application/json"
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {
        "/api/bars",
        "/api/catalog",
        "/api/data",
        "/api/live",
        "/api/symbols",
        "/healthz",
        "/readyz",
        "/openapi.json",
    }
    operation = document["paths"]["/api/data"]["get"]
    assert {"200", "400", "404", "414", "431", "500", "503"} <= set(operation["responses"])


def metrics_page(site: Site, path: str = "/metrics") -> tuple[int, str, str]:
    """Status, content type and text of the metrics listener."""
    connection = http.client.HTTPConnection("127.0.0.1", site.server.metrics_port, timeout=20)
    connection.request("GET", path)
    response = connection.getresponse()
    page = response.read().decode()
    connection.close()
    return response.status, response.headers["Content-Type"], page


def test_metrics_have_a_listener_of_their_own(site: Site) -> None:
    """Prometheus text there, and nothing of it on the listener that clients reach."""
    status, content_type, page = metrics_page(site)
    assert status == 200
    assert content_type.startswith("text/plain")
    samples = [line for line in page.splitlines() if line and not line.startswith("#")]
    assert samples
    assert all(line.startswith(("zerocopy_", "process_")) for line in samples)
    assert site.server.metrics_port != site.server.port
    assert site.ask("/metrics").status == 404


def test_metrics_names_units_and_labels_are_those_of_prometheus(site: Site) -> None:
    """Counters end in _total; no label ever holds a symbol, a day or a path."""
    _, _, page = metrics_page(site)
    kinds = {
        line.split(" ")[2]: line.split(" ")[3]
        for line in page.splitlines()
        if line.startswith("# TYPE")
    }
    for name, kind in kinds.items():
        assert kind in {"counter", "gauge", "histogram"}
        assert name.endswith("_total") is (kind == "counter")
    for text in ("coinbase", site.root, ".bin"):
        assert text not in page


def test_metrics_count_responses_plans_and_bytes(site: Site, series: Series) -> None:
    """One request more is one more of each; the second, identical one is a plan used again."""
    paths = put(site.root, {"time": u32(*range(9)), "price": marks(9)}, series=series)
    age(*paths.values())
    names = {
        "made": "zerocopy_plans_made_total",
        "reused": "zerocopy_plans_reused_total",
        "good": 'zerocopy_requests_total{endpoint="data",status="200"}',
        "bad": 'zerocopy_requests_total{endpoint="other",status="404"}',
        "timed": 'zerocopy_request_duration_seconds_count{endpoint="data"}',
        "copied": 'zerocopy_sent_bytes_total{path="copy"}',
    }

    def counts() -> dict[str, float]:
        return {key: site.server.metric(name) for key, name in names.items()}

    target = data_target(series, DAY_START_S, DAY_START_S + 86_399)
    before = counts()
    first = site.ask(target)
    after_first = counts()
    site.ask(target)
    site.ask("/nowhere")
    after = counts()
    assert after_first["made"] - before["made"] == 1
    assert (after["made"] - after_first["made"], after["reused"] - after_first["reused"]) == (0, 1)
    assert after["good"] - before["good"] == 2
    assert after["bad"] - before["bad"] == 1
    assert after["timed"] - before["timed"] == 2
    assert after_first["copied"] - before["copied"] >= len(first.content)
