"""`Proof`: whatever can change an answer makes the old one be asked anew; what cannot, does not."""

from __future__ import annotations

import os
import shutil
import time
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.naive import naive_answer
from tests.storage.trees import (
    DAY,
    DAY_START_S,
    SERIES,
    U32_MAX,
    Bench,
    age,
    append,
    bench,
    body_of,
    folder,
    marks,
    path_of,
    put,
    query,
    replace,
    start_of,
    u32,
)
from zerocopy.core.errors import DataChangedError, NotFoundError, ZerocopyError
from zerocopy.storage.dayfile import DayFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zerocopy.storage.planner import Planned

ROOTS = 60  # more than there are tests
LATER = DAY + timedelta(days=2)
GAP = DAY + timedelta(days=1)
GAP_S = DAY_START_S + 86_400
END_S = DAY_START_S + 3 * 86_400 - 1
WANTED = query(DAY_START_S, END_S)


@pytest.fixture(scope="module", name="roots")
def fixture_roots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Many trees of three days: the first and the last whole, nothing between; all settled."""
    roots = [str(tmp_path_factory.mktemp("root")) for _ in range(ROOTS)]
    paths: list[str] = []
    for root in roots:
        for day, start_s in ((DAY, DAY_START_S), (LATER, DAY_START_S + 2 * 86_400)):
            columns = {"time": u32(start_s, start_s + 9), "price": marks(2), "volume": marks(2)}
            paths += put(root, columns, day).values()
    age(*paths, *map(folder, roots))
    return iter(roots)


@pytest.fixture(name="root")
def fixture_root(roots: Iterator[str]) -> str:
    """One of them, for one test."""
    return next(roots)


@pytest.fixture(name="opened")
def fixture_opened(root: str) -> Iterator[Bench]:
    """A planner over the three days."""
    with bench(root) as opened:
        yield opened


def test_proof_nothing_changed_holds(opened: Bench) -> None:
    """An answer of settled files is reusable, and its proof holds as often as it is asked."""
    proof = opened.plan(WANTED).proof
    assert proof.reusable
    assert all(proof.holds() for _ in range(3))


def _append(root: str) -> None:
    append(path_of(root, "time", LATER), u32(END_S))
    append(path_of(root, "price", LATER), marks(1))


def _append_torn(root: str) -> None:
    append(path_of(root, "price", LATER), b"?")


def _truncate(root: str) -> None:
    os.truncate(path_of(root, "price"), 4)


def _replace_same_size(root: str) -> None:
    path = path_of(root, "price")
    replace(path, marks(2, base=50), os.stat(path).st_mtime_ns)


def _overwrite_in_place(root: str) -> None:
    path = path_of(root, "price")
    before = os.stat(path)
    with open(path, "r+b") as file:
        file.write(marks(2, base=60))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _delete(root: str) -> None:
    os.unlink(path_of(root, "price"))


def _delete_time(root: str) -> None:
    os.unlink(path_of(root, "time", LATER))


def _link(root: str) -> None:
    path = path_of(root, "price")
    os.rename(path, path + ".away")
    os.symlink(path + ".away", path)


def _new_day(root: str) -> None:
    put(root, {"time": u32(GAP_S), "price": marks(1)}, GAP)


def _new_day_renamed_in(root: str) -> None:
    elsewhere = os.path.join(root, "elsewhere")
    os.makedirs(elsewhere)
    for column, content in (("time", u32(GAP_S)), ("price", marks(1))):
        with open(os.path.join(elsewhere, column), "wb") as file:
            file.write(content)
        os.rename(os.path.join(elsewhere, column), path_of(root, column, GAP))


def _half_a_new_day(root: str) -> None:
    put(root, {"time": u32(GAP_S)}, GAP)


def _replace_directory(root: str) -> None:
    os.rename(folder(root), folder(root) + ".old")
    shutil.copytree(folder(root) + ".old", folder(root))


def _replace_symbol(root: str) -> None:
    symbol = os.path.dirname(folder(root))
    os.rename(symbol, symbol + ".old")
    put(root, {"time": u32(DAY_START_S), "price": marks(1, base=9)})


CHANGES: tuple[Callable[[str], None], ...] = (
    _append,
    _append_torn,
    _truncate,
    _replace_same_size,
    _overwrite_in_place,
    _delete,
    _delete_time,
    _link,
    _new_day,
    _new_day_renamed_in,
    _half_a_new_day,
    _replace_directory,
    _replace_symbol,
)


@pytest.mark.parametrize("change", CHANGES)
def test_proof_any_change_of_the_files_does_not_hold(
    opened: Bench, root: str, change: Callable[[str], None]
) -> None:
    """After the change the proof is void at once, and the new plan is the oracle's."""
    planned = opened.plan(WANTED)
    assert planned.proof.reusable
    change(root)
    assert not planned.proof.holds()
    assert opened.body(WANTED) == naive_answer(root, *SERIES, DAY_START_S, END_S, ("time", "price"))


