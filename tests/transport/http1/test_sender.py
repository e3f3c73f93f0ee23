"""Large answers of HTTP/1.1 that wait for their turn."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.transport.http1.bench import LARGE, Bench, FileSource, answer, request, run, until
from zerocopy.core.counters import SENT_BYTES_SENDFILE
from zerocopy.core.http.messages import Response
from zerocopy.core.plan import Segment
from zerocopy.transport.http1.server import TURNS_AT_ONCE
from zerocopy.transport.http1.state import RESPONSE_COST_BYTES, State
from zerocopy.transport.scheduler import COLD_TURN_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from zerocopy.core.window import Window
    from zerocopy.transport.scheduler import SendScheduler

    Prepare = Callable[[Window], Coroutine[Any, Any, None]]

TURN_BYTES = 8 * COLD_TURN_BYTES
CONTENT = b"header\n" + LARGE
MEDIUM_BYTES = 3 * RESPONSE_COST_BYTES


def test_client_is_not_blamed_for_the_time_its_answer_waits_for_its_turn(
    source: FileSource,
) -> None:
    """However often the deadline passes while it is queued, the connection stays."""

    async def scenario(bench: Bench) -> None:
        peer, connection = bench.connect()
        bench.server.context.scheduler.spend(1 << 40)
        peer.send(request("/large"))
        connection.on_readable()
        assert connection.state is State.QUEUED
        for _ in range(10):
            connection.on_deadline()
            assert connection.state is State.QUEUED
        assert (await answer(peer))[1] == CONTENT

    run(source, scenario)


def test_new_large_answers_wait_for_their_turn_too(source: FileSource) -> None:
    """Once an iteration's bytes are spent, nothing of a file leaves for who asks then."""

    async def scenario(bench: Bench) -> None:
        (first, one), (second, other) = bench.connect(), bench.connect()
        bench.server.context.scheduler.spend(1 << 40)
        for peer, connection in ((first, one), (second, other)):
            peer.send(request("/large"))
            connection.on_readable()
        assert bench.counters[SENT_BYTES_SENDFILE] == 0
        for peer in (first, second):
            assert (await answer(peer))[1] == CONTENT

    run(source, scenario)


class ColdSource(FileSource):
    """Nothing of it is in memory until it was read."""

    def ready(self, _offset: int, _count: int, *, mapped: bool = False) -> int:  # noqa: ARG002
        """None of it is."""
        return 0


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    """A file of the large answer's bytes."""
    path = tmp_path / "large"
    path.write_bytes(LARGE)
    return path


async def read_in(window: Window) -> None:
    """Tell that all of a window came from the disk."""
    window.has_waited = True
    window.missing_bytes = sum(piece.count for piece in window.slices)


async def open_only(window: Window) -> None:
    """Tell that a window was in memory, though not open."""
    window.has_waited = True


@pytest.mark.parametrize(
    ("kind", "prepare", "most"),
    [
        (ColdSource, read_in, COLD_TURN_BYTES),
        (ColdSource, open_only, TURN_BYTES),
        (FileSource, read_in, TURN_BYTES),
    ],
)
def test_answer_from_the_disk_sends_less_in_a_turn_while_small_ones_are_asked_for(
    path: Path, kind: type[FileSource], prepare: Prepare, most: int
) -> None:
    """A cold turn's bytes where others send a whole one, and all of it in the end."""

    async def scenario(bench: Bench) -> None:
        bench.handler.prepare = prepare  # type: ignore[method-assign,assignment]
        peer, connection = bench.connect()
        peer.send(request("/large"))
        connection.on_readable()
        received, sent = bytearray(), [0]
        while not received.endswith(LARGE[-100:]):
            before = bench.counters[SENT_BYTES_SENDFILE]
            bench.server.context.scheduler.hurry(1)
            await asyncio.sleep(0)
            sent.append(bench.counters[SENT_BYTES_SENDFILE] - before)
            if sent[-1]:
                received += peer.sock.recv(1 << 20)
        assert received.endswith(CONTENT)
        assert max(sent) == most

    run(kind(path), scenario, turn_bytes_max=TURN_BYTES)


def test_turns_of_answers_from_the_disk_are_as_many_as_others(path: Path) -> None:
    """With five of them an iteration has two turns still, each of a cold turn's bytes."""

    async def scenario(bench: Bench) -> None:
        bench.handler.prepare = read_in  # type: ignore[method-assign]
        pairs = [bench.connect() for _ in range(5)]
        for peer, connection in pairs:
            peer.send(request("/large"))
            connection.on_readable()
        sent = []
        for _ in range(30):
            before = bench.counters[SENT_BYTES_SENDFILE]
            bench.server.context.scheduler.hurry(1)
            await asyncio.sleep(0)
            sent.append(bench.counters[SENT_BYTES_SENDFILE] - before)
        assert max(sent) == TURNS_AT_ONCE * COLD_TURN_BYTES

    run(ColdSource(path), scenario, turn_bytes_max=TURN_BYTES)


