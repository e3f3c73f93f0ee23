"""A live stream as an iterator: `AsyncLive` for `async for`, `Live` for `for`.

Owns the connection, by `websockets`, and the waits; `follow` says what to do next. There is one
implementation: `Live` runs an `AsyncLive` in an event loop in a thread of its own. The blocking
client of `websockets` is not used, for it reads and writes one SSLSocket from two threads, which
OpenSSL does not allow: its close() hangs at times.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from concurrent.futures import CancelledError
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar

from zerocopy.client.errors import MissingPackage, Reset
from zerocopy.client.follow import Follow

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from zerocopy.client.frame import Frame
    from zerocopy.client.options import Options

Result = TypeVar("Result")


class AsyncLive:
    """`Live` for `async for`; to be used by one task at a time, but for `close`."""

    def __init__(self, options: Options, target: str, cursor: str | None) -> None:
        self._follow = Follow(options, target, cursor)
        self._connection: Any = None
        self._held = AsyncExitStack()  # of the connection
        self._pending: Frame | Reset | None = None
        self._closing = asyncio.Event()
        self._connecting: asyncio.Task[Any] | None = None  # the task that connects

    @property
    def cursor(self) -> str | None:
        """Where the stream stands; None before it was opened, unless it was given."""
        return self._follow.cursor

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Frame:
        frame, self._pending = self._pending, None
        if isinstance(frame, Reset):
            raise frame
        while frame is None:
            if self._closing.is_set():
                raise StopAsyncIteration
            frame = await self._step()
        return frame

    async def close(self) -> None:
        """End the stream; an iterator that waits ends."""
        self._closing.set()
        if self._connecting is not None:
            self._connecting.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
        await self._held.aclose()

    def __del__(self) -> None:
        """Abort the connection of a stream that nobody closed: its own tasks keep it alive."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(RuntimeError):  # the event loop is closed
                connection.loop.call_soon_threadsafe(connection.transport.abort)

    async def __aenter__(self) -> Self:
        """Open the stream: from here on no record is missed."""
        try:
            while not self._follow.is_open and not self._closing.is_set():
                self._pending = await self._step()
        except Reset as reset:  # for `anext`: who is told now has nothing to go on with
            self._pending = reset
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _step(self) -> Frame | None:
        """Connect, or wait for a message: the frame of one that has records."""
        if self._connection is None:
            await self._connect()
            return None
        from websockets.exceptions import ConnectionClosed  # noqa: PLC0415 - when it is used

        try:
            message = await self._connection.recv()
        except ConnectionClosed as error:
            self._connection = None
            await self._held.aclose()
            if not self._closing.is_set():
                code, reason = (error.rcvd.code, error.rcvd.reason) if error.rcvd else (None, "")
                await self._pause(self._follow.ended(code, reason))
            return None
        return self._follow.take(message)

    async def _connect(self) -> None:
        try:
            from websockets.asyncio.client import connect  # noqa: PLC0415
            from websockets.exceptions import InvalidHandshake  # noqa: PLC0415
        except ImportError:
            raise MissingPackage("websockets is not installed: pip install websockets") from None
        connecting: Any = connect(self._follow.url, **self._follow.arguments)
        connecting.process_redirect = lambda error: error  # told, not followed
        task = self._connecting = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        try:
            self._connection = await self._held.enter_async_context(connecting)
        except asyncio.CancelledError:
            if not self._closing.is_set() or task.uncancel():  # not, or not only, by `close`
                raise
        except (OSError, EOFError, InvalidHandshake) as error:
            self._connecting = None  # a wait ends by itself when the stream does
            await self._pause(self._follow.refused(error))
        finally:
            self._connecting = None

    async def _pause(self, seconds: float) -> None:
        """Wait, unless the stream is to end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)


class Live:
    """Frames of records as they are appended: iterate, and close it or use it in `with`.

    To be used by one thread at a time, but for `close`.

    Attributes:
        cursor: where the stream stands, behind the last frame that was given.

    Raises:
        Reset: by `next`, if the day at the cursor was replaced; iterate on to continue.
        NotFound, Unauthorized: by `next`, if the series or the key is gone at a reconnect.
    """

    def __init__(self, options: Options, target: str, cursor: str | None) -> None:
        self._stream = AsyncLive(options, target, cursor)
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()  # nothing is asked of the loop that is told to end
        self._thread = threading.Thread(
            target=_run, args=(self._loop, self._stream), name="zerocopy-live", daemon=True
        )
        self._thread.start()
        # The thread of a stream that nobody closes ends with this object.
        self._end = weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)
        try:
            self._wait(self._stream.__aenter__)
        except BaseException:
            self.close()
            raise

    @property
    def cursor(self) -> str | None:
        """Where the stream stands."""
        return self._stream.cursor

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        try:
            return self._wait(self._stream.__anext__)
        except (StopAsyncIteration, CancelledError):
            raise StopIteration from None

    def close(self) -> None:
        """End the stream, from any thread; an iterator that waits ends."""
        with self._lock:
            self._end()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self, ask: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """What a coroutine of the event loop gives; an interrupt cancels it."""
        with self._lock:
            if not self._end.alive:
                raise StopAsyncIteration
            future = asyncio.run_coroutine_threadsafe(ask(), self._loop)
        try:
            return future.result()
        finally:
            future.cancel()


def _run(loop: asyncio.AbstractEventLoop, stream: AsyncLive) -> None:
    """Be the thread of a stream's event loop, and end the stream once that is stopped."""
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.get_loop().run_forever()
        runner.run(stream.close())
