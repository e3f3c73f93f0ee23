"""One generation of workers: the processes that serve one configuration, from start to last exit.

Owns its processes: starts them, restarts what dies, tells them to accept and to drain. It must
never know signals, nor that there are other generations.

    CANDIDATE   its workers get ready and accept nothing; one that dies or is late fails them all
    SERVING     they accept; one that dies is started again, later and later if it keeps dying
    LEAVING     they drain; a worker that has not gone at the deadline is killed

A worker writes a byte when it is prepared and one more when it accepts. In between it waits for the
order, so that no client meets a generation before all of it is known to be good.
"""

from __future__ import annotations

import contextlib
import enum
import os
import selectors
import signal
import time
from typing import TYPE_CHECKING

import msgspec

from zerocopy.observe.log import get_logger
from zerocopy.supervise.access_share import NO_SHARE
from zerocopy.supervise.control import ACCEPT, ACCEPTING, REPLACED, WorkerSpec, start_worker

if TYPE_CHECKING:
    import subprocess

    from zerocopy.config.load import Config
    from zerocopy.supervise.access_share import Share
    from zerocopy.supervise.certificate import PemCopies
    from zerocopy.supervise.listeners import Listeners
    from zerocopy.supervise.shared_counters import SharedCounters

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0
"""A worker that dies at once is started again after 0.1 s, then 0.2, 0.4, … up to this."""

STEADY_S = 10.0
"""A worker that lived this long starts the next series of delays anew."""

HUNG_AFTER_S = 10.0
"""Seconds without a heartbeat, which comes each second, before a worker that accepts is doubted."""

DOUBT_S = 2.0
"""Seconds that it then has for a heartbeat; after a stop of the whole machine all were silent."""

KILL_AFTER_S = 5.0
"""Seconds past the drain deadline before a worker that does not exit is killed."""

_NEVER_S = float("inf")
_log = get_logger(__name__)


class Stage(enum.Enum):
    """What a generation is for."""

    CANDIDATE = enum.auto()
    SERVING = enum.auto()
    LEAVING = enum.auto()


class WorkerSlot:
    """One worker's place: the process that fills it now, and when to fill it again."""

    def __init__(self, index: int, row: int) -> None:
        self.index = index
        self.row = row
        self.process: subprocess.Popen[bytes] | None = None
        self.report_fd = -1
        self.is_prepared = False
        self.is_accepting = False
        self.is_killed = False
        self.doubted_at_s: float | None = None
        """When its silence was found to be too long."""
        self.started_at_s = 0.0
        self.restart_at_s = 0.0
        self.restart_in_s = 0.0
        self.backoff_s = BACKOFF_FIRST_S


