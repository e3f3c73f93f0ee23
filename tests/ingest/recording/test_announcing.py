"""`Announcer`: recorders tell of appends by Redis, and wait for it never."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.redis_server import COMMAND, RedisServer
from zerocopy.access import redis_client
from zerocopy.access.redis_client import open_redis
from zerocopy.core.errors import ConfigError
from zerocopy.formats.announcement import FILES, OBJECTS, announcement, parse_announcement
from zerocopy.ingest.recorder import Recorder
from zerocopy.ingest.recording import announcing
from zerocopy.ingest.recording.announcing import Announcer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERIES = ("coinbase", "X", "MD")
PATIENCE_S = 20.0


@pytest.fixture(scope="module", name="redis")
def fixture_redis() -> Iterator[RedisServer]:
    """One for all tests."""
    if COMMAND is None:
        pytest.skip("redis-server is not installed")
    with RedisServer() as server:
        yield server


class Ear:
    """Hears what is published on some channels."""

    def __init__(self, redis: RedisServer, *channels: str) -> None:
        self._client = redis.client()  # its end would be that of the connection
        pubsub: Any = self._client.pubsub  # type: ignore[no-untyped-call, unused-ignore]
        self._heard = pubsub(ignore_subscribe_messages=False)
        self._heard.subscribe(*channels)
        for _ in channels:
            assert self._heard.get_message(timeout=PATIENCE_S)["type"] == "subscribe"

    def next(self) -> tuple[str, bytes]:
        """The channel and the bytes of the next message."""
        message = self._heard.get_message(timeout=PATIENCE_S)
        assert message is not None, "nothing was published"
        return message["channel"].decode(), message["data"]

    def close(self) -> None:
        """Give the connection back."""
        self._heard.close()
        self._client.close()


@pytest.fixture(name="ear")
def fixture_ear(redis: RedisServer) -> Iterator[Ear]:
    """One that hears both channels."""
    ear = Ear(redis, FILES, OBJECTS)
    yield ear
    ear.close()


def test_appends_and_pushes_are_told_on_channels_of_their_own(redis: RedisServer, ear: Ear) -> None:
    """And what waits at the end is told as well."""
    with Announcer(redis.url, print) as announcer:
        announcer.appended(SERIES, 20_000, ("time", "price"))
        assert ear.next() == (FILES, announcement(SERIES, 20_000, ("time", "price")))
        announcer.pushed(SERIES, 20_001, ["time"])
    assert ear.next() == (OBJECTS, announcement(SERIES, 20_001, ["time"]))


def test_recorder_tells_of_each_flush(redis: RedisServer, ear: Ear, tmp_path: Path) -> None:
    """When the records are in the files."""
    with Recorder(
        str(tmp_path),
        exchange="coinbase",
        symbol="X",
        type="MD",
        columns=("price",),
        flush_ms=None,
        announce=redis.url,
    ) as recorder:
        recorder.append((1_748_736_000, 7.0))
        recorder.flush()
        channel, message = ear.next()
    found = parse_announcement(message)
    assert (channel, found) == (FILES, SERIES)
    assert b'"day":"20250601"' in message


def test_what_is_told_of_one_series_meanwhile_is_told_once(redis: RedisServer) -> None:
    """And no more of them wait than is bearable."""
    announcer = Announcer(redis.url, print)
    for day in range(3):
        announcer.appended(SERIES, day, ())
    assert len(announcer._waiting) == 1
    for number in range(announcing.WAITING_MAX + 5):
        announcer.appended(("coinbase", f"N{number}", "MD"), 1, ())
    assert len(announcer._waiting) == announcing.WAITING_MAX


def test_redis_that_is_away_is_told_of_once_and_once_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever appends goes on, and the end does not wait for it."""
    if COMMAND is None:
        pytest.skip("redis-server is not installed")
    monkeypatch.setattr(announcing, "RETRY_S", 0.01)
    told, is_told = list[str](), threading.Event()

    def tell(sentence: str) -> None:
        told.append(sentence)
        is_told.set()

    with RedisServer() as redis:
        redis.kill()
        with Announcer(redis.url, tell) as announcer:
            announcer.appended(SERIES, 1, ())
            assert is_told.wait(PATIENCE_S)
            is_told.clear()
            for day in range(9):
                announcer.appended(SERIES, day, ())
            redis.start()
            while not is_told.wait(0.01):
                announcer.appended(SERIES, 1, ())
    assert len(told) == 2
    assert told[0].startswith("appends are not announced: ")
    assert told[1] == "appends are announced again"


@pytest.mark.parametrize("url", ["http://x", "redis+cluster://x", "redis://:a/b@x", "redis://x:y"])
def test_url_that_is_none_is_told_without_its_password(url: str) -> None:
    """When it is opened, not when something is said."""
    with pytest.raises(ConfigError) as caught:
        Announcer(url, print)
    assert "a/b" not in caught.value.detail
    assert "\n" not in caught.value.detail


def test_client_asks_once_and_not_for_long() -> None:
    """Retries of the library would delay what is told."""
    client = open_redis("redis://127.0.0.1:1/0")
    options = client.connection_pool.connection_kwargs
    assert options["socket_timeout"] == options["socket_connect_timeout"] == redis_client.TIMEOUT_S
    assert options["retry"].get_retries() == 0
