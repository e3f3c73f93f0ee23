"""Nodes that stop, die and come back behind HAProxy: clients get every byte, and the right ones."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.client.ticker import Ticker
from tests.cluster.conftest import RECORDS
from tests.cluster.front import Front, Node, number_of
from tests.faults.client import LARGE, SMALL, TINY_BUFFER_BYTES, Client, body_of, poll, request_of
from tests.proxies.crowd import RIGHT, Crowd
from tests.server import STOP_TIMEOUT_S
from zerocopy.client import Client as PublicClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLIENTS_A_NODE = 2


def symbols_by_node(front: Front) -> dict[int, str]:
    """A symbol of each node."""
    symbols = [f"S{number}" for number in range(20)]
    return dict(zip(front.nodes_of(map(target_of, symbols)), symbols, strict=True))


def target_of(symbol: str) -> str:
    """All records of a symbol."""
    return (
        f"/api/data?symbol={symbol}&exchange=binance&type=MD&start=0&end=86399&columns=time,price"
    )


@contextmanager
def crowds(front: Front) -> Iterator[list[Crowd]]:
    """Clients that ask each node for a symbol of its own; each answer must be right."""
    column = b"".join(index.to_bytes(4, "little") for index in range(RECORDS))
    body = front.get(target_of("S0")).content
    assert body.endswith(b"\n" + column + column)
    with ExitStack() as stack:
        yield [
            stack.enter_context(Crowd(front, target_of(symbol), body, clients=CLIENTS_A_NODE))
            for symbol in symbols_by_node(front).values()
        ]


def node_of(front: Front, three: list[Node], target: str) -> tuple[str, Node]:
    """The name of the node that a target belongs to, and the node."""
    [number] = front.nodes_of([target])
    return f"NODE{number}", three[number - 1]


def test_stopped_node_fails_no_request(front: Front, three: list[Node]) -> None:
    """SIGTERM to a node under load, and its return: every answer is right; another node serves."""
    name, node = node_of(front, three, target_of("S1"))
    with crowds(front) as asking:
        for crowd in asking:
            crowd.more(50)
        assert node.stop() == 0
        for crowd in asking:
            crowd.more(50)
        front.await_states({name: "DOWN"})
        node.start_again()
        front.await_states({name: "UP"})
        for crowd in asking:
            crowd.more(50)
    assert [crowd.wrong() for crowd in asking] == [{}] * 3
    assert node_of(front, three, target_of("S1")) == (name, node), "it has its symbols again"


def test_stopped_node_finishes_what_it_sends(front: Front, three: list[Node], root: Path) -> None:
    """HAProxy takes it for down, and passes on all of 16 MB that had begun before."""
    expected = body_of(root, "LARGE", ["price"])
    with Client(front, TINY_BUFFER_BYTES) as client:
        client.send(request_of(LARGE))
        _, fields = client.head()
        number = number_of(fields)
        node = three[number - 1]
        assert node.process is not None
        node.process.terminate()
        front.await_states({f"NODE{number}": "DOWN"})
        assert client.read(len(expected)) == expected
    assert node.process.wait(STOP_TIMEOUT_S) == 0
    node.start_again()
    front.await_states({f"NODE{number}": "UP"})


@pytest.mark.slow
def test_node_that_hangs_is_taken_out(front: Front, three: list[Node]) -> None:
    """SIGSTOP: its checks time out, others serve its symbols; a request it had waits for it."""
    name, node = node_of(front, three, target_of("S1"))
    with Client(front) as client:
        node.freeze()
        try:
            client.send(request_of(target_of("S1")))
            front.await_states({name: "DOWN"})
            [other] = front.nodes_of([target_of("S1")], is_idle=False)
            assert f"NODE{other}" != name
        finally:
            node.freeze(is_frozen=False)
        assert client.answer().status == 200
    front.await_states({name: "UP"})


def test_killed_node_costs_no_more_than_what_it_was_sending(
    front: Front, three: list[Node]
) -> None:
    """SIGKILL under load: HAProxy asks another node what no byte had come of.

    A client whose answer had begun sees it cut off, never short with a clean end.
    """
    name, node = node_of(front, three, target_of("S1"))
    with crowds(front) as asking:
        for crowd in asking:
            crowd.more(50)
        node.kill()
        for crowd in asking:
            crowd.more(100)
        node.start_again()
        front.await_states({name: "UP"})
    wrong = sum((crowd.wrong() for crowd in asking), start=asking[0].wrong() - asking[0].wrong())
    assert wrong.total() <= CLIENTS_A_NODE, wrong
    assert set(wrong) <= {"EOFError('the answer was cut off')"}, wrong
    assert all(crowd.answers[RIGHT] >= 150 for crowd in asking)


@pytest.mark.usefixtures("each_read")
def test_transfer_goes_on_at_another_node(front: Front, three: list[Node], root: Path) -> None:
    """The node dies amid 16 MB; our client resumes by If-Range at another, and hashes are equal."""
    name, node = node_of(front, three, LARGE)
    killed: list[Node] = []

    def kill(received: int, total: int | None) -> None:
        if received > 1 << 20 and not killed:
            assert received != total
            assert [f"NODE{number}" for number in front.busy()] == [name]
            node.kill()
            killed.append(node)

    with PublicClient(f"http://127.0.0.1:{front.port}") as client:
        frame = client.data("BTC-USD", "price", type="LARGE", progress=kill)
    assert killed
    node.start_again()
    front.await_states({name: "UP"})
    expected = body_of(root, "LARGE", ["price"]).partition(b"\n")[2]
    assert hashlib.sha256(frame["price"].tobytes()).digest() == hashlib.sha256(expected).digest()


def test_nodes_agree_on_every_validator_and_range(three: list[Node], root: Path) -> None:
    """One body, pieced together from all nodes by Range and If-Range with the first one's tag."""
    body = body_of(root, "SMALL")
    first = three[0].get(SMALL)
    assert first.content == body
    pieces = []
    ends = [0, 1_000, 2_500, len(body)]
    for node, (begin, end) in zip(three, pairwise(ends), strict=True):
        fields = {"Range": f"bytes={begin}-{end - 1}", "If-Range": first.fields["etag"]}
        answer = node.get(SMALL, fields=fields)
        assert (answer.status, answer.fields["etag"]) == (206, first.fields["etag"])
        whole = node.get(SMALL, method="HEAD").fields
        for name in ("etag", "last-modified", "cache-control", "content-length"):
            assert whole[name] == first.fields[name]
        assert node.get(SMALL, fields={"If-None-Match": first.fields["etag"]}).status == 304
        pieces.append(answer.content)
    assert b"".join(pieces) == body


