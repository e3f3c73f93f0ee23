"""The HTTP/1.1 connections of one listener, whatever channels carry them.

Owns the set of connections, their seats, and the context that they share. The listener accepts and
keeps the time.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from zerocopy.core.errors import OverloadError
from zerocopy.core.http.messages import Request
from zerocopy.transport.http1.connection import Connection
from zerocopy.transport.http1.context import Http1Context
from zerocopy.transport.http1.parser import Message, Persistence
from zerocopy.transport.http1.state import State

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from zerocopy.transport.admission import Admission, Seat
    from zerocopy.transport.channel import Channel

_REFUSED = Request(b"GET", b"", ())


class Http1Connections:
    """Connections from their first byte to their last; `shared` are the arguments of `Context`."""

    def __init__(self, admission: Admission, **shared: Any) -> None:
        self._admission = admission
        self._open: dict[Connection, Seat] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._emptied: asyncio.Future[None] | None = None
        self.context = Http1Context(spawn=self._spawn, forget=self._forget, **shared)

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def serve(self, channel: Channel, seat: Seat) -> None:
        """A connection came in, and has `seat` until it ends."""
        connection = Connection(self.context, channel)
        self._open[connection] = seat
        if seat.is_refused:
            refusal = OverloadError("too many connections; try again")
            message = Message(_REFUSED, Persistence.CLOSE, refusal, time.monotonic_ns())
            connection.answer(message)
        if connection.state is not State.CLOSED:
            self.context.wheel.add(connection)

    async def drain(self, deadline_s: float) -> None:
        """Let responses finish, close idle connections, abort the late ones.

        The context drains already. A request that comes in its idle time is still answered, with
        Connection: close: its client could not know, and may have sent it before.
        """
        assert self.context.draining, "or connections would stay"
        for connection in list(self._open):
            connection.drain()
        await self.until_empty(deadline_s)

    async def until_empty(self, deadline_s: float) -> None:
        """Until no connection is left; the late ones are aborted."""
        if self._open:
            self._emptied = self.context.loop.create_future()
            await asyncio.wait([self._emptied], timeout=max(0.0, deadline_s))
        for connection in list(self._open):
            connection.abort()

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run `work`; the loop itself would forget a task that nobody keeps."""
        task: asyncio.Task[None] = self.context.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _forget(self, connection: Connection) -> None:
        """A connection closed itself."""
        seat = self._open.pop(connection, None)
        if seat is not None:
            self._admission.leave(seat)
        if not self._open and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)
