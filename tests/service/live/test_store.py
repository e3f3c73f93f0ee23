"""Live streams over an object store: the same to readers as over files, and they wait for it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.living import live
from tests.service.live.bench import PATIENCE_S, SECOND_NS, ids_of
from tests.standin import Standin, error_reply, standin
from tests.storage.store.bench import Node, Ticking, key, node, use_credentials
from tests.storage.trees import DTYPES, SERIES, marks, u32
from zerocopy.core import counters as slots
from zerocopy.core.cursor import Cursor
from zerocopy.core.errors import StoreError
from zerocopy.core.http.stream import Heartbeat, Message
from zerocopy.core.layout import DAY_S, Dtypes, file_name
from zerocopy.core.query import LiveQuery
from zerocopy.storage.store.following import StoreFollower

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from zerocopy.core.http.stream import Item
    from zerocopy.service.live.feed import LiveFeed

DAY = 20_000
LONG_MS = 3_600_000


@pytest.fixture(scope="module", name="shared_bucket")
def fixture_shared_bucket() -> Iterator[Standin]:
    """One server for all tests."""
    with standin() as bucket:
        yield bucket


@pytest.fixture(name="bucket")
def fixture_bucket(shared_bucket: Standin, monkeypatch: pytest.MonkeyPatch) -> Standin:
    """It, with nothing in it and no fault."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    use_credentials(monkeypatch)
    shared_bucket.reset()
    return shared_bucket


class Bench:
    """Live streams of one node over a store whose listings are as old as a test says."""

    def __init__(
        self, bucket: Standin, parts: Node, executor: ThreadPoolExecutor, **changes: Any
    ) -> None:
        self.bucket = bucket
        self.parts = parts
        self.now_ns = SECOND_NS
        self.woken = asyncio.Event()
        self.ended = asyncio.Event()
        """A look has ended, or failed."""
        self.failures: list[Exception] = []
        dtypes = Dtypes(DTYPES)
        self.live = live(
            parts.files,
            executor,
            parts.counters,
            dtypes=dtypes,
            failures=self.failures,
            clock_ns=lambda: self.now_ns,
            follower=StoreFollower(
                parts.listings,
                parts.names,
                parts.fetcher,
                parts.files,
                dtypes,
                settle_s=600,
                lines_max=8,
                clock=parts.clock,
            ),
            **changes,
        )

        end = self.live._jobs._end

        def ended(*arguments: Any) -> None:
            end(*arguments)
            self.ended.set()

        setattr(self.live._jobs, "_end", ended)  # noqa: B010 - for the type checker

    def put(self, day: int, *ids: int) -> None:
        """A day of these records, to be listed by the next look."""
        content = b"".join(each.to_bytes(8, "little") for each in ids)
        self.bucket.put(key(file_name("id", day)), content)
        times = u32(*range(day * DAY_S, day * DAY_S + len(ids)))
        self.bucket.put(key(file_name("time", day)), times)
        self.parts.clock.now_s += 1_000

    async def open(self, *, websocket: bool = False, **query: Any) -> LiveFeed:
        """A stream."""
        series = dict(zip(("exchange", "symbol", "type"), SERIES, strict=True))
        asked = LiveQuery(**{**series, "columns": ("id",), **query})
        feed = await self.live.subscribe(asked, is_websocket=websocket)
        feed.start(self.woken.set)
        return feed

    async def item(self, feed: LiveFeed) -> Item:
        """The next item, waited for."""
        while (item := feed.next()) is None:
            await asyncio.wait_for(self.woken.wait(), PATIENCE_S)
            self.woken.clear()
        return item

    async def message(self, feed: LiveFeed) -> Message:
        """The next item, which is a message."""
        item = await self.item(feed)
        assert isinstance(item, Message), item
        return item

    async def settle(self, *feeds: LiveFeed) -> None:
        """Ask feeds that have nothing, when one is woken, until all wait; that takes few looks."""
        tail = feeds[0]._tail
        for _ in range(20):
            self.woken.clear()
            for feed in feeds:
                assert feed.next() is None
            while tail._looking:
                await asyncio.wait_for(self.ended.wait(), PATIENCE_S)
                self.ended.clear()
            if not self.woken.is_set() and tail._waiting.keys() == {*feeds}:
                return
        raise AssertionError("they wake one another")

    def end(self) -> None:
        """Give back what a worker's process gives back by its end."""
        if self.live._poll_timer is not None:
            self.live._poll_timer.cancel()
        for tail in self.live._tails.values():
            tail.close()


