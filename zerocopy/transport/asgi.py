"""The service as an ASGI 3.0 application, for any server that speaks it.

Owns the translation of scope, receive and send into a `Request` and a `Response` and back. Bodies
leave in bounded pieces, one awaited `send` each, so that the server's backpressure is ours too. It
knows no server: Hypercorn runs it for HTTP/1.1 over TLS and for all routes but the data over
HTTP/2, and the tests run it bare.
"""

from __future__ import annotations

import asyncio
from time import monotonic_ns
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from zerocopy.core import counters as slots
from zerocopy.core.errors import BadRequestError, DataError, OverloadError, ZerocopyError
from zerocopy.core.messages import Request, origin_form
from zerocopy.core.window import place_after
from zerocopy.transport.account import Account
from zerocopy.transport.exchange import CURRENT
from zerocopy.transport.readahead import ReadAhead

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping, Sequence

    from zerocopy.core.counters import Counters
    from zerocopy.core.messages import Handler, Response
    from zerocopy.core.plan import Segment
    from zerocopy.core.window import Place, Window
    from zerocopy.transport.account import Access
    from zerocopy.transport.exchange import Exchange
    from zerocopy.transport.limits import RequestLimits
    from zerocopy.transport.turns import Turns

    Event = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Event]]
    Send = Callable[[Event], Awaitable[None]]

PIECE_BYTES = 262_144
"""Bytes of a body in one `send`: larger ones measured no faster, and all of it may be buffered."""

REFUSED = "zerocopy.refused"
"""A key of scope["state"] that a listener sets for connections above its bound."""

METHOD = "zerocopy.method"
"""A key of scope["state"] for the method as it was sent: servers change it to upper case."""

_WITHOUT_CONTENT = frozenset({204, 304})


class TransferAbortedError(Exception):
    """Ends a response after its status line: an ASGI server then aborts the stream."""


class AsgiApp:
    """`handler` as an ASGI application; scopes are `lifespan` and `http`.

    Large answers take their turns among those of `turns`, where a listener has given its own.
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
        self.turns: Turns | None = None

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
        request = exchange.request
        content_is_read = await self._read_content(scope, request, receive)
        response = await self._answer(scope, request)
        fields = [(name.lower(), value) for name, value in response.fields]
        fields.append((b"server", b"zerocopy"))
        if response.status not in _WITHOUT_CONTENT:
            fields.append((b"content-length", b"%d" % response.nbytes))
        is_last = not content_is_read or scope.get("state", {}).get(REFUSED)
        if scope["http_version"] in ("1.0", "1.1") and is_last:
            fields.append((b"connection", b"close"))  # content is no request
        await send({"type": "http.response.start", "status": response.status, "headers": fields})
        self._account.promise(exchange, response)
        if self.turns is not None and not response.segments:
            self.turns.hurry(1)
        if request.is_head:
            await send({"type": "http.response.body"})
            return
        exchange.left_bytes = response.nbytes
        await self._send(exchange, response, receive if content_is_read else None, send)

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

    async def _send(
        self, exchange: Exchange, response: Response, receive: Receive | None, send: Send
    ) -> None:
        body = exchange, send, response
        if receive is None:
            await self._send_body(*body)
            return
        # Once the client has left, the rest of the answer is of no use.
        sending = asyncio.ensure_future(self._send_body(*body))
        leaving = asyncio.ensure_future(_until_disconnected(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.wait((sending, leaving))

    async def _send_body(self, exchange: Exchange, send: Send, response: Response) -> None:
        self._counters[slots.SENT_BYTES_COPY] += len(response.content)
        exchange.left_bytes -= len(response.content)
        await _send_piece(send, response.content, more=bool(response.segments))
        ahead = ReadAhead(response.segments, self._window_bytes_max, mapped=True)
        reading: set[asyncio.Task[None]] = set()
        try:
            await self._send_segments(exchange, send, response.segments, ahead, reading)
        except ZerocopyError as error:
            self._counters[slots.TRANSFERS_ABORTED] += 1
            self._on_transfer_failed(error, exchange)
            raise TransferAbortedError from error
        finally:
            ahead.cancel()
            for task in reading:
                task.cancel()

    async def _send_segments(
        self,
        exchange: Exchange,
        send: Send,
        segments: Sequence[Segment],
        ahead: ReadAhead,
        reading: set[asyncio.Task[None]],
    ) -> None:
        place: Place = (0, 0)
        while place[0] < len(segments):
            budget = PIECE_BYTES if self.turns is None else await _turn(self.turns, ahead)
            index, position = place
            content = ahead.content(index, position)
            segment = segments[index]
            if content is not None:
                count = min(budget, len(content))
            else:
                want = min(budget, segment.count - position)
                count = ahead.allowed(index, position, want)
            window = ahead.next_window(index, position)
            if window is not None:
                task = asyncio.ensure_future(self._prepare(ahead, window))
                reading.add(task)
                task.add_done_callback(reading.discard)
            if not count:
                assert reading, "what is missing is being read"
                await asyncio.wait(reading)
                continue
            if content is not None:
                piece = bytes(content[:count])
                ahead.took(count)
            else:
                piece = bytes(segment.source.view(segment.offset + position, count))
            place = place_after(segments, place, len(piece))
            self._counters[slots.SENT_BYTES_COPY] += len(piece)
            exchange.left_bytes -= len(piece)
            if self.turns is not None:
                self.turns.sent(len(piece), is_from_disk=ahead.is_from_disk)
            await _send_piece(send, piece, more=place[0] < len(segments))

    async def _prepare(self, ahead: ReadAhead, window: Window) -> None:
        error: ZerocopyError | None = DataError("a window could not be made ready")
        try:
            await self._handler.prepare(window)
            error = None
        except ZerocopyError as failure:
            error = failure
        finally:
            ahead.done(window, error)


async def _lifespan(receive: Receive, send: Send) -> None:
    """Start and stop with the server; what the handler needs is there before and after."""
    while True:
        event = await receive()
        await send({"type": event["type"] + ".complete"})
        if event["type"] == "lifespan.shutdown":
            return


async def _turn(turns: Turns, ahead: ReadAhead) -> int:
    """How many bytes may leave now, once those before have had their turn."""
    await turns.take(PIECE_BYTES)
    price = turns.price(is_from_disk=ahead.is_from_disk)
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
