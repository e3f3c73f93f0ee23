"""A server, its clients, its threads and its data directory, in one thread and from one seed.

Owns the composition and the schedule: who acts next. Between any two system calls of anybody,
others may act: files change, clients send or leave, another planning thread runs, and while a
thread waits in a call the event loop goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from structlog.testing import capture_logs

from tests.computing import computed
from tests.living import live
from tests.simulation import oracle, tls
from tests.simulation.client import Client, Manners
from tests.simulation.clock import Clock
from tests.simulation.faults import NoFaults
from tests.simulation.fetched import Fetched
from tests.simulation.filesystem import FileSystem
from tests.simulation.kernel import FakeFcntl, FakeOs, FakeSockets, Kernel
from tests.simulation.loop import Loop
from tests.simulation.pagecache import FakePageCache
from tests.simulation.recorder import Recorder
from tests.simulation.requests import FIRST_S, ROOT
from tests.simulation.sockets import Listener
from tests.storage.trees import DAY_S
from zerocopy.core import window
from zerocopy.core.counters import SLOTS
from zerocopy.core.layout import Dtypes
from zerocopy.core.settling import Settling
from zerocopy.service import planned
from zerocopy.service import service as service_module
from zerocopy.service.service import Service
from zerocopy.storage import catalog, dayfile, planner, pread, proof, tree
from zerocopy.storage.dayfile import OpenFiles
from zerocopy.storage.live import days, following, watching
from zerocopy.storage.planner import Planner
from zerocopy.storage.symbols import walk as symbols
from zerocopy.storage.symbols.index import SymbolIndex
from zerocopy.transport import channel, sendfile
from zerocopy.transport import listener as acceptor
from zerocopy.transport.admission import Admission
from zerocopy.transport.context import ConnectionLimits
from zerocopy.transport.http1 import server as http1_server
from zerocopy.transport.http1.server import Http1Server
from zerocopy.transport.limits import RequestLimits
from zerocopy.transport.tls import server as tls_server
from zerocopy.transport.tls.channel import TlsChannel

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Executor

    from tests.simulation.filesystem import Node
    from tests.simulation.requests import Ask
    from tests.simulation.sockets import Socket
    from zerocopy.service.live.live import Live

NOW_S = FIRST_S + 3 * DAY_S + DAY_S // 2
"""Noon of the last day of the tree."""

STEPS_MAX = 20_000
NESTED_MAX = 3
READING = frozenset({"sendfile", "pread", "close"})
"""Calls between the look at a file that is reopened, or kept, and its bytes."""
IDLE_S, HEADER_S, WRITE_S = 2.5, 1.0, 1.5

REQUEST_LIMITS = RequestLimits(
    target_bytes_max=1_000,
    field_bytes_max=1_000,
    head_bytes_max=2_000,
    fields_max=20,
    content_bytes_max=100,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes and bounds of one world, and how restless it is."""

    small_answer_bytes_max: int = 700
    turn_bytes_max: int = 700
    open_files_max: int = 8
    room: int = 2_048
    read_ahead_bytes_max: int = 500
    cold: float = 0.0  # how many pages are missing
    evicts: bool = False  # whether pages go again
    tiny_bytes: int = 0  # segments up to so many bytes are gathered
    tiny_run: int = 1
    gathered_bytes_max: int = 100
    connections_max: int = 100
    connections_per_address_max: int = 0
    requests_in_flight_max: int = 100
    tls_piece_bytes: int = 0  # at most in one call of OpenSSL; 0: a plain socket
    changes: int = 0
    bustle: float = 0.1  # how often others act between two calls
    short_counts: float = 0.2

    @property
    def crowded(self) -> bool:
        """Whether a bound may be reached."""
        return (
            self.connections_max < 10
            or self.connections_per_address_max > 0
            or self.requests_in_flight_max < 10
        )


def _secured(rng: random.Random, loop: asyncio.AbstractEventLoop, sock: Socket) -> TlsChannel:
    """The channel of an accepted socket whose client spoke TLS."""
    return TlsChannel(loop, cast("ssl.SSLSocket", tls.TlsSocket(sock, rng)))


_SYSTEM_USERS = (
    *(tree, catalog, dayfile, pread, planner, proof, symbols, sendfile),
    *(days, following, watching),
)
_TIME_USERS = (service_module, planned, catalog, planner, http1_server, tls_server, following)


