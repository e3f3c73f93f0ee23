"""The supervisor: what signals mean, and what the service manager is told.

Owns signals, readiness and the reading of the configuration again; it serves no request itself. The
generations of workers are `generations`'s.

    SIGTERM, SIGINT   drain: workers stop accepting, finish what they send, and exit; exit code 0
    the same again    stop at once; exit code 1
    SIGHUP            read the configuration again and serve it with a new generation of workers;
                      the old one drains once all of the new one accepts. What cannot be served
                      changes nothing. SIGHUPs that come meanwhile are one more reload after it.
    SIGUSR1, SIGUSR2  ignored, with a line: what rotates logs sends them, and would end us
    SIGCHLD           start the dead worker again, later and later if it keeps dying
"""

from __future__ import annotations

import contextlib
import selectors
import signal
import socket
import time
from typing import TYPE_CHECKING

from zerocopy.core.errors import ConfigError
from zerocopy.observe.counter_rows import make_counters
from zerocopy.observe.log import get_logger
from zerocopy.observe.metrics import Collector
from zerocopy.supervise.access_share import check_auth
from zerocopy.supervise.compose_limits import check_announce
from zerocopy.supervise.control import OF_LOG_ROTATION
from zerocopy.supervise.generation import KILL_AFTER_S
from zerocopy.supervise.limit_exchange import LimitExchange
from zerocopy.supervise.listeners import listen_for_metrics
from zerocopy.supervise.notify import Notifier
from zerocopy.supervise.readiness import (
    LOOK_AGAIN_S,
    ReloadCheck,
    RootWatch,
    check_keys,
    keep_certificate,
)
from zerocopy.supervise.reload import Generations
from zerocopy.supervise.shared_counters import SharedCounters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zerocopy.config.load import Config

ONLY_AT_START = (
    "metrics.host", "metrics.port",
    "log.level", "log.format", "log.lines_waiting_max", "log.events_per_second_max",
)  # fmt: skip
"""Options the supervisor reads once. Workers of a new generation do log by the new ones."""

EXTEND_S = 30 * LOOK_AGAIN_S
"""How much longer the service manager is asked to wait, at each look at the data root."""

_FOREVER_S = float("inf")
_log = get_logger(__name__)


