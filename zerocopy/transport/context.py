"""What all connections of one listener share: handler, limits, counters, time, turns, bodies.

Owns no connection. A connection imports its context and never its server, so nothing points back;
the server makes the context, makes the connections, and moves the wheel and the date.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zerocopy.core.network import network_of
from zerocopy.transport.body import Bodies
from zerocopy.transport.streaming import Framed
from zerocopy.transport.timers import STALL_SAMPLES, Wheel

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from zerocopy.core.counters import Counters
    from zerocopy.core.http.messages import Handler
    from zerocopy.core.http.pending import PendingRequest
    from zerocopy.transport.channel import Channel
    from zerocopy.transport.limits import RequestLimits
    from zerocopy.transport.request_metrics import RequestMetrics
    from zerocopy.transport.scheduler import SendScheduler


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Bounds of a connection: bytes and seconds, as in config.toml."""

    turn_bytes_max: int
    read_ahead_bytes_max: int
    open_files_max: int
    header_read_s: float
    idle_s: float
    write_progress_s: float
    request: RequestLimits


class Context:
    """What connections use; `draining` and `idle_ticks` change when the server stops.

    Two protocols of one listener share `wheel` and `bodies`, and with them the listener's bounds.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        handler: Handler,
        counters: Counters,
        metrics: RequestMetrics,
        scheduler: SendScheduler,
        limits: ConnectionLimits,
        on_transfer_failed: Callable[[Exception, PendingRequest | None], None],
        on_connection_failed: Callable[[BaseException], None],
        wheel: Wheel | None = None,
        bodies: Bodies | None = None,
    ) -> None:
        self.loop = loop
        self.handler = handler
        self.counters = counters
        self.metrics = metrics
        self.scheduler = scheduler
        self.on_transfer_failed = on_transfer_failed
        self.on_connection_failed = on_connection_failed
        self.request_limits = limits.request
        self.turn_bytes_max = limits.turn_bytes_max
        self.bodies = bodies or Bodies(
            window_bytes_max=limits.read_ahead_bytes_max, open_files_max=limits.open_files_max
        )
        self.framed = Framed()
        self.wheel = wheel or Wheel()
        self.header_ticks = Wheel.ticks(limits.header_read_s)
        self.idle_ticks = Wheel.ticks(limits.idle_s)
        self.stall_ticks = Wheel.ticks(limits.write_progress_s / STALL_SAMPLES)
        self.draining = False

    def network_of(self, channel: Channel) -> bytes:
        """The network of a connection's peer, if the handler asks for it; else nothing."""
        host = channel.peer_host() if self.handler.asks_network else None
        return b"" if host is None else network_of(host)

    def drain(self, idle_s: float) -> None:
        """The server stops: an idle connection stays for `idle_s` at most."""
        self.draining = True
        self.idle_ticks = min(self.idle_ticks, Wheel.ticks(idle_s)) if idle_s else 0