def run(
    bucket: Standin, path: Path, test: Callable[[Bench], Awaitable[None]], **changes: Any
) -> None:
    """Run a test in a loop of its own, over a day of three records."""

    async def main() -> None:
        with ThreadPoolExecutor(4) as executor, node(bucket, str(path), clock=Ticking()) as parts:
            bench = Bench(bucket, parts, executor, **changes)
            bench.put(DAY, 1, 2, 3)
            await test(bench)
            bench.end()

    asyncio.run(main())


def refuse(bucket: Standin) -> None:
    """The store answers nobody from now on."""
    bucket.fault = lambda _method, _key: error_reply(403, "AccessDenied")


def test_days_that_grow_and_follow_one_another_are_read_once(
    bucket: Standin, tmp_path: Path
) -> None:
    """By one look and one fetch of each file, for two readers."""

    async def test(bench: Bench) -> None:
        feeds = [await bench.open(cursor=Cursor(DAY, 1)) for _ in range(2)]
        for feed in feeds:
            await bench.message(feed)
            assert ids_of(await bench.message(feed)) == [2, 3]
        bench.put(DAY, 1, 2, 3, 4)
        assert [ids_of(await bench.message(feed)) for feed in feeds] == [[4], [4]]
        bench.put(DAY, 1, 2, 3, 4, 5)
        bench.put(DAY + 1, 6)
        for feed in feeds:
            assert ids_of(await bench.message(feed)) == [5]
            assert ids_of(await bench.message(feed)) == [6]
        assert all("/time." not in each for each in bucket.fetched())
        assert len(bucket.fetched()) == 4

    run(bucket, tmp_path, test)


def test_day_that_is_replaced_resets_its_readers(bucket: Standin, tmp_path: Path) -> None:
    """Also those of a WebSocket; a new reader has nothing of the old one."""

    async def test(bench: Bench) -> None:
        feed = await bench.open(cursor=Cursor(DAY, 0))
        await bench.message(feed)
        assert ids_of(await bench.message(feed)) == [1, 2, 3]
        bench.put(DAY, 7, 8, 9, 10)
        assert b"event: reset" in (await bench.message(feed)).content
        other = await bench.open(cursor=Cursor(DAY, 0))
        await bench.message(other)
        assert ids_of(await bench.message(other)) == [7, 8, 9, 10]

    run(bucket, tmp_path, test)


def test_large_message_is_sent_from_the_copy(bucket: Standin, tmp_path: Path) -> None:
    """In the format `columns`, though the day has grown, and its file has been replaced since."""

    async def test(bench: Bench) -> None:
        ids = [*range(2_000)]
        bench.put(DAY, *ids)
        feed = await bench.open(websocket=True, cursor=Cursor(DAY, 0))
        await bench.message(feed)
        message = await bench.message(feed)
        bench.put(DAY, *ids, 2_000)
        assert (await bench.message(feed)).content.endswith((2_000).to_bytes(8, "little"))
        [piece] = message.segments
        assert piece.source.read(piece.offset, piece.count) == marks(2_000, 8)

    run(bucket, tmp_path, test)


def test_readers_wait_for_a_store_that_is_away(bucket: Standin, tmp_path: Path) -> None:
    """Those who have all and one that is behind: signs of life, no end, and then what came."""

    async def test(bench: Bench) -> None:
        bench.put(DAY - 1, 0)
        one = await bench.open(cursor=Cursor(DAY, 3))
        await bench.message(one)
        assert one.next() is None
        behind = await bench.open(cursor=Cursor(DAY - 1, 0))
        await bench.message(behind)
        while bench.live._tails[behind._tail.followed].look is None:  # a listing is known
            await asyncio.wait_for(bench.woken.wait(), PATIENCE_S)
            bench.woken.clear()
        bench.put(DAY, 1, 2, 3, 4)
        refuse(bucket)
        for _ in range(2):
            while not {one, behind} <= one._tail._waiting.keys():
                for feed in (one, behind):
                    assert feed.next() is None
                await asyncio.wait_for(bench.ended.wait(), PATIENCE_S)
                bench.ended.clear()
            bench.now_ns += 15 * SECOND_NS
            bench.live.tend()
            for feed in (one, behind):
                assert isinstance(feed.next(), Heartbeat)
        bucket.fault = lambda _method, _key: None
        bench.parts.clock.now_s += 1_000
        assert ids_of(await bench.message(one)) == [4]
        assert ids_of(await bench.message(behind)) == [0]
        assert ids_of(await bench.message(behind)) == [1, 2, 3, 4]
        assert not bench.failures

    run(bucket, tmp_path, test)


