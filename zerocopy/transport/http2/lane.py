"""The fast lane of one HTTP/2 connection: requests it has made before, answered without h2.

Owns the header blocks that this connection has sent. A block that left the decoder's dynamic table
unchanged means the same as long as that table does not change: the same bytes give the same fields,
which h2 has found valid. Decoding and validating it again would tell nothing.

Such a stream opens and closes at once. What h2 would have noted of it is noted here: the highest
stream, how it closed, the connection's window (RFC 9113 sections 5.1.1 and 6.9).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from h2.connection import AllowedStreamIDs, ConnectionInputs
from h2.stream import StreamClosedBy, StreamInputs

from zerocopy.core import counters as slots
from zerocopy.core import endpoints
from zerocopy.transport.http2.head import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpack.table import HeaderTable

    from zerocopy.core.http.messages import Handler, Request, Response
    from zerocopy.transport.channel import Buffer
    from zerocopy.transport.context import Context
    from zerocopy.transport.http2.errors import JudgedConnection
    from zerocopy.transport.request_metrics import RequestMetrics

BLOCKS_MAX = 16
BLOCK_BYTES_MAX = 512
"""Header blocks remembered, and how long one may be. What one means may be longer, by the dynamic
table, but is bounded by `[limits] head_bytes_max`."""

LANE_BYTES_MAX = 262_144
"""Bytes of responses from the lane before they are written: the client may not read them."""

RENDERED_MAX = 64
"""Responses that are kept as frames: 4 MiB by default, see `[limits] small_answer_bytes_max`."""

_CLOSED = StreamClosedBy.SEND_END_STREAM

# Past ClosedStreams.__setitem__, which keeps the bound of closed streams at each assignment, in
# Python. `answer` notes many and keeps the bound once, by `forget_closed_streams`.
_note = dict.__setitem__

Waiting = tuple[int, bytes, int]
"""A request that came: where its frame begins, its header block and its stream.

