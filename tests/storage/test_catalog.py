"""`Catalog`: a listing is kept while its directory is unchanged, and never a moment longer."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.storage.trees import DAY, SERIES, age, append, folder, path_of, put
from zerocopy.core.layout import day_of
from zerocopy.storage.catalog import Catalog, Stamp, stamp_of
from zerocopy.storage.tree import Series, open_series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zerocopy.storage.catalog import Listing

ROOTS = 40  # more than there are tests
DAY_NUMBER = day_of(1_738_281_600)


@pytest.fixture(scope="module", name="roots")
def fixture_roots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Many trees of two days of two columns, all of them old enough to be kept."""
    roots = [str(tmp_path_factory.mktemp("root")) for _ in range(ROOTS)]
    for root in roots:
        put(root, {"time": b"", "price": b""})
        put(root, {"time": b""}, DAY + timedelta(days=2))
    age(*map(folder, roots))
    return iter(roots)


@pytest.fixture(name="root")
def fixture_root(roots: Iterator[str]) -> str:
    """One of them, for one test."""
    return next(roots)


@contextmanager
def listed(root: str, catalog: Catalog, series: Series = SERIES) -> Iterator[Listing]:
    """The listing of a series as of now."""
    with open_series(root, series) as fd:
        yield catalog.listing(series, fd)


def listing_of(root: str, catalog: Catalog, series: Series = SERIES) -> Listing:
    """The listing of a series as of now."""
    with listed(root, catalog, series) as listing:
        return listing


def test_listing_holds_days_and_their_columns(root: str) -> None:
    """Days ascend; each knows its columns; all columns are those of any day."""
    listing = listing_of(root, Catalog())
    assert listing.days == [DAY_NUMBER, DAY_NUMBER + 2]
    assert listing.columns_of(DAY_NUMBER) == {"time", "price"}
    assert listing.columns_of(DAY_NUMBER + 2) == {"time"}
    assert listing.all_columns == {"time", "price"}
    assert listing.names == 3


@pytest.mark.parametrize(
    ("first", "last", "offsets"),
    [
        (0, 0, [0]),
        (-5, -1, []),
        (1, 1, []),
        (0, 2, [0, 2]),
        (1, 99, [2]),
        (-99, 1, [0]),
        (3, 9, []),
    ],
)
def test_listing_between_has_both_ends(
    root: str, first: int, last: int, offsets: list[int]
) -> None:
    """Only days that exist, from the first to the last, both inclusive."""
    days = listing_of(root, Catalog()).between(DAY_NUMBER + first, DAY_NUMBER + last)
    assert days == [DAY_NUMBER + offset for offset in offsets]


def test_listing_of_an_empty_directory_is_empty(root: str) -> None:
    """A series without a file has no days and no columns."""
    empty = Series("coinbase", "X", "TRADES")
    os.mkdir(folder(root, empty))
    listing = listing_of(root, Catalog(), empty)
    assert (listing.days, listing.all_columns, listing.names) == ([], frozenset(), 0)


def test_listing_of_an_unchanged_directory_is_kept(root: str) -> None:
    """The directory is read once; growing files do not change what exists."""
    catalog = Catalog()
    first = listing_of(root, catalog)
    append(path_of(root, "time"), b"more")
    assert listing_of(root, catalog) is first


def _create(root: str) -> None:
    put(root, {"time": b""}, date(2025, 2, 1))


def _remove(root: str) -> None:
    os.unlink(path_of(root, "price"))


def _rename(root: str) -> None:
    os.rename(path_of(root, "price"), path_of(root, "volume"))


def _rename_over(root: str) -> None:
    os.rename(path_of(root, "price"), path_of(root, "time"))


def _link(root: str) -> None:
    os.unlink(path_of(root, "price"))
    os.symlink("time.31.01.25.bin", path_of(root, "price"))


def _replace_directory(root: str) -> None:
    os.rename(folder(root), folder(root) + ".old")
    put(root, {"time": b""}, date(1999, 12, 31))