def test_day_amid_others_that_is_being_replaced_is_not_the_newest(
    bucket: Standin, tmp_path: Path
) -> None:
    """Who waits there and who waits at the newest day do not wake one another."""

    async def test(bench: Bench) -> None:
        bench.put(DAY - 1, 0)
        one = await bench.open(cursor=Cursor(DAY, 3))
        await bench.message(one)
        behind = await bench.open(cursor=Cursor(DAY - 1, 0))
        await bench.message(behind)
        assert ids_of(await bench.message(behind)) == [0]
        name = key(file_name("time", DAY - 1))
        times = bench.bucket.objects.pop(name)
        bench.parts.clock.now_s += 1_000
        await bench.settle(one, behind)
        bench.bucket.objects[name] = times
        bench.parts.clock.now_s += 1_000
        one._tail.poll()
        assert ids_of(await bench.message(behind)) == [1, 2, 3]

    run(bucket, tmp_path, test, poll_ms=LONG_MS)


def test_readers_of_two_days_wait_for_a_store_that_is_away(bucket: Standin, tmp_path: Path) -> None:
    """After a start: both days are in the cache, and what is behind them is not sure."""

    async def fetch(bench: Bench) -> None:
        bench.put(DAY + 1, 4)
        bench.put(DAY + 2, 5)
        for day in (DAY, DAY + 1):
            feed = await bench.open(cursor=Cursor(day, 0))
            await bench.message(feed)
            await bench.message(feed)

    async def test(bench: Bench) -> None:
        refuse(bucket)
        feeds = [await bench.open(cursor=Cursor(*each)) for each in ((DAY, 3), (DAY + 1, 1))]
        for feed in feeds:
            await bench.message(feed)
        await bench.settle(*feeds)
        bucket.fault = lambda _method, _key: None
        bench.parts.clock.now_s += 1_000
        feeds[0]._tail.poll()
        assert [ids_of(await bench.message(feed)) for feed in feeds] == [[4], [5]]

    async def again() -> None:
        with ThreadPoolExecutor(4) as executor, node(bucket, str(tmp_path), clock=Ticking()) as of:
            bench = Bench(bucket, of, executor, poll_ms=LONG_MS)
            await test(bench)
            bench.end()

    run(bucket, tmp_path, fetch)
    asyncio.run(again())


def test_who_comes_while_a_day_is_replaced_gets_none_of_its_old_records(
    bucket: Standin, tmp_path: Path
) -> None:
    """Its `time` is away for a moment. Others have read the old files, and wait as well."""

    async def test(bench: Bench) -> None:
        one = await bench.open(cursor=Cursor(DAY, 0))
        await bench.message(one)
        assert ids_of(await bench.message(one)) == [1, 2, 3]
        assert one.next() is None
        del bucket.objects[key(file_name("time", DAY))]
        bench.parts.clock.now_s += 1_000
        other = await bench.open(cursor=Cursor(DAY, 0))
        await bench.message(other)
        for _ in range(3):  # it asks again with each poll
            assert other.next() is None
            while other not in one._tail._stalled:
                await asyncio.wait_for(bench.ended.wait(), PATIENCE_S)
                bench.ended.clear()
            while other in one._tail._stalled:
                await asyncio.wait_for(bench.woken.wait(), PATIENCE_S)
                bench.woken.clear()
        bench.put(DAY, 7, 8, 9, 10)
        assert ids_of(await bench.message(other)) == [7, 8, 9, 10]
        assert b"event: reset" in (await bench.message(one)).content

    run(bucket, tmp_path, test)


def test_stream_does_not_begin_while_nothing_is_known(bucket: Standin, tmp_path: Path) -> None:
    """503: the client asks again, elsewhere perhaps."""

    async def test(bench: Bench) -> None:
        refuse(bucket)
        with pytest.raises(StoreError):
            await bench.open()
        assert bench.parts.counters[slots.LIVE_SUBSCRIBERS] == 0

    run(bucket, tmp_path, test)
