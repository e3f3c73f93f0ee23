"""The fast lane of one HTTP/2 connection: requests it has made before, answered without h2.

Owns the header blocks that this connection has sent. A block that left the decoder's dynamic table
unchanged means the same as long as that table does not change: the same bytes give the same fields,
which h2 has found valid. Decoding and validating it again would tell nothing.

Such a stream opens and closes at once. What h2 would have noted of it is noted here: the highest
stream, how it closed, the connection's window (RFC 9113 sections 5.1.1 and 6.9).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2.stream import StreamClosedBy

from zerocopy.core import counters as slots
from zerocopy.core import endpoints
from zerocopy.transport.http2.head import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    frame_header,
    render_head,
)

if TYPE_CHECKING:
    from h2.connection import H2Connection
    from hpack.table import HeaderTable

    from zerocopy.core.http.messages import Request, Response
    from zerocopy.transport.http2.batch import Proved
    from zerocopy.transport.http2.context import Http2Context

BLOCKS_MAX = 16
BLOCK_BYTES_MAX = 512
"""Header blocks remembered, and how long one may be. What one means may be longer, by the dynamic
table, but is bounded by `[limits] head_bytes_max`."""

_CLOSED = StreamClosedBy.SEND_END_STREAM
_TableState = tuple[object, int, int]


class Lane:
    """Responses that are found by a header block; `frames` and `nbytes` are not yet written."""

    def __init__(self, connection: H2Connection, context: Http2Context) -> None:
        self._connection = connection
        self._context = context
        self._requests: dict[bytes, Request] = {}
        self._answers: dict[bytes, tuple[bytes, Response]] = {}  # proved since `leave`
        self._repeated = 0
        self._slots = context.metrics.slots[endpoints.DATA]
        self._answered = 0  # since `take_answered`
        self._noted: list[tuple[Request, Response]] | None = None  # they, for the access log
        if context.metrics.access is not None:
            self._noted = []
        self._table: HeaderTable = connection.decoder.header_table
        self._table_state = _state_of(self._table)
        self.initial_window: int = connection.remote_settings.initial_window_size
        self.frames: list[bytes | memoryview] = []
        self.nbytes = 0

    def learn(self, block: bytes, request: Request) -> None:
        """Remember what h2 has found `block` to mean, if its decoding changed nothing."""
        if not self.is_table_unchanged() or len(block) > BLOCK_BYTES_MAX:
            return
        if len(self._requests) >= BLOCKS_MAX:
            del self._requests[next(iter(self._requests))]
        self._requests[block] = self._context.batch.known(request)

    def is_table_unchanged(self) -> bool:
        """Whether blocks still mean what they meant; if not, all are forgotten.

        An entry that is added becomes the newest one, and no other object can be mistaken for it.
        """
        before, after = self._table_state, _state_of(self._table)
        if before[0] is after[0] and before[1:] == after[1:]:
            return True
        self._table_state = after
        self._requests.clear()
        self._answers.clear()
        return False

    def knows(self, block: bytes) -> bool:
        """Whether it may answer requests with this header block."""
        return block in self._requests

    def answer(self, block: bytes, stream_id: int, proved: Proved | None = None) -> bool:
        """Answer a whole request at once; False where h2 has to look at it.

        h2 has to look at a block not seen before, a stream that may not be opened, a request that
        needs a plan, or a response that does not fit the windows.

        `proved` holds the responses that were proved for other connections since the request came.
        """
        request = self._requests.get(block)
        if request is None:
            return False
        connection = self._connection
        if (
            stream_id <= connection.highest_inbound_stream_id
            or not stream_id & 1
            or len(connection.streams) >= self._context.streams_max
            or connection.incoming_buffer._headers_buffer  # noqa: SLF001 - a block is unfinished
            or connection.encoder.table_size_changes  # the next block must tell of them
        ):
            return False
        answer = self._answers.get(block)
        is_repeated = answer is not None
        if answer is None and proved is not None:
            answer = proved.get(id(request))
            is_repeated = answer is not None
        if answer is None:
            response = self._context.handler.respond_now(request)
            if response is None or response.segments:
                return False
            answer = (response.head_h2 or render_head(response)) + self._context.date_h2, response
            if proved is not None:
                proved[id(request)] = answer
        head, response = answer
        nbytes = 0 if request.is_head else len(response.content)
        if nbytes > connection.outbound_flow_control_window or nbytes > self.initial_window:
            return False
        self._repeated += is_repeated
        self._answers[block] = answer
        connection.highest_inbound_stream_id = stream_id
        connection._closed_streams[stream_id] = _CLOSED  # noqa: SLF001 - as h2 would note it
        connection.outbound_flow_control_window -= nbytes
        self._append(head, response.content if nbytes else b"", stream_id)
        counters = self._context.counters
        counters[self._slots[response.status]] += 1
        counters[slots.SENT_BYTES_COPY] += nbytes
        self._answered += 1
        if self._noted is not None:
            self._noted.append((request, response))
        return True

    def _append(self, head: bytes, content: bytes, stream_id: int) -> None:
        flags = END_HEADERS if content else END_HEADERS | END_STREAM
        frames, frame_bytes_max = self.frames, self._connection.max_outbound_frame_size
        frames.append(frame_header(len(head), HEADERS, flags, stream_id) + head)
        self.nbytes += len(head) + len(content)
        if 0 < len(content) <= frame_bytes_max:
            frames.append(frame_header(len(content), DATA, END_STREAM, stream_id))
            frames.append(content)
            return
        view = memoryview(content)
        for start in range(0, len(content), frame_bytes_max):
            part = view[start : start + frame_bytes_max]
            flags = END_STREAM if start + frame_bytes_max >= len(content) else 0
            frames.append(frame_header(len(part), DATA, flags, stream_id))
            frames.append(part)

    def leave(self) -> bytes:
        """The frames to write; what was proved must be proved again from now on."""
        if self._repeated:
            self._context.handler.count_reused(self._repeated)
            self._repeated = 0
        self._answers.clear()
        data = b"".join(self.frames)
        self.frames.clear()
        self.nbytes = 0
        return data

    def take_answered(self, begun_ns: int) -> int:
        """How many requests, read at `begun_ns`, were answered and written since the last call."""
        answered, self._answered = self._answered, 0
        if self._noted:
            for request, response in self._noted:
                self._context.metrics.note((request,), response, begun_ns)
            self._noted.clear()
        return answered


def _state_of(table: HeaderTable) -> _TableState:
    entries = table.dynamic_entries
    return (entries[0] if entries else None), len(entries), table.maxsize
