"""The sending half of one HTTP/1.1 connection: responses, from their head to their last byte.

Owns the reply under way and the bytes of the present turn. A small response leaves in one call. The
rest of any other leaves turn by turn. Between two turns it waits for the client, for the disk, or
for the turns of other connections. The sender tells its connection which of them, and the
connection changes its state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from zerocopy.core import counters as slots
from zerocopy.core.errors import ZerocopyError
from zerocopy.transport.faults import contained
from zerocopy.transport.http1.reply import Reply, send_first
from zerocopy.transport.http1.state import RESPONSE_COST_BYTES, State
from zerocopy.transport.http1.transfer import Stop

if TYPE_CHECKING:
    from zerocopy.core.http.messages import Response
    from zerocopy.core.window import Window
    from zerocopy.transport.channel import Channel
    from zerocopy.transport.http1.context import Http1Context
    from zerocopy.transport.http1.parser import Message


class Owner(Protocol):
    """The connection, as its sender sees it."""

    @property
    def state(self) -> State:
        """Where it stands."""

    def move(self, state: State) -> None:
        """Move to the state that tells what the sender does or waits for."""

    def on_sent(self) -> None:
        """The kernel has all of a response that did not leave at once."""

    def on_turn(self) -> None:
        """The sender has had its turn; answer what else is queued."""

    def fail(self, error: Exception) -> None:
        """A fault of ours: log it, and end the connection."""

    def abort(self) -> None:
        """The promise of a response cannot be kept."""


class Sender:
    """What a connection has to send; one response at a time."""

    __slots__ = ("_channel", "_charged_bytes", "_context", "_owner", "_reply", "_turn_bytes")

    def __init__(self, context: Http1Context, channel: Channel, owner: Owner) -> None:
        self._context = context
        self._channel = channel
        self._owner = owner
        self._reply: Reply | None = None  # to a request that is not answered at once
        self._turn_bytes = 0  # spent of the present turn
        self._charged_bytes = 0  # of them, what the scheduler was told of

    # ---- turns

    def begin_turn(self, spent: int = 0) -> None:
        """The event loop has called; so many bytes have left already."""
        self._turn_bytes, self._charged_bytes = spent, 0

    @property
    def is_turn_spent(self) -> bool:
        """Whether others are to be served first."""
        return self._turn_bytes >= self._context.turn_bytes_max

    def queue_turn(self) -> None:
        """Go on when those before have had their turn."""
        self._owner.move(State.QUEUED)
        self._context.scheduler.queue(self._take_turn)

    def _take_turn(self) -> int:
        """Send after the small responses that wait. Returns the bytes charged for the turn."""
        if self._owner.state is State.QUEUED:  # not closed in between
            self._context.batch.answer()
            self.begin_turn()
            self._go_on()
        return self._charge()

    @contained
    def _go_on(self) -> None:
        if self._reply is not None:
            self._owner.move(State.SENDING)
            self._send_turn(self._reply)
        else:
            self._owner.move(State.READY)
        self._owner.on_turn()

    def _charge(self) -> int:
        """The bytes of this turn that the scheduler was not told of yet."""
        nbytes = self._turn_bytes - self._charged_bytes
        self._charged_bytes = self._turn_bytes
        return nbytes

    def fail(self, error: Exception) -> None:
        """See `contained`."""
        self._owner.fail(error)

    # ---- responses

    def expect(self, message: Message, begun_ns: int) -> Reply:
        """Its response is being planned, or does not leave at once."""
        if self._reply is None:
            self._reply = Reply(self._context, message, begun_ns)
        return self._reply

    def send(self, message: Message, response: Response, tail: bytes, begun_ns: int) -> bool:
        """Begin a response. Returns whether all of it has left.

        Raises:
            OSError: the peer is gone.
        """
        context, reply = self._context, self._reply
        sent, unsent = send_first(self._channel, response, tail, is_head=message.is_head)
        context.counters[slots.SENT_BYTES_COPY] += sent
        self._turn_bytes += max(sent, RESPONSE_COST_BYTES)
        if unsent is not None:
            self.send_rest(message, response, unsent, begun_ns)
            return False
        context.scheduler.hurry(1)
        if reply is None:
            context.metrics.answered(message.request, response, begun_ns)
        else:
            context.metrics.promise(reply.pending, response)
            self.drop()
        return True

    def send_rest(
        self, message: Message, response: Response, unsent: bytes | memoryview, begun_ns: int
    ) -> None:
        """Send what did not leave at once, from now on turn by turn."""
        scheduler = self._context.scheduler
        reply = self.expect(message, begun_ns)
        reply.begin(response, unsent, self._channel)
        if scheduler.has_room and self._turn_bytes < scheduler.turn_bytes:
            self._owner.move(State.SENDING)
            self._send_turn(reply)
        else:
            self.queue_turn()
        scheduler.spend(self._charge())

    def _send_turn(self, reply: Reply) -> None:
        """Send a turn, and end the response once all of it has left."""
        if self._has_sent(reply):
            self.drop()
            self._owner.move(State.READY)
            self._owner.on_sent()

    def _has_sent(self, reply: Reply) -> bool:
        """Send until done or blocked, by the client or the disk, or the turn's bytes are spent."""
        try:
            stop, spent = reply.send_turn(self._channel, self._turn_bytes)
        except (ZerocopyError, OSError):
            self._owner.abort()
            return False
        self._turn_bytes += spent
        window = reply.next_window()
        if window is not None:
            self._context.spawn(self._prepare(reply, window))
        if stop is Stop.BLOCKED:
            self._channel.wait_writable(self._on_writable)
        elif stop is Stop.SPENT:
            self.queue_turn()  # there may be room for more
        elif stop is Stop.FETCHING:
            self._owner.move(State.FETCHING)
        return stop is Stop.DONE

    @contained
    def _on_writable(self) -> None:
        """The socket has room again: one more turn when those before have had theirs."""
        self._channel.stop_writing()
        self.queue_turn()

    async def _prepare(self, reply: Reply, window: Window) -> None:
        try:
            await reply.prepare(window, self._on_prepared)
        except Exception as error:  # noqa: BLE001 - nobody waits for this task
            if self._reply is reply:
                self.fail(error)
            else:
                self._context.on_connection_failed(error)  # the connection has gone on

    @contained
    def _on_prepared(self, reply: Reply) -> None:
        """A thread has read a window; go on where this reply waits for it."""
        if self._reply is reply:
            self.queue_turn()

    def is_stalled(self) -> bool:
        """Whether the client has taken nothing for the write-progress timeout; see `Reply`."""
        return self._reply is not None and self._reply.is_stalled(self._channel)

    def drop(self) -> None:
        """The response has left, or is cut off; nothing is under way."""
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.end()
