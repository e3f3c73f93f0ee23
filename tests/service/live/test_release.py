"""What a live stream held is given back when the last that reads it has left."""

from __future__ import annotations

import asyncio
import gc
import os
from contextlib import nullcontext
from typing import TYPE_CHECKING
from weakref import ref

import pytest

from zerocopy.core.cursor import Cursor
from zerocopy.core.errors import DataError
from zerocopy.core.layout import file_name
from zerocopy.storage.live import following
from zerocopy.storage.live.following import Followed, LiveDay
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from pathlib import Path

from tests.service.live.bench import DAY, PATIENCE_S, Bench, run


def test_files_are_closed_with_the_streams_without_the_collector(tmp_path: Path) -> None:
    """Also where somebody still reads: whoever collects later may have put other calls in place."""
    opened: list[ref[LiveDay]] = []

    async def test(bench: Bench) -> None:
        feed = await bench.open()
        await bench.up_to_date(feed)
        [tail] = bench.live._tails.values()
        assert tail.look is not None
        assert tail.look.opened is not None
        opened.append(ref(tail.look.opened))
        bench.append(1)
        await bench.message(feed)

    gc.disable()
    try:
        run(tmp_path, test)
        assert [each() for each in opened] == [None]
    finally:
        gc.enable()


def test_look_that_ends_after_the_last_reader_has_left_is_forgotten(tmp_path: Path) -> None:
    """Nobody would tell of changes to that day; a later reader must not be served by it."""

    async def test(bench: Bench) -> None:
        directory = bench.recorder.directory
        for column, size in (("time", 4), ("id", 8)):
            (directory / file_name(column, DAY + 1)).write_bytes(bytes(size))
        feed = await bench.open(cursor=Cursor(DAY, 0))
        await bench.message(feed)
        assert feed.next() is None, "a thread looks at the day, which is over"
        feed.close()
        bench.live.tend()
        jobs = bench.live._jobs
        async with asyncio.timeout(PATIENCE_S):
            while jobs._running:  # noqa: ASYNC110 - of a thread, without an event
                await asyncio.sleep(0.001)
        assert not bench.live._tails
        assert not bench.live._shared.past

    run(tmp_path, test)


def test_files_are_closed_once_nobody_can_get_at_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread asks by a weak reference: it must not get a day half of whose files are closed."""
    held: list[ref[LiveDay]] = []
    alive: list[LiveDay | None] = []

    def close(fd: int) -> None:
        alive.append(held[0]())
        os.close(fd)

    async def test(bench: Bench) -> None:
        feed = await bench.open()
        await bench.up_to_date(feed)
        [tail] = bench.live._tails.values()
        assert tail.look is not None
        assert tail.look.opened is not None
        held.append(ref(tail.look.opened))
        monkeypatch.setattr(following, "close_file", close)
        feed.close()
        bench.live.tend()

    run(tmp_path, test)
    assert alive == [None, None]


@pytest.mark.parametrize("times", [1, 1_000])
def test_day_whose_files_change_amid_a_look_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """It is opened anew; if that never ends it is an error, for a missing day has a next one."""
    whole, left = LiveDay.measure, [times]

    def measure(day: LiveDay) -> int | None:
        left[0] -= 1
        return None if left[0] >= 0 else whole(day)

    async def test(bench: Bench) -> None:
        for column in ("time", "id"):
            bench.recorder.directory.joinpath(file_name(column, DAY + 1)).write_bytes(bytes(8))
        followed = Followed(Series("coinbase", "A", "MD"), ("id",))
        monkeypatch.setattr(LiveDay, "measure", measure)
        with pytest.raises(DataError) if times > 1 else nullcontext():
            look = bench.live._follower.look(followed, DAY)
            assert (look.sight.aligned, look.sight.later) == (3, DAY + 1)

    run(tmp_path, test)
