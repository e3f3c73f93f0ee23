"""The service as an ASGI 3.0 application, for any server that speaks it.

Owns the translation of scope, receive and send into a `Request` and a `Response` and back. Bodies
leave in bounded pieces, one awaited `send` each, so that the server's backpressure is ours too. It
knows no server: Hypercorn runs it for HTTP/1.1 over TLS and for all routes but the data over
HTTP/2, and the tests run it bare.
"""

from __future__ import annotations

import asyncio
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from zerocopy.core import counters as slots
from zerocopy.core.errors import BadRequestError, DataError, OverloadError, ZerocopyError
from zerocopy.core.http.messages import Request, origin_form
from zerocopy.core.http.pending import CURRENT
from zerocopy.core.window import fair_gathered_bytes, place_after
from zerocopy.transport.readahead import ReadAhead
from zerocopy.transport.request_metrics import Account
from zerocopy.transport.timers import NEVER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, MutableMapping, Sequence

    from zerocopy.core.counters import Counters
    from zerocopy.core.http.messages import Handler, Response
    from zerocopy.core.http.pending import Exchange
    from zerocopy.core.plan import Segment
    from zerocopy.core.window import Place, Window
    from zerocopy.transport.limits import RequestLimits
    from zerocopy.transport.request_metrics import Access
    from zerocopy.transport.scheduler import Turns
    from zerocopy.transport.timers import Wheel

    Event = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Event]]
    Send = Callable[[Event], Awaitable[None]]

PIECE_BYTES = 262_144
"""Bytes of a body in one `send`: larger ones measured no faster, and all of it may be buffered."""

READY_TICKS = 4
"""Ticks after which the bytes that were made ready for a client that takes nothing are dropped."""

REFUSED = "zerocopy.refused"
"""A key of scope["state"] that a listener sets for connections above its bound."""

METHOD = "zerocopy.method"
"""A key of scope["state"] for the method as it was sent: servers change it to upper case."""

_WITHOUT_CONTENT = frozenset({204, 304})


class TransferAbortedError(Exception):
    """Ends a response after its status line: an ASGI server then aborts the stream."""


class Listener(Protocol):
    """What all answers of a listener share: their turns, their time and their bounds."""

    turns: Turns
    wheel: Wheel
    segments_held: int
    transfers_held: int

    def window_slices(self, segment_count: int, /) -> int:
        """How many files an answer of so many segments may have open for one of its windows."""

    def has_room_for(self, response: Response, /) -> bool:
        """Whether its segments fit beside those that are held."""


