"""The store in a real Redis: sums, how long they live, and what it is away for."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from tests.redis_server import COMMAND, RedisServer
from zerocopy.access.exchange import AwayError
from zerocopy.access.redis_store import TIMEOUT_S, RedisStore

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """One for all tests."""
    if COMMAND is None:
        pytest.skip("redis-server is not installed")
    with RedisServer() as server:
        yield server


def test_sums_are_those_of_all_who_add(redis: RedisServer) -> None:
    """In one round trip, and each expires."""
    one, two = RedisStore(redis.url), RedisStore(redis.url)
    assert one.add([("x", 60, 3), ("y", 90, 5)]) == [3, 5]
    assert two.add([("y", 90, -2), ("x", 60, 0), ("z", 60, 1)]) == [3, 3, 1]
    assert 0 < redis.client().ttl("zerocopy:x") <= 60
    assert 60 < redis.client().ttl("zerocopy:y") <= 90


def test_a_store_that_is_full_or_gone_is_away(redis: RedisServer) -> None:
    """The very store that failed works again once it is back; a full one would answer a PING."""
    store = RedisStore(redis.url)
    store.check()
    redis.fill()
    for ask in (store.check, lambda: store.add([("a", 60, 1)])):
        with pytest.raises(AwayError, match="maxmemory"):
            ask()
    redis.empty()
    store.check()
    redis.kill()
    for ask in (store.check, lambda: store.add([("a", 60, 1)])):
        with pytest.raises(AwayError):
            ask()
    redis.start()
    assert store.add([("a", 60, 1)]) == [1]


@pytest.mark.parametrize("url", ["redis://[", "redis://127.0.0.1:port", "redis+sentinel://"])
def test_a_url_that_is_none_is_away(url: str) -> None:
    """Its scheme was looked at with the configuration."""
    with pytest.raises(AwayError):
        RedisStore(url).check()


@pytest.mark.parametrize(
    "url", ["redis://:pass/word@127.0.0.1/0", "redis://:pass#word@127.0.0.1/0"]
)
def test_a_password_that_is_not_spelled_as_in_a_url_is_not_told(url: str) -> None:
    """Python quotes what it takes for a port; the reason stands in the log."""
    for asked in (RedisStore(url).check, lambda: RedisStore(url).add([("a", 1, 1)])):
        with pytest.raises(AwayError, match="%2F") as caught:
            asked()
        assert "pass" not in str(caught.value).replace("password", "")
        assert caught.value.__cause__ is None


@pytest.mark.parametrize("url", ["redis+cluster://127.0.0.1:{}", "redis+sentinel://127.0.0.1:{}/x"])
def test_a_cluster_or_a_sentinel_that_says_nothing_is_away_in_time(url: str) -> None:
    """Or the exchange would end for ever, or hold up a stop of the server for a minute."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun_s = time.monotonic()
        with pytest.raises(AwayError):
            RedisStore(url.format(silent.getsockname()[1])).check()
        assert time.monotonic() - begun_s < 10 * TIMEOUT_S
    with pytest.raises(AwayError):
        RedisStore(url.format(1)).check()
