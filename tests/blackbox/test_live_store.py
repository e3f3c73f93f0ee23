"""Each record once, in order, over an object store, whichever of two nodes a reader goes on at.

Days grow, follow one another and are replaced as a pusher does it: objects as a whole, `time` last.
"""

from __future__ import annotations

import asyncio
import os
import signal
import struct
from contextlib import ExitStack, suppress
from functools import partial
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.blackbox.live_clients import READERS
from tests.blackbox.test_live_exact import Follower, assert_exact, run, until
from tests.server import ForkedServer, RunningServer
from tests.standin import BUCKET, Standin, environ_of, error_reply, standin
from tests.storage.trees import OPEN_START_S
from zerocopy.core.layout import file_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DAY_S = 86_400
LIST_S = "0.05"
FIRST_DAY = OPEN_START_S // DAY_S


class StoredSeries:
    """A series of the store, and how far its readers have come; prices count from 0."""

    def __init__(self, bucket: Standin, symbol: str) -> None:
        self.bucket = bucket
        self.symbol = symbol
        self.first_day = self.day = FIRST_DAY
        self.days: dict[int, dict[str, bytes]] = {}
        self.base = self.count = self.read = 0
        self.moved = asyncio.Event()

    def target(self, cursor: str) -> str:
        """What a reader asks for."""
        return f"/api/live?symbol={self.symbol}&type=MD&columns=time,price&from={cursor}"

    def key(self, column: str, day: int) -> str:
        """Of a day file."""
        return f"p/coinbase/{self.symbol}/MD/{file_name(column, day)}"

    def append(self, count: int, tail: bytes = b"") -> None:
        """So many records more; behind them a piece of one, which is served to nobody."""
        day = self.days.setdefault(self.day, {"price": b"", "time": b""})
        first = self.base + self.count
        day["price"] += struct.pack(f"<{count}f", *range(first, first + count))
        day["time"] += struct.pack("<I", self.day * DAY_S + 1) * count
        self.count += count
        for column in ("price", "time"):
            self.bucket.put(self.key(column, self.day), day[column] + tail)

    async def write(self, total: int, midnight_at: int, rng: Random) -> None:
        """Append up to `total`, the rest in the next day's files, never far ahead of readers."""
        while self.count < total:
            if self.count >= midnight_at:
                self.day = self.first_day + 1
            most = (total if self.count >= midnight_at else midnight_at) - self.count
            self.append(min(most, rng.choice((1, 7, 90))), rng.choice((b"", b"\x01\x02\x03")))
            while self.read < self.count - 100:
                self.moved.clear()
                await self.moved.wait()
            await asyncio.sleep(0)


class Nodes(NamedTuple):
    """The store and two servers, each with a cache of its own."""

    bucket: Standin
    servers: list[RunningServer]

    def followers_of(self, series: StoredSeries, seed: int) -> list[Follower]:
        """One client of each kind; each connection goes to either node."""
        return [
            Follower(
                series,
                kind,
                [each.port if kind.alpn is None else each.tls_port for each in self.servers],
                seed + number,
            )
            for number, kind in enumerate(READERS)
        ]


async def kill(server: RunningServer, series: StoredSeries, at: int) -> None:
    """Kill a worker once so many records were read. A reload would end streams of other tests."""
    await until(lambda: series.read >= at)
    for pid in server.worker_pids()[:1]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def until_listed(nodes: Nodes) -> None:
    """Wait until each node has seen what the store has now."""

    def listings() -> list[float]:
        return [each.metric("zerocopy_store_listings_total") for each in nodes.servers]

    before = await asyncio.to_thread(listings)
    while any(
        now < then + 2 for now, then in zip(await asyncio.to_thread(listings), before, strict=True)
    ):
        pass


@pytest.fixture(scope="module", name="nodes")
def fixture_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Two workers each; a listing is believed for a moment."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    with standin() as bucket, ExitStack() as stack:
        servers: Sequence[RunningServer] = [
            stack.enter_context(
                ForkedServer(
                    f"s3://{BUCKET}/p",
                    ZEROCOPY_S3_LIST_S=LIST_S,
                    ZEROCOPY_LIVE_POLL_MS="10",
                    ZEROCOPY_DATA_SETTLE_S="600",
                    ZEROCOPY_TLS_PORT="0",
                    ZEROCOPY_SERVER_WORKERS="2",
                    **environ_of(bucket.url, tmp_path_factory.mktemp("cache")),
                )
            )
            for _ in range(2)
        ]
        yield Nodes(bucket, [*servers])


def test_every_record_comes_once_from_either_node(nodes: Nodes) -> None:
    """Growing objects, midnight, readers dropped at any byte, killed workers."""
    rng, total = Random(1), 600

    async def scenario() -> list[Follower]:
        series = StoredSeries(nodes.bucket, "S")
        series.append(1)
        followers = nodes.followers_of(series, 1)
        killing = [partial(kill, each, series, at) for each in nodes.servers for at in (200, 400)]
        await run([lambda: series.write(total, 250, rng), *killing], followers, total)
        return followers

    followers = asyncio.run(scenario())
    assert_exact(followers, total)
    assert not any(follower.resets for follower in followers)


def test_store_that_is_away_is_waited_for(nodes: Nodes) -> None:
    """Readers have all that came meanwhile, and nothing is said to have been replaced."""

    async def scenario() -> list[Follower]:
        series = StoredSeries(nodes.bucket, "W")
        series.append(50)
        followers = nodes.followers_of(series, 2)
        for follower in followers:
            follower.pieces_max = (1_000_000,)

        async def go_away() -> None:
            await until(lambda: all(follower.count == 50 for follower in followers))
            nodes.bucket.requests.clear()
            nodes.bucket.fault = lambda _method, _key: error_reply(403, "AccessDenied")
            await until(lambda: len(nodes.bucket.requests) >= 4)
            series.append(50)
            nodes.bucket.fault = lambda _method, _key: None

        await run([go_away], followers, 100)
        return followers

    followers = asyncio.run(scenario())
    assert_exact(followers, 100)
    assert not any(follower.resets for follower in followers)


def test_day_that_is_replaced_resets_whoever_reads_it(nodes: Nodes) -> None:
    """As `zerocopy import --to` does it: `time` goes first and comes last."""

    async def scenario() -> list[Follower]:
        series = StoredSeries(nodes.bucket, "R")
        series.append(60)
        followers = nodes.followers_of(series, 3)
        for follower in followers:  # who stays is told; a cursor alone does not know the file
            follower.pieces_max = (1_000_000,)

        async def replace() -> None:
            await until(lambda: all(follower.count == 60 for follower in followers))
            del nodes.bucket.objects[series.key("time", FIRST_DAY)]
            await until_listed(nodes)
            assert not any(follower.resets for follower in followers)
            series.days, series.base, series.count = {}, 500, 0
            series.append(100)

        await run([replace], followers, 100)
        return followers

    followers = asyncio.run(scenario())
    assert_exact(followers, 100)
    assert all(follower.resets == 1 for follower in followers)


def test_day_that_appears_late_is_delivered(nodes: Nodes) -> None:
    """A stream from a day that nobody has put waits for it."""

    async def scenario() -> list[Follower]:
        series = StoredSeries(nodes.bucket, "L")
        series.day = FIRST_DAY - 1
        series.append(1)
        series.count, series.day = 0, FIRST_DAY
        followers = nodes.followers_of(series, 4)

        async def appear() -> None:
            await until(lambda: all(follower.connections for follower in followers))
            series.append(30)

        await run([appear], followers, 30)
        return followers

    assert_exact(asyncio.run(scenario()), 30)
