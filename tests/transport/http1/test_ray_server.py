"""A server that knows heads but for their CF-Ray: what it keeps, and whom it names in the log."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import pytest

from tests.transport.http1.bench import (
    LARGE,
    Bench,
    FileSource,
    answer,
    receive,
    request,
    run,
    until,
)
from tests.transport.http1.rays import HEAD, HOSTILE, OTHER, REST
from zerocopy.core.errors import DataChangedError
from zerocopy.observe.access_log import request_id
from zerocopy.transport.http1.server import HEAD_BYTES_MAX, HEADS_MAX
from zerocopy.transport.http1.state import State

if TYPE_CHECKING:
    from tests.transport.http1.bench import Peer
    from zerocopy.core.http.pending import Exchange

PEERS = 8
_DATE = re.compile(rb"Date: [^\r]+\r\n")


def ray_of(number: int) -> str:
    """One of many."""
    return f"{number:016x}-FRA"


def from_tunnel(number: int, target: str, *fields: str, method: str = "GET") -> bytes:
    """A request that differs from others in its ray alone."""
    return request(target, "A: b", f"Cf-Ray: {ray_of(number)}", *fields, method=method)


def ask_known(bench: Bench, *heads: bytes) -> list[Peer]:
    """Send each head on a connection of its own; all must be known, and none is answered yet."""
    peers = []
    for head in heads:
        peer, connection = bench.connect()
        peer.send(head)
        connection.on_readable()
        assert connection.state is State.PENDING, head
        peers.append(peer)
    return peers


def note_ids(bench: Bench) -> list[str]:
    """The ids of all requests that end from now on, as the access log would write them."""
    ids: list[str] = []

    def access(_transport: str, exchange: Exchange, _duration_ns: int) -> None:
        ids.append(request_id(exchange))

    bench.server.account.access = access
    return ids


def test_requests_that_differ_in_their_rays_share_a_question_and_keep_their_ids(
    source: FileSource,
) -> None:
    """Eight in one turn, never seen before but for the ray: asked once, each named by its own."""

    async def scenario(bench: Bench) -> None:
        peer, _ = bench.connect()
        peer.send(from_tunnel(99, "/a"))
        await answer(peer)
        ids = note_ids(bench)
        peers = ask_known(bench, *(from_tunnel(number, "/a") for number in range(PEERS)))
        for peer in peers:
            head, content = await answer(peer)
            assert (b"X-Target: /a" in head, content) == (True, b"now")
        assert (bench.handler.asked, bench.handler.times) == ([b"/a"] * 2, [1, PEERS])
        assert ids == [ray_of(number) for number in range(PEERS)]

    run(source, scenario)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("target", ["/now", "/large", "/later"])
@pytest.mark.parametrize("drains", [False, True])
def test_every_way_to_an_answer_names_the_ray_of_its_own_request(
    source: FileSource, target: str, method: str, *, drains: bool
) -> None:
    """In the batch and alone, at once, from a file and after a plan, also as the last answer."""

    async def scenario(bench: Bench) -> None:
        ids = note_ids(bench)
        bench.handler.gate.set()
        peer, _ = bench.connect()
        peer.send(from_tunnel(0, target, method=method))
        await answer(peer, is_head=method == "HEAD")
        peers = ask_known(bench, *(from_tunnel(n, target, method=method) for n in (1, 2)))
        bench.server.draining = drains
        for peer in peers:
            await answer(peer, is_head=method == "HEAD")
        await until(lambda: len(ids) == 3)
        assert sorted(ids) == [ray_of(number) for number in range(3)]

    run(source, scenario)


def test_small_answer_that_meets_a_full_socket_names_its_own_ray(
    source: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves the batch for a transfer; others of the batch have theirs, and so has the next."""

    async def scenario(bench: Bench) -> None:
        peer, connection = bench.connect()
        peer.send(from_tunnel(0, "/now"))
        await answer(peer)
        ids = note_ids(bench)
        monkeypatch.setattr(connection, "send", lambda data: connection._sock.send(data[:10]))
        peer.send(from_tunnel(1, "/now"))
        connection.on_readable()
        assert connection.state is State.PENDING
        [other] = ask_known(bench, from_tunnel(2, "/now"))
        assert [(await answer(each))[1] for each in (peer, other)] == [b"now"] * 2
        peer.send(from_tunnel(3, "/now"))
        await answer(peer)
        await until(lambda: len(ids) == 3)
        assert sorted(ids[:2]) == [ray_of(1), ray_of(2)]
        assert ids[2] == ray_of(3)

    run(source, scenario)


def test_transfer_that_fails_is_reported_with_the_ray_of_its_own_request(
    source: FileSource,
) -> None:
    """The head of the request was remembered from another, and one more has come since."""

    async def scenario(bench: Bench) -> None:
        failed: list[str] = []
        bench.server.on_transfer_failed = lambda _error, exchange: failed.append(
            request_id(exchange) if exchange is not None else ""
        )
        ids = note_ids(bench)
        peer, _ = bench.connect()
        peer.send(from_tunnel(0, "/large"))
        assert (await answer(peer))[1] == b"header\n" + LARGE
        [broken] = ask_known(bench, from_tunnel(1, "/large"))
        await receive(broken, 1_000)
        peer.send(from_tunnel(2, "/now"))
        await answer(peer)
        source.broken = DataChangedError("broken by the test")
        assert len(await receive(broken, len(LARGE))) < len(LARGE)
        assert failed == [ray_of(1)]
        assert ids == [ray_of(0), ray_of(2), ray_of(1)]

    run(source, scenario)


