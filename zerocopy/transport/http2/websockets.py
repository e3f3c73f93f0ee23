"""WebSockets on an HTTP/2 connection: a stream of their own, by extended CONNECT (RFC 8441).

Owns what their clients send. DATA frames carry the frames of RFC 6455 in both directions, under
flow control and beside other streams; END_STREAM stands for the end of a TCP connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2.events import DataReceived
from h2.stream import StreamInputs

from zerocopy.core.errors import BadRequestError
from zerocopy.transport.http2.feeds import FeedStreams
from zerocopy.transport.websocket.frames import MESSAGES
from zerocopy.transport.websocket.inbox import Inbox
from zerocopy.transport.websocket.opening import VERSION

if TYPE_CHECKING:
    from h2.events import StreamEnded
    from h2.stream import H2Stream
    from hypercorn.asyncio.task_group import TaskGroup

    from zerocopy.core.errors import RequestError
    from zerocopy.core.http.messages import Request, Response
    from zerocopy.transport.http2.context import Http2Context, Wire
    from zerocopy.transport.streaming import Framing
    from zerocopy.transport.streaming import Inbox as AnyInbox

_ERROR = 400
"""Statuses from here on are errors."""


class WebSocketStreams(FeedStreams):
    """What a connection has to send, and what comes on its WebSockets."""

    def __init__(
        self, tasks: TaskGroup, *, context: Http2Context, wire: Wire, is_refused: bool
    ) -> None:
        super().__init__(tasks, context=context, wire=wire, is_refused=is_refused)
        self._inboxes: dict[int, Inbox] = {}  # by stream, from its request to its end

    def expect_websocket(self, stream_id: int, request: Request) -> RequestError | None:
        """Take what comes on the stream for a WebSocket's. Returns what the request lacks.

        RFC 8441 section 5 leaves the version; there is no key.
        """
        if request.values(b"sec-websocket-version") != [VERSION]:
            return BadRequestError("the server knows Sec-WebSocket-Version: 13 only")
        self._inboxes[stream_id] = Inbox(self._context.wheel)
        return None

    def take_content(self, event: DataReceived | StreamEnded) -> bool:
        """Give what came to the WebSocket of its stream; False where there is none."""
        stream_id = event.stream_id
        inbox = self._inboxes.get(stream_id)
        if inbox is None:
            return False
        if isinstance(event, DataReceived):
            self.connection.acknowledge_received_data(event.flow_controlled_length, stream_id)
            inbox.on_data(event.data)
        else:
            inbox.is_over = True
        if stream_id in self._feeds:
            self._on_feed_ready(stream_id)
        return True

    # ---- what the classes below ask for

    async def _begin(self, stream_id: int, request: Request, response: Response) -> None:
        inbox = None if response.feed is not None else self._inboxes.pop(stream_id, None)
        if inbox is not None and response.status < _ERROR:
            # Any 2xx would open the WebSocket: RFC 8441 section 5.
            error = BadRequestError("the path is none of a stream; ask for it by GET")
            response = self._context.handler.refuse(error)
        await super()._begin(stream_id, request, response)

    def _framing_of(self, stream_id: int) -> tuple[Framing, AnyInbox | None]:
        inbox = self._inboxes.get(stream_id)
        return super()._framing_of(stream_id) if inbox is None else (MESSAGES, inbox)

    def _end(self, stream_id: int, stream: H2Stream) -> None:
        """As for other streams, but without RST_STREAM: the client may answer our close frame."""
        if stream_id not in self._inboxes:
            super()._end(stream_id, stream)
            return
        stream.state_machine.process_input(StreamInputs.SEND_END_STREAM)
        self._forget(stream_id)

    def _forget(self, stream_id: int) -> None:
        self._inboxes.pop(stream_id, None)
        super()._forget(stream_id)
