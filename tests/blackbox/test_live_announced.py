"""Appends that a recorder announces by Redis, to a server that would see them an hour later."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.blackbox.live_clients import Events, Messages
from tests.blackbox.test_live_exact import Follower, assert_exact, run, until
from tests.blackbox.test_live_store import StoredSeries
from tests.faults.client import poll
from tests.redis_server import COMMAND, RedisServer
from tests.server import ForkedServer, RunningServer
from tests.standin import BUCKET, Standin, environ_of, standin
from zerocopy.formats.announcement import OBJECTS
from zerocopy.ingest.recording.announcing import Announcer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Site(NamedTuple):
    """A store, a Redis, and a server that hears it."""

    bucket: Standin
    redis: RedisServer
    server: RunningServer


@contextmanager
def site(cache: Path, list_s: str) -> Iterator[Site]:
    """With listings that are believed for so many seconds."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    if COMMAND is None:
        pytest.skip("redis-server is not installed")
    with (
        standin() as bucket,
        RedisServer() as redis,
        ForkedServer(
            f"s3://{BUCKET}/p",
            ZEROCOPY_S3_LIST_S=list_s,
            ZEROCOPY_LIVE_ANNOUNCE=redis.url,
            ZEROCOPY_SERVER_WORKERS="1",
            **environ_of(bucket.url, cache),
        ) as server,
    ):
        yield Site(bucket, redis, server)


def read(site: Site, between: Callable[[StoredSeries], None]) -> list[Follower]:
    """Ten records are read by two clients; then `between` happens, and ten more are put."""

    async def scenario() -> list[Follower]:
        series = StoredSeries(site.bucket, "A")
        series.append(10)
        followers = [
            Follower(series, kind, [site.server.port], seed)
            for seed, kind in enumerate((Events, Messages))
        ]
        for follower in followers:  # who comes again would have the store asked
            follower.pieces_max = (1_000_000,)

        async def more() -> None:
            await until(lambda: all(follower.count == 10 for follower in followers))
            await asyncio.to_thread(between, series)

        await run([more], followers, 20)
        return followers

    return asyncio.run(scenario())


def test_append_that_is_announced_comes_at_once(tmp_path: Path) -> None:
    """And only by that: the listing holds for an hour."""
    told: list[str] = []
    with site(tmp_path, "3600") as here:

        def announce(series: StoredSeries) -> None:
            series.append(10)
            with Announcer(here.redis.url, told.append) as announcer:
                announcer.pushed(("coinbase", "A", "MD"), series.day, ["time", "price"])

        # The worker listens once the server is ready, or soon after that.
        client = here.redis.client()
        poll(lambda: client.pubsub_numsub(OBJECTS)[0][1] > 0, "a listener")
        assert_exact(read(here, announce), 20)
        assert not told
        assert here.server.metric("zerocopy_live_announcements_total") == 1
        assert here.server.metric("zerocopy_live_hinted_looks_total") >= 1


def test_append_comes_by_polling_when_redis_is_killed(tmp_path: Path) -> None:
    """The server says so once, and its readers stay."""
    with site(tmp_path, "0.5") as here:

        def kill(series: StoredSeries) -> None:
            here.redis.kill()
            here.server.logged("live_announcements_away")
            series.append(10)

        followers = read(here, kill)
        assert_exact(followers, 20)
        assert all(follower.connections == 1 for follower in followers)
        assert len(here.server.logged("live_announcements_away")) == 1
