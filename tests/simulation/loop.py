"""An event loop in virtual time whose free choices come from the seed.

Owns what the real loop promises and nothing more: callbacks of call_soon in order and after the
sockets of the turn; timers not early; sockets that are ready in any order, perhaps not all in one
turn; threads whenever they like. As uvloop does, it calls the callbacks of a socket with an error
once more and forgets them.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from tests.simulation.kernel import OpenFile

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tests.simulation.kernel import Kernel

_NS = 1_000_000_000
PART_OF_EVENTS = 0.2
"""How often epoll_wait(2) tells of some of the ready sockets only."""


class Job:
    """Work of a thread: first it waits to run, then its result waits to be delivered."""

    __slots__ = ("error", "future", "result", "work")

    def __init__(self, future: asyncio.Future[Any], work: Callable[[], Any]) -> None:
        self.future = future
        self.work = work
        self.result: Any = None
        self.error: BaseException | None = None


class Loop:
    """The part of AbstractEventLoop that servers, tasks and futures use."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._soon: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timer_count = 0
        self.readers: dict[int, asyncio.Handle] = {}
        self.writers: dict[int, asyncio.Handle] = {}
        self.jobs: list[Job] = []
        self.finished: list[Job] = []
        self.errors: list[dict[str, Any]] = []
        self.in_turn = False
        self.asyncio = cast("asyncio.AbstractEventLoop", self)
        kernel.watched = lambda fd: fd in self.readers or fd in self.writers

    # ---- what the server and asyncio call

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Always, as seen from within."""
        return True

    def is_closed(self) -> bool:
        """Never."""
        return False

    def time(self) -> float:
        """Virtual seconds."""
        return self._kernel.clock.time()

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        """Call in the next turn, in order."""
        handle = asyncio.Handle(callback, args, self.asyncio, context)
        self._soon.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """Call once so many virtual seconds have passed."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """Call once the virtual second `when` has come."""
        handle = asyncio.TimerHandle(when, callback, args, self.asyncio, context)
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing to count: a cancelled timer is dropped when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self.asyncio)

    def create_task(self, coro: Coroutine[Any, Any, Any], **_names: Any) -> asyncio.Task[Any]:
        """A task of this loop."""
        return asyncio.Task(coro, loop=self.asyncio)

    def run_in_executor(
        self, _executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Leave the work to a thread: the world decides when it runs, and when it is heard of."""
        future = self.create_future()
        self.jobs.append(Job(future, lambda: func(*args)))
        return future

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
        """Call whenever `fd` is readable."""
        assert fd in self._kernel.open, f"descriptor {fd} is not open"
        self.readers[fd] = asyncio.Handle(callback, args, self.asyncio, None)

    def remove_reader(self, fd: Any) -> bool:
        """No longer."""
        return self.readers.pop(fd, None) is not None

    def add_writer(self, fd: Any, callback: Any, *args: Any) -> None:
        """Call whenever `fd` is writable."""
        assert fd in self._kernel.open, f"descriptor {fd} is not open"
        self.writers[fd] = asyncio.Handle(callback, args, self.asyncio, None)

    def remove_writer(self, fd: Any) -> bool:
        """No longer."""
        return self.writers.pop(fd, None) is not None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What a callback let escape; the world judges it."""
        self.errors.append(context)

    # ---- what the world calls

    def ready(self) -> list[tuple[int, bool, bool, bool]]:
        """Descriptors with something to tell: whether readable, writable, in error."""
        events = []
        opened = self._kernel.open
        for fd in self.readers:
            what = opened[fd]
            assert not isinstance(what, OpenFile), "files are never waited for"
            if what.readable:
                failed = what.error is not None
                events.append((fd, True, fd in self.writers and what.writable, failed))
        for fd in self.writers:
            what = opened[fd]
            assert not isinstance(what, OpenFile), "files are never waited for"
            if what.writable and not (fd in self.readers and what.readable):
                events.append((fd, False, True, what.error is not None))
        return events

    def next_timer_ns(self) -> int | None:
        """When the next timer fires."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return int(self._timers[0][0] * _NS) + 1 if self._timers else None

    def has_work(self) -> bool:
        """Whether a turn would do anything now."""
        due = self.next_timer_ns()
        return bool(
            self._soon or (due is not None and due <= self._kernel.clock.now_ns) or self.ready()
        )

    def turn(self) -> None:
        """One turn: timers, sockets, then what is to be called soon."""
        assert not self.in_turn, "one thread has the loop"
        self.in_turn = True
        try:
            while (due := self.next_timer_ns()) is not None and due <= self._kernel.clock.now_ns:
                heapq.heappop(self._timers)[2]._run()
            self._poll()
            for _ in range(len(self._soon)):
                handle = self._soon.popleft()
                if not handle.cancelled():
                    handle._run()
                    self._kernel.between()
        finally:
            self.in_turn = False

    def run_job(self, job: Job) -> None:
        """Do a thread's work; what it gives is not heard of yet."""
        self.jobs.remove(job)
        try:
            job.result = job.work()
        except Exception as error:  # noqa: BLE001 - the future carries it
            job.error = without_frames(error)
        self.finished.append(job)

    def deliver(self, job: Job) -> None:
        """Tell the loop what a thread's work gave."""
        self.finished.remove(job)
        if job.future.done():
            return
        if job.error is not None:
            self.call_soon(job.future.set_exception, job.error)
        else:
            self.call_soon(job.future.set_result, job.result)

    def _poll(self) -> None:
        rng = self._kernel.rng
        # What is closed or stopped meanwhile is not called, even if its number has a new owner.
        events = [(*e, self.readers.get(e[0]), self.writers.get(e[0])) for e in self.ready()]
        rng.shuffle(events)
        if len(events) > 1 and rng.random() < PART_OF_EVENTS:
            del events[rng.randint(1, len(events)) :]
        for fd, readable, writable, failed, reader, writer in events:
            if (readable or failed) and reader is not None and self.readers.get(fd) is reader:
                reader._run()
                self._kernel.between()
            if (writable or failed) and writer is not None and self.writers.get(fd) is writer:
                writer._run()
                self._kernel.between()
            if failed and reader is not None and self.readers.get(fd) is reader:
                del self.readers[fd]
            if failed and writer is not None and self.writers.get(fd) is writer:
                del self.writers[fd]


def without_frames(error: BaseException) -> BaseException:
    """The error without tracebacks: by their frames they would keep what outer work has found."""
    each: BaseException | None = error
    while each is not None:
        each.__traceback__ = None
        each = each.__cause__ or each.__context__
    return error
