"""What two scrapes of a server tell about it: rates, quantiles, shares, and what it holds.

Owns the list of figures and their arithmetic, which is that of Prometheus. It must never read a
clock, a socket or a terminal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from zerocopy.commands.status.scrape import Page

_DURATION = "zerocopy_request_duration_seconds"
_LAG = "zerocopy_loop_lag_seconds"
_REQUESTS = "zerocopy_requests_total"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report; None where the server does not tell, or nothing happened.

    `now` is a rate between the scrapes, or what is held at this moment; `since_start` is a sum, or
    the same over the whole life of the server. `unit` is of both: count, bytes, seconds, share.
    """

    key: str
    label: str
    unit: str
    now: float | None
    since_start: float | None
    is_rate: bool = False


def figures_of(before: Page, after: Page) -> list[Figure]:
    """Every figure, in the order of the report."""
    pair = _Pair(before, after)
    return [
        pair.counter("requests", "requests", _REQUESTS),
        pair.counter("requests_data", "requests of data", _REQUESTS, endpoint="data"),
        pair.counter("requests_symbols", "requests of symbols", _REQUESTS, endpoint="symbols"),
        pair.share(
            "refused", "refused as wrong (4xx)", pair.statuses("4"), pair.statuses(""), after
        ),
        pair.share("failed", "failed (5xx)", pair.statuses("5"), pair.statuses(""), after),
        pair.quantile("data_p50", "data answered, p50", 0.5, _DURATION, endpoint="data"),
        pair.quantile("data_p99", "data answered, p99", 0.99, _DURATION, endpoint="data"),
        pair.counter(
            "sent_sendfile",
            "sent by sendfile",
            "zerocopy_sent_bytes_total",
            "bytes",
            path="sendfile",
        ),
        pair.counter(
            "sent_copy", "sent by copy", "zerocopy_sent_bytes_total", "bytes", path="copy"
        ),
        pair.counter("aborted", "answers cut off", "zerocopy_transfers_aborted_total"),
        pair.gauge(
            "connections_plain", "connections, plain", "zerocopy_connections", transport="plain"
        ),
        pair.gauge("connections_tls", "connections, tls", "zerocopy_connections", transport="tls"),
        pair.counter("accepted", "connections accepted", "zerocopy_connections_accepted_total"),
        pair.counter(
            "connections_refused", "connections refused", "zerocopy_connections_refused_total"
        ),
        pair.gauge("streams", "HTTP/2 streams", "zerocopy_streams"),
        pair.gauge("in_flight", "requests in flight", "zerocopy_requests_in_flight"),
        pair.share(
            "plans_reused",
            "plans reused",
            lambda page: page.total("zerocopy_plans_reused_total"),
            lambda page: _sum(
                page.total("zerocopy_plans_reused_total"), page.total("zerocopy_plans_made_total")
            ),
            after,
        ),
        pair.gauge("plan_cache", "plans kept", "zerocopy_plan_cache_bytes", "bytes"),
        pair.gauge("rollups", "roll-ups kept", "zerocopy_rollup_bytes", "bytes"),
        pair.gauge("rollup_files", "roll-up files", "zerocopy_rollup_file_bytes", "bytes"),
        pair.counter("rollups_used", "roll-ups used", "zerocopy_rollups_used_total"),
        pair.counter("rollups_made", "roll-ups made", "zerocopy_rollups_made_total"),
        pair.counter(
            "rollup_files_deleted", "roll-up files deleted", "zerocopy_rollup_files_deleted_total"
        ),
        pair.gauge("open_files", "day files open", "zerocopy_open_files"),
        pair.gauge("mapped", "mapped", "zerocopy_mapped_bytes", "bytes"),
        pair.gauge("locked", "locked", "zerocopy_locked_bytes", "bytes"),
        pair.counter("cold_bytes", "read from the disk", "zerocopy_cold_bytes_total", "bytes"),
        pair.counter("cold_reads", "windows read from the disk", "zerocopy_cold_reads_total"),
        *_store_figures(pair, after),
        pair.counter("days_skipped", "days left out", "zerocopy_days_skipped_total"),
        pair.counter("days_unsound", "days unsound", "zerocopy_days_unsound_total"),
        pair.gauge("watched", "directories watched", "zerocopy_watched_directories"),
        pair.counter("walks", "walks over the root", "zerocopy_symbol_walks_total"),
        pair.quantile("lag_p50", "event loop late, p50", 0.5, _LAG),
        pair.quantile("lag_p99", "event loop late, p99", 0.99, _LAG),
        pair.counter("log_lines_dropped", "log lines dropped", "zerocopy_log_lines_dropped_total"),
        pair.counter(
            "reloads_refused", "reloads refused", "zerocopy_reloads_total", result="refused"
        ),
    ]


