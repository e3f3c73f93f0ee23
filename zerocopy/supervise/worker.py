"""One worker process: its event loop, its listeners, its share of nothing.

Owns the composition of one server from the configuration. The supervisor starts it with its orders
as one line of JSON on standard input and keeps that pipe open: when it ends, the supervisor is gone
and the worker drains as on SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import resource
import signal
import socket
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from zerocopy.config.descriptors import OWN_DESCRIPTORS, descriptors_kept
from zerocopy.core.errors import ConfigError
from zerocopy.core.http.semantics import Settling
from zerocopy.core.layout import Dtypes
from zerocopy.observe.access_log import AccessLog, naming
from zerocopy.observe.log import Log, configure_logging, get_logger
from zerocopy.observe.metrics import open_row, reset_gauges
from zerocopy.service.service import Service
from zerocopy.storage.dayfile import OpenFiles
from zerocopy.storage.mapping import MappedFiles
from zerocopy.storage.memlock import MemoryLocks
from zerocopy.storage.planner import Planner
from zerocopy.storage.symbols.index import SymbolIndex
from zerocopy.supervise.certificate import make_context
from zerocopy.supervise.control import ACCEPT, ACCEPTING, OF_THE_GROUP, PREPARED, REPLACED, Orders
from zerocopy.supervise.shared_counters import open_heartbeat
from zerocopy.transport.admission import Admission
from zerocopy.transport.asgi import AsgiApp
from zerocopy.transport.http1.server import Http1Limits, Http1Server
from zerocopy.transport.http2.server import Http2Limits, Http2Server, misfit
from zerocopy.transport.limits import RequestLimits
from zerocopy.transport.loop import new_event_loop

if TYPE_CHECKING:
    from zerocopy.config.load import Config
    from zerocopy.core.counters import Counters
    from zerocopy.core.http.pending import Exchange
    from zerocopy.transport.request_metrics import Access

SWEEP_S = 20.0
"""Seconds between two sweeps over the open day files."""

TEND_S = 1.0
"""Seconds between two looks at what the kernel has queued about symbols."""

SWITCH_INTERVAL_S = 0.0005
"""How long a planning thread may keep the interpreter from the event loop (CPython: 5 ms)."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of <malloc.h>, for mallopt(3)."""

MMAP_THRESHOLD_BYTES = 16_777_216
TRIM_THRESHOLD_BYTES = 33_554_432
"""Freed memory that a worker keeps at most at the top of its heap."""

_log = get_logger(__name__)


