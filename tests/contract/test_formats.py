"""Formats of /api/data over the wire: the same records, whole, in parts and as they grow."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.contract.site import Site, data_target
from tests.formats.readers import arrow_table, check_arrow
from tests.naive import naive_answer
from tests.storage.trees import (
    DAY,
    DAY_START_S,
    DTYPES,
    U32_MAX,
    append,
    marks,
    path_of,
    put,
    u32,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.server import Answer
    from zerocopy.storage.tree import Series

pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pytest.importorskip("polars", reason="polars is not installed")

ARROW = "application/vnd.apache.arrow.stream"
COLUMNS = ("price", "time", "id", "order")
MANY = 70_001
"""Records of a day: enough for a batch, and no multiple of what columns are padded to."""


def ask(
    site: Site,
    series: Series,
    *,
    span: tuple[int, int] = (0, U32_MAX),
    columns: Sequence[str] = COLUMNS,
    method: str = "GET",
    fields: Sequence[tuple[str, str]] = (),
    **others: str,
) -> Answer:
    """A request for the format `arrow`, of everything unless told otherwise."""
    target = data_target(series, span[0], span[1], columns, format="arrow", **others)
    return site.ask(target, method=method, fields=fields)


def check(
    site: Site,
    series: Series,
    answer: Answer,
    *,
    span: tuple[int, int] = (0, U32_MAX),
    columns: Sequence[str] = COLUMNS,
    last: int | None = None,
) -> None:
    """Fail unless it is the oracle's, with the fields of the format."""
    assert answer.status == 200
    assert answer.fields["content-type"] == ARROW
    assert answer.fields["content-length"] == str(len(answer.content))
    expected = naive_answer(site.root, *series, *span, columns, DTYPES, last)
    check_arrow(answer.content, expected, series._asdict())