@pytest.mark.parametrize("target", ["/now", "/nowhere"])
@pytest.mark.parametrize("count", [1, 4])
def test_each_small_answer_of_an_iteration_buys_bytes_from_the_disk(
    path: Path, count: int, target: str
) -> None:
    """Answered together or alone, from as many connections: so many times the bytes."""

    async def scenario(bench: Bench) -> None:
        bench.handler.prepare = read_in  # type: ignore[method-assign]
        (large, streaming), *pairs = [bench.connect() for _ in range(1 + count)]
        large.send(request("/large"))
        streaming.on_readable()
        sent = []
        for _ in range(12):
            before = bench.counters[SENT_BYTES_SENDFILE]
            for peer, connection in pairs:
                peer.send(request(target, "Connection: keep-alive"))
                connection.on_readable()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            sent.append(bench.counters[SENT_BYTES_SENDFILE] - before)
            with contextlib.suppress(BlockingIOError):
                large.sock.recv(1 << 20)
        assert sent.count(2 * count * COLD_TURN_BYTES) > 6, "in two iterations of the loop"

    run(ColdSource(path), scenario, turn_bytes_max=4 * TURN_BYTES)


class Charges:
    """What the turns of a bench are told of, in order."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[int] = []
        scheduler = bench.server.context.scheduler
        spend, queue = scheduler.spend, scheduler.queue

        def note(nbytes: int) -> None:
            self.told.append(nbytes)
            spend(nbytes)

        def note_turn(send: Callable[[], int]) -> None:
            def take() -> int:
                self.told.append(send())
                return self.told[-1]

            queue(take)

        monkeypatch.setattr(bench.server.context, "scheduler", Noting(scheduler, note, note_turn))


class Noting:
    """`SendScheduler` with two methods replaced; it has slots."""

    def __init__(self, scheduler: SendScheduler, spend: object, queue: object) -> None:
        self._scheduler = scheduler
        self.spend = spend
        self.queue = queue

    def __len__(self) -> int:
        return len(self._scheduler)

    def __getattr__(self, name: str) -> object:
        return getattr(self._scheduler, name)


def medium(source: FileSource, target: bytes) -> Response:
    """A head, and a segment that leaves in the turn that begins it."""
    if target == b"/medium":
        return Response(200, (), b"header\n", (Segment(source, 0, MEDIUM_BYTES),))
    return Response(200, (), b"small")


@pytest.mark.parametrize("is_queued", [False, True])
def test_each_byte_of_pipelined_answers_is_charged_once(
    source: FileSource, monkeypatch: pytest.MonkeyPatch, *, is_queued: bool
) -> None:
    """Whether they leave in the turn that read them or in one that was waited for."""

    async def scenario(bench: Bench) -> None:
        monkeypatch.setattr(
            bench.handler, "respond_now", lambda asked, *_: medium(source, asked.target)
        )
        charges = Charges(bench, monkeypatch)
        peer, connection = bench.connect()
        if is_queued:
            bench.server.context.scheduler.spend(1 << 40)
            charges.told.clear()
        targets = ["/medium", "/small", "/medium", "/medium"]
        peer.send(b"".join(map(request, targets)))
        connection.on_readable()
        for _ in targets:
            await answer(peer)
        await until(
            lambda: connection.state is State.READY and not len(bench.server.context.scheduler)
        )
        assert sum(charges.told) == 4 * RESPONSE_COST_BYTES + 3 * MEDIUM_BYTES

    run(source, scenario, turn_bytes_max=1 << 20)


def test_turn_that_is_spent_begins_no_large_answer(
    source: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While turns are short one answer is a turn; the next waits for another, whole."""

    async def scenario(bench: Bench) -> None:
        monkeypatch.setattr(
            bench.handler, "respond_now", lambda asked, *_: medium(source, asked.target)
        )
        bench.server.context.scheduler.hurry(1)
        bench.server.context.scheduler.turn_bytes = RESPONSE_COST_BYTES + MEDIUM_BYTES
        peer, connection = bench.connect()
        peer.send(request("/medium") * 2)
        connection.on_readable()
        assert bench.counters[SENT_BYTES_SENDFILE] == MEDIUM_BYTES
        for _ in range(2):
            await answer(peer)

    run(source, scenario, turn_bytes_max=1 << 20)


def test_answer_of_the_batch_is_not_charged_for_a_turn_before(
    source: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit into the socket begins a transfer, whose connection has sent before."""

    async def scenario(bench: Bench) -> None:
        peer, connection = bench.connect()
        for requests in (1, 3):
            peer.send(request("/now") * requests)
            for _ in range(requests):
                await answer(peer)
        charges = Charges(bench, monkeypatch)
        peer.send(request("/now"))
        connection.on_readable()
        assert connection.state is State.PENDING
        whole = connection.send
        monkeypatch.setattr(connection, "send", lambda data: whole(data[:10]))
        bench.server.context.batch.answer()
        head, content = await answer(peer)
        assert content == b"now"
        rest_bytes = len(head) + len(content) - 10
        assert sum(charges.told) == RESPONSE_COST_BYTES + rest_bytes

    run(source, scenario)
