"""Supervisor: what a black-box test cannot time, workers that die or hang at the worst moment."""

from __future__ import annotations

import errno
import os
import selectors
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from tests.descriptors import held
from zerocopy.config.load import Config, load
from zerocopy.core.counters import CONNECTIONS, CONNECTIONS_ACCEPTED
from zerocopy.observe.counter_rows import make_counters
from zerocopy.observe.metrics import Collector
from zerocopy.supervise import generation as generation_module
from zerocopy.supervise.control import PREPARED
from zerocopy.supervise.generation import Generation
from zerocopy.supervise.listeners import Listeners
from zerocopy.supervise.shared_counters import SharedCounters, open_heartbeat

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVIRON = {"ZEROCOPY_CONFIG": os.devnull, "ZEROCOPY_SERVER_WORKERS": "1"}


class Stillborn(subprocess.Popen[bytes]):
    """A worker that was killed before it read a byte of its orders."""

    def __init__(self, _command: list[str], **options: Any) -> None:
        super().__init__(["/bin/false"], **options)
        self.wait()


class Mute(subprocess.Popen[bytes]):
    """A worker that hangs in its start."""

    def __init__(self, _command: list[str], **options: Any) -> None:
        super().__init__(["/bin/sleep", "60"], **options)


class Unborn(subprocess.Popen[bytes]):
    """A process that the system has no room for."""

    def __init__(self, _command: list[str], **_options: Any) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def __del__(self) -> None:
        """There is nothing to reap."""


class Nursery:
    """Makes generations whose processes are `kind`, and buries what is left of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.rows = SharedCounters(Collector(make_counters(0), 0))
        self.selector = selectors.DefaultSelector()
        self.made: list[Generation] = []

    def make(self, kind: type, *, is_candidate: bool, **environ: str) -> Generation:
        """A generation of `kind`, which has not begun."""
        self.monkeypatch.setattr(subprocess, "Popen", kind)
        config: Config = load(environ=ENVIRON | environ)
        made = Generation(
            1, config, Listeners(), self.rows, self.selector, is_candidate=is_candidate
        )
        self.made.append(made)
        return made


@pytest.fixture
def nursery(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nursery]:
    """No process outlives its test."""
    nursery = Nursery(monkeypatch)
    yield nursery
    for generation in nursery.made:
        generation.kill()
        for slot in generation.slots:
            if slot.process is not None:
                slot.process.wait()
        generation.advance()
    nursery.selector.close()


def test_worker_that_dies_before_its_orders_is_started_again(nursery: Nursery) -> None:
    """An OOM kill right after fork is one more death to the supervisor, not its own end."""
    generation = nursery.make(Stillborn, is_candidate=False)
    with capture_logs() as logs:
        generation.advance()
        generation.advance()
    (slot,) = generation.slots
    assert slot.process is None
    assert slot.restart_at_s > time.monotonic() - 1
    assert generation.due_at_s == slot.restart_at_s
    assert [log["event"] for log in logs] == ["worker_died"]


def test_worker_that_dies_at_every_start_is_started_later_and_later(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each death doubles the delay up to a bound, and the restarts are counted."""
    monkeypatch.setattr(generation_module, "BACKOFF_MAX_S", 0.4)
    generation = nursery.make(Stillborn, is_candidate=False)
    with capture_logs() as logs:
        for _ in range(5):
            generation.slots[0].restart_at_s = 0
            generation.advance()
            generation.advance()
    assert [log["restart_in_s"] for log in logs] == [0.1, 0.2, 0.4, 0.4, 0.4]
    assert generation.restarts == 4


