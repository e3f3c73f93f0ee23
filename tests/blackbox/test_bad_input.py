"""The bad input and bad files that broke the server before this one, row by row.

Each test quotes its row: the input, then what that server did with it. Here each ends as the
contract says, over every transport, with nobody dead and the next honest answer right.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from datetime import date, timedelta
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.contract.site import Site, data_of, data_target, header_of
from tests.contract.transports import TRANSPORTS, Transport
from tests.naive import naive_answer
from tests.server import ForkedServer, RunningServer, open_descriptors, resident_bytes
from tests.storage.trees import (
    DAY,
    DAY_START_S,
    U32_MAX,
    age,
    append,
    marks,
    path_of,
    put,
    start_of,
    u32,
)
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.contract.transports import Session
    from tests.server import Answer

HONEST = Series("coinbase", "BTC-USD", "MD")
DAY_END_S = DAY_START_S + 86_399
NEXT = DAY + timedelta(days=1)
MANY_DAYS = 110
FILES_MAX = 100
GROWTH_BYTES_MAX = 32_000_000
_numbers = itertools.count()


class Kept(Site):
    """A site that is asked on one connection, for as long as it lasts."""

    @cached_property
    def connection(self) -> Session:
        """Opened by the first question."""
        return self.transport.connect(self.server)

    def ask(
        self, target: str, *, method: str = "GET", fields: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        """One request and its response."""
        return self.connection.request(target, method=method, fields=fields)


@pytest.fixture(scope="module", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> Transport:
    """Each way to reach the server in turn."""
    return TRANSPORTS[request.param]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, RunningServer]]:
    """A server with a cache of 100 files, and beside its root a tree that nobody may see."""
    folder = tmp_path_factory.mktemp("bad-input")
    root = str(folder / "root")
    put(root, {"time": u32(DAY_START_S, DAY_START_S + 9), "price": marks(2)}, series=HONEST)
    secret = {"time": u32(DAY_START_S, DAY_START_S + 9), "price": b"stolen!!"}
    for series in (HONEST, Series("outside", "outside", "outside")):
        put(str(folder / "outside"), secret, series=series)
    bounds = {"OPEN_FILES_MAX": str(FILES_MAX), "MAPPED_FILES_MAX": str(FILES_MAX)}
    environ = {f"ZEROCOPY_MEMORY_{name}": value for name, value in bounds.items()}
    with ForkedServer(root, ZEROCOPY_TLS_PORT="0", **environ) as server:
        yield root, server


@pytest.fixture(scope="module")
def running(transport: Transport, shared: tuple[str, RunningServer]) -> Iterator[Site]:
    """The server, by one transport."""
    kept = Kept(*shared, transport)
    yield kept
    kept.connection.close()


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    """The server; when the test is over, it lives and an honest question has the right answer."""
    workers = running.server.worker_pids()
    yield running
    assert running.data(HONEST).content == running.expected(HONEST)
    assert running.server.worker_pids() == workers
    assert running.server.event("worker_died") is None
    assert running.server.event("internal_error") is None


@pytest.fixture
def series() -> Series:
    """A symbol that nobody else uses, with nothing on disk yet."""
    return Series("coinbase", f"S{next(_numbers)}", "MD")


def refused(site: Site, target: str, status: int) -> str:
    """The detail of an error, which names no path."""
    answer = site.ask(target)
    assert answer.status == status, answer
    assert answer.fields["content-type"] == "application/problem+json"
    assert site.root.encode() not in answer.content
    assert b".bin" not in answer.content
    detail: str = json.loads(answer.content)["detail"]
    return detail


def right(site: Site, series: Series, start_s: int = 0, end_s: int = U32_MAX) -> Answer:
    """An answer that is the oracle's to the last byte."""
    answer = site.data(series, start_s, end_s)
    assert answer.status == 200
    assert answer.content == site.expected(series, start_s, end_s)
    return answer


def count_of(answer: Answer) -> int:
    """How many records an answer holds."""
    count: int = header_of(answer)["columns"][0]["num_records"]
    return count


