"""Days that are replaced, and who gets which of their files: nobody those from before he came."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.service.live.bench import DAY, PATIENCE_S, Bench, ids_of, run
from zerocopy.core.cursor import Cursor
from zerocopy.core.errors import OverloadError
from zerocopy.core.http.stream import Message
from zerocopy.core.layout import DAY_S, day_label, file_name
from zerocopy.service.live.messages import FAILED
from zerocopy.storage.live import watching
from zerocopy.storage.live.following import Follower, LiveDay
from zerocopy.storage.watch.inotify import IN_Q_OVERFLOW, Event

if TYPE_CHECKING:
    from pathlib import Path

    from zerocopy.service.live.feed import LiveFeed
    from zerocopy.storage.live.following import Look

LONG_MS = 3_600_000
"""A time between two looks that no test lives to see."""


def write(bench: Bench, day: int, ids: list[int]) -> None:
    """Files of a day, in place of those it has."""
    for column, size in (("time", 4), ("id", 8)):
        path = bench.recorder.directory / file_name(column, day)
        beside = path.with_suffix(".new")
        beside.write_bytes(b"".join(value.to_bytes(size, "little") for value in ids))
        beside.rename(path)


def refuse() -> None:
    """inotify_init(2) where there are too many instances."""
    raise OSError(24, "Too many open files")


async def first_ids(bench: Bench, feed: LiveFeed) -> list[int]:
    """What comes behind the opening."""
    await bench.message(feed)
    return ids_of(await bench.message(feed))


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("is_over", [False, True])
def test_who_comes_after_a_day_was_replaced_gets_none_of_its_old_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, told: bool, is_over: bool
) -> None:
    """He might be cut off before the reset. Others have read the old files, and still do."""
    if not told:
        monkeypatch.setattr(watching, "Inotify", refuse)

    async def test(bench: Bench) -> None:
        if is_over:
            write(bench, DAY + 1, [90])
        other = await bench.open(cursor=Cursor(DAY, 0))
        assert await first_ids(bench, other) == [1, 2, 3]
        write(bench, DAY, [7, 8, 9, 10])  # nobody has told yet, nor looked
        assert await first_ids(bench, await bench.open(cursor=Cursor(DAY, 0))) == [7, 8, 9, 10]
        assert b"event: reset" in (await bench.message(other)).content

    run(tmp_path, test, poll_ms=LONG_MS)


def test_day_that_is_replaced_amid_a_look_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at a day that is over is kept, so no older one than the last event."""
    whole, todo = Follower.look, list[Bench]()

    def late(self: Follower, *arguments: Any) -> Look:
        look = whole(self, *arguments)
        if look.sight.day == DAY and todo:
            write(todo.pop(), DAY, [7, 8, 9, 10])
        return look

    async def test(bench: Bench) -> None:
        todo.append(bench)
        write(bench, DAY + 1, [90])
        await bench.up_to_date(await bench.open(cursor=Cursor(DAY + 1, 0)))
        monkeypatch.setattr(Follower, "look", late)
        one = await bench.open(cursor=Cursor(DAY, 0))
        assert await first_ids(bench, one) in ([1, 2, 3], [7, 8, 9, 10])
        again = await bench.open(cursor=Cursor(DAY, 0))
        assert await first_ids(bench, again) == [7, 8, 9, 10]

    run(tmp_path, test)


def test_nothing_known_is_believed_once_events_are_lost(tmp_path: Path) -> None:
    """The lost ones may be about a day that is over, which nobody looks at again."""

    async def test(bench: Bench) -> None:
        write(bench, DAY + 1, [90])
        assert await first_ids(bench, await bench.open(cursor=Cursor(DAY, 0))) == [1, 2, 3]
        assert len(bench.live._shared.past) == 1
        watcher = bench.live._watcher
        assert watcher is not None
        watcher.events = lambda: iter([Event(-1, IN_Q_OVERFLOW, b"")])  # type: ignore[method-assign]
        bench.live._on_events()
        assert not bench.live._shared.past
        del watcher.events

    run(tmp_path, test)