@pytest.mark.parametrize(
    "change", [_create, _remove, _rename, _rename_over, _link, _replace_directory]
)
def test_listing_after_any_change_of_names_is_read_again(
    root: str, change: Callable[[str], None]
) -> None:
    """What is kept is dropped by the very next call, and that call's listing is right."""
    catalog = Catalog()
    before = listing_of(root, catalog)
    assert listing_of(root, catalog) is before
    change(root)
    after = listing_of(root, catalog)
    anew = listing_of(root, Catalog())
    assert after is not before
    assert {day: after.columns_of(day) for day in after.days} == {
        day: anew.columns_of(day) for day in anew.days
    }
    assert (before.days, before.all_columns) != (after.days, after.all_columns) or (
        before.columns_of(DAY_NUMBER) != after.columns_of(DAY_NUMBER)
    )


def test_listing_of_a_directory_changed_a_moment_ago_is_not_kept(root: str) -> None:
    """Two changes in one tick of the kernel's clock look like one: a young listing is used once."""
    catalog = Catalog()
    _create(root)
    first = listing_of(root, catalog)
    assert listing_of(root, catalog) is not first
    age(folder(root))
    kept = listing_of(root, catalog)
    assert listing_of(root, catalog) is kept


def test_listing_hundreds_of_changes_each_is_seen_at_once(root: str) -> None:
    """Create and remove as fast as it goes: no call ever sees the state before."""
    catalog = Catalog()
    for index in range(300):
        day = date(2000, 1, 1) + timedelta(days=index)
        put(root, {"time": b""}, day)
        assert len(listing_of(root, catalog).days) == 3
        os.unlink(path_of(root, "time", day))
        assert len(listing_of(root, catalog).days) == 2


def test_catalog_over_its_bound_forgets_the_least_recently_used(root: str) -> None:
    """Names are counted over all listings; what was used last stays."""
    many = [Series("coinbase", f"S{index}", "MD") for index in range(3)]
    for series in many:
        put(root, {"time": b"", "price": b""}, series=series)
    age(*(folder(root, series) for series in many))
    catalog = Catalog(names_max=4)
    first, second = (listing_of(root, catalog, series) for series in many[:2])
    assert listing_of(root, catalog, many[0]) is first
    third = listing_of(root, catalog, many[2])
    assert listing_of(root, catalog, many[0]) is first
    assert listing_of(root, catalog, many[2]) is third
    assert listing_of(root, catalog, many[1]) is not second


def test_catalog_listing_above_the_whole_bound_is_still_given(root: str) -> None:
    """A series that alone exceeds the bound is answered, and read anew each time."""
    catalog = Catalog(names_max=2)
    first = listing_of(root, catalog)
    assert first.names == 3
    second = listing_of(root, catalog)
    assert second is not first
    assert second.days == first.days


def test_catalog_from_several_threads_is_right_in_each(root: str) -> None:
    """Readers and evictions at the same time: every listing is of its own series."""
    many = [Series("coinbase", f"S{index}", "MD") for index in range(6)]
    for index, series in enumerate(many):
        put(root, {"time": b""}, DAY + timedelta(days=index), series)
    age(*(folder(root, series) for series in many))
    catalog, wrong = Catalog(names_max=3), list[object]()

    def work() -> None:
        for number in range(300):
            index = number % 6
            days = listing_of(root, catalog, many[index]).days
            if days != [DAY_NUMBER + index]:
                wrong.append((index, days))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_stamp_of_a_file_moves_with_every_kind_of_change(root: str) -> None:
    """Write, truncate, chmod, link, rename: the change time tells, whatever mtime is set to."""
    path = path_of(root, "time")
    changes: list[Callable[[], object]] = [
        lambda: append(path, b"abcd"),
        lambda: os.truncate(path, 2),
        lambda: os.utime(path, ns=(1, 1)),
        lambda: os.chmod(path, 0o600),
        lambda: os.link(path, path + ".link"),
        lambda: os.rename(path, path_of(root, "moved")),
    ]
    for change in changes:
        age(path)
        before = stamp_of(os.stat(path))
        change()
        now = path if os.path.exists(path) else path_of(root, "moved")
        assert stamp_of(os.stat(now)) != before
    assert Stamp._fields == ("inode", "device", "size", "changed_ns")