@pytest.mark.parametrize("remove", ["type", "symbol", "exchange", "root"])
def test_proof_directory_removed_does_not_hold(opened: Bench, root: str, remove: str) -> None:
    """Whatever goes above the files, the answer goes with it."""
    proof = opened.plan(WANTED).proof
    depth = ["root", "exchange", "symbol", "type"].index(remove)
    shutil.rmtree(os.path.join(root, *SERIES[:depth]))
    assert not proof.holds()
    with pytest.raises(ZerocopyError):
        opened.plan(WANTED)


def test_proof_without_gaps_ignores_the_directory(opened: Bench, root: str) -> None:
    """Where every day of the range is there, a new name elsewhere cannot change the answer."""
    wanted = query(DAY_START_S, DAY_START_S + 86_399)
    planned = opened.plan(wanted)
    _new_day(root)
    assert planned.proof.holds()
    assert opened.body(wanted) == body_of(planned)


def test_proof_of_a_skipped_day_ends_when_its_column_comes(opened: Bench, root: str) -> None:
    """A day that lacked a column is in the answer as soon as the column is there."""
    _half_a_new_day(root)
    age(folder(root), path_of(root, "time", GAP))
    wanted = query(GAP_S, GAP_S + 86_399)
    planned = opened.plan(wanted)
    assert (planned.proof.reusable, len(planned.skipped)) == (True, 1)
    put(root, {"price": marks(1, base=5)}, GAP)
    assert not planned.proof.holds()
    assert body_of(opened.plan(wanted)).endswith(marks(1, base=5))


@pytest.mark.parametrize("young", ["file", "directory"])
def test_proof_of_what_changed_a_moment_ago_is_not_reusable(
    opened: Bench, root: str, young: str
) -> None:
    """Two changes in one tick of the kernel's clock look alike, so a young stamp proves nothing."""
    if young == "file":
        append(path_of(root, "price"), b"")
        os.utime(path_of(root, "price"))
    else:
        _new_day(root)
        os.unlink(path_of(root, "time", GAP))
        os.unlink(path_of(root, "price", GAP))
    planned = opened.plan(WANTED)
    assert not planned.proof.reusable
    age(folder(root), path_of(root, "price"))
    assert opened.plan(WANTED).proof.reusable


def etag_of(planned: Planned) -> bytes:
    """The entity tag that the answer would carry."""
    return planned.validators.etag


def test_validators_of_a_copy_are_those_of_the_original(opened: Bench, root: str) -> None:
    """A replica with the same bytes, sizes and modification times gives the same ETag."""
    copy = root + ".copy"
    shutil.copytree(root, copy, copy_function=shutil.copy2)
    with bench(copy) as replica:
        for wanted in (WANTED, query(), query(columns=("price",)), query(0, 0)):
            assert replica.plan(wanted).validators == opened.plan(wanted).validators


@pytest.mark.parametrize("change", [_append, _truncate, _delete, _new_day, _replace_symbol])
def test_validators_after_a_change_differ(
    opened: Bench, root: str, change: Callable[[str], None]
) -> None:
    """Another answer never carries the ETag of the one before."""
    before = opened.plan(WANTED)
    change(root)
    after = opened.plan(WANTED)
    assert body_of(before) != body_of(after)
    assert etag_of(before) != etag_of(after)


def test_validators_when_only_time_changed_differ(opened: Bench, root: str) -> None:
    """`time` decides which records are sent, so it is part of the ETag though not of the body.

    The first day loses its last record and the second gains one inside the range: as many records
    of the same untouched price files, but not the same ones.
    """
    start_s = DAY_START_S + 2 * 86_400
    wanted = query(DAY_START_S, start_s + 5, ("price",))
    for day, base in ((DAY, 10), (LATER, 20)):
        put(root, {"price": marks(2, base=base)}, day)
    before = opened.plan(wanted)
    assert body_of(before).endswith(u32(10, 11, 20))
    replace(path_of(root, "time"), u32(DAY_START_S))
    replace(path_of(root, "time", LATER), u32(start_s, start_s))
    after = opened.plan(wanted)
    assert body_of(after).endswith(u32(10, 20, 21))
    assert etag_of(before) != etag_of(after)


@pytest.mark.parametrize("column", ["time", "price"])
def test_day_closes_by_the_newest_modification_of_its_files(
    opened: Bench, root: str, column: str
) -> None:
    """Of `time` too where it is not asked for; the files of another column do not count."""
    ahead_s = int(time.time()) + 86_400
    os.utime(path_of(root, column), (ahead_s, ahead_s))
    wanted = query(DAY_START_S, DAY_START_S + 86_399, ("price",))
    assert opened.plan(wanted).closes_s == ahead_s + 600
    put(root, {"other": marks(1)})
    os.utime(path_of(root, "other"), (ahead_s + 100, ahead_s + 100))
    assert opened.plan(wanted).closes_s == ahead_s + 600