class Supervisor:
    """Serves `config` until told to stop; `reread` reads what follows it after SIGHUP.

    Without `reread` SIGHUP is a stop like any other. `passed` are the sockets that systemd opened.
    """

    def __init__(
        self,
        config: Config,
        *,
        reread: Callable[[], Config] | None = None,
        passed: Mapping[str, list[socket.socket]] | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        check_keys(config)
        check_announce(config)
        ticket_secret = check_auth(config)
        certificate = keep_certificate(config)
        self._config = config
        self._reread = reread
        self._notifier = notifier or Notifier({})
        self._collector = Collector(make_counters(0), 0)
        self._selector = selectors.DefaultSelector()
        counters = SharedCounters(self._collector)
        self._generations = Generations(
            config,
            passed or {},
            self._collector,
            counters,
            self._selector,
            certificate=certificate,
            ticket_secret=ticket_secret,
        )
        self._limits = LimitExchange(counters.limits_fd, self._collector)
        self._limits.configure(config.auth.limits_url)
        self._preparation: ReloadCheck | None = None
        self._root: RootWatch | None = None
        self.metrics_address = ""
        """Of the metrics listener, once `run` has bound it."""
        self._is_announced = False
        self._is_waiting = False
        self._is_delayed = False
        self._stops = 0
        self._stops_told = 0
        self._hangups = 0
        self._ignored: list[int] = []
        self._wake, self._wakeup = socket.socketpair()
        for end in (self._wake, self._wakeup):
            end.setblocking(False)

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """Where clients connect to, by protocol: `plain`, `tls`."""
        groups = self._generations.serving.listeners.groups
        return {name: group.address for name, group in groups.items()}

    def run(self, on_ready: Callable[[], None] | None = None) -> int:
        """Serve until stopped; the exit code.

        `on_ready` is called once every worker accepts and the data root can be read.
        """
        metrics = self._config.metrics
        within_s = self._config.server.start_deadline_s
        port = listen_for_metrics(self._collector, metrics.host, metrics.port, resolve_s=within_s)
        self.metrics_address = f"{metrics.host}:{port}"
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        ours = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        for number in (*ours, *OF_LOG_ROTATION):
            signal.signal(number, self._on_signal)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._root = RootWatch(self._config, self._wake_up)
        while True:
            self._generations.advance()
            self._tell_what_is_ignored()
            self._stop_workers()
            if self._stops and self._generations.is_gone:
                break
            if not self._stops:
                self._step_reload()
            if not self._stops and not self._is_announced and self._is_ready():
                self._announce()
                if on_ready is not None:
                    on_ready()
            self._wait()
        self._root.stop()
        self._limits.stop()
        _log.info("stopped", forced=self._stops > 1)
        return 0 if self._stops == 1 else 1

    def _on_signal(self, number: int, _frame: object) -> None:
        """Only count: the main loop, woken by the same signal, does the rest between two steps."""
        if number == signal.SIGHUP and self._reread is not None:
            self._hangups += 1
        elif number in OF_LOG_ROTATION:
            self._ignored.append(number)
        elif number != signal.SIGCHLD:
            self._stops += 1

    def _tell_what_is_ignored(self) -> None:
        while self._ignored:
            _log.warning("signal_ignored", signal=signal.Signals(self._ignored.pop(0)).name)

    # ---- readiness

    def _is_ready(self) -> bool:
        assert self._root is not None, "started by run"
        if not self._generations.serving.is_accepting or self._generations.is_changing:
            return False
        if self._root.is_unreadable:
            if not self._is_waiting:
                self._is_waiting = True
                _log.info("waiting_for_data_root", **self._listening())
            self._notifier.send(
                STATUS="Waiting for the data root: it cannot be read.",
                EXTEND_TIMEOUT_USEC=int(EXTEND_S * 1e6),
            )
        return self._root.is_readable

    def _announce(self) -> None:
        self._is_announced = True
        _log.info("ready", **self._listening())
        self._notifier.send(READY=1, STATUS=self._status())

    def _listening(self) -> dict[str, object]:
        """Where clients connect to, for a line of the log."""
        serving = self._generations.serving
        addresses = serving.listeners.addresses()
        return {
            "address": addresses["tls" if serving.config.server.use_tls else "plain"],
            **addresses,
            "metrics": self.metrics_address,
            "workers": len(serving.slots),
        }

    def _status(self) -> str:
        serving = self._generations.serving
        where = (f"{name} on {at}" for name, at in serving.listeners.addresses().items())
        return (
            f"Serving {' and '.join(where)}; workers: {len(serving.slots)}, "
            f"generation: {serving.number}."
        )

    # ---- reload

    def _step_reload(self) -> None:
        """Go on with a reload as far as it is now; begin one if SIGHUP came and none runs."""
        serving = self._generations.serving
        preparation = self._preparation
        try:
            if self._generations.is_changing:
                if self._generations.step():
                    self._limits.configure(self._generations.serving.config.auth.limits_url)
                    self._end_reload(None)
            elif preparation is not None:
                prepared = preparation.result()
                if prepared is not None:
                    self._preparation = None
                    self._generations.propose(*prepared)
                    self._generations.advance()
            elif self._hangups and self._may_begin(serving.config):
                assert self._reread is not None, "or SIGHUP would have stopped us"
                self._hangups = 0
                self._notifier.reloading()
                self._preparation = ReloadCheck(
                    self._reread, self._generations.resolve, serving.config, self._wake_up
                )
        except ConfigError as error:
            self._end_reload(error.detail)

    def _may_begin(self, config: Config) -> bool:
        """Whether one more generation may live. Logs once for each wait that it may not."""
        count, most = self._generations.count, config.server.generations_max
        is_delayed = count >= most
        if is_delayed and not self._is_delayed:
            _log.warning("reload_waiting", generations=count, generations_max=most)
        self._is_delayed = is_delayed
        return not is_delayed

    def _end_reload(self, refusal: str | None) -> None:
        self._preparation = None
        serving = self._generations.serving
        if refusal is not None:
            self._collector.reloads["refused"] += 1
            _log.error("reload_refused", reason=refusal, generation=serving.number)
            status = f"{self._status()} The last reload was refused: {refusal}"
        else:
            self._collector.reloads["done"] += 1
            status = self._status()
            _log.info(
                "reloaded",
                generation=serving.number,
                workers=len(serving.slots),
                **serving.listeners.addresses(),
            )
            self._tell_what_stays(serving.config)
            if not self._is_announced and self._root is not None:
                self._root.stop()
                self._root = RootWatch(serving.config, self._wake_up)
        if self._is_announced:
            self._notifier.send(READY=1, STATUS=status)
        self._wake_up()  # another SIGHUP may have come meanwhile

    def _tell_what_stays(self, config: Config) -> None:
        changed = []
        for key in ONLY_AT_START:
            table, _, name = key.partition(".")
            ours, theirs = (getattr(getattr(each, table), name) for each in (self._config, config))
            if ours != theirs:
                changed.append(key)
        if changed:
            _log.warning("restart_needed", options=changed)

    # ---- stopping

    def _stop_workers(self) -> None:
        """Tell the workers of each stop once: SIGTERM for the first, SIGKILL for the next."""
        if self._stops_told >= self._stops:
            return
        self._stops_told = self._stops
        deadline_s = self._generations.serving.config.server.drain_deadline_s + 2 * KILL_AFTER_S
        self._notifier.send(
            STOPPING=1, STATUS="Draining.", EXTEND_TIMEOUT_USEC=int(deadline_s * 1e6)
        )
        self._generations.stop(forced=self._stops > 1)

    # ---- waiting

    def _wake_up(self) -> None:
        """Have the main loop look at everything once more; called from threads."""
        with contextlib.suppress(BlockingIOError):  # full: it is about to wake
            self._wakeup.send(b"\0")

    def _wait(self) -> None:
        """Sleep until a signal, a report, a restart, a kill or a beat is due."""
        self._beat()
        due_at_s = min(self._generations.due_at_s, self._notifier.beat_at_s)
        if self._preparation is not None and not self._stops:
            due_at_s = min(due_at_s, self._preparation.deadline_s)
        timeout_s = None if due_at_s == _FOREVER_S else max(0.0, due_at_s - time.monotonic())
        for key, _ in self._selector.select(timeout_s):
            if key.fileobj is self._wake:
                with contextlib.suppress(BlockingIOError):
                    while self._wake.recv(4096):
                        pass
            else:
                generation, slot = key.data
                generation.on_report(slot)

    def _beat(self) -> None:
        """Feed the service manager's watchdog while every event loop shows life."""
        silence_s = self._notifier.watchdog_s
        if silence_s is not None:
            is_alive = self._generations.serving.is_alive(silence_s)
            self._notifier.beat(time.monotonic(), is_alive=is_alive)
