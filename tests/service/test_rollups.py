"""/api/bars with roll-ups: the same bytes with all, with some and with none of them."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.naive_bars import naive_bars_answer
from tests.storage.trees import (
    DAY,
    DAY_START_S,
    DTYPES,
    SERIES,
    U32_MAX,
    age,
    append,
    path_of,
    put,
    replace,
    start_of,
    u32,
)
from zerocopy.config import load as config
from zerocopy.core import counters as slots
from zerocopy.core.counters import SLOTS
from zerocopy.core.http.messages import Request, Response
from zerocopy.service import rollups
from zerocopy.storage import rollup_making
from zerocopy.storage.rollup_file import Key
from zerocopy.supervise.compose import build_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from zerocopy.service.service import Service

Span = tuple[int, int]
ALL_TIME = (0, U32_MAX)
DAYS = 4
ALL = "price:open+high+low+close+sum+mean+count,size:sum+count"
START_S, END_S = DAY_START_S + 12_345, DAY_START_S + (DAYS - 1) * 86_400 + 54_321
"""Amid a minute of the first day and of the last."""


@pytest.fixture(autouse=True)
def _few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (rollups, rollup_making):
        monkeypatch.setattr(module, "RECORDS_MIN", 100)


def paths(root: Path) -> list[str]:
    """Every day file."""
    return [
        path_of(str(root), column, DAY + timedelta(days=day))
        for day in range(DAYS)
        for column in ("time", "price", "size")
    ]


@pytest.fixture(name="root")
def fixture_root(tmp_path: Path) -> Path:
    """Four days of 400 ticks; the times of one reach into the next, and one column is shorter."""
    root, chance = tmp_path / "data", random.Random(4)
    for number in range(DAYS):
        begin = DAY_START_S + number * 86_400
        times = sorted(begin + chance.randrange(86_420) for _ in range(400))
        values = [chance.choice((1e8, -1e8, 0.1, 3e-9, float("nan"))) for _ in range(400)]
        sizes = [chance.randrange(1_000_000) / 7 for _ in range(400 - (number == 2))]
        columns = {
            "time": u32(*times),
            "price": struct.pack("<400f", *values),
            "size": struct.pack(f"<{len(sizes)}f", *sizes),
        }
        put(str(root), columns, DAY + timedelta(days=number))
    age(*paths(root))
    return root


class Site:
    """A service over the days; what it makes in the background is waited for."""

    def __init__(self, root: Path, **environ: str) -> None:
        self.root = str(root)
        self.counters = [0] * len(SLOTS)
        settings = config.load(
            os.devnull,
            environ={
                "DATA_PATH": self.root,
                "ZEROCOPY_DATA_SETTLE_S": "0",
                "ZEROCOPY_MEMORY_PLAN_CACHE_BYTES_MAX": "0",
                **environ,
            },
        )
        self.executor = ThreadPoolExecutor(2)
        self.service: Service = build_service(settings, self.counters, self.executor)

    def ask(self, columns: str = ALL, interval: str = "1h", span: Span = ALL_TIME) -> Response:
        """The response, once all roll-ups that it lacked are made."""
        target = f"/api/bars?symbol=X&type=MD&start={span[0]}&end={span[1]}&columns={columns}"
        request = Request(b"GET", f"{target}&interval={interval}".replace("+", "%2B").encode(), ())
        response = asyncio.run(self.service.respond(request))
        work = self.service._bars_work._rollups
        if work is not None:
            with suppress(RuntimeError):  # it was shut down
                work._executor.submit(lambda: None).result()
        while work is not None and work._is_making:
            work._executor.submit(lambda: None).result()
        return response

    def expected(self, columns: str = ALL, interval: str = "1h", span: Span = ALL_TIME) -> bytes:
        """The body that the oracle gives."""
        return naive_bars_answer(self.root, *SERIES, *span, columns, interval, dtypes=DTYPES)

    def close(self) -> None:
        """End its threads."""
        self.executor.shutdown()


@pytest.fixture(name="site", params=["memory", "files", "both"])
def fixture_site(root: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """Roll-ups kept here or there."""
    environ = {}
    if request.param != "memory":
        environ["ZEROCOPY_ROLLUPS_PATH"] = str(tmp_path / "rollups")
    if request.param == "files":
        environ["ZEROCOPY_ROLLUPS_BYTES_MAX"] = "0"
    site = Site(root, **environ)
    yield site
    site.close()


OTHERS = ("price", "price:count", "time:close,price:mean")
INTERVALS = ("1", "90", "1m", "7m", "1h", "5h", "1d", "2d", "1w", "auto")


FEW = ("7m", "1d")


@pytest.mark.parametrize(
    ("columns", "intervals"),
    [
        (ALL, INTERVALS),
        *((columns, FEW) for columns in OTHERS),
        *(pytest.param(columns, INTERVALS, marks=pytest.mark.slow) for columns in OTHERS),
    ],
)
def test_answers_are_those_of_the_naive_reader_with_roll_ups_and_without(
    site: Site, columns: str, intervals: tuple[str, ...]
) -> None:
    """Whole and cut at both ends, before any roll-up is there and after."""
    queries = [*itertools.product(intervals, (ALL_TIME, (START_S, END_S)))]
    wanted = [site.expected(columns, *query) for query in queries]  # twice: no file changes
    for _ in range(2):
        for query, content in zip(queries, wanted, strict=True):
            assert site.ask(columns, *query).content == content
    assert site.counters[slots.ROLLUPS_MADE] >= DAYS
    assert site.counters[slots.ROLLUPS_USED] > 0


def test_roll_ups_of_half_of_the_days_and_columns_are_enough(site: Site) -> None:
    """A day is read where one of its columns has none; what is missing is made meanwhile."""
    maker = rollup_making.Maker(
        site.service._planner.day_source,
        site.service._planner.settling,
        site.service._planner.rollups,  # type: ignore[arg-type]
    )
    day = DAY_START_S // 86_400
    dtype = site.service._planner.dtypes.of("price")
    for key in (Key(SERIES, day, "price"), Key(SERIES, day, "size"), Key(SERIES, day + 1, "size")):
        assert maker.make(key, dtype) is rollup_making.Outcome.MADE
    assert site.ask().content == site.expected()
    assert site.counters[slots.ROLLUPS_USED] == 2
    assert site.ask().content == site.expected()
    # One day has a column that is shorter, so the plan is not that of the other's roll-up.
    assert site.counters[slots.ROLLUPS_USED] == 2 + 2 * (DAYS - 1)
    assert site.counters[slots.ROLLUPS_MADE] == 2 * DAYS


def test_day_that_is_replaced_is_served_as_it_now_is(site: Site) -> None:
    """Its roll-up is made anew."""
    for _ in range(2):
        site.ask()
    made = site.counters[slots.ROLLUPS_MADE]
    path = path_of(site.root, "price", DAY)
    replace(path, struct.pack("<400f", *range(400)))
    assert site.ask().content == site.expected()
    age(path)
    for _ in range(2):
        assert site.ask().content == site.expected()
    assert site.counters[slots.ROLLUPS_MADE] == made + 1


def test_closed_day_that_grows_is_served_as_it_now_is(site: Site) -> None:
    """By a record of each column."""
    site.ask()
    for column in ("time", "price", "size"):
        record = u32(start_of(DAY) + 86_421) if column == "time" else struct.pack("<f", 7.5)
        append(path_of(site.root, column, DAY), record)
    assert site.ask().content == site.expected()
    age(*paths_of(site))
    for _ in range(2):
        assert site.ask().content == site.expected()


def paths_of(site: Site) -> list[str]:
    """The files of the first day."""
    return [path_of(site.root, column, DAY) for column in ("time", "price", "size")]


def test_roll_ups_that_are_deleted_cost_time_alone(root: Path, tmp_path: Path) -> None:
    """The answers of a process that has nothing in memory stay the same."""
    environ = {
        "ZEROCOPY_ROLLUPS_PATH": str(tmp_path / "rollups"),
        "ZEROCOPY_ROLLUPS_BYTES_MAX": "0",
    }
    site = Site(root, **environ)
    answer = site.ask()
    files = sorted((tmp_path / "rollups").rglob("*.rollup"))
    assert len(files) == 2 * DAYS
    for number, path in enumerate(files):
        if number % 3 == 0:
            path.unlink()
        elif number % 3 == 1:
            os.truncate(path, path.stat().st_size - 1)
        else:
            path.write_bytes(os.urandom(path.stat().st_size))
    for _ in range(2):
        assert site.ask(ALL, "7m").content == site.expected(ALL, "7m")
    assert site.ask().content == answer.content
    # The minutes of a day of which another column is shorter are not looked at.
    assert site.counters[slots.ROLLUPS_MADE] == 4 * DAYS - 1
    site.close()


def test_files_above_the_bound_go_and_answers_stay(root: Path, tmp_path: Path) -> None:
    """A process looks at what others left when it first computes; then it makes and deletes."""
    environ = {
        "ZEROCOPY_ROLLUPS_PATH": str(tmp_path / "rollups"),
        "ZEROCOPY_ROLLUPS_BYTES_MAX": "0",
    }
    site = Site(root, **environ)
    answer = site.ask()
    site.close()
    sizes = [path.stat().st_size for path in (tmp_path / "rollups").rglob("*.rollup")]
    assert len(sizes) == 2 * DAYS
    bound = max(sizes) * 4
    site = Site(root, **environ, ZEROCOPY_ROLLUPS_DISK_BYTES_MAX=str(bound))
    for _ in range(3):
        assert site.ask().content == answer.content == site.expected()
        left = sum(path.stat().st_size for path in (tmp_path / "rollups").rglob("*.rollup"))
        assert 0 < left <= bound
        assert site.counters[slots.ROLLUP_FILE_BYTES] == left
    assert site.counters[slots.ROLLUP_FILES_DELETED] > 2 * DAYS
    site.close()


def test_open_days_have_no_roll_ups(root: Path) -> None:
    """None is wanted, so none is tried."""
    site = Site(root, ZEROCOPY_DATA_SETTLE_S="600")
    for _ in range(2):
        assert site.ask().content == site.expected()
    assert site.counters[slots.ROLLUPS_MADE] == 0
    assert site.counters[slots.ROLLUPS_USED] == 0
    site.close()


def test_roll_up_that_cannot_be_made_is_not_tried_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The times of a day touch too many hours; the other days have theirs."""
    times = [DAY_START_S + 3_600 * hour for hour in range(400)]
    replace(path_of(str(root), "time", DAY), u32(*times))
    age(path_of(str(root), "time", DAY))
    site = Site(root)
    work = site.service._bars_work._rollups
    assert work is not None
    tried: list[Key] = []
    make = work._maker.make

    def noted(key: Key, dtype: object) -> rollup_making.Outcome:
        tried.append(key)
        return make(key, dtype)  # type: ignore[arg-type]

    monkeypatch.setattr(work._maker, "make", noted)
    for _ in range(3):
        assert site.ask("price").content == site.expected("price")
    assert len(tried) == DAYS
    assert site.counters[slots.ROLLUPS_MADE] == DAYS - 1
    site.close()


