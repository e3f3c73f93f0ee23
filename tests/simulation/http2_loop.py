"""An event loop whose time is a number and whose threads are a seed's.

Owns the order of everything: callbacks run first come, first served, as in asyncio; sockets are
looked at in each iteration, and one with an error is told of once and forgotten, as by uvloop; jobs
for threads start and end after delays that a random generator draws; time jumps to the next timer
once nothing is left to do. Nothing waits, and a seed gives the same order every time.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from random import Random

JOB_DELAYS_S = (0.0, 0.0, 0.0002, 0.001, 0.004, 0.03)
"""How long a job waits for its thread, and its result for the loop."""

STEPS_MAX = 1_500_000
"""Callbacks of one run: more is a loop that spins."""


class Pollable(Protocol):
    """What epoll(7) tells of a socket."""

    error: int | None

    @property
    def readable(self) -> bool:
        """EPOLLIN."""

    @property
    def writable(self) -> bool:
        """EPOLLOUT."""


class SimLoop:
    """As much of an event loop as asyncio's tasks, locks and streams need."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._now_s = 0.0
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._filed = 0
        self.sockets: dict[int, Pollable] = {}
        self._readers: dict[int, asyncio.Handle] = {}
        self._writers: dict[int, asyncio.Handle] = {}
        self.steps = 0
        self.jobs_open = 0
        self.job = ""
        self.tasks: set[asyncio.Task[Any]] = set()
        self.failures: list[dict[str, Any]] = []

    # ---- what asyncio asks for

    def time(self) -> float:
        """Seconds since the run began."""
        return self._now_s

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Always, for whoever asks is run by it."""
        return True

    def is_closed(self) -> bool:
        """Never."""
        return False

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        """After everything that is ready already."""
        handle = asyncio.Handle(callback, args, cast("Any", self), context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """`delay` seconds from now."""
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """At a second of `time`; equal ones in the order of the calls."""
        timer = asyncio.TimerHandle(when, callback, args, cast("Any", self), context)
        self._filed += 1
        heapq.heappush(self._timers, (when, self._filed, timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is skipped when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=cast("Any", self))

    def create_task(self, coro: Coroutine[Any, Any, Any], **kwargs: Any) -> asyncio.Task[Any]:
        """A task of this loop, remembered until it is done."""
        task = asyncio.Task(coro, loop=cast("Any", self), name=kwargs.get("name"))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def run_in_executor(
        self, _executor: object, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run a job at a later moment, whole, and tell its result at another."""
        future = self.create_future()
        self.jobs_open += 1
        self.call_later(self._rng.choice(JOB_DELAYS_S), self._run_job, future, func, args)
        return future

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        """Call whenever a socket is readable."""
        assert fd in self.sockets, f"descriptor {fd} is not open"
        self._readers[fd] = asyncio.Handle(callback, (), cast("Any", self), None)

    def remove_reader(self, fd: int) -> bool:
        """No longer."""
        return self._readers.pop(fd, None) is not None

    def add_writer(self, fd: int, callback: Callable[[], None]) -> None:
        """Call whenever a socket is writable."""
        assert fd in self.sockets, f"descriptor {fd} is not open"
        self._writers[fd] = asyncio.Handle(callback, (), cast("Any", self), None)

    def remove_writer(self, fd: int) -> bool:
        """No longer."""
        return self._writers.pop(fd, None) is not None

    def forget(self, fd: int) -> None:
        """A descriptor is closed."""
        assert fd not in self._readers | self._writers, "closed while it is watched"
        del self.sockets[fd]

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Nothing may fail outside of a task that somebody awaits."""
        self.failures.append(context)

    # ---- running

    def _run_job(
        self, future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        self.job = getattr(args[0] if args else func, "__name__", "a job")
        try:
            told: tuple[Callable[..., None], Any] = future.set_result, func(*args)
        except Exception as error:  # noqa: BLE001 - it is the awaiting task's
            told = future.set_exception, error
        finally:
            self.job = ""
        self.call_later(self._rng.choice(JOB_DELAYS_S), self._tell, future, *told)

    def _tell(self, future: asyncio.Future[Any], tell: Callable[..., None], value: object) -> None:
        self.jobs_open -= 1
        if not future.cancelled():
            tell(value)

    def _has_events(self) -> bool:
        return any(self.sockets[fd].readable for fd in self._readers) or any(
            self.sockets[fd].writable for fd in self._writers
        )

    def _poll(self) -> None:
        """Call what waits for a socket, before what is ready already."""
        for fd, end in list(self.sockets.items()):
            failed, readable, writable = end.error is not None, end.readable, end.writable
            for watched, is_due in ((self._readers, readable), (self._writers, writable)):
                handle = watched.get(fd)
                if handle is None or not is_due:
                    continue
                self.steps += 1
                handle._run()
                if failed and watched.get(fd) is handle:
                    del watched[fd]

    @property
    def is_idle(self) -> bool:
        """Whether no job is open, and nothing is left of those that ended."""
        return not self.jobs_open and not self._ready

    def run_once(self) -> None:
        """Run what is ready; where nothing is, move to the next timer first."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if not self._ready and not self._has_events():
            assert self._timers, "nothing can happen any more"
            self._now_s = max(self._now_s, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self._now_s:
            timer = heapq.heappop(self._timers)[2]
            if not timer.cancelled():
                self._ready.append(timer)
        self._poll()
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            if not handle.cancelled():
                self.steps += 1
                handle._run()
        assert self.steps < STEPS_MAX, "the server spins"

    def run_until(self, is_done: Callable[[], bool], within_s: float) -> bool:
        """Run until `is_done` or so many seconds later; whether it is."""
        deadline_s = self._now_s + within_s
        while not is_done():
            if self._now_s > deadline_s:
                return False
            self.run_once()
            if self.failures and isinstance(error := self.failures[0].get("exception"), Exception):
                raise error
        return True

    def __enter__(self) -> Self:
        """Be the running loop."""
        asyncio._set_running_loop(cast("Any", self))
        return self

    def __exit__(self, *_error: object) -> None:
        """Be it no more; what still runs, because the run failed, is cancelled."""
        for task in list(self.tasks):
            task.cancel()
        for _ in range(50 if self.tasks else 0):
            if self._ready:
                self.run_once()
        for task in list(self.tasks):
            cast("Any", task)._log_destroy_pending = False
        asyncio._set_running_loop(None)
