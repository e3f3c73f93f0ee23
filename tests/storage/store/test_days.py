"""Roll-ups of an object store are made of copies: of which, and when none is."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.storage.store.bench import Node, node
from tests.storage.test_rollups import Told
from tests.storage.trees import DAY_START_S, SERIES, marks, put, u32
from zerocopy.core.layout import day_of, file_name, parse_dtype
from zerocopy.core.settling import Settling
from zerocopy.storage import rollup_making
from zerocopy.storage.rollup_file import Key
from zerocopy.storage.rollup_making import Maker, Outcome
from zerocopy.storage.store.days import StoredDays
from zerocopy.storage.store.fetching import Sequence, StoredFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standin import Standin

RECORDS = 40
KEY = Key(SERIES, day_of(DAY_START_S), "price")
F4 = parse_dtype("price", "f4")


@pytest.fixture(name="opened")
def fixture_opened(
    bucket: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Node]:
    """A node over a store with one day of few ticks, which are enough."""
    monkeypatch.setattr(rollup_making, "RECORDS_MIN", RECORDS)
    times = u32(*range(DAY_START_S, DAY_START_S + RECORDS))
    put(str(tmp_path / "root"), {"time": times, "price": marks(RECORDS)})
    bucket.upload(tmp_path / "root", "p/")
    for name, stored in list(bucket.objects.items()):
        bucket.put(name, stored.content, 1_700_000_000)
    with node(bucket, str(tmp_path / "cache")) as opened:
        yield opened


def maker_of(opened: Node, told: Told, *, fetches: bool = False) -> Maker:
    """As a server has it, or as the command."""
    days = StoredDays(opened.listings, opened.fetcher, opened.files, fetches=fetches)
    return Maker(days, Settling(0, 7), told.rollups)


def test_roll_up_is_made_of_copies_and_believed_by_every_node(
    bucket: Standin, opened: Node, tmp_path: Path
) -> None:
    """Nothing is fetched for it but by the command; a node with another cache finds it true."""
    told = Told(tmp_path / "rollups")
    assert maker_of(opened, told).make(KEY, F4) is Outcome.LATER
    assert bucket.fetched() == []
    assert maker_of(opened, told, fetches=True).make(KEY, F4) is Outcome.MADE
    assert maker_of(opened, told).make(KEY, F4) is Outcome.THERE
    with node(bucket, str(tmp_path / "other")) as other:
        again = maker_of(other, Told(tmp_path / "rollups"), fetches=True)
        assert again.make(KEY, F4) is Outcome.THERE


def test_day_that_the_store_has_not_is_left_for_later(opened: Node, tmp_path: Path) -> None:
    """A column, or a day."""
    maker = maker_of(opened, Told(tmp_path / "rollups"), fetches=True)
    assert maker.make(KEY._replace(column="size"), F4) is Outcome.LATER
    assert maker.make(KEY._replace(day=KEY.day + 1), F4) is Outcome.LATER


def test_day_that_was_put_anew_has_a_roll_up_of_its_own(
    bucket: Standin, opened: Node, tmp_path: Path
) -> None:
    """Of the same length; the old one is believed no more."""
    told = Told(tmp_path / "rollups")
    maker = maker_of(opened, told, fetches=True)
    assert maker.make(KEY, F4) is Outcome.MADE
    [key] = [name for name in bucket.objects if "/price." in name]
    bucket.put(key, marks(RECORDS, base=7), 1_700_000_000)
    opened.clock.now_s += 100
    assert maker.make(KEY, F4) is Outcome.MADE


def test_copy_that_is_written_over_meanwhile_is_no_longer_the_same(opened: Node) -> None:
    """By its length or its time."""
    days = StoredDays(opened.listings, opened.fetcher, opened.files, fetches=True)
    with ExitStack() as stack:
        found = days.open(stack, SERIES, KEY.day, ["time", "price", "time"])
        assert all(map(days.is_same, found.values()))
        os.utime(found["time"].fd)
        assert [days.is_same(each) for each in found.values()] == [False, True]


def test_spared_files_are_not_fetched_ahead(opened: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those behind them are, as if they were next; their bytes do not count."""
    monkeypatch.setattr(opened.fetcher, "_ahead_bytes_max", RECORDS * 4)
    asked: list[StoredFile] = []
    monkeypatch.setattr(opened.fetcher, "start", asked.extend)
    entry = opened.listings.of(SERIES).entry("price", KEY.day)
    files = [
        StoredFile(opened.files, SERIES, file_name("price", day), entry, is_closed=True, lost=[])
        for day in range(KEY.day, KEY.day + 5)
    ]
    Sequence(files)
    StoredDays(opened.listings, opened.fetcher, opened.files).spare(files[1:3])
    opened.fetcher.fetch_ahead(files[0])
    assert asked == files[3:4]
