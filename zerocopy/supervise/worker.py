"""One worker process: its event loop and its listeners; it shares nothing but counters and sockets.

Owns the life of one server, which `compose.py` builds. The supervisor starts the worker with its
orders as one line of JSON on standard input and keeps that pipe open. When the pipe ends, the
supervisor is gone, and the worker drains as on SIGTERM.
"""

from __future__ import annotations

import gc

if __name__ == "__main__":
    gc.disable()  # what is imported stays: `serve` has the collector begin behind it

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from zerocopy.config.descriptors import planner_threads, reader_threads
from zerocopy.core import counters as slots
from zerocopy.core.errors import ConfigError
from zerocopy.observe.counter_rows import open_row, reset_gauges
from zerocopy.observe.log import Log, configure_logging, get_logger
from zerocopy.storage.libc.malloc import give_back_freed_memory, keep_freed_memory
from zerocopy.supervise.certificate import make_context
from zerocopy.supervise.compose import (
    build_guard,
    build_plain,
    build_service,
    listening,
    raise_descriptor_limit,
)
from zerocopy.supervise.compose_limits import build_limits, limit_addresses
from zerocopy.supervise.control import (
    ACCEPT,
    ACCEPTING,
    OF_THE_GROUP,
    PREPARED,
    REPLACED,
    WorkerSpec,
)
from zerocopy.supervise.shared_counters import limits_row, open_heartbeat
from zerocopy.transport.admission import Admission
from zerocopy.transport.loop import new_event_loop

if TYPE_CHECKING:
    from zerocopy.core.counters import Counters
    from zerocopy.core.http.messages import Handler
    from zerocopy.service.service import Service
    from zerocopy.transport.http1.server import Http1Server
    from zerocopy.transport.request_metrics import Tally
    from zerocopy.transport.tls.server import TlsServer

SWEEP_S = 20.0
"""Seconds between two sweeps over the open day files."""

TEND_S = 1.0
"""Seconds between two looks at what the kernel has queued about symbols."""

SWITCH_INTERVAL_S = 0.0005
"""How long a planning thread may keep the interpreter from the event loop (CPython: 5 ms)."""

CROWD_MIN = 64
"""Connections that are worth a look at the memory that they leave."""

_log = get_logger(__name__)


class _Worker:
    """The servers of one process, from their orders to their end."""

    def __init__(
        self,
        spec: WorkerSpec,
        counters: Counters,
        service: Service,
        handler: Handler,
        tally: Tally | None,
    ) -> None:
        self._spec = spec
        self._service = service
        self._loop = asyncio.get_running_loop()
        config = spec.config
        admission = Admission(
            connections_max=raise_descriptor_limit(config),
            connections_per_address_max=config.limits.connections_per_address_max,
            counters=counters,
        )
        self._plain: Http1Server | None = None
        self._tls: TlsServer | None = None
        self._context: ssl.SSLContext | None = None
        if "plain" in spec.listener_fds:
            self._plain = build_plain(handler, config, counters, admission, tally)
        if "tls" in spec.listener_fds:
            from zerocopy.supervise.compose_tls import build_tls  # noqa: PLC0415 - see there

            self._tls = build_tls(handler, config, counters, admission, tally)
            copies = spec.certificate_fds
            self._context = make_context(config.tls.cert_path, config.tls.key_path, copies)
        for fd in spec.certificate_fds or ():
            os.close(fd)
        if self._plain is not None and self._tls is not None:
            self._plain.context.scheduler.join(self._tls.context.scheduler)

    def start(self) -> None:
        """Accept on every listener."""
        if self._plain is not None:
            self._plain.start(self._listeners("plain"), is_shared="plain" in self._spec.shared)
        if self._tls is not None and self._context is not None:
            from zerocopy.supervise.compose_tls import protocols, use_kernel  # noqa: PLC0415

            use_kernel(self._context, tells=not self._spec.worker)  # the others have the same
            self._tls.start(
                self._listeners("tls"),
                self._context,
                protocols=protocols(),
                is_shared="tls" in self._spec.shared,
            )

    def _listeners(self, name: str) -> list[socket.socket]:
        return [socket.socket(fileno=fd) for fd in self._spec.listener_fds[name]]

    async def drain(self, *, replaced: bool) -> None:
        """Stop accepting, finish what is being sent, close.

        With `replaced` other workers serve on: every worker reports the server as ready.
        """
        self._service.draining = not replaced
        server = self._spec.config.server
        async with asyncio.TaskGroup() as tasks:
            if self._plain is not None:
                tasks.create_task(self._plain.drain(server.drain_deadline_s, server.drain_idle_s))
            if self._tls is not None:
                tasks.create_task(self._tls.drain())