class _Body:
    """The segments of an answer, which its listener counts until `end`.

    A member of the listener's wheel, which drops what was read for a client that takes nothing.
    """

    __slots__ = (
        "_ahead", "_listener", "_moved_at", "_place", "deadline", "reading", "segments",
    )  # fmt: skip

    def __init__(
        self, segments: Sequence[Segment], window_bytes_max: int, listener: Listener | None
    ) -> None:
        self.segments = segments
        self._ahead = ReadAhead(segments, window_bytes_max, mapped=True)
        self._place: Place = (0, 0)
        self.reading: set[asyncio.Task[None]] = set()
        self.deadline = NEVER
        self._listener = listener
        self._moved_at = 0
        if listener is not None:
            listener.transfers_held += 1
            listener.segments_held += len(segments)
            self.move()
            self.deadline = self._moved_at + READY_TICKS
            listener.wheel.add(self)

    @property
    def is_over(self) -> bool:
        """Whether all of it was taken."""
        return self._place[0] == len(self.segments)

    @property
    def is_from_disk(self) -> bool:
        """Whether its bytes are read from the disk, as far as it is known."""
        return self._ahead.is_from_disk

    def allowed(self, budget: int) -> int:
        """How many bytes may be taken now, at most `budget`; 0: they are being read, or will be."""
        index, position = self._place
        content = self._ahead.content(index, position)
        if content is not None:
            return min(budget, len(content))
        want = min(budget, self.segments[index].count - position)
        return self._ahead.allowed(index, position, want)

    def take(self, count: int) -> bytes:
        """The next bytes, so many of those `allowed`."""
        index, position = self._place
        content = self._ahead.content(index, position)
        if content is not None:
            piece = bytes(content[:count])
            self._ahead.took(count)
        else:
            segment = self.segments[index]
            piece = bytes(segment.source.view(segment.offset + position, count))
        self._place = place_after(self.segments, self._place, len(piece))
        return piece

    def next_window(self) -> Window | None:
        """What is to be read now, within the bounds of the listener."""
        listener = self._listener
        if listener is None:
            return self._ahead.next_window(*self._place)
        slices = listener.window_slices(len(self.segments))
        gathered = fair_gathered_bytes(listener.transfers_held)
        return self._ahead.next_window(*self._place, 1, slices, gathered)

    def prepared(self, window: Window, error: Exception | None) -> None:
        """A window is ready, or why it cannot be."""
        self._ahead.done(window, error)
        self.move()

    def move(self) -> None:
        """Bytes have left, or can leave now."""
        if self._listener is not None:
            self._moved_at = self._listener.wheel.now

    def on_deadline(self) -> None:
        """Look whether the client has stalled; called by the wheel."""
        assert self._listener is not None, "it has a wheel"
        now = self._listener.wheel.now
        if now - self._moved_at >= READY_TICKS:
            self._ahead.expire()
        self.deadline = now + READY_TICKS

    def end(self) -> None:
        """Give everything back."""
        self.deadline = NEVER
        self._ahead.cancel()
        for task in self.reading:
            task.cancel()
        if self._listener is not None:
            self._listener.transfers_held -= 1
            self._listener.segments_held -= len(self.segments)


