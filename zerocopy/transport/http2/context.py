"""What HTTP/2 connections share besides `Context`: batch, date, bounds, and what Hypercorn needs.

The listener makes it, and moves its date. `Wire` is what the protocol needs of the connection that
carries it, so that neither imports the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from h2.settings import SettingCodes, Settings
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config

from zerocopy.core.http.validators import http_date
from zerocopy.transport.context import ConnectionLimits, Context
from zerocopy.transport.fanout import Fanout
from zerocopy.transport.http2.batch import Batch
from zerocopy.transport.http2.frames import FrameBuffer
from zerocopy.transport.http2.head import literal

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from hypercorn.events import Event

    from zerocopy.transport.asgi import AsgiApp
    from zerocopy.transport.channel import Buffer


@dataclass(frozen=True, slots=True, kw_only=True)
class Http2Limits(ConnectionLimits):
    """Bounds of the TLS listener: counts, bytes and seconds, as in config.toml."""

    streams_max: int
    control_frames_max: int
    drain_deadline_s: float
    drain_idle_s: float


class _Values(list[int]):
    """The values of one setting: the one in force, and those that are not acknowledged."""

    def popleft(self) -> int:
        """As a deque, whose first block alone has 600 bytes."""
        return self.pop(0)


def compact(settings: Settings) -> Settings:
    """The same settings without h2's deques: two sides have thirteen, 9 KB a connection."""
    known: dict[Any, Any] = settings._settings  # noqa: SLF001
    known.update({code: _Values(values) for code, values in known.items()})
    return settings


class Wire(Protocol):
    """The connection below a protocol."""

    @property
    def network(self) -> bytes:
        """As in `Request`."""

    @property
    def unsent_bytes(self) -> int:
        """What was written and is not in the kernel."""

    def write(self, data: Buffer) -> None:
        """Send `data`, or keep a copy of it; nothing once the connection is closing."""

    def drain(self) -> Awaitable[None]:
        """Wait until all that was written is in the kernel."""

    def send(self, event: Event) -> Awaitable[None]:
        """Obey an event of Hypercorn's protocol."""

    def resume_reading(self, data: bytes) -> None:
        """Read on after the batch, first `data`, which was not answered."""

    def leave(self) -> None:
        """Finish what is being answered, then close."""

    def end(self) -> None:
        """Close at once. Bytes that have not left are lost."""


class Http2Context(Context):
    """As `Context`; `second` is the present unix second and `date_h2` its rendered Date field."""

    def __init__(self, *, limits: Http2Limits, app: AsgiApp, **shared: Any) -> None:
        super().__init__(limits=limits, **shared)
        app.context = self
        self.app = ASGIWrapper(app)  # type: ignore[arg-type]
        self.hypercorn = WorkerContext(None)
        self.hypercorn_config = Config()
        self.hypercorn_config.h2_max_concurrent_streams = limits.streams_max
        self.hypercorn_config.keep_alive_max_requests = 2**63
        self.hypercorn_config.include_server_header = False
        self.streams_max = limits.streams_max
        self.control_frames_max = limits.control_frames_max
        self.header_list_bytes_max = 4 * limits.request.head_bytes_max  # above it no 431: GOAWAY
        self.batch = Batch(self)
        self.fanout = Fanout(self.loop, self.batch.answer, self.scheduler)
        self.frames = FrameBuffer()
        self.second = 0
        self.date_h2 = b""

    def set_second(self, second: int) -> None:
        """It is this unix second now."""
        if second != self.second:
            self.second = second
            self.date_h2 = literal(b"date", http_date(second))

    def local_settings(self) -> Settings:
        """The SETTINGS of a connection's server side, RFC 9113 section 6.5.2."""
        return compact(
            Settings(
                client=False,
                initial_values={
                    SettingCodes.MAX_CONCURRENT_STREAMS: self.streams_max,
                    SettingCodes.MAX_HEADER_LIST_SIZE: self.request_limits.head_bytes_max,
                    SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,  # RFC 8441 section 3
                },
            )
        )
