"""Requests in flight at nodes behind HAProxy's bounded load, one arrival after the other.

A closed system: so many requests are in flight, and each that ends, any of them alike, makes room
for the next, whose symbol is drawn by demand. A node takes it while it has less than its slots, as
`hash-balance-factor` counts them; else the next node upward on the ring is asked.
tests/cluster/test_spread.py sees the same slots in a real HAProxy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bench.cluster_ring import Ring


@dataclass(frozen=True, slots=True)
class Load:
    """What a run saw in its second half, when the system is full and has mixed."""

    at_home: float
    """The share of requests that their own node took."""
    taken: NDArray[np.int64]
    """The requests that each node took."""
    refusals: NDArray[np.float64]
    """The share of requests offered to each node that it had no slot for."""


def slots_of(in_flight: int, node_count: int, factor: float) -> int:
    """How many requests a node may have when one more comes: HAProxy rounds up, twice."""
    return math.ceil(math.ceil((in_flight + 1) * factor) / node_count)


def simulate(
    ring: Ring,
    hashes: NDArray[np.uint32],
    demand: NDArray[np.float64],
    *,
    in_flight: int,
    factor: float | None,
    requests: int,
    seed: int,
) -> Load:
    """Place so many requests; `factor` is 1.5 for `hash-balance-factor 150`, None for no bound."""
    rng = np.random.default_rng(seed)
    symbols: list[int] = rng.choice(len(demand), requests, p=demand).tolist()
    ending: list[int] = rng.integers(0, in_flight, requests).tolist()
    homes: list[int] = ring.homes(hashes).tolist()
    places: list[int] = ring.places(hashes).tolist()
    nodes: list[int] = ring.nodes.tolist()
    served, flying = [0] * ring.count, list[int]()
    taken, offered, refused = ([0] * ring.count for _ in range(3))
    at_home = 0
    for turn, symbol in enumerate(symbols):
        if len(flying) == in_flight:
            last = flying.pop()
            ended = last
            if (place := ending[turn]) < len(flying):
                ended, flying[place] = flying[place], last
            served[ended] -= 1
        home = node = homes[symbol]
        slots = in_flight if factor is None else slots_of(len(flying), ring.count, factor)
        is_counted = turn >= requests // 2
        offered[node] += is_counted
        if served[node] >= slots:
            refused[node] += is_counted
            seen, place = {node}, places[symbol]
            while served[node] >= slots:
                node = nodes[place % len(nodes)]
                place += 1
                if node not in seen:
                    seen.add(node)
                    offered[node] += is_counted
                    refused[node] += is_counted and served[node] >= slots
        served[node] += 1
        flying.append(node)
        if is_counted:
            taken[node] += 1
            at_home += node == home
    return Load(at_home / sum(taken), np.array(taken), np.array(refused) / np.maximum(offered, 1))
