"""`zerocopy status` of several nodes: shares, what is known of each, and nodes that are silent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.commands.status.test_figures import page
from tests.faults.client import SMALL, write_series
from tests.server import ForkedServer
from tests.terminal import open_terminal
from zerocopy.cli import main
from zerocopy.commands.status.cluster import Scrape, nodes_of, remarks_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zerocopy.commands.status.scrape import Page

REQUESTS = "zerocopy_requests_total"
SENT = "zerocopy_sent_bytes_total"
COLD = "zerocopy_cold_bytes_total"
SILENT = "http://127.0.0.1:9/metrics"


def node_page(
    at_s: float, requests: float, sent: float = 0, cold: float = 0, of: str = "1"
) -> Page:
    """A page of a node."""
    return page(
        at_s,
        (REQUESTS, {"transport": "plain", "endpoint": "data", "status": "200"}, requests),
        (SENT, {"path": "sendfile"}, sent),
        (COLD, {}, cold),
        ("zerocopy_build_info", {"version": of, "python": "3"}, 1.0),
    )


def test_shares_are_of_what_all_nodes_answered_meanwhile() -> None:
    """Three to one; the bytes that did not come from the disk; versions that differ are told."""
    before = Scrape({"a": node_page(0, 1_000), "b": node_page(0, 5)}, {})
    after = Scrape({"a": node_page(2, 1_300, 4_000, 1_000), "b": node_page(2, 105, of="2")}, {})
    first, second = nodes_of(["a", "b"], before, after)
    assert (first.figures["requests"], first.figures["share"]) == (150, 0.75)
    assert (second.figures["requests"], second.figures["share"]) == (50, 0.25)
    assert (first.figures["sent"], first.figures["warm"]) == (2_000, 0.75)
    assert (first.figures["store_hits"], first.figures["store_bytes"]) == (None, None)
    assert (second.figures["sent"], second.figures["warm"]) == (0, None)
    assert remarks_of([first, second]) == ["versions differ: 1, 2"]


def test_hits_are_of_the_files_that_queries_needed() -> None:
    """What was in the cache, of that and what was fetched, between the scrapes."""

    def of(hits: float, fetches: float, nbytes: float) -> Scrape:
        none: dict[str, str] = {}
        samples = (
            ("zerocopy_store_cache_hits_total", none, hits),
            ("zerocopy_store_fetches_total", none, fetches),
            ("zerocopy_store_bytes_total", none, nbytes),
        )
        return Scrape({"a": page(hits, *samples)}, {})

    [node] = nodes_of(["a"], of(1, 100, 0), of(4, 101, 90))
    assert (node.figures["store_hits"], node.figures["store_bytes"]) == (0.75, 30)


def test_node_that_comes_or_goes_has_no_rates() -> None:
    """It takes no part in the shares of the others."""
    before = Scrape({"a": node_page(0, 0), "c": node_page(0, 0)}, {"b": "b is gone"})
    after = Scrape({"a": node_page(1, 10), "b": node_page(1, 900)}, {"c": "c is gone"})
    a, b, c = nodes_of(["a", "b", "c"], before, after)
    assert a.figures["share"] == 1
    assert b.error is None
    assert b.figures["requests"] is None
    assert (c.error, c.figures) == ("c is gone", {})
    assert remarks_of([a, b, c]) == ["1 of 3 nodes do not answer"]
    idle = nodes_of(["a"], Scrape({"a": node_page(0, 5)}, {}), Scrape({"a": node_page(1, 5)}, {}))
    assert idle[0].figures["share"] is None, "no request, no share"


@pytest.mark.parametrize("form", ["lines", "json", "terminal"])
def test_report_of_a_node_and_a_silent_one(
    form: str,
    metrics_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Exit code 1; the node that answers is told all the same, in every form."""
    arguments = ["--url", metrics_url, "--url", SILENT]
    if form == "terminal":
        reader, writer = open_terminal()
        with os.fdopen(reader, "rb", closefd=True) as screen:
            command = [sys.executable, "-m", "zerocopy", "status", *arguments]
            process = subprocess.Popen(command, stdout=writer, env={**os.environ, "COLUMNS": "240"})
            os.close(writer)
            shown = b""
            try:
                while data := screen.read1(65_536):
                    shown += data
            except OSError:
                pass  # EIO: the other end of the terminal is closed
            code, text = str(process.wait()), shown.decode()
        assert "requests/s" in text
    else:
        monkeypatch.setattr("zerocopy.commands.status.status.INTERVAL_S", 0.01)
        options = ["--json"] if form == "json" else []
        monkeypatch.setattr(sys, "argv", ["zerocopy", "status", *arguments, *options])
        with pytest.raises(SystemExit) as end:
            main()
        code, text = str(end.value.code), capfd.readouterr().out
    assert code == "1"
    if form == "json":
        document = json.loads(text)
        assert [node["url"] for node in document["nodes"]] == [metrics_url, SILENT]
        assert [node["error"] is None for node in document["nodes"]] == [True, False]
        assert document["remarks"] == ["1 of 2 nodes do not answer"]
        return
    assert f"{SILENT} is not reachable: Connection refused" in text
    assert "1 of 2 nodes do not answer" in text
    if form == "lines":
        assert {line.count("\t") for line in text.splitlines()[:3]} == {11}


@pytest.fixture(name="metrics_url", scope="module")
def fixture_metrics_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of a server that has answered something."""
    root = Path(tmp_path_factory.mktemp("node"))
    write_series(root, "SMALL", 10)
    with ForkedServer(root) as server:
        assert server.get(SMALL).status == 200
        yield f"http://127.0.0.1:{server.metrics_port}/metrics"


def test_wrong_url_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, also for one of several."""
    monkeypatch.setattr(sys, "argv", ["zerocopy", "status", "--url", SILENT, "--url", "ftp://x"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "--url: must be like http" in capsys.readouterr().err
