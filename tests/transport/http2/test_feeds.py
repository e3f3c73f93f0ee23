"""zerocopy.transport.http2.feeds: endless responses on streams, under flow control."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes

from tests.h2client import GOAWAY
from tests.tls import trusting
from tests.transport.feeds import FakeFeed, message
from tests.transport.tls_bench import LARGE_BYTES, BenchHandler, MemorySource, TlsBench, run, until
from zerocopy.core import counters as slots
from zerocopy.core.errors import DataChangedError
from zerocopy.core.http.messages import Request, Response
from zerocopy.core.http.stream import HEARTBEAT, End
from zerocopy.core.plan import Segment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

LARGE = os.urandom(1_000_000)


class Broken(MemorySource):
    """Bytes that cannot be read any more."""

    def scatter(self, offset: int, targets: Any) -> None:  # noqa: ARG002
        """Never."""
        raise DataChangedError("it was replaced")


class LiveHandler(BenchHandler):
    """Answers targets with `live` in them with a feed of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.feeds: list[FakeFeed] = []

    def respond_now(self, request: Request, times: int = 1) -> Response | None:
        """All but those."""
        return None if b"live" in request.target else super().respond_now(request, times)

    def _response(self, request: Request) -> Response:
        if b"live" not in request.target:
            return super()._response(request)
        self.feeds.append(FakeFeed())
        return Response(200, ((b"Content-Type", b"text/event-stream"),), feed=self.feeds[-1])


class Client:
    """An HTTP/2 client in the bench's own event loop; gives windows back where `reads`."""

    def __init__(self, bench: TlsBench, *, initial_window: int) -> None:
        self._bench = bench
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self.h2.local_settings.initial_window_size = initial_window
        self.h2.local_settings.acknowledge()
        self.content: defaultdict[int, bytes] = defaultdict(bytes)
        self.heads: dict[int, dict[bytes, bytes]] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.reads = True
        self.is_left = False  # GOAWAY came
        self._initial_window = initial_window

    async def connect(self) -> None:
        """Shake hands, and read from now on."""
        context = trusting()
        context.set_alpn_protocols(["h2"])
        self.reader, self.writer = await asyncio.open_connection(
            *self._bench.address, ssl=context, server_hostname="localhost", limit=1 << 16
        )
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: self._initial_window})
        self.flush()
        self.reading = asyncio.create_task(self._read())

    def flush(self) -> None:
        """Send what h2 has."""
        self.writer.write(self.h2.data_to_send())

    def ask(self, target: bytes = b"/api/live", method: bytes = b"GET") -> int:
        """Send a request. Returns its stream."""
        stream_id = self.h2.get_next_available_stream_id()
        fields = [(b":method", method), (b":scheme", b"https"), (b":path", target)]
        self.h2.send_headers(stream_id, [*fields, (b":authority", b"a")], end_stream=True)
        self.flush()
        return stream_id

    def open(self, nbytes: int, stream_id: int | None = None) -> None:
        """A WINDOW_UPDATE."""
        self.h2.increment_flow_control_window(nbytes, stream_id)
        self.flush()

    async def _read(self) -> None:
        kept = b""
        while data := await self.reader.read(1 << 16):
            data, kept = self._without_goaway(kept + data)
            for event in self.h2.receive_data(data):
                if isinstance(event, DataReceived):
                    self.content[event.stream_id] += event.data
                    if self.reads:
                        self.h2.acknowledge_received_data(
                            event.flow_controlled_length, event.stream_id
                        )
                elif isinstance(event, ResponseReceived):
                    self.heads[event.stream_id] = dict(event.headers)
                elif isinstance(event, StreamEnded):
                    self.ended.add(event.stream_id)
                elif isinstance(event, StreamReset):
                    self.resets[event.stream_id] = event.error_code
            self.flush()

    def _without_goaway(self, data: bytes) -> tuple[bytes, bytes]:
        """Whole frames, and what is left. h2 would end the streams that go on behind a GOAWAY."""
        frames, at = b"", 0
        while len(data) >= at + 9:
            end = at + 9 + int.from_bytes(data[at : at + 3], "big")
            if end > len(data):
                break
            if data[at + 3] == GOAWAY:
                self.is_left = True
            else:
                frames += data[at:end]
            at = end
        return frames, data[at:]

    async def close(self) -> None:
        """Leave at once."""
        self.writer.transport.abort()
        await asyncio.gather(self.reading, return_exceptions=True)


class Scene:
    """A bench, its handler, and a client that has connected."""

    def __init__(self, directory: Path, **limits: Any) -> None:
        self.handler = LiveHandler()
        self.bench = TlsBench(directory, self.handler, **limits)
        self.logged: list[tuple[Response, int]] = []
        self.bench.server.context.metrics.access = lambda _, pending, __: self.logged.append(
            (pending.response, pending.left_bytes)
        )
        self.clients: list[Client] = []

    async def connect(self, *, initial_window: int = 65_535) -> Client:
        """One more client."""
        client = Client(self.bench, initial_window=initial_window)
        await client.connect()
        self.clients.append(client)
        return client

    async def subscribe(self, client: Client) -> tuple[int, FakeFeed]:
        """A stream whose head has come, and its feed."""
        count = len(self.handler.feeds)
        stream_id = client.ask()
        await until(lambda: stream_id in client.heads and len(self.handler.feeds) > count)
        return stream_id, self.handler.feeds[-1]

    def turn(self, ticks: int) -> None:
        """Let time pass."""
        for _ in range(ticks):
            self.bench.server.context.wheel.advance()


def live(
    directory: Path, scenario: Callable[[Scene], Awaitable[None]], faults: int = 0, **limits: Any
) -> None:
    """Run a scenario; each feed is closed once, and nothing is held in the end."""

    async def main() -> None:
        scene = Scene(directory, **limits)
        await scene.bench.start()
        await scenario(scene)
        for client in scene.clients:
            await client.close()
        await scene.bench.until_nothing_is_held()
        assert [feed.closed for feed in scene.handler.feeds] == [1] * len(scene.handler.feeds)
        assert len(scene.bench.failures) == faults, scene.bench.failures
        if not scene.bench.server.context.draining:
            await scene.bench.stop()

    run(main)


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


def test_head_gets_the_fields_alone(tmp_path: Path) -> None:
    """HEAD: END_STREAM with the fields, and the feed is closed before it has begun."""

    async def scenario(scene: Scene) -> None:
        client = await scene.connect()
        stream_id = client.ask(method=b"HEAD")
        await until(lambda: stream_id in client.ended)
        assert client.content[stream_id] == b""
        assert scene.handler.feeds[0].on_ready is None

    live(tmp_path, scenario)


@pytest.mark.parametrize("window", [1, 100, 65_535, 1 << 20])
def test_messages_of_any_size_come_whole_through_any_window(tmp_path: Path, window: int) -> None:
    """Small ones, ones of many frames, and segments, with a download beside them."""

    async def scenario(scene: Scene) -> None:
        client = await scene.connect(initial_window=window)
        stream_id, feed = await scene.subscribe(client)
        beside = client.ask(b"/large") if window > 100 else 0
        size = 2_000 if window <= 100 else 300_000
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