def test_worker_that_hangs_in_its_start_is_killed_and_started_again(nursery: Nursery) -> None:
    """One that says nothing within `start_deadline_s` counts as dead."""
    generation = nursery.make(Mute, is_candidate=False, ZEROCOPY_SERVER_START_DEADLINE_S="0.01")
    generation.advance()
    (slot,) = generation.slots
    process = slot.process
    assert process is not None
    time.sleep(max(0.0, generation.due_at_s - time.monotonic()))
    with capture_logs() as logs:
        generation.advance()
        assert generation.due_at_s == float("inf"), "its death wakes us"
        process.wait()
        generation.advance()
    assert [log["event"] for log in logs] == ["worker_late", "worker_died"]
    assert slot.process is None


def test_process_that_cannot_be_made_is_tried_again(nursery: Nursery) -> None:
    """At a bound of the system the supervisor waits like after a death, and leaks nothing."""
    generation = nursery.make(Unborn, is_candidate=False)
    before = held()
    with capture_logs() as logs:
        generation.advance()
    assert [(log["event"], log["restart_in_s"]) for log in logs] == [("worker_not_started", 0.1)]
    assert held() - before == set()
    assert generation.due_at_s > time.monotonic()


@pytest.mark.parametrize(
    ("kind", "why"),
    [(Stillborn, "died before"), (Mute, "in time"), (Unborn, "cannot be started")],
)
def test_candidate_that_cannot_start_fails_and_is_not_tried_again(
    nursery: Nursery, kind: type, why: str
) -> None:
    """A death or a delay before it is ready is the end of all of a new generation."""
    generation = nursery.make(kind, is_candidate=True, ZEROCOPY_SERVER_START_DEADLINE_S="0.01")
    generation.advance()
    time.sleep(0.02)
    with capture_logs() as logs:
        generation.advance()
    assert generation.failure is not None
    assert why in generation.failure
    assert not logs, "who asked for it says it, once"
    restarts = generation.restarts
    generation.advance()
    assert generation.restarts == restarts


def test_candidate_accepts_only_when_it_is_told_to(nursery: Nursery) -> None:
    """A worker that is prepared waits until all are; then one byte more says that it accepts."""
    generation = nursery.make(Mute, is_candidate=True, ZEROCOPY_SERVER_WORKERS="2")
    generation.advance()
    first, second = generation.slots
    written: list[bytes] = []
    nursery.monkeypatch.setattr(
        Generation, "_tell", staticmethod(lambda _place, order: written.append(order))
    )
    for slot in (first, second):
        reading, writing = os.pipe()
        os.write(writing, PREPARED)
        os.dup2(reading, slot.report_fd)
        assert not generation.is_prepared
        generation.on_report(slot)
        os.close(reading)
        os.close(writing)
    assert generation.is_prepared
    assert not generation.is_accepting
    assert not written
    generation.commit()
    assert len(written) == 2


def test_worker_that_hangs_while_it_accepts_is_killed_and_started_again(nursery: Nursery) -> None:
    """Stopped for longer than the bound, and again when it is looked at once more."""
    nursery.monkeypatch.setattr(generation_module, "HUNG_AFTER_S", 0.3)
    nursery.monkeypatch.setattr(generation_module, "DOUBT_S", 0.05)
    generation = nursery.make(Mute, is_candidate=False)
    generation.advance()
    (slot,) = generation.slots
    process, beat = slot.process, open_heartbeat(nursery.rows.beats_fd, slot.row)
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    slot.is_prepared = slot.is_accepting = True
    with capture_logs() as logs:
        for shows_life in (True, False):
            beat[0] = time.monotonic_ns()
            time.sleep(max(0.0, generation.due_at_s - time.monotonic()))
            generation.advance()  # doubts it
            if shows_life:
                beat[0] = time.monotonic_ns()
            time.sleep(max(0.0, generation.due_at_s - time.monotonic()))
            generation.advance()
            assert slot.is_killed is not shows_life
            beat[0] = time.monotonic_ns()
            generation.advance()
        assert process.wait(5) == -signal.SIGKILL
        generation.advance()
    assert [log["event"] for log in logs] == ["worker_hung", "worker_died"]
    assert logs[0]["silent_s"] >= 0.35
    assert slot.restart_at_s > time.monotonic() - 1


