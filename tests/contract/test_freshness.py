"""No answer is ever older than its request: hundreds of changes, each asked for at once."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.contract.site import Site, data_of, data_target, header_of
from tests.storage.trees import (
    DAY,
    DAY_START_S,
    OPEN_DAY,
    OPEN_START_S,
    age,
    append,
    folder,
    marks,
    path_of,
    put,
    replace,
    start_of,
    u32,
)
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from pathlib import Path

    from tests.contract.transports import Session

GAP = DAY + timedelta(days=1)
LATER = DAY + timedelta(days=2)
GAP_S = DAY_START_S + 86_400
END_S = DAY_START_S + 3 * 86_400 - 1
LARGE = 17_000  # more than 64 KiB a column
MANY = 10
CHANGES = pytest.mark.parametrize(
    ("count", "changes"),
    [
        pytest.param(3, 60, id="small"),
        pytest.param(LARGE, 12, id="large"),
        pytest.param(3, 300, id="small, many", marks=pytest.mark.slow),
        pytest.param(LARGE, 60, id="large, many", marks=pytest.mark.slow),
    ],
)
"""Of one file without a pause, and its records: what they cost is making and comparing them."""

SERIES = pytest.mark.parametrize(
    ("count", "series_count"),
    [
        pytest.param(3, MANY, id="small"),
        pytest.param(LARGE, MANY, id="large"),
        pytest.param(3, 25, id="small, many", marks=pytest.mark.slow),
        pytest.param(LARGE, 25, id="large, many", marks=pytest.mark.slow),
    ],
)

EACH = pytest.mark.parametrize(
    "series_count", [MANY, pytest.param(25, marks=pytest.mark.slow)], ids=str
)


def many_series(series: Series, count: int) -> list[Series]:
    """Series of one test, so that one wait settles all of them."""
    return [Series("coinbase", f"{series.symbol}-{index}", "MD") for index in range(count)]


def reused(site: Site) -> float:
    """How many plans were proved unchanged and used again."""
    return site.server.metric("zerocopy_plans_reused_total")


@CHANGES
def test_append_to_the_open_day_is_in_the_next_answer(
    site: Site, series: Series, count: int, changes: int
) -> None:
    """Append, flush, ask twice; `changes` times without a pause."""
    start_s, columns = OPEN_START_S, {"time": u32(*[OPEN_START_S] * count), "price": marks(count)}
    paths = put(site.root, columns, OPEN_DAY, series)
    target = data_target(series, start_s, start_s + 86_399, ("price",))
    with site.session() as session:
        for index in range(count, count + changes):
            for path, content in ((paths["price"], u32(index)), (paths["time"], u32(start_s + 1))):
                append(path, content)
            for _ in range(2):
                answer = session.request(target)
                assert header_of(answer)["columns"][0]["num_records"] == index + 1
                assert data_of(answer) == marks(index + 1)


@SERIES
def test_append_after_a_plan_was_used_again_is_in_the_next_answer(
    site: Site, series: Series, count: int, series_count: int
) -> None:
    """Settled files, so that the second answer is the first one used again; then they grow."""
    start_s, columns = OPEN_START_S, {"time": u32(*[OPEN_START_S] * count), "price": marks(count)}
    many = many_series(series, series_count)
    paths = {one: put(site.root, columns, OPEN_DAY, one) for one in many}
    used_before = reused(site)
    with site.session() as session:
        for grown in range(3):
            age(*(path for files in paths.values() for path in files.values()))
            for one in many:
                target = data_target(one, start_s, start_s + 86_399, ("price",))
                for _ in range(3):
                    assert data_of(session.request(target)) == marks(count + grown)
                append(paths[one]["price"], u32(count + grown))
                append(paths[one]["time"], u32(start_s + 5))
                for _ in range(2):
                    assert data_of(session.request(target)) == marks(count + grown + 1)
    assert reused(site) - used_before >= 3 * series_count * 2, "reuse was never put to the test"


@CHANGES
def test_closed_day_replaced_by_rename_is_served_as_replaced(
    site: Site, series: Series, count: int, changes: int
) -> None:
    """Replacements of equal size and modification time; each is asked for twice."""
    paths = put(
        site.root, {"time": u32(*[DAY_START_S] * count), "price": marks(count)}, DAY, series
    )
    old_ns = (DAY_START_S + 40 * 86_400) * 10**9
    os.utime(paths["time"], ns=(old_ns, old_ns))
    target = data_target(series, DAY_START_S, DAY_START_S + 86_399)
    times = u32(*[DAY_START_S] * count)
    with site.session() as session:
        for base in range(1, changes + 1):
            content = marks(count, base=base)
            replace(paths["price"], content, old_ns)
            assert data_of(session.request(target)) == times + content
            assert data_of(session.request(target)) == times + content


@SERIES
def test_closed_day_replaced_after_a_plan_was_used_again_is_served_as_replaced(
    site: Site, series: Series, count: int, series_count: int
) -> None:
    """As above with settled files: in place of each day that is served again comes another."""
    many = many_series(series, series_count)
    paths = {
        one: put(site.root, {"time": u32(*[DAY_START_S] * count), "price": marks(count)}, DAY, one)
        for one in many
    }
    old_ns = (DAY_START_S + 40 * 86_400) * 10**9
    used_before = reused(site)
    with site.session() as session:
        for base in range(3):
            for files in paths.values():
                os.utime(files["price"], ns=(old_ns, old_ns))
            age(*(path for files in paths.values() for path in files.values()))
            for one in many:
                target = data_target(one, DAY_START_S, DAY_START_S + 86_399, ("price",))
                for _ in range(3):
                    assert data_of(session.request(target)) == marks(count, base=base)
                replace(paths[one]["price"], marks(count, base=base + 1), old_ns)
                for _ in range(2):
                    assert data_of(session.request(target)) == marks(count, base=base + 1)
    assert reused(site) - used_before >= 3 * series_count * 2, "reuse was never put to the test"


def gapped(site: Site, many: list[Series]) -> None:
    """For each series two closed days with a gap between; all of it settled."""
    changed: list[str] = []
    for one in many:
        for day in (DAY, LATER):
            columns = {"time": u32(start_of(day)), "price": marks(1, base=1)}
            changed += put(site.root, columns, day, one).values()
        changed.append(folder(site.root, one))
    age(*changed)


def ask_both(session: Session, site: Site, one: Series) -> None:
    """The range with the gap, twice, is what the oracle reads from the files now."""
    expected = site.expected(one, DAY_START_S, END_S)
    for _ in range(2):
        assert session.request(data_target(one, DAY_START_S, END_S)).content == expected


@EACH
def test_new_day_in_a_gap_is_in_the_next_answer(
    site: Site, series: Series, series_count: int
) -> None:
    """A day that had no file gets one, column by column: skipped at first, then there."""
    many = many_series(series, series_count)
    gapped(site, many)
    used_before = reused(site)
    with site.session() as session:
        for one in many:
            ask_both(session, site, one)
            put(site.root, {"time": u32(GAP_S)}, GAP, one)
            ask_both(session, site, one)
            put(site.root, {"price": marks(1, base=2)}, GAP, one)
            ask_both(session, site, one)
    assert reused(site) - used_before >= series_count


@EACH
def test_deleted_column_and_deleted_day_are_gone_from_the_next_answer(
    site: Site, series: Series, series_count: int
) -> None:
    """A day that loses a column is skipped; one that loses all its files was never there."""
    many = many_series(series, series_count)
    gapped(site, many)
    used_before = reused(site)
    with site.session() as session:
        for one in many:
            ask_both(session, site, one)
            os.unlink(path_of(site.root, "price", DAY, one))
            ask_both(session, site, one)
            os.unlink(path_of(site.root, "time", DAY, one))
            ask_both(session, site, one)
    assert reused(site) - used_before >= series_count


@EACH
def test_directory_replaced_or_removed_shows_in_the_next_answer(
    site: Site, series: Series, series_count: int
) -> None:
    """Another directory under the same name, none, and the first one again."""
    many = many_series(series, series_count)
    gapped(site, many)
    used_before = reused(site)
    chance = random.Random(5)
    with site.session() as session:
        for one in many:
            ask_both(session, site, one)
            level = folder(site.root, one)
            if chance.random() < 0.5:
                level = os.path.dirname(level)
            os.rename(level, level + ".away")
            assert session.request(data_target(one, DAY_START_S, END_S)).status == 404
            put(site.root, {"time": u32(GAP_S), "price": marks(1, base=9)}, GAP, one)
            ask_both(session, site, one)
            shutil.rmtree(level)
            assert session.request(data_target(one, DAY_START_S, END_S)).status == 404
            os.rename(level + ".away", level)
            ask_both(session, site, one)
    assert reused(site) - used_before >= series_count


def test_directory_moved_out_and_linked_back_never_serves_what_was_written_outside(
    site: Site, series: Series, tmp_path: Path
) -> None:
    """A link below the root is as good as absent; only bytes planned inside may still be given."""
    outside = Series(f"L{series.symbol}", "X", "MD")
    paths = put(site.root, {"time": u32(DAY_START_S), "price": marks(1)}, DAY, outside)
    age(*paths.values())
    target = data_target(outside, DAY_START_S, DAY_START_S + 86_399)
    level = os.path.join(site.root, outside.exchange)
    with site.session() as session:
        inside = session.request(target)
        assert inside.status == 200
        os.rename(level, tmp_path / "moved")
        os.symlink(tmp_path / "moved", level)
        assert session.request(f"{target}&new=1").status == 404
        again = session.request(target)
        assert again.status == 404 or again.content == inside.content
        with open(paths["price"], "r+b") as file:
            file.write(b"\0\0\0\0")
        assert session.request(target).status == 404


@CHANGES
def test_replacing_without_pause_never_mixes_two_files(
    site: Site, series: Series, count: int, changes: int
) -> None:
    """A day replaced as fast as possible: every answer is one file, none older than its request."""
    paths = put(
        site.root, {"time": u32(*[DAY_START_S] * count), "price": bytes(4 * count)}, DAY, series
    )
    finished = [0]
    stop = threading.Event()

    def keep_replacing() -> None:
        version = 0
        while not stop.is_set():
            version += 1
            replace(paths["price"], u32(*[version] * count))
            finished[0] = version

    writer = threading.Thread(target=keep_replacing)
    writer.start()
    seen: list[int] = []
    try:
        with site.session() as session:
            while len(seen) < changes or len(set(seen)) <= 20:
                floor = finished[0]
                answer = session.request(data_target(series, columns=("price",)))
                versions = set(memoryview(data_of(answer)).cast("I"))
                assert answer.status == 200
                assert len(versions) == 1
                assert header_of(answer)["columns"][0]["num_records"] == count
                seen.append(versions.pop())
                assert seen[-1] >= floor
    finally:
        stop.set()
        writer.join()


def test_directory_that_comes_and_goes_without_pause_is_there_or_not(
    site: Site, series: Series
) -> None:
    """While its directory is renamed away and back, a series is whole or not found."""
    put(site.root, {"time": u32(DAY_START_S), "price": marks(1)}, DAY, series)
    expected = site.expected(series)
    stop = threading.Event()
    level = folder(site.root, series)

    def keep_renaming() -> None:
        while not stop.is_set():
            os.rename(level, level + ".away")
            os.rename(level + ".away", level)

    renamer = threading.Thread(target=keep_renaming)
    renamer.start()
    statuses: set[int] = set()
    deadline_s = time.monotonic() + 20
    try:
        with site.session() as session:
            while statuses != {200, 404} and time.monotonic() < deadline_s:
                for _ in range(100):
                    answer = session.request(data_target(series))
                    statuses.add(answer.status)
                    assert answer.status in {200, 404}
                    assert answer.status == 404 or answer.content == expected
    finally:
        stop.set()
        renamer.join()
    assert 404 in statuses
