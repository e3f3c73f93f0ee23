"""A fault of ours on one connection is that connection's end, never another's, never silence."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.transport.http1.bench import (
    LARGE,
    Bench,
    FileSource,
    answer,
    channel_of,
    receive,
    request,
    run,
    until,
)
from zerocopy.core import counters as slots
from zerocopy.transport.body import Body
from zerocopy.transport.channel import PlainChannel
from zerocopy.transport.http1 import batch as http1_batch
from zerocopy.transport.http1.connection import Connection
from zerocopy.transport.http1.head import render_head
from zerocopy.transport.http1.heads import KnownHeads
from zerocopy.transport.http1.reply import Reply
from zerocopy.transport.http1.sender import Sender
from zerocopy.transport.http1.state import State
from zerocopy.transport.request_metrics import RequestMetrics

if TYPE_CHECKING:
    from pathlib import Path

    from tests.transport.http1.bench import Peer
    from zerocopy.core.http.messages import Request, Response
    from zerocopy.core.window import Window

    Patch = pytest.MonkeyPatch


class OurFaultError(Exception):
    """What no code raises on purpose."""


def fail(*_arguments: object, **_named: object) -> Any:
    """Raise it."""
    raise OurFaultError


async def is_reset(peer: Peer) -> bool:
    """Whether the connection ends without a further byte."""
    try:
        return await receive(peer, 1) == b""
    except ConnectionResetError:
        return True


def is_all_given_back(bench: Bench, connections: int) -> bool:
    """Whether so many connections are left, and nothing of those that failed."""
    counters, server = bench.counters, bench.server
    return (
        counters[slots.CONNECTIONS] == len(server.connections._open) == connections
        and counters[slots.REQUESTS_IN_FLIGHT] == 0
        and server.context.bodies.count == 0
    )


def break_target(bench: Bench, patch: Patch, target: bytes) -> None:
    """Whoever asks for `target` finds a fault."""
    respond_now = bench.handler.respond_now

    def respond(asked: Request, times: int = 1) -> Response | None:
        return fail() if asked.target == target else respond_now(asked, times)

    patch.setattr(bench.handler, "respond_now", respond)


async def pending(bench: Bench, *targets: str) -> list[tuple[Peer, Connection]]:
    """Connections that wait for the end of the turn, each for its target, in this order."""
    first, _ = bench.connect()
    for target in targets:
        first.send(request(target))
        await answer(first)
    pairs = [bench.connect() for _ in targets]
    for (peer, connection), target in zip(pairs, targets, strict=True):
        peer.send(request(target))
        connection.on_readable()
        assert connection.state is State.PENDING
    return pairs


def test_fault_of_one_question_of_the_batch_leaves_the_others_their_answers(
    source: FileSource, monkeypatch: Patch
) -> None:
    """Those who asked it get 500 and may ask again; those before and behind get theirs."""

    async def scenario(bench: Bench) -> None:
        pairs = await pending(bench, "/1", "/bad", "/2", "/bad", "/3")
        break_target(bench, monkeypatch, b"/bad")
        for (peer, _), status in zip(pairs, [200, 500, 200, 500, 200], strict=True):
            assert (await answer(peer))[0].startswith(b"HTTP/1.1 %d " % status)
        assert [type(error) for error in bench.handler.refused] == [OurFaultError]
        peer, _ = pairs[1]
        peer.send(request("/1"))
        assert (await answer(peer))[1] == b"now"

    run(source, scenario)


@pytest.mark.parametrize("name", ["send", "rest", "abort"])
def test_fault_of_one_connection_of_the_batch_is_its_end_alone(
    source: FileSource, monkeypatch: Patch, name: str
) -> None:
    """Whatever of it fails while its answer is sent: the others with the same have theirs."""

    async def scenario(bench: Bench) -> None:
        pairs = await pending(bench, "/1", "/1", "/1", "/2")
        peer, connection = pairs[1]
        if name == "send":
            monkeypatch.setattr(connection, "send", fail)
        elif name == "rest":  # asked for where not all of it fits
            monkeypatch.setattr(connection, "send", lambda _: 1)
            monkeypatch.setattr(Sender, "_send_turn", fail)
        else:
            peer.sock.close()
            monkeypatch.setattr(
                bench.server.context, "forget", failing_once(bench.server.context.forget)
            )
        bench.server.context.batch.answer()
        assert connection.state is State.CLOSED
        for other, _ in pairs[:1] + pairs[2:]:
            assert (await answer(other))[1] == b"now"
        assert [type(error) for error in bench.faults] == [OurFaultError]

    run(source, scenario)


def failing_once(then: Any) -> Any:
    """What does as `then`, and fails the first time once that is done."""
    calls = []

    def call(*arguments: object) -> object:
        result = then(*arguments)
        calls.append(arguments)
        return fail() if len(calls) == 1 else result

    return call


def test_answer_that_cannot_be_rendered_leaves_nobody_waiting(
    source: FileSource, monkeypatch: Patch
) -> None:
    """Nor does a 500 that cannot be made: a reset, for those who asked for that alone."""

    async def scenario(bench: Bench) -> None:
        pairs = await pending(bench, "/1", "/2")
        monkeypatch.setattr(http1_batch, "render_head", failing_once(render_head))
        monkeypatch.setattr(bench.handler, "refuse", fail)
        bench.server.context.batch.answer()
        assert await is_reset(pairs[0][0])
        assert (await answer(pairs[1][0]))[1] == b"now"
        assert [type(error) for error in bench.faults] == [OurFaultError]

    run(source, scenario)


def test_fault_while_a_request_is_answered_alone_is_500(
    source: FileSource, monkeypatch: Patch
) -> None:
    """Of a head not seen before, between others of its pipeline, which are answered too."""

    async def scenario(bench: Bench) -> None:
        peer, _ = bench.connect()
        break_target(bench, monkeypatch, b"/bad")
        peer.send(request("/1") + request("/bad") + request("/2"))
        for status in (200, 500, 200):
            assert (await answer(peer))[0].startswith(b"HTTP/1.1 %d " % status)
        assert [type(error) for error in bench.handler.refused] == [OurFaultError]

    run(source, scenario)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(Connection, "_answer_queued"), (Connection, "_on_data"), (KnownHeads, "remember")],
)
def test_fault_while_a_request_is_read_ends_its_connection(
    source: FileSource, monkeypatch: Patch, kind: type, name: str
) -> None:
    """Its client is not left to wait until it counts as idle."""

    async def scenario(bench: Bench) -> None:
        (peer, _), (other, _) = bench.connect(), bench.connect()
        with monkeypatch.context() as patch:
            patch.setattr(kind, name, fail)
            peer.send(request("/1"))
            assert await is_reset(peer)
        assert [type(error) for error in bench.faults] == [OurFaultError]
        other.send(request("/1"))
        assert (await answer(other))[1] == b"now"
        assert is_all_given_back(bench, 1)

    run(source, scenario)


def test_fault_while_an_answer_is_planned_ends_its_connection(
    source: FileSource, monkeypatch: Patch
) -> None:
    """It does not wait for ever for a task that is over."""

    async def scenario(bench: Bench) -> None:
        peer, _ = bench.connect()
        monkeypatch.setattr(bench.handler, "respond", fail)
        peer.send(request("/later"))
        assert await is_reset(peer)
        assert [type(error) for error in bench.faults] == [OurFaultError]
        assert is_all_given_back(bench, 0)

    run(source, scenario)


@pytest.mark.parametrize("is_begun", [False, True])
def test_plan_ends_with_the_client_that_asked_for_it(
    source: FileSource, monkeypatch: Patch, *, is_begun: bool
) -> None:
    """A client that resets leaves no work behind it for the threads that plan."""
    ended: list[str] = []

    async def respond(_request: Request) -> Response:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")
        raise AssertionError("nobody sets it")

    async def scenario(bench: Bench) -> None:
        peer, connection = bench.connect()
        monkeypatch.setattr(bench.handler, "respond", respond)
        peer.send(request("/later"))
        connection.on_readable()
        assert connection.state is State.WAITING
        if is_begun:
            await asyncio.sleep(0)
        connection.abort()
        tasks = bench.server.connections._tasks
        while tasks:
            await asyncio.wait(tasks, timeout=10)
        assert ended == ["cancelled"] * is_begun
        assert is_all_given_back(bench, 0)

    run(source, scenario)


def test_fault_amid_a_large_answer_aborts_it_alone(source: FileSource, tmp_path: Path) -> None:
    """Another that takes turns with it goes on to its end."""
    (tmp_path / "other").write_bytes(LARGE)
    other = FileSource(tmp_path / "other")

    async def scenario(bench: Bench) -> None:
        (peer, connection), (beside, _) = bench.connect(), bench.connect()
        peer.send(request("/large"))
        await until(lambda: connection.state is State.SENDING)
        bench.handler.source = other
        beside.send(request("/large"))
        source.broken = OurFaultError()  # type: ignore[assignment]
        assert len(await receive(peer, len(LARGE))) < len(LARGE)
        assert connection.state is State.CLOSED
        assert bench.counters[slots.TRANSFERS_ABORTED] == 1
        assert [type(error) for error in bench.faults] == [OurFaultError]
        assert (await answer(beside))[1] == b"header\n" + LARGE
        await until(lambda: is_all_given_back(bench, 1))

    run(source, scenario)
    other.file.close()


@pytest.mark.parametrize("name", ["prepare", "prepared"])
def test_fault_while_the_disk_is_read_aborts_the_answer(
    source: FileSource, monkeypatch: Patch, name: str
) -> None:
    """Whether the window fails or what is done with it; somebody is told of it by name."""

    async def nothing(_window: Window) -> None:
        """Have it ready."""

    async def scenario(bench: Bench) -> None:
        peer, connection = bench.connect()
        monkeypatch.setattr(source, "ready", lambda *_, **__: 0)
        monkeypatch.setattr(bench.handler, "prepare", fail if name == "prepare" else nothing)
        if name == "prepared":
            monkeypatch.setattr(Body, "prepared", fail)
        peer.send(request("/large"))
        assert len(await receive(peer, len(LARGE))) < len(LARGE)
        assert connection.state is State.CLOSED
        assert [type(error) for error in bench.faults] == [OurFaultError]
        assert is_all_given_back(bench, 0)

    run(source, scenario)


def test_fault_at_a_deadline_ends_its_connection(source: FileSource, monkeypatch: Patch) -> None:
    """It is not looked at again and again."""

    async def scenario(bench: Bench) -> None:
        peer, connection = bench.connect()
        connection.deadline = bench.server.context.wheel.now
        with monkeypatch.context() as patch:
            patch.setattr(type(connection), "_is_idle", fail)
            connection.on_deadline()
        assert await is_reset(peer)
        assert [type(error) for error in bench.faults] == [OurFaultError]

    run(source, scenario)


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        (PlainChannel, "stop_reading"),
        (PlainChannel, "stop_writing"),
        (Sender, "drop"),
        (Reply, "end"),
        (RequestMetrics, "end"),
        (Body, "close"),
    ],
)
def test_connection_gives_everything_back_whatever_of_it_fails(
    source: FileSource, monkeypatch: Patch, kind: type, part: str
) -> None:
    """Its seat, its exchange, its transfer and its descriptor."""

    async def scenario(bench: Bench) -> None:
        peer, connection = bench.connect()
        peer.send(request("/large"))
        await until(lambda: connection.state is State.SENDING)
        sock = channel_of(connection)._sock
        monkeypatch.setattr(kind, part, failing_once(getattr(kind, part)))
        connection.abort()
        assert is_all_given_back(bench, 0)
        assert sock.fileno() == -1
        assert [type(error) for error in bench.faults] == [OurFaultError]

    run(source, scenario)


@pytest.mark.parametrize("name", ["drain", "abort"])
def test_drain_reaches_every_connection(source: FileSource, monkeypatch: Patch, name: str) -> None:
    """One that fails then holds up neither the others nor the end."""

    async def scenario(bench: Bench) -> None:
        pairs = [bench.connect() for _ in range(3)]
        if name == "abort":
            for peer, connection in pairs:
                peer.send(request("/later"))
                await until(lambda at=connection: at.state is State.WAITING)  # type: ignore[misc]
        kind, method = (Connection, "_is_idle") if name == "drain" else (Sender, "drop")
        monkeypatch.setattr(kind, method, failing_once(getattr(kind, method)))
        await bench.server.drain(0)
        assert is_all_given_back(bench, 0)
        assert [type(error) for error in bench.faults] == [OurFaultError]

    run(source, scenario)


def test_newcomer_who_cannot_be_refused_is_closed_and_leaves_its_seat_once(
    source: FileSource, monkeypatch: Patch
) -> None:
    """Nothing of it is kept, and those who are served are counted right."""

    async def scenario(bench: Bench) -> None:
        bench.connect()
        monkeypatch.setattr(bench.handler, "refuse", fail)
        with pytest.raises(ValueError, match="not enough values"):
            bench.connect()  # it is not among the connections
        assert is_all_given_back(bench, 1)
        assert [type(error) for error in bench.faults] == [OurFaultError]

    run(source, scenario, connections_max=1)