Not a NamedTuple, which takes 0.6 µs to make where this takes 0.1 µs (AMD EPYC, 2026-11-30)."""

_TableState = tuple[object, int, int]


class Proved(dict[int, Answer]):
    """Responses that were proved in one iteration of the loop, by the identity of their request.

    Those of who has limits are at its negative: each request for them has to be admitted first. An
    `Answer` keeps its request, so no other object gets that identity meanwhile. Every connection
    that asked before the proof was made may have them. `settle` counts, once for all, what was sent
    of them.
    """

    def settle(self, context: Context, begun_ns: int) -> int:
        """Count what was sent for requests read at `begun_ns`, then forget it.

        Returns how many requests were answered.
        """
        counters, metrics, total = context.counters, context.metrics, 0
        for answer in self.values():
            times, answer.times = answer.times, 0
            if times:
                counters[metrics.slots[endpoints.DATA][answer.response.status]] += times
                counters[slots.SENT_BYTES_COPY] += times * answer.nbytes
                total += times
                if answer.is_counted:
                    metrics.note_spent(answer.request, answer.response, begun_ns, times)
                elif metrics.access is not None:
                    metrics.note(answer.request, answer.response, begun_ns, times)
        self.clear()
        if total:
            context.handler.count_reused(total)
            metrics.time(endpoints.DATA, begun_ns, total)
            context.scheduler.hurry(total)
        return total


class Requests(Protocol):
    """The requests of all connections; see `Batch`."""

    rendered: dict[int, Answer]

    def known(self, request: Request) -> Request:
        """The one object that stands for all requests equal to this one."""


class Shared(Protocol):
    """What a lane needs of the context of its connection."""

    handler: Handler
    metrics: RequestMetrics
    streams_max: int
    date_h2: bytes

    @property
    def batch(self) -> Requests:
        """The requests of all connections."""


class Lane:
    """Responses that are found by a header block."""

    def __init__(self, connection: JudgedConnection, context: Shared) -> None:
        self._connection = connection
        self._context = context
        self._is_counting = context.handler.is_counting
        self.requests: dict[bytes, Request] = {}  # by block
        self._large: dict[bytes, Request] = {}  # those whose response has segments
        self._table: HeaderTable = connection.decoder.header_table
        self._table_state = _state_of(self._table)
        self.initial_window: int = connection.remote_settings.initial_window_size

    def learn(self, block: bytes, request: Request) -> Request:
        """Remember what h2 has found `block` to mean, if its decoding changed nothing.

        Returns the one object that stands for all requests equal to this one: what is found out of
        it while it is answered, such as who asks, is known of the next.
        """
        if self.is_table_unchanged() and len(block) <= BLOCK_BYTES_MAX:
            request = self._context.batch.known(request)
            self._remember(self.requests, block, request)
        return request

    def _remember(self, known: dict[bytes, Request], block: bytes, request: Request) -> None:
        if len(known) >= BLOCKS_MAX:
            del known[next(iter(known))]
        known[block] = request

    def is_table_unchanged(self) -> bool:
        """Whether blocks still mean what they meant. If not, forgets all of them.

        An entry that is added becomes the newest one, and no other object can be mistaken for it.
        """
        before, after = self._table_state, _state_of(self._table)
        if before[0] is after[0] and before[1:] == after[1:]:
            return True
        self._table_state = after
        self.requests.clear()
        self._large.clear()
        return False

    def answer(self, requests: Sequence[Waiting], proved: Proved) -> tuple[int, Buffer]:
        """Answer the requests before the first that h2 has to look at.

        Returns how many those are, and their frames, which are to be written at once. h2 has to
        look at a block not seen before, a stream that may not be opened, a request that needs a
        plan, or a response that does not fit the windows.
        """
        connection, answered, nbytes = self._connection, 0, 0
        frames: list[Buffer] = []
        for _, block, stream_id in requests:
            request = self.requests.get(block)
            if request is None or nbytes >= LANE_BYTES_MAX or not self._may_open(stream_id):
                break
            answer = proved.get(id(request)) or self._prove(block, request, proved)
            if (
                answer is None
                or answer.nbytes > connection.outbound_flow_control_window
                or answer.nbytes > self.initial_window
            ):
                break
            connection.highest_inbound_stream_id = stream_id
            _note(connection._closed_streams, stream_id, _CLOSED)  # noqa: SLF001 - as h2 would
            connection.outbound_flow_control_window -= answer.nbytes
            nbytes += answer.nbytes
            answer.times += 1
            answered += 1
            made = answer.frames(stream_id)
            frames.append(made if len(requests) == 1 else bytes(made))
        if not answered:
            return 0, b""
        connection.forget_closed_streams()
        return answered, frames[0] if answered == 1 else b"".join(frames)

    def _prove(self, block: bytes, request: Request, proved: Proved) -> Answer | None:
        handler = self._context.handler
        if self._is_counting and proved:
            counted = proved.get(-id(request))
            if counted is not None:
                return self._spend(request, counted)
        response = handler.respond_now(request, 0)
        if response is None:
            return None
        if response.segments:
            self._remember(self._large, block, self.requests.pop(block))
            return None
        answer = self._rendered(request, response)
        if answer.is_counted:
            proved[-id(request)] = answer
            return self._spend(request, answer)
        proved[id(request)] = answer
        return answer

    def _spend(self, request: Request, answer: Answer) -> Answer | None:
        """Count a request and its bytes at once: whoever is asked about next must know of them.

        None if it is not admitted, or does not fit the windows: h2 has it asked for, and counted.
        """
        window = min(self._connection.outbound_flow_control_window, self.initial_window)
        if answer.nbytes > window or not self._context.handler.admits(request, answer.response):
            return None
        self._context.metrics.spend(request, answer.response)
        return answer

    def open(self, block: bytes, stream_id: int) -> Request | None:
        """Open the stream of a request whose response is large, as h2 would have done.

        None where h2 has to look at it, as for `answer`. It would decode the block, and find valid
        what it has found valid before.
        """
        request = self._large.get(block)
        if request is None or not self._may_open(stream_id):
            return None
        connection = self._connection
        connection.state_machine.process_input(ConnectionInputs.RECV_HEADERS)
        stream = connection._begin_new_stream(stream_id, AllowedStreamIDs.ODD)  # noqa: SLF001
        stream.state_machine.process_input(StreamInputs.RECV_HEADERS)
        stream.state_machine.process_input(StreamInputs.RECV_END_STREAM)
        return request

    def _may_open(self, stream_id: int) -> bool:
        """Whether a client may open this stream now, and with a block that is whole."""
        connection = self._connection
        return not (
            stream_id <= connection.highest_inbound_stream_id
            or not stream_id & 1
            or len(connection.streams) >= self._context.streams_max
            or connection.incoming_buffer._headers_buffer  # noqa: SLF001 - a block is unfinished
            or connection.encoder.table_size_changes  # the next block must tell of them
        )

    def _rendered(self, request: Request, response: Response) -> Answer:
        """Take the frames made of this response earlier in this second, or make them."""
        rendered, date = self._context.batch.rendered, self._context.date_h2
        answer = rendered.get(id(request))
        if (
            answer is None
            or answer.response is not response
            or answer.date is not date
            or answer.grant is not request.grant
        ):
            if len(rendered) >= RENDERED_MAX:
                rendered.clear()
            answer = rendered[id(request)] = Answer(request, response, date)
            answer.is_counted = self._is_counting and self._context.handler.counts(request)
        return answer


def _state_of(table: HeaderTable) -> _TableState:
    entries = table.dynamic_entries
    return (entries[0] if entries else None), len(entries), table.maxsize
