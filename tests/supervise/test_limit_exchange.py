"""The supervisor's exchange of limits: when it runs, and what it says of a store that fails."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from zerocopy.access.exchange import AwayError
from zerocopy.access.shared_counts import STREAMS, SharedCounts, make_counts, meter_of
from zerocopy.core.errors import ConfigError
from zerocopy.observe.counter_rows import make_counters
from zerocopy.observe.metrics import Collector
from zerocopy.supervise import limit_exchange
from zerocopy.supervise.limit_exchange import LimitExchange
from zerocopy.supervise.shared_counters import SharedCounters, limits_row

if TYPE_CHECKING:
    from collections.abc import Iterator

URL = "redis://127.0.0.1:1/0"


class Steps:
    """Exchanges that fail or not as told; a test waits until so many have come about."""

    def __init__(self) -> None:
        self.done = 0
        self.is_away = False
        self.error: Exception = AwayError("Connection refused")
        self.moved = threading.Condition()

    def step(self) -> int:
        """See `Exchange`."""
        with self.moved:
            self.done += 1
            self.moved.notify_all()
            if self.is_away:
                raise self.error
        return 0

    def wait(self, more: int = 2) -> None:
        """Until so many more have ended: the one that begins last may not have."""
        with self.moved:
            least = self.done + more
            assert self.moved.wait_for(lambda: self.done >= least, 20)


class Bench:
    """The exchange under test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.collector = Collector(make_counters(0), 0)
        self.steps = Steps()
        self.fd = make_counts()
        self.exchange = LimitExchange(self.fd, self.collector)
        monkeypatch.setattr(limit_exchange, "_make", lambda _fd, _url: self.steps)
        monkeypatch.setattr(limit_exchange, "RETRY_S", 0.01)
        monkeypatch.setattr(limit_exchange, "EXCHANGE_S", 0.01)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """With exchanges that follow each other at once."""
    made = Bench(monkeypatch)
    yield made
    made.exchange.stop()
    os.close(made.fd)


def names(bench: Bench) -> set[str]:
    """The metrics there are."""
    return {metric.name for metric in bench.collector.collect()}


def test_without_a_url_nothing_runs(bench: Bench) -> None:
    """And nobody is told of a store."""
    bench.exchange.configure(None)
    assert bench.collector.limits_store_up is None
    assert "zerocopy_limits_store_up" not in names(bench)
    assert "limits" not in {thread.name for thread in threading.enumerate()}


def test_a_store_that_is_away_is_told_once_and_once_that_it_is_back(bench: Bench) -> None:
    """Not for each exchange that fails."""
    with capture_logs() as told:
        bench.exchange.configure(URL)
        bench.steps.wait()
        assert bench.collector.limits_store_up is True
        assert "zerocopy_limits_store_up" in names(bench)
        bench.steps.is_away = True
        bench.steps.wait(4)
        assert bench.collector.limits_store_up is False
        bench.steps.is_away = False
        bench.steps.wait()
        bench.exchange.stop()
    assert [(line["event"], line["log_level"]) for line in told] == [
        ("limits_store_away", "error"),
        ("limits_store_back", "info"),
    ]
    assert told[0]["reason"] == "Connection refused"
    assert told[1]["away_s"] >= 0


def test_an_error_that_nobody_foresaw_ends_no_exchange(bench: Bench) -> None:
    """A library's: the store is away meanwhile, and back when it is."""
    bench.steps.error, bench.steps.is_away = LookupError("no slot"), True
    with capture_logs() as told:
        bench.exchange.configure(URL)
        bench.steps.wait(3)
        assert bench.collector.limits_store_up is False
        bench.steps.is_away = False
        bench.steps.wait()
        bench.exchange.stop()
    assert [line["event"] for line in told] == ["limits_store_away", "limits_store_back"]
    assert told[0]["reason"] == "LookupError('no slot')"


def test_a_reload_goes_on_with_the_same_store_and_leaves_another(bench: Bench) -> None:
    """What was exchanged with a store is known as long as it is the same one."""
    bench.exchange.configure(URL)
    thread = bench.exchange._thread
    bench.exchange.configure(URL)
    assert bench.exchange._thread is thread
    bench.exchange.configure("redis://127.0.0.1:2/0")
    assert thread is not None
    assert not thread.is_alive()
    bench.steps.wait()
    bench.exchange.configure(None)
    assert bench.exchange._thread is None
    assert bench.collector.limits_store_up is None


def test_without_the_extra_the_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line says what to install."""
    monkeypatch.setitem(sys.modules, "zerocopy.access.redis_store", None)
    fd = make_counts()
    with pytest.raises(ConfigError, match=r"pip install 'zerocopy\[auth\]'"):
        LimitExchange(fd, Collector(make_counters(0), 0)).configure(URL)
    os.close(fd)


def test_streams_of_a_worker_that_died_are_wiped_out() -> None:
    """As its gauges are, as soon as it is reaped."""
    counters = SharedCounters(Collector(make_counters(0), 0))
    row, other = counters.take(0), counters.take(1)
    dead = SharedCounts(counters.limits_fd, limits_row(row))
    alive = SharedCounts(counters.limits_fd, limits_row(other))
    for counts in (dead, alive):
        counts.begin()
        counts.add_stream(meter_of(STREAMS, "desk"))
    assert alive.streams(meter_of(STREAMS, "desk")) == 2
    counters.wipe(row)
    assert alive.streams(meter_of(STREAMS, "desk")) == 1
