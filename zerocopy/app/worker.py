"""One worker process: its event loop, its listeners, its share of nothing.

Owns the composition of one server from the configuration. The supervisor starts it with its orders
as one line of JSON on standard input and keeps that pipe open: when it ends, the supervisor is gone
and the worker drains as on SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec
import structlog

from zerocopy.app.log import configure_logging
from zerocopy.app.metrics import open_row, reset_gauges
from zerocopy.app.service import Service
from zerocopy.config import Config
from zerocopy.core.layout import RecordSizes
from zerocopy.storage.dayfile import OpenFiles
from zerocopy.storage.planner import Planner
from zerocopy.transport.http1_parser import ParserLimits
from zerocopy.transport.http1_server import Http1Limits, Http1Server
from zerocopy.transport.loop import new_event_loop

if TYPE_CHECKING:
    from zerocopy.core.counters import Counters

SWEEP_S = 20.0
"""Seconds between two sweeps over the open day files."""

PLAN_DESCRIPTORS = 160
"""Descriptors one plan may hold while it is made: 128 files, the columns of a day, directories."""

OWN_DESCRIPTORS = 128
"""Descriptors of the worker itself and of the connections that are being refused, with a margin."""

SWITCH_INTERVAL_S = 0.0005
"""How long a planning thread may keep the interpreter from the event loop (CPython: 5 ms)."""

_log = structlog.get_logger(__name__)


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told: its configuration and the descriptors it inherits."""

    config: Config
    worker: int
    listener_fds: list[int]
    counters_fd: int
    ready_fd: int


def build_service(config: Config, counters: Counters, executor: ThreadPoolExecutor) -> Service:
    """The service that `config` describes."""
    limits = config.limits
    files = OpenFiles(config.data.path, config.memory.open_files_max)
    planner = Planner(
        root=config.data.path,
        files=files,
        record_sizes=RecordSizes(config.columns),
        settle_s=config.data.settle_s,
        days_max=limits.days_max,
        segments_max=limits.segments_max,
        small_answer_bytes_max=limits.small_answer_bytes_max,
    )
    return Service(
        root=config.data.path,
        planner=planner,
        files=files,
        executor=executor,
        counters=counters,
        requests_in_flight_max=limits.requests_in_flight_max,
        plan_cache_bytes_max=config.memory.plan_cache_bytes_max,
        columns_max=limits.columns_max,
        closed_max_age_s=config.cache.closed_max_age_s,
    )


def raise_descriptor_limit(config: Config) -> int:
    """Take all descriptors the system allows; how many of them connections may have.

    The rest is kept for day files and plans, or idle connections could leave none for an answer.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kept = config.memory.open_files_max + config.limits.planner_threads * PLAN_DESCRIPTORS
    connections_max = config.limits.connections_max
    if hard != resource.RLIM_INFINITY and connections_max > hard - kept - OWN_DESCRIPTORS:
        connections_max = max(1, hard - kept - OWN_DESCRIPTORS)
        _log.warning("connections_capped", connections_max=connections_max, nofile=hard)
    return connections_max


def http1_limits(config: Config) -> Http1Limits:
    """The limits of the plain listener that `config` describes."""
    limits, timeouts = config.limits, config.timeouts
    return Http1Limits(
        connections_max=raise_descriptor_limit(config),
        turn_bytes_max=limits.turn_bytes_max,
        header_read_s=timeouts.header_read_s,
        idle_s=timeouts.idle_s,
        write_progress_s=timeouts.write_progress_s,
        parser=ParserLimits(
            target_bytes_max=limits.target_bytes_max,
            field_bytes_max=limits.field_bytes_max,
            head_bytes_max=limits.head_bytes_max,
            fields_max=limits.fields_max,
            content_bytes_max=limits.content_bytes_max,
        ),
    )


async def serve(orders: Orders) -> None:
    """Serve until told to stop, then drain."""
    loop = asyncio.get_running_loop()
    config = orders.config
    counters = open_row(orders.counters_fd, orders.worker)
    reset_gauges(counters)
    stop = asyncio.Event()
    with ThreadPoolExecutor(config.limits.planner_threads, "planner") as executor:
        service = build_service(config, counters, executor)
        server = Http1Server(
            loop=loop,
            handler=service,
            limits=http1_limits(config),
            counters=counters,
            on_transfer_failed=lambda error: _log.error(
                "transfer_aborted", cause=str(error), reason=repr(error.__cause__)
            ),
        )
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_reader(sys.stdin.fileno(), stop.set)

        def sweep() -> None:
            service.sweep()
            loop.call_later(SWEEP_S, sweep)

        sweep()
        server.start([socket.socket(fileno=fd) for fd in orders.listener_fds])
        # What lives now lives for good: the collector need not walk it again.
        gc.collect()
        gc.freeze()
        with contextlib.suppress(BrokenPipeError):  # the supervisor is gone; standard input says so
            os.write(orders.ready_fd, b"1")
        os.close(orders.ready_fd)
        await stop.wait()
        loop.remove_reader(sys.stdin.fileno())
        service.draining = True
        await server.drain(config.server.drain_deadline_s)


def main() -> None:
    """Read the orders and serve; the entry point of `python -m zerocopy.app.worker`."""
    # Ctrl-C reaches the whole foreground group; stopping is the supervisor's to order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    orders = msgspec.json.decode(sys.stdin.buffer.readline(), type=Orders)
    configure_logging(orders.config.log.level, orders.config.log.format)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(orders))


if __name__ == "__main__":
    main()