def _store_figures(pair: _Pair, after: Page) -> list[Figure]:
    """Of a server over an object store."""
    return [
        pair.share(
            "store_hits",
            "files of the store that were here",
            lambda page: page.total("zerocopy_store_cache_hits_total"),
            lambda page: _sum(
                page.total("zerocopy_store_cache_hits_total"),
                page.total("zerocopy_store_fetches_total"),
            ),
            after,
        ),
        pair.counter(
            "store_bytes", "fetched from the store", "zerocopy_store_bytes_total", "bytes"
        ),
        pair.counter("store_failures", "not fetched", "zerocopy_store_failures_total"),
        pair.gauge("store_cache", "cache of the store", "zerocopy_store_cache_bytes", "bytes"),
    ]


def quantile_of(quantile: float, buckets: Iterable[tuple[float, float]]) -> float | None:
    """The quantile of a histogram of (upper end, count up to it), as histogram_quantile() has it.

    Inside a bucket the observations are taken as evenly spread; beyond the last end there is none
    to give but that end. None when nothing was observed.
    """
    ordered = sorted(buckets)
    if not ordered or ordered[-1][0] != math.inf or ordered[-1][1] <= 0:
        return None
    rank = quantile * ordered[-1][1]
    lower, below = 0.0, 0.0
    for upper, count in ordered:
        if count >= rank and count > below:
            if upper == math.inf:
                return lower
            return lower + (upper - lower) * (rank - below) / (count - below)
        lower, below = upper, max(below, count)
    return None


class _Pair:
    """Two scrapes of one server, and the figures that follow from both."""

    def __init__(self, before: Page, after: Page) -> None:
        self._before = before
        self._after = after
        self._seconds = max(after.at_s - before.at_s, 1e-9)

    def counter(
        self, key: str, label: str, name: str, unit: str = "count", **labels: str
    ) -> Figure:
        """A sum since the start, and its rate."""
        end = self._after.total(name, **labels)
        grown = _grown(self._before.total(name, **labels), end)
        rate = None if grown is None else grown / self._seconds
        return Figure(key, label, unit, rate, end, is_rate=True)

    def gauge(self, key: str, label: str, name: str, unit: str = "count", **labels: str) -> Figure:
        """What is held now."""
        return Figure(key, label, unit, self._after.total(name, **labels), None)

    def quantile(self, key: str, label: str, quantile: float, name: str, **labels: str) -> Figure:
        """A quantile of what was observed between the scrapes, and of everything."""
        first, last = _buckets(self._before, name, labels), _buckets(self._after, name, labels)
        grown = [(end, _grown(first.get(end), count) or 0.0) for end, count in last.items()]
        now, ever = quantile_of(quantile, grown), quantile_of(quantile, last.items())
        return Figure(key, label, "seconds", now, ever)

    def share(
        self,
        key: str,
        label: str,
        part: Callable[[Page], float | None],
        whole: Callable[[Page], float | None],
        after: Page,
    ) -> Figure:
        """A part of a whole, between the scrapes and since the start."""
        now = _ratio(
            _grown(part(self._before), part(after)), _grown(whole(self._before), whole(after))
        )
        return Figure(key, label, "share", now, _ratio(part(after), whole(after)))

    @staticmethod
    def statuses(first_digit: str) -> Callable[[Page], float | None]:
        """How many requests were answered with a status that begins so."""

        def count(page: Page) -> float | None:
            found = page.values(_REQUESTS, "status")
            return (
                math.fsum(
                    value for status, value in found.items() if status.startswith(first_digit)
                )
                if found
                else None
            )

        return count


def _grown(before: float | None, after: float | None) -> float | None:
    """By how much a counter grew; one that is smaller began anew."""
    if after is None or before is None:
        return None
    return after - before if after >= before else after


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def _buckets(page: Page, name: str, labels: dict[str, str]) -> dict[float, float]:
    """Counts up to each end, over all series that have these labels."""
    sums: dict[float, float] = {}
    for key, value in page.samples.get(f"{name}_bucket", {}).items():
        found = dict(key)
        end = found.pop("le", "")
        if labels.items() <= found.items():
            try:
                upper = float(end)
            except ValueError:
                continue
            sums[upper] = sums.get(upper, 0.0) + value
    return sums
