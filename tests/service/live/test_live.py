"""Live streams one by one: bounds, shapes, sharing, pace, signs of life, and what ends one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.eventstream import EventSource
from tests.service.live.readers import content_of
from zerocopy.core import counters as slots
from zerocopy.core.counters import LIVE_LAG
from zerocopy.core.cursor import Cursor
from zerocopy.core.errors import NotFoundError, OverloadError
from zerocopy.core.http.stream import End, Message
from zerocopy.core.layout import DAY_S, LAST_DAY, file_name
from zerocopy.service.live import messages
from zerocopy.service.live.messages import is_prepared
from zerocopy.storage.live.following import Follower, LiveDay

if TYPE_CHECKING:
    from pathlib import Path

from tests.service.live.bench import DAY, PATIENCE_S, SECOND_NS, Bench, ids_of, run


def test_events_begin_with_the_present_cursor_and_hold_what_comes(tmp_path: Path) -> None:
    """Nothing older than now; json in one line, and the cursor behind it."""

    async def test(bench: Bench) -> None:
        feed = await bench.open()
        source = EventSource()
        assert source.feed((await bench.message(feed)).content) == []
        assert source.last_event_id == str(Cursor(DAY, 3))
        await bench.up_to_date(feed)
        bench.append(2)
        [event] = source.feed((await bench.message(feed)).content)
        assert event.kind == "records"
        assert event.data == '{"columns":{"id":[4,5]},"num_records":2}'
        assert source.last_event_id == str(Cursor(DAY, 5))

    run(tmp_path, test)


def test_websocket_messages_are_whole_answers_with_a_cursor(tmp_path: Path) -> None:
    """The first has no records; both begin with a header line of `columns`."""

    async def test(bench: Bench) -> None:
        feed = await bench.open(websocket=True)
        line, _, body = (await bench.message(feed)).content.partition(b"\n")
        assert (orjson.loads(line)["cursor"], body) == (str(Cursor(DAY, 3)), b"")
        await bench.up_to_date(feed)
        bench.append(1)
        line, _, body = (await bench.message(feed)).content.partition(b"\n")
        header = orjson.loads(line)
        assert header["cursor"] == str(Cursor(DAY, 4))
        assert header["columns"][0]["num_records"] == 1
        assert body == (4).to_bytes(8, "little")

    run(tmp_path, test)


def test_one_append_is_one_message_for_all_who_are_up_to_date(tmp_path: Path) -> None:
    """The very same object, for each of the two shapes; counted for each reader."""

    async def test(bench: Bench) -> None:
        feeds = [await bench.open(websocket=kind > 2) for kind in range(6)]
        for feed in feeds:
            await bench.up_to_date(feed)
        looks = bench.counters[slots.LIVE_LOOKS]
        bench.append(2)
        messages = [await bench.message(feed) for feed in feeds]
        assert len({id(message) for message in messages}) == 2
        await asyncio.sleep(0)  # those of one iteration of the event loop are counted together
        assert bench.counters[slots.LIVE_MESSAGES] == 6
        assert bench.counters[slots.LIVE_RECORDS] == 12
        assert bench.counters[slots.LIVE_SUBSCRIBERS] == 6
        first, bounds_ns = LIVE_LAG.first, LIVE_LAG.bounds_ns
        assert sum(bench.counters[first : first + len(bounds_ns) + 1]) == 6
        assert bench.counters[slots.LIVE_LOOKS] - looks < 6

    run(tmp_path, test)


def test_slow_reader_gets_a_larger_piece_of_the_same_file(tmp_path: Path) -> None:
    """What was appended in three steps while it did not pull is one message."""

    async def test(bench: Bench) -> None:
        slow, fast = await bench.open(), await bench.open()
        await bench.up_to_date(slow)
        for _ in range(3):
            await bench.up_to_date(fast)
            bench.append(2)
            await bench.message(fast)
        assert ids_of(await bench.message(slow)) == [4, 5, 6, 7, 8, 9]

    run(tmp_path, test)


def test_large_messages_of_a_websocket_are_the_bytes_of_the_file(tmp_path: Path) -> None:
    """Beyond what is read with the header they are segments, and no message passes the bound."""

    async def test(bench: Bench) -> None:
        bench.append(20_000)
        feed = await bench.open(websocket=True, cursor=Cursor(DAY, 0))
        await bench.message(feed)
        count = 0
        while count < 20_003:
            message = await bench.message(feed)
            assert message.segments
            assert message.nbytes <= 65_536
            content = content_of(message).partition(b"\n")[2]
            ids = [int.from_bytes(content[at : at + 8], "little") for at in (0, len(content) - 8)]
            assert ids == [count + 1, count + len(content) // 8]
            count = ids[1]

    run(tmp_path, test)


def test_message_of_the_files_themselves_is_made_anew_for_each_reader(tmp_path: Path) -> None:
    """One that was kept would be of files as they were: it breaks off once they have grown."""

    async def test(bench: Bench) -> None:
        bench.append(20_000)
        feeds = [await bench.open(websocket=True, cursor=Cursor(DAY, 0)) for _ in range(2)]
        for feed in feeds:
            await bench.message(feed)
        one, other = [await bench.message(feed) for feed in feeds]
        assert one.segments
        assert content_of(one) == content_of(other)
        assert one is not other
        assert one.segments[0].source is not other.segments[0].source

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("start_s", "begin"),
    [
        (0, Cursor(0, 0)),
        (DAY * DAY_S, Cursor(DAY, 0)),
        ((DAY + 1) * DAY_S - 1, Cursor(DAY, 3)),
        ((DAY + 1) * DAY_S, Cursor(DAY + 1, 0)),
        ((LAST_DAY + 1) * DAY_S - 1, Cursor(LAST_DAY, 1)),
        (2**32 - 1, Cursor(LAST_DAY, 1)),
    ],
)
def test_stream_begins_behind_what_is_older_than_its_start(
    tmp_path: Path, start_s: int, begin: Cursor
) -> None:
    """Also where nothing is younger, and where no file can have that time."""

    async def test(bench: Bench) -> None:
        for column, size in (("time", 4), ("id", 8)):
            (bench.recorder.directory / file_name(column, LAST_DAY)).write_bytes(bytes(size))
        source = EventSource()
        feed = await bench.open(start_s=start_s)
        source.feed((await bench.message(feed)).content)
        assert source.last_event_id == str(begin)

    run(tmp_path, test)


def test_large_events_are_written_by_a_thread(tmp_path: Path) -> None:
    """Some thousand records at a time, within the bound."""

    async def test(bench: Bench) -> None:
        bench.append(20_000)
        feed = await bench.open(start_s=DAY * DAY_S)
        await bench.message(feed)
        found: list[int] = []
        while len(found) < 20_003:
            message = await bench.message(feed)
            assert message.nbytes <= 65_536
            found += ids_of(message)
        assert found == [*range(1, 20_004)]

    run(tmp_path, test)


def test_max_rate_thins_messages_and_no_records(tmp_path: Path) -> None:
    """The second message waits for its time, and holds all that came meanwhile."""

    async def test(bench: Bench) -> None:
        bench.live.call_later = lambda delay_s, call: bench.later.append((delay_s, call))  # type: ignore[method-assign]
        feed = await bench.open(max_rate=2.0)
        await bench.up_to_date(feed)
        bench.append(1)
        assert ids_of(await bench.message(feed)) == [4]
        await bench.up_to_date(feed)
        bench.append(1)
        await asyncio.wait_for(bench.woken.wait(), PATIENCE_S)
        bench.now_ns += SECOND_NS // 10
        for _ in range(3):  # as where pings come meanwhile
            assert feed.next() is None
        [(delay_s, wake)] = bench.later
        assert delay_s == pytest.approx(0.4)
        bench.append(1)
        [tail] = bench.live._tails.values()
        tail.refresh()
        bench.now_ns += SECOND_NS // 2
        bench.woken.clear()
        wake()
        assert bench.woken.is_set()
        assert ids_of(await bench.message(feed)) == [5, 6]

    run(tmp_path, test)


@pytest.mark.parametrize("websocket", [False, True])
@pytest.mark.parametrize("how", ["replaced", "shrank"])
def test_reset_where_the_day_is_no_longer_what_was_read(
    tmp_path: Path, how: str, *, websocket: bool
) -> None:
    """An event with the reason and the beginning of the day, or close code 4001; then the end."""

    async def test(bench: Bench) -> None:
        feed = await bench.open(websocket=websocket)
        await bench.up_to_date(feed)
        directory = bench.recorder.directory
        path = directory / file_name("id", DAY)
        if how == "shrank":
            path.write_bytes(path.read_bytes()[:8])
        else:
            (directory / "new").write_bytes(bytes(8 * 9))
            (directory / "new").rename(path)
        if not websocket:
            source = EventSource()
            [event] = source.feed((await bench.message(feed)).content)
            assert event.kind == "reset"
            assert how in orjson.loads(event.data)["reason"] or how == "shrank"
            assert source.last_event_id == str(Cursor(DAY, 0))
        end = await bench.item(feed)
        assert isinstance(end, End)
        assert end.code == 4001
        assert bench.counters[slots.LIVE_RESETS] == 1

    run(tmp_path, test)


def test_cursor_beyond_the_records_is_reset_at_once(tmp_path: Path) -> None:
    """As one of a server with other files would be; the status line has left by then."""

    async def test(bench: Bench) -> None:
        feed = await bench.open(websocket=True, cursor=Cursor(DAY, 4))
        await bench.message(feed)
        end = await bench.item(feed)
        assert isinstance(end, End)
        assert end.code == 4001

    run(tmp_path, test)


def test_series_that_does_not_exist_is_refused_and_a_day_is_waited_for(tmp_path: Path) -> None:
    """404 for exchange, symbol, type and column; a cursor of a day to come waits for its file."""

    async def test(bench: Bench) -> None:
        for wrong in ({"symbol": "B"}, {"type": "X"}, {"exchange": "x"}, {"columns": ("nope",)}):
            with pytest.raises(NotFoundError):
                await bench.open(**wrong)
        feed = await bench.open(cursor=Cursor(DAY + 1, 0))
        await bench.message(feed)
        await bench.up_to_date(feed)
        directory = bench.recorder.directory
        (directory / file_name("time", DAY + 1)).write_bytes(bytes(4))
        (directory / file_name("id", DAY + 1)).write_bytes(bytes(8))
        assert ids_of(await bench.message(feed)) == [0]
        assert bench.counters[slots.LIVE_SUBSCRIBERS] == 1

    run(tmp_path, test)


def test_bounds_refuse_one_more_and_let_it_in_once_one_has_left(tmp_path: Path) -> None:
    """Of subscribers, and of series with their columns; what was refused holds no place."""

    async def test(bench: Bench) -> None:
        one, two = await bench.open(), await bench.open()
        with pytest.raises(OverloadError, match="too many live streams"):
            await bench.open()
        two.close()
        with pytest.raises(OverloadError, match="too many series"):
            await bench.open(columns=("price",))
        one.close()
        (await bench.open(columns=("price",))).close()
        bench.live.tend()
        assert bench.counters[slots.LIVE_SUBSCRIBERS] == bench.counters[slots.LIVE_SERIES] == 0
        assert not bench.live._watched

    run(tmp_path, test, subscribers_max=2, series_max=1)


def test_directory_that_is_moved_away_and_made_anew_is_watched_again(tmp_path: Path) -> None:
    """No event tells of it; the look once a second does."""

    async def test(bench: Bench) -> None:
        feed = await bench.open(websocket=True)
        await bench.up_to_date(feed)
        directory = bench.recorder.directory
        directory.rename(directory.with_name("old"))
        directory.mkdir()
        for column, size in (("time", 4), ("id", 8)):
            (directory / file_name(column, DAY)).write_bytes(bytes(9 * size))
        bench.live.tend()
        end = await bench.item(feed)
        assert isinstance(end, End)
        assert end.code == 4001
        feed.close()
        again = await bench.open()
        await bench.up_to_date(again)
        for column, size in (("time", 4), ("id", 8)):
            with (directory / file_name(column, DAY)).open("ab") as file:
                file.write(bytes(size))
        assert ids_of(await bench.message(again)) == [0]

    run(tmp_path, test)


@pytest.mark.parametrize("websocket", [False, True])
def test_numpy_is_imported_before_the_first_event_and_not_for_a_websocket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, websocket: bool
) -> None:
    """A thread does so while the stream opens: no record waits 40 ms for it."""

    async def test(bench: Bench) -> None:
        monkeypatch.setattr(messages, "_imported", [])
        await bench.open(websocket=websocket)
        assert is_prepared() is not websocket

    run(tmp_path, test)


def test_series_is_not_given_up_while_its_first_stream_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Importing numpy may take as long as it is until the next look at what nobody reads."""

    async def test(bench: Bench) -> None:
        whole = bench.live._jobs.run

        async def late(work: Any) -> Any:
            bench.live.tend()
            return await whole(work)

        monkeypatch.setattr(bench.live._jobs, "run", late)
        monkeypatch.setattr(messages, "_imported", [])
        feed = await bench.open()
        await bench.up_to_date(feed)
        bench.append(1)
        assert ids_of(await bench.message(feed)) == [4]

    run(tmp_path, test)


