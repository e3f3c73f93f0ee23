"""The computed formats of /api/data over the wire: every reader finds what the oracle has."""

from __future__ import annotations

import json
import os
import re
import struct
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.contract.site import Site, data_target, serve
from tests.formats.readers import CHECKS
from tests.naive import naive_answer
from tests.storage.trees import (
    DAY,
    DAY_START_S,
    DTYPES,
    SERIES,
    U32_MAX,
    append,
    marks,
    path_of,
    put,
    replace,
    u32,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.contract.transports import Transport
    from tests.server import Answer
    from zerocopy.storage.tree import Series

pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pytest.importorskip("polars", reason="polars is not installed")

COLUMNS = ("price", "time", "id", "order")
MEDIA_TYPES = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8; header=present",
    "parquet": "application/vnd.apache.parquet",
}
EACH = pytest.mark.parametrize("name", CHECKS)
TEXTS = (b"plain", b'q"uo,te', b"line\nfeed", b"\xc3\xa9", b"\xff\xfe", b"", b"a\0b", b" x ")
FLOATS = (0.1, -0.0, 1e30, 1e-45, 3.4028235e38, float("nan"), float("inf"), float("-inf"))
MANY = 9_001
"""Records of a day: too many for the thread that plans, and no multiple of a batch."""


def ask(
    site: Site,
    series: Series,
    name: str,
    *,
    span: tuple[int, int] = (0, U32_MAX),
    columns: Sequence[str] = COLUMNS,
    method: str = "GET",
    fields: Sequence[tuple[str, str]] = (),
    **others: str,
) -> Answer:
    """A request for a format, of everything unless told otherwise."""
    target = data_target(series, span[0], span[1], columns, format=name, **others)
    return site.ask(target, method=method, fields=fields)


def check(
    site: Site,
    series: Series,
    name: str,
    answer: Answer,
    *,
    span: tuple[int, int] = (0, U32_MAX),
    columns: Sequence[str] = COLUMNS,
    last: int | None = None,
) -> None:
    """Fail unless it is the oracle's, with the fields of the format."""
    assert answer.status == 200, answer.content
    assert answer.fields["content-type"] == MEDIA_TYPES[name]
    assert answer.fields["content-length"] == str(len(answer.content))
    CHECKS[name](answer.content, naive_answer(site.root, *series, *span, columns, DTYPES, last))


