"""The counters of all workers as a page for Prometheus.

Owns the merging of their rows into one page. A scrape reads all rows in the supervisor and costs no
worker anything. A restarted worker goes on with its predecessor's row, so no counter ever falls.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections import defaultdict
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

from zerocopy import __version__
from zerocopy.core.access import TALLIED
from zerocopy.core.counters import CONNECTIONS, HISTOGRAMS, SLOTS, TRANSPORTS
from zerocopy.observe import named_counters
from zerocopy.observe.counter_rows import ROW_BYTES, open_row
from zerocopy.observe.metrics_server import MetricsServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.metrics_core import Metric


class Collector:
    """All rows added up, in the form prometheus-client asks for."""

    def __init__(self, counters_fd: int, workers: int) -> None:
        self.counters_fd = counters_fd
        self.names_fd: int | None = None
        """Of what is counted by key or token, where there is such a memory."""
        self.rows = [open_row(counters_fd, worker) for worker in range(workers)]
        self.workers = workers
        self.workers_by_row: dict[int, int] = {}
        """The place of the process that counts in a row."""
        self.worker_restarts = 0
        self.generation = 1
        self.reloads = {"done": 0, "refused": 0}
        self.key_set_fetches = {"done": 0, "failed": 0}
        self.key_set_fetched_at_s = 0.0
        """By time.monotonic(); 0 before the first."""
        self.limits_store_up: bool | None = None
        """Whether counts were exchanged with other servers; None where there are no others."""

    def add_row(self) -> int:
        """Make room for one more process; the number of its row. Those that are open stay valid."""
        row = len(self.rows)
        os.ftruncate(self.counters_fd, (row + 1) * ROW_BYTES)
        self.rows.append(open_row(self.counters_fd, row))
        return row

    def collect(self) -> Iterator[Metric]:
        """Every metric with its value now."""
        families: dict[str, Metric] = {}
        values: defaultdict[str, list[tuple[tuple[tuple[str, str], ...], int]]] = defaultdict(list)
        for index, slot in enumerate(SLOTS):
            if slot.kind not in ("counter", "gauge", "shared"):
                continue
            kind = CounterMetricFamily if slot.kind == "counter" else GaugeMetricFamily
            if slot.name not in families:
                families[slot.name] = kind(slot.name, slot.help)
            each = [row[index] for row in self.rows]
            value = max(each, default=0) if slot.kind == "shared" else sum(each)
            values[slot.name].append((slot.labels, value))
        for name, family in families.items():
            suffix = "_total" if isinstance(family, CounterMetricFamily) else ""
            for labels, value in values[name]:
                family.add_sample(name + suffix, dict(labels), value)
            yield family
        yield from _histograms(self.rows)
        if self.names_fd is not None:
            yield from _named(self.names_fd)
        yield self._worker_connections()
        yield _build_info()
        yield GaugeMetricFamily("zerocopy_workers", "Workers that accept.", self.workers)
        yield CounterMetricFamily(
            "zerocopy_worker_restarts", "Workers started again.", self.worker_restarts
        )
        yield GaugeMetricFamily(
            "zerocopy_generation", "Configurations served so far: 1 and reloads.", self.generation
        )
        reloads = CounterMetricFamily(
            "zerocopy_reloads", "Reloads by SIGHUP, by what came of them.", labels=["result"]
        )
        for result, count in self.reloads.items():
            reloads.add_metric([result], count)
        yield reloads
        yield from self._key_set()
        if self.limits_store_up is not None:
            yield GaugeMetricFamily(
                "zerocopy_limits_store_up",
                "1 if the last exchange with the Redis of [auth] limits_url came about.",
                self.limits_store_up,
            )

    def _key_set(self) -> Iterator[Metric]:
        """The key set of tokens; without an URL none was fetched, and none has an age."""
        fetches = CounterMetricFamily(
            "zerocopy_jwks_fetches",
            "Fetches of the key set of tokens, by what came of them.",
            labels=["result"],
        )
        for result, count in self.key_set_fetches.items():
            fetches.add_metric([result], count)
        yield fetches
        age = GaugeMetricFamily(
            "zerocopy_jwks_age_seconds", "Seconds since the key set of tokens was last fetched."
        )
        if self.key_set_fetched_at_s:
            age.add_metric([], time.monotonic() - self.key_set_fetched_at_s)
        yield age

    def _worker_connections(self) -> Metric:
        """How the kernel has spread the connections over places; those of old generations count."""
        family = GaugeMetricFamily(
            "zerocopy_worker_connections", "Connections open now, by worker.", labels=["worker"]
        )
        open_now: dict[int, int] = {}
        for row, worker in sorted(self.workers_by_row.copy().items()):
            connections = sum(self.rows[row][CONNECTIONS : CONNECTIONS + len(TRANSPORTS)])
            open_now[worker] = open_now.get(worker, 0) + connections
        for worker, connections in sorted(open_now.items()):
            family.add_metric([str(worker)], connections)
        return family


def _histograms(rows: Sequence[memoryview]) -> Iterator[Metric]:
    """The histograms of all rows together, cumulative as Prometheus wants them, in seconds."""
    families: dict[str, HistogramMetricFamily] = {}
    for name, labels, text, first, bounds_ns in HISTOGRAMS:
        if name not in families:
            keys = [key for key, _ in labels]
            families[name] = HistogramMetricFamily(name, text, labels=keys)
        *counts, total_ns = (
            sum(row[slot] for row in rows) for slot in range(first, first + len(bounds_ns) + 2)
        )
        ends = [*(repr(bound / 1e9) for bound in bounds_ns), "+Inf"]
        buckets = list(zip(ends, accumulate(counts), strict=True))
        values = [value for _, value in labels]
        families[name].add_metric(values, buckets=buckets, sum_value=total_ns / 1e9)
    yield from families.values()


_NAMED_HELP = {
    "requests": "Requests of each key or token that have ended, those cut off among them.",
    "sent_bytes": "Bytes of content given to the kernel for each key or token.",
    "refusals": "Requests of each key or token for what it may not see, or beyond its limits.",
}


def _named(names_fd: int) -> Iterator[Metric]:
    """What each key or token asked for; the first 500 names of a worker have their own series."""
    found = named_counters.totals(names_fd)
    for place, what in enumerate(TALLIED):
        name = f"zerocopy_key_{what}"
        family = CounterMetricFamily(name, _NAMED_HELP[what], labels=["key"])
        for key, counts in found.items():
            family.add_metric([key], counts[place])
        yield family


def _build_info() -> Metric:
    """What runs, as the labels of a 1: to join with, or to see an upgrade go by."""
    family = GaugeMetricFamily(
        "zerocopy_build_info", "1; what runs, in labels.", labels=["version", "python"]
    )
    family.add_metric([__version__, platform.python_version()], 1)
    return family


def serve_metrics(collector: Collector, family: int, address: tuple[Any, ...]) -> int:
    """Serve `collector` at /metrics from a thread; the port it listens on.

    Raises:
        OSError: the address cannot be bound.
    """
    registry = CollectorRegistry(auto_describe=True)  # so that /metrics?name[]=… finds them
    registry.register(collector)
    ProcessCollector(registry=registry)  # of the supervisor: since when it runs, what it holds
    server = MetricsServer(family, address, make_wsgi_app(registry))
    threading.Thread(target=server.serve, name="metrics", daemon=True).start()
    return server.server_port
