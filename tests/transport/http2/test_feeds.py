"""zerocopy.transport.http2.feeds: endless responses on streams, under flow control."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from h2.errors import ErrorCodes

from tests.transport.feeds import message
from tests.transport.tls_bench import LARGE_BYTES, MemorySource, until
from zerocopy.core import counters as slots
from zerocopy.core.errors import DataChangedError
from zerocopy.core.http.stream import HEARTBEAT, End
from zerocopy.core.plan import Segment
from zerocopy.transport.scheduler import SendScheduler
from zerocopy.transport.streaming import ENCRYPTED_COST_BYTES, MESSAGE_COST_BYTES

if TYPE_CHECKING:
    from pathlib import Path

from tests.transport.http2.livebench import LARGE, Client, Scene, live


class Broken(MemorySource):
    """Bytes that cannot be read any more."""

    def scatter(self, offset: int, targets: Any) -> None:  # noqa: ARG002
        """Never."""
        raise DataChangedError("it was replaced")


def test_stream_brings_messages_in_order_and_ends(tmp_path: Path) -> None:
    """Head without a length, messages, a heartbeat, END_STREAM; the connection goes on."""

    async def scenario(scene: Scene) -> None:
        client = await scene.connect()
        stream_id, feed = await scene.subscribe(client)
        assert client.heads[stream_id][b"content-type"] == b"text/event-stream"
        assert b"content-length" not in client.heads[stream_id]
        feed.say(message(b"data: 1\n\n"))
        await until(lambda: client.content[stream_id] == b"data: 1\n\n")
        feed.say(HEARTBEAT, message(b"data: 2\n\n"), End(1000, ""))
        await until(lambda: stream_id in client.ended)
        assert client.content[stream_id] == b"data: 1\n\n:\n\ndata: 2\n\n"
        small = client.ask(b"/small")
        await until(lambda: small in client.ended)
        assert scene.logged[0][0].nbytes == len(client.content[stream_id])
        assert scene.logged[0][1] == 0
        assert scene.bench.counters[slots.TRANSFERS_ABORTED] == 0

    live(tmp_path, scenario)


def test_small_message_is_charged_what_its_encryption_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slices of a fan-out are bounded by charges, so that others wait as long as on HTTP/1.1."""

    async def scenario(scene: Scene) -> None:
        client = await scene.connect()
        stream_id, feed = await scene.subscribe(client)
        charged: list[int] = []
        monkeypatch.setattr(SendScheduler, "spend", lambda _self, nbytes: charged.append(nbytes))
        feed.say(message(b"data: 1\n\n"))
        await until(lambda: client.content[stream_id] == b"data: 1\n\n")
        assert ENCRYPTED_COST_BYTES in charged
        assert ENCRYPTED_COST_BYTES > MESSAGE_COST_BYTES

    live(tmp_path, scenario)


def test_head_gets_the_fields_alone(tmp_path: Path) -> None:
    """HEAD: END_STREAM with the fields, and the feed is closed before it has begun."""

    async def scenario(scene: Scene) -> None:
        client = await scene.connect()
        stream_id = client.ask(method=b"HEAD")
        await until(lambda: stream_id in client.ended)
        assert client.content[stream_id] == b""
        assert scene.handler.feeds[0].on_ready is None

    live(tmp_path, scenario)


