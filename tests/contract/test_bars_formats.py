"""Formats of /api/bars over the wire: the same bars for every reader."""

from __future__ import annotations

import json
import math
import struct
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.contract.test_bars import bars_target, expected, f32
from tests.formats.readers import check_arrow, check_csv, check_json
from tests.storage.trees import DAY, DAY_START_S, append, path_of, put, start_of, u32

if TYPE_CHECKING:
    from tests.contract.site import Site
    from tests.server import Answer
    from zerocopy.storage.tree import Series

pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pytest.importorskip("polars", reason="polars is not installed")

MEDIA_TYPES = {
    "arrow": "application/vnd.apache.arrow.stream",
    "json": "application/json",
    "csv": "text/csv; charset=utf-8; header=present",
}
EACH = pytest.mark.parametrize("name", MEDIA_TYPES)


@pytest.fixture
def ticks(site: Site, series: Series) -> Series:
    """A day of 2,000 ticks with buckets of NaN alone, and one that lacks the column."""
    times = [DAY_START_S + second * 43 for second in range(2_000)]
    prices = [math.nan if index % 97 < 9 else 100 + index / 7 for index in range(2_000)]
    put(site.root, {"time": u32(*times), "price": f32(*prices)}, DAY, series)
    later = DAY + timedelta(days=1)
    put(site.root, {"time": u32(start_of(later))}, later, series)
    return series


def check(name: str, series: Series, answer: Answer, wanted: bytes) -> None:
    """Fail unless it is the oracle's, with the fields of the format."""
    assert answer.status == 200, answer.content
    assert answer.fields["content-type"] == MEDIA_TYPES[name]
    assert answer.fields["content-length"] == str(len(answer.content))
    assert answer.fields["content-disposition"].startswith('attachment; filename="coinbase_')
    if name == "arrow":
        told = json.loads(wanted.partition(b"\n")[0])
        labels = {**series._asdict(), "interval_s": str(told["interval_s"])}
        check_arrow(answer.content, wanted, labels)
    else:
        {"json": check_json, "csv": check_csv}[name](answer.content, wanted)


@EACH
@pytest.mark.parametrize("interval", ["60", "1h", "1w", "auto"])
def test_bars_in_a_format_are_those_of_the_naive_reader(
    site: Site, ticks: Series, name: str, interval: str
) -> None:
    """Of every dtype that bars have; some, and none."""
    columns = "price:open+high+low+close+sum+mean+count"
    for end in (DAY_START_S + 90_000, 9):
        asked: dict[str, object] = {"interval": interval, "end": end}
        answer = site.ask(bars_target(ticks, columns, format=name, **asked))
        check(name, ticks, answer, expected(site, ticks, columns, **asked))


@EACH
def test_bars_in_a_format_have_a_tag_parts_and_are_fresh(
    site: Site, ticks: Series, name: str
) -> None:
    """304 by their own tag alone; a range of them; what was appended is in the next."""
    target = bars_target(ticks, format=name, interval="1h")
    whole, plain = site.ask(target), site.ask(bars_target(ticks, interval="1h"))
    etag = whole.fields["etag"]
    assert etag != plain.fields["etag"]
    assert site.ask(target, fields=[("If-None-Match", etag)]).status == 304
    assert site.ask(target, fields=[("If-None-Match", plain.fields["etag"])]).status == 200
    part = site.ask(target, fields=[("Range", "bytes=5-104"), ("If-Range", etag)])
    assert (part.status, part.content) == (206, whole.content[5:105])
    append(path_of(site.root, "price", DAY, ticks), struct.pack("<f", 1e9))
    append(path_of(site.root, "time", DAY, ticks), u32(DAY_START_S + 86_399))
    check(name, ticks, site.ask(target), expected(site, ticks, interval="1h"))


@pytest.mark.parametrize("text", ["parquet", "", "Arrow"])
def test_a_format_that_bars_do_not_have_is_refused(site: Site, ticks: Series, text: str) -> None:
    """400 with the names there are."""
    answer = site.ask(bars_target(ticks, format=text))
    assert answer.status == 400
    assert b"parameter format: must be one of columns, arrow, json, csv" in answer.content
