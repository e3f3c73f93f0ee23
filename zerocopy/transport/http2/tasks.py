"""The tasks of one TLS connection: Hypercorn's group of them, with ends of its own.

Owns how an application is run and given its events, and that cancelling the group ends it wherever
it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from hypercorn.asyncio.task_group import TaskGroup

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class ConnectionTasks(TaskGroup):
    """The tasks of one connection, which end with it, wherever they are.

    Hypercorn's own group has an application that is cancelled send its last event, which may wait
    for the client that has left.
    """

    async def spawn_app(
        self,
        app: Any,
        config: Any,  # noqa: ARG002 - as Hypercorn calls it
        scope: Any,
        send: Callable[[Any], Awaitable[None]],
    ) -> Callable[[Any], Awaitable[None]]:
        """Run `app` in a task. Returns the function that gives it its events."""
        # Content is bounded before it comes here. A queue with a bound of its own would hold up
        # the connection for ever, once its application has answered and reads no more of it.
        events: asyncio.Queue[Any] = asyncio.Queue()

        async def answer() -> None:
            with contextlib.suppress(Exception):  # `send` aborts what was promised
                await app(scope, events.get, send, None, None)
            await send(None)

        self.spawn(answer)
        return events.put