def target_of(series: Series, raw: str) -> str:
    """A target whose parameters are written as they are, whatever they are."""
    return f"/api/data?symbol={series.symbol}&type=MD&{raw}"


def test_empty_time_file(site: Site, series: Series) -> None:
    """'empty time file': the task panics, the connection closes without an answer."""
    put(site.root, {"time": b"", "price": b""}, series=series)
    assert count_of(right(site, series)) == 0
    put(site.root, {"time": u32(DAY_START_S + 86_400), "price": marks(1)}, NEXT, series)
    assert count_of(right(site, series)) == 1


def test_start_after_end(site: Site) -> None:
    """'start > end, two days or more apart': panics (capacity overflow)."""
    for apart_s in (1, 2 * 86_400, U32_MAX):
        target = data_target(HONEST, apart_s, 0)
        assert "start" in refused(site, target, 400)


def test_full_range(site: Site, series: Series) -> None:
    """'start=0, end=4294967295': 2 s a request: probes 49,711 days."""
    put(site.root, {"time": u32(DAY_START_S), "price": marks(1)}, series=series)
    expected = site.expected(series)
    begun_s = time.monotonic()
    for number in range(30):
        assert site.ask(data_target(series, n=str(number))).content == expected
    assert time.monotonic() - begun_s < 30, "30 of them took that server a minute"


def test_full_range_with_files_of_2005(site: Site, series: Series) -> None:
    """'same, with files of 2005': every record twice: 2005 and 2105 share the two digits."""
    day = date(2005, 3, 1)
    put(site.root, {"time": u32(start_of(day), start_of(day)), "price": marks(2)}, day, series)
    assert count_of(right(site, series)) == 2
    in_2105_s = start_of(date(2105, 3, 1))
    assert count_of(right(site, series, in_2105_s, in_2105_s + 86_399)) == 0


@pytest.mark.parametrize("parameter", ["exchange", "symbol", "type", "columns"])
def test_path_traversal(site: Site, parameter: str) -> None:
    """'symbol=../../outside, same in type, columns, exchange': serves files outside the root."""
    values = {"exchange": "coinbase", "symbol": "BTC-USD", "type": "MD", "columns": "price"}
    for up in ("../../outside", "../outside", "..", ".", "outside/..", "....//outside"):
        for way in (up, quote(up, safe=""), f"price,{up}" if parameter == "columns" else up):
            query = "&".join(f"{name}={v}" for name, v in {**values, parameter: way}.items())
            detail = refused(site, f"/api/data?{query}&start=0&end={U32_MAX}", 400)
            assert f"parameter {parameter}" in detail


def test_path_traversal_poisons_no_cache(site: Site) -> None:
    """'symbol=../../outside/coinbase/BTC-USD': poisons its cache, honest requests get that file."""
    for symbol in ("../../outside/coinbase/BTC-USD", "..%2F..%2Foutside%2Fcoinbase%2FBTC-USD"):
        query = f"symbol={symbol}&type=MD&start={DAY_START_S}&end={DAY_END_S}&columns=time,price"
        for _ in range(3):
            refused(site, f"/api/data?{query}", 400)
            answer = right(site, HONEST, DAY_START_S, DAY_END_S)
            assert b"stolen" not in answer.content


@pytest.mark.parametrize(
    ("symbol", "status"),
    [("NONE", 404), ("%2Fetc", 400), ("BTC-USD%00", 400), ("%00", 400), ("%2Fetc%2Fpasswd", 400)],
)
def test_symbol_that_is_none(site: Site, symbol: str, status: int) -> None:
    """'unknown symbol; %2Fetc; NUL': 200 with 0 records."""
    target = f"/api/data?symbol={symbol}&type=MD&start=0&end={U32_MAX}&columns=time"
    assert "symbol" in refused(site, target, status)


