"""Work that requests share, and that nobody gets the result of who came after it began.

Owns the rounds: one runs in a thread, whoever asks meanwhile waits for the next. So the work needs
no lock, the event loop waits for none, and any number of requests costs one round after another.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor

K = TypeVar("K")
V = TypeVar("V")


class _Round(Generic[K, V]):
    def __init__(self) -> None:
        self.keys: dict[K, None] = {}
        loop = asyncio.get_running_loop()
        self.done: asyncio.Future[Mapping[K, V | Exception]] = loop.create_future()


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
        waiting.keys[key] = None
        if not self._is_running:
            self._begin()
        # Whoever goes away meanwhile does not take the round from the others.
        answers = await asyncio.shield(waiting.done)
        answer = answers[key]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def spare(self, work: Callable[[], object]) -> None:
        """Do `work` in a thread if no round runs, and none while it does."""
        if not self._is_running:
            job = asyncio.get_running_loop().run_in_executor(self._executor, work)
            self._is_running = True
            job.add_done_callback(self._end_spare)

    def _begin(self) -> None:
        current, self._next = self._next, None
        assert current is not None, "somebody asks"
        loop = asyncio.get_running_loop()
        try:
            job = loop.run_in_executor(self._executor, self._work, [*current.keys])
        except RuntimeError as error:  # no thread can be started now
            self._is_running = False
            current.done.set_result(dict.fromkeys(current.keys, error))
            return
        self._is_running = True
        job.add_done_callback(lambda job: self._end(current, job))

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
