"""One simulated run of live streams over HTTP/2 from one seed: as live_run.py, on TLS connections.

Owns the server of such a world: the real listener with everything above OpenSSL, whose handshakes
are over at once. Channel, wire, connection, feeds, WebSockets, service and storage are real.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from tests.simulation import tls
from tests.simulation.http2_build import DoneHandshake, constants
from tests.simulation.live_http2_client import Http2Client, Subscriber
from tests.simulation.live_run import COLUMNS, LiveOutcome, LiveWorld, play_seed, shape_of
from tests.simulation.world import HEADER_S, IDLE_S, REQUEST_LIMITS, WRITE_S
from zerocopy.core import counters as slots
from zerocopy.transport.admission import Admission
from zerocopy.transport.asgi import AsgiApp
from zerocopy.transport.http2.context import Http2Limits
from zerocopy.transport.http2.errors import JudgedConnection
from zerocopy.transport.tls.server import TlsServer

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Sequence

    from tests.simulation.client import Client
    from tests.simulation.runs import Outcome
    from tests.simulation.world import Shape
    from zerocopy.transport.admission import Seat

RUNS = 16
"""Runs that every change has to pass."""

DRAIN_S = 1.0

WINDOWS = (100, 2_000, 65_535)
"""Of a connection when it begins: as if other responses had taken the rest of it."""


class Http2Outcome(LiveOutcome):
    """What a run came to."""

    test = "tests/simulation/test_live_http2_simulation.py"


class InOrder(dict[Any, None]):
    """A set that is gone through in the order of its members' coming, in each run the same."""

    def add(self, member: Any) -> None:
        """As set.add."""
        self[member] = None

    def discard(self, member: Any) -> None:
        """As set.discard."""
        self.pop(member, None)


class SecuredServer(TlsServer):
    """The listener, whose clients have shaken hands before they connect."""

    rng: Random

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self._http2 = cast("Any", InOrder())

    def start(self, listeners: Sequence[socket.socket], *_: Any, **__: Any) -> None:
        """Accept."""
        self._acceptor.start(listeners)

    def _open(self, sock: socket.socket, seat: Seat) -> None:
        secured = tls.TlsSocket(cast("tls.End", sock), self.rng)
        self._on_secured(cast("Any", DoneHandshake(seat)), cast("Any", secured))

    async def drain(self, _deadline_s: float = DRAIN_S) -> None:
        """With the deadline of its limits."""
        await super().drain()

    @property
    def connections(self) -> SimpleNamespace:
        """What `leaks` looks at."""
        return SimpleNamespace(_open=self._http2, _tasks=self.http1._tasks)


class Http2LiveWorld(LiveWorld):
    """A world whose clients speak HTTP/2."""

    outcome = Http2Outcome
    haste = 0.05

    def __init__(self, seed: int, shape: Shape, window: int) -> None:
        self.window = window
        self.is_restless = True
        super().__init__(seed, shape)

    def _server(self) -> Any:
        app = AsgiApp(
            handler=self.service,
            limits=REQUEST_LIMITS,
            content_read_s=5.0,
            read_ahead_bytes_max=self.shape.read_ahead_bytes_max,
            counters=self.counters,
            on_transfer_failed=lambda error, _: self.transfer_errors.append(error),
        )
        server = SecuredServer(
            loop=self.loop.asyncio,
            handler=self.service,
            app=app,
            limits=Http2Limits(
                streams_max=100,
                control_frames_max=100_000,
                turn_bytes_max=self.shape.turn_bytes_max,
                read_ahead_bytes_max=self.shape.read_ahead_bytes_max,
                open_files_max=self.shape.open_files_max,
                header_read_s=HEADER_S,
                idle_s=IDLE_S,
                write_progress_s=WRITE_S,
                drain_deadline_s=DRAIN_S,
                drain_idle_s=self.rng.choice((0.0, 0.3)),
                request=REQUEST_LIMITS,
            ),
            admission=Admission(
                connections_max=100, connections_per_address_max=0, counters=self.counters
            ),
            counters=self.counters,
            on_transfer_failed=lambda error, _: self.transfer_errors.append(error),
            on_connection_failed=self.connection_errors.append,
        )
        server.rng = self.rng
        return server

    def join(self) -> None:
        """One connection more, with some readers."""
        rng = self.rng
        client = Http2Client(
            self, is_lazy=rng.random() < 0.3, leaves=rng.choice([0.0, 0.0, 0.0, 0.01])
        )
        for _ in range(rng.choice([1, 2, 4])):
            reader = Subscriber(
                client,
                rng.choice(COLUMNS),
                is_websocket=rng.random() < 0.5,
                talks=rng.random() < 0.5,
                leaves=rng.choice([0.0, 0.0, 0.02]),
            )
            client.subscribers.append(reader)
            self.readers.append(reader)
        self.clients.append(cast("Client", client))

    def finish(self) -> None:
        """Windows are opened wide from now on."""
        super().finish()
        self.is_restless = False
        for client in cast("list[Http2Client]", self.clients):
            client.calm()

    def rest(self) -> None:
        """As ever; what ended by an error may be in a cycle with its frames, and hold files."""
        super().rest()
        if self.kernel.count_files() != len(self.open_files):
            gc.collect()

    def judge(self) -> list[str]:
        """What is wrong in the end."""
        wrong = super().judge()
        left = self.counters[slots.CONNECTIONS + slots.TLS]
        return wrong + ([f"{left} connections counted, none open"] if left else [])


def run(seed: int) -> Outcome:
    """Play the world of `seed` to its end."""
    rng = Random(f"live http2 {seed}")
    shape = replace(shape_of(rng), tls_piece_bytes=rng.choice(tls.PIECE_BYTES))
    window, begin = rng.choice(WINDOWS), JudgedConnection.__init__

    def begin_narrow(self: JudgedConnection, *config: Any) -> None:
        begin(self, *config)
        self.outbound_flow_control_window = window

    # When cycles are collected, and files closed with them, is up to what else the process does.
    gc.disable()
    try:
        with constants(rng), tls.changed([(JudgedConnection, "__init__", begin_narrow)]):
            return play_seed(Http2LiveWorld(seed, shape, window), rng)
    finally:
        gc.enable()


def runs(seeds: Iterable[int]) -> list[Outcome]:
    """Those of the runs in which something was wrong."""
    return [outcome for outcome in map(run, seeds) if outcome.wrong]
