"""AsgiApp without any server: what it sends, when it reads, and how it ends."""

from __future__ import annotations

import asyncio
import os
from itertools import pairwise
from typing import Any

import pytest

from tests.transport.asgi_driver import (
    CONTENT_BYTES_MAX,
    TIMEOUT_S,
    Driver,
    FakeSource,
    Rig,
    ask,
    context_of,
    scope_of,
    settle,
)
from zerocopy.core import counters as slots
from zerocopy.core.endpoints import OTHER
from zerocopy.core.errors import DataChangedError
from zerocopy.core.http.messages import Request, Response
from zerocopy.core.plan import Segment
from zerocopy.core.window import WINDOW_SLICES_MAX
from zerocopy.transport.asgi import (
    PIECE_BYTES,
    TransferAbortedError,
)
from zerocopy.transport.scheduler import SendScheduler

DISCONNECT = {"type": "http.disconnect"}


def large(*sources: FakeSource) -> Response:
    """A header line and everything in `sources`."""
    segments = tuple(Segment(source, 0, len(source.content)) for source in sources)
    return Response(200, (), b"line\n", segments)


def test_lifespan_is_completed_and_ends() -> None:
    """Startup and shutdown are answered, in this order, and then the call returns."""
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    driver = ask(Rig().app, {"type": "lifespan"}, *events)
    assert [event["type"] for event in driver.sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


def test_websocket_is_closed() -> None:
    """A handshake is refused with the one event that does so."""
    driver = ask(Rig().app, {"type": "websocket", "path": "/"}, {"type": "websocket.connect"})
    assert driver.sent == [{"type": "websocket.close"}]


@pytest.mark.parametrize("is_known", [True, False])
def test_response_is_one_start_and_one_body(*, is_known: bool) -> None:
    """Names are lower case; length and server are added; an answer made later is the same."""
    rig = Rig()
    rig.handler.is_known = is_known
    driver = ask(rig.app, scope_of("/x?a=b"))
    assert driver.status == 200
    assert driver.fields == {
        b"etag": b'"x"',
        b"x-mixed": b"Case",
        b"server": b"zerocopy",
        b"content-length": b"5",
    }
    assert driver.pieces == [b"hello"]
    assert driver.is_ended
    assert rig.handler.requests[0].target == b"/x?a=b"
    assert rig.counters[slots.requests_slot(slots.TLS, OTHER, 200)] == 1
    assert rig.counters[slots.SENT_BYTES_COPY] == 5


@pytest.mark.parametrize("status", [204, 304])
def test_status_without_content_has_no_length(status: int) -> None:
    """RFC 9110 section 8.6: 204 and 304 are sent without Content-Length."""
    driver = ask(Rig(Response(status, ())).app, scope_of("/x", "OPTIONS"))
    assert (driver.status, driver.fields) == (status, {b"server": b"zerocopy"})
    assert driver.pieces == [b""]
    assert driver.is_ended


def test_head_tells_the_length_and_reads_nothing() -> None:
    """HEAD has the fields of GET, an empty body, and leaves the files alone."""
    source = FakeSource(os.urandom(5_000))
    rig = Rig(large(source))
    driver = ask(rig.app, scope_of("/x", "HEAD"))
    assert driver.fields[b"content-length"] == b"5005"
    assert driver.pieces == [b""]
    assert driver.is_ended
    assert source.read_to == 0
    assert not rig.handler.prepared
    assert rig.counters[slots.SENT_BYTES_COPY] == 0


def test_large_answers_take_turns_with_those_of_the_listener() -> None:
    """One piece between two turns of another's; it is short while small answers leave."""

    async def scenario() -> None:
        source = FakeSource(os.urandom(5 * PIECE_BYTES))
        rig, driver = Rig(large(source)), Driver()
        scheduler = SendScheduler(asyncio.get_running_loop(), PIECE_BYTES, 1, 1_000)
        rig.app.context = context_of(scheduler)
        seen: list[int] = []

        def take() -> int:
            seen.append(len(driver.pieces))
            scheduler.queue(take)
            return scheduler.turn_bytes

        scheduler.queue(take)
        scheduler.hurry(1)
        await rig.app(scope_of("/x"), driver.receive, driver.send)
        assert {after - before for before, after in pairwise(seen)} == {0, 1}
        assert len(driver.pieces[1]) == 1_000
        assert max(map(len, driver.pieces)) == PIECE_BYTES
        assert b"".join(driver.pieces) == b"line\n" + source.content

    asyncio.run(asyncio.wait_for(scenario(), TIMEOUT_S))


@pytest.mark.parametrize("nbytes", [1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 700_001])
def test_body_comes_in_bounded_pieces(nbytes: int) -> None:
    """Content first, then each segment in pieces of at most `PIECE_BYTES`, the last one ends it."""
    sources = [FakeSource(os.urandom(nbytes)) for _ in range(2)]
    rig = Rig(large(*sources))
    driver = ask(rig.app, scope_of("/x"))
    assert b"".join(driver.pieces) == b"line\n" + sources[0].content + sources[1].content
    assert driver.pieces[0] == b"line\n"
    assert all(0 < len(piece) <= PIECE_BYTES for piece in driver.pieces)
    assert driver.is_ended
    assert rig.counters[slots.SENT_BYTES_COPY] == 5 + 2 * nbytes


@pytest.mark.usefixtures("nothing_is_tiny")
def test_segments_that_are_not_ready_are_prepared_a_window_at_a_time() -> None:
    """No more slices than a window has, and the body is exact across windows."""
    count = 2 * WINDOW_SLICES_MAX + 4
    sources = [FakeSource(bytes([index]) * 10, is_ready=False) for index in range(count)]
    rig = Rig(large(*sources))
    driver = ask(rig.app, scope_of("/x"))
    assert rig.handler.prepared == [WINDOW_SLICES_MAX, WINDOW_SLICES_MAX, 4]
    assert b"".join(driver.pieces[1:]) == b"".join(source.content for source in sources)
    assert driver.is_ended


def test_send_that_blocks_stops_the_reading() -> None:
    """While a send waits nothing more is read; each release lets one piece more be read."""
    source = FakeSource(bytes(4 * PIECE_BYTES))
    rig = Rig(large(source))

    async def run() -> None:
        driver = Driver()
        gate = asyncio.Semaphore(0)

        async def send(event: Any) -> None:
            driver.sent.append(event)
            await gate.acquire()

        task = asyncio.create_task(rig.app(scope_of("/x"), driver.receive, send))
        for step, read_to in enumerate([0, 0, 1, 2, 3, 4]):
            await settle()
            assert source.read_to == read_to * PIECE_BYTES
            assert len(driver.sent) == step + 1
            gate.release()
        await asyncio.wait_for(task, TIMEOUT_S)
        assert driver.is_ended

    asyncio.run(run())


@pytest.mark.parametrize("is_long", [False, True])
def test_client_that_leaves_before_its_content_has_ended_gets_nothing(*, is_long: bool) -> None:
    """Whether its content was awaited or is too long, nothing goes on for it."""
    rig = Rig(large(FakeSource(bytes(4 * PIECE_BYTES))))
    content = bytes(CONTENT_BYTES_MAX + 1) if is_long else b"x"

    async def run() -> None:
        driver = Driver({"type": "http.request", "body": content, "more_body": True})
        gate = asyncio.Event()

        async def send(event: Any) -> None:
            driver.sent.append(event)
            await gate.wait()

        task = asyncio.create_task(rig.app(scope_of("/x"), driver.receive, send))
        await settle()
        assert not task.done()
        driver.push(DISCONNECT)
        await asyncio.wait_for(task, TIMEOUT_S)
        assert len(driver.sent) == int(is_long), "the head of a refusal is on its way by then"
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
    assert rig.counters[slots.REQUESTS_IN_FLIGHT] == 0


def test_client_that_leaves_ends_the_planning() -> None:
    """After http.disconnect nobody waits for a plan any longer, and nothing is sent."""
    rig = Rig()
    ended: list[str] = []

    async def run() -> None:
        async def respond(_request: Request) -> Response:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")
            raise AssertionError("nobody sets it")

        rig.handler.is_known = False
        rig.handler.respond = respond  # type: ignore[method-assign,assignment]
        driver = Driver()
        task = asyncio.create_task(rig.app(scope_of("/x"), driver.receive, driver.send))
        await settle()
        assert not task.done()
        driver.push(DISCONNECT)
        await asyncio.wait_for(task, TIMEOUT_S)
        assert not driver.sent
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
    assert ended == ["cancelled"]
    assert rig.counters[slots.REQUESTS_IN_FLIGHT] == 0


def test_client_that_leaves_stops_the_reading() -> None:
    """After http.disconnect the call returns, though its send would still wait."""
    source = FakeSource(bytes(4 * PIECE_BYTES))
    rig = Rig(large(source))

    async def run() -> None:
        driver = Driver()
        gate = asyncio.Semaphore(3)  # for the start, the header line and one piece

        async def send(event: Any) -> None:
            driver.sent.append(event)
            await gate.acquire()

        task = asyncio.create_task(rig.app(scope_of("/x"), driver.receive, send))
        await settle()
        assert source.read_to == 2 * PIECE_BYTES
        assert not task.done()
        driver.push(DISCONNECT)
        await asyncio.wait_for(task, TIMEOUT_S)
        assert source.read_to == 2 * PIECE_BYTES
        assert not driver.is_ended
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
    assert not rig.failures


def aborted(rig: Rig) -> Driver:
    """The driver of a transfer that ends in TransferAbortedError."""

    async def run() -> Driver:
        driver = Driver()
        with pytest.raises(TransferAbortedError) as raised:
            await rig.app(scope_of("/x"), driver.receive, driver.send)
        assert isinstance(raised.value.__cause__, DataChangedError)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return driver

    return asyncio.run(run())


def test_source_that_fails_aborts_the_transfer() -> None:
    """What was promised cannot be kept: the error is raised, told and counted; no end is sent."""
    source = FakeSource(bytes(3 * PIECE_BYTES), fails_at=PIECE_BYTES)
    rig = Rig(large(source))
    driver = aborted(rig)
    assert driver.status == 200
    assert [len(piece) for piece in driver.pieces] == [5, PIECE_BYTES]
    assert not driver.is_ended
    assert rig.counters[slots.TRANSFERS_ABORTED] == 1
    assert [type(error) for error in rig.failures] == [DataChangedError]


def test_source_that_cannot_be_prepared_aborts_the_transfer() -> None:
    """The same for a file that is gone before its first byte; the header line has left."""
    rig = Rig(large(FakeSource(b"x", is_ready=False)))
    rig.handler.prepare_error = DataChangedError("a day file changed")
    assert aborted(rig).pieces == [b"line\n"]
    assert rig.counters[slots.TRANSFERS_ABORTED] == len(rig.failures) == 1