def put_days(site: Site, series: Series, counts: Sequence[int]) -> None:
    """A day of so many records each; the third lacks a column."""
    for index, count in enumerate(counts):
        midnight_s = DAY_START_S + 86_400 * index
        columns = {"time": u32(*(midnight_s + at * 86_400 // count for at in range(count)))}
        columns["price"] = b"".join(
            struct.pack("<f", FLOATS[at % len(FLOATS)] if at % 3 else at / 7) for at in range(count)
        )
        columns["id"] = marks(count, 8, base=index << 60)
        columns["order"] = b"".join(TEXTS[at % len(TEXTS)].ljust(16, b"\0") for at in range(count))
        if index == 2:
            del columns["order"]
        put(site.root, columns, DAY + timedelta(days=index), series)


@pytest.fixture
def large(site: Site, series: Series) -> Series:
    """Four days, two of them long and one skipped: too many records for a small answer."""
    put_days(site, series, [MANY, 3, 5, MANY])
    return series


@pytest.fixture
def small(site: Site, series: Series) -> Series:
    """Three days of a few records; one is skipped."""
    put_days(site, series, [17, 2, 5, 1])
    return series


@EACH
def test_few_records_are_what_readers_expect(site: Site, small: Series, name: str) -> None:
    """All of them, one, none, a cut, a tail over two days; one column, and time not among them."""
    for span in ((0, U32_MAX), (DAY_START_S, DAY_START_S), (0, 0), (DAY_START_S + 9, U32_MAX)):
        for columns in (COLUMNS, ("time",), ("order",), ("price",)):
            answer = ask(site, small, name, span=span, columns=columns)
            check(site, small, name, answer, span=span, columns=columns)
    for last in (1, 2, 3, 100):
        check(site, small, name, ask(site, small, name, last=str(last)), last=last)


@EACH
def test_many_records_are_what_readers_expect(site: Site, large: Series, name: str) -> None:
    """Whole, cut in both days, and the tail of one; the next one is not computed again."""
    whole = ask(site, large, name)
    check(site, large, name, whole)
    # A file that changed within the last 100 ms proves nothing: so a few may be computed again.
    for _ in range(1_000):
        computed = site.server.metric("zerocopy_answers_computed_total")
        assert ask(site, large, name).content == whole.content
        if site.server.metric("zerocopy_answers_computed_total") == computed:
            break
    else:
        pytest.fail("nothing is kept")
    assert site.server.metric("zerocopy_spool_bytes") > 0
    span = (DAY_START_S + 40_000, DAY_START_S + 3 * 86_400 + 40_000)
    check(site, large, name, ask(site, large, name, span=span), span=span)
    check(site, large, name, ask(site, large, name, last="6001"), last=6_001)


@EACH
def test_parts_are_those_of_the_whole(site: Site, large: Series, name: str) -> None:
    """Across the bytes in memory and those of the spool; one range, many; resumed by If-Range."""
    whole = ask(site, large, name)
    body, size, etag = whole.content, len(whole.content), whole.fields["etag"]
    edges = [0, 1, 300, 65_535, 65_536, 70_000, size // 2, size - 1]
    with site.session() as session:
        target = data_target(large, columns=COLUMNS, format=name)
        for first in edges:
            for last in edges:
                if first <= last:
                    fields = [("Range", f"bytes={first}-{last}"), ("If-Range", etag)]
                    part = session.request(target, fields=fields)
                    assert part.status == 206
                    assert part.fields["content-range"] == f"bytes {first}-{last}/{size}"
                    assert part.content == body[first : last + 1]
        several = session.request(target, fields=[("Range", "bytes=0-7,70000-70003,-8")])
        beyond = session.request(target, fields=[("Range", f"bytes={size}-")])
    assert several.status == 206
    assert several.content.count(b"Content-Type: " + MEDIA_TYPES[name].encode()) == 3
    assert beyond.status == 416


@EACH
@pytest.mark.parametrize("count", [7, MANY], ids=["few", "many"])
def test_a_computed_format_has_a_tag_and_a_name_of_its_own(
    site: Site, series: Series, name: str, count: int
) -> None:
    """HEAD tells what GET does; a tag of another format never matches; 412 and 304 as always."""
    put_days(site, series, [count])
    plain = site.ask(data_target(series, columns=COLUMNS))
    get, head = ask(site, series, name), ask(site, series, name, method="HEAD")
    assert plain.fields["etag"] != get.fields["etag"]
    told = re.escape(f"coinbase_{series.symbol}_MD_19700101T000000Z_21060207T062815Z.{name}")
    assert re.fullmatch(f'attachment; filename="{told}"', get.fields["content-disposition"])
    for field in ("etag", "content-length", "content-type", "accept-ranges"):
        assert get.fields[field] == head.fields[field]
    assert {"last-modified", "cache-control"} <= get.fields.keys() & head.fields.keys()
    assert head.content == b""
    for etag, status in ((get.fields["etag"], 304), (plain.fields["etag"], 200)):
        answer = ask(site, series, name, fields=[("If-None-Match", etag)])
        assert answer.status == status
    assert ask(site, series, name, fields=[("If-Match", '"x"')]).status == 412


@EACH
def test_a_precondition_is_answered_without_computing(site: Site, large: Series, name: str) -> None:
    """What the fields need is known once the files are planned; another client has the tag."""
    etag = ask(site, large, name).fields["etag"]
    replace(
        path_of(site.root, "price", DAY, large), marks(MANY, base=7)
    )  # what was computed no longer holds
    computed = site.server.metric("zerocopy_answers_computed_total")
    assert ask(site, large, name, fields=[("If-Match", etag)]).status == 412
    assert site.server.metric("zerocopy_answers_computed_total") == computed
    check(site, large, name, ask(site, large, name))


@EACH
def test_answers_hold_what_was_appended_before_the_request(
    site: Site, small: Series, name: str
) -> None:
    """A day that grows column by column: whole records of all columns, never an older answer."""
    day = DAY + timedelta(days=3)
    tags = set()
    for index in range(3):
        second = DAY_START_S + 3 * 86_400 + 60 + index
        append(path_of(site.root, "time", day, small), u32(second))
        for column, record in (("price", marks(1)), ("id", marks(1, 8)), ("order", marks(1, 16))):
            append(path_of(site.root, column, day, small), record)
            answer = ask(site, small, name)
            check(site, small, name, answer)
            tags.add(answer.fields["etag"])
    assert len(tags) >= 3


@EACH
def test_a_day_that_was_replaced_is_answered_as_it_now_is(
    site: Site, large: Series, name: str
) -> None:
    """By the next request, though what was computed is kept."""
    check(site, large, name, ask(site, large, name))
    replace(path_of(site.root, "price", DAY, large), marks(MANY, base=99))
    check(site, large, name, ask(site, large, name))


def test_a_spool_on_disk_leaves_by_sendfile_and_leaves_nothing(
    transport: Transport, tmp_path: Path
) -> None:
    """Whole and in parts; on the plain path the kernel sends all but the beginning."""
    root, spool = str(tmp_path / "root"), tmp_path / "spool"
    spool.mkdir()
    times = u32(*(DAY_START_S + at // 4 for at in range(4 * MANY)))
    put(root, {"time": times, "price": marks(4 * MANY)})
    with serve(transport, root, ZEROCOPY_FORMATS_SPOOL_PATH=str(spool)) as site:
        for name in CHECKS:
            answer = ask(site, SERIES, name, columns=("time", "price"))
            check(site, SERIES, name, answer, columns=("time", "price"))
            part = ask(
                site,
                SERIES,
                name,
                columns=("time", "price"),
                fields=[("Range", "bytes=60000-80000"), ("If-Range", answer.fields["etag"])],
            )
            assert part.content == answer.content[60_000:80_001]
            if name == "json" and transport.environ["USE_TLS"] == "false":
                sent = site.server.metric('zerocopy_sent_bytes_total{path="sendfile"}')
                assert sent >= len(answer.content) - 65_536
        assert os.listdir(spool) == []


def test_too_many_records_and_a_full_spool_are_told(transport: Transport, tmp_path: Path) -> None:
    """400 with the number and the format that has no bound; 503 with Retry-After."""
    root = str(tmp_path)
    times = u32(*(DAY_START_S + at // 4 for at in range(MANY)))
    put(root, {"time": times, "price": marks(MANY)})
    bounds = {
        "ZEROCOPY_FORMATS_RECORDS_MAX": str(MANY - 1),
        "ZEROCOPY_FORMATS_SPOOL_BYTES_MAX": "20000",
    }
    with serve(transport, root, **bounds) as site:
        for name in CHECKS:
            refused = ask(site, SERIES, name, columns=("time", "price"))
            assert refused.status == 400
            assert f"holds {MANY} records".encode() in refused.content
            assert b"format arrow" in refused.content
        for name in ("columns", "arrow"):
            compressed = data_target(
                SERIES, columns=("time", "price"), format=name, compress="zstd"
            )
            refused = site.ask(compressed)
            assert refused.status == 400
            assert (
                f"{MANY - 1} are answered in {name} with compress=zstd".encode() in refused.content
            )
            assert site.ask(compressed, fields=[("Accept-Encoding", "gzip")]).status == 200
        full = ask(site, SERIES, "json", columns=("time", "price"), last=str(MANY - 1))
        assert full.status == 503
        assert full.fields["retry-after"] == "1"
        assert b"no room" in full.content
        few = ask(site, SERIES, "json", columns=("time", "price"), last="100")
        assert json.loads(few.content)["num_records"] == 100
