"""The arithmetic of `zerocopy status`: rates, shares and quantiles of two scrapes."""

from __future__ import annotations

import math

import pytest

from zerocopy.commands.status.figures import Figure, figures_of, quantile_of
from zerocopy.commands.status.scrape import Page

REQUESTS = "zerocopy_requests_total"
DURATION = "zerocopy_request_duration_seconds_bucket"
SENT = "zerocopy_sent_bytes_total"


def page(at_s: float, *samples: tuple[str, dict[str, str], float]) -> Page:
    """A page of these samples."""
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for name, labels, value in samples:
        found.setdefault(name, {})[frozenset(labels.items())] = value
    return Page(at_s, found)


def figure_of(key: str, before: Page, after: Page) -> Figure:
    """One figure of the report."""
    return next(figure for figure in figures_of(before, after) if figure.key == key)


def requests(at_s: float, right: float, wrong: float, failed: float) -> Page:
    """A page with requests of three statuses, the right ones of both transports."""
    return page(
        at_s,
        (REQUESTS, {"transport": "plain", "endpoint": "data", "status": "200"}, right),
        (REQUESTS, {"transport": "tls", "endpoint": "data", "status": "200"}, right),
        (REQUESTS, {"transport": "plain", "endpoint": "other", "status": "404"}, wrong),
        (REQUESTS, {"transport": "plain", "endpoint": "data", "status": "503"}, failed),
    )


def test_rate_is_growth_over_the_time_between_the_scrapes() -> None:
    """Series of all transports count together, labels choose among them, and the sum stands by."""
    before, after = requests(10.0, 100, 10, 0), requests(12.0, 150, 10, 0)
    assert figure_of("requests", before, after).now == 50
    assert figure_of("requests", before, after).since_start == 310
    assert figure_of("requests_symbols", before, after).now is None
    assert figure_of("requests_data", before, after).since_start == 300


def test_shares_are_of_the_interval_and_of_the_whole_life() -> None:
    """What went wrong long ago shows only since the start."""
    before, after = requests(0.0, 100, 20, 20), requests(1.0, 145, 30, 20)
    assert figure_of("refused", before, after).now == pytest.approx(0.1)
    assert figure_of("failed", before, after).now == 0
    assert figure_of("failed", before, after).since_start == pytest.approx(20 / 340)
    assert figure_of("failed", before, before).now is None, "no request, no share"


def test_counter_that_fell_began_anew() -> None:
    """A server that was started again between the scrapes has no negative rate."""
    before = page(0.0, (SENT, {"path": "copy"}, 1_000.0))
    after = page(2.0, (SENT, {"path": "copy"}, 300.0))
    assert figure_of("sent_copy", before, after).now == 150


def test_pages_without_samples_have_no_figures() -> None:
    """A metric the server does not know is nothing, and not zero."""
    assert all(
        figure.now is None and figure.since_start is None
        for figure in figures_of(page(0.0), page(1.0))
    )


@pytest.mark.parametrize(
    ("quantile", "buckets", "expected"),
    [
        (0.5, [(0.1, 0), (0.2, 10), (math.inf, 10)], 0.15),
        (0.99, [(0.1, 50), (0.2, 100), (math.inf, 100)], 0.198),
        (0.5, [(0.1, 10), (math.inf, 10)], 0.05),
        (0.99, [(0.1, 10), (math.inf, 20)], 0.1),  # beyond the last end
        (0.5, [(0.1, 0), (math.inf, 0)], None),  # nothing observed
        (0.5, [(0.1, 5)], None),  # no end: no histogram
        (0.5, [], None),
        (0.5, [(0.2, 10), (math.inf, 10), (0.1, 20)], 0.025),  # not cumulative, out of order
    ],
)
def test_quantile_is_that_of_prometheus(
    quantile: float, buckets: list[tuple[float, float]], expected: float | None
) -> None:
    """Linear inside a bucket, the last end beyond it, and no answer from nothing."""
    assert quantile_of(quantile, buckets) == (
        expected if expected is None else pytest.approx(expected)
    )


def test_quantile_now_counts_only_what_came_between() -> None:
    """Slow answers of the past do not show in the present."""

    def durations(at_s: float, quick: float, slow: float) -> Page:
        of = {"transport": "plain", "endpoint": "data"}
        return page(
            at_s,
            (DURATION, {**of, "le": "0.001"}, quick),
            (DURATION, {**of, "le": "1.0"}, quick + slow),
            (DURATION, {**of, "le": "+Inf"}, quick + slow),
            (DURATION, {**of, "le": "junk"}, 1e9),
        )

    figure = figure_of("data_p99", durations(0.0, 0, 100), durations(1.0, 100, 100))
    assert figure.now == pytest.approx(0.00099)
    assert figure.since_start is not None
    assert figure.since_start > 0.9
