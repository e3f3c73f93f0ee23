"""Work that a request gives to a thread, and what becomes of it if the request is cancelled.

Owns the hand-over, and the threads of what takes long. A request may be cancelled at any await.
Work that has not begun then never begins; what a thread makes nevertheless is handed to a function
that closes it. Used in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from zerocopy.core.errors import OverloadError
from zerocopy.storage.turns import take_turns

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

T = TypeVar("T")

COMPUTING_NICE = 10
"""How much nicer threads that compute are than the event loop (sched(7)): they get a tenth of a
processor that both want. With 19 they would be starved beside other processes, and the event loop
with them where they hold the interpreter's lock (decision 38)."""


def computing_threads(count: int, name: str) -> ThreadPoolExecutor:
    """Threads for what takes the processor for milliseconds; event loops go before them."""
    return ThreadPoolExecutor(count, name, initializer=_go_behind)


def _go_behind() -> None:
    take_turns()
    with suppress(OSError):  # a sandbox that allows no such thing
        os.nice(COMPUTING_NICE)  # of this thread alone (setpriority(2), C library differences)


class ThreadWork(Generic[T]):
    """`work`, done by a thread of `executor`; `done` is its result, and is never cancelled amid it.

    So the caller must shield it: a future of asyncio that is cancelled while its thread works is
    done at once, and the thread's result is lost.

    Raises:
        OverloadError: no thread can be started now.
    """

    __slots__ = ("_claim", "done")

    def __init__(self, executor: Executor, work: Callable[[], T]) -> None:
        # The one element is the claim to the work: a thread takes it to do the work, or `cancel`
        # takes it so that none does. list.pop is atomic, and an executor that fails to start a
        # thread keeps the work.
        self._claim = [None]
        loop = asyncio.get_running_loop()
        try:
            self.done: asyncio.Future[T] = loop.run_in_executor(executor, _run, work, self._claim)
        except RuntimeError as error:
            self._claim.clear()
            raise OverloadError("the server is out of threads; try again") from error

    def cancel(self) -> None:
        """It is no longer wanted: unless it has begun it never begins, and `done` is cancelled."""
        if _take(self._claim):
            self.done.cancel()


async def in_thread(
    executor: Executor, work: Callable[[], T], drop: Callable[[T], object] | None = None
) -> T:
    """Run `work` in a thread. Returns its result, which goes to `drop` after a cancellation.

    Raises:
        OverloadError: no thread can be started now.
        Exception: `work` raised it.
    """
    thread_work = ThreadWork(executor, work)
    try:
        return await asyncio.shield(thread_work.done)
    except asyncio.CancelledError:
        thread_work.cancel()
        thread_work.done.add_done_callback(lambda done: _drop(done, drop))
        raise


def _drop(done: asyncio.Future[T], drop: Callable[[T], object] | None) -> None:
    if not done.cancelled() and done.exception() is None and drop is not None:
        drop(done.result())


def _run(work: Callable[[], T], claim: list[None]) -> T:
    return work() if _take(claim) else cast("T", None)  # not waited for


def _take(claim: list[None]) -> bool:
    try:
        claim.pop()
    except IndexError:
        return False
    return True
