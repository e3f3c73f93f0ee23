"""Which node answers what: a series stays on its node, and the model knows which one that is."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.cluster_ring import Ring, hashes_of
from tests.cluster.front import Front, Node, number_of
from tests.faults.client import LARGE, TINY_BUFFER_BYTES, Client, request_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SERIES = [f"okx/S{number}-USDT" for number in range(10_000)]
BALANCE_FACTOR = 1.5


def homes(node_count: int) -> NDArray[np.int32]:
    """The node of each of `SERIES` by the model, counted from 1."""
    return Ring(range(1, node_count + 1)).homes(hashes_of(SERIES)) + 1


def target_of(series: str, *, path: str = "/api/data") -> str:
    """A query that finds no records, which is quick."""
    exchange, _, symbol = series.partition("/")
    return f"{path}?symbol={symbol}&exchange={exchange}&type=MD&start=0&end=1&columns=price"


@pytest.mark.parametrize("count", [500, pytest.param(len(SERIES), marks=pytest.mark.slow)])
def test_every_series_is_where_the_model_says(front: Front, count: int) -> None:
    """Ten thousand series on three nodes: each on the node of the model, which spreads evenly."""
    expected = homes(3)
    shares = np.bincount(expected)[1:] / len(SERIES)
    assert shares.min() > 0.31
    assert shares.max() < 0.36
    found = np.array(front.nodes_of(map(target_of, SERIES[:count])))
    assert (found == expected[:count]).all()


def test_a_fourth_node_takes_a_quarter_from_all_others(
    front: Front, three: list[Node], tmp_path: Path
) -> None:
    """A series either stays or moves to the new node."""
    some = slice(0, 500)
    before, after = homes(3), homes(4)
    moved = before != after
    assert set(after[moved]) == {4}
    assert 0.23 < np.mean(moved) < 0.27
    # That the new one is another address of an old one is nothing to the ring.
    ports = [*(node.port for node in three), three[0].port]
    with Front(tmp_path, ports) as four:
        found = np.array(four.nodes_of(map(target_of, SERIES[some])))
    assert (found == after[some]).all()
    assert (np.array(front.nodes_of(map(target_of, SERIES[some]))) == before[some]).all()


def test_one_series_has_one_node_however_it_is_asked_for(front: Front) -> None:
    """By data, bars and catalog, percent-encoded, in any order, with the default exchange said."""
    symbol = "type=MD&start=0&end=1&columns=price&symbol=BRK.B+x"
    same = [
        "/api/data?symbol=BTC-USD&type=MD&start=0&end=1&columns=price",
        "/api/data?columns=price&exchange=coinbase&type=TRADES&start=5&end=9&symbol=BTC-USD",
        "/api/data?symbol=%42TC%2DUSD&exchange=coinb%61se&type=MD",
        "/api/bars?symbol=BTC-USD",
        "/api/catalog?symbol=BTC-USD&exchange=coinbase",
    ]
    assert len(set(front.nodes_of(same))) == 1
    # What is no series, such as a name that holds a space, is answered by any node.
    for target in ("/readyz", f"/api/data?{symbol}", "/api/data?symbol=%0Aa"):
        assert set(front.nodes_of([target] * 60)) == {1, 2, 3}, target


def test_a_hot_series_spills_at_the_bound(front: Front) -> None:
    """Of twelve responses under way its node has six, 1.5 times a third, and the next the rest."""
    order = Ring([1, 2, 3]).orders(hashes_of(["coinbase/BTC-USD"]), 3)[0] + 1
    expected: Counter[int] = Counter()
    found: Counter[int] = Counter()
    with ExitStack() as stack:
        for under_way in range(12):
            slots = math.ceil(math.ceil((under_way + 1) * BALANCE_FACTOR) / 3)
            expected[next(int(node) for node in order if expected[int(node)] < slots)] += 1
            client = stack.enter_context(Client(front, TINY_BUFFER_BYTES))
            client.send(request_of(LARGE))
            _, fields = client.head()
            found[number_of(fields)] += 1
    assert found == expected
    assert found == {int(order[0]): 6, int(order[1]): 6}
