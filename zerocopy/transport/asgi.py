"""The service as an ASGI 3.0 application, for any server that speaks it.

Owns the translation of scope, receive and send into a `Request` and a `Response` and back. Bodies
leave in bounded pieces, one awaited `send` each, so that the server's backpressure is ours too. It
knows no server: Hypercorn's HTTP/2 runs it for all methods but GET and HEAD, `bench/` under the
whole of Hypercorn, and the tests bare.
"""

from __future__ import annotations

import asyncio
from time import monotonic_ns
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from zerocopy.core import counters as slots
from zerocopy.core.errors import (
    BadRequestError,
    DataError,
    NotInstalledError,
    OverloadError,
    ZerocopyError,
)
from zerocopy.core.http.messages import Request, origin_form
from zerocopy.core.http.pending import CURRENT
from zerocopy.transport.body import Bodies
from zerocopy.transport.request_metrics import RequestMetrics
from zerocopy.transport.timers import NEVER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, MutableMapping

    from zerocopy.core.counters import Counters
    from zerocopy.core.http.messages import Handler, Response
    from zerocopy.core.http.pending import PendingRequest
    from zerocopy.core.window import Window
    from zerocopy.transport.body import Body
    from zerocopy.transport.context import Context
    from zerocopy.transport.limits import RequestLimits
    from zerocopy.transport.request_metrics import Access, Tally
    from zerocopy.transport.scheduler import SendScheduler

    Event = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Event]]
    Send = Callable[[Event], Awaitable[None]]

PIECE_BYTES = 262_144
"""Bytes of a body in one `send`: larger ones measured no faster, and all of it may be buffered."""

READY_TICKS = 4
"""Ticks after which the bytes that were made ready for a client that takes nothing are dropped."""

REFUSED = "zerocopy.refused"
"""A key of scope["state"] that a listener sets for connections above its bound."""

NETWORK = "zerocopy.network"
"""A key of scope["state"] under which a listener says whose the connection is; see `Request`."""

_WITHOUT_CONTENT = frozenset({204, 304})


class _ClientLeftError(Exception):
    """The client left before its request had ended."""


class TransferAbortedError(Exception):
    """Ends a response after its status line: an ASGI server then aborts the stream."""


class _Sending:
    """A body on its way, and the windows of it that threads read.

    A member of the listener's wheel, which drops what was read for a client that takes nothing.
    """

    __slots__ = ("_context", "_moved_at", "body", "deadline", "reading")

    def __init__(self, body: Body, context: Context | None) -> None:
        self.body = body
        self.reading: set[asyncio.Task[None]] = set()
        self.deadline = NEVER
        self._context = context
        self._moved_at = 0
        if context is not None:
            self.move()
            self.deadline = self._moved_at + READY_TICKS
            context.wheel.add(self)

    def take(self, most: int) -> bytes:
        """At most so many bytes, which then have left; b"" where they are still to be read.

        They are copied here: no name of a coroutine that waits may keep what was gathered.
        """
        return bytes(self.body.take(most) or b"")

    def move(self) -> None:
        """Bytes have left, or can leave now."""
        if self._context is not None:
            self._moved_at = self._context.wheel.now

    def on_deadline(self) -> None:
        """Look whether the client has stalled; called by the wheel."""
        assert self._context is not None, "it has a wheel"
        now = self._context.wheel.now
        if now - self._moved_at >= READY_TICKS:
            self.body.expire()
        self.deadline = now + READY_TICKS

    def end(self) -> None:
        """Give everything back."""
        self.deadline = NEVER
        self.body.close()
        for task in self.reading:
            task.cancel()


