"""/api/bars over the wire, byte for byte against the naive reader."""

from __future__ import annotations

import json
import math
import os
import struct
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from tests.contract.site import Site, header_of
from tests.contract.test_statuses import assert_problem
from tests.naive_bars import naive_bars_answer
from tests.storage.trees import (
    DAY,
    DAY_START_S,
    DTYPES,
    OPEN_DAY,
    OPEN_START_S,
    U32_MAX,
    age,
    append,
    marks,
    path_of,
    put,
    replace,
    start_of,
    u32,
)

if TYPE_CHECKING:
    from zerocopy.storage.tree import Series

NEXT_DAY = DAY + timedelta(days=1)
ALL = "open+high+low+close+sum+mean+count"


def f32(*values: float) -> bytes:
    """Little-endian f32 records."""
    return struct.pack(f"<{len(values)}f", *values)


def bars_target(series: Series, columns: str = "price", **others: object) -> str:
    """The request target of a query, of everything unless told otherwise."""
    asked = {"start": 0, "end": U32_MAX} | others
    names = dict(zip(("exchange", "symbol", "type"), series, strict=True))
    return "/api/bars?" + urlencode({**names, "columns": columns, **asked})


def expected(site: Site, series: Series, columns: str = "price", **others: object) -> bytes:
    """The body that the oracle gives."""
    asked = {"start": 0, "end": U32_MAX} | others
    return naive_bars_answer(site.root, *series, columns=columns, dtypes=DTYPES, **asked)  # type: ignore[arg-type]


@pytest.fixture
def ticks(site: Site, series: Series) -> Series:
    """Two days of 2,000 ticks, with a NaN, and one between them that lacks the column."""
    for number, day in enumerate((DAY, DAY + timedelta(days=2))):
        times = [start_of(day) + second * 43 for second in range(2_000)]
        prices = [math.nan if index % 97 == 0 else 100 + index * 0.25 for index in range(2_000)]
        columns = {"time": u32(*times), "price": f32(*prices), "id": marks(2_000, 8, base=number)}
        put(site.root, columns, day, series)
    put(site.root, {"time": u32(start_of(NEXT_DAY)), "id": marks(1, 8)}, NEXT_DAY, series)
    return series


def test_bars_are_one_exact_line_then_the_columns(site: Site, series: Series) -> None:
    """The literal bytes: `interval_s` after the columns, skipped days after that."""
    times = (DAY_START_S, DAY_START_S + 5, DAY_START_S + 59, DAY_START_S + 60)
    put(site.root, {"time": u32(*times), "price": f32(2, 3, 1, 7)}, DAY, series)
    put(site.root, {"time": u32(start_of(NEXT_DAY))}, NEXT_DAY, series)
    answer = site.ask(bars_target(series, "price:open+high+low+close+mean", interval="1m"))
    head = (
        b'{"columns":[{"name":"time","record_size":4,"num_records":2,"data_length":8,"dtype":"<u4"}'
    )
    for name in ("open", "high", "low", "close"):
        head += b',{"name":"price.%s","record_size":4,"num_records":2,"data_length":8,' % (
            name.encode()
        )
        head += b'"dtype":"<f4"}'
    head += b',{"name":"price.mean","record_size":8,"num_records":2,"data_length":16,"dtype":"<f8"}'
    assert answer.content == (
        head
        + b'],"interval_s":60,"skipped":["01.02.25"]}\n'
        + u32(DAY_START_S, DAY_START_S + 60)
        + f32(2, 7, 3, 7, 1, 7, 1, 7)
        + struct.pack("<2d", 2.0, 7.0)
    )
    assert (answer.status, answer.fields["content-type"]) == (200, "application/octet-stream")
    assert answer.fields["content-length"] == str(len(answer.content))
    assert answer.fields["accept-ranges"] == "bytes"


