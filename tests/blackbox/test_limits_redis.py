"""Limits over servers, one of two workers, by a real Redis that fails in every way it can."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.faults.client import SMALL, body_of, make_root, poll
from tests.redis_server import COMMAND, RedisServer
from tests.server import ForkedServer, RunningServer
from zerocopy.access.keys import add_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(COMMAND is None, reason="redis-server is not installed")

PER_S = 50
QUOTA = 12
RUN_S = 3.0
PACE_S = 0.003


class Cluster(NamedTuple):
    """Servers of the same keys behind one Redis: the last refuses what it cannot count."""

    redis: RedisServer
    servers: tuple[RunningServer, RunningServer]
    closed: RunningServer
    requests_key: str
    bytes_key: str
    failing_key: str
    content_bytes: int


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two servers that fail open, one that fails closed."""
    root, keys = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("keys") / "keys.json"
    make_root(root)
    nbytes = len(body_of(root, "SMALL"))
    requests_key = add_key(str(keys), "requests", requests_per_s=PER_S)
    bytes_key = add_key(str(keys), "bytes", bytes_per_day=QUOTA * nbytes)
    failing_key = add_key(str(keys), "failing", requests_per_s=100_000)
    with RedisServer() as redis:
        environ = {"ZEROCOPY_AUTH_KEYS_PATH": str(keys), "ZEROCOPY_AUTH_LIMITS_URL": redis.url}
        with (
            ForkedServer(root, ZEROCOPY_SERVER_WORKERS="2", **environ) as one,
            ForkedServer(root, **environ) as two,
            ForkedServer(root, ZEROCOPY_AUTH_LIMITS_FAIL="closed", **environ) as closed,
        ):
            yield Cluster(redis, (one, two), closed, requests_key, bytes_key, failing_key, nbytes)
    shutil.rmtree(root)


def bearer(key: str) -> dict[str, str]:
    """The field that says who asks."""
    return {"Authorization": f"Bearer {key}"}


def ask_until(port: int, key: str, end_s: float, statuses: list[int]) -> None:
    """Ask more often than is admitted, on connections of few requests: both workers get some."""
    while time.time() < end_s:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        for _ in range(20):
            connection.request("GET", SMALL, headers=bearer(key))
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
            time.sleep(PACE_S)  # many times what is admitted, and a processor for others
        connection.close()


def test_servers_together_admit_what_one_would(cluster: Cluster) -> None:
    """Over some seconds, whatever each client does: right to within one window a server."""
    statuses: list[int] = []
    begun_s = int(time.time())
    threads = [
        threading.Thread(
            target=ask_until,
            args=(server.port, cluster.requests_key, begun_s + RUN_S, statuses),
        )
        for server in cluster.servers
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = int(time.time()) - begun_s + 1
    assert PER_S <= statuses.count(200) <= PER_S * (seconds + 2)
    assert set(statuses) == {200, 429}


@pytest.mark.usefixtures("whole_day")
def test_bytes_of_a_day_are_counted_over_servers(cluster: Cluster) -> None:
    """Turn by turn: a server knows all but the last that the other has admitted."""
    fields, client, admitted = bearer(cluster.bytes_key), cluster.redis.client(), 0

    def summed() -> int:
        return sum(int(client.get(key) or 0) for key in client.scan_iter("zerocopy:bytes:*"))

    refused = 0
    while refused < len(cluster.servers):
        refused = 0
        for server in cluster.servers:
            status = server.get(SMALL, fields=fields).status
            admitted, refused = admitted + (status == 200), refused + (status == 429)
            poll(lambda: summed() == admitted * cluster.content_bytes, "an exchange")  # noqa: B023
    assert QUOTA <= admitted <= QUOTA + 1


@pytest.mark.parametrize(
    ("fail", "mend"),
    [
        (RedisServer.kill, RedisServer.start),
        (RedisServer.pause, RedisServer.resume),
        (RedisServer.fill, RedisServer.empty),
    ],
    ids=["killed", "stopped", "full"],
)
def test_a_redis_that_is_away_holds_up_nobody(
    cluster: Cluster,
    fail: Callable[[RedisServer], None],
    mend: Callable[[RedisServer], None],
) -> None:
    """Open servers answer and count alone, the closed one says 503; all return when it does."""
    one, closed, fields = cluster.servers[0], cluster.closed, bearer(cluster.failing_key)
    told = {name: len(one_events(one, name)) for name in ("limits_store_away", "limits_store_back")}
    poll(lambda: closed.get(SMALL, fields=fields).status == 200, "the store is there")
    fail(cluster.redis)
    try:
        poll(lambda: closed.get(SMALL, fields=fields).status == 503, "the store is away")
        refused = closed.get(SMALL, fields=fields)
        assert (refused.status, refused.fields["retry-after"]) == (503, "1")
        assert json.loads(refused.content)["detail"] == (
            "the limits cannot be counted for now; try again"
        )
        assert closed.metric('zerocopy_requests_limited_total{policy="away"}') > 0
        assert closed.get("/healthz").status == 200
        for _ in range(20):
            assert one.get(SMALL, fields=fields).status == 200
        one.logged("limits_store_away", told["limits_store_away"] + 1)
        assert one.metric("zerocopy_limits_store_up") == 0
    finally:
        mend(cluster.redis)
    one.logged("limits_store_back", told["limits_store_back"] + 1)
    poll(lambda: closed.get(SMALL, fields=fields).status == 200, "the store is back")
    poll(lambda: one.metric("zerocopy_limits_store_up") == 1, "the store is back")


def one_events(server: RunningServer, name: str) -> list[dict[str, str]]:
    """The events of a name so far."""
    return [event for event in server.events() if event["event"] == name]


def test_redis_holds_neither_names_nor_addresses(cluster: Cluster) -> None:
    """Hashes, which expire."""
    fields = bearer(cluster.failing_key)
    client = cluster.redis.client()

    def keys() -> list[str]:
        cluster.servers[0].get(SMALL, fields=fields)
        found = [key.decode() for key in client.scan_iter("zerocopy:*")]
        return [key for key in found if key != "zerocopy:probe"]

    poll(lambda: bool(keys()), "a sum")
    for key in keys():
        prefix, table, tag, window = key.split(":")
        assert (prefix, len(tag)) == ("zerocopy", 16)
        assert table in {"requests", "bytes", "address"}
        assert window.isdigit()
        assert 0 < client.ttl(key) <= 2 * 86_400
