"""Three nodes over one object store behind HAProxy, each with a cache of its own."""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from bench.cluster_cache import Objects, hit_rate, kept
from bench.cluster_ring import Ring, hashes_of
from tests.cluster.front import HAPROXY, Front, Node
from tests.cluster.stored import node_over, put
from tests.faults.client import Client, request_of
from tests.standin import Standin, standin
from zerocopy.client import Client as PublicClient

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDS = 1_000
SYMBOLS = 300
LARGE_RECORDS = 4_000_000
CACHE_FILES = 60
"""Files of a column that fit the cache of a node, of some hundred that it is asked for."""
FILE_BYTES = 4 * RECORDS


class Cluster(NamedTuple):
    """The store, its nodes and their front."""

    bucket: Standin
    nodes: list[Node]
    front: Front


@pytest.fixture(scope="module", name="cluster")
def fixture_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Small symbols of one day whose two columns are files of a size, and a large one."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    if HAPROXY is None:
        pytest.skip("HAProxy is not installed")
    times = np.arange(RECORDS, dtype="<u4").tobytes()
    with standin() as bucket, ExitStack() as stack:
        for number in range(SYMBOLS):
            put(bucket, "okx", f"S{number}", times, prices_of(number))
        large = np.arange(LARGE_RECORDS, dtype="<u4")
        put(bucket, "okx", "LARGE", (large // 100).tobytes(), large.astype("<f4").tobytes())
        caches = [tmp_path_factory.mktemp("cache") for _ in range(3)]
        nodes = [stack.enter_context(node_over(bucket.url, cache)) for cache in caches]
        front = Front(tmp_path_factory.mktemp("front"), [node.port for node in nodes])
        yield Cluster(bucket, nodes, stack.enter_context(front))


def prices_of(number: int) -> bytes:
    """The prices of a small symbol, which are those of no other."""
    return (np.arange(RECORDS, dtype="<f4") + number * RECORDS).tobytes()


def target_of(symbol: str, columns: str = "time,price") -> str:
    """All of its day."""
    return f"/api/data?exchange=okx&symbol={symbol}&type=MD&start=0&end=86399&columns={columns}"


def test_nodes_of_one_store_give_the_same_bytes_and_validators(cluster: Cluster) -> None:
    """Status, fields and content of each node, whole and in ranges of one another's tags."""
    times = np.arange(RECORDS, dtype="<u4").tobytes()
    answers = [node.get(target_of("S7")) for node in cluster.nodes]
    assert {answer.status for answer in answers} == {200}
    assert all(answer.content.endswith(b"}\n" + times + prices_of(7)) for answer in answers)
    for name in ("etag", "last-modified", "cache-control", "content-length"):
        assert len({answer.fields[name] for answer in answers}) == 1, name
    for node, other in zip(cluster.nodes, [*cluster.nodes[1:], cluster.nodes[0]], strict=True):
        tag = node.get(target_of("S8"), method="HEAD").fields["etag"]
        fields = {"Range": "bytes=100-4999", "If-Range": tag}
        part = other.get(target_of("S8"), fields=fields)
        assert part.status == 206
        assert part.content == node.get(target_of("S8")).content[100:5_000]


def test_a_file_is_fetched_once_in_the_whole_cluster(cluster: Cluster) -> None:
    """Each symbol asked for three times: one node fetches it, and has it from then on."""
    symbols = [f"S{number}" for number in range(20, 60)]
    cluster.bucket.requests.clear()
    with Client(cluster.front) as client:
        for symbol in symbols * 3:
            client.send(request_of(target_of(symbol)))
            answer = client.answer()
            assert answer.content.endswith(prices_of(int(symbol[1:])))
    fetches = Counter(cluster.bucket.fetched())
    assert set(fetches.values()) == {1}
    assert sum("/price." in key for key in fetches) == len(symbols)


@pytest.mark.usefixtures("each_read")
def test_transfer_from_the_store_goes_on_at_another_node(cluster: Cluster) -> None:
    """The node is killed amid 32 MB; another fetches the rest's files, and the hash is right."""
    killed: list[Node] = []
    [number] = cluster.front.nodes_of([target_of("LARGE", "time").replace("end=86399", "end=0")])

    def kill(received: int, total: int | None) -> None:
        if received > 1 << 20 and not killed:
            assert received != total
            assert cluster.front.busy() == [number]
            killed.append(cluster.nodes[number - 1])
            killed[0].kill()

    with PublicClient(f"http://127.0.0.1:{cluster.front.port}", exchange="okx") as client:
        frame = client.data("LARGE", "time,price", type="MD", progress=kill)
    assert killed
    killed[0].start_again()
    cluster.front.await_states({f"NODE{number}": "UP"})
    content = cluster.bucket.objects["p/okx/LARGE/MD/price.01.01.70.bin"].content
    assert hashlib.sha256(frame["price"].tobytes()).digest() == hashlib.sha256(content).digest()


@pytest.mark.slow
def test_hit_rate_of_small_caches_is_that_of_the_model(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """Zipf's demand over 300 symbols, caches of 60 files a node, 3,000 queries of one column."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    demand = 1 / np.arange(1, SYMBOLS + 1)
    demand /= demand.sum()
    asked = np.random.default_rng(11).choice(SYMBOLS, 3_000, p=demand).tolist()
    with standin() as bucket, ExitStack() as stack:
        for number in range(SYMBOLS):
            put(bucket, "okx", f"S{number}", bytes(FILE_BYTES), prices_of(number))
        options = {
            "ZEROCOPY_S3_CACHE_BYTES_MAX": str(CACHE_FILES * FILE_BYTES),
            "ZEROCOPY_S3_LIST_S": "3600",
            # What is open is not deleted, and a kept response needs no file.
            "ZEROCOPY_MEMORY_OPEN_FILES_MAX": "1",
            "ZEROCOPY_MEMORY_PLAN_CACHE_BYTES_MAX": "0",
        }
        caches = [tmp_path_factory.mktemp("cache") for _ in range(3)]
        nodes = [stack.enter_context(node_over(bucket.url, cache, **options)) for cache in caches]
        front = stack.enter_context(
            Front(tmp_path_factory.mktemp("front"), [node.port for node in nodes])
        )
        with Client(front) as client:
            for turn, number in enumerate(asked):
                if turn == len(asked) // 2:
                    bucket.requests.clear()
                client.send(request_of(target_of(f"S{number}", "price")))
                assert client.answer().content.endswith(prices_of(number))
        fetched = sum("/price." in key for key in bucket.fetched())
    found = 1 - fetched / (len(asked) - len(asked) // 2)
    homes = Ring([1, 2, 3]).homes(hashes_of(f"okx/S{number}" for number in range(SYMBOLS)))
    objects = Objects(homes, demand, np.ones(SYMBOLS), float(FILE_BYTES))
    # Seven eighths stay when the cache makes room.
    expected = [
        hit_rate(objects, kept(objects, 3, share * CACHE_FILES * FILE_BYTES))
        for share in (0.875, 1.0)
    ]
    with capsys.disabled():
        print(f"\nhit rate {found:.1%}, by the model {expected[0]:.1%} to {expected[1]:.1%}")  # noqa: T201
    assert expected[0] - 0.05 < found < expected[1] + 0.05
