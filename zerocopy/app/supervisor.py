"""The supervisor: opens the listeners, starts the workers, keeps them alive, stops them.

Owns processes and signals and serves no request itself. Each worker has a listening socket of its
own on the shared port (SO_REUSEPORT). The sockets stay open here too, so connections that wait in
the backlog of a worker that died are served by its successor.

    SIGTERM, SIGINT   drain: workers stop accepting, finish what they send, and exit; exit code 0
    the same again    stop at once; exit code 1
    SIGHUP            workers read the certificate again; connections go on
    SIGCHLD           start the dead worker again, later and later if it keeps dying
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from zerocopy.app.log import get_logger
from zerocopy.app.metrics import Collector, make_counters, serve_metrics
from zerocopy.app.tls import make_context, validity_warning
from zerocopy.app.worker import Orders
from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from zerocopy.config import Config

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0
"""A worker that dies at once is started again after 0.1 s, then 0.2, 0.4, … up to this."""

STEADY_S = 10.0
"""A worker that lived this long starts the next series of delays anew."""

KILL_AFTER_S = 5.0
"""Seconds past the drain deadline before a worker that does not exit is killed."""

REAP_S = 0.05
"""How long to wait for the death of a worker that was killed before looking again."""

_log = get_logger(__name__)


def open_listeners(host: str, port: int, count: int, backlog: int) -> list[socket.socket]:
    """`count` listening sockets on one address, each with a queue of its own.

    Raises:
        ConfigError: the address cannot be bound; also when another process listens there, which
            SO_REUSEPORT alone would let pass.
    """
    listeners: list[socket.socket] = []
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
        for _ in range(count):
            listener = socket.socket(family, socket.SOCK_STREAM)
            listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(address)
            listener.listen(backlog)
            address = listener.getsockname()  # port 0: the others join the first one's port
    except OSError as error:
        for listener in listeners:
            listener.close()
        why = os.strerror(error.errno) if error.errno else error.strerror
        raise ConfigError(f"cannot listen on {host}:{port}: {why}") from error
    return listeners


def _open_all(
    config: Config, count: int
) -> tuple[list[socket.socket] | list[None], list[socket.socket] | list[None]]:
    """The listeners of plain HTTP/1.1 and of TLS, one of each for every worker.

    Raises:
        ConfigError: an address cannot be bound, or the certificate cannot be used.
    """
    server, ports = config.server, config.listeners()
    plain: list[socket.socket] | list[None] = [None] * count
    tls: list[socket.socket] | list[None] = [None] * count
    if ports.tls_port is not None:
        _check_certificate(config)
        tls = open_listeners(server.host, ports.tls_port, count, server.backlog)
    if ports.plain_port is not None:
        try:
            plain = open_listeners(server.host, ports.plain_port, count, server.backlog)
        except ConfigError:
            for listener in tls:
                if listener is not None:
                    listener.close()
            raise
    return plain, tls


def _address(listeners: list[socket.socket] | list[None]) -> tuple[str, int] | None:
    if listeners[0] is None:
        return None
    host, port = listeners[0].getsockname()[:2]
    return host, port


def _check_certificate(config: Config) -> None:
    """Raise ConfigError if no handshake could succeed; warn of one that clients will refuse."""
    make_context(config.tls.cert_path, config.tls.key_path)
    warning = validity_warning(config.tls.cert_path)
    if warning is not None:
        _log.warning("certificate_validity", detail=warning)


class _Worker:
    """One worker's place: the process that fills it now, and when to fill it again."""

    def __init__(self, index: int, plain: socket.socket | None, tls: socket.socket | None) -> None:
        self.index = index
        self.plain = plain
        self.tls = tls
        self.process: subprocess.Popen[bytes] | None = None
        self.ready_fd = -1
        self.started_s = 0.0
        self.restart_at_s = 0.0
        self.backoff_s = BACKOFF_FIRST_S


