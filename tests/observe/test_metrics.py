"""Metrics: rows in shared memory, merged into one page."""

from __future__ import annotations

import math
import os
import platform
import re
import socket
import urllib.request
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import zerocopy
from zerocopy.core import counters as slots
from zerocopy.core.access import SENT_BYTES
from zerocopy.core.counters import (
    DURATION_BOUNDS_S,
    PLAIN,
    SLOTS,
    TLS,
    duration_of,
    observe,
)
from zerocopy.core.endpoints import DATA, OTHER
from zerocopy.observe import named_counters
from zerocopy.observe.counter_rows import make_counters, open_row, reset_gauges
from zerocopy.observe.metrics import Collector, serve_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def counters_fd() -> Iterator[int]:
    """Shared memory for two workers."""
    fd = make_counters(2)
    yield fd
    os.close(fd)


def samples_of(collector: Collector) -> dict[str, float]:
    """Every sample of the page, by its name and labels."""
    registry = CollectorRegistry()
    registry.register(collector)
    lines = generate_latest(registry).decode().splitlines()
    pairs = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(value) for name, _, value in pairs}


def test_collector_adds_up_the_rows_of_all_workers(counters_fd: int) -> None:
    """A sample is the sum over workers, kept apart by labels; an open row shows at once."""
    rows = [open_row(counters_fd, worker) for worker in range(2)]
    collector = Collector(counters_fd, 2)
    collector.workers_by_row |= {0: 0, 1: 1}
    rows[0][slots.requests_slot(PLAIN, DATA, 200)] += 5
    rows[1][slots.requests_slot(PLAIN, DATA, 200)] += 7
    rows[1][slots.requests_slot(TLS, OTHER, 501)] += 1
    rows[0][slots.CONNECTIONS + PLAIN] = 3
    rows[1][slots.CONNECTIONS + TLS] = 2
    samples = samples_of(collector)
    name = "zerocopy_requests_total"
    assert samples[f'{name}{{endpoint="data",status="200",transport="plain"}}'] == 12
    assert samples[f'{name}{{endpoint="other",status="other",transport="tls"}}'] == 1
    assert sum(value for sample, value in samples.items() if sample.startswith(name)) == 13
    assert samples['zerocopy_connections{transport="plain"}'] == 3
    assert samples['zerocopy_worker_connections{worker="0"}'] == 3
    assert samples['zerocopy_worker_connections{worker="1"}'] == 2
    assert samples["zerocopy_workers"] == 2
    assert samples["zerocopy_worker_restarts_total"] == 0


def test_what_all_workers_share_is_not_added_up(counters_fd: int) -> None:
    """Each tells of the same directory, the larger number is nearer to what may be there."""
    collector = Collector(counters_fd, 2)
    for worker, value in enumerate([9_000, 7_000]):
        open_row(counters_fd, worker)[slots.ROLLUP_FILE_BYTES] = value
    assert samples_of(collector)["zerocopy_rollup_file_bytes"] == 9_000


def test_histogram_is_cumulative_and_in_seconds(counters_fd: int) -> None:
    """Each bucket counts those below it too, as the format has it; rows are added up."""
    collector = Collector(counters_fd, 2)
    for worker, value_ns in enumerate([50_000, 60_000]):
        observe(open_row(counters_fd, worker), duration_of(TLS, DATA), value_ns, worker + 1)
    samples = samples_of(collector)
    name, labels = "zerocopy_request_duration_seconds", 'endpoint="data",transport="tls"'
    ends = re.findall(
        rf'{name}_bucket{{endpoint="data",le="([^"]+)",transport="tls"}}', "\n".join(samples)
    )
    assert [float(end) for end in ends] == [*DURATION_BOUNDS_S, math.inf]
    counts = [
        samples[f'{name}_bucket{{endpoint="data",le="{end}",transport="tls"}}'] for end in ends
    ]
    assert counts == [1, *[3] * len(DURATION_BOUNDS_S)]
    assert samples[f"{name}_count{{{labels}}}"] == 3
    assert samples[f"{name}_sum{{{labels}}}"] == pytest.approx(0.000_17)


def test_what_runs_is_told_by_labels(counters_fd: int) -> None:
    """Version and Python of the supervisor, which its workers share."""
    version, python = zerocopy.__version__, platform.python_version()
    samples = samples_of(Collector(counters_fd, 2))
    assert samples[f'zerocopy_build_info{{python="{python}",version="{version}"}}'] == 1


def test_every_slot_is_on_the_page_from_the_start(counters_fd: int) -> None:
    """A label set that appears only later would look like a counter that fell."""
    samples = samples_of(Collector(counters_fd, 2))
    suffixes = {"counter": "_total", "bucket": "_count", "sum": "_sum"}
    for slot in SLOTS:
        labels = ",".join(f'{name}="{value}"' for name, value in sorted(slot.labels))
        name = slot.name + suffixes.get(slot.kind, "")
        assert samples[f"{name}{{{labels}}}" if labels else name] == 0


def test_reset_of_gauges_leaves_counters(counters_fd: int) -> None:
    """A worker that takes a dead one's row begins without connections and goes on counting."""
    row, other = (open_row(counters_fd, worker) for worker in range(2))
    for index in range(len(SLOTS)):
        row[index] = other[index] = 9
    reset_gauges(row)
    assert [value == 0 for value in row] == [slot.kind in {"gauge", "shared"} for slot in SLOTS]
    assert list(other) == [9] * len(SLOTS)


def test_counter_beyond_32_bits_is_exact(counters_fd: int) -> None:
    """Bytes sent pass four gigabytes within seconds."""
    open_row(counters_fd, 0)[slots.SENT_BYTES_SENDFILE] = 2**40 + 1
    samples = samples_of(Collector(counters_fd, 2))
    assert samples['zerocopy_sent_bytes_total{path="sendfile"}'] == 2**40 + 1


def test_page_is_served_in_the_text_format(counters_fd: int) -> None:
    """A scrape over HTTP gets the page with help and type of each metric."""
    port = serve_metrics(Collector(counters_fd, 2), socket.AF_INET, ("127.0.0.1", 0))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        page = response.read().decode()
    assert "# TYPE zerocopy_requests_total counter" in page
    assert "# TYPE zerocopy_connections gauge" in page
    assert "# TYPE zerocopy_loop_lag_seconds histogram" in page


def test_page_has_what_each_key_asked_for(counters_fd: int) -> None:
    """By name; without keys there is the place of others alone, at 0."""
    collector = Collector(counters_fd, 2)
    assert not any("zerocopy_key_" in sample for sample in samples_of(collector))
    collector.names_fd = named_counters.make_names()
    named_counters.add_row(collector.names_fd, 1)
    row = named_counters.NamedCounters(collector.names_fd, 0)
    row.count("desk", SENT_BYTES, 7)
    samples = samples_of(collector)
    assert samples['zerocopy_key_sent_bytes_total{key="desk"}'] == 7
    assert samples['zerocopy_key_requests_total{key="(others)"}'] == 0
    assert samples['zerocopy_key_refusals_total{key="desk"}'] == 0
    os.close(collector.names_fd)
