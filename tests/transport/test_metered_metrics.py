"""Bytes of a name: counted when they are promised, given back when they were not sent."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from zerocopy.core.access import Grant
from zerocopy.core.counters import PLAIN, REQUESTS_IN_FLIGHT, SLOTS
from zerocopy.core.http.messages import Request, Response
from zerocopy.observe.named_counters import OTHERS, NamedCounters, add_row, make_names, totals
from zerocopy.transport.metered_metrics import MeteredMetrics

if TYPE_CHECKING:
    from zerocopy.core.http.pending import PendingRequest

TODAY = 20_000


class Meter:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.spent: list[int] = []
        self.given: list[tuple[int, int]] = []

    def admits(self, _nbytes: int, _times: int, _now_s: float) -> bool:
        """Whatever is asked."""
        return True

    def spend(self, nbytes: int) -> int:
        """See `Usage`."""
        self.spent.append(nbytes)
        return TODAY

    def give_back(self, nbytes: int, day: int) -> None:
        """See `Usage`."""
        self.given.append((nbytes, day))


def granted(method: bytes = b"GET", name: str = "desk") -> tuple[Request, Meter]:
    """A request of somebody whose bytes are counted."""
    request, grant, meter = Request(method, b"/api/data", ()), Grant(name), Meter()
    grant.usage = meter
    request.be_granted(grant)
    return request, meter


@pytest.fixture
def metrics() -> MeteredMetrics:
    """Those of a plain listener that counts by name."""
    return MeteredMetrics(PLAIN, [0] * len(SLOTS), None, lambda _grant, _nbytes, _times: None)


def test_a_batch_tells_what_it_has_sent(metrics: MeteredMetrics) -> None:
    """Equal responses count each; so batches must see that somebody listens."""
    request, meter = granted()
    assert metrics.access is not None
    metrics.note(request, Response(200, (), bytes(100)), 0, 7)
    assert meter.spent == [700]


def test_what_was_spent_one_by_one_is_not_spent_once_more(metrics: MeteredMetrics) -> None:
    """The lane of HTTP/2 does so, for whoever is judged next in the same turn."""
    request, meter = granted()
    metrics.spend(request, Response(200, (), bytes(100)))
    assert meter.spent == [100]
    metrics.note_spent(request, Response(200, (), bytes(100)), 0, 1)
    assert meter.spent == [100]


@pytest.mark.parametrize(
    ("method", "status", "counted"),
    [(b"GET", 200, 100), (b"GET", 206, 100), (b"HEAD", 200, 0), (b"GET", 404, 0)],
)
def test_content_counts_but_not_that_of_errors(
    metrics: MeteredMetrics, method: bytes, status: int, counted: int
) -> None:
    """HEAD has none."""
    request, meter = granted(method)
    response = Response(status, (), bytes(100))
    metrics.answered(request, response, 0)
    pending = metrics.begin(request, 0)
    metrics.promise(pending, response)
    metrics.end(pending)
    assert meter.spent == [counted, counted]
    assert meter.given == []


def test_what_was_not_sent_is_given_back_to_its_day(metrics: MeteredMetrics) -> None:
    """All of a response counts from its status line on; never more comes back."""
    request, meter = granted()
    for left_bytes, given in ((0, []), (30, [(30, TODAY)]), (130, [(30, TODAY), (100, TODAY)])):
        pending = metrics.begin(request, 0)
        metrics.promise(pending, Response(200, (), bytes(100)))
        pending.left_bytes = left_bytes
        metrics.end(pending)
        assert meter.given == given
    assert meter.spent == [100] * 3


def test_a_request_that_ends_before_its_response_costs_nothing(metrics: MeteredMetrics) -> None:
    """Its client has left."""
    request, meter = granted()
    pending = metrics.begin(request, 0)
    assert metrics._counters[REQUESTS_IN_FLIGHT] == 1
    metrics.end(pending)
    assert metrics._counters[REQUESTS_IN_FLIGHT] == 0
    assert (meter.spent, meter.given) == ([], [])


def test_who_asks_may_be_known_of_the_request_under_way_alone(metrics: MeteredMetrics) -> None:
    """As for a listing, which is asked for its grant each time."""
    grant, meter = Grant("desk"), Meter()
    grant.usage = meter
    pending = metrics.begin(Request(b"GET", b"/api/symbols", ()), 0)
    pending.grant = grant
    metrics.promise(pending, Response(200, (), bytes(100)))
    metrics.end(pending)
    assert meter.spent == [100]


@pytest.mark.parametrize("has_log", [False, True])
def test_each_request_counts_for_its_name_from_the_first_to_the_last(*, has_log: bool) -> None:
    """The first finds the counts of the name, the next have them, with limits or a log or none."""
    logged: list[PendingRequest] = []
    log = (lambda _, pending, __: logged.append(pending)) if has_log else None
    names_fd = make_names()
    add_row(names_fd, 1)
    metrics = MeteredMetrics(PLAIN, [0] * len(SLOTS), log, NamedCounters(names_fd, 0).tally)
    get, head = (Request(method, b"/api/data", ()) for method in (b"GET", b"HEAD"))
    for request in (get, head):
        request.be_granted(Grant("desk"))
    limited, _ = granted(name="limited")
    for request in (get, head, limited, Request(b"GET", b"/healthz", ())):
        for times in (1, 2):
            metrics.note(request, Response(200, (), bytes(100)), 0, times)
    told = totals(names_fd)
    os.close(names_fd)
    assert told == {OTHERS: (0, 0, 0), "desk": (6, 300, 0), "limited": (3, 300, 0)}
    assert len(logged) == 12 * has_log


def test_nobody_and_those_without_a_limit_cost_nothing(metrics: MeteredMetrics) -> None:
    """Their responses are counted as ever."""
    open_request, free = Request(b"GET", b"/healthz", ()), Request(b"GET", b"/api/data", ())
    free.be_granted(Grant("free"))
    for request in (open_request, free):
        metrics.answered(request, Response(200, (), b"x"), 0)
        pending = metrics.begin(request, 0)
        metrics.promise(pending, Response(200, (), b"x"))
        pending.left_bytes = 1
        metrics.end(pending)
    assert (
        sum(metrics._counters[s] for endpoint in metrics.slots for s in {*endpoint.values()}) == 4
    )