def test_client_that_leaves_before_its_answer_is_named_by_its_own_ray(source: FileSource) -> None:
    """While a plan is made; another request for the same goes on, with its own."""

    async def scenario(bench: Bench) -> None:
        bench.handler.gate.set()
        peer, _ = bench.connect()
        peer.send(from_tunnel(0, "/later"))
        await answer(peer)
        ids = note_ids(bench)
        bench.handler.gate.clear()
        peers = ask_known(bench, from_tunnel(1, "/later"), from_tunnel(2, "/later"))
        connections = list(bench.server._connections)[-2:]
        await until(lambda: all(each.state is State.WAITING for each in connections))
        connections[0].abort()
        assert ids == [ray_of(1)]
        bench.handler.gate.set()
        assert (await answer(peers[1]))[1] == b"later"
        assert ids == [ray_of(1), ray_of(2)]

    run(source, scenario)


def test_request_without_a_ray_is_not_named_by_that_of_another(source: FileSource) -> None:
    """On the same connection, known or not, behind one that had a ray."""

    async def scenario(bench: Bench) -> None:
        ids = note_ids(bench)
        peer, _ = bench.connect()
        heads = [from_tunnel(1, "/now"), from_tunnel(2, "/now"), request("/now", "A: b")]
        heads += [heads[-1], request("/now", "Cf-Ray: x"), from_tunnel(3, "/now"), heads[-1]]
        for head in heads:
            peer.send(head)
            await answer(peer)
        assert [ids[0], ids[1], ids[5]] == [ray_of(number) for number in (1, 2, 3)]
        assert not {ray_of(number) for number in (1, 2, 3)} & {ids[2], ids[3], ids[4], ids[6]}
        assert len(set(ids)) == len(heads)

    run(source, scenario)


def test_heads_with_rays_are_kept_once_and_drive_out_nothing(source: FileSource) -> None:
    """However many rays come, in the form that is cut out or in another."""

    async def scenario(bench: Bench) -> None:
        heads, rayless = bench.server.heads, bench.server.rayless_heads
        peer, _ = bench.connect()
        first = request("/first")
        peer.send(first)
        await answer(peer)
        for number in range(HEADS_MAX + 10):
            peer.send(from_tunnel(number, "/a"))
            await answer(peer)
            peer.send(request("/b", f"cf-ray: {ray_of(number)}"))
            await answer(peer)
        assert list(heads) == [first]
        assert list(rayless) == [request("/a", "A: b")]

    run(source, scenario)


def test_heads_kept_without_their_rays_are_bound(source: FileSource) -> None:
    """At most `HEADS_MAX`, the oldest goes first, none longer than `HEAD_BYTES_MAX` with its ray.

    A range is asked for once, as a rule, and is not kept; one that is read again drives out none.
    """

    async def scenario(bench: Bench) -> None:
        rayless = bench.server.rayless_heads
        peer, connection = bench.connect()
        for number in range(HEADS_MAX + 10):
            peer.send(from_tunnel(number, f"/{number}"))
            await answer(peer)
        assert len(rayless) == HEADS_MAX
        assert request("/9", "A: b") not in rayless
        assert request("/10", "A: b") in rayless
        before = set(rayless)
        room = HEAD_BYTES_MAX - len(from_tunnel(0, "/long", "X: "))
        peer.send(from_tunnel(0, "/long", "X: " + "x" * (room + 1)))
        await answer(peer)
        peer.send(from_tunnel(0, "/range", "Range: bytes=0-1"))
        await answer(peer)
        last = bench.server.rayless_heads[request(f"/{HEADS_MAX}", "A: b")]
        bench.server.remember_head(
            from_tunnel(5, f"/{HEADS_MAX}"), last.with_ray(ray_of(5).encode())
        )
        assert set(rayless) == before
        peer.send(from_tunnel(0, "/long", "X: " + "x" * room))
        await answer(peer)
        assert len(set(rayless) - before) == 1
        assert connection.state is State.READY

    run(source, scenario)


def test_known_head_is_content_amid_another_request(source: FileSource) -> None:
    """The same bytes with another ray are content where a request awaits some, and else a head."""

    async def scenario(bench: Bench) -> None:
        peer, _ = bench.connect()
        peer.send(from_tunnel(0, "/known"))
        await answer(peer)
        content = from_tunnel(1, "/known")
        awaiting, connection = bench.connect()
        awaiting.send(from_tunnel(2, "/content", f"Content-Length: {len(content)}"))
        await until(lambda: connection._parser is not None and not connection._parser.at_boundary)
        awaiting.send(content)
        assert b"X-Target: /content" in (await answer(awaiting))[0]
        awaiting.send(from_tunnel(3, "/known"))
        assert b"X-Target: /known" in (await answer(awaiting))[0]
        assert bench.handler.asked == [b"/known", b"/content", b"/known"]

    run(source, scenario)


@pytest.mark.parametrize("case", HOSTILE)
def test_server_that_knows_a_head_answers_what_is_near_it_as_one_that_knows_none(
    source: FileSource, case: str
) -> None:
    """Byte for byte, to the end of the connection: the same answers, faults and closes."""

    async def scenario(bench: Bench) -> None:
        fresh = Bench(source)
        received = []
        for each, heads in ((bench, [HEAD, OTHER]), (fresh, [])):
            for head in heads:
                peer, _ = each.connect()
                peer.send(head)
                await answer(peer)
            assert list(each.server.rayless_heads) == ([REST] if heads else [])
            peer, _ = each.connect()
            peer.send(HOSTILE[case])
            peer.sock.shutdown(socket.SHUT_WR)
            received.append(_DATE.sub(b"", await receive(peer, 1 << 20)))
        await fresh.close()
        assert received[0] == received[1]
        assert [str(error) for error in bench.handler.refused] == [
            str(error) for error in fresh.handler.refused
        ]

    run(source, scenario)
