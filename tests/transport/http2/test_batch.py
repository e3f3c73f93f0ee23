"""Requests answered at the end of a turn: what is taken, in which order, and what is not."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from tests.faults.client import (
    MEDIUM,
    SMALL,
    SMALL_RECORDS,
    body_of,
    column_path,
    poll,
    target_of,
    write_series,
)
from tests.h2client import PING, H2Client
from tests.transport.http2.frames import FRAME_SIZE_ERROR, assert_connection_error, frame
from zerocopy.core.counters import SLOTS, TLS
from zerocopy.core.http.messages import Request, Response
from zerocopy.transport.http2.batch import REQUESTS_MAX, Batch
from zerocopy.transport.http2.head import Answer
from zerocopy.transport.request_metrics import RequestMetrics
from zerocopy.transport.scheduler import COLD_TURN_BYTES, SHORT_TURN_BYTES, SendScheduler

if TYPE_CHECKING:
    from tests.server import RunningServer
    from zerocopy.transport.http2.context import Http2Context
    from zerocopy.transport.http2.lane import Proved, Waiting

REQUESTS: list[Waiting] = [(0, b"block", 1)]
REUSED = "zerocopy_plans_reused_total"


def make_batch(loop: asyncio.AbstractEventLoop, scheduler: SendScheduler | None = None) -> Batch:
    """One that hurries turns which nobody takes."""
    counters = [0] * len(SLOTS)
    context = SimpleNamespace(
        loop=loop,
        counters=counters,
        metrics=RequestMetrics(TLS, counters),
        scheduler=SendScheduler(loop, 1) if scheduler is None else scheduler,
        handler=SimpleNamespace(count_reused=lambda _times: None),
    )
    return Batch(cast("Http2Context", context))


class Connection:
    """Notes what it is told to answer."""

    def __init__(self, told: list[tuple[Connection, bytes]]) -> None:
        self.told = told
        self.seen: Proved | None = None
        self.failed: Exception | None = None

    def fail(self, error: Exception) -> None:
        """Note it."""
        self.failed = error

    def answer_waiting(self, data: bytes, requests: list[Waiting], proved: Proved) -> None:
        """Note it."""
        assert requests == REQUESTS
        if data == b"broken":
            raise ZeroDivisionError
        self.seen = proved
        self.told.append((self, data))


def test_all_that_a_batch_answers_hurry_the_turns() -> None:
    """Seven answers on two connections buy seven times the bytes from the disk."""

    async def answer() -> None:
        loop = asyncio.get_running_loop()
        scheduler = SendScheduler(loop, SHORT_TURN_BYTES)
        batch = make_batch(loop, scheduler)
        sent = Answer(Request(b"GET", b"/x", ()), Response(200, (), b"x"), b"")

        class Answered(Connection):
            """Has its requests answered."""

            def answer_waiting(self, data: bytes, requests: list[Waiting], proved: Proved) -> None:
                """Count them."""
                super().answer_waiting(data, requests, proved)
                proved[0] = sent
                sent.times += len(data)

        for data in (b"abc", b"defg"):
            batch.add(Answered([]), data, REQUESTS)
        batch.answer()
        price = scheduler.cost_per_byte(is_from_disk=True)
        assert price == -(-SHORT_TURN_BYTES // (7 * COLD_TURN_BYTES))

    asyncio.run(answer())


def test_all_of_a_turn_are_answered_after_it_in_order_and_share_what_is_proved() -> None:
    """Nothing is answered before the turn ends; the next turn proves anew."""

    async def turn() -> None:
        told: list[tuple[Connection, bytes]] = []
        first, second = Connection(told), Connection(told)
        batch = make_batch(asyncio.get_running_loop())
        batch.add(first, b"a", REQUESTS)
        batch.add(second, b"b", REQUESTS)
        assert told == []
        await asyncio.sleep(0)
        assert told == [(first, b"a"), (second, b"b")]
        assert first.seen is second.seen
        before = first.seen
        batch.add(first, b"c", REQUESTS)
        await asyncio.sleep(0)
        assert first.seen is not before
        batch.answer()
        assert len(told) == 3

    asyncio.run(turn())


def test_one_that_cannot_be_answered_does_not_keep_the_others_from_it() -> None:
    """It is failed; who comes after it in the turn is answered."""

    async def turn() -> None:
        told: list[tuple[Connection, bytes]] = []
        first, second = Connection(told), Connection(told)
        batch = make_batch(asyncio.get_running_loop())
        batch.add(first, b"broken", REQUESTS)
        batch.add(second, b"b", REQUESTS)
        batch.answer()
        assert isinstance(first.failed, ZeroDivisionError)
        assert told == [(second, b"b")]

    asyncio.run(turn())


def test_one_that_cannot_even_be_ended_does_not_keep_the_others_from_it() -> None:
    """Ending it fails like answering it: that is told, and all behind it are answered."""

    class Stubborn(Connection):
        """Cannot be ended."""

        def fail(self, error: Exception) -> None:
            """Fail in turn."""
            super().fail(error)
            raise OSError("it is gone already")

    async def turn() -> None:
        told: list[tuple[Connection, bytes]] = []
        stubborn, others = Stubborn(told), [Connection(told) for _ in range(3)]
        reported: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
        batch = make_batch(loop)
        batch.add(others[0], b"a", REQUESTS)
        batch.add(stubborn, b"broken", REQUESTS)
        batch.add(others[1], b"b", REQUESTS)
        batch.add(others[2], b"c", REQUESTS)
        batch.answer()
        assert [data for _, data in told] == [b"a", b"b", b"c"]
        assert isinstance(stubborn.failed, ZeroDivisionError)
        assert [type(error) for error in reported] == [OSError]

    asyncio.run(turn())


def test_equal_requests_are_one_object_of_a_bounded_many() -> None:
    """Connections can share what is proved by the identity of a request."""
    loop = asyncio.new_event_loop()
    batch = make_batch(loop)
    one = batch.known(Request(b"GET", b"/x", ()))
    assert batch.known(Request(b"GET", b"/x", ())) is one
    assert batch.known(Request(b"HEAD", b"/x", ())) is not one
    for number in range(REQUESTS_MAX):
        batch.known(Request(b"GET", b"%d" % number, ()))
    assert len(batch._requests) <= REQUESTS_MAX
    loop.close()


def warm(client: H2Client, target: str = SMALL) -> None:
    """Ask until the connection knows the header block, and the answer is reused."""
    for _ in range(3):
        client.ask(target)


def test_requests_in_one_piece_are_answered_in_their_order(
    server: RunningServer, root: Path
) -> None:
    """Repeated ones before and after one that needs h2: all come, each with its own bytes."""
    small, medium = body_of(root, "SMALL"), body_of(root, "MEDIUM")
    with H2Client(server) as client:
        warm(client)
        asked = [client.request_bytes(target) for target in [SMALL] * 5 + [MEDIUM] + [SMALL] * 5]
        client.send_bytes(b"".join(raw for _, raw in asked))
        answers = [client.answer(stream_id).content for stream_id, _ in asked]
    assert answers == [small] * 5 + [medium] + [small] * 5


def test_more_requests_in_one_piece_than_a_turn_takes_are_all_answered(
    server: RunningServer, root: Path
) -> None:
    """Ninety of them: what is not taken is read as ever."""
    with H2Client(server) as client:
        warm(client)
        asked = [client.request_bytes(SMALL) for _ in range(90)]
        client.send_bytes(b"".join(raw for _, raw in asked))
        bodies = {client.answer(stream_id).content for stream_id, _ in asked}
    assert bodies == {body_of(root, "SMALL")}


def test_request_cut_anywhere_is_answered_once(server: RunningServer, root: Path) -> None:
    """A frame that comes in two pieces is no whole request until the second."""
    body = body_of(root, "SMALL")
    with H2Client(server, auto_window=False) as client:  # nothing of its own between the pieces
        warm(client)
        for cut in (1, 8, 9, 12):
            first, whole = client.request_bytes(SMALL)
            second, more = client.request_bytes(SMALL)
            client.send_bytes(whole + more[:cut])
            assert client.answer(first).content == body
            client.send_bytes(more[cut:])
            assert client.answer(second).content == body


def test_request_before_a_connection_error_is_counted(server: RunningServer) -> None:
    """What was answered of the bytes that end in a broken frame counts, and now."""
    name = 'zerocopy_requests_total{endpoint="data",status="200"}'
    with H2Client(server) as client:
        warm(client)
        before = server.metric(name)
        _, raw = client.request_bytes(SMALL)
        client.send_bytes(raw + frame(PING, 0, 0))
        assert_connection_error(client, FRAME_SIZE_ERROR)
    poll(lambda: server.metric(name) == before + 1, "the request to be counted")


def is_reused(server: RunningServer, client: H2Client, target: str) -> bool:
    """Whether one more response was one of before."""
    reused = server.metric(REUSED)
    warm(client, target)
    return server.metric(REUSED) > reused


def test_replaced_file_is_seen_by_the_next_request(server: RunningServer, root: Path) -> None:
    """What was proved in one turn is not believed in the next."""
    write_series(root, "REPLACED", SMALL_RECORDS)
    target = target_of("REPLACED")
    with H2Client(server) as client, H2Client(server) as other:
        for one in (client, other):
            # A file that was written just now is not believed yet.
            poll(partial(is_reused, server, one, target), "a response that is given again")
        path = Path(column_path(root, "REPLACED", "price"))
        content = path.read_bytes()
        changed = bytes(len(content))
        path.with_suffix(".new").write_bytes(changed)
        path.with_suffix(".new").rename(path)
        for one in (client, other):
            assert changed in one.ask(target).content
        path.write_bytes(content)
        for one in (client, other):
            assert one.ask(target).content == body_of(root, "REPLACED")
