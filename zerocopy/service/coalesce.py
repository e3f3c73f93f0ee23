"""Work that requests share, and that nobody gets the result of who came after it began.

Owns the rounds: one runs in a thread, whoever asks meanwhile waits for the next. So the work needs
no lock, the event loop waits for none, and any number of requests costs one round after another.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from zerocopy.core.errors import OverloadError
from zerocopy.service.thread_work import Errand

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor

K = TypeVar("K")
V = TypeVar("V")


class _Round(Generic[K, V]):
    """`keys` counts who waits for each; `errand` is there once the round is with the threads."""

    def __init__(self) -> None:
        self.keys = Counter[K]()
        loop = asyncio.get_running_loop()
        self.done: asyncio.Future[Mapping[K, V | Exception]] = loop.create_future()
        self.errand: Errand[Mapping[K, V | Exception]] | None = None


class Rounds(Generic[K, V]):
    """Runs `work` for all that ask at once. Used in the event loop's thread only."""

    def __init__(
        self, executor: Executor, work: Callable[[list[K]], Mapping[K, V | Exception]]
    ) -> None:
        self._executor = executor
        self._work = work
        self._next: _Round[K, V] | None = None
        self._is_running = False

    async def ask(self, key: K) -> V:
        """What `work` answers for `key` in a round that begins now or later.

        Raises:
            Exception: `work` answered it, or raised it.
        """
        waiting = self._next
        if waiting is None:
            waiting = self._next = _Round()
        waiting.keys[key] += 1
        if not self._is_running:
            self._begin()
        try:
            # Whoever goes away meanwhile does not take the round from the others.
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
            errand = Errand(self._executor, work)
            self._is_running = True
            errand.done.add_done_callback(self._end_spare)

    def _leave(self, left: _Round[K, V], key: K) -> None:
        """One who asked is gone; a round that nobody waits for does not begin."""
        left.keys[key] -= 1
        left.keys += Counter()  # without those of nobody
        if left.keys:
            return
        if left is self._next:
            self._next = None
        elif left.errand is not None:
            left.errand.cancel()

    def _begin(self) -> None:
        current, self._next = self._next, None
        assert current is not None, "somebody asks"
        try:
            current.errand = Errand(self._executor, partial(self._work, [*current.keys]))
        except OverloadError as error:
            self._is_running = False
            current.done.set_result(dict.fromkeys(current.keys, error))
            return
        self._is_running = True
        current.errand.done.add_done_callback(lambda job: self._end(current, job))

    def _end(self, current: _Round[K, V], job: asyncio.Future[Mapping[K, V | Exception]]) -> None:
        error = None if job.cancelled() else job.exception()
        if job.cancelled():
            current.done.cancel()
        elif isinstance(error, Exception):
            current.done.set_result(dict.fromkeys(current.keys, error))
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