def test_worker_that_does_not_drain_is_killed_and_told(nursery: Nursery) -> None:
    """It has its deadline; one that was ended at once is nothing to tell of."""
    nursery.monkeypatch.setattr(generation_module, "KILL_AFTER_S", 0.0)
    for is_forced in (True, False):
        generation = nursery.make(Mute, is_candidate=False, ZEROCOPY_SERVER_DRAIN_DEADLINE_S="0.01")
        generation.advance()
        (slot,) = generation.slots
        assert slot.process is not None
        slot.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, slot.process.pid, os.WSTOPPED)  # or it would see what comes next
        generation.kill() if is_forced else generation.leave()
        time.sleep(0.02)
        with capture_logs() as logs:
            generation.advance()
        assert [log["event"] for log in logs] == ([] if is_forced else ["worker_not_drained"])


def test_row_is_wiped_of_gauges_and_given_to_the_next(nursery: Nursery) -> None:
    """What the gone counted stays in the sum; what they held is gone; no row is made in vain."""
    rows = nursery.rows
    first, second = rows.take(0), rows.take(1)
    collector = rows._collector
    collector.rows[first][CONNECTIONS] = 7
    collector.rows[first][CONNECTIONS_ACCEPTED] = 9
    rows.give_back(first)
    assert collector.rows[first][CONNECTIONS] == 0
    assert (rows.take(0), rows.take(2)) == (first, 2)
    assert collector.rows[first][CONNECTIONS_ACCEPTED] == 9
    assert (first, second) == (0, 1)


def test_event_loop_without_a_beat_is_no_longer_alive(nursery: Nursery) -> None:
    """Only those that accept are asked; each has a place of its own for its last sign of life."""
    generation = nursery.make(Mute, is_candidate=False, ZEROCOPY_SERVER_WORKERS="2")
    assert generation.is_alive(1.0), "nobody accepts yet"
    for slot in generation.slots:
        slot.is_accepting = True
        open_heartbeat(nursery.rows.beats_fd, slot.row)[0] = time.monotonic_ns()
    assert generation.is_alive(1.0)
    open_heartbeat(nursery.rows.beats_fd, generation.slots[1].row)[0] -= 2 * 10**9
    assert not generation.is_alive(1.0)


class Deaf(selectors.DefaultSelector):
    """A selector whose kernel has no memory for one more descriptor."""

    def register(self, *_: Any) -> Any:
        """Refuse."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_worker_that_cannot_be_watched_closes_each_descriptor_once(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number that is free belongs to whoever opens next; no later clean-up closes it again."""
    nursery.selector.close()
    nursery.selector = Deaf()
    generation = nursery.make(Mute, is_candidate=False)
    pipe, made, close, closed = os.pipe, list[int](), os.close, list[int]()

    def make_pipe() -> tuple[int, int]:
        ends = pipe()
        made.extend(ends)
        return ends

    def close_noted(fd: int) -> None:
        closed.append(fd)
        close(fd)

    monkeypatch.setattr(os, "pipe", make_pipe)
    monkeypatch.setattr(os, "close", close_noted)
    with capture_logs() as logs:
        generation.advance()
    generation.kill()
    generation.advance()
    assert sorted(fd for fd in closed if fd in made[:2]) == sorted(made[:2])
    (slot,) = generation.slots
    assert (slot.process, slot.report_fd) == (None, -1)
    assert [log["event"] for log in logs] == ["worker_not_started"]


def test_candidate_that_cannot_be_watched_is_refused(nursery: Nursery) -> None:
    """A reload comes to nothing then, and leaves no process."""
    nursery.selector.close()
    nursery.selector = Deaf()
    generation = nursery.make(Mute, is_candidate=True)
    generation.advance()
    assert generation.failure == "worker 0 cannot be started: No space left on device"
    assert generation.slots[0].process is None