def test_stream_goes_on_at_another_node(front: Front, three: list[Node], root: Path) -> None:
    """The node of a live stream dies, the next one stops: every record comes, once, in order."""
    poll(lambda: not front.busy("live"), "the streams of other tests to end")
    ticker = Ticker(root, "LIVE")
    prices: list[float] = []
    names = {}
    with (
        PublicClient(f"http://127.0.0.1:{front.port}") as client,
        client.live("LIVE", "price", type="MD") as stream,
    ):
        for end in (Node.kill, Node.stop, None):
            ticker.append(100)
            while len(prices) < ticker.count:
                prices += next(stream)["price"].tolist()
            if end is not None:
                poll(lambda: len(front.busy("live")) == 1, "the stream of the last node to end")
                [number] = front.busy("live")
                names[f"NODE{number}"] = three[number - 1]
                end(three[number - 1])
    for node in names.values():
        node.start_again()
    front.await_states(dict.fromkeys(names, "UP"))
    assert prices == list(range(300))
    assert len(names) == 2


def test_node_that_is_not_ready_is_asked_no_more(front: Front, three: list[Node]) -> None:
    """A drain by hand: what is under way is finished, what comes goes to the other nodes."""
    name, _ = node_of(front, three, LARGE)
    number = int(name.removeprefix("NODE"))
    with Client(front, TINY_BUFFER_BYTES) as client:
        client.send(request_of(LARGE))
        _, fields = client.head()
        front.command(f"set server series/node{number} state drain")
        others = front.nodes_of([LARGE.replace("LARGE", "SMALL")] * 5, is_idle=False)
        assert number not in others
        assert len(client.read(1 << 20)) == 1 << 20
        front.command(f"set server series/node{number} state ready")
    assert number_of(fields) == number
    assert node_of(front, three, SMALL)[0] == name, "it has its symbols again"
