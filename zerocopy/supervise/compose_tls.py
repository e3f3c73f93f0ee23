"""The TLS listener: what it is built of, and what it may use.

A worker without one never imports this, nor HTTP/2 and Hypercorn with it: 0.15 s of processor time
at each start, and 8 MB of memory.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from zerocopy.observe.log import get_logger
from zerocopy.supervise.compose import (
    access_log,
    metrics_type,
    on_connection_failed,
    on_transfer_failed,
    request_limits,
)
from zerocopy.transport.asgi import AsgiApp
from zerocopy.transport.http2.compatibility import incompatibility
from zerocopy.transport.http2.context import Http2Limits
from zerocopy.transport.tls import kernel
from zerocopy.transport.tls.handshake import PROTOCOLS
from zerocopy.transport.tls.server import TlsServer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from zerocopy.config.load import Config
    from zerocopy.core.counters import Counters
    from zerocopy.core.http.messages import Handler
    from zerocopy.transport.admission import Admission
    from zerocopy.transport.request_metrics import Tally

_log = get_logger(__name__)


def build_app(
    handler: Handler, config: Config, counters: Counters, tally: Tally | None = None
) -> AsgiApp:
    """`handler` as an ASGI application."""
    return AsgiApp(
        handler=handler,
        limits=request_limits(config),
        content_read_s=config.timeouts.header_read_s,
        read_ahead_bytes_max=config.memory.read_ahead_bytes_max,
        counters=counters,
        on_transfer_failed=on_transfer_failed,
        access=access_log(config),
        tally=tally,
    )


def build_tls(
    handler: Handler,
    config: Config,
    counters: Counters,
    admission: Admission,
    tally: Tally | None = None,
) -> TlsServer:
    """The TLS listener that `config` describes, for the running loop."""
    limits, timeouts = config.limits, config.timeouts
    return TlsServer(
        loop=asyncio.get_running_loop(),
        handler=handler,
        app=build_app(handler, config, counters, tally),
        limits=Http2Limits(
            streams_max=limits.streams_max,
            control_frames_max=limits.control_frames_max,
            turn_bytes_max=limits.turn_bytes_max,
            read_ahead_bytes_max=config.memory.read_ahead_bytes_max,
            open_files_max=min(config.memory.open_files_max, config.memory.mapped_files_max),
            header_read_s=timeouts.header_read_s,
            idle_s=timeouts.idle_s,
            write_progress_s=timeouts.write_progress_s,
            drain_deadline_s=config.server.drain_deadline_s,
            drain_idle_s=config.server.drain_idle_s,
            request=request_limits(config),
        ),
        admission=admission,
        counters=counters,
        on_transfer_failed=on_transfer_failed,
        access=access_log(config),
        tally=tally,
        metrics_type=metrics_type(config),
        on_connection_failed=on_connection_failed,
    )


def protocols() -> Sequence[str]:
    """What is offered by ALPN; HTTP/1.1 alone where HTTP/2 does not fit what is installed."""
    reason = incompatibility()
    if reason is None:
        return PROTOCOLS
    _log.warning("http2_misfit", reason=reason, served_by="HTTP/1.1")
    return ("http/1.1",)


def use_kernel(context: ssl.SSLContext, *, tells: bool) -> None:
    """Have the kernel encrypt, where it can; one worker of all `tells` the log."""
    without = kernel.missing()
    if without is None:
        context.options |= kernel.ENABLE_KTLS
    if tells:
        _log.info("kernel_tls", available=without is None, reason=without)