@pytest.mark.parametrize("columns", ["price", f"price:{ALL},id:{ALL}", "time:close,id:count"])
@pytest.mark.parametrize("interval", ["1", "60", "7m", "1h", "1d", "1w", "auto"])
def test_bars_are_those_of_the_naive_reader(
    site: Site, ticks: Series, columns: str, interval: str
) -> None:
    """Whole, and cut amid a bucket at both ends."""
    with site.session() as session:
        for start, end in ((0, U32_MAX), (DAY_START_S + 1_001, start_of(NEXT_DAY) + 90_000)):
            asked: dict[str, object] = {"start": start, "end": end, "interval": interval}
            answer = session.request(bars_target(ticks, columns, **asked))
            assert answer.content == expected(site, ticks, columns, **asked)


@pytest.mark.parametrize("points", [1, 2, 3, 10, 50, 1_000, 100_000])
def test_auto_gives_at_most_so_many_points(site: Site, ticks: Series, points: int) -> None:
    """The interval is in the header line."""
    answer = site.ask(bars_target(ticks, max_points=points))
    assert answer.content == expected(site, ticks, max_points=points)
    assert header_of(answer)["columns"][0]["num_records"] <= points


def test_range_without_records_has_no_bars(site: Site, ticks: Series) -> None:
    """No error: every `num_records` is 0."""
    asked: dict[str, object] = {"start": 0, "end": 9}
    answer = site.ask(bars_target(ticks, f"price:{ALL}", **asked))
    assert answer.status == 200
    assert answer.content == expected(site, ticks, f"price:{ALL}", **asked)
    assert header_of(answer)["interval_s"] == 1


@pytest.mark.parametrize(
    ("columns", "others", "told"),
    [
        ("price:median", {}, (400, "columns", "price")),
        ("price,price:high", {}, (400, "columns", "price.high")),
        ("order:open", {}, (400, "columns", "order")),
        ("price", {"interval": "5x"}, (400, "interval")),
        ("price", {"max_points": "0"}, (400, "max_points")),
        ("price", {"format": "xml"}, (400, "format")),
        ("price", {"start": "9", "end": "8"}, (400, "start")),
        ("price", {"symbol": "NONE"}, (404, "NONE")),
        ("volume", {}, (404, "volume")),
    ],
)
def test_query_that_is_wrong_is_refused_by_name(
    site: Site,
    series: Series,
    columns: str,
    others: dict[str, object],
    told: tuple[int, *tuple[str, ...]],
) -> None:
    """The statuses of the contract; the detail names what is wrong."""
    put(site.root, {"time": u32(1), "price": f32(1), "order": marks(1, 16)}, DAY, series)
    assert_problem(site, site.ask(bars_target(series, columns, **others)), *told)


def test_too_many_bars_are_refused_with_the_interval_that_fits(site: Site, series: Series) -> None:
    """100,000 seconds with a record each are answered; one more names 2s, which is."""
    times = [DAY_START_S + second for second in range(100_001)]
    put(site.root, {"time": u32(*times), "price": marks(100_001)}, DAY, series)
    asked: dict[str, object] = {"start": DAY_START_S, "end": DAY_START_S + 99_999, "interval": 1}
    answer = site.ask(bars_target(series, "time:low", **asked))
    assert answer.content.partition(b"\n")[2] == u32(*times[:-1]) * 2
    large = site.ask(bars_target(series, "time:low", interval=1))
    assert_problem(site, large, 400, "interval", "100000", "2s")
    answer = site.ask(bars_target(series, "time:low+high", interval="2s"))
    lows, highs = times[::2], [*times[1::2], times[-1]]
    assert answer.content.partition(b"\n")[2] == u32(*lows, *lows, *highs)
    assert [column["num_records"] for column in header_of(answer)["columns"]] == [50_001] * 3


def test_head_parts_and_preconditions_concern_the_whole_answer(site: Site, ticks: Series) -> None:
    """As on data: the same fields, any part, 304, 412 and 416."""
    target = bars_target(ticks, f"price:{ALL}", interval="1m")
    with site.session() as session:
        whole = session.request(target)
        head = session.request(target, method="HEAD")
        assert (head.status, head.content) == (200, b"")
        assert head.fields["content-length"] == str(len(whole.content))
        assert head.fields["etag"] == whole.fields["etag"]
        part = session.request(target, fields=[("Range", "bytes=100-2099")])
        assert (part.status, part.content) == (206, whole.content[100:2_100])
        parts = session.request(target, fields=[("Range", "bytes=0-9,-10")])
        assert parts.status == 206
        assert parts.fields["content-type"].startswith("multipart/byteranges")
        same = session.request(target, fields=[("If-None-Match", whole.fields["etag"])])
        assert (same.status, same.content) == (304, b"")
        assert session.request(target, fields=[("If-Match", '"other"')]).status == 412
        assert session.request(target, fields=[("Range", "bytes=9999999-")]).status == 416


