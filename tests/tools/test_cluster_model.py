"""The model of a cluster: its parts against what they stand for, and its run."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest

from bench.cluster_cache import Objects, hit_rate, kept
from bench.cluster_load import simulate, slots_of
from bench.cluster_model import Market, at_home, bounded, move
from bench.cluster_ring import Ring, hashes_of

MARKET = Market(symbols=2_000, days=30)
CACHE_BYTES = 10e9
KEYS = [f"okx/S{number}-USDT" for number in range(10_000)]


def simulated_hit_rate(rates: np.ndarray, capacity: int, requests: int) -> float:
    """Of a cache of `capacity` objects, the least recently used evicted; its second half counts."""
    rng = np.random.default_rng(5)
    cache: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for turn, item in enumerate(rng.choice(len(rates), requests, p=rates / rates.sum()).tolist()):
        if item in cache:
            cache.move_to_end(item)
            hits += turn >= requests // 2
            continue
        cache[item] = None
        if len(cache) > capacity:
            cache.popitem(last=False)
    return hits / (requests - requests // 2)


@pytest.mark.parametrize("capacity", [20, 200, 1_000])
def test_hit_rate_is_that_of_a_cache_which_is_simulated(capacity: int) -> None:
    """Che's approximation within a percent, for Zipf's demand over 2,000 objects."""
    rates = 1 / np.arange(1, 2_001)
    objects = Objects(np.zeros(2_000, np.int32), rates, np.ones(2_000), 1.0)
    expected = simulated_hit_rate(rates, capacity, 100_000)
    assert hit_rate(objects, kept(objects, 1, capacity)) == pytest.approx(expected, abs=0.01)


def test_cache_is_full_or_holds_everything() -> None:
    """Two nodes: what fits is kept whole, what does not fills the cache to the byte."""
    node = np.array([0, 1, 1], np.int32)
    objects = Objects(node, np.array([1.0, 5.0, 1.0]), np.array([3.0, 10.0, 10.0]), 2.0)
    shares = kept(objects, 2, 8.0)
    assert shares[0] == 1
    assert (shares[1:] * 10 * 2).sum() == pytest.approx(8)
    assert shares[1] > shares[2]


@pytest.mark.parametrize("count", [3, 10, 100])
def test_ring_spreads_evenly_and_moves_no_more_than_it_must(count: int) -> None:
    """Ten thousand keys: shares near the mean; a node more takes its part, nothing else moves."""
    hashes = hashes_of(KEYS)
    ring, more = Ring(range(1, count + 1)), Ring(range(1, count + 2))
    homes, after = ring.homes(hashes), more.homes(hashes)
    shares = np.bincount(homes, minlength=count) * count / len(KEYS)
    assert shares.min() > 0.6
    assert shares.max() < 1.4
    moved = homes != after
    assert set(after[moved].tolist()) == {count}
    assert moved.mean() == pytest.approx(1 / (count + 1), rel=0.2)
    arcs = np.diff(np.append(ring.points.astype(np.int64), int(ring.points[0]) + 2**32))
    assert arcs.sum() == 2**32


def test_home_is_the_nearest_point_also_over_the_end_of_the_ring() -> None:
    """By hand, for hashes at points, between them and around zero."""
    ring = Ring([1, 2], weight=1)
    points, nodes = ring.points.astype(np.int64), ring.nodes
    hashes = np.array([0, 2**32 - 1, *ring.points[:5], *(ring.points[5:10] + np.uint32(1))], "u4")
    for hash_, home in zip(hashes.tolist(), ring.homes(hashes).tolist(), strict=True):
        distances = np.minimum((points - hash_) % 2**32, (hash_ - points) % 2**32)
        nearest = {int(nodes[index]) for index in np.flatnonzero(distances == distances.min())}
        assert home in nearest
    orders = ring.orders(hashes, 5)
    assert (orders[:, 0] == ring.homes(hashes)).all()
    assert (np.sort(orders, axis=1) == [0, 1]).all()


def test_bound_holds_and_costs_requests_their_node() -> None:
    """With a factor the hottest node has less, more requests leave home, none is lost."""
    count = 20
    ring, hashes, demand = Ring(range(1, count + 1)), MARKET.hashes(), MARKET.demand()
    runs = {
        factor: simulate(
            ring, hashes, demand, in_flight=200, factor=factor, requests=20_000, seed=3
        )
        for factor in (None, 1.5, 1.25)
    }
    hottest = {factor: run.taken.max() * count / run.taken.sum() for factor, run in runs.items()}
    assert runs[None].at_home == 1
    assert (runs[None].refusals == 0).all()
    assert runs[1.25].at_home < runs[1.5].at_home < 1
    assert hottest[1.25] < 1.4 < hottest[1.5] < 1.65 < hottest[None]
    assert all(run.taken.sum() == 10_000 for run in runs.values())
    placement = bounded(ring, MARKET, runs[1.5])
    assert placement.rate.sum() == pytest.approx(1, abs=2e-3)
    assert placement.hottest(count) == pytest.approx(hottest[1.5], rel=0.1)
    assert placement.share_at_home(ring, MARKET) == pytest.approx(runs[1.5].at_home, abs=0.03)


def test_slots_are_rounded_up_twice() -> None:
    """As tests/cluster/test_spread.py sees HAProxy count them."""
    assert [slots_of(in_flight, 3, 1.5) for in_flight in range(6)] == [1, 1, 2, 2, 3, 3]
    assert slots_of(0, 1_000, 1.25) == 1


def test_lost_node_costs_what_it_held() -> None:
    """Its symbols move, no others; what its cache held is fetched again."""
    ring = Ring([1, 2, 3])
    objects = at_home(ring, MARKET).objects(MARKET)
    shares = kept(objects, 3, CACHE_BYTES)
    effect = move(ring, Ring([1, 3]), MARKET, shares)
    assert effect.symbols == pytest.approx(1 / 3, abs=0.04)
    assert effect.refetched_bytes == pytest.approx(CACHE_BYTES, rel=1e-3)
    assert effect.hit_rate < hit_rate(objects, shares)
    assert move(ring, Ring([1, 2, 3]), MARKET, shares).symbols == 0


def test_run_prints_the_same_tables_each_time() -> None:
    """Seeded: two runs of a small cluster, a row for each number of nodes in each table."""
    command = [sys.executable, "-m", "bench.cluster_model", "--symbols", "500", "--nodes", "1", "5"]
    runs = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert runs[0].count("\n| 5 |") == 5
