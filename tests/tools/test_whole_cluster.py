"""HAProxy, three nodes, an object store and Redis at once, as a cluster has them.

Its parts are tested each for itself in `tests/cluster/`. The store is moto's where it is there
(`make test-moto`), else our stand-in; both are filled as `zerocopy import --to` fills one.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from tests.client.ticker import Ticker
from tests.cluster.front import HAPROXY, Front, Node, number_of
from tests.cluster.stored import node_over
from tests.faults.client import poll
from tests.moto_server import COMMAND as MOTO
from tests.moto_server import MotoServer
from tests.naive import naive_answer
from tests.redis_server import COMMAND as REDIS
from tests.redis_server import RedisServer
from tests.standin import BUCKET, CREDENTIALS, standin
from tests.storage.trees import DAY, DAY_S, DAY_START_S, marks, put, u32
from zerocopy.access.keys import add_key
from zerocopy.client import Client
from zerocopy.core.layout import day_of
from zerocopy.formats.announcement import OBJECTS
from zerocopy.ingest.recording.announcing import Announcer
from zerocopy.storage.store.breaker import Breaker
from zerocopy.storage.store.objectstore import ObjectStore
from zerocopy.storage.store.pushing import push_days
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.standin import Standin

URL = f"s3://{BUCKET}/p"
LIST_S = 3_600
"""How long a listing is believed: what is seen earlier was announced."""
SYMBOLS = [f"S{number}" for number in range(9)]
RECORDS = 1_440
QUOTA = 12
"""Answers a day that two of the keys may have."""
LARGE_RECORDS = 4_000_000
WHOLE = 0, DAY_S - 1
RANGES = (WHOLE, (1, DAY_S - 2), (3_600, 7_200), (DAY_S - 1, DAY_S - 1))
"""Seconds of the day."""


class Cluster(NamedTuple):
    """All of it, and the files that were put into the store."""

    root: Path
    store: ObjectStore
    redis: RedisServer
    nodes: list[Node]
    front: Front
    key: str
    bounded_key: str
    other_key: str

    def client(self) -> Client:
        """One that asks the front."""
        return Client(f"http://127.0.0.1:{self.front.port}", key=self.key)

    def restart(self, numbers: Sequence[int]) -> None:
        """Start nodes again that were ended."""
        for number in numbers:
            self.nodes[number - 1].start_again()
        self.front.await_states({f"NODE{number}": "UP" for number in numbers})


@pytest.fixture(scope="module", name="cluster")
def fixture_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Small series of a day, a large one, and two keys that may have little a day."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    if HAPROXY is None or REDIS is None:
        pytest.skip("HAProxy or redis-server is not installed")
    root, keys = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("keys") / "keys.json"
    first = day_of(DAY_START_S)
    times = u32(*range(DAY_START_S, DAY_START_S + DAY_S, DAY_S // RECORDS))
    for number, symbol in enumerate(SYMBOLS):
        series = Series("coinbase", symbol, "MD")
        put(str(root), {"time": times, "price": marks(RECORDS, base=number)}, DAY, series)
    large = np.arange(LARGE_RECORDS, dtype="<u4")
    put(
        str(root),
        {"time": (large // 50 + DAY_START_S).tobytes(), "price": large.tobytes()},
        DAY,
        Series("coinbase", "LARGE", "MD"),
    )
    nbytes = len(expected_of(root, SYMBOLS[0], *WHOLE))
    key = add_key(str(keys), "unbounded")
    bounded = [
        add_key(str(keys), name, bytes_per_day=QUOTA * nbytes) for name in ("bounded", "other")
    ]
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        bucket: Standin | MotoServer = (
            stack.enter_context(standin()) if MOTO is None else stack.enter_context(MotoServer())
        )
        redis = stack.enter_context(RedisServer())
        store = ObjectStore(URL, Breaker(), endpoint=bucket.url, allow_http=True)
        for symbol in (*SYMBOLS, "LARGE"):
            push_days(store, str(root), Series("coinbase", symbol, "MD"), [first])
        environ = {
            "ZEROCOPY_S3_LIST_S": str(LIST_S),
            "ZEROCOPY_AUTH_KEYS_PATH": str(keys),
            "ZEROCOPY_AUTH_LIMITS_URL": redis.url,
            "ZEROCOPY_LIVE_ANNOUNCE": redis.url,
        }
        nodes = [
            stack.enter_context(node_over(bucket.url, tmp_path_factory.mktemp("cache"), **environ))
            for _ in range(3)
        ]
        front = Front(tmp_path_factory.mktemp("front"), [node.port for node in nodes])
        yield Cluster(root, store, redis, nodes, stack.enter_context(front), key, *bounded)


def target_of(symbol: str, first_s: int, last_s: int) -> str:
    """Records of a symbol's day."""
    ends = f"start={DAY_START_S + first_s}&end={DAY_START_S + last_s}"
    return f"/api/data?symbol={symbol}&type=MD&columns=time,price&{ends}"


def expected_of(root: Path, symbol: str, first_s: int, last_s: int) -> bytes:
    """Their content as the oracle has it."""
    ends = DAY_START_S + first_s, DAY_START_S + last_s
    return naive_answer(str(root), "coinbase", symbol, "MD", *ends, ["time", "price"])


def bearer(key: str) -> dict[str, str]:
    """The field that says who asks."""
    return {"Authorization": f"Bearer {key}"}