def test_tags_tell_answers_apart(site: Site, ticks: Series) -> None:
    """Seven days and a week have the same length and other bounds."""
    tags = {
        site.ask(bars_target(ticks, columns, interval=interval)).fields["etag"]
        for columns in ("price", "price:high")
        for interval in ("7d", "1w", "1d")
    }
    assert len(tags) == 6


def test_answer_is_given_again_while_its_files_are_unchanged(site: Site, ticks: Series) -> None:
    """Settled files: the second answer is the first, as for data; a replaced day is served."""
    files = [path_of(site.root, name, DAY, ticks) for name in ("time", "price", "id")]
    age(*files, os.path.dirname(files[0]))
    asked: dict[str, object] = {"start": DAY_START_S, "end": DAY_START_S + 86_399}
    target = bars_target(ticks, f"price:{ALL}", **asked)
    before = site.server.metric("zerocopy_plans_reused_total")
    with site.session() as session:
        first = session.request(target)
        for _ in range(3):
            assert session.request(target).content == first.content
        assert site.server.metric("zerocopy_plans_reused_total") - before >= 3
        prices = [float(index) for index in range(2_000)]
        replace(files[1], f32(*prices))
        for _ in range(2):
            again = session.request(target)
            assert again.content == expected(site, ticks, f"price:{ALL}", **asked)
            assert again.fields["etag"] != first.fields["etag"]


def test_open_day_that_grows_is_fresh(site: Site, series: Series) -> None:
    """Append, flush, ask twice; 100 times without a pause: the last bar changes, or a new one."""
    start_s = OPEN_START_S
    paths = put(site.root, {"time": u32(start_s), "price": f32(0)}, OPEN_DAY, series)
    asked: dict[str, object] = {"start": start_s, "end": start_s + 86_399, "interval": "1m"}
    target = bars_target(series, "price:ohlc+count", **asked)
    with site.session() as session:
        for index in range(1, 101):
            append(paths["price"], f32(index % 7))
            append(paths["time"], u32(start_s + 7 * index))
            for _ in range(2):
                answer = session.request(target)
                assert answer.content == expected(site, series, "price:ohlc+count", **asked)
        assert answer.fields["cache-control"] == "no-cache, no-transform"


def test_fields_for_caches_are_those_of_data(site: Site, ticks: Series) -> None:
    """Cache-Control and Last-Modified follow the same files."""
    for name in ("time", "price"):
        os.utime(path_of(site.root, name, DAY, ticks), (DAY_START_S, DAY_START_S))
    asked = bars_target(ticks, start=DAY_START_S, end=DAY_START_S + 86_399)
    data = site.data(ticks, DAY_START_S, DAY_START_S + 86_399)
    bars = site.ask(asked)
    assert bars.fields["last-modified"] == "Fri, 31 Jan 2025 00:00:00 GMT"
    for name in ("cache-control", "last-modified"):
        assert bars.fields[name] == data.fields[name]


def test_times_that_do_not_ascend_are_a_500_that_names_the_day(site: Site, series: Series) -> None:
    """Bars look at every record, so what a search of the ends does not see is seen."""
    times = [DAY_START_S + second for second in range(5_000)]
    times[2_000], times[2_001] = times[2_001], times[2_000]
    put(site.root, {"time": u32(*times), "price": marks(5_000)}, DAY, series)
    assert site.data(series).status == 200
    answer = site.ask(bars_target(series, interval="1m"))
    problem = json.loads(answer.content)
    assert (answer.status, problem["detail"]) == (500, "the times of 31.01.25 are not sorted")
