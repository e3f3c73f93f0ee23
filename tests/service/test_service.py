"""Service over a small root: routes, problems, bounds, reuse, and what is counted and logged."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
import time
from datetime import date
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tests.faults.client import (
    SMALL,
    body_of,
    column_path,
    seal,
    target_of,
    unseal,
    write_series,
)
from tests.service.bench import Bench
from tests.storage.trees import marks, put, u32
from zerocopy.core import counters as slots
from zerocopy.core.errors import BadRequestError, DataError
from zerocopy.core.http.messages import Request, Response
from zerocopy.core.http.validators import Validators, document_validators
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SETTLED_S = 0.15  # a change this long ago is told apart from the next; see catalog.RACY_NS


EPOCH, NEXT = date(1970, 1, 1), date(1970, 1, 2)
UNSOUND = Series("coinbase", "UNSOUND", "MD")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One small series, changed long enough ago to be trusted."""
    write_series(tmp_path, "SMALL", 500)
    seal(tmp_path, "SMALL")
    time.sleep(SETTLED_S)  # the kernel's clock has to tick; see catalog.RACY_NS
    return tmp_path


@pytest.fixture
def bench(root: Path) -> Iterator[Bench]:
    """A service over `root`."""
    bench = Bench(root)
    yield bench
    bench.close()


def problem_of(response: Response) -> dict[str, object]:
    """The problem document of a response, checked for what every one has."""
    fields = dict(response.fields)
    assert fields[b"Content-Type"] == b"application/problem+json"
    assert fields[b"Access-Control-Allow-Origin"] == b"*"
    problem: dict[str, object] = json.loads(response.content)
    assert problem["status"] == response.status
    assert problem.keys() == {"type", "title", "status", "detail"}
    return problem


@pytest.mark.parametrize(
    ("target", "method", "status", "word"),
    [
        ("/", "GET", 404, "openapi"),
        ("/api/data", "GET", 400, "symbol"),
        (SMALL + "&start=1", "GET", 400, "start"),
        (SMALL.replace("start=0", "start=-1"), "GET", 400, "start"),
        (SMALL.replace("BTC-USD", "NONE"), "GET", 404, "symbol"),
        (SMALL.replace("BTC-USD", ".."), "GET", 400, "symbol"),
        (SMALL.replace("price", "none"), "GET", 404, "none"),
        (SMALL.replace("price", "a,b,c,d"), "GET", 400, "columns"),
        (SMALL, "DELETE", 405, "GET"),
        ("/healthz", "POST", 405, "GET"),
    ],
)
def test_request_that_is_wrong_gets_a_problem_that_names_it(
    bench: Bench, target: str, method: str, status: int, word: str
) -> None:
    """Status and detail tell what would be right; 405 has Allow; nothing is logged."""
    with capture_logs() as logs:
        response = bench.ask(target, method)
    assert response.status == status
    assert word in str(problem_of(response)["detail"])
    assert (b"Allow" in dict(response.fields)) == (status == 405)
    assert logs == []