class AsgiApp:
    """`handler` as an ASGI application; scopes are `lifespan` and `http`.

    If a listener has given its `context`, large responses take their turns among those of the
    listener and keep its bounds.
    """

    def __init__(
        self,
        *,
        handler: Handler,
        limits: RequestLimits,
        content_read_s: float,
        read_ahead_bytes_max: int,
        counters: Counters,
        on_transfer_failed: Callable[[Exception, PendingRequest | None], None],
        access: Access | None = None,
        tally: Tally | None = None,
    ) -> None:
        self._handler = handler
        self._limits = limits
        self._content_read_s = content_read_s
        self._own_bodies = Bodies(window_bytes_max=read_ahead_bytes_max)
        self._counters = counters
        self._metrics = RequestMetrics(slots.TLS, counters, access, tally)
        self._on_transfer_failed = on_transfer_failed
        self.context: Context | None = None

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        """Serve one connection of the server's making.

        Raises:
            TransferAbortedError: a file failed after the status line had left.
        """
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._respond(scope, receive, send)
        else:
            assert scope["type"] == "websocket", "the ASGI specification has no fourth type"
            await send({"type": "websocket.close"})

    async def _respond(self, scope: Event, receive: Receive, send: Send) -> None:
        request, streams = _request_of(scope), int(scope["http_version"] == "2")
        pending = self._metrics.begin(request, monotonic_ns())
        CURRENT.set(pending)
        self._counters[slots.STREAMS] += streams
        try:
            await self._serve(pending, scope, receive, send)
        finally:
            self._counters[slots.STREAMS] -= streams
            self._metrics.end(pending)

    async def _serve(
        self, pending: PendingRequest, scope: Event, receive: Receive, send: Send
    ) -> None:
        try:
            content_is_read = await self._read_content(scope, pending.request, receive)
        except _ClientLeftError:
            return
        is_last = not content_is_read or bool(scope.get("state", {}).get(REFUSED))
        # Planning ends with the client as well, and not only sending.
        answering = self._reply(pending, scope, send, is_last=is_last)
        # Over HTTP/2 the connection drops content that nobody wants: receiving costs nothing.
        is_watched = content_is_read or scope["http_version"] == "2"
        await _while_connected(answering, receive if is_watched else None)

    async def _reply(
        self, pending: PendingRequest, scope: Event, send: Send, *, is_last: bool
    ) -> None:
        request, context = pending.request, self.context
        bodies = self._own_bodies if context is None else context.bodies
        response = await self._answer(scope, request)
        if not bodies.has_room_for(response):
            response = self._handler.refuse(OverloadError("too many large answers at once"))
        sending: _Sending | None = None
        if response.segments and not request.is_head:
            nbytes = response.nbytes - len(response.content)
            sending = _Sending(bodies.open(b"", response.segments, nbytes, mapped=True), context)
        try:
            await send(_start(scope, response, is_last=is_last))
            self._metrics.promise(pending, response)
            if context is not None and not response.segments:
                context.scheduler.hurry(1)
            if request.is_head:
                await send({"type": "http.response.body"})
                return
            pending.left_bytes = response.nbytes
            await self._send_body(pending, send, response.content, sending)
        finally:
            if sending is not None:
                sending.end()

    async def _answer(self, scope: Event, request: Request) -> Response:
        if scope.get("state", {}).get(REFUSED):
            return self._handler.refuse(OverloadError("too many connections; try again"))
        error = self._limits.check(request)
        if error is None and scope["http_version"] == "1.1" and not request.values(b"host"):
            error = BadRequestError("the request must have exactly one Host field")
        if error is not None:
            return self._handler.refuse(error)
        response = self._handler.respond_now(request) or await self._handler.respond(request)
        if response.feed is None:
            return response
        response.feed.close()  # GET comes here only under another server's listener
        return self._handler.refuse(NotInstalledError("live data need a listener of zerocopy's"))

    async def _read_content(self, scope: Event, request: Request, receive: Receive) -> bool:
        """Read and drop the request's content; False where it is too long or too slow.

        Raises:
            _ClientLeftError: nobody waits for a response.
        """
        nbytes = 0
        if scope["http_version"] == "2" and request.values(b"expect"):
            return False  # it waits for 100 or a final status, RFC 9110 section 10.1.1
        if scope["http_version"] in ("1.0", "1.1"):
            announced = [value for name, value in request.fields if name == b"content-length"]
            if announced and int(announced[0]) > self._limits.content_bytes_max:
                return False
            if request.values(b"transfer-encoding"):
                return False  # the response does not depend on it, and nothing may follow it
        try:
            async with asyncio.timeout(self._content_read_s):
                while nbytes <= self._limits.content_bytes_max:
                    event = await receive()
                    if event["type"] == "http.disconnect":
                        raise _ClientLeftError
                    nbytes += len(event.get("body", b""))
                    if not event.get("more_body", False):
                        return True
        except TimeoutError:
            pass
        return False

    async def _send_body(
        self, pending: PendingRequest, send: Send, content: bytes, sending: _Sending | None
    ) -> None:
        self._counters[slots.SENT_BYTES_COPY] += len(content)
        pending.left_bytes -= len(content)
        await _send_piece(send, content, more=sending is not None)
        if sending is None:
            return
        try:
            await self._send_segments(pending, send, sending)
        except ZerocopyError as error:
            self._counters[slots.TRANSFERS_ABORTED] += 1
            self._on_transfer_failed(error, pending)
            raise TransferAbortedError from error

    async def _send_segments(self, pending: PendingRequest, send: Send, sending: _Sending) -> None:
        scheduler, body = None if self.context is None else self.context.scheduler, sending.body
        while body.left_bytes:
            budget = PIECE_BYTES if scheduler is None else await _turn(scheduler, body)
            piece = sending.take(budget)
            self._read_ahead(sending)
            if not piece:
                assert sending.reading, "what is missing is being read"
                await asyncio.wait(sending.reading)
                continue
            self._counters[slots.SENT_BYTES_COPY] += len(piece)
            pending.left_bytes -= len(piece)
            if scheduler is not None:
                scheduler.sent(len(piece), is_from_disk=body.is_from_disk)
            await _send_piece(send, piece, more=body.left_bytes > 0)
            sending.move()

    def _read_ahead(self, sending: _Sending) -> None:
        """Have a thread read what is to be read now."""
        window = sending.body.next_window()
        if window is not None:
            task = asyncio.ensure_future(self._prepare(sending, window))
            sending.reading.add(task)
            task.add_done_callback(sending.reading.discard)

    async def _prepare(self, sending: _Sending, window: Window) -> None:
        error: ZerocopyError | None = DataError("a window could not be made ready")
        try:
            await self._handler.prepare(window)
            error = None
        except ZerocopyError as failure:
            error = failure
        finally:
            sending.body.prepared(window, error)
            sending.move()


