"""What the HTTP/1.1 connections of a listener share besides `Context`: known heads, batch, date.

The server makes it. A connection gives itself back by `forget`, and knows no server otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zerocopy.transport.context import Context
from zerocopy.transport.fanout import Fanout
from zerocopy.transport.http1.batch import Batch
from zerocopy.transport.http1.head import Tails
from zerocopy.transport.http1.heads import KnownHeads

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine


class Http1Context(Context):
    """As `Context`; `spawn` runs work to its end, even if its connection is gone."""

    def __init__(
        self,
        *,
        spawn: Callable[[Coroutine[object, object, None]], asyncio.Task[None]],
        forget: Callable[[Any], None],
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.spawn = spawn
        self.forget = forget
        self.tails = Tails()
        self.heads = KnownHeads()
        self.batch = Batch(self, self.tails)
        self.fanout = Fanout(self.loop, self.batch.answer, self.scheduler)

    @property
    def leaves_at_once(self) -> bool:
        """Whether the server stops and waits for no further request."""
        return self.draining and not self.idle_ticks