def test_what_waits_to_be_made_has_a_bound(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is at work, no more than that are noted; the next query notes the others."""
    monkeypatch.setattr(rollups, "WAITING_MAX", 3)
    work = site.service._bars_work._rollups
    assert work is not None
    gate = threading.Event()
    make = work._maker.make

    def late(key: Key, dtype: object) -> rollup_making.Outcome:
        assert gate.wait(10)
        return make(key, dtype)  # type: ignore[arg-type]

    monkeypatch.setattr(work._maker, "make", late)
    before = work.want
    seen: list[int] = []

    def want(wanted: object) -> None:
        before(wanted)  # type: ignore[arg-type]
        seen.append(len(work._waiting))
        gate.set()

    monkeypatch.setattr(work, "want", want)
    site.ask()
    assert seen[0] <= 3
    for _ in range(4):
        site.ask()
    assert site.counters[slots.ROLLUPS_MADE] == 2 * DAYS


def test_process_that_ends_makes_no_more_roll_ups(root: Path) -> None:
    """A thread that takes no work is no error of the query, nor of the next one."""
    site = Site(root)
    work = site.service._bars_work._rollups
    assert work is not None
    work._executor.shutdown()
    for _ in range(2):
        assert site.ask().content == site.expected()
    assert not work._is_making
    assert site.counters[slots.ROLLUPS_MADE] == 0
    site.close()
