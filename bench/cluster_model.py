"""A cluster on paper: hit rates, hot nodes, bytes from the store, nodes that come and go.

    python -m bench.cluster_model                  # 1 to 1,000 nodes; some ten seconds
    python -m bench.cluster_model --skew 0.8 --cache-gb 500

The ring and the bound are HAProxy's, choice by choice: bench/cluster_ring.py, cluster_load.py.
Assumed: symbols are asked for by Zipf's law; a request reads one day file of its symbol, of age a
with weight 1 / (a + 1) days; day files are of one size; caches are least recently used first.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.cluster_cache import Objects, hit_rate, kept
from bench.cluster_load import Load, simulate
from bench.cluster_ring import Ring, hashes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

NODES = (1, 3, 10, 30, 100, 300, 1_000)
FACTORS = (None, 1.25, 1.5, 2.0)
FACTOR = 1.5
"""`hash-balance-factor 150`, as in deploy/haproxy.cfg."""
REQUESTS = 60_000
REQUESTS_A_NODE = 300
"""So many at least, or the hottest node is the luckiest one."""
_NEGLIGIBLE = 1e-3
"""The share of a symbol's requests below which no further node is followed."""
_GB = 1e9


@dataclass(frozen=True, slots=True)
class Market:
    """What is asked for, and how large it is."""

    symbols: int = 10_000
    days: int = 365
    file_bytes: float = 4e6
    skew: float = 1.0

    def demand(self) -> NDArray[np.float64]:
        """The share of requests for each symbol."""
        weights = np.arange(1, self.symbols + 1, dtype=np.float64) ** -self.skew
        shares: NDArray[np.float64] = weights / weights.sum()
        return shares

    def hashes(self) -> NDArray[np.uint32]:
        """Their places on the ring."""
        return hashes_of(f"okx/S{number}-USDT" for number in range(self.symbols))

    def ages(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Groups of days of like age: how many, and each one's share of a symbol's requests."""
        edges = np.unique(np.geomspace(1, self.days + 1, 12).astype(int))
        weights = 1 / np.arange(1, self.days + 1)
        weights /= weights.sum()
        counts = np.diff(edges).astype(np.float64)
        sums = np.add.reduceat(weights, edges[:-1] - 1)
        return counts, sums / counts


@dataclass(frozen=True, slots=True)
class Placement:
    """Which share of all requests is for which symbol at which node."""

    symbol: NDArray[np.int32]
    node: NDArray[np.int32]
    rate: NDArray[np.float64]

    def hottest(self, node_count: int) -> float:
        """Requests of the busiest node, as a multiple of the mean."""
        return float(np.bincount(self.node, self.rate, node_count).max() * node_count)

    def share_at_home(self, ring: Ring, market: Market) -> float:
        """The share of requests that their own node takes."""
        homes = ring.homes(market.hashes())
        return float(self.rate[homes[self.symbol] == self.node].sum())

    def objects(self, market: Market) -> Objects:
        """The day files that each node is asked for."""
        counts, shares = market.ages()
        return Objects(
            np.repeat(self.node, len(counts)),
            np.outer(self.rate, shares).ravel(),
            np.tile(counts, len(self.node)),
            market.file_bytes,
        )


def at_home(ring: Ring, market: Market) -> Placement:
    """Every symbol at its own node alone: no bound."""
    symbols = np.arange(market.symbols, dtype=np.int32)
    return Placement(symbols, ring.homes(market.hashes()), market.demand())


def anywhere(node_count: int, market: Market) -> Placement:
    """Every symbol at every node alike, as round robin has it: one node stands for all."""
    symbols = np.arange(market.symbols, dtype=np.int32)
    nodes = np.zeros(market.symbols, np.int32)
    return Placement(symbols, nodes, market.demand() / node_count)


def bounded(ring: Ring, market: Market, load: Load) -> Placement:
    """What a node refuses, as often as the simulation saw it, goes to the next one."""
    hashes, refusals = market.hashes(), load.refusals.tolist()
    places, homes, nodes = ring.places(hashes).tolist(), ring.homes(hashes).tolist(), ring.nodes
    rows: list[tuple[int, int, float]] = []
    for symbol, demand in enumerate(market.demand().tolist()):
        node, place, left, seen = homes[symbol], places[symbol], 1.0, set[int]()
        while True:
            seen.add(node)
            refused = refusals[node] if len(seen) < ring.count else 0.0
            rows.append((symbol, node, demand * left * (1 - refused)))
            left *= refused
            if left < _NEGLIGIBLE:
                break
            while node in seen:
                node = int(nodes[place % len(nodes)])
                place += 1
    symbols, at, rates = zip(*rows, strict=True)
    return Placement(np.array(symbols, np.int32), np.array(at, np.int32), np.array(rates))


@dataclass(frozen=True, slots=True)
class Move:
    """What another number of nodes does at once."""

    symbols: float
    """The share of symbols that have another node."""
    hit_rate: float
    """Of the first requests: what has moved is cold."""
    refetched_bytes: float
    """What was in a cache and is fetched again."""


def move(before: Ring, after: Ring, market: Market, shares: NDArray[np.float64]) -> Move:
    """From one set of nodes, whose caches hold `shares`, to another; nodes are told by id."""
    hashes = market.hashes()
    old = at_home(before, market)
    moved = before.ids[old.node] != after.ids[after.homes(hashes)]
    objects = old.objects(market)
    is_cold = np.repeat(moved, len(market.ages()[0]))
    lost = (objects.count * shares)[is_cold].sum() * market.file_bytes
    return Move(float(moved.mean()), hit_rate(objects, np.where(is_cold, 0, shares)), float(lost))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    defaults = Market()
    parser.add_argument("--symbols", type=int, default=defaults.symbols)
    parser.add_argument("--days", type=int, default=defaults.days)
    parser.add_argument("--file-mb", type=float, default=defaults.file_bytes / 1e6)
    parser.add_argument("--skew", type=float, default=defaults.skew, help="of Zipf's law")
    parser.add_argument("--cache-gb", type=float, nargs="+", default=[100.0, 400.0, 1_600.0])
    parser.add_argument("--in-flight", type=int, default=10, help="requests a node, on average")
    parser.add_argument("--nodes", type=int, nargs="+", default=NODES)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    market = Market(given.symbols, given.days, given.file_mb * 1e6, given.skew)
    rings = {count: Ring(range(1, count + 1)) for count in given.nodes}
    total_tb = market.symbols * market.days * market.file_bytes / 1e12
    print(
        f"{market.symbols} symbols, {market.days} days of {given.file_mb:g} MB: {total_tb:.1f} TB;"
    )
    print(f"Zipf {market.skew:g}, {given.in_flight} requests in flight a node, seed {given.seed}\n")
    placements = _print_loads(rings, market, given.in_flight, given.seed)
    _print_hit_rates(rings, market, placements, [size * _GB for size in given.cache_gb])
    _print_moves(rings, market, given.cache_gb[0] * _GB)


def _print_loads(
    rings: dict[int, Ring], market: Market, in_flight: int, seed: int
) -> dict[int, Placement]:
    """The hottest node with and without a bound; the placements with that of deploy/haproxy.cfg."""
    print("Requests of the hottest node, times the mean (share of requests at their own node)\n")
    titles = " | ".join("no bound" if factor is None else f"{factor:g}" for factor in FACTORS)
    print(f"| nodes | {titles} |\n|---|{'---|' * len(FACTORS)}")
    hashes, demand, found = market.hashes(), market.demand(), {}
    for count, ring in rings.items():
        cells = []
        for factor in FACTORS:
            placement = at_home(ring, market)
            if factor is not None:
                load = simulate(
                    ring,
                    hashes,
                    demand,
                    in_flight=in_flight * count,
                    factor=factor,
                    requests=max(REQUESTS, REQUESTS_A_NODE * count, 4 * in_flight * count),
                    seed=seed,
                )
                placement = bounded(ring, market, load)
            if factor == FACTOR:
                found[count] = placement
            share = placement.share_at_home(ring, market)
            cells.append(f"{placement.hottest(count):.2f} ({share:.0%})")
        print(f"| {count:,} | {' | '.join(cells)} |")
    return found


def _print_hit_rates(
    rings: dict[int, Ring],
    market: Market,
    placements: dict[int, Placement],
    caches: list[float],
) -> None:
    """Hit rates by cache of a node, and what is fetched for a request."""
    titles = " | ".join(f"{size / _GB:g} GB" for size in caches)
    print("\nHit rate with bound 1.5 / each symbol at its own node / round robin\n")
    print(f"| nodes | {titles} |\n|---|{'---|' * len(caches)}")
    fetched = []
    for count, ring in rings.items():
        spreads = (
            (placements[count].objects(market), count),
            (at_home(ring, market).objects(market), count),
            (anywhere(count, market).objects(market), 1),
        )
        cells, misses = [], []
        for size in caches:
            rates = [hit_rate(objects, kept(objects, nodes, size)) for objects, nodes in spreads]
            cells.append(" / ".join(f"{rate:.1%}" for rate in rates))
            misses.append(f"{(1 - rates[0]) * market.file_bytes / 1e6:.2f}")
        print(f"| {count:,} | {' | '.join(cells)} |")
        fetched.append(f"| {count:,} | {' | '.join(misses)} |")
    print("\nMB from the store for a request, with bound 1.5\n")
    print(f"| nodes | {titles} |\n|---|{'---|' * len(caches)}")
    print("\n".join(fetched))


def _print_moves(rings: dict[int, Ring], market: Market, cache_bytes: float) -> None:
    """A node more and a node less."""
    print(f"\nA node is added, or lost; caches of {cache_bytes / _GB:g} GB\n")
    print("| nodes | | symbols moved | hit rate before | at once after | fetched again |")
    print("|---|---|---|---|---|---|")
    for count, ring in rings.items():
        objects = at_home(ring, market).objects(market)
        shares = kept(objects, count, cache_bytes)
        before = hit_rate(objects, shares)
        others = {"added": Ring(range(1, count + 2))}
        if count > 1:
            others["lost"] = Ring(range(2, count + 1))
        for what, other in others.items():
            effect = move(ring, other, market, shares)
            print(
                f"| {count:,} | {what} | {effect.symbols:.2%} | {before:.1%} | "
                f"{effect.hit_rate:.1%} | {effect.refetched_bytes / _GB:.1f} GB |"
            )


if __name__ == "__main__":
    main()
