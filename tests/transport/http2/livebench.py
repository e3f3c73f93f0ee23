"""A TLS listener whose handler answers with feeds, and an HTTP/2 client of theirs."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes

from tests.h2client import GOAWAY
from tests.tls import trusting
from tests.transport.feeds import FakeFeed
from tests.transport.tls_bench import BenchHandler, TlsBench, run, until
from zerocopy.core.http.messages import Request, Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

LARGE = os.urandom(1_000_000)


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
