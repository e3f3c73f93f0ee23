"""Pass or fail: what a run has to show, in a few lines and one exit code.

Owns the thresholds and the summary. A run passes when every path that was asked for answered, none
of its answers was wrong, and the bounds that were set on p99 and throughput were kept.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from locust.stats import StatsEntry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from locust.stats import RequestStats

MB = 1_000_000
REASONS_MAX = 5
_ROW = "{:10}{:>10}{:>8}{:>8}{:>8}{:>10}{:>10}"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is asked of a run beside that nothing fails; 0 asks nothing."""

    p99_ms_max: float = 0.0
    mb_s_min: float = 0.0


@dataclass(frozen=True, slots=True)
class PathResult:
    """How one path did."""

    path: str
    requests: int
    failures: int
    p50_ms: float
    p99_ms: float
    requests_s: float
    mb_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """The whole run; it has passed when there is nothing to object to."""

    results: list[PathResult]
    objections: list[str]

    @property
    def exit_code(self) -> int:
        """0 passed, 1 failed."""
        return 1 if self.objections else 0

    def lines(self) -> Iterable[str]:
        """The summary."""
        yield _ROW.format("path", "requests", "failed", "p50 ms", "p99 ms", "req/s", "MB/s")
        for one in self.results:
            rates = f"{one.requests_s:.1f}", f"{one.mb_s:.1f}"
            times = f"{one.p50_ms:.0f}", f"{one.p99_ms:.0f}"
            yield _ROW.format(one.path, one.requests, one.failures, *times, *rates)
        for objection in self.objections:
            yield f"FAIL: {objection}"
        if not self.objections:
            yield "PASS: every answer was right"


def judge(stats: RequestStats, paths: Iterable[str], bounds: Bounds) -> Verdict:
    """What the run showed on each of `paths`."""
    results = [_result(stats, path) for path in paths]
    objections: list[str] = []
    for one in results:
        if not one.requests:
            objections.append(f"{one.path}: nothing was answered")
        if one.failures:
            objections.append(f"{one.path}: {one.failures} of {one.requests} requests failed")
        if 0 < bounds.p99_ms_max < one.p99_ms:
            objections.append(f"{one.path}: p99 {one.p99_ms:.0f} ms, bound {bounds.p99_ms_max:g}")
        if one.mb_s < bounds.mb_s_min:
            objections.append(f"{one.path}: {one.mb_s:.1f} MB/s, bound {bounds.mb_s_min:g}")
    if not results:
        objections.append("there was no server to ask: --plain-url, --tls-url or --host")
    reasons: Counter[str] = Counter()
    for error in stats.errors.values():
        reasons[f"{error.method} {error.name}: {error.error}"] += error.occurrences
    objections += [f"{count} times {reason}" for reason, count in reasons.most_common(REASONS_MAX)]
    return Verdict(results, objections)


def _result(stats: RequestStats, path: str) -> PathResult:
    """All kinds of requests of one path added up."""
    total = StatsEntry(stats, path, path, use_response_times_cache=False)
    total.start_time = stats.start_time
    for entry in stats.entries.values():
        if entry.method == path:
            total.extend(entry)
    seconds = max((stats.last_request_timestamp or 0) - stats.start_time, 1e-3)
    return PathResult(
        path=path,
        requests=total.num_requests,
        failures=total.num_failures,
        p50_ms=total.get_response_time_percentile(0.5),
        p99_ms=total.get_response_time_percentile(0.99),
        requests_s=total.num_requests / seconds,
        mb_s=total.total_content_length / seconds / MB,
    )
