"""HAProxy's ring: which node a series belongs to, and which are next.

`hash-type consistent sdbm avalanche` with `balance hash`, as deploy/haproxy.cfg has it, from
HAProxy's documentation and src/lb_chash.c. Each node has 16 points for a unit of weight. A key
belongs to the point nearest to its hash; where that node has no room, to the next node upward.

tests/cluster/test_spread.py compares every choice with those of a real HAProxy.

    >>> ring = Ring([1, 2, 3])
    >>> keys = ["coinbase/BTC-USD", "coinbase/ETH-USD"]
    >>> ring.homes(hashes_of(keys)).shape
    (2,)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

WEIGHT = 100
"""Of each node, as in deploy/haproxy.cfg."""
POINTS_OF_WEIGHT = 16
_POINTS_RESERVED = 4_096
"""Numbers that each node id has for its points: the largest weight, 256, times 16."""


def hashes_of(keys: Iterable[str]) -> NDArray[np.uint32]:
    """The place of each key on the ring: sdbm, then the avalanche."""
    sums = []
    for key in keys:
        value = 0
        for byte in key.encode():
            value = (byte + (value << 6) + (value << 16) - value) & 0xFFFF_FFFF
        sums.append(value)
    return _avalanche(np.array(sums, np.uint32))


class Ring:
    """The points of some nodes; a node is told by its place in `ids`."""

    def __init__(self, ids: Sequence[int], weight: int = WEIGHT) -> None:
        of_a_node = np.arange(weight * POINTS_OF_WEIGHT, dtype=np.uint32)
        numbers = np.array(ids, np.uint32)[:, None] * np.uint32(_POINTS_RESERVED) + of_a_node
        points = _avalanche(numbers.ravel())
        order = np.argsort(points, kind="stable")
        self.points = points[order]
        self.nodes = (order // len(of_a_node)).astype(np.int32)
        self.ids = np.array(ids)
        self.count = len(ids)

    def homes(self, hashes: NDArray[np.uint32]) -> NDArray[np.int32]:
        """The node of each hash, when all have room."""
        after, before = self._around(hashes)
        is_before = hashes - self.points[before] <= self.points[after] - hashes
        homes: NDArray[np.int32] = self.nodes[np.where(is_before, before, after)]
        return homes

    def places(self, hashes: NDArray[np.uint32]) -> NDArray[np.intp]:
        """The point from which nodes are asked upward, where the home of a hash has no room."""
        return self._around(hashes)[0]

    def orders(self, hashes: NDArray[np.uint32], depth: int) -> NDArray[np.int32]:
        """The first `depth` nodes that each hash is offered to: its home, then upward from it."""
        depth = min(depth, self.count)
        places = self.places(hashes)
        orders = np.full((len(hashes), depth), -1, np.int32)
        orders[:, 0] = self.homes(hashes)
        for row, place in zip(orders, places.tolist(), strict=True):
            seen = {int(row[0])}
            while len(seen) < depth:
                node = int(self.nodes[place % len(self.nodes)])
                if node not in seen:
                    row[len(seen)] = node
                    seen.add(node)
                place += 1  # noqa: PLW2901 - walks
        return orders

    def _around(self, hashes: NDArray[np.uint32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The points at or above each hash and below it; the ring has no end."""
        found = np.searchsorted(self.points, hashes, side="left")
        after = np.where(found == len(self.points), 0, found)
        return after, after - 1


def _avalanche(values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Bob Jenkins' integer hash, burtleburtle.net/bob/hash/integer.html, times HAProxy's prime."""
    a = values.copy()
    a = (a + np.uint32(0x7ED55D16)) + (a << np.uint32(12))
    a = (a ^ np.uint32(0xC761C23C)) ^ (a >> np.uint32(19))
    a = (a + np.uint32(0x165667B1)) + (a << np.uint32(5))
    a = (a + np.uint32(0xD3A2646C)) ^ (a << np.uint32(9))
    a = (a + np.uint32(0xFD7046C5)) + (a << np.uint32(3))
    a = (a ^ np.uint32(0xB55A4F09)) ^ (a >> np.uint32(16))
    return a * np.uint32(3_221_225_473)