def _start(scope: Event, response: Response, *, is_last: bool) -> Event:
    fields = [(name.lower(), value) for name, value in response.fields]
    fields.append((b"server", b"zerocopy"))
    if response.status not in _WITHOUT_CONTENT:
        fields.append((b"content-length", b"%d" % response.nbytes))
    if scope["http_version"] in ("1.0", "1.1") and is_last:
        fields.append((b"connection", b"close"))  # content is no request
    return {"type": "http.response.start", "status": response.status, "headers": fields}


async def _while_connected(work: Coroutine[Any, Any, None], receive: Receive | None) -> None:
    """Run `work`, as long as `receive` does not tell that the client has left."""
    if receive is None:
        await work
        return
    # Once the client has left, the rest of the response is of no use.
    sending = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_until_disconnected(receive))
    try:
        await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            sending.result()
    finally:
        for task in (sending, leaving):
            task.cancel()
        await asyncio.wait((sending, leaving))


async def _lifespan(receive: Receive, send: Send) -> None:
    """Start and stop with the server; what the handler needs is there before and after."""
    while True:
        event = await receive()
        await send({"type": event["type"] + ".complete"})
        if event["type"] == "lifespan.shutdown":
            return


async def _turn(scheduler: SendScheduler, body: Body) -> int:
    """Wait for a turn. Returns how many bytes may leave in it."""
    await scheduler.take(PIECE_BYTES)
    cost_per_byte = scheduler.cost_per_byte(is_from_disk=body.is_from_disk)
    return min(PIECE_BYTES, scheduler.turn_bytes // cost_per_byte)


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_piece(send: Send, piece: bytes, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": more})


def _request_of(scope: Event) -> Request:
    # The unescaped path is for servers that keep no other: raw_path is optional.
    target: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    target = origin_form(target.partition(b"?")[0])
    if scope["query_string"]:
        target += b"?" + scope["query_string"]
    fields = tuple((bytes(name), bytes(value)) for name, value in scope["headers"])
    network = scope.get("state", {}).get(NETWORK, b"")
    return Request(scope["method"].encode(), target, fields, network=network)
