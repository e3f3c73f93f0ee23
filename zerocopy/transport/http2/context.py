"""What the connections of the TLS listener share besides `Context`: batch, date, HTTP/2's bounds.

The server makes it, and moves its date. `Wire` is what a protocol needs of the connection that
carries it, so that neither imports the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from h2.settings import SettingCodes, Settings

from zerocopy.core.http.validators import http_date
from zerocopy.transport.context import ConnectionLimits, Context
from zerocopy.transport.http2.batch import Batch
from zerocopy.transport.http2.head import literal

if TYPE_CHECKING:
    from collections.abc import Awaitable


@dataclass(frozen=True, slots=True, kw_only=True)
class Http2Limits(ConnectionLimits):
    """Bounds of the TLS listener: counts, bytes and seconds, as in config.toml."""

    streams_max: int
    control_frames_max: int
    drain_deadline_s: float
    drain_idle_s: float


class Wire(Protocol):
    """The connection below a protocol."""

    def write(self, data: bytes) -> None:
        """Encrypt and queue `data`; nothing once the connection is closing."""

    def drain(self) -> Awaitable[None]:
        """Wait until little of what was written is left."""

    def resume_reading(self, data: bytes) -> None:
        """What was taken is answered, but for `data`."""

    def leave(self) -> None:
        """Finish what is being answered, then close."""

    def abort(self) -> None:
        """Close at once; what has not left is lost."""

    def reset(self) -> None:
        """Abort with RST."""


class Http2Context(Context):
    """As `Context`; `second` is the present unix second and `date_h2` its rendered Date field."""

    def __init__(self, *, limits: Http2Limits, **shared: Any) -> None:
        super().__init__(limits=limits, **shared)
        self.streams_max = limits.streams_max
        self.control_frames_max = limits.control_frames_max
        self.header_list_bytes_max = 4 * limits.request.head_bytes_max  # above it no 431: GOAWAY
        self.batch = Batch(self.loop, self.metrics, self.scheduler)
        self.second = 0
        self.date_h2 = b""

    def set_second(self, second: int) -> None:
        """It is this unix second now."""
        if second != self.second:
            self.second = second
            self.date_h2 = literal(b"date", http_date(second))

    def local_settings(self) -> Settings:
        """The SETTINGS of a connection's server side, RFC 9113 section 6.5.2."""
        return Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: self.streams_max,
                SettingCodes.MAX_HEADER_LIST_SIZE: self.request_limits.head_bytes_max,
            },
        )