def put_days(site: Site, series: Series, counts: Sequence[int]) -> None:
    """A day of so many records each; the third lacks a column."""
    for index, count in enumerate(counts):
        midnight_s = DAY_START_S + 86_400 * index
        columns = {"time": u32(*(midnight_s + at * 86_400 // count for at in range(count)))}
        columns["price"] = marks(count, base=1_000_000 * index)
        columns["id"] = marks(count, 8, base=index << 40)
        columns["order"] = marks(count, 16, base=index << 80)
        if index == 2:
            del columns["order"]
        put(site.root, columns, DAY + timedelta(days=index), series)


@pytest.fixture
def large(site: Site, series: Series) -> Series:
    """Four days, two of them long and one skipped: some 4.5 MB in two batches."""
    put_days(site, series, [MANY, 3, 5, MANY])
    return series


@pytest.fixture
def small(site: Site, series: Series) -> Series:
    """Three days of a few records; one is skipped."""
    put_days(site, series, [7, 2, 5, 1])
    return series


def test_arrow_of_few_records_is_what_readers_expect(site: Site, small: Series) -> None:
    """All of them, one, none, a cut, a tail over two days; one column, and time not among them."""
    for span in ((0, U32_MAX), (DAY_START_S, DAY_START_S), (0, 0), (DAY_START_S + 9, U32_MAX)):
        for columns in (COLUMNS, ("time",), ("order",)):
            answer = ask(site, small, span=span, columns=columns)
            check(site, small, answer, span=span, columns=columns)
    for last in (1, 2, 3, 100):
        check(site, small, ask(site, small, last=str(last)), last=last)


def test_arrow_of_many_records_leaves_by_sendfile_on_the_plain_path(
    site: Site, large: Series
) -> None:
    """Whole, cut in both days, and the tail of one; at least 99 % by the kernel."""
    ask(site, large)  # planned: what is measured is the sending
    counted = {path: sent(site, path) for path in ("sendfile", "copy")}
    answer = ask(site, large)
    if site.transport.environ["USE_TLS"] == "false":
        assert sent(site, "sendfile") - counted["sendfile"] >= 0.99 * len(answer.content)
        assert sent(site, "copy") - counted["copy"] <= 0.01 * len(answer.content)
    check(site, large, answer)
    assert len(arrow_table(answer.content).to_batches()) == 2
    span = (DAY_START_S + 40_000, DAY_START_S + 3 * 86_400 + 40_000)
    check(site, large, ask(site, large, span=span), span=span)
    check(site, large, ask(site, large, last="60001"), last=60_001)


def sent(site: Site, path: str) -> float:
    """Bytes that have left so far on one of the two paths."""
    return site.server.metric(f'zerocopy_sent_bytes_total{{path="{path}"}}')


def test_arrow_in_parts_is_the_whole(site: Site, large: Series) -> None:
    """Across columns, batches and padding; one range, many, a suffix; resumed by If-Range."""
    whole = ask(site, large)
    body, size, etag = whole.content, len(whole.content), whole.fields["etag"]
    second = body.index(b"\xff\xff\xff\xff", 20 * MANY)
    edges = [0, 1, 300, 4 * MANY + 500, second - 1, second, second + 9, size - 8, size - 1]
    with site.session() as session:
        target = data_target(large, columns=COLUMNS, format="arrow")
        for first in edges:
            for last in edges:
                if first <= last:
                    fields = [("Range", f"bytes={first}-{last}"), ("If-Range", etag)]
                    part = session.request(target, fields=fields)
                    assert part.status == 206
                    assert part.fields["content-range"] == f"bytes {first}-{last}/{size}"
                    assert part.content == body[first : last + 1]
                    assert not {"content-type", "content-disposition"} & part.fields.keys()
        several = session.request(target, fields=[("Range", f"bytes=0-7,{second}-{second},-8")])
    assert several.status == 206
    assert several.content.count(b"Content-Type: " + ARROW.encode()) == 3
    assert body[-8:] == b"\xff\xff\xff\xff\0\0\0\0"


def test_a_format_has_a_tag_and_a_name_of_its_own(site: Site, small: Series) -> None:
    """`columns` has no name; HEAD tells what GET does; a tag of another format never matches."""
    plain = site.ask(data_target(small, columns=COLUMNS))
    get, head = ask(site, small), ask(site, small, method="HEAD")
    assert plain.fields["etag"] != get.fields["etag"]
    assert "content-disposition" not in plain.fields
    name = re.escape(f"coinbase_{small.symbol}_MD_19700101T000000Z_21060207T062815Z.arrows")
    assert re.fullmatch(f'attachment; filename="{name}"', get.fields["content-disposition"])
    for field in ("etag", "content-length", "content-type", "content-disposition"):
        assert get.fields[field] == head.fields[field]
    assert head.content == b""
    for etag, status in ((get.fields["etag"], 304), (plain.fields["etag"], 200)):
        assert ask(site, small, fields=[("If-None-Match", etag)]).status == status
    assert (
        "content-disposition"
        not in ask(site, small, fields=[("If-None-Match", get.fields["etag"])]).fields
    )
    assert site.ask(data_target(small, columns=COLUMNS, format="columns")).content == plain.content


def test_arrow_holds_what_was_appended_before_the_request(site: Site, small: Series) -> None:
    """A day that grows column by column: whole records of all columns, never an older answer."""
    day = DAY + timedelta(days=3)
    tags = set()
    for index in range(3):
        second = DAY_START_S + 3 * 86_400 + 60 + index
        append(path_of(site.root, "time", day, small), u32(second))
        for column, record in (("price", marks(1)), ("id", marks(1, 8)), ("order", marks(1, 16))):
            append(path_of(site.root, column, day, small), record)
            answer = ask(site, small)
            check(site, small, answer)
            tags.add(answer.fields["etag"])
        check(site, small, ask(site, small, last="1"), last=1)
    assert len(tags) >= 3


@pytest.mark.parametrize("text", ["", "Arrow", "feather", "arrow%00"])
def test_an_unknown_format_is_refused_with_the_names_there_are(
    site: Site, small: Series, text: str
) -> None:
    """400 before anything is looked up."""
    answer = site.ask(f"{data_target(small)}&format={text}")
    assert answer.status == 400
    assert b"parameter format: must be one of columns, arrow" in answer.content


def test_last_is_the_tail_in_the_format_columns(site: Site, small: Series) -> None:
    """As many as there are; none is refused."""
    for last in (1, 3, 4, 11, U32_MAX):
        answer = site.ask(data_target(small, columns=COLUMNS, last=str(last)))
        assert answer.content == naive_answer(site.root, *small, 0, U32_MAX, COLUMNS, DTYPES, last)
    for text in ("0", "", "-1", "x", "4294967296"):
        answer = site.ask(data_target(small, columns=COLUMNS, last=text))
        assert answer.status == 400
        assert b"parameter last" in answer.content
