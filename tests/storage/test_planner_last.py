"""The tail of a plan: exact over many days, and no file of an earlier day is opened for it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.naive import naive_answer
from tests.storage.trees import (
    DAY,
    DAY_START_S,
    DTYPES,
    SERIES,
    U32_MAX,
    age,
    append,
    bench,
    marks,
    path_of,
    put,
    query,
    start_of,
    u32,
)
from zerocopy.storage import planner, tree

if TYPE_CHECKING:
    from pathlib import Path

DAYS = 9
PER_DAY = 6
COLUMNS = ("price", "time", "order")


@pytest.fixture
def root(tmp_path: Path) -> str:
    """Nine days: one empty, one without a column, one torn and one with a short column."""
    root = str(tmp_path)
    for index in range(DAYS):
        day = DAY + timedelta(days=index)
        count = 0 if index == 6 else PER_DAY
        times = u32(*(start_of(day) + 7 * (at // 2) for at in range(count)))
        columns = {"time": times, "price": marks(count, base=100 * index)}
        columns["order"] = marks(count, 16, base=100 * index)
        if index == 4:
            del columns["price"]
        if index == 7:
            columns["order"] = columns["order"][:-20]
        if index == 8:
            columns["price"] += b"\x01\x02"
        put(root, columns, day)
    return root


def test_the_last_records_of_any_range_are_the_oracles(root: str) -> None:
    """Every number of them, from ranges that end inside a day, at midnight, before all records."""
    with bench(root) as content, bench(root, small_bytes_max=0) as segments:
        for start_s in (0, DAY_START_S + 7, DAY_START_S + 3 * 86_400 + 8):
            for days, second in ((9, 0), (8, 7), (8, 6), (5, 86_399), (3, 14), (0, 0)):
                end_s = max(start_s, DAY_START_S + days * 86_400 + second)
                for last in (*range(1, 8), 13, 24, 25, 45, 46, 47, 1_000, U32_MAX):
                    expected = naive_answer(root, *SERIES, start_s, end_s, COLUMNS, DTYPES, last)
                    wanted = query(start_s, end_s, COLUMNS, last=last)
                    assert content.body(wanted) == expected
                    assert segments.body(wanted) == expected


@pytest.mark.parametrize(
    ("last", "days"), [(1, 1), (6, 1), (7, 2), (10, 2), (11, 4), (16, 4), (17, 5), (10_000, 8)]
)
def test_only_the_days_of_the_tail_are_opened(
    root: str, monkeypatch: pytest.MonkeyPatch, last: int, days: int
) -> None:
    """The empty day is opened, the one without a column is not; days before cost nothing."""
    opened: list[str] = []
    open_file = tree.open_file

    def count(directory_fd: int, name: str) -> object:
        opened.append(name)
        return open_file(directory_fd, name)

    monkeypatch.setattr(planner, "open_file", count)
    with bench(root) as planning:
        planning.plan(query(columns=COLUMNS, last=last))
    assert len(opened) == days * len(COLUMNS)


def test_a_tail_is_kept_until_its_own_days_or_the_directory_change(root: str) -> None:
    """The proof holds the days that were read, and the names of all others."""
    earlier, newest = path_of(root, "price"), path_of(root, "price", DAY + timedelta(days=8))
    age(earlier, newest, str(root))
    with bench(root) as planning:
        planned = planning.plan(query(last=2))
        assert planned.proof.reusable
        append(earlier, marks(1))
        assert planned.proof.holds()
        append(newest, marks(1))
        assert not planned.proof.holds()
        planned = planning.plan(query(last=2))
        put(root, {"time": u32(1), "price": marks(1)}, DAY + timedelta(days=30))
        assert not planned.proof.holds()


def test_two_tails_never_share_a_tag(root: str) -> None:
    """Of different length, or of the same length and another day."""
    with bench(root) as planning:
        queries = [query(last=last) for last in (1, 2, 11, 12)]
        queries.append(query(end_s=DAY_START_S + 8 * 86_400 - 1, last=1))
        tags = {planning.plan(wanted).validators.etag for wanted in queries}
    assert len(tags) == len(queries)