class Supervisor:
    """Runs the workers of one configuration until it is told to stop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        count = config.server.workers or len(os.sched_getaffinity(0))
        plain, tls = _open_all(config, count)
        self.plain_address = _address(plain)
        self.tls_address = _address(tls)
        self._workers = [_Worker(index, plain[index], tls[index]) for index in range(count)]
        self._counters_fd = make_counters(count)
        self._collector = Collector(self._counters_fd, count)
        self._selector = selectors.DefaultSelector()
        self._stops = 0
        self._hangups = 0
        self._hangup_stops = False
        self._stops_told = 0
        self._kill_at_s = float("inf")

    def run(self, on_ready: Callable[[], None] | None = None, *, hangup_stops: bool = False) -> int:
        """Serve until stopped; the exit code. `on_ready` is called once every worker accepts.

        With `hangup_stops` SIGHUP is a stop like any other.
        """
        self._hangup_stops = hangup_stops
        metrics = self._config.metrics
        metrics_port = serve_metrics(self._collector, metrics.host, metrics.port)
        wake, wakeup = socket.socketpair()
        wake.setblocking(False)
        wakeup.setblocking(False)
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, self._on_signal)
        self._selector.register(wake, selectors.EVENT_READ)
        announced = False
        while True:
            self._reap()
            self._stop_workers()
            self._reload_certificates()
            if self._stops and not any(worker.process for worker in self._workers):
                break
            if not announced and all(
                worker.process and worker.ready_fd == -1 for worker in self._workers
            ):
                announced = True
                self._log_ready(f"{metrics.host}:{metrics_port}")
                if on_ready is not None:
                    on_ready()
            self._wait(wake)
        _log.info("stopped", forced=self._stops > 1)
        return 0 if self._stops == 1 else 1

    def _on_signal(self, number: int, _frame: object) -> None:
        """Only count: the main loop, woken by the same signal, does the rest between two steps."""
        if number == signal.SIGHUP and not self._hangup_stops:
            self._hangups += 1
        elif number != signal.SIGCHLD:
            self._stops += 1

    def _log_ready(self, metrics: str) -> None:
        addresses = {
            name: f"{address[0]}:{address[1]}"
            for name, address in (("plain", self.plain_address), ("tls", self.tls_address))
            if address is not None
        }
        main = addresses["tls" if self._config.server.use_tls else "plain"]
        _log.info("ready", address=main, **addresses, metrics=metrics, workers=len(self._workers))

    def _reload_certificates(self) -> None:
        """After SIGHUP: tell the workers, if the new certificate can be read at all."""
        if not self._hangups:
            return
        self._hangups = 0
        if self.tls_address is None:
            _log.info("nothing_to_reload", reason="no listener speaks TLS")
            return
        try:
            _check_certificate(self._config)
        except ConfigError as error:
            _log.error("certificate_kept", reason=error.detail)
            return
        for worker in self._workers:
            if worker.process is not None:
                worker.process.send_signal(signal.SIGHUP)

    def _stop_workers(self) -> None:
        """Tell the workers of each stop once: SIGTERM for the first, SIGKILL for the next."""
        if self._stops_told >= self._stops:
            return
        forced = self._stops > 1
        self._stops_told = self._stops
        self._kill_at_s = time.monotonic() + (
            0 if forced else self._config.server.drain_deadline_s + KILL_AFTER_S
        )
        for worker in self._workers:
            for listener in (worker.plain, worker.tls):
                if listener is not None:
                    listener.close()  # or newcomers would wait in a queue that nobody serves
            if worker.process is not None:
                worker.process.send_signal(signal.SIGKILL if forced else signal.SIGTERM)

    def _wait(self, wake: socket.socket) -> None:
        """Sleep until a signal, a readiness, a restart or the kill is due."""
        due_s = [w.restart_at_s for w in self._workers if w.process is None and not self._stops]
        timeout_s = min([self._kill_at_s, *due_s]) - time.monotonic()
        if time.monotonic() >= self._kill_at_s:
            timeout_s = REAP_S
        events = self._selector.select(None if timeout_s == float("inf") else max(0, timeout_s))
        for key, _ in events:
            if key.fileobj is wake:
                while True:
                    try:
                        wake.recv(4096)
                    except BlockingIOError:
                        break
            else:
                self._on_ready_pipe(key.data)

    def _on_ready_pipe(self, worker: _Worker) -> None:
        """The worker accepts, or died before it did; then reaping says so."""
        if os.read(worker.ready_fd, 1):
            self._close_ready(worker)
            _log.debug("worker_ready", worker=worker.index)
        else:
            self._selector.unregister(worker.ready_fd)

    def _close_ready(self, worker: _Worker) -> None:
        if worker.ready_fd in self._selector.get_map():
            self._selector.unregister(worker.ready_fd)
        os.close(worker.ready_fd)
        worker.ready_fd = -1

    def _reap(self) -> None:
        now_s = time.monotonic()
        for worker in self._workers:
            process = worker.process
            if process is not None and process.poll() is not None:
                assert process.stdin is not None, "the pipe that says we live"
                process.stdin.close()
                worker.process = None
                if worker.ready_fd != -1:
                    self._close_ready(worker)
                if not self._stops:
                    self._plan_restart(worker, process.returncode, now_s)
            elif process is not None and now_s >= self._kill_at_s:
                process.kill()  # harmless when repeated: it is ours until reaped
            if worker.process is None and not self._stops and now_s >= worker.restart_at_s:
                self._collector.worker_restarts += worker.started_s > 0
                self._start(worker)

    def _plan_restart(self, worker: _Worker, status: int, now_s: float) -> None:
        if now_s - worker.started_s >= STEADY_S:
            worker.backoff_s = BACKOFF_FIRST_S
        worker.restart_at_s = now_s + worker.backoff_s
        _log.error(
            "worker_died",
            worker=worker.index,
            status=status,  # negative: the signal that killed it
            restart_in_s=worker.backoff_s,
        )
        worker.backoff_s = min(2 * worker.backoff_s, BACKOFF_MAX_S)

    def _start(self, worker: _Worker) -> None:
        ready_read, ready_write = os.pipe()
        plain_fd, tls_fd = (
            None if listener is None else listener.fileno()
            for listener in (worker.plain, worker.tls)
        )
        inherited = [self._counters_fd, ready_write]
        inherited += [fd for fd in (plain_fd, tls_fd) if fd is not None]
        orders = Orders(
            config=self._config,
            worker=worker.index,
            plain_fd=plain_fd,
            tls_fd=tls_fd,
            counters_fd=self._counters_fd,
            ready_fd=ready_write,
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "zerocopy.app.worker"],
            stdin=subprocess.PIPE,
            pass_fds=inherited,
            bufsize=0,
        )
        os.close(ready_write)
        assert process.stdin is not None, "asked for above"
        with contextlib.suppress(BrokenPipeError):  # it died already, which reaping will find
            process.stdin.write(msgspec.json.encode(orders) + b"\n")
        worker.process = process
        worker.started_s = time.monotonic()
        worker.ready_fd = ready_read
        self._selector.register(ready_read, selectors.EVENT_READ, worker)
