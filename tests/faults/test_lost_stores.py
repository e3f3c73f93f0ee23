"""A store and a Redis that say nothing, or that the network loses: no node waits for them long."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import SMALL, make_root
from tests.faults.stored import DAYS, expected, fill, poll, serving, stored, target, until_right
from tests.redis_server import COMMAND, RedisServer
from tests.relay import Relay
from tests.server import ForkedServer
from zerocopy.access.keys import add_key
from zerocopy.formats.announcement import FILES
from zerocopy.storage.store.breaker import FAILURES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow
"""Each waits for a time-out, and for a pause before somebody asks again."""

BOTH = pytest.mark.parametrize("silence", [Relay.mute, Relay.lose], ids=["mute", "lost"])


@BOTH
def test_store_that_says_nothing_is_left_alone_and_comes_back(
    silence: Callable[[Relay], None], tmp_path: Path
) -> None:
    """What is here is served, what has begun is cut off, the rest is 503; then all is right."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    root = tmp_path / "root"
    fill(root)
    with (
        stored(root) as bucket,
        Relay(bucket.port) as relay,
        serving(
            bucket,
            tmp_path / "cache",
            ZEROCOPY_S3_ENDPOINT=f"http://127.0.0.1:{relay.port}",
            ZEROCOPY_S3_TIMEOUT_S="1",
            ZEROCOPY_S3_LIST_S="3600",
            ZEROCOPY_SERVER_WORKERS="1",
        ) as server,
    ):
        here, cold = (0, 2), (6, 8)
        assert server.get(target(*here)).content == expected(root, *here)
        # `time` of the last day, which is cut, is searched before an answer begins.
        assert server.get(target(DAYS - 1, columns="time")).status == 200
        silence(relay)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            server.get(target())
        for _ in range(FAILURES_MAX):
            answer = server.get(target(*cold))
            assert (answer.status, "retry-after" in answer.fields) == (503, True)
        assert server.get(target(*here)).content == expected(root, *here)

        def is_refused_unasked() -> bool:
            asked = relay.accepted
            assert server.get(target(*cold)).status == 503
            return relay.accepted == asked

        poll(is_refused_unasked)
        relay.heal()
        until_right(lambda: server.get(target(*cold)), expected(root, *cold))
        until_right(lambda: server.get(target()), expected(root))


@BOTH
@pytest.mark.skipif(COMMAND is None, reason="redis-server is not installed")
def test_redis_that_says_nothing_holds_up_nobody_and_comes_back(
    silence: Callable[[Relay], None], tmp_path: Path
) -> None:
    """Limits count alone meanwhile; what is announced afterwards is heard."""
    make_root(tmp_path)
    keys = tmp_path / "keys.json"
    fields = {"Authorization": f"Bearer {add_key(str(keys), 'one', requests_per_s=100_000)}"}
    with RedisServer() as redis, Relay(redis.port) as relay:
        url = f"redis://127.0.0.1:{relay.port}/0"
        with (
            redis.client() as client,
            ForkedServer(
                tmp_path,
                ZEROCOPY_AUTH_KEYS_PATH=str(keys),
                ZEROCOPY_AUTH_LIMITS_URL=url,
                ZEROCOPY_LIVE_ANNOUNCE=url,
                ZEROCOPY_SERVER_WORKERS="1",
            ) as server,
        ):
            assert server.get(SMALL, fields=fields).status == 200
            poll(lambda: client.pubsub_numsub(FILES)[0][1] > 0)
            silence(relay)
            poll(lambda: server.get(SMALL, fields=fields).status == 200 and _is_away(server))
            server.logged("live_announcements_away")
            for _ in range(20):
                assert server.get(SMALL, fields=fields).status == 200
            relay.heal()
            server.logged("limits_store_back")
            server.logged("live_announcements_back")
            poll(lambda: server.metric("zerocopy_limits_store_up") == 1)
            client.publish(FILES, '{"series":["coinbase","BTC-USD","SMALL"]}')
            poll(lambda: server.metric("zerocopy_live_announcements_total") == 1)


def _is_away(server: ForkedServer) -> bool:
    return server.event("limits_store_away") is not None
