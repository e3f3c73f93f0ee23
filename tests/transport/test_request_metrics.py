"""What a listener counts of its requests, on every way that an answer can take."""

from __future__ import annotations

import time

import pytest

from tests.table import each
from tests.transport.http1.bench import (
    LARGE,
    OTHER_200,
    Bench,
    FileSource,
    answer,
    receive,
    request,
    run,
    until,
)
from zerocopy.core.access import Grant
from zerocopy.core.counters import (
    LOOP_LAG,
    PLAIN,
    REQUESTS_IN_FLIGHT,
    SLOTS,
    TLS,
    Histogram,
    duration_of,
    requests_slot,
)
from zerocopy.core.endpoints import DATA, OTHER
from zerocopy.core.http.messages import REASONS, Request, Response
from zerocopy.core.http.pending import PendingRequest
from zerocopy.transport import request_metrics as account_module
from zerocopy.transport.request_metrics import RequestMetrics

PLAIN_OTHER = duration_of(PLAIN, OTHER)


def observed(counters: list[int], histogram: Histogram) -> int:
    """How many observations a histogram has."""
    return sum(counters[histogram.first : histogram.first + len(histogram.bounds_ns) + 1])


def total_ns(counters: list[int], histogram: Histogram) -> int:
    """The sum of all of them."""
    return counters[histogram.first + len(histogram.bounds_ns) + 1]


@each("status", REASONS)
def test_every_status_there_is_has_a_place(status: int) -> None:
    """No response can be one that is not counted."""
    counters = [0] * len(SLOTS)
    RequestMetrics(TLS, counters).count(Request(b"GET", b"/api/data", ()), Response(status, ()), 3)
    assert counters[requests_slot(TLS, DATA, status)] == 3
    assert sum(counters) == 3


def test_request_under_way_is_timed_when_it_ends() -> None:
    """It is in flight from its beginning; its duration counts from the moment it was read."""
    counters = [0] * len(SLOTS)
    metrics = RequestMetrics(TLS, counters)
    begun_ns = time.monotonic_ns() - 5_000_000_000
    pending = metrics.begin(Request(b"GET", b"/api/data", ()), begun_ns)
    assert counters[REQUESTS_IN_FLIGHT] == 1
    metrics.promise(pending, Response(200, (), b"x"))
    assert observed(counters, duration_of(TLS, DATA)) == 0
    metrics.end(pending)
    assert counters[REQUESTS_IN_FLIGHT] == 0
    assert observed(counters, duration_of(TLS, DATA)) == 1
    assert 5e9 <= total_ns(counters, duration_of(TLS, DATA)) < 15e9


@pytest.mark.parametrize("is_promised", [True, False])
def test_answer_that_was_cut_off_has_no_duration(*, is_promised: bool) -> None:
    """How long it took to fail would make a slow server look fast."""
    counters, noted = [0] * len(SLOTS), list[tuple[str, PendingRequest]]()
    metrics = RequestMetrics(TLS, counters, lambda transport, it, _: noted.append((transport, it)))
    pending = metrics.begin(Request(b"GET", b"/api/data", ()), 0)
    if is_promised:
        metrics.promise(pending, Response(200, (), b"x"))
        pending.left_bytes = 1
    metrics.end(pending)
    assert observed(counters, duration_of(TLS, DATA)) == 0
    assert counters[REQUESTS_IN_FLIGHT] == 0
    assert noted == [("tls", pending)]


@pytest.mark.parametrize("has_log", [False, True])
def test_tally_counts_each_ended_request_of_a_grant_with_the_bytes_that_left(
    *, has_log: bool
) -> None:
    """At once, many together, HEAD, cut off, never begun; without a grant nothing."""
    told: list[tuple[str, int, int]] = []
    noted: list[PendingRequest] = []
    access = (lambda _, pending, __: noted.append(pending)) if has_log else None

    def tally(grant: Grant, nbytes: int, times: int) -> None:
        told.append((grant.name, nbytes, times))

    metrics = RequestMetrics(TLS, [0] * len(SLOTS), access, tally)
    response, grant = Response(200, (), b"12345"), Grant("desk")
    known = Request(b"GET", b"/api/data", ())
    head = Request(b"HEAD", b"/api/data", ())
    for asked in (known, head):
        asked.be_granted(grant)
        metrics.note(asked, response, 0, 3)
    metrics.note(Request(b"GET", b"/healthz", ()), response, 0)
    assert told == [("desk", 5, 3), ("desk", 0, 3)]
    assert len(noted) == 7 * has_log
    told.clear()
    for left_bytes, is_begun, who in (
        (0, True, grant),
        (2, True, grant),
        (0, False, grant),
        (0, True, None),
    ):
        pending = metrics.begin(Request(b"GET", b"/api/data", ()), 0)
        pending.grant = who
        if is_begun:
            metrics.promise(pending, response)
        pending.left_bytes = left_bytes
        metrics.end(pending)
    assert told == [("desk", 5, 1), ("desk", 3, 1)]
    assert len(noted) == 11 * has_log


