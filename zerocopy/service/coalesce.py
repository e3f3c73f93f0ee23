"""Work that runs once for all requests that ask for it before it begins.

A request never gets the result of work that began before it arrived. Owns the rounds: one round
runs in a thread; requests that arrive meanwhile share the next round. So the work needs no lock,
the event loop does not wait, and any number of requests costs one round after another.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from zerocopy.core.errors import OverloadError
from zerocopy.service.thread_work import ThreadWork

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor

K = TypeVar("K")
V = TypeVar("V")


class _Call(Generic[K, V]):
    """`keys` counts the requests that wait for each; `thread_work` is set once a thread has it."""

    def __init__(self) -> None:
        self.keys = Counter[K]()
        loop = asyncio.get_running_loop()
        self.done: asyncio.Future[Mapping[K, V | Exception]] = loop.create_future()
        self.thread_work: ThreadWork[Mapping[K, V | Exception]] | None = None


class Coalescer(Generic[K, V]):
    """Runs `work` for all that ask at once. Used in the event loop's thread only."""

    def __init__(
        self, executor: Executor, work: Callable[[list[K]], Mapping[K, V | Exception]]
    ) -> None:
        self._executor = executor
        self._work = work
        self._next: _Call[K, V] | None = None
        self._is_running = False

    async def ask(self, key: K) -> V:
        """Wait for a round that begins now or later. Returns what `work` answers for `key`.

        Raises:
            Exception: `work` answered it, or raised it.
        """
        waiting = self._next
        if waiting is None:
            waiting = self._next = _Call()
        waiting.keys[key] += 1
        if not self._is_running:
            self._begin()
        try:
            # A request that is cancelled meanwhile does not end the round for the others.
            answers = await asyncio.shield(waiting.done)
        except asyncio.CancelledError:
            self._leave(waiting, key)
            raise
        answer = answers[key]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def spare(self, work: Callable[[], object]) -> None:
        """Do `work` in a thread if no round runs, and none while it does."""
        if not self._is_running:
            thread_work = ThreadWork(self._executor, work)
            self._is_running = True
            thread_work.done.add_done_callback(self._end_spare)

    def _leave(self, left: _Call[K, V], key: K) -> None:
        """A request was cancelled; a round that no request waits for does not begin."""
        left.keys[key] -= 1
        left.keys += Counter()  # drop keys that no request waits for
        if left.keys:
            return
        if left is self._next:
            self._next = None
        elif left.thread_work is not None:
            left.thread_work.cancel()

    def _begin(self) -> None:
        current, self._next = self._next, None
        assert current is not None, "somebody asks"
        try:
            current.thread_work = ThreadWork(self._executor, partial(self._work, [*current.keys]))
        except OverloadError as error:
            self._is_running = False
            current.done.set_result(dict.fromkeys(current.keys, error))
            return
        self._is_running = True
        current.thread_work.done.add_done_callback(lambda job: self._end(current, job))

    def _end(self, current: _Call[K, V], job: asyncio.Future[Mapping[K, V | Exception]]) -> None:
        error = None if job.cancelled() else job.exception()
        if job.cancelled():
            current.done.cancel()
        elif isinstance(error, Exception):
            current.done.set_result(dict.fromkeys(current.keys, error))
        elif error is not None:
            current.done.set_exception(error)
        else:
            current.done.set_result(job.result())
        self._go_on()

    def _end_spare(self, job: asyncio.Future[object]) -> None:
        self._go_on()
        if not job.cancelled():
            job.result()  # what it raised is for the loop's handler

    def _go_on(self) -> None:
        self._is_running = False
        if self._next is not None:
            self._begin()
