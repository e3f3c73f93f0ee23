"""`Listener`: what a worker hears by Redis, and that it never waits for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.redis_server import COMMAND, RedisServer
from zerocopy.core import counters as slots
from zerocopy.core.counters import SLOTS
from zerocopy.formats.announcement import FILES, announcement
from zerocopy.service.live import announced
from zerocopy.service.live.announced import Listener
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from redis import Redis

SERIES = Series("coinbase", "X", "MD")
MESSAGE = announcement(SERIES, 20_000, ["time"])
PATIENCE_S = 20.0


class Hinted:
    """Live streams of one series."""

    def __init__(self) -> None:
        self.hints: list[Series] = []
        self.told = asyncio.Event()

    def is_followed(self, series: Series) -> bool:
        """Only that one."""
        return series == SERIES

    def hint(self, series: Series) -> None:
        """Note it."""
        self.hints.append(series)
        self.told.set()


@pytest.fixture(name="redis")
def fixture_redis() -> Iterator[RedisServer]:
    """One that a test may kill."""
    if COMMAND is None:
        pytest.skip("redis-server is not installed")
    with RedisServer() as server:
        yield server


@pytest.fixture(name="logged")
def fixture_logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the events that are logged."""
    found: list[str] = []

    class Log:
        def warning(self, event: str, **_: Any) -> None:
            found.append(event)

        info = warning

    monkeypatch.setattr(announced, "_log", Log())
    monkeypatch.setattr(announced, "RETRY_S", 0.01)
    return found


def run(redis: RedisServer, test: Callable[[Hinted, Listener, list[int]], Awaitable[None]]) -> None:
    """Listen in a loop of its own."""

    async def main() -> None:
        live, counters = Hinted(), [0] * len(SLOTS)
        loop = asyncio.get_running_loop()
        listener = Listener(redis.url, FILES, live, loop, counters)
        with listener:
            await test(live, listener, counters)
        await asyncio.to_thread(listener._thread.join, PATIENCE_S)
        assert not listener._thread.is_alive()

    asyncio.run(main())


async def until(is_so: Callable[[], object]) -> None:
    """Wait until something holds of which another thread or process tells nobody."""
    async with asyncio.timeout(PATIENCE_S):
        while not await asyncio.to_thread(is_so):  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)


def pings_at(client: Redis) -> int:
    """How often Redis was asked whether it is there."""
    stats: Any = client.info("commandstats")
    found: int = stats["cmdstat_ping"]["calls"]
    return found


async def published(redis: RedisServer, message: bytes = MESSAGE) -> None:
    """Publish it once somebody hears it."""
    client = redis.client()
    await until(lambda: client.publish(FILES, message))
    client.close()


def test_series_that_is_read_is_hinted_in_the_loop(redis: RedisServer) -> None:
    """Others, and what is no announcement, are counted and get no further."""

    async def test(live: Hinted, _listener: Listener, counters: list[int]) -> None:
        await published(redis, b"\xff")
        await published(redis, announcement(("coinbase", "Y", "MD"), 1, []))
        await published(redis)
        await asyncio.wait_for(live.told.wait(), PATIENCE_S)
        assert live.hints == [SERIES]
        assert counters[slots.LIVE_ANNOUNCEMENTS] == 3

    run(redis, test)


def test_redis_that_goes_and_comes_is_told_of_once(redis: RedisServer, logged: list[str]) -> None:
    """Then announcements are heard as before."""

    async def test(live: Hinted, _listener: Listener, _counters: list[int]) -> None:
        await published(redis)
        redis.kill()
        await until(lambda: logged)
        live.told.clear()
        await asyncio.to_thread(redis.start)
        await published(redis)
        await asyncio.wait_for(live.told.wait(), PATIENCE_S)
        assert logged == ["live_announcements_away", "live_announcements_back"]

    run(redis, test)


def test_redis_that_says_nothing_any_more_is_away(
    redis: RedisServer, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connections stand, so it is asked now and then; one that is only quiet answers."""
    monkeypatch.setattr(announced, "WAKE_S", 0.02)
    monkeypatch.setattr(announced, "PING_S", 0.5)  # a busy machine may take a part of it

    async def test(_live: Hinted, _listener: Listener, _counters: list[int]) -> None:
        await published(redis)
        client = redis.client()
        before = pings_at(client)
        await until(lambda: pings_at(client) >= before + 2)
        assert not logged
        redis.pause()
        monkeypatch.setattr(announced, "PING_S", 0.05)
        try:
            await until(lambda: logged)
        finally:
            redis.resume()
        client.close()

    run(redis, test)


def test_flood_is_read_slowly(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of a second the thread sleeps when it has read what it may."""
    monkeypatch.setattr(announced, "MESSAGES_PER_S_MAX", 3)
    slept: list[float] = []

    async def test(live: Hinted, listener: Listener, _counters: list[int]) -> None:
        monkeypatch.setattr(listener._ending, "wait", slept.append)
        for _ in range(30):
            await published(redis)
        await until(lambda: slept)
        assert all(0 <= each <= 1 for each in slept)
        assert live.hints

    run(redis, test)