async def serve(spec: WorkerSpec, log: Log) -> None:
    """Get ready, accept when told to, serve until told to stop, then drain."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_on_loop_error)
    config = spec.config
    counters = open_row(spec.counters_fd, spec.row)
    heartbeat = open_heartbeat(spec.beats_fd, spec.row)
    reset_gauges(counters)
    with (
        ThreadPoolExecutor(planner_threads(config), "planner") as executor,
        ThreadPoolExecutor(reader_threads(config), "reader") as readers,
    ):
        service = build_service(config, counters, executor, readers)
        quotas = build_limits(config, counters, spec.limits_fd, limits_row(spec.row))
        guard = build_guard(service, spec, executor, counters, quotas)
        handler = limit_addresses(guard or service, config, quotas)
        tally = None if guard is None else guard.tally
        worker = _Worker(spec, counters, service, handler, tally)

        crowd = Crowd(counters)
        looking: asyncio.Task[None] | None = None

        def sweep() -> None:
            loop.call_later(SWEEP_S, sweep)
            service.sweep()

        def tend() -> None:
            loop.call_later(TEND_S, tend)
            nonlocal looking
            heartbeat[0] = time.monotonic_ns()
            service.tend()
            if quotas is not None:
                quotas.tend()
            if guard is not None and (looking is None or looking.done()):
                looking = loop.create_task(guard.look())
            if crowd.has_left():
                executor.submit(give_back_freed_memory)
            log.tell_losses(counters)

        sweep()
        tend()
        # What lives now lives for good: the collector need not walk it, now or at the end.
        gc.freeze()
        gc.enable()
        with listening(config, service.live_streams, counters):
            await _obey(spec, worker)


async def _obey(spec: WorkerSpec, worker: _Worker) -> None:
    """Obey the supervisor's orders, by its pipe and by SIGTERM: accept, then drain."""
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
        with contextlib.suppress(BrokenPipeError):  # the supervisor is gone; standard input says so
            os.write(spec.report_fd, progress)

    loop.add_signal_handler(signal.SIGTERM, on_stop)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        loop.add_signal_handler(number, _on_ignored, number)
    loop.add_reader(sys.stdin.fileno(), on_order)
    report(PREPARED)
    await accept.wait()
    if stop.is_set():
        return  # no connection was accepted
    worker.start()
    report(ACCEPTING)
    os.close(spec.report_fd)
    await stop.wait()
    await worker.drain(replaced=replaced.is_set())


def _on_ignored(number: signal.Signals) -> None:
    _log.warning("signal_ignored", signal=number.name)


def _on_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error outside of any request. A failed handshake or a lost connection is no fault."""
    error = context.get("exception")
    if isinstance(error, (ssl.SSLError, ConnectionError, TimeoutError)):
        _log.debug("connection_lost", cause=repr(error))
    else:
        _log.error("loop_error", detail=context["message"], exc_info=error)


class Crowd:
    """Finds out when most of many connections have left.

    Each of them had buffers of OpenSSL and of its own, which glibc keeps for the next.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._most = 0

    def has_left(self) -> bool:
        """Whether less than half of the most are left. If so, counts the most anew."""
        here = sum(self._counters[slots.CONNECTIONS + kind] for kind in (slots.PLAIN, slots.TLS))
        self._most = max(self._most, here)
        if self._most < CROWD_MIN or 2 * here >= self._most:
            return False
        self._most = here
        return True


def main() -> None:
    """Read the orders and serve; the entry point of `python -m zerocopy.supervise.worker`."""
    # Ctrl-C and a hang-up reach the whole foreground group; they are the supervisor's alone.
    # Those of log rotation are logged once the loop runs.
    for number in OF_THE_GROUP:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, OF_THE_GROUP)
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return  # the supervisor died before it had sent the orders
    spec = msgspec.json.decode(line, type=WorkerSpec)
    log = configure_logging(spec.config.log, spec.worker)
    keep_freed_memory()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(serve(spec, log))
    except ConfigError as error:  # a certificate that OpenSSL takes no longer, for want of memory
        _log.error("worker_cannot_start", reason=error.detail)
        sys.exit(1)


if __name__ == "__main__":
    main()
