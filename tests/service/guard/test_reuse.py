"""What is refused by a limit, or is judged anew, is no second use of a kept response."""

from __future__ import annotations

import os
import time
from array import array
from typing import TYPE_CHECKING

import pytest

from tests.service.guard.bench import SEEN, GuardedBench, make_root
from tests.storage.trees import age
from zerocopy.access.limits import Limits
from zerocopy.access.shared_counts import SharedCounts, add_rows, make_counts
from zerocopy.core import counters as slots

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TARGET = "/api/data?symbol=BTC-USD&type=MD&start=0&end=99&columns=time,price"
PER_S = 4


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GuardedBench]:
    """A guard with limits, in a second that does not end, over files that have settled."""
    make_root(tmp_path / "root", SEEN)
    age(*(os.path.join(at, name) for at, _, names in os.walk(tmp_path) for name in names))
    fd = make_counts()
    add_rows(fd, 2)
    counters = array("Q", bytes(8 * len(slots.SLOTS)))
    monkeypatch.setattr(time, "time", lambda: 1_000.5)
    limits = Limits(SharedCounts(fd, 1), counters, clock=time.time)
    bench = GuardedBench(tmp_path / "root", tmp_path / "keys.json", limits)
    yield bench
    bench.close()
    os.close(fd)


def used(bench: GuardedBench) -> int:
    """Plans that were made, or used again."""
    return bench.inner.counters[slots.PLANS_MADE] + bench.inner.counters[slots.PLANS_REUSED]


def test_each_admitted_request_is_one_use_of_a_plan(bench: GuardedBench) -> None:
    """Those that are refused use none."""
    key = bench.add("requests", requests_per_s=PER_S)
    statuses = [bench.ask(TARGET, key).status for _ in range(2 * PER_S)]
    assert statuses == PER_S * [200] + PER_S * [429]
    assert bench.inner.counters[slots.PLANS_MADE] == 1
    assert used(bench) == PER_S


def test_what_does_not_fit_together_is_not_counted_together(bench: GuardedBench) -> None:
    """A batch that does not fit as a whole is judged by its requests; they alone are counted."""
    key = bench.add("batch", requests_per_s=PER_S)
    assert bench.ask(TARGET, key).status == 200
    [request] = bench.known
    assert bench.guard.respond_now(request, PER_S) is None
    assert used(bench) == 1
    assert bench.guard.respond_now(request, 0) is not None
    assert used(bench) == 1
    assert bench.guard.respond_now(request, PER_S - 1) is not None
    assert used(bench) == PER_S


def test_what_no_plan_makes_is_none(bench: GuardedBench) -> None:
    """The description of the interface is kept, too."""
    key = bench.add("description", requests_per_s=PER_S)
    assert {bench.ask("/openapi.json", key).status for _ in range(2)} == {200}
    assert used(bench) == 0
