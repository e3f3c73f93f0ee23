"""`Planner` against the oracle: random trees, random queries, and market data that was recorded."""

from __future__ import annotations

import json
import random
import tempfile
import threading
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.naive import naive_answer
from tests.storage.trees import (
    DAY,
    DAY_S,
    DTYPES,
    SERIES,
    SIZES,
    U32_MAX,
    bench,
    body_of,
    marks,
    put,
    query,
    start_of,
    u32,
)
from zerocopy.core.errors import NotFoundError
from zerocopy.formats.columns import represent
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Mapping

MARKET_DATA = Path(__file__).resolve().parents[3] / "shared" / "market-data"
COLUMNS = ("time", "price", "id", "order", "depth.01.01.25")
EPOCHS = (date(1970, 1, 1), date(1999, 12, 30), date(2025, 1, 31), date(2069, 12, 29))


class Case(NamedTuple):
    """A series on disk, day by day and column by column, and a query of it."""

    days: Mapping[date, Mapping[str, bytes]]
    start_s: int
    end_s: int
    columns: tuple[str, ...]
    small_bytes_max: int
    last: int | None


@st.composite
def days_of_files(draw: st.DrawFn) -> dict[date, dict[str, bytes]]:
    """Up to three days in a row: gaps, lost columns, odd lengths, torn tails, duplicates."""
    epoch = draw(st.sampled_from(EPOCHS))
    days: dict[date, dict[str, bytes]] = {}
    for offset in sorted(draw(st.sets(st.integers(0, 2), max_size=3))):
        day = epoch + timedelta(days=offset)
        second = st.one_of(
            st.integers(0, 3), st.sampled_from([40_000, 86_398, 86_399]), st.integers(0, DAY_S - 1)
        )
        times = sorted(draw(st.lists(second, max_size=12)))
        files = {"time": u32(*(start_of(day) + time for time in times))}
        for column in draw(st.sets(st.sampled_from(COLUMNS[1:]))):
            count = max(0, len(times) + draw(st.integers(-3, 2)))
            files[column] = marks(count, SIZES.get(column, 4), base=1_000 * offset)
        torn = draw(st.dictionaries(st.sampled_from(sorted(files)), st.integers(0, 15)))
        for column, tail in torn.items():
            whole = len(files[column])
            files[column] += bytes(tail % SIZES.get(column, 4))
            assert len(files[column]) // SIZES.get(column, 4) == whole // SIZES.get(column, 4)
        lost = draw(st.sampled_from([None, None, None, "time"]))
        files.pop(str(lost), None)
        days[day] = files
    return days


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Ends are drawn near records, near midnights and at both ends of the u32 range."""
    days = draw(days_of_files())
    keys = {0, U32_MAX}
    for day, files in days.items():
        midnight_s = start_of(day)
        keys |= {midnight_s - 1, midnight_s, midnight_s + DAY_S - 1, midnight_s + DAY_S}
        times = files.get("time", b"")
        for at in range(0, len(times) - 3, 4):
            time = int.from_bytes(times[at : at + 4], "little")
            keys |= {time - 1, time, time + 1}
    key = st.sampled_from(sorted(key for key in keys if 0 <= key <= U32_MAX))
    start_s, end_s = sorted((draw(key), draw(key)))
    columns = draw(st.lists(st.sampled_from(COLUMNS), min_size=1, unique=True))
    last = draw(st.one_of(st.none(), st.none(), st.integers(1, 40), st.just(U32_MAX)))
    return Case(days, start_s, end_s, tuple(columns), draw(st.sampled_from([0, 1 << 20])), last)


@given(case=cases())
def test_plan_of_any_tree_and_query_equals_oracle(case: Case) -> None:
    """Header and bytes are the oracle's; a column of no day at all is not found."""
    with tempfile.TemporaryDirectory() as root:
        put(root, {})
        for day, files in case.days.items():
            put(root, files, day)
        wanted = query(case.start_s, case.end_s, case.columns, last=case.last)
        known = {column for files in case.days.values() for column in files}
        with bench(root, small_bytes_max=case.small_bytes_max) as opened:
            if not known.issuperset(case.columns):
                with pytest.raises(NotFoundError, match="column"):
                    opened.plan(wanted)
                return
            planned = opened.plan(wanted)
            body = body_of(planned)
        assert body == naive_answer(root, *SERIES, *case[1:4], DTYPES, case.last)
        assert all(segment.count > 0 for segment in planned.representation.segments)
        assert len(planned.representation.segments) <= len(case.days) * len(case.columns)
        header = json.loads(body.partition(b"\n")[0])
        assert len({column["num_records"] for column in header["columns"]}) == 1


