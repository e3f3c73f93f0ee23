"""HTTP/2 requests that are received in one iteration of the event loop and answered together.

Owns the short way of a request that its connection has made before: no task is woken for it. One
proof that a response is still true serves every connection that asked for it: each of them asked
before the proof was made.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, Protocol

from zerocopy.transport.http2.lane import Proved

if TYPE_CHECKING:
    from zerocopy.core.http.messages import Request
    from zerocopy.transport.context import Context
    from zerocopy.transport.http2.head import Answer
    from zerocopy.transport.http2.lane import Waiting

REQUESTS_MAX = 1_024
"""Requests that are known as one, whatever connection they come from."""


class Answering(Protocol):
    """A connection, as the batch sees it."""

    def answer_waiting(self, data: bytes, requests: list[Waiting], proved: Proved) -> None:
        """Answer the `requests` found in `data`, or have the rest of it read as ever."""

    def fail(self, error: Exception) -> None:
        """End the connection, which was not answered."""


class Batch:
    """The connections of one worker that wait for the end of the iteration, in their order."""

    __slots__ = ("_begun_ns", "_context", "_requests", "_waiting", "rendered")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._requests: dict[Request, Request] = {}
        self._waiting: list[tuple[Answering, bytes, list[Waiting]]] = []
        self.rendered: dict[int, Answer] = {}  # kept for later iterations, to be proved again
        self._begun_ns = 0  # when the first of them was read

    def known(self, request: Request) -> Request:
        """The one object that stands for all requests equal to this one."""
        if len(self._requests) >= REQUESTS_MAX:
            self._requests.clear()
        return self._requests.setdefault(request, request)

    def add(self, connection: Answering, data: bytes, requests: list[Waiting]) -> None:
        """Answer `requests` once everything that is readable has been read."""
        if not self._waiting:
            self._begun_ns = monotonic_ns()
            self._context.loop.call_soon(self.answer)
        self._waiting.append((connection, data, requests))

    def answer(self) -> None:
        """Answer all waiting requests, if there are any."""
        waiting, self._waiting = self._waiting, []
        proved = Proved()
        for connection, data, requests in waiting:
            try:
                connection.answer_waiting(data, requests, proved)
            except Exception as error:  # noqa: BLE001 - one connection must not stop the others
                self._fail(connection, error)
        proved.settle(self._context, self._begun_ns)

    def _fail(self, connection: Answering, error: Exception) -> None:
        """End a connection; if that fails too, those behind it are answered all the same."""
        try:
            connection.fail(error)
        except Exception as failure:  # noqa: BLE001 - as above
            told = {"message": "a connection could not be ended", "exception": failure}
            self._context.loop.call_exception_handler(told)