def test_file_that_grows_is_asked_for_its_size_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events tell of names that change, so an append costs no look at the names."""

    async def test(bench: Bench) -> None:
        feed = await bench.open()
        await bench.up_to_date(feed)
        monkeypatch.setattr(LiveDay, "measure", lambda _day: pytest.fail("it looks at the names"))
        bench.append(1)
        assert ids_of(await bench.message(feed)) == [4]

    run(tmp_path, test)


def test_reader_is_told_of_files_that_have_the_inodes_of_those_it_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replaced twice while it did not read: the first inodes are free again, and taken."""
    inodes, whole = [1], Follower._open

    def opened(*arguments: Any) -> LiveDay | None:
        day = whole(*arguments)
        if day is not None:
            day.keys = tuple((1, inodes[0]) for _ in day.keys)
        return day

    async def test(bench: Bench) -> None:
        monkeypatch.setattr(Follower, "_open", opened)
        monkeypatch.setattr(LiveDay, "measure", LiveDay.measure_opened)
        slow, other = await bench.open(), await bench.open()
        for feed in (slow, other):
            await bench.up_to_date(feed)
        for inodes[0] in (2, 1):
            for column, size in (("time", 4), ("id", 8)):
                path = bench.recorder.directory / file_name(column, DAY)
                path.with_suffix(".new").write_bytes(bytes(size * 5))
                path.with_suffix(".new").rename(path)
            assert isinstance(await bench.item(other), Message)
            other.close()
            other = await bench.open()
            await bench.up_to_date(other)
        assert b"event: reset" in (await bench.message(slow)).content

    run(tmp_path, test)