@contextlib.contextmanager
def faked(kernel: Kernel, shape: Shape) -> Iterator[None]:
    """The package's modules call `kernel` in place of the operating system, and have its sizes."""
    fake_os = FakeOs(kernel)
    changes: list[tuple[Any, str, Any]] = [
        *((module, "os", fake_os) for module in _SYSTEM_USERS),
        *((m, "time", kernel.clock) for m in _TIME_USERS),
        (channel, "fcntl", FakeFcntl(kernel)),
        (dayfile, "Fetched", Fetched),
        (acceptor, "socket", FakeSockets(kernel)),
        (window, "TINY_BYTES", shape.tiny_bytes),
        (window, "TINY_RUN", shape.tiny_run),
        (window, "GATHERED_BYTES_MAX", shape.gathered_bytes_max),
    ]
    if shape.tls_piece_bytes:
        changes += tls.changes(shape.tls_piece_bytes)
        changes.append((http1_server, "PlainChannel", partial(_secured, kernel.rng)))
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    running = asyncio._get_running_loop()
    for module, name, value in changes:
        setattr(module, name, value)
    try:
        with capture_logs():
            yield
    finally:
        Fetched.forget_all()
        for module, name, value in before:
            setattr(module, name, value)
        asyncio._set_running_loop(running)