def test_lag_is_how_late_a_tick_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first has none to be measured by; one that comes early is not late."""
    now_ns = 1_000_000_000
    monkeypatch.setattr(account_module, "monotonic_ns", lambda: now_ns)
    counters = [0] * len(SLOTS)
    metrics = RequestMetrics(PLAIN, counters)
    for step_ns, lag_ns in [(0, 0), (250_000_000, 0), (249_000_000, 0), (330_000_000, 80_000_000)]:
        before, now_ns = total_ns(counters, LOOP_LAG), now_ns + step_ns
        metrics.tick()
        assert total_ns(counters, LOOP_LAG) - before == lag_ns
    assert observed(counters, LOOP_LAG) == 3


def test_each_answer_is_counted_and_timed_once(source: FileSource) -> None:
    """Parsed, known, planned, large, and refused ones: one count and one duration each."""

    async def scenario(bench: Bench) -> None:
        peer, _ = bench.connect()
        bench.handler.gate.set()
        for target in ["/now", "/now", "/now", "/later", "/later", "/large"]:
            peer.send(request(target))
            await answer(peer)
        peer.send(request("/now", method="HEAD"))
        await answer(peer, is_head=True)
        assert bench.counters[OTHER_200] == 7
        assert observed(bench.counters, PLAIN_OTHER) == 7
        peer.send(b"GET / HTTP/9.9\r\n\r\n")
        await answer(peer)
        assert bench.counters[requests_slot(PLAIN, OTHER, 505)] == 1
        assert observed(bench.counters, PLAIN_OTHER) == 8
        assert bench.counters[REQUESTS_IN_FLIGHT] == 0
        assert 0 < total_ns(bench.counters, PLAIN_OTHER) < 8 * 10e9

    run(source, scenario)


def test_requests_in_flight_are_those_that_wait(source: FileSource) -> None:
    """For a plan or for their client; who leaves takes the request along, without a duration."""

    async def scenario(bench: Bench) -> None:
        planning, _ = bench.connect()
        planning.send(request("/later"))
        reading, _ = bench.connect()
        reading.send(request("/large"))
        await until(lambda: bench.counters[REQUESTS_IN_FLIGHT] == 2)
        await receive(reading, 1_000)
        reading.sock.close()
        await until(lambda: bench.counters[REQUESTS_IN_FLIGHT] == 1)
        assert bench.counters[OTHER_200] == 1
        assert observed(bench.counters, PLAIN_OTHER) == 0
        bench.handler.gate.set()
        await answer(planning)
        assert bench.counters[REQUESTS_IN_FLIGHT] == 0
        assert observed(bench.counters, PLAIN_OTHER) == 1

    run(source, scenario)


def test_access_log_is_told_of_each_request_once(source: FileSource) -> None:
    """Also of those that one turn answers together, and with what did not leave of a large one."""

    async def scenario(bench: Bench) -> None:
        told: list[tuple[bytes, int | None, bool]] = []

        def access(_transport: str, pending: PendingRequest, _duration_ns: int) -> None:
            status = None if pending.response is None else pending.response.status
            told.append((pending.request.target, status, pending.left_bytes > 0))

        bench.server.context.metrics.access = access
        peer, _ = bench.connect()
        for target in ["/now", "/now", "/large"]:
            peer.send(request(target))
            await answer(peer)
        assert told == [(b"/now", 200, False), (b"/now", 200, False), (b"/large", 200, False)]
        told.clear()
        peer.send(request("/large"))
        await receive(peer, len(LARGE) // 10)
        peer.sock.close()
        await until(lambda: told == [(b"/large", 200, True)])

    run(source, scenario)