def build_service(
    config: Config,
    counters: Counters,
    executor: ThreadPoolExecutor,
    readers: ThreadPoolExecutor | None = None,
) -> Service:
    """The service that `config` describes; `readers` are threads of their own, or the same."""
    limits = config.limits
    mapped = None
    if config.listeners().tls_port is not None:
        locks = MemoryLocks(
            config.memory.locked_bytes_max,
            lambda sentence: _log.warning("memory_not_locked", detail=sentence),
        )
        mapped = MappedFiles(config.memory.mapped_files_max, locks)
    files = OpenFiles(config.data.path, config.memory.open_files_max, mapped)
    planner = Planner(
        root=config.data.path,
        files=files,
        dtypes=Dtypes(config.columns),
        settling=Settling(config.data.settle_s, config.data.gap_days),
        days_max=limits.days_max,
        segments_max=limits.segments_max,
        small_answer_bytes_max=limits.small_answer_bytes_max,
    )
    return Service(
        root=config.data.path,
        planner=planner,
        files=files,
        symbols=SymbolIndex(
            config.data.path,
            config.memory.watched_directories_max,
            lambda sentence: _log.warning("symbols_not_watched", detail=sentence),
        ),
        executor=executor,
        readers=readers or executor,
        readers_max=limits.reader_threads,
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
    kept = descriptors_kept(config) + OWN_DESCRIPTORS
    connections_max = config.limits.connections_max
    if hard != resource.RLIM_INFINITY and connections_max > hard - kept:
        connections_max = max(1, hard - kept)
        _log.warning("connections_capped", connections_max=connections_max, nofile=hard)
    return connections_max


def request_limits(config: Config) -> RequestLimits:
    """The bounds on one request that `config` describes."""
    limits = config.limits
    return RequestLimits(
        target_bytes_max=limits.target_bytes_max,
        field_bytes_max=limits.field_bytes_max,
        head_bytes_max=limits.head_bytes_max,
        fields_max=limits.fields_max,
        content_bytes_max=limits.content_bytes_max,
    )


def access_log(config: Config) -> Access | None:
    """Who writes down requests; None costs nothing."""
    sample = config.log.access_sample
    return AccessLog(sample) if sample else None


def build_app(service: Service, config: Config, counters: Counters) -> AsgiApp:
    """`service` as an ASGI application."""
    return AsgiApp(
        handler=service,
        limits=request_limits(config),
        content_read_s=config.timeouts.header_read_s,
        read_ahead_bytes_max=config.memory.read_ahead_bytes_max,
        counters=counters,
        on_transfer_failed=_on_transfer_failed,
        access=access_log(config),
    )


class _Worker:
    """The servers of one process, from their orders to their end."""

    def __init__(self, orders: Orders, counters: Counters, service: Service) -> None:
        self._orders = orders
        self._service = service
        self._loop = asyncio.get_running_loop()
        config = orders.config
        admission = Admission(
            connections_max=raise_descriptor_limit(config),
            connections_per_address_max=config.limits.connections_per_address_max,
            counters=counters,
        )
        self._plain: Http1Server | None = None
        self._tls: Http2Server | None = None
        self._context: ssl.SSLContext | None = None
        if "plain" in orders.listener_fds:
            self._plain = self._build_plain(config, counters, admission)
        if "tls" in orders.listener_fds:
            self._tls = self._build_tls(config, counters, admission)
            copies = orders.certificate_fds
            self._context = make_context(config.tls.cert_path, config.tls.key_path, copies)
        for fd in orders.certificate_fds or ():
            os.close(fd)
        if self._plain is not None and self._tls is not None:
            self._plain.turns.join(self._tls.turns)

    async def start(self) -> None:
        """Accept on every listener."""
        if self._plain is not None:
            self._plain.start(self._listeners("plain"), is_shared="plain" in self._orders.shared)
        if self._tls is not None and self._context is not None:
            reason = misfit()
            if reason is not None:
                _log.warning("http2_misfit", reason=reason, served_by="stock Hypercorn")
            await self._tls.start(
                self._listeners("tls"),
                self._context,
                fits=reason is None,
                is_shared="tls" in self._orders.shared,
            )

    def _listeners(self, name: str) -> list[socket.socket]:
        return [socket.socket(fileno=fd) for fd in self._orders.listener_fds[name]]

    async def drain(self, *, replaced: bool) -> None:
        """Stop accepting, finish what is being sent, close.

        With `replaced` other workers serve on: the server is ready, whoever is asked.
        """
        self._service.draining = not replaced
        server = self._orders.config.server
        async with asyncio.TaskGroup() as tasks:
            if self._plain is not None:
                tasks.create_task(self._plain.drain(server.drain_deadline_s, server.drain_idle_s))
            if self._tls is not None:
                tasks.create_task(self._tls.drain())

    def _build_plain(self, config: Config, counters: Counters, admission: Admission) -> Http1Server:
        timeouts = config.timeouts
        return Http1Server(
            loop=self._loop,
            handler=self._service,
            limits=Http1Limits(
                turn_bytes_max=config.limits.turn_bytes_max,
                read_ahead_bytes_max=config.memory.read_ahead_bytes_max,
                open_files_max=config.memory.open_files_max,
                header_read_s=timeouts.header_read_s,
                idle_s=timeouts.idle_s,
                write_progress_s=timeouts.write_progress_s,
                parser=request_limits(config),
            ),
            admission=admission,
            counters=counters,
            on_transfer_failed=_on_transfer_failed,
            on_connection_failed=_on_connection_failed,
            access=access_log(config),
        )

    def _build_tls(self, config: Config, counters: Counters, admission: Admission) -> Http2Server:
        limits, timeouts = config.limits, config.timeouts
        return Http2Server(
            loop=self._loop,
            handler=self._service,
            app=build_app(self._service, config, counters),
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
            on_transfer_failed=_on_transfer_failed,
            access=access_log(config),
            on_connection_failed=_on_connection_failed,
        )


async def serve(orders: Orders, log: Log) -> None:
    """Get ready, accept when told to, serve until told to stop, then drain."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_on_loop_error)
    config = orders.config
    counters = open_row(orders.counters_fd, orders.row)
    heartbeat = open_heartbeat(orders.beats_fd, orders.row)
    reset_gauges(counters)
    limits = config.limits
    with (
        ThreadPoolExecutor(limits.planner_threads, "planner") as executor,
        ThreadPoolExecutor(limits.reader_threads, "reader") as readers,
    ):
        service = build_service(config, counters, executor, readers)
        worker = _Worker(orders, counters, service)

        def sweep() -> None:
            loop.call_later(SWEEP_S, sweep)
            service.sweep()

        def tend() -> None:
            loop.call_later(TEND_S, tend)
            heartbeat[0] = time.monotonic_ns()
            service.tend()
            log.tell_losses(counters)

        sweep()
        tend()
        # What lives now lives for good: the collector need not walk it again.
        gc.collect()
        gc.freeze()
        await _obey(orders, worker)


async def _obey(orders: Orders, worker: _Worker) -> None:
    """What the supervisor orders, by its pipe and by SIGTERM: accept, then drain."""
    loop = asyncio.get_running_loop()
    accept, stop, replaced = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def on_order() -> None:
        order = os.read(sys.stdin.fileno(), len(ACCEPT + REPLACED))
        if not order:
            loop.remove_reader(sys.stdin.fileno())  # the supervisor is gone
            stop.set()
        if REPLACED in order:
            replaced.set()
        accept.set()

    def on_stop() -> None:
        stop.set()
        accept.set()

    def report(progress: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # nobody is there; standard input says so
            os.write(orders.report_fd, progress)

    loop.add_signal_handler(signal.SIGTERM, on_stop)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        loop.add_signal_handler(number, _on_ignored, number)
    loop.add_reader(sys.stdin.fileno(), on_order)
    report(PREPARED)
    await accept.wait()
    if stop.is_set():
        return  # nobody was let in
    await worker.start()
    report(ACCEPTING)
    os.close(orders.report_fd)
    await stop.wait()
    await worker.drain(replaced=replaced.is_set())


def _on_ignored(number: signal.Signals) -> None:
    _log.warning("signal_ignored", signal=number.name)


def _on_transfer_failed(error: Exception, exchange: Exchange | None) -> None:
    cause, reason = str(error), repr(error.__cause__)
    _log.error("transfer_aborted", cause=cause, reason=reason, **naming(exchange))


def _on_connection_failed(error: BaseException) -> None:
    _log.error("connection_failed", exc_info=error)


def _on_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What no request saw. A failed handshake or a lost connection is its client's affair."""
    error = context.get("exception")
    if isinstance(error, (ssl.SSLError, ConnectionError, TimeoutError)):
        _log.debug("connection_lost", cause=repr(error))
    else:
        _log.error("loop_error", detail=context["message"], exc_info=error)


def keep_freed_memory() -> None:
    """Have malloc(3) reuse the buffers of large answers instead of asking the kernel each time.

    Each batch of frames is some buffers of 256 KiB that live for a fraction of a millisecond. With
    glibc's defaults they may be mapped, faulted in and given back for every batch, which took half
    of the throughput. Other C libraries have no mallopt(3); nothing happens then.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)


def main() -> None:
    """Read the orders and serve; the entry point of `python -m zerocopy.supervise.worker`."""
    # Ctrl-C and a hang-up reach the whole foreground group; they are the supervisor's alone.
    # Those of log rotation are told of once the loop runs.
    for number in OF_THE_GROUP:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, OF_THE_GROUP)
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return  # the supervisor died before it had said what to do
    orders = msgspec.json.decode(line, type=Orders)
    log = configure_logging(orders.config.log, orders.worker)
    keep_freed_memory()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(serve(orders, log))
    except ConfigError as error:  # a certificate that OpenSSL takes no longer, for want of memory
        _log.error("worker_cannot_start", reason=error.detail)
        sys.exit(1)


if __name__ == "__main__":
    main()