def test_equal_timestamps_at_the_start_of_the_range(site: Site, series: Series) -> None:
    """'k equal timestamps at the start of the range': keeps one, loses k-1."""
    start_s = DAY_START_S + 50
    times = [start_s - 1] * 3 + [start_s] * 1_500 + [start_s + 1] * 2
    put(site.root, {"time": u32(*times), "price": marks(len(times))}, series=series)
    assert count_of(right(site, series, start_s, DAY_END_S)) == 1_502
    assert count_of(right(site, series, start_s, start_s)) == 1_500


def test_first_timestamp_repeated(site: Site, series: Series) -> None:
    """'the day's first timestamp repeated, whole-day query': loses all but one of them."""
    times = [DAY_START_S] * 1_100 + [DAY_START_S + 1]
    put(site.root, {"time": u32(*times), "price": marks(len(times))}, series=series)
    assert count_of(right(site, series, DAY_START_S, DAY_END_S)) == 1_101


@pytest.mark.parametrize("columns", ["", "time,", ",", ",time", "time,,price"])
def test_empty_column_names(site: Site, columns: str) -> None:
    """'columns= empty, or a trailing comma': 500, body shows the file path."""
    target = target_of(HONEST, f"start=0&end={U32_MAX}&columns={columns}")
    assert "columns" in refused(site, target, 400)


def test_unknown_column_and_missing_column_file(site: Site, series: Series) -> None:
    """'unknown column, missing column file': 500 with the path."""
    put(site.root, {"time": u32(DAY_START_S), "price": marks(1)}, series=series)
    put(site.root, {"time": u32(DAY_START_S + 86_400), "volume": marks(1)}, NEXT, series)
    assert "none" in refused(site, data_target(series, columns=["time", "none"]), 404)
    answer = right(site, series)
    assert count_of(answer) == 1
    assert header_of(answer)["skipped"] == [f"{NEXT:%d.%m.%y}"]


def test_column_201_times(site: Site) -> None:
    """'columns=time,time (201 times)': each column holds and sends everything twice."""
    for times in (2, 201):
        target = data_target(HONEST, columns=["time"] * times)
        assert "columns" in refused(site, target, 400)


@pytest.mark.parametrize("torn", [1, 2, 3])
def test_torn_time_file(site: Site, series: Series, torn: int) -> None:
    """'time file of 4n+k bytes': the whole day is silently dropped."""
    times = u32(DAY_START_S, DAY_START_S + 1, DAY_START_S + 2)
    put(site.root, {"time": times[: 8 + torn], "price": marks(3)}, series=series)
    assert count_of(right(site, series)) == 2


def test_column_shorter_than_time(site: Site, series: Series) -> None:
    """'column shorter than time (recorder in mid-flight)': 500 "too short"."""
    times = u32(*range(DAY_START_S, DAY_START_S + 9))
    put(site.root, {"time": times, "price": marks(7) + b"?"}, series=series)
    assert count_of(right(site, series)) == 7
    assert count_of(right(site, series, DAY_START_S + 8, DAY_END_S)) == 0


def test_closed_day_that_grows_after_it_was_cached(site: Site, series: Series) -> None:
    """'closed day grows after it was cached': stale answers for ever."""
    columns = {"time": u32(DAY_START_S), "price": marks(1)}
    paths = put(site.root, columns, series=series)
    for path in paths.values():
        os.utime(path, (DAY_END_S, DAY_END_S))
    age(*paths.values())
    for _ in range(3):
        assert count_of(right(site, series)) == 1
    append(paths["time"], u32(DAY_START_S + 1))
    append(paths["price"], marks(1))
    assert count_of(right(site, series)) == 2


