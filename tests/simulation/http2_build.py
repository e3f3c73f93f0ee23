"""The server of a run: real service, storage, core and connection, with small bounds.

Owns how the parts are put together and what a seed chooses of them: bounds of config.toml and the
constants of the modules, some so small that every run meets them.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from tests.computing import computed
from tests.living import live
from tests.simulation.http2_wire import TappedWire
from tests.simulation.pagecache import FakePageCache
from tests.storage.trees import DTYPES
from zerocopy.core import window as window_module
from zerocopy.core.counters import SLOTS
from zerocopy.core.layout import Dtypes
from zerocopy.core.settling import Settling
from zerocopy.service import service as service_module
from zerocopy.service.service import Service
from zerocopy.storage import planner as planner_module
from zerocopy.storage.dayfile import OpenFiles
from zerocopy.storage.libc.memlock import MemoryLocks
from zerocopy.storage.mapping import MappedFiles
from zerocopy.storage.planner import Planner
from zerocopy.storage.symbols.index import SymbolIndex
from zerocopy.transport import asgi, readahead
from zerocopy.transport.admission import Admission
from zerocopy.transport.asgi import AsgiApp
from zerocopy.transport.http2 import connection as http2
from zerocopy.transport.http2 import frames as http2_frames
from zerocopy.transport.http2 import lane as http2_lane
from zerocopy.transport.http2 import streams as http2_streams
from zerocopy.transport.http2.context import Http2Limits
from zerocopy.transport.limits import RequestLimits
from zerocopy.transport.scheduler import SendScheduler
from zerocopy.transport.tls.server import TlsServer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator
    from random import Random

    from tests.simulation.disk import Disk
    from tests.simulation.http2_loop import SimLoop
    from tests.simulation.http2_wire import Tap
    from tests.simulation.tls import TlsSocket
    from zerocopy.transport.admission import Seat

LIMITS = RequestLimits(
    target_bytes_max=1_024,
    field_bytes_max=1_024,
    head_bytes_max=4_096,
    fields_max=20,
    content_bytes_max=500,
)
SETTLE_S = 600
BOUNDARY = b"0123456789abcdef" * 2
"""Equal seeds write equal bytes."""

_CONSTANTS: tuple[tuple[Any, str, tuple[int, ...]], ...] = (
    (http2_streams, "SHARED_TURN_BYTES", (100, 3_000, 65_536)),
    (http2_frames, "BUFFER_BYTES", (1_000, 20_000, 131_072)),
    (readahead, "WINDOW_SLICES_MAX", (1, 2, 64)),
    (http2_frames, "SEGMENT_COST_BYTES", (1, 8_192)),
    (window_module, "TINY_BYTES", (0, 0, 40, 16_384)),
    (window_module, "TINY_RUN", (1, 2, 8)),
    (window_module, "GATHERED_BYTES_MAX", (2_000, 262_144)),
    (window_module, "GATHERED_SLICES_MAX", (20, 128)),
    (http2, "EVENTS_PER_TURN", (1, 4, 32)),
    (http2, "LANE_BYTES_MAX", (300, 262_144)),
    (http2_lane, "BLOCKS_MAX", (1, 2, 16)),
    (asgi, "PIECE_BYTES", (70, 5_000, 262_144)),
    (service_module, "INLINE_STAMPS_MAX", (3, 16, 16, 16)),
    (planner_module, "HELD_FILES_MAX", (2, 128)),
    (planner_module, "_HELD_CLOSED_MAX", (1, 64)),
)


@contextmanager
def constants(rng: Random) -> Iterator[None]:
    """The constants that the seed chooses, for as long as the block runs."""
    before = [getattr(module, name) for module, name, _ in _CONSTANTS]
    for module, name, values in _CONSTANTS:
        setattr(module, name, rng.choice(values))
    try:
        yield
    finally:
        for (module, name, _), value in zip(_CONSTANTS, before, strict=True):
            setattr(module, name, value)


class CrowdedTurns(SendScheduler):
    """Turns of a worker whose other connections, which nobody sees, send large answers too."""

    def __init__(self, loop: asyncio.AbstractEventLoop, turn_bytes: int, rng: Random) -> None:
        super().__init__(loop, turn_bytes, 1, rng.choice((200, 5_000, 131_072)))
        self._rng = rng
        self._crowded = rng.choice((0.0, 0.5, 1.0))

    @property
    def has_room(self) -> bool:
        """Now and then somebody else waits."""
        return super().has_room and self._rng.random() >= self._crowded


class DoneHandshake:
    """One that is over."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat


