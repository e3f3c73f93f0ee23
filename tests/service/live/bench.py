"""A service of live streams over a small root, which the test's event loop drives."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import orjson

from tests.eventstream import EventSource
from tests.living import end, live
from tests.service.live.recorder import DECLARED, Recorder
from zerocopy.core.counters import SLOTS
from zerocopy.core.http.stream import Item, Message
from zerocopy.core.layout import Dtypes
from zerocopy.core.query import LiveQuery
from zerocopy.storage.dayfile import OpenFiles

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from zerocopy.service.live.feed import LiveFeed

DAY = 20_000
PATIENCE_S = 30
SECOND_NS = 1_000_000_000


class NoChance:
    """Stands for a random number generator: the last choice, the largest number."""

    def choice(self, several: Any) -> Any:
        """The last."""
        return several[-1]


class Bench:
    """One series `A`, its recorder, and live streams with a clock that a test moves."""

    def __init__(self, root: Path, executor: ThreadPoolExecutor, **changes: Any) -> None:
        self.recorder = Recorder(root, "A", DAY, NoChance())  # type: ignore[arg-type]
        self.counters = [0] * len(SLOTS)
        self.now_ns = SECOND_NS
        self.later: list[tuple[float, Callable[[], object]]] = []
        self.woken = asyncio.Event()
        self.live = live(
            OpenFiles(str(root), 16),
            executor,
            self.counters,
            dtypes=Dtypes(DECLARED),
            clock_ns=lambda: self.now_ns,
            **changes,
        )

    def append(self, count: int) -> None:
        """Records of all columns, written to the end."""
        self.recorder.record(count)
        for column in ("time", "id", "price"):
            day = self.recorder.days[DAY]
            self.recorder._append(day, column, day.data(column)[day.written[column] :])

    async def open(self, *, websocket: bool = False, **query: Any) -> LiveFeed:
        """A stream that tells this bench when it has something."""
        asked = {"exchange": "coinbase", "symbol": "A", "type": "MD", "columns": ("id",), **query}
        feed = await self.live.subscribe(LiveQuery(**asked), is_websocket=websocket)
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
        assert isinstance(item, Message)
        return item

    async def up_to_date(self, feed: LiveFeed) -> None:
        """Take what there is until the feed waits for an append."""
        [tail] = self.live._tails.values()
        while feed not in tail._waiting:
            if feed.next() is None and feed not in tail._waiting:
                await asyncio.wait_for(self.woken.wait(), PATIENCE_S)
                self.woken.clear()


def run(root: Path, test: Callable[[Bench], Awaitable[None]], **changes: Any) -> None:
    """Run a test in a loop of its own."""

    async def main() -> None:
        with ThreadPoolExecutor(2) as executor:
            bench = Bench(root, executor, **changes)
            bench.append(3)
            await test(bench)
            end(bench.live)

    asyncio.run(main())


def ids_of(message: Message) -> list[int]:
    """The ids in a message of events."""
    [event] = EventSource().feed(message.content)
    found: list[int] = orjson.loads(event.data)["columns"]["id"]
    return found
