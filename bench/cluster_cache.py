"""Hit rates of nodes' caches, least recently used first, by Che's approximation.

An object is asked for again within T, the time it stays unused in the cache, with probability
1 - exp(-rate T). T is where the objects that are expected in the cache fill it: Che, Tung, Wang,
"Hierarchical Web caching systems", 2002. tests/tools/test_cluster_model.py compares it with a cache
that is simulated object by object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HALVINGS = 40


@dataclass(frozen=True, slots=True)
class Objects:
    """Kinds of objects: each kind is `count` objects of one node, with one rate and size each."""

    node: NDArray[np.int32]
    rate: NDArray[np.float64]
    count: NDArray[np.float64]
    size: float


def kept(objects: Objects, node_count: int, cache_bytes: float) -> NDArray[np.float64]:
    """The share of each kind that is in its node's cache, which is also its hit rate."""
    weights = objects.count * objects.size
    everything = np.bincount(objects.node, weights, node_count)
    low, high = np.zeros(node_count), np.full(node_count, 1.0)

    def held(unused_s: NDArray[np.float64]) -> NDArray[np.float64]:
        shares = -np.expm1(-objects.rate * unused_s[objects.node])
        return np.bincount(objects.node, weights * shares, node_count).astype(np.float64)

    fits = everything <= cache_bytes
    while ((held(high) < cache_bytes) & ~fits).any():
        high *= 4
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        is_less = held(middle) < cache_bytes
        low, high = np.where(is_less, middle, low), np.where(is_less, high, middle)
    shares = -np.expm1(-objects.rate * high[objects.node])
    result: NDArray[np.float64] = np.where(fits[objects.node], 1.0, shares)
    return result


def hit_rate(objects: Objects, shares: NDArray[np.float64]) -> float:
    """The share of requests whose object is there."""
    requests = objects.rate * objects.count
    return float((requests * shares).sum() / requests.sum())