def test_reader_of_a_day_that_is_over_is_told_though_inodes_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replaced twice between two of its messages: nobody had the files open to tell them apart."""
    whole = Follower._open

    def opened(*arguments: Any) -> Any:
        day = whole(*arguments)
        if day is not None and day.day == DAY:
            day.keys = tuple((1, 1) for _ in day.keys)
        return day

    async def test(bench: Bench) -> None:
        bench.append(20_000)
        write(bench, DAY + 1, [90])
        monkeypatch.setattr(Follower, "_open", opened)
        monkeypatch.setattr(LiveDay, "measure", LiveDay.measure_opened)
        feed = await bench.open(cursor=Cursor(DAY, 0))
        assert (await first_ids(bench, feed))[0] == 1
        write(bench, DAY, [*range(30_000)])
        bench.live._on_events()
        assert b"event: reset" in (await bench.message(feed)).content

    run(tmp_path, test)


def test_reader_at_the_end_of_a_day_that_is_over_goes_on_by_itself(tmp_path: Path) -> None:
    """It had the message that others had as the newest; no further event would wake it."""

    async def test(bench: Bench) -> None:
        feeds = [await bench.open() for _ in range(2)]
        for feed in feeds:
            await bench.up_to_date(feed)
        [tail] = bench.live._tails.values()
        bench.append(1)
        write(bench, DAY + 1, [90])
        while tail.look is None or tail.look.sight.later is None:
            await asyncio.wait_for(bench.woken.wait(), PATIENCE_S)
            bench.woken.clear()
        one, other = feeds
        assert ids_of(await bench.message(one)) == [4]
        one.close()
        assert ids_of(await bench.message(other)) == [4]
        assert not other.is_drained
        assert ids_of(await bench.message(other)) == [90]

    run(tmp_path, test)


def test_message_that_is_made_late_is_of_the_day_where_its_reader_is(tmp_path: Path) -> None:
    """One for whom a message was being made has gone on, for the day was removed."""

    async def test(bench: Bench) -> None:
        feed = await bench.open(cursor=Cursor(DAY, 0))
        await bench.message(feed)
        message = await bench.message(feed)
        later = await bench.open(cursor=Cursor(DAY + 1, 0))
        later.give(message, Cursor(DAY, 0), 3)
        await bench.message(later)
        assert later.next() is None

    run(tmp_path, test)


@pytest.mark.parametrize("note", [f".import.{day_label(DAY)}.ready", ".import.together"])
@pytest.mark.parametrize("begin", [Cursor(DAY, 0), Cursor(DAY - 1, 0)])
def test_day_that_an_import_is_replacing_is_not_passed_over(
    tmp_path: Path, note: str, begin: Cursor
) -> None:
    """Its `time` is gone for a moment. The stream ends, and its client goes on with its cursor."""

    async def test(bench: Bench) -> None:
        write(bench, DAY - 1, [80])
        directory = bench.recorder.directory
        time, hidden = (directory / f"{mark}{file_name('time', DAY)}" for mark in ("", ".import."))
        time.rename(hidden)
        (directory / note).touch()
        for start_s in (None, DAY * DAY_S + 2):
            with pytest.raises(OverloadError, match="is being replaced"):
                await bench.open(start_s=start_s)
        write(bench, DAY + 1, [90])
        feed = await bench.open(cursor=begin)
        await bench.message(feed)
        item = await bench.item(feed)
        if begin.day < DAY:
            assert isinstance(item, Message)
            assert ids_of(item) == [80]
            item = await bench.item(feed)
        assert item == FAILED
        hidden.rename(time)
        (directory / note).unlink()
        again = await bench.open(cursor=Cursor(DAY, 0))
        assert await first_ids(bench, again) == [1, 2, 3]

    run(tmp_path, test)