class Generation:
    """The workers of one configuration; `selector` wakes the supervisor when one reports."""

    def __init__(
        self,
        number: int,
        config: Config,
        listeners: Listeners,
        counters: SharedCounters,
        selector: selectors.BaseSelector,
        *,
        certificate: PemCopies | None = None,
        share: Share = NO_SHARE,
        is_candidate: bool,
    ) -> None:
        self.number = number
        self.config = config
        self.listeners = listeners
        self.restarts = 0
        self.failure: str | None = None
        """Why a candidate cannot serve."""
        self.share = share
        self._certificate = certificate
        self._counters = counters
        self._selector = selector
        self._stage = Stage.CANDIDATE if is_candidate else Stage.SERVING
        self._kill_at_s = _NEVER_S
        count = workers_of(config)
        self.slots = [WorkerSlot(index, counters.take(index)) for index in range(count)]

    # ---- how it stands

    @property
    def is_prepared(self) -> bool:
        """Whether every worker waits for the order to accept, or accepts."""
        return all(slot.is_prepared for slot in self.slots)

    @property
    def is_accepting(self) -> bool:
        """Whether every worker accepts."""
        return all(slot.is_accepting for slot in self.slots)

    @property
    def is_gone(self) -> bool:
        """Whether no process is left, and none will be started."""
        return self._stage is Stage.LEAVING and not any(slot.process for slot in self.slots)

    def is_alive(self, silence_s: float) -> bool:
        """Whether the loop of every worker that accepts has shown life within `silence_s`.

        One that is being started is not asked: it has a deadline of its own.
        """
        return all(
            self._counters.beat_age_s(slot.row) <= silence_s
            for slot in self.slots
            if slot.is_accepting
        )

    @property
    def due_at_s(self) -> float:
        """When `advance` has something to do although no worker reports."""
        return min(_NEVER_S, *(self._due_at_s(slot) for slot in self.slots))

    def _due_at_s(self, slot: WorkerSlot) -> float:
        if slot.process is None:
            return _NEVER_S if self._stage is Stage.LEAVING else slot.restart_at_s
        if slot.is_killed:
            return _NEVER_S
        if not slot.is_accepting:
            return min(self._kill_at_s, slot.started_at_s + self.config.server.start_deadline_s)
        return self._hung_at_s(slot) if self._stage is Stage.SERVING else self._kill_at_s

    def _hung_at_s(self, slot: WorkerSlot) -> float:
        """When to look at the heartbeat of a worker that accepts, or to kill it."""
        if slot.doubted_at_s is not None:
            return slot.doubted_at_s + DOUBT_S
        return time.monotonic() - self._counters.beat_age_s(slot.row) + HUNG_AFTER_S

    # ---- what it is told

    def commit(self) -> None:
        """Serve: let all workers accept, and from now on keep them alive."""
        self._stage = Stage.SERVING
        for slot in self.slots:
            slot.started_at_s = time.monotonic()  # the deadline of the start is met
            self._let_accept(slot)

    def leave(self, *, replaced: bool = False) -> None:
        """Drain: accept nothing more, finish what is being sent, and exit.

        With `replaced` other workers serve on, so /readyz still says ready.
        """
        if self._stage is not Stage.LEAVING:
            self._stage = Stage.LEAVING
            self._kill_at_s = time.monotonic() + self.config.server.drain_deadline_s + KILL_AFTER_S
            for slot in self.slots if replaced else ():
                if slot.process is not None:
                    self._tell(slot, REPLACED)
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End at once."""
        self._stage = Stage.LEAVING
        self._signal(signal.SIGKILL)
        for slot in self.slots:
            slot.is_killed = slot.process is not None

    def _signal(self, number: signal.Signals) -> None:
        for slot in self.slots:
            if slot.process is not None:
                slot.process.send_signal(number)

    # ---- what happens to it

    def advance(self) -> None:
        """Reap dead workers, kill late ones, start those that are due."""
        now_s = time.monotonic()
        for slot in self.slots:
            self._reap(slot, now_s)
            self._kill_late(slot, now_s)
            self._start_due(slot, now_s)

    def _reap(self, slot: WorkerSlot, now_s: float) -> None:
        if slot.process is not None and slot.process.poll() is not None:
            self._bury(slot, slot.process, now_s)

    def _kill_late(self, slot: WorkerSlot, now_s: float) -> None:
        process = slot.process
        if process is None or now_s < self._due_at_s(slot):
            return
        if self._gets_more_time(slot):
            slot.doubted_at_s = now_s if self._is_silent(slot) else None
            return
        if self._stage is Stage.CANDIDATE:
            self.failure = self.failure or f"worker {slot.index} was not ready in time"
        else:
            self._log_late(slot)
        process.kill()
        slot.is_killed = True  # once is enough: its death wakes us

    def _start_due(self, slot: WorkerSlot, now_s: float) -> None:
        may_start = self._stage is not Stage.LEAVING and self.failure is None
        if may_start and slot.process is None and now_s >= slot.restart_at_s:
            self.restarts += slot.started_at_s > 0
            self._try_to_start(slot, now_s)

    def _gets_more_time(self, slot: WorkerSlot) -> bool:
        """Whether a worker that serves and is due to be looked at lives, or is silent only now."""
        is_watched = slot.is_accepting and self._stage is Stage.SERVING
        return is_watched and (slot.doubted_at_s is None or not self._is_silent(slot))

    def _is_silent(self, slot: WorkerSlot) -> bool:
        return self._counters.beat_age_s(slot.row) >= HUNG_AFTER_S

    def _log_late(self, slot: WorkerSlot) -> None:
        if self._stage is Stage.LEAVING:
            _log.error("worker_not_drained", worker=slot.index, generation=self.number)
        elif slot.is_accepting:
            silent_s = round(self._counters.beat_age_s(slot.row), 3)
            _log.error("worker_hung", worker=slot.index, silent_s=silent_s)
        else:
            _log.error("worker_late", worker=slot.index)

    def _bury(self, slot: WorkerSlot, process: subprocess.Popen[bytes], now_s: float) -> None:
        assert process.stdin is not None, "the pipe that says we live"
        process.stdin.close()
        slot.process = None
        slot.is_prepared = slot.is_accepting = slot.is_killed = False
        slot.doubted_at_s = None
        self._close_report(slot)
        self._counters.wipe(slot.row)
        status = process.returncode  # negative: the signal that killed it
        if self._stage is Stage.CANDIDATE:
            self.failure = self.failure or (
                f"worker {slot.index} died before it was ready, status {status}"
            )
        elif self._stage is Stage.SERVING:
            self._plan_restart(slot, now_s)
            _log.error(
                "worker_died", worker=slot.index, status=status, restart_in_s=slot.restart_in_s
            )

    @staticmethod
    def _plan_restart(slot: WorkerSlot, now_s: float) -> None:
        if now_s - slot.started_at_s >= STEADY_S:
            slot.backoff_s = BACKOFF_FIRST_S
        slot.restart_in_s = slot.backoff_s
        slot.restart_at_s = now_s + slot.restart_in_s
        slot.backoff_s = min(2 * slot.backoff_s, BACKOFF_MAX_S)

    def _try_to_start(self, slot: WorkerSlot, now_s: float) -> None:
        """Fill a place; the system may have no process, descriptor or memory to spare now."""
        try:
            self._start(slot)
        except OSError as error:
            slot.started_at_s = now_s
            if self._stage is Stage.CANDIDATE:
                self.failure = f"worker {slot.index} cannot be started: {error.strerror}"
            else:
                self._plan_restart(slot, now_s)
                _log.error(
                    "worker_not_started",
                    worker=slot.index,
                    reason=error.strerror,
                    restart_in_s=slot.restart_in_s,
                )

    def _start(self, slot: WorkerSlot) -> None:
        """Fill a place with a fresh process.

        What is made here is undone here until the place owns all of it, and by `_bury` from then
        on: a descriptor closed twice could belong to something else by the second time.

        Raises:
            OSError: it cannot be made or watched; the place is as it was.
        """
        with contextlib.ExitStack() as undo:
            report_read, report_write = os.pipe()
            undo.callback(os.close, report_read)
            try:
                spec = self._spec(slot, report_write)
                process = start_worker(spec)
            finally:
                os.close(report_write)
            undo.callback(_end_worker, process)
            self._selector.register(report_read, selectors.EVENT_READ, (self, slot))
            undo.callback(self._selector.unregister, report_read)
            slot.process = process
            undo.callback(setattr, slot, "process", None)
            self._tell(slot, msgspec.json.encode(spec) + b"\n")
            undo.pop_all()
        slot.report_fd, slot.started_at_s = report_read, time.monotonic()

    def _spec(self, slot: WorkerSlot, report_fd: int) -> WorkerSpec:
        groups = self.listeners.groups
        return WorkerSpec(
            config=self.config,
            worker=slot.index,
            row=slot.row,
            listener_fds={
                name: group.deal(slot.index, len(self.slots)) for name, group in groups.items()
            },
            shared=[name for name, group in groups.items() if group.is_shared],
            certificate_fds=None if self._certificate is None else self._certificate.fds,
            counters_fd=self._counters.counters_fd,
            beats_fd=self._counters.beats_fd,
            names_fd=self._counters.names_fd,
            limits_fd=self._counters.limits_fd,
            report_fd=report_fd,
            ticket_secret=self.share.ticket_secret,
            key_set_fds=self.share.key_set_fds,
        )

    def on_report(self, slot: WorkerSlot) -> None:
        """A worker got on, or its pipe ended because it died; then reaping says so."""
        report = os.read(slot.report_fd, 2)
        if not report:
            self._selector.unregister(slot.report_fd)
        slot.is_prepared = slot.is_prepared or bool(report)
        if ACCEPTING in report:
            slot.is_accepting = True
            self._close_report(slot)
        elif report and self._stage is Stage.SERVING:
            self._let_accept(slot)

    def _let_accept(self, slot: WorkerSlot) -> None:
        if slot.process is not None and slot.is_prepared and not slot.is_accepting:
            self._tell(slot, ACCEPT)

    @staticmethod
    def _tell(slot: WorkerSlot, order: bytes) -> None:
        assert slot.process is not None, "asked by whoever calls"
        assert slot.process.stdin is not None, "the pipe that says we live"
        with contextlib.suppress(BrokenPipeError):  # it died already, which reaping will find
            slot.process.stdin.write(order)

    def _close_report(self, slot: WorkerSlot) -> None:
        if slot.report_fd == -1:
            return
        with contextlib.suppress(KeyError):  # it ended before the process was reaped
            self._selector.unregister(slot.report_fd)
        os.close(slot.report_fd)
        slot.report_fd = -1

    def release(self) -> None:
        """Its last process has gone: give back its rows and its certificate."""
        if self._certificate is not None:
            self._certificate.close()
        for slot in self.slots:
            self._counters.give_back(slot.row)


def _end_worker(process: subprocess.Popen[bytes]) -> None:
    """End a process that could not be watched, and leave nothing of it."""
    process.kill()
    process.wait()
    assert process.stdin is not None, "the pipe that says we live"
    process.stdin.close()


def workers_of(config: Config) -> int:
    """How many workers `config` asks for: 0 is one for each core this process may use."""
    return config.server.workers or len(os.sched_getaffinity(0))
