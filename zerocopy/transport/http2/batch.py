"""HTTP/2 requests that are received in one iteration of the event loop and answered together.

Owns the short way of a request that its connection has made before: no task is woken for it, and
its bytes go through no stream. `Receiver` asks the connection whether it can take what came;
`Batch` answers at the end of the iteration. One proof that a response is still true then serves
every connection that asked for it: each of them asked before the proof was made.
"""

from __future__ import annotations

import asyncio
from time import monotonic_ns
from typing import TYPE_CHECKING, NamedTuple, Protocol

from zerocopy.core import endpoints

if TYPE_CHECKING:
    from collections.abc import Callable

    from zerocopy.core.http.messages import Request, Response
    from zerocopy.transport.request_metrics import RequestMetrics
    from zerocopy.transport.scheduler import SendScheduler

REQUESTS_MAX = 1_024
"""Requests that are known as one, whatever connection they come from."""


class Waiting(NamedTuple):
    """A request that came: where its frame begins, its header block and its stream."""

    position: int
    block: bytes
    stream_id: int


Proved = dict[int, tuple[bytes, "Response"]]
"""By the identity of its request: a response that was proved in this turn, with its head."""


class Answering(Protocol):
    """A connection, as the batch sees it."""

    def answer_waiting(self, data: bytes, requests: list[Waiting], proved: Proved) -> None:
        """Answer the `requests` found in `data`, or have the rest of it read as ever."""

    def fail(self, error: Exception) -> None:
        """End the connection, which was not answered."""


class Receiver(asyncio.StreamReaderProtocol):
    """Gives what comes to `take` first, and to the reader what that refuses.

    `on_end` is called when nothing can be sent any more: the client said close_notify, to which
    uvloop answers with its own, or the connection is lost.
    """

    take: Callable[[bytes], bool] | None = None
    on_end: Callable[[], None] | None = None

    def data_received(self, data: bytes) -> None:
        """Bytes of the client's, decrypted."""
        if self.take is None or not self.take(data):
            super().data_received(data)

    def eof_received(self) -> bool | None:
        """The client sends nothing more; what it sent before comes first."""
        if self.take is not None:
            self.take(b"")
        if self.on_end is not None:
            self.on_end()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the connection go: it holds us."""
        on_end, self.take, self.on_end = self.on_end, None, None
        super().connection_lost(exc)
        if on_end is not None:
            on_end()


class Batch:
    """The connections of one worker that wait for the end of the turn, in the order they came."""

    __slots__ = ("_loop", "_metrics", "_requests", "_scheduler", "_waiting", "answered", "begun_ns")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, metrics: RequestMetrics, scheduler: SendScheduler
    ) -> None:
        self._loop = loop
        self._metrics = metrics
        self._scheduler = scheduler
        self._requests: dict[Request, Request] = {}
        self._waiting: list[tuple[Answering, bytes, list[Waiting]]] = []
        self.begun_ns = 0  # when the first of them was read
        self.answered = 0  # of them, in this turn

    def known(self, request: Request) -> Request:
        """The one object that stands for all requests equal to this one."""
        if len(self._requests) >= REQUESTS_MAX:
            self._requests.clear()
        return self._requests.setdefault(request, request)

    def add(self, connection: Answering, data: bytes, requests: list[Waiting]) -> None:
        """Answer `requests` once everything that is readable has been read."""
        if not self._waiting:
            self.begun_ns = monotonic_ns()
            self._loop.call_soon(self.answer)
        self._waiting.append((connection, data, requests))

    def answer(self) -> None:
        """Answer all waiting requests, if there are any."""
        waiting, self._waiting = self._waiting, []
        proved: Proved = {}
        for connection, data, requests in waiting:
            try:
                connection.answer_waiting(data, requests, proved)
            except Exception as error:  # noqa: BLE001 - one connection must not stop the others
                self._fail(connection, error)
        if self.answered:  # uvloop writes it all now, when the turn is over
            self._metrics.time(endpoints.DATA, self.begun_ns, self.answered)
            self._scheduler.hurry(self.answered)
            self.answered = 0

    def _fail(self, connection: Answering, error: Exception) -> None:
        """End a connection; if that fails too, those behind it are answered all the same."""
        try:
            connection.fail(error)
        except Exception as failure:  # noqa: BLE001 - as above
            told = {"message": "a connection could not be ended", "exception": failure}
            self._loop.call_exception_handler(told)