def test_fault_of_ours_is_a_500_that_says_nothing_and_a_log_that_says_all(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception nobody expected shows neither its words nor a path, and is logged."""

    def fail(*_: object) -> None:
        raise RuntimeError(f"secret {bench.root}")

    monkeypatch.setattr(bench.service._planner, "plan", fail)
    with capture_logs() as logs:
        response = bench.ask(SMALL)
    assert response.status == 500
    assert "secret" not in str(problem_of(response))
    assert [log["event"] for log in logs] == ["internal_error"]
    assert bench.ask("/healthz").status == 200


def test_data_that_fails_is_a_500_and_logged_with_its_cause(bench: Bench) -> None:
    """A data error tells the client no path, and the operator the cause."""
    error = DataError("the data cannot be read")
    error.__cause__ = OSError(5, "Input/output error", "/secret")
    with capture_logs() as logs:
        response = bench.service.refuse(error)
    assert response.status == 500
    assert "/secret" not in response.content.decode()
    assert "/secret" in str(logs[0]["cause"])
    assert bench.service.refuse(BadRequestError("x")).status == 400


def test_root_that_is_gone_makes_it_unready_and_data_fail(bench: Bench) -> None:
    """Without its root the server is alive, not ready, answers 500, and comes back by itself."""
    assert bench.ask("/readyz").status == 200
    os.rename(bench.root, f"{bench.root}.gone")
    with capture_logs():
        assert bench.ask("/healthz").status == 200
        assert bench.ask("/readyz").status == 503
        response = bench.ask(SMALL)
    assert response.status == 500
    assert str(bench.root) not in response.content.decode()
    os.rename(f"{bench.root}.gone", bench.root)
    assert bench.ask("/readyz").status == 200
    assert bench.ask(SMALL).content == body_of(bench.root, "SMALL")


def test_draining_is_not_ready(bench: Bench) -> None:
    """A balancer is told to go elsewhere."""
    bench.service.draining = True
    response = bench.ask("/readyz")
    assert response.status == 503
    assert int(dict(response.fields)[b"Retry-After"]) > 0


def test_requests_beyond_the_bound_get_503_and_the_bound_is_given_back(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at work: the third is told to come again, and after them everything is served."""
    bench = Bench(root, requests_in_flight_max=2)
    gate = threading.Event()
    plan = bench.service._planner.plan
    monkeypatch.setattr(bench.service._planner, "plan", _after(gate, plan))
    request = Request(b"GET", SMALL.encode(), ())

    async def scenario() -> list[Response]:
        first = [asyncio.ensure_future(bench.service.respond(request)) for _ in range(2)]
        await asyncio.sleep(0)
        third = await bench.service.respond(request)
        gate.set()
        return [third, *await asyncio.gather(*first), await bench.service.respond(request)]

    responses = asyncio.run(scenario())
    assert [response.status for response in responses] == [503, 200, 200, 200]
    assert int(dict(responses[0].fields)[b"Retry-After"]) > 0
    problem_of(responses[0])
    bench.close()


def _after(gate: threading.Event, plan: Callable[..., object]) -> Callable[..., object]:
    def wait_and_plan(*arguments: object) -> object:
        assert gate.wait(10)
        return plan(*arguments)

    return wait_and_plan


def test_answer_is_given_again_while_its_files_are_unchanged(bench: Bench) -> None:
    """The second answer is the first, without a thread; a change of a file makes a new plan."""
    first = bench.ask(SMALL)
    assert first.content == body_of(bench.root, "SMALL")
    assert bench.ask(SMALL) is first
    assert bench.ask(SMALL, "HEAD") is first
    assert (bench.counters[slots.PLANS_MADE], bench.counters[slots.PLANS_REUSED]) == (1, 2)
    with open(column_path(bench.root, "SMALL", "price"), "r+b") as file:
        file.write(b"\xff" * 8)
    second = bench.ask(SMALL)
    assert second.content == body_of(bench.root, "SMALL")
    assert bench.counters[slots.PLANS_MADE] == 2
    assert dict(second.fields)[b"ETag"] != dict(first.fields)[b"ETag"]


def test_answer_that_was_refused_is_not_kept(bench: Bench) -> None:
    """What is not there now may be there the next time."""
    target = target_of("LATER")
    assert bench.ask(target).status == 404
    write_series(bench.root, "LATER", 10)
    assert bench.ask(target).content == body_of(bench.root, "LATER")


def test_answers_kept_stay_below_their_bound(root: Path) -> None:
    """Ten thousand queries leave no more bytes of answers than allowed, and the gauge says so."""
    bench = Bench(root, plan_cache_bytes_max=100_000)
    for end in range(100):
        assert bench.ask(target_of("SMALL", end=86_399 - end)).status == 200
    assert 50_000 < bench.counters[slots.PLAN_CACHE_BYTES] <= 100_000
    assert bench.counters[slots.PLANS_REUSED] == 0
    bench.close()


def test_nothing_is_kept_where_nothing_may_be(root: Path) -> None:
    """A bound of 0 plans each request anew."""
    bench = Bench(root, plan_cache_bytes_max=0)
    assert bench.ask(SMALL).content == bench.ask(SMALL).content
    assert bench.counters[slots.PLANS_MADE] == 2
    assert bench.counters[slots.PLAN_CACHE_BYTES] == 0
    bench.close()


def test_day_that_lacks_a_column_is_skipped_counted_and_logged(bench: Bench) -> None:
    """The header names the day, the counter counts it, the log names the query."""
    later = column_path(bench.root, "SMALL", "time").replace("01.01.70", "02.01.70")
    shutil.copy(column_path(bench.root, "SMALL", "time"), later)
    with capture_logs() as logs:
        response = bench.ask(target_of("SMALL", end=172_799))
    assert json.loads(response.content.split(b"\n")[0])["skipped"] == ["02.01.70"]
    assert bench.counters[slots.DAYS_SKIPPED] == 1
    (log,) = logs
    assert (log["event"], log["log_level"]) == ("days_skipped", "warning")
    assert (log["symbol"], log["days"], log["count"]) == ("BTC-USD", ["02.01.70"], 1)


def test_days_that_verify_complains_about_are_counted_and_named(bench: Bench) -> None:
    """Columns of different length, records of another day, times that descend; each in its slot."""
    put(str(bench.root), {"time": u32(*range(9)), "price": marks(9)}, EPOCH, UNSOUND)
    put(str(bench.root), {"time": u32(9, 86_400 + 9), "price": marks(3)}, NEXT, UNSOUND)
    target = (
        f"/api/data?exchange={UNSOUND.exchange}&symbol={UNSOUND.symbol}&type={UNSOUND.type}"
        "&columns=time,price&start=0&end=999999"
    )
    with capture_logs() as logs:
        assert bench.ask(target).status == 200
        put(str(bench.root), {"time": u32(*range(9, 0, -1))}, EPOCH, UNSOUND)
        assert bench.ask(target).status == 500
    told = [(log["event"], log.get("reason"), log.get("days")) for log in logs]
    assert told == [
        ("days_unsound", "uneven", ["02.01.70"]),
        ("days_unsound", "outside", ["02.01.70"]),
        ("data_error", None, None),
    ]
    assert (logs[0]["symbol"], logs[0]["type"], logs[0]["count"]) == ("UNSOUND", "MD", 1)
    assert "UNSOUND/MD/time.01.01.70.bin" in logs[-1]["cause"]
    counted = [bench.counters[slot] for slot in (slots.DAYS_UNEVEN, slots.DAYS_OUTSIDE)]
    assert [*counted, bench.counters[slots.DAYS_UNSORTED]] == [1, 1, 1]


def test_closed_day_may_be_cached_and_open_day_may_not(bench: Bench) -> None:
    """Cache-Control follows the files; Last-Modified is theirs."""
    fields = dict(bench.ask(SMALL).fields)
    assert fields[b"Cache-Control"] == b"public, max-age=77, no-transform"
    assert fields[b"Last-Modified"] == b"Sun, 09 Sep 2001 01:46:40 GMT"
    unseal(bench.root, "SMALL")
    fields = dict(bench.ask(SMALL).fields)
    assert fields[b"Cache-Control"] == b"no-cache, no-transform"


@pytest.mark.parametrize(
    "target", ["/api/data", "/api/bars", "/api/catalog", "/api/symbols", "/openapi.json", "*"]
)
def test_preflight_is_204_on_every_known_path(bench: Bench, target: str) -> None:
    """The methods, the fields that were asked for, and how long that holds."""
    wanted = (b"access-control-request-headers", b"range, if-match")
    fields = dict(bench.ask(target, "OPTIONS", wanted).fields)
    assert fields[b"Access-Control-Allow-Methods"] == b"GET, HEAD, OPTIONS"
    assert fields[b"Access-Control-Allow-Headers"] == b"range, if-match"
    assert int(fields[b"Access-Control-Max-Age"]) > 0
    assert bench.ask("/nowhere", "OPTIONS").status == 404


def test_preflight_does_not_echo_what_is_no_field_name(bench: Bench) -> None:
    """A line break in an echoed field would be a field of its own."""
    evil = (b"access-control-request-headers", b"a\r\nSet-Cookie: b")
    fields = dict(bench.ask("/api/data", "OPTIONS", evil).fields)
    assert b"Access-Control-Allow-Headers" not in fields


def test_document_is_written_and_hashed_once_and_not_for_each_request(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Constants are the same response each time, and so are the symbols while nothing changes."""
    for target in ("/healthz", "/readyz", "/openapi.json", "/api/symbols"):
        first = bench.ask(target)
        monkeypatch.setattr("zerocopy.service.problems.document_validators", pytest.fail)
        assert bench.ask(target) is first
        known = (b"if-none-match", dict(first.fields)[b"ETag"])
        unchanged = bench.ask(target, "GET", known)
        assert (unchanged.status, unchanged.content) == (304, b"")
        assert bench.ask(target, "HEAD", known) is unchanged
        monkeypatch.undo()


def test_symbols_are_hashed_in_the_thread_that_reads_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop never reads a whole document for its tag."""
    threads: set[str] = set()

    def noted(content: bytes) -> Validators:
        threads.add(threading.current_thread().name)
        return document_validators(content)

    monkeypatch.setattr("zerocopy.service.problems.document_validators", noted)
    for target in ("/api/symbols", "/api/symbols?exchange=coinbase"):
        assert bench.ask(target).status == 200
    assert threads
    assert threading.current_thread().name not in threads


LIVE = "/api/live?symbol=BTC-USD&type=SMALL&columns=time"


def test_live_answers_with_a_stream(bench: Bench) -> None:
    """Events, which no cache keeps and no proxy holds back; a WebSocket gets no content type."""
    response = bench.ask(LIVE)
    fields = dict(response.fields)
    assert response.status == 200
    assert response.feed is not None
    assert fields[b"Content-Type"] == b"text/event-stream"
    assert fields[b"Cache-Control"] == b"no-store, no-transform"
    response.feed.close()
    request = Request(b"GET", LIVE.encode(), ((b"if-none-match", b"*"),), is_websocket=True)
    response = asyncio.run(bench.service.respond(request))
    assert response.feed is not None
    assert b"Content-Type" not in dict(response.fields)
    response.feed.close()


@pytest.mark.parametrize(
    ("target", "field", "status"),
    [
        (LIVE + "&from=1", b"", 400),
        (LIVE, b"x", 400),
        (LIVE.replace("SMALL", "NONE"), b"", 404),
        (LIVE.replace("=time", "=nope"), b"", 404),
    ],
)
def test_live_faults_before_the_stream_are_problems(
    bench: Bench, target: str, field: bytes, status: int
) -> None:
    """For a WebSocket too; it has no Last-Event-ID."""
    response = bench.ask(target, "GET", (b"last-event-id", field))
    assert problem_of(response)["status"] == status
    request = Request(b"GET", target.encode(), ((b"last-event-id", field),), is_websocket=True)
    told = asyncio.run(bench.service.respond(request))
    assert (told.feed is None) == (field == b"")
    if told.feed is not None:
        told.feed.close()