def sealed_of(planned: Planned) -> set[bool]:
    """Which of both the files of a plan are."""
    sources = [segment.source for segment in planned.representation.segments]
    return {source.is_closed for source in sources if isinstance(source, DayFile)}


@pytest.mark.parametrize("column", ["time", "price"])
def test_day_closes_by_the_newest_change_of_its_files(
    opened: Bench, root: str, column: str
) -> None:
    """A copy that keeps modification times opens its day, and none of its files is sealed."""
    path = path_of(root, column)
    with open(path, "rb") as file:
        replace(path, file.read(), (DAY_START_S + 90 * 86_400) * 10**9)
    wanted = query(DAY_START_S, DAY_START_S + 86_399, ("time", "price"))
    planned = opened.plan(wanted)
    assert planned.closes_s == os.stat(path).st_ctime_ns / 10**9 + 600
    assert sealed_of(planned) == {False}


@pytest.mark.parametrize(("later_s", "is_closed"), [(590, False), (601, True)])
def test_files_of_a_day_are_sealed_together_once_it_is_closed(
    opened: Bench, monkeypatch: pytest.MonkeyPatch, root: str, later_s: int, *, is_closed: bool
) -> None:
    """One rule for what is mapped and for what caches may keep: that of the day."""
    wanted = query(DAY_START_S, DAY_START_S + 86_399, ("time", "price"))
    closes_s = opened.plan(wanted).closes_s
    now_s = max(os.stat(path_of(root, column)).st_ctime for column in ("time", "price")) + later_s
    monkeypatch.setattr(time, "time", lambda: now_s)
    planned = opened.plan(wanted)
    assert sealed_of(planned) == {is_closed}
    assert (planned.closes_s, planned.closes_s <= now_s) == (closes_s, is_closed)


AHEAD = date(2060, 5, 5)
AHEAD_S = start_of(AHEAD)


@pytest.mark.parametrize(
    ("first", "last", "closing_day"),
    [(0, 0, 1), (-6, 1, 2), (0, 2, 2 + 8), (0, 3, 2 + 8), (-7, -7, 1), (-7, 1, 2), (2, 4, 4 + 8)],
)
def test_range_with_a_day_without_files_closes_a_week_after_it(
    tmp_path: Path, first: int, last: int, closing_day: int
) -> None:
    """Files are there from day -6 to 1 and of day 3; the last gap decides, if it is late enough."""
    root, day_s = str(tmp_path), 86_400
    for number in (-6, -5, -4, -3, -2, -1, 0, 1, 3):
        day = AHEAD + timedelta(days=number)
        put(root, {"time": u32(start_of(day)), "price": marks(1)}, day)
    with bench(root) as planning:
        wanted = query(AHEAD_S + first * day_s, AHEAD_S + last * day_s)
        assert planning.plan(wanted).closes_s == AHEAD_S + closing_day * day_s


@pytest.mark.parametrize("missing", ["time", "price"])
def test_day_that_lacks_a_file_is_as_open_as_one_that_has_none(
    tmp_path: Path, missing: str
) -> None:
    """It is skipped, but what it lacks may still come: `time` as well as a column."""
    root = str(tmp_path)
    put(root, {"time": u32(AHEAD_S), "price": marks(1)}, AHEAD)
    lacking = AHEAD + timedelta(days=1)
    put(root, {"time": u32(AHEAD_S + 86_400), "price": marks(1)}, lacking)
    with bench(root) as planning:
        assert planning.plan(query(AHEAD_S, AHEAD_S + 86_400)).closes_s == AHEAD_S + 2 * 86_400
        os.unlink(path_of(root, missing, lacking))
        planned = planning.plan(query(AHEAD_S, AHEAD_S + 86_400))
        assert len(planned.skipped) == 1
        assert planned.closes_s == AHEAD_S + 9 * 86_400


def test_range_that_ends_in_the_future_is_open(opened: Bench) -> None:
    """Until the last second asked for has passed, a new day may come."""
    assert opened.plan(query(0, U32_MAX)).closes_s > U32_MAX


def test_proof_of_a_linked_directory_holds_until_a_file_has_to_be_opened_again(
    root: str, opened: Bench
) -> None:
    """Moved away and linked back it is the same file, but a link is followed by no open(2)."""
    symbol = os.path.dirname(folder(root))
    with bench(root, small_bytes_max=0, open_files_max=1) as narrow:
        planned = narrow.plan(WANTED)
        os.rename(symbol, symbol + ".away")
        os.symlink(symbol + ".away", symbol)
        assert planned.proof.holds()
        with pytest.raises(DataChangedError):
            body_of(planned)
    assert not planned.proof.holds(), "the next request must be planned anew"
    with pytest.raises(NotFoundError):
        opened.plan(WANTED)
