"""Windows of responses made ready by threads: which threads, and how many windows at a time.

Owns two queues: for windows that are read from the disk, and for runs of tiny files that are
usually in memory and are gathered. It knows neither requests nor connections. Used in the event
loop's thread.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from zerocopy.core import counters as slots
from zerocopy.core.errors import DataError, OverloadError, ZerocopyError
from zerocopy.core.window import GATHERERS_MAX
from zerocopy.service.thread_work import ThreadWork
from zerocopy.storage.reading import Reading

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from zerocopy.core.counters import Counters
    from zerocopy.core.window import Window
    from zerocopy.storage.dayfile import OpenFiles


class Prefetcher:
    """Has `readers`, `readers_max` threads, make windows ready; `planners` gather what is warm.

    As many at a time as there are threads, for each holds descriptors until it has ended.
    """

    def __init__(
        self,
        files: OpenFiles,
        planners: Executor,
        readers: Executor,
        readers_max: int,
        counters: Counters,
    ) -> None:
        self._files = files
        self._planners = planners
        self._readers = readers
        self._gatherers_free = asyncio.Semaphore(GATHERERS_MAX)
        self._readers_free = asyncio.Semaphore(readers_max)
        self._counters = counters

    async def prepare(self, window: Window) -> None:
        """Open, map and read in what is not ready, or gather it; see `Handler`.

        A gathering window uses the planner threads; it queues with disk reads only if its bytes
        are not in memory.
        """
        if not window.may_wait:
            await self._read(window, self._planners, self._gatherers_free)
            if window.content or window.is_cancelled:
                return
            window.may_wait = True
        await self._read(window, self._readers, self._readers_free)

    async def _read(self, window: Window, executor: Executor, free: asyncio.Semaphore) -> None:
        """Have one of the threads read a window, which is `free` again once it is done."""
        await free.acquire()
        if window.is_cancelled:
            free.release()
            return
        try:
            reading = Reading(self._files, window)
        except BaseException:
            free.release()
            raise
        try:
            thread_work = ThreadWork(executor, reading.run)
        except OverloadError:
            self._end(reading, window, free)
            raise

        def end(done: asyncio.Future[None]) -> None:
            self._end(reading, window, free)
            if not done.cancelled():
                done.exception()  # raised in the request that waits for it, if one still does

        thread_work.done.add_done_callback(end)
        try:
            await asyncio.shield(thread_work.done)
        except asyncio.CancelledError:
            window.cancel()
            thread_work.cancel()
            raise
        except ZerocopyError:
            raise
        except Exception as error:
            raise DataError("a day file cannot be read") from error

    def _end(self, reading: Reading, window: Window, free: asyncio.Semaphore) -> None:
        """No thread is at work on a window any more: give back what was taken for it."""
        try:
            if window.is_cancelled:
                reading.drop()
            else:
                reading.finish()
        finally:
            free.release()
        if window.missing_bytes:
            self._counters[slots.COLD_READS] += 1
            self._counters[slots.COLD_BYTES] += window.missing_bytes