class AsgiApp:
    """`handler` as an ASGI application; scopes are `lifespan` and `http`.

    Large answers take their turns among those of `listener`, where there is one, and keep its
    bounds.
    """

    def __init__(
        self,
        *,
        handler: Handler,
        limits: RequestLimits,
        content_read_s: float,
        read_ahead_bytes_max: int,
        counters: Counters,
        on_transfer_failed: Callable[[Exception, Exchange | None], None],
        access: Access | None = None,
    ) -> None:
        self._handler = handler
        self._limits = limits
        self._content_read_s = content_read_s
        self._window_bytes_max = read_ahead_bytes_max
        self._counters = counters
        self._account = Account(slots.TLS, counters, access)
        self._on_transfer_failed = on_transfer_failed
        self.listener: Listener | None = None

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
        exchange = self._account.begin(request, monotonic_ns())
        CURRENT.set(exchange)
        self._counters[slots.STREAMS] += streams
        try:
            await self._serve(exchange, scope, receive, send)
        finally:
            self._counters[slots.STREAMS] -= streams
            self._account.end(exchange)

    async def _serve(self, exchange: Exchange, scope: Event, receive: Receive, send: Send) -> None:
        content_is_read = await self._read_content(scope, exchange.request, receive)
        is_last = not content_is_read or bool(scope.get("state", {}).get(REFUSED))
        # Planning ends with the client as well, and not only sending.
        answering = self._reply(exchange, scope, send, is_last=is_last)
        await _while_connected(answering, receive if content_is_read else None)

    async def _reply(self, exchange: Exchange, scope: Event, send: Send, *, is_last: bool) -> None:
        request = exchange.request
        response, listener = await self._answer(scope, request), self.listener
        if listener is not None and not listener.has_room_for(response):
            response = self._handler.refuse(OverloadError("too many large answers at once"))
        body: _Body | None = None
        if response.segments and not request.is_head:
            body = _Body(response.segments, self._window_bytes_max, listener)
        try:
            await send(_start(scope, response, is_last=is_last))
            self._account.promise(exchange, response)
            if listener is not None and not response.segments:
                listener.turns.hurry(1)
            if request.is_head:
                await send({"type": "http.response.body"})
                return
            exchange.left_bytes = response.nbytes
            await self._send_body(exchange, send, response.content, body)
        finally:
            if body is not None:
                body.end()

    async def _answer(self, scope: Event, request: Request) -> Response:
        if scope.get("state", {}).get(REFUSED):
            return self._handler.refuse(OverloadError("too many connections; try again"))
        error = self._limits.check(request)
        if error is None and scope["http_version"] == "1.1" and not request.values(b"host"):
            error = BadRequestError("the request must have exactly one Host field")
        if error is not None:
            return self._handler.refuse(error)
        return self._handler.respond_now(request) or await self._handler.respond(request)

    async def _read_content(self, scope: Event, request: Request, receive: Receive) -> bool:
        """Read and drop the request's content; False where it is too long or too slow."""
        nbytes = 0
        if scope["http_version"] in ("1.0", "1.1"):
            announced = [value for name, value in request.fields if name == b"content-length"]
            if announced and int(announced[0]) > self._limits.content_bytes_max:
                return False
            if request.values(b"transfer-encoding"):
                return False  # the answer does not depend on it, and nothing may follow it
        try:
            async with asyncio.timeout(self._content_read_s):
                while nbytes <= self._limits.content_bytes_max:
                    event = await receive()
                    nbytes += len(event.get("body", b""))
                    if not event.get("more_body", False):
                        return True
        except TimeoutError:
            pass
        return False

    async def _send_body(
        self, exchange: Exchange, send: Send, content: bytes, body: _Body | None
    ) -> None:
        self._counters[slots.SENT_BYTES_COPY] += len(content)
        exchange.left_bytes -= len(content)
        await _send_piece(send, content, more=body is not None)
        if body is None:
            return
        try:
            await self._send_segments(exchange, send, body)
        except ZerocopyError as error:
            self._counters[slots.TRANSFERS_ABORTED] += 1
            self._on_transfer_failed(error, exchange)
            raise TransferAbortedError from error

    async def _send_segments(self, exchange: Exchange, send: Send, body: _Body) -> None:
        turns = None if self.listener is None else self.listener.turns
        while not body.is_over:
            # No name here may keep what was gathered: a stalled client is waited for below.
            count = body.allowed(PIECE_BYTES if turns is None else await _turn(turns, body))
            self._read_ahead(body)
            if not count:
                assert body.reading, "what is missing is being read"
                await asyncio.wait(body.reading)
                continue
            piece = body.take(count)
            self._counters[slots.SENT_BYTES_COPY] += count
            exchange.left_bytes -= count
            if turns is not None:
                turns.sent(count, is_from_disk=body.is_from_disk)
            await _send_piece(send, piece, more=not body.is_over)
            body.move()

    def _read_ahead(self, body: _Body) -> None:
        """Have a thread read what is to be read now."""
        window = body.next_window()
        if window is not None:
            task = asyncio.ensure_future(self._prepare(body, window))
            body.reading.add(task)
            task.add_done_callback(body.reading.discard)

    async def _prepare(self, body: _Body, window: Window) -> None:
        error: ZerocopyError | None = DataError("a window could not be made ready")
        try:
            await self._handler.prepare(window)
            error = None
        except ZerocopyError as failure:
            error = failure
        finally:
            body.prepared(window, error)


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
    # Once the client has left, the rest of the answer is of no use.
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


async def _turn(turns: Turns, body: _Body) -> int:
    """How many bytes may leave now, once those before have had their turn."""
    await turns.take(PIECE_BYTES)
    price = turns.price(is_from_disk=body.is_from_disk)
    return min(PIECE_BYTES, turns.turn_bytes // price)


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
    method: bytes = scope.get("state", {}).get(METHOD) or scope["method"].encode()
    return Request(method, target, fields)