def test_every_node_answers_as_the_oracle_over_the_files(cluster: Cluster) -> None:
    """Content and validators, by the front and by each node, also of the other nodes' tags."""
    fields = bearer(cluster.key)
    for symbol, (first_s, last_s) in product(SYMBOLS, RANGES):
        target = target_of(symbol, first_s, last_s)
        content = expected_of(cluster.root, symbol, first_s, last_s)
        first = cluster.front.get(target, fields=fields)
        assert (first.status, first.content) == (200, content), target
        for node in cluster.nodes:
            assert node.get(target, fields=fields).content == content
            known = {"If-None-Match": first.fields["etag"], **fields}
            assert node.get(target, fields=known).status == 304
            part = {"Range": "bytes=50-", "If-Range": first.fields["etag"], **fields}
            assert node.get(target, fields=part).content == content[50:]


@pytest.mark.usefixtures("whole_day")
def test_bytes_of_a_day_are_those_of_all_nodes(cluster: Cluster) -> None:
    """Turn by turn, by the front and past it: refused by every node once Redis knows."""
    fields, redis, admitted = bearer(cluster.bounded_key), cluster.redis.client(), 0
    nbytes = len(expected_of(cluster.root, SYMBOLS[0], *WHOLE))
    ways: list[Node | Front] = [*cluster.nodes, cluster.front]

    def is_counted() -> bool:
        sums = (int(redis.get(key) or 0) for key in redis.scan_iter("zerocopy:bytes:*"))
        return admitted * nbytes in sums

    refused = 0
    while refused < len(ways):
        refused = 0
        for way in ways:
            status = way.get(target_of(SYMBOLS[0], *WHOLE), fields=fields).status
            admitted, refused = admitted + (status == 200), refused + (status == 429)
            poll(is_counted, "an exchange")
    assert QUOTA <= admitted <= QUOTA + len(ways)
    assert cluster.front.get(target_of(SYMBOLS[0], *WHOLE)).status == 401


@pytest.mark.usefixtures("each_read")
def test_transfer_goes_on_at_a_node_that_has_yet_to_fetch(cluster: Cluster) -> None:
    """SIGKILL amid 16 MB: another fetches the day, the rest is by its tag, the hash is right."""
    target = target_of("LARGE", 0, 0)
    answer = cluster.front.get(target, fields=bearer(cluster.key))
    number = number_of(answer.fields)
    cluster.front.await_idle()
    killed: list[int] = []

    def kill(received: int, total: int | None) -> None:
        if received > 1 << 20 and not killed:
            assert received != total
            assert cluster.front.busy() == [number]
            killed.append(number)
            cluster.nodes[number - 1].kill()

    with cluster.client() as client:
        frame = client.data("LARGE", "price", type="MD", progress=kill)
    assert killed
    cluster.restart(killed)
    content = np.arange(LARGE_RECORDS, dtype="<u4").tobytes()
    assert hashlib.sha256(frame["price"].tobytes()).digest() == hashlib.sha256(content).digest()


def test_stream_gets_what_is_announced_and_goes_on_at_another_node(cluster: Cluster) -> None:
    """A recorder pushes and tells Redis; the node dies, the next one stops: each record once."""
    ticker = Ticker(cluster.root, "LIVE")
    series, day = Series("coinbase", "LIVE", "MD"), int(ticker.day_s) // DAY_S
    redis, prices, used = cluster.redis.client(), list[float](), list[int]()

    push_days(cluster.store, str(cluster.root), series, [day])
    poll(lambda: redis.pubsub_numsub(OBJECTS)[0][1] == len(cluster.nodes), "listeners")
    with (
        Announcer(cluster.redis.url, pytest.fail) as announcer,
        cluster.client() as client,
        client.live("LIVE", "price", type="MD") as stream,
    ):
        for end in (Node.kill, Node.stop, None):
            ticker.append(100)
            push_days(cluster.store, str(cluster.root), series, [day])
            announcer.pushed(series, day, ["time", "price"])
            while len(prices) < ticker.count:
                prices += next(stream)["price"].tolist()
            if end is not None:
                poll(
                    lambda: len(cluster.front.busy("live")) == 1,
                    "the stream of the last node to end",
                )
                used += cluster.front.busy("live")
                end(cluster.nodes[used[-1] - 1])
    cluster.restart(used)
    assert prices == list(range(300))
    assert len(set(used)) == 2


@pytest.mark.usefixtures("whole_day")
def test_redis_that_dies_costs_no_answer_and_bounds_still_hold(cluster: Cluster) -> None:
    """Each node counts alone until it is back, and gives what a key may have but no more."""
    target, fields = target_of(SYMBOLS[0], *WHOLE), bearer(cluster.other_key)
    content = expected_of(cluster.root, SYMBOLS[0], *WHOLE)
    cluster.redis.kill()
    try:
        for node in cluster.nodes:
            poll(lambda: node.metric("zerocopy_limits_store_up") == 0, "it is missed")  # noqa: B023
        for node in cluster.nodes:
            answers = [node.get(target, fields=fields) for _ in range(QUOTA)]
            assert [answer.content for answer in answers] == [content] * QUOTA
            assert node.get(target, fields=fields).status == 429
        unbounded = cluster.front.get(target, fields=bearer(cluster.key))
        assert unbounded.content == content
    finally:
        cluster.redis.start()
    for node in cluster.nodes:
        poll(lambda: node.metric("zerocopy_limits_store_up") == 1, "it is back")  # noqa: B023
