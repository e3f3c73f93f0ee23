"""Nodes that the network loses, and that hang: HAProxy has others answer, and they come back."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

from bench.cluster_ring import Ring, hashes_of
from tests.client.ticker import Ticker
from tests.cluster.front import HAPROXY, Front, Node
from tests.cluster.test_failures import crowds, node_of, target_of
from tests.faults.client import LARGE, body_of, poll
from tests.relay import Relay
from zerocopy.client import Client as PublicClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Parted(NamedTuple):
    """A front whose way to each node can be cut, and these ways."""

    front: Front
    nodes: list[Node]
    relays: list[Relay]


@pytest.fixture(scope="module", name="parted")
def fixture_parted(three: list[Node], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parted]:
    """The three nodes behind another front."""
    if HAPROXY is None:
        pytest.skip("HAProxy is not installed")
    with ExitStack() as stack:
        relays = [stack.enter_context(Relay(node.port)) for node in three]
        front = Front(tmp_path_factory.mktemp("front"), [relay.port for relay in relays])
        yield Parted(stack.enter_context(front), three, relays)


@contextmanager
def reading(front: Front, ticker: Ticker, timeout_s: float = 30.0) -> Iterator[Callable[[], None]]:
    """A live stream; each call appends 100 records, which come once and in order."""
    poll(lambda: not front.busy("live"), "the streams of other tests to end")
    prices: list[float] = []
    with (
        PublicClient(f"http://127.0.0.1:{front.port}", timeout=timeout_s) as client,
        client.live(ticker.symbol, "price", type="MD") as stream,
    ):

        def read_on() -> None:
            ticker.append(100)
            while len(prices) < ticker.count:
                prices.extend(next(stream)["price"].tolist())
            assert prices == list(range(ticker.count))

        yield read_on


def live_symbol_of(number: int) -> str:
    """A symbol whose node has this number, and which nobody else uses."""
    names = [f"PARTED{each}" for each in range(50)]
    homes = Ring([1, 2, 3]).homes(hashes_of(f"coinbase/{name}" for name in names))
    return next(name for name, home in zip(names, homes, strict=True) if home + 1 == number)


@pytest.mark.slow
def test_node_that_the_network_loses_costs_no_request(parted: Parted) -> None:
    """Under load: what it had been asked is asked of others, who serve its symbols meanwhile."""
    front, nodes, relays = parted
    name, node = node_of(front, nodes, target_of("S1"))
    relay = relays[nodes.index(node)]
    with crowds(front) as asking:
        for crowd in asking:
            crowd.more(50)
        relay.lose()
        front.await_states({name: "DOWN"})
        for crowd in asking:
            crowd.more(50)
        relay.heal()
        front.await_states({name: "UP"})
        for crowd in asking:
            crowd.more(50)
    assert [crowd.wrong() for crowd in asking] == [{}] * 3
    assert node_of(front, nodes, target_of("S1")) == (name, node), "it has its symbols again"


@pytest.mark.slow
@pytest.mark.usefixtures("each_read")
def test_transfer_and_stream_of_a_lost_node_go_on_at_another(parted: Parted, root: Path) -> None:
    """16 MB by If-Range, the stream by its cursor: hashes are equal, each record comes once."""
    front, nodes, relays = parted
    name, node = node_of(front, nodes, LARGE)
    number = nodes.index(node) + 1
    lost: list[Relay] = []

    def lose(received: int, total: int | None) -> None:
        if received > 1 << 20 and not lost:
            assert received != total
            assert front.busy() == [number]
            lost.append(relays[number - 1])
            lost[0].lose()

    with (
        PublicClient(f"http://127.0.0.1:{front.port}") as client,
        reading(front, Ticker(root, live_symbol_of(number))) as read_on,
    ):
        read_on()
        assert front.busy("live") == [number]
        frame = client.data("BTC-USD", "price", type="LARGE", progress=lose)
        assert lost
        read_on()
        poll(lambda: number not in front.busy("live"), "the stream of the lost node to end")
        lost[0].heal()
        front.await_states({name: "UP"})
        read_on()
    expected = body_of(root, "LARGE", ["price"]).partition(b"\n")[2]
    assert hashlib.sha256(frame["price"].tobytes()).digest() == hashlib.sha256(expected).digest()
    assert node_of(front, nodes, LARGE) == (name, node), "it has its symbols again"
    poll(lambda: node.metric("zerocopy_live_subscribers") == 0, "the node to let its streams go")


@pytest.mark.slow
def test_stream_of_a_node_that_hangs_goes_on_at_another(parted: Parted, root: Path) -> None:
    """SIGSTOP: its kernel acknowledges everything, so it is the client's pings that find out."""
    front, nodes, _ = parted
    with reading(front, Ticker(root, "HANGS"), timeout_s=4.0) as read_on:
        read_on()
        [number] = front.busy("live")
        node, name = nodes[number - 1], f"NODE{number}"
        node.freeze()
        try:
            read_on()
            assert front.busy("live") != [number]
            front.await_states({name: "DOWN"})
        finally:
            node.freeze(is_frozen=False)
        front.await_states({name: "UP"})
        read_on()
    poll(lambda: node.metric("zerocopy_live_subscribers") == 0, "the node to let its streams go")