class Built:
    """The server's parts; `tree_root` is what they serve."""

    def __init__(
        self, loop: SimLoop, disk: Disk, tree_root: str, rng: Random, small_bytes_max: int
    ) -> None:
        self.loop = loop
        self.counters = [0] * len(SLOTS)
        self.transfers_failed: list[Exception] = []
        self.connections_failed: list[BaseException] = []
        self.most_mapped = 0
        self.in_flight_max = rng.choice((1, 3, 100, 100, 100))
        open_files_max = self._open_files(disk, tree_root, rng)
        window_bytes = rng.choice((100, 1_000, 1 << 20))
        planner = Planner(
            root=tree_root,
            files=self.files,
            dtypes=Dtypes(DTYPES),
            settling=Settling(SETTLE_S, 7),
            days_max=50,
            segments_max=100,
            small_answer_bytes_max=small_bytes_max,
        )
        self.service = Service(
            root=tree_root,
            planner=planner,
            files=self.files,
            symbols=SymbolIndex(tree_root, 0, lambda _sentence: None),
            executor=cast("Any", None),
            readers=cast("Any", None),
            readers_max=2,
            counters=self.counters,
            requests_in_flight_max=self.in_flight_max,
            plan_cache_bytes_max=rng.choice((10_000, 40_000, 1 << 24, 1 << 24)),
            columns_max=32,
            closed_max_age_s=3_600,
            computed=computed(planner, self.files),
            live=live(self.files, cast("Any", None), self.counters),
        )
        self.service._boundary = BOUNDARY
        self.app = AsgiApp(
            handler=self.service,
            limits=LIMITS,
            content_read_s=5.0,
            read_ahead_bytes_max=window_bytes,
            counters=self.counters,
            on_transfer_failed=lambda error, _: self.transfers_failed.append(error),
        )
        self._listen(loop, rng, window_bytes, open_files_max)

    def _listen(self, loop: SimLoop, rng: Random, window_bytes: int, open_files_max: int) -> None:
        """Make the listener, whose turns are crowded."""
        self.admission = Admission(
            connections_max=10, connections_per_address_max=1, counters=self.counters
        )
        self._limits = Http2Limits(
            streams_max=100,
            control_frames_max=100_000,
            turn_bytes_max=rng.choice((65_536, 1 << 20)),
            read_ahead_bytes_max=window_bytes,
            open_files_max=open_files_max,
            header_read_s=30.0,
            idle_s=300.0,
            write_progress_s=200.0,
            drain_deadline_s=10.0,
            drain_idle_s=0.0,
            request=LIMITS,
        )
        self.server = TlsServer(
            loop=cast("Any", loop),
            handler=self.service,
            app=self.app,
            limits=self._limits,
            admission=self.admission,
            counters=self.counters,
            on_transfer_failed=lambda error, _: self.transfers_failed.append(error),
            on_connection_failed=self.connections_failed.append,
        )
        turn_bytes = self._limits.turn_bytes_max
        self.server.context.scheduler = CrowdedTurns(cast("Any", loop), turn_bytes, rng)

    def _open_files(self, disk: Disk, tree_root: str, rng: Random) -> int:
        """Make `files`, over a page cache that is not there yet; how many may be open."""
        mapped = None
        if rng.random() < 0.9:
            locks = MemoryLocks(rng.choice((0, 4_096, 1 << 20)), lambda _sentence: None)
            mapped = MappedFiles(rng.choice((1, 3, 64)), locks)
        self.cache = FakePageCache(
            rng,
            cold=rng.choice((0.0, 0.0, 0.3, 1.0)),
            evicts=rng.random() < 0.2,
            identify=disk.identify,
            enter=disk._call,
            read=disk.pread,
        )
        open_files_max: int = rng.choice((1, 4, 64))
        self.files = OpenFiles(tree_root, open_files_max, mapped, self.cache)
        return open_files_max

    def look(self) -> None:
        """Note what was there, for tests of the runs themselves."""
        if self.files.mapped is not None:
            self.most_mapped = max(self.most_mapped, len(self.files.mapped))

    def connect(self, sock: TlsSocket, tap: Tap) -> TappedWire:
        """A connection over `sock`, past its handshake."""
        seat = self.admission.enter("192.0.2.1")
        assert seat is not None
        self.server._on_secured(cast("Any", DoneHandshake(seat)), cast("Any", sock))
        [connection] = self.server._http2
        assert isinstance(connection, TappedWire)
        connection.tap = tap
        return connection

    def stop(self) -> None:
        """No further ticks; close every file; the event loop has never waited for a page."""
        assert not self.cache.waited_for, f"waited for pages {self.cache.waited_for}"
        assert self.server._ticking is not None
        self.server._ticking.cancel()
        self.files.close()