@pytest.mark.parametrize("window", [1, pytest.param(100, marks=pytest.mark.slow), 65_535, 1 << 20])
def test_messages_of_any_size_come_whole_through_any_window(tmp_path: Path, window: int) -> None:
    """Small ones, ones of many frames, and segments, with a download beside them."""

    async def scenario(scene: Scene) -> None:
        client = await scene.connect(initial_window=window)
        stream_id, feed = await scene.subscribe(client)
        beside = client.ask(b"/large") if window > 100 else 0
        size = {1: 200, 100: 2_000}.get(window, 300_000)
        said = [b"a" * 10, LARGE[:size], b"b" * 10, LARGE[7 : 7 + size // 2]]
        segment = Segment(MemorySource(size), 0, size)
        feed.say(*map(message, said), message(b"header", segment), message(b"last"))
        feed.say(End(1000, ""))
        await until(lambda: stream_id in client.ended)
        assert client.content[stream_id] == b"".join(said) + b"header" + bytes(size) + b"last"
        if beside:
            await until(lambda: beside in client.ended)
            assert len(client.content[beside]) == LARGE_BYTES + len(b"header\n")

    live(tmp_path, scenario)


@pytest.mark.parametrize("of_connection", [False, True])
def test_nothing_is_pulled_while_the_window_is_shut(tmp_path: Path, *, of_connection: bool) -> None:
    """One message may be under way; the others stay in the feed until a WINDOW_UPDATE."""

    async def scenario(scene: Scene) -> None:
        client = await scene.connect(initial_window=1 << 20 if of_connection else 1_000)
        stream_id, feed = await scene.subscribe(client)
        client.reads = False
        said = [b"%03d" % number * 200 for number in range(200)]
        feed.say(*map(message, said))
        window = 65_535 if of_connection else 1_000
        await until(lambda: len(client.content[stream_id]) == window)
        pulled = feed.pulled
        assert pulled <= window // 600 + 2
        other = client.ask(b"/small") if not of_connection else 0
        if other:  # its stream has a window of its own
            await until(lambda: len(client.content[other]) == 1_000)
        assert feed.pulled == pulled
        whole = b"".join(said)
        client.open(len(whole))
        client.open(len(whole), stream_id)
        await until(lambda: client.content[stream_id] == whole)

    live(tmp_path, scenario)


def test_nothing_is_pulled_for_a_client_that_does_not_read(tmp_path: Path) -> None:
    """Its windows are open, its socket is full: what is kept is less than a turn."""

    async def scenario(scene: Scene) -> None:
        client = await scene.connect(initial_window=(1 << 31) - 1)
        client.open((1 << 31) - 1 - 65_535)
        stream_id, feed = await scene.subscribe(client)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        said = [b"%05d" % number * 1_000 for number in range(400)]
        feed.say(*map(message, said))
        [wire] = scene.bench.server._http2
        await until(lambda: wire.unsent_bytes > 0)
        pulled = feed.pulled
        for _ in range(50):
            await asyncio.sleep(0)
        assert feed.pulled == pulled < len(said)
        assert wire.unsent_bytes < 20_000
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await until(lambda: len(client.content[stream_id]) == 5_000 * 400)
        assert client.content[stream_id] == b"".join(said)

    live(tmp_path, scenario)


@pytest.mark.parametrize("at", ["idle", "shut", "large"])
@pytest.mark.parametrize("how", ["reset", "abort"])
def test_client_leaves(tmp_path: Path, at: str, how: str) -> None:
    """Wherever the stream stands: its feed is closed at once; between messages none is cut off."""

    async def scenario(scene: Scene) -> None:
        client = await scene.connect(initial_window=1_000)
        stream_id, feed = await scene.subscribe(client)
        client.reads = False
        if at != "idle":
            size = 1_000 if at == "shut" else 500_000
            feed.say(message(bytes(size)), message(b"never"))
            await until(lambda: len(client.content[stream_id]) == 1_000)
        if how == "reset":
            client.h2.reset_stream(stream_id, ErrorCodes.CANCEL)
            client.flush()
        else:
            await client.close()
        await until(lambda: feed.closed == 1)
        assert scene.bench.counters[slots.TRANSFERS_ABORTED] == (at != "idle")

    live(tmp_path, scenario)


@pytest.mark.parametrize("idle_s", [0.0, 1.0])
def test_drain_ends_streams_behind_their_whole_message(tmp_path: Path, idle_s: float) -> None:
    """GOAWAY comes before the ends, so that no client asks again on the same connection."""

    async def scenario(scene: Scene) -> None:
        client = await scene.connect(initial_window=1_000)
        idle, quiet = await scene.subscribe(client)
        busy, feed = await scene.subscribe(client)
        client.reads = False
        feed.say(message(LARGE), message(b"never"))
        await until(lambda: len(client.content[busy]) == 1_000)
        draining = asyncio.create_task(scene.bench.server.drain())
        await until(lambda: idle in client.ended)
        assert client.is_left
        assert client.content[idle] == b""
        assert quiet.closed == 1
        client.open(len(LARGE))
        client.open(len(LARGE), busy)
        await until(lambda: busy in client.ended)
        assert client.content[busy] == LARGE
        await client.close()
        await draining

    live(tmp_path, scenario, drain_idle_s=idle_s)


def test_idle_stream_is_never_reset_and_a_shut_one_is(tmp_path: Path) -> None:
    """Where its feed has nothing to say, time does not count; once it has, it does."""

    async def scenario(scene: Scene) -> None:
        client = await scene.connect(initial_window=1_000)
        idle, _ = await scene.subscribe(client)
        shut, feed = await scene.subscribe(client)
        client.reads = False
        feed.say(message(bytes(1_000)))
        await until(lambda: len(client.content[shut]) == 1_000)
        scene.turn(400)  # ten times write_progress_s
        await asyncio.sleep(0)
        assert client.resets == {}
        feed.say(message(b"more"))
        feed.say(message(b"never"))
        await asyncio.sleep(0.01)
        assert feed.items, "there is no room for it"
        scene.turn(20)
        await asyncio.sleep(0.01)
        assert client.resets == {}
        scene.turn(60)
        await until(lambda: shut in client.resets)
        assert client.resets == {shut: ErrorCodes.CANCEL}
        assert feed.closed == 1
        assert idle not in client.ended

    live(tmp_path, scenario)


def test_feed_that_fails_resets_its_stream_alone(tmp_path: Path) -> None:
    """Faults of the service and of files are logged; the streams beside it go on."""

    async def scenario(scene: Scene) -> None:
        client = await scene.connect()
        fine, good = await scene.subscribe(client)
        failing = [await scene.subscribe(client) for _ in range(3)]
        failing[0][1].say(ZeroDivisionError())
        failing[1][1].say(DataChangedError("it was replaced"))
        failing[2][1].say(message(b"header", Segment(Broken(1_000), 0, 1_000)))
        await until(lambda: len(client.resets) == 3)
        assert set(client.resets.values()) == {ErrorCodes.INTERNAL_ERROR}
        good.say(message(b"fine"))
        await until(lambda: client.content[fine] == b"fine")

    live(tmp_path, scenario, faults=3)


def test_stream_that_is_reset_while_it_is_planned_closes_its_feed(tmp_path: Path) -> None:
    """The feed was made, and nobody wants it."""

    async def scenario(scene: Scene) -> None:
        scene.handler.gate.clear()
        client = await scene.connect()
        stream_id = client.ask()
        await until(lambda: scene.handler.answering == 1)
        scene.handler.gate.set()
        client.h2.reset_stream(stream_id)
        client.flush()
        await until(lambda: scene.bench.counters[slots.STREAMS] == 0)

    live(tmp_path, scenario)


def test_stream_is_no_request_in_flight_and_no_sharer(tmp_path: Path) -> None:
    """It counts as answered with its head; a download beside it has whole turns."""

    async def scenario(scene: Scene) -> None:
        client = await scene.connect()
        await scene.subscribe(client)
        assert scene.bench.counters[slots.REQUESTS_IN_FLIGHT] == 0
        assert scene.bench.counters[slots.STREAMS] == 1
        [wire] = scene.bench.server._http2
        assert wire._http2 is not None
        assert wire._http2._budget() == scene.bench.server.context.scheduler.turn_bytes
        assert scene.logged == []

    live(tmp_path, scenario)


def test_many_streams_get_the_same_message(tmp_path: Path) -> None:
    """Ninety on each of three connections; the content is one object for all."""

    async def scenario(scene: Scene) -> None:
        clients = [await scene.connect() for _ in range(3)]
        subscribed: list[tuple[Client, int]] = []
        for client in clients:
            subscribed += [(client, (await scene.subscribe(client))[0]) for _ in range(90)]
        same = message(b"x" * 100)
        for feed in scene.handler.feeds:
            feed.say(same)
        await until(partial(_has_all, subscribed, same.content))

    live(tmp_path, scenario)


def _has_all(subscribed: list[tuple[Client, int]], content: bytes) -> bool:
    return all(client.content[stream_id] == content for client, stream_id in subscribed)
