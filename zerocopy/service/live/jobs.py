"""Blocking work of live streams: a few threads of the executor at a time, the rest in a queue.

Owns the queue. Any number of readers that catch up leave threads for other requests, and looks at
files go before messages. Used in the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from zerocopy.core.errors import OverloadError
from zerocopy.core.plan import LIVE_THREADS

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    _Job = tuple[Callable[[], Any], Callable[[Any], object]]

T = TypeVar("T")


class Jobs:
    """Runs work in threads of `executor`, at most `threads_max` at once."""

    def __init__(self, executor: Executor, threads_max: int = LIVE_THREADS) -> None:
        self._executor = executor
        self._threads_max = threads_max
        self._urgent: deque[_Job] = deque()
        self._waiting: deque[_Job] = deque()
        self._running = 0

    def submit(
        self, work: Callable[[], T], on_done: Callable[[T | Exception], object], *, urgent: bool
    ) -> None:
        """Run `work` in a thread and then `on_done` here, with its result or what it raised."""
        (self._urgent if urgent else self._waiting).append((work, on_done))
        self._begin()

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread; its result.

        Raises:
            OverloadError: no thread can be started now.
            Exception: `work` raised it.
        """
        told: asyncio.Future[T | Exception] = asyncio.get_running_loop().create_future()

        def on_done(result: T | Exception) -> None:
            if not told.done():  # it is where the request was cancelled
                told.set_result(result)

        self.submit(work, on_done, urgent=True)
        result = await told
        if isinstance(result, Exception):
            raise result
        return result

    def _begin(self) -> None:
        while self._running < self._threads_max and (jobs := self._urgent or self._waiting):
            work, on_done = jobs.popleft()
            try:
                future = asyncio.get_running_loop().run_in_executor(self._executor, work)
            except RuntimeError:
                on_done(OverloadError("the server is out of threads; try again"))
                continue
            self._running += 1
            future.add_done_callback(partial(self._end, on_done))

    def _end(self, on_done: Callable[[Any], object], done: asyncio.Future[Any]) -> None:
        self._running -= 1
        self._begin()
        if done.cancelled():
            return
        error = done.exception()
        if error is not None and not isinstance(error, Exception):
            raise error
        on_done(error if error is not None else done.result())
