"""Hints that a series has changed: looks where no event tells, and no more of them than polls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.service.live.bench import DAY, Bench, ids_of, run
from tests.service.live.test_replaced import LONG_MS, refuse, write
from zerocopy.core import counters as slots
from zerocopy.core.cursor import Cursor
from zerocopy.storage.live import watching
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SERIES = Series("coinbase", "A", "MD")


@pytest.fixture(name="unwatched")
def fixture_unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS: no event tells of anything."""
    monkeypatch.setattr(watching, "Inotify", refuse)


@pytest.mark.usefixtures("unwatched")
def test_hint_has_an_append_and_a_new_day_seen_at_once(tmp_path: Path) -> None:
    """The next poll is an hour away."""

    async def test(bench: Bench) -> None:
        feed = await bench.open()
        await bench.up_to_date(feed)
        bench.append(1)
        bench.live.hint(SERIES)
        assert ids_of(await bench.message(feed)) == [4]
        write(bench, DAY + 1, [90])
        bench.now_ns += 1_000_000_000
        bench.live.hint(SERIES)
        assert ids_of(await bench.message(feed)) == [90]

    run(tmp_path, test, poll_ms=LONG_MS)


@pytest.mark.usefixtures("unwatched")
def test_hint_wakes_who_waits_for_a_day_that_is_not_there(tmp_path: Path) -> None:
    """There is no newest day that could be looked at."""

    async def test(bench: Bench) -> None:
        feed = await bench.open(cursor=Cursor(DAY + 1, 0))
        await bench.up_to_date(feed)
        write(bench, DAY + 1, [90])
        bench.live.hint(SERIES)
        assert ids_of(await bench.message(feed)) == [90]

    run(tmp_path, test, poll_ms=LONG_MS)


@pytest.mark.usefixtures("unwatched")
def test_forged_hints_cost_a_look_in_a_while_and_wake_nobody(tmp_path: Path) -> None:
    """Of a series that somebody reads; of others nothing."""
    later: list[tuple[float, Callable[[], object]]] = []

    def call_later(delay_s: float, call: Callable[[], object]) -> None:
        later.append((delay_s, call))

    async def test(bench: Bench) -> None:
        feed = await bench.open()
        await bench.up_to_date(feed)
        bench.live.call_later = call_later  # type: ignore[method-assign]
        for turn in range(3):
            for _ in range(1_000):
                bench.live.hint(SERIES)
                bench.live.hint(Series("coinbase", "B", "MD"))
            [(delay_s, call)] = later
            assert delay_s == pytest.approx(0.1 if turn else 0.0)
            later.clear()
            bench.now_ns += round(delay_s * 1_000_000_000)
            call()
        assert bench.counters[slots.LIVE_HINTED] == 3
        await bench.live._jobs.run(lambda: None)  # behind the looks
        await bench.live._jobs.run(lambda: None)
        assert not bench.woken.is_set()
        assert feed._tail._waiting == {feed: None}

    run(tmp_path, test, poll_ms=LONG_MS)


def test_directory_whose_events_tell_needs_no_hint(tmp_path: Path) -> None:
    """Nor does one that nobody reads any more when the look comes."""

    async def test(bench: Bench) -> None:
        await bench.up_to_date(await bench.open())
        [directory] = bench.live._directories.values()
        if not directory.is_told:
            pytest.skip("no events on this file system")
        bench.live.hint(SERIES)
        assert not directory.is_hinted
        assert bench.live.is_followed(SERIES)
        assert not bench.live.is_followed(Series("coinbase", "B", "MD"))

    run(tmp_path, test)