@given(case=cases(), changed=cases())
def test_plan_after_any_change_is_as_of_the_call(case: Case, changed: Case) -> None:
    """The same planner, its listing kept or not, answers for what is on disk now."""
    with tempfile.TemporaryDirectory() as root:
        put(root, {"time": b"", "price": b"", "id": b""}, date(2010, 1, 1))
        with bench(root) as opened:
            for start_s, end_s, days in ((0, U32_MAX, case.days), (*changed[1:3], changed.days)):
                for day, files in days.items():
                    put(root, files, day)
                body = opened.body(query(start_s, end_s, ("id", "price")))
                assert body == naive_answer(root, *SERIES, start_s, end_s, ("id", "price"), DTYPES)


@pytest.mark.skipif(not MARKET_DATA.is_dir(), reason="../shared/market-data is not there")
def test_plan_of_recorded_market_data_equals_oracle() -> None:
    """Every recorded series: everything, one second, and random ranges of random columns."""
    chance = random.Random(20_210_417)
    compared = 0
    root = str(MARKET_DATA)
    with bench(root) as content, bench(root, small_bytes_max=0) as segments:
        for directory in sorted(MARKET_DATA.glob("*/*/*/")):
            series = Series(*directory.parts[-3:])
            files = sorted(directory.glob("time.*.bin"))
            data = b"".join(file.read_bytes() for file in files)
            times = sorted(memoryview(data).cast("I"))
            columns = sorted({file.name.split(".", 1)[0] for file in directory.glob("*.bin")})
            ranges = [(0, U32_MAX), (times[0], times[-1]), (times[-1], times[-1])]
            pairs = [sorted(chance.choices(times, k=2)) for _ in range(12)]
            ranges += [(start_s, end_s) for start_s, end_s in pairs]
            for start_s, end_s in ranges:
                chosen = chance.sample(columns, chance.randint(1, len(columns)))
                last = chance.choice([None, 1, 100, 10_000])
                body = naive_answer(root, *series, start_s, end_s, chosen, None, last)
                wanted = query(start_s, end_s, chosen, series, last)
                assert content.body(wanted) == body
                assert segments.body(wanted) == body
                compared += 1
    assert compared >= 15 * 20


def test_plan_from_several_threads_gives_each_its_own_answer(tmp_path: Path) -> None:
    """One planner, eight threads: no answer and no descriptor of one gets into another."""
    root = str(tmp_path)
    expected: dict[int, bytes] = {}
    for index in range(16):
        series = Series("coinbase", f"S{index}", "MD")
        start_s = start_of(DAY)
        put(root, {"time": u32(start_s, start_s + 1), "price": marks(2, base=index)}, DAY, series)
        expected[index] = naive_answer(root, *series, 0, U32_MAX, ("time", "price"))
    wrong: list[object] = []
    with bench(root) as opened:

        def work(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(100):
                index = chance.randrange(16)
                series = Series("coinbase", f"S{index}", "MD")
                try:
                    planned = opened.planner.plan(query(series=series), represent)
                except Exception as error:  # noqa: BLE001 - reported by the assertion below
                    wrong.append(error)
                    continue
                if planned.content != expected[index]:
                    wrong.append((index, planned.content))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