def test_cached_file_truncated(site: Site, series: Series) -> None:
    """'cached closed-day file truncated': SIGBUS: the whole process dies."""
    count = 100_000  # more than a small answer, so that it is mapped
    columns = {"time": u32(*[DAY_START_S] * count), "price": marks(count)}
    paths = put(site.root, columns, series=series)
    for path in paths.values():
        os.utime(path, (DAY_END_S, DAY_END_S))
    age(*paths.values())
    for _ in range(2):
        assert data_of(site.data(series, columns=["price"])) == marks(count)
    for left in (count // 2, 1, 0):
        os.truncate(paths["price"], 4 * left)
        assert data_of(site.data(series, columns=["price"])) == marks(left)


def test_long_unknown_exchange(site: Site) -> None:
    """'1,000-character unknown exchange + full range': leaks 49 MB a request."""
    (worker,) = site.server.worker_pids()

    def ask(times: int) -> None:
        with site.session() as session:
            for number in range(times):
                for length, status in ((1_000, 400), (64, 404)):
                    name = f"{number}".rjust(length, "X")
                    target = data_target(Series(name, "BTC-USD", "MD"))
                    assert session.request(target).status == status

    ask(30)
    before = resident_bytes(worker)
    ask(100)
    assert resident_bytes(worker) - before < GROWTH_BYTES_MAX


def test_http1_over_tls(site: Site, transport: Transport) -> None:
    """'HTTP/1.1 over TLS': offered in ALPN, then broken."""
    with site.session() as session:
        for _ in range(3):
            assert session.request(data_target(HONEST)).content == site.expected(HONEST)
    if transport is TRANSPORTS["http1-tls"]:
        with site.server.connect_tls(["h2", "http/1.1"]) as both:
            assert both.selected_alpn_protocol() == "h2", "whoever can do better gets it"


def test_head(site: Site) -> None:
    """'HEAD': 404."""
    varying = {"date", "age"}
    for target in (data_target(HONEST), "/api/symbols", "/healthz"):
        got, head = site.ask(target), site.ask(target, method="HEAD")
        assert (head.status, head.content) == (200, b"")
        assert {n: v for n, v in head.fields.items() if n not in varying} == {
            n: v for n, v in got.fields.items() if n not in varying
        }
        assert int(head.fields["content-length"]) == len(got.content)


def test_day_queries_beyond_the_file_cache(site: Site, series: Series) -> None:
    """'day queries beyond its 100-file cache': maps and locks every file anew on each request."""
    count = 30
    paths: list[str] = []
    days = [DAY + timedelta(days=offset) for offset in range(MANY_DAYS)]
    for offset, day in enumerate(days):
        columns = {
            "time": u32(*[start_of(day)] * count),
            "price": marks(count, base=offset * count),
        }
        paths += put(site.root, columns, day, series).values()
    age(*paths)
    targets = [data_target(series, start_of(day), start_of(day) + 86_399) for day in days]
    assert site.ask(targets[-1]).content == site.expected(series, start_of(days[-1]))
    for times in range(3):
        for index, target in enumerate(targets):
            assert data_of(site.ask(target))[4 * count :] == marks(count, base=index * count)
        if not times:
            made = site.server.metric("zerocopy_plans_made_total")
            reused = site.server.metric("zerocopy_plans_reused_total")
    assert site.server.metric("zerocopy_plans_made_total") == made, "nothing is opened anew"
    assert site.server.metric("zerocopy_plans_reused_total") == reused + 2 * MANY_DAYS
    assert site.server.metric("zerocopy_open_files") <= FILES_MAX


def test_one_query_beyond_the_file_cache(site: Site, series: Series) -> None:
    """The same row, with more files in one answer that is sent from them: always right, bounded."""
    count = 200
    days = [DAY + timedelta(days=offset) for offset in range(MANY_DAYS)]
    for offset, day in enumerate(days):
        columns = {
            "time": u32(*[start_of(day)] * count),
            "price": marks(count, base=offset * count),
        }
        for path in put(site.root, columns, day, series).values():
            os.utime(path, (start_of(day), start_of(day)))
    age(path_of(site.root, "price", days[-1], series))
    (worker,) = site.server.worker_pids()
    before = open_descriptors(worker)
    expected = naive_answer(site.root, *series, 0, U32_MAX, ("time", "price"))
    for _ in range(4):
        assert site.data(series).content == expected
        assert site.server.metric("zerocopy_open_files") <= FILES_MAX
    # The cache, as many mappings, which keep a descriptor each, and those of a planning thread.
    assert open_descriptors(worker) <= before + 2 * FILES_MAX + 64