class World:
    """One run; `faked` must be in force."""

    def __init__(self, seed: object, shape: Shape) -> None:
        self.rng = random.Random(f"zerocopy {seed}")
        self.shape = shape
        self.clock = Clock((NOW_S - 3_600) * 1_000_000_000)
        self.files = FileSystem(self.clock)
        self.recorder = Recorder(self.rng, self.files)
        with self.files.as_one_change():
            self.recorder.make()
        if self.rng.random() < 0.9:  # else the tree is too young for its stamps to prove anything
            self.clock.advance_to(NOW_S * 1_000_000_000)
        self.recorder.begun_ns = self.clock.now_ns
        self.kernel = Kernel(self.clock, self.files, self.rng)
        self.kernel.short_counts = shape.short_counts
        self.loop = Loop(self.kernel)
        self.counters = [0] * len(SLOTS)
        self.transfer_errors: list[Exception] = []
        self.connection_errors: list[BaseException] = []
        self.cache = self.kernel.cache = FakePageCache(
            self.rng,
            cold=shape.cold,
            evicts=shape.evicts,
            identify=self._identify,
            enter=self.kernel.enter,
            read=self._read,
        )
        self.open_files = OpenFiles(ROOT, shape.open_files_max, residency=self.cache)
        self.service = self._service()
        self.server = self._server()
        self.listener = Listener(self.kernel)
        self.clients: list[Client] = []
        self.first_states = len(self.files.states)
        self.steps = 0
        self._changes_left = shape.changes
        self._depth = 0
        self._amid_reading = False
        self.kernel.between = self._between

    def _service(self) -> Service:
        shape = self.shape
        planner = Planner(
            root=ROOT,
            files=self.open_files,
            dtypes=Dtypes(oracle.DTYPES),
            settling=Settling(600, 7),
            days_max=100,
            segments_max=100,
            small_answer_bytes_max=shape.small_answer_bytes_max,
        )
        return Service(
            root=ROOT,
            planner=planner,
            files=self.open_files,
            symbols=SymbolIndex(ROOT, 0, lambda _sentence: None),
            executor=cast("Executor", None),  # the loop has the threads
            readers=cast("Executor", None),
            readers_max=2,
            counters=self.counters,
            requests_in_flight_max=shape.requests_in_flight_max,
            plan_cache_bytes_max=1 << 20,
            columns_max=8,
            closed_max_age_s=60,
            computed=computed(planner, self.open_files),
            live=self._live(),
        )

    def _live(self) -> Live:
        return live(self.open_files, cast("Executor", None), self.counters)

    def _server(self) -> Http1Server:
        return Http1Server(
            loop=self.loop.asyncio,
            handler=self.service,
            limits=ConnectionLimits(
                turn_bytes_max=self.shape.turn_bytes_max,
                read_ahead_bytes_max=self.shape.read_ahead_bytes_max,
                open_files_max=self.shape.open_files_max,
                header_read_s=HEADER_S,
                idle_s=IDLE_S,
                write_progress_s=WRITE_S,
                request=REQUEST_LIMITS,
            ),
            admission=Admission(
                connections_max=self.shape.connections_max,
                connections_per_address_max=self.shape.connections_per_address_max,
                counters=self.counters,
            ),
            counters=self.counters,
            on_transfer_failed=lambda error, _: self.transfer_errors.append(error),
            on_connection_failed=self.connection_errors.append,
        )

    def _identify(self, fd: int) -> tuple[Node, int]:
        node = self.kernel._file(fd).node
        return node, node.size

    def _read(self, fd: int, count: int, offset: int) -> bytes:
        return FakeOs(self.kernel).pread(fd, count, offset)

    def connect(self, asks: Sequence[Ask], manners: Manners = Manners.HONEST) -> Client:
        """A new client with a script."""
        room = self.rng.choice([self.shape.room, self.shape.room // 4, self.shape.room * 4])
        sock = self.kernel.connect(self.listener, room)
        client = Client(self.rng, self.clock, sock, asks, manners)
        self.clients.append(client)
        return client

    def begin(self) -> None:
        """Listen, in the faked system."""
        asyncio._set_running_loop(self.loop.asyncio)
        self.server.start([cast("socket.socket", self.listener)])

    def calm(self) -> None:
        """Nothing changes, nothing fails, nobody interrupts from now on."""
        self._changes_left = 0
        self.kernel.faults = NoFaults()
        self.kernel.struck.clear()
        self.first_states = len(self.files.states)

    # ---- the schedule

    def run(self) -> None:
        """Until every client is done."""
        while not all(client.done for client in self.clients):
            self._step()

    def _step(self) -> None:
        """One thing happens; where nothing can, time passes until something does."""
        self.steps += 1
        assert self.steps < STEPS_MAX, "the world goes on for ever"
        rng, loop = self.rng, self.loop
        actors = [client for client in self.clients if client.can_act()]
        choices = [
            (4 if loop.has_work() else 0),
            (2 if loop.jobs else 0),
            (2 if loop.finished else 0),
            (4 if actors else 0),
        ]
        if not any(choices):
            self._pass_time()
            return
        choices.append(1 if self._changes_left else 0)
        [chosen] = rng.choices(range(5), choices)
        if chosen == 0:
            loop.turn()
        elif chosen == 1:
            self._run_job()
        elif chosen == 2:
            loop.deliver(rng.choice(loop.finished))
        elif chosen == 3:
            rng.choice(actors).act()
        else:
            self._change()

    def _pass_time(self) -> None:
        times = [
            client.wakes_ns
            for client in self.clients
            if not client.done and client.wakes_ns > self.clock.now_ns
        ]
        due = self.loop.next_timer_ns()
        assert due is not None, "the server ticks"
        self.clock.advance_to(min([due, *times]))

    def _run_job(self) -> None:
        self.loop.run_job(self.rng.choice(self.loop.jobs))

    def _change(self) -> None:
        self._changes_left -= 1
        # Changes come apart in time, mostly: some share one tick of the kernel's clock.
        self.clock.now_ns += self.rng.choice([0, 1_000_000, 10_000_000, 200_000_000])
        self.recorder.recent = self.kernel.recent
        self.kernel.note(self.recorder.change(amid_reading=self._amid_reading))

    def _between(self, name: str = "") -> None:
        """Between two steps of anybody, somebody else may act; `name` is the call that comes."""
        rng = self.rng
        # Few calls send, many plan: changes would be over before the first byte leaves.
        sends = name == "sendfile"
        if rng.random() >= self.shape.bustle * (4 if sends else 1) or self._depth >= NESTED_MAX:
            return
        loop = self.loop
        self._depth += 1
        was_amid = self._amid_reading
        self._amid_reading = was_amid or name in READING
        try:
            kind = 0 if sends else rng.randrange(4)
            if kind == 0 and self._changes_left:
                self._change()
            elif kind == 1 and loop.jobs:
                self._run_job()
            elif kind == 2 and not loop.in_turn and loop.has_work():
                loop.turn()
            else:
                actors = [client for client in self.clients if client.can_act()]
                if actors:
                    rng.choice(actors).act()
        finally:
            self._depth -= 1
            self._amid_reading = was_amid

    # ---- the end

    def settle(self) -> None:
        """Let everything that was begun come to its end, without faults."""
        while self._settle_once():
            pass

    def _settle_once(self) -> bool:
        self.steps += 1
        assert self.steps < STEPS_MAX, "the server does not come to rest"
        loop = self.loop
        if loop.jobs:
            self._run_job()
        elif loop.finished:
            loop.deliver(loop.finished[0])
        elif loop.has_work():
            loop.turn()
        else:
            return False
        return True

    def rest(self) -> None:
        """Let all deadlines pass: whoever is left alone is closed by then."""
        horizon_ns = self.clock.now_ns + int((IDLE_S + HEADER_S + WRITE_S + 3) * 1e9)
        while self.clock.now_ns < horizon_ns:
            self.settle()
            self._pass_time()

    def stop(self) -> None:
        """Drain, then close what is kept."""
        task = self.loop.create_task(self.server.drain(1.0))
        while not task.done():
            if not self._settle_once():
                self._pass_time()
        self.settle()
        self.open_files.close()
