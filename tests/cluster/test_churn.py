"""Ten thousand queries over a thousand symbols of an object store while nodes come and go."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.cluster_ring import Ring, hashes_of
from tests.cluster.front import HAPROXY, Front, Node, number_of
from tests.cluster.stored import node_over, put
from tests.faults.client import Client, request_of
from tests.standin import Standin, standin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

QUERIES = 10_000
CLIENTS = 8
SYMBOLS = 1_000
RECORDS = 50
ASKED = 10
"""Records of a query: its day is cut, so that `time` is searched, too."""

HEADER = (
    b'{"columns":[{"name":"price","record_size":4,"num_records":10,"data_length":40,'
    b'"dtype":"<f4"}]}\n'
)


class Asker(threading.Thread):
    """Asks for symbols by chance, one after the other, and keeps what became of each query."""

    def __init__(self, front: Front, seed: int, homes: list[int]) -> None:
        super().__init__()
        self._front = front
        self._random = random.Random(seed)
        self._homes = homes
        self.durations_s: list[float] = []
        self.outcomes: Counter[str] = Counter()
        self.at_home = 0

    def run(self) -> None:
        """All of its queries; a connection that breaks is opened again, and counted."""
        client = Client(self._front)
        for _ in range(QUERIES // CLIENTS):
            symbol = self._random.randrange(SYMBOLS)
            target = (
                f"/api/data?exchange=binance&symbol=S{symbol}&type=MD"
                f"&start=0&end={ASKED - 1}&columns=price"
            )
            began_s = time.perf_counter()
            try:
                client.send(request_of(target))
                answer = client.answer()
            except (OSError, EOFError) as error:
                self.outcomes[repr(error)] += 1
                client.close()
                client = Client(self._front)
                continue
            self.durations_s.append(time.perf_counter() - began_s)
            body = HEADER + prices_of(symbol)[:ASKED].tobytes()
            is_right = answer.status == 200 and answer.content == body
            self.outcomes["right" if is_right else f"wrong, {answer.status}"] += 1
            self.at_home += number_of(answer.fields) == self._homes[symbol] if is_right else 0
        client.close()


def prices_of(symbol: int) -> NDArray[np.float32]:
    """The prices of a symbol, which are those of no other."""
    return np.arange(RECORDS, dtype="<f4") + symbol * RECORDS


@contextmanager
def cold_cluster(tmp_path: Path) -> Iterator[tuple[Standin, list[Node], Front]]:
    """The store, three nodes whose caches are empty and large enough, and their front."""
    times = np.arange(RECORDS, dtype="<u4").tobytes()
    with standin() as bucket, ExitStack() as stack:
        for symbol in range(SYMBOLS):
            put(bucket, "binance", f"S{symbol}", times, prices_of(symbol).tobytes())
        # Each series is listed once a node: what is told is the cache of files.
        caches = [tmp_path / f"cache{number}" for number in range(3)]
        nodes = [
            stack.enter_context(node_over(bucket.url, cache, ZEROCOPY_S3_LIST_S="3600"))
            for cache in caches
        ]
        front = stack.enter_context(Front(tmp_path, [node.port for node in nodes]))
        yield bucket, nodes, front


def told(askers: list[Asker], bucket: Standin) -> str:
    """Times, hit rate, and share of the queries that the node of their symbol answered."""
    durations_ms = np.array([each * 1e3 for asker in askers for each in asker.durations_s])
    p50, p99, longest = np.percentile(durations_ms, (50, 99, 100))
    # A query asks for one price file; what was not in the cache was read from the store.
    misses = sum("/price." in key for key in bucket.fetched())
    at_home = sum(asker.at_home for asker in askers)
    return (
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {longest:.0f} ms; "
        f"hit rate {1 - misses / QUERIES:.1%}; {at_home / QUERIES:.1%} by their own node"
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("end", [Node.stop, Node.kill], ids=["stopped", "killed"])
def test_queries_while_nodes_come_and_go(
    end: Callable[[Node], object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each answer is right; nodes that stop fail none, one that is killed what it was sending."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    if HAPROXY is None:
        pytest.skip("HAProxy is not installed")
    hashes = hashes_of(f"binance/S{symbol}" for symbol in range(SYMBOLS))
    homes = [int(node) + 1 for node in Ring([1, 2, 3]).homes(hashes)]
    with cold_cluster(tmp_path) as (bucket, nodes, front):
        askers = [Asker(front, seed, homes) for seed in range(CLIENTS)]
        for asker in askers:
            asker.start()
        ends = 0
        try:
            while any(asker.is_alive() for asker in askers):
                number = ends % 3 + 1
                end(nodes[number - 1])
                ends += 1
                nodes[number - 1].start_again()
                front.await_states({f"NODE{number}": "UP"})
        finally:
            for asker in askers:
                asker.join()
    outcomes = sum((asker.outcomes for asker in askers), Counter[str]())
    wrong = outcomes.total() - outcomes["right"]
    with capsys.disabled():
        print(  # noqa: T201 - what the run is for
            f"\n{ends} times {end.__name__}; of {outcomes.total()} queries {wrong} not answered; "
            + told(askers, bucket)
        )
    assert outcomes.total() == QUERIES
    assert wrong <= (0 if end is Node.stop else ends * CLIENTS), outcomes
    assert set(outcomes) <= {"right", "EOFError('the answer was cut off')"}, outcomes
