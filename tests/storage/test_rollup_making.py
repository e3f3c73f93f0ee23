"""How a roll-up is made, and when none is: of which files, and whether they stay the same."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest

from tests.storage.test_rollups import Told
from tests.storage.trees import DAY, DAY_START_S, SERIES, age, append, put, replace, u32
from zerocopy.core import counters as slots
from zerocopy.core.layout import parse_dtype
from zerocopy.core.settling import Settling
from zerocopy.storage import rollup_making
from zerocopy.storage.catalog import stamp_of
from zerocopy.storage.rollup_file import Key, Wanted
from zerocopy.storage.rollup_making import Maker, Outcome
from zerocopy.storage.rollups import TreeDays

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COUNT = 300
KEY = Key(SERIES, DAY_START_S // 86_400, "price")
F4 = parse_dtype("price", "f4")


@pytest.fixture(autouse=True)
def _few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup_making, "RECORDS_MIN", COUNT)


class Site:
    """A closed day of 300 ticks, and a maker of its roll-ups."""

    def __init__(self, folder: Path, settle_s: float = 0.0) -> None:
        self.root = str(folder / "data")
        columns = {"time": u32(*range(DAY_START_S, DAY_START_S + COUNT)), "price": prices(COUNT)}
        self.paths = put(self.root, columns, DAY)
        age(*self.paths.values())
        self.told = Told(folder / "rollups")
        self.maker = Maker(TreeDays(self.root), Settling(settle_s, 7), self.told.rollups)

    def wanted(self) -> Wanted:
        """The files as they are now."""
        return Wanted(KEY, F4, *(stamp_of(os.stat(path)) for path in self.paths.values()))

    def make(self) -> Outcome:
        """Make the roll-up of the price."""
        return self.maker.make(KEY, F4)


def prices(count: int) -> bytes:
    """So many f4 records."""
    return struct.pack(f"<{count}f", *range(count))


def amid(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Have `change` happen once all was read."""
    computed = rollup_making._computed

    def changed(*arguments: object) -> object:
        found = computed(*arguments)  # type: ignore[arg-type]
        change()
        return found

    monkeypatch.setattr(rollup_making, "_computed", changed)


def test_roll_up_is_made_once(tmp_path: Path) -> None:
    """The second time it is there, for this process and for the next."""
    site = Site(tmp_path)
    assert site.make() is Outcome.MADE
    found = site.told.rollups.find(site.wanted())
    assert found is not None
    assert (found.records, found.first_s, found.last_s) == (300, DAY_START_S, DAY_START_S + 299)
    assert site.make() is Outcome.THERE
    assert site.told.counters[slots.ROLLUPS_MADE] == 1
    again = Told(tmp_path / "rollups")
    assert Maker(TreeDays(site.root), Settling(0, 7), again.rollups).make(KEY, F4) is Outcome.THERE
    assert again.counters[slots.ROLLUPS_MADE] == 0


def test_corrupt_roll_up_is_made_again(tmp_path: Path) -> None:
    """In its minutes, which are read last."""
    site = Site(tmp_path)
    site.make()
    [path] = (tmp_path / "rollups").rglob("*.rollup")
    os.truncate(path, path.stat().st_size - 1)
    again = Told(tmp_path / "rollups")
    assert Maker(TreeDays(site.root), Settling(0, 7), again.rollups).make(KEY, F4) is Outcome.MADE


def test_day_that_was_replaced_is_made_again(tmp_path: Path) -> None:
    """Its old roll-up is not believed."""
    site = Site(tmp_path)
    site.make()
    before = site.told.rollups.find(site.wanted(), minutes=True)
    replace(site.paths["price"], prices(COUNT)[::-1])
    age(*site.paths.values())
    assert site.told.rollups.find(site.wanted()) is None
    assert site.make() is Outcome.MADE
    after = site.told.rollups.find(site.wanted(), minutes=True)
    assert before is not None
    assert after is not None
    assert after.minute != before.minute


def test_open_day_is_left_for_later(tmp_path: Path) -> None:
    """Ten minutes have not passed since it was written."""
    site = Site(tmp_path, settle_s=600)
    assert site.make() is Outcome.LATER


def test_files_that_are_too_young_are_left_for_later(tmp_path: Path) -> None:
    """A second change in the same tick of the clock would not show."""
    site = Site(tmp_path)
    os.utime(site.paths["price"])
    assert site.make() is Outcome.LATER


@pytest.mark.parametrize("what", ["append", "touch"])
def test_day_that_changes_while_it_is_read_is_left_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Nothing of it is kept."""
    site = Site(tmp_path)
    path = site.paths["price"]
    amid(monkeypatch, lambda: append(path, b"xxxx") if what == "append" else os.utime(path))
    assert site.make() is Outcome.LATER
    assert not list((tmp_path / "rollups").rglob("*"))


def test_file_that_is_cut_while_it_is_read_is_left_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A truncation between the look at its length and the reading."""
    site = Site(tmp_path)
    computed = rollup_making._computed

    def cut(*arguments: object) -> object:
        os.truncate(site.paths["price"], 40)
        return computed(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(rollup_making, "_computed", cut)
    assert site.make() is Outcome.LATER


def test_day_that_is_gone_is_left_for_later(tmp_path: Path) -> None:
    """A file, then the directory."""
    site = Site(tmp_path)
    os.unlink(site.paths["price"])
    assert site.make() is Outcome.LATER
    assert site.maker.make(KEY._replace(series=SERIES._replace(symbol="NONE")), F4) is Outcome.LATER


def test_day_that_is_not_worth_one_has_none_ever(tmp_path: Path) -> None:
    """Text, times that do not ascend, few records of the shorter file."""
    site = Site(tmp_path)
    assert site.maker.make(KEY, parse_dtype("price", "S4")) is Outcome.NEVER
    times = [*range(DAY_START_S, DAY_START_S + COUNT - 1), DAY_START_S]
    replace(site.paths["time"], u32(*times))
    age(*site.paths.values())
    assert site.make() is Outcome.NEVER
    replace(site.paths["price"], prices(COUNT - 1))
    age(*site.paths.values())
    assert site.make() is Outcome.NEVER


def test_times_have_a_roll_up_as_any_column(tmp_path: Path) -> None:
    """Both files are one then."""
    site = Site(tmp_path)
    key, dtype = KEY._replace(column="time"), parse_dtype("time", "u4")
    assert site.maker.make(key, dtype) is Outcome.MADE
    stamp = stamp_of(os.stat(site.paths["time"]))
    assert site.told.rollups.find(Wanted(key, dtype, stamp, stamp)) is not None
