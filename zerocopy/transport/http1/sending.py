"""The sending half of an HTTP/1.1 connection: a response from its head to its last byte.

Owns the transfer under way and whom it waits for: the client, by a registered writer, or the disk,
by a thread that reads the next window while nothing is registered at all. It knows neither requests
nor what comes after the response; the receiving half (`http1.Connection`) does.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from zerocopy.core import counters as slots
from zerocopy.core.errors import DataError, ZerocopyError
from zerocopy.core.window import fair_gathered_bytes
from zerocopy.transport.http1.head import render_head
from zerocopy.transport.http1.parser import Message, Persistence
from zerocopy.transport.http1.state import RESPONSE_COST_BYTES, STALL_SAMPLES, State
from zerocopy.transport.transfer import Transfer, queued_bytes

if TYPE_CHECKING:
    from zerocopy.core.http.messages import Response
    from zerocopy.core.http.pending import Exchange
    from zerocopy.core.window import Window
    from zerocopy.transport.http1.server import Http1Server

_PEER_GONE = (ConnectionError, TimeoutError)


class Sending:
    """What a connection has to send; what raises NotImplementedError is `Connection`'s."""

    __slots__ = (
        "_charged_bytes", "_exchange", "_fd", "_is_last", "_is_queued", "_mark", "_message",
        "_server", "_sock", "_stalls", "_transfer", "_turn_bytes", "_writing", "begun_ns",
        "deadline", "send", "state",
    )  # fmt: skip

    def __init__(self, server: Http1Server, sock: socket.socket) -> None:
        self._server = server
        self._sock = sock
        self._fd = sock.fileno()
        self.send = sock.send
        self._message: Message | None = None
        self._transfer: Transfer | None = None
        self._exchange: Exchange | None = None  # of a request that is not answered at once
        self.begun_ns = 0  # when the request that is answered now was read
        self._turn_bytes = 0  # what has left in the present turn
        self._charged_bytes = 0  # of them, what the turns of the server know of
        self._mark: object = None  # what the last look at the client's progress found
        self._stalls = 0  # looks in a row that found the same
        self._writing = False
        self._is_queued = False
        self._is_last = False  # the client was told that nothing follows this answer
        self.state = State.READY
        self.deadline = server.wheel.now + server.idle_ticks

    # ---- what the other half does

    def abort(self) -> None:
        """Close with a reset."""
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        """End the connection on a fault of ours, and have it logged."""
        raise NotImplementedError

    def own(self, message: Message) -> Message:
        """A message of the batch as this client sent it."""
        raise NotImplementedError

    def _answer_queued(self) -> None:
        raise NotImplementedError

    def _finish(self, message: Message) -> None:
        raise NotImplementedError

    # ---- sending

    def _send(self, message: Message, response: Response) -> None:
        """Begin a response: head and content in one sendmsg(2), segments after them."""
        server = self._server
        head = response.head_h1 or render_head(response)
        persistence = Persistence.CLOSE if server.draining else message.persistence
        self._is_last = persistence is Persistence.CLOSE
        tail = server.tails[persistence]
        segments = response.segments
        if message.is_head:
            content, segments = b"", ()
        else:
            content = response.content
        nbytes = len(head) + len(tail) + len(content)
        try:
            # MSG_MORE: the first bytes of the file join the head in one TCP segment.
            sent = self._sock.sendmsg((head, tail, content), (), socket.MSG_MORE if segments else 0)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.abort()
            return
        server.counters[slots.SENT_BYTES_COPY] += sent
        self._turn_bytes += max(sent, RESPONSE_COST_BYTES)
        if sent == nbytes and not segments:
            server.turns.hurry(1)
            if self._exchange is None:
                server.account.answered(message.request, response, self.begun_ns)
            else:
                server.account.promise(self._exchange, response)
                self._end_exchange()
            self._finish(message)
            return
        unsent = memoryview(head + tail + content)[sent:] if sent != nbytes else None
        self.begin_transfer(message, response, Transfer(unsent, segments, server.window_bytes_max))

    def send_rest(
        self, message: Message, response: Response, whole: bytes, sent: int, begun_ns: int
    ) -> None:
        """Go on with an answer of the batch, of which so many bytes have left."""
        try:
            self.begun_ns = begun_ns
            self._begin_turn()
            self._turn_bytes = max(sent, RESPONSE_COST_BYTES)
            unsent = Transfer(memoryview(whole)[sent:], ())
            self.begin_transfer(self.own(message), response, unsent)
        except Exception as error:  # noqa: BLE001 - the others of the batch have their answers
            self.fail(error)

    def _begin_turn(self) -> None:
        self._turn_bytes = self._charged_bytes = 0

    def _charge(self) -> int:
        """The bytes of this turn that are still to be told to the turns of the server."""
        nbytes = self._turn_bytes - self._charged_bytes
        self._charged_bytes = self._turn_bytes
        return nbytes

    def begin_transfer(self, message: Message, response: Response, transfer: Transfer) -> None:
        """Send what did not leave at once, from now on turn by turn."""
        account = self._server.account
        if self._exchange is None:
            self._exchange = account.begin(message.request, self.begun_ns)
        account.promise(self._exchange, response)
        self._transfer = transfer
        self._server.transfers_held += 1
        self._server.segments_held += transfer.segment_count
        self._message = message
        self.state = State.SENDING
        self.deadline = self._server.wheel.now + self._server.stall_ticks
        turns = self._server.turns
        if turns.has_room and self._turn_bytes < turns.turn_bytes:
            self._send_turn()
        else:
            self._queue_turn()
        turns.spend(self._charge())

    def on_writable(self) -> None:
        """The socket has room again: one more turn when those before have had theirs."""
        self._stop_writing()
        self._queue_turn()

    def _queue_turn(self) -> None:
        if not self._is_queued:
            self._is_queued = True
            self._server.turns.queue(self._take_turn)

    def _take_turn(self) -> int:
        """Send after the small answers that wait; how many bytes the turn was worth."""
        self._is_queued = False
        if self.state is not State.SENDING:
            return 0  # closed in between
        self._server.batch.answer()
        self._begin_turn()
        try:
            self._send_turn()
            self._answer_queued()
        except Exception as error:  # noqa: BLE001 - the others take their turns
            self.fail(error)
        return self._charge()

    def _send_turn(self) -> None:
        """Send until done or blocked, by the client or the disk, or the turn's bytes are spent."""
        server, transfer = self._server, self._transfer
        if transfer is not None:
            price = server.turns.price(is_from_disk=transfer.is_from_disk)
            budget = (server.turns.turn_bytes - self._turn_bytes) // price
            try:
                done = transfer.send(self._sock, server.counters, max(1, budget))
            except (ZerocopyError, OSError) as error:
                if not isinstance(error, _PEER_GONE):
                    server.on_transfer_failed(error, self._exchange)
                self.abort()
                return
            self._turn_bytes += transfer.spent_bytes * price
            server.turns.sent(transfer.spent_bytes, is_from_disk=transfer.is_from_disk)
            window = transfer.next_window(
                server.window_slices(transfer.segment_count),
                fair_gathered_bytes(server.transfers_held),
            )
            if window is not None:
                server.spawn(self._prepare(transfer, window))
            if transfer.is_waiting:
                self.state = State.FETCHING
                self._stop_writing()
                return
            if not done:
                if transfer.is_blocked:
                    self._wait_writable()
                else:
                    self._stop_writing()
                    self._queue_turn()  # there may be room for more
                return
        message, self._message = self._message, None
        self._drop_transfer()
        self.state = State.READY
        self._stop_writing()
        if message is not None:
            self._end_exchange()
            self._finish(message)

    async def _prepare(self, transfer: Transfer, window: Window) -> None:
        """Have a thread read what comes next, and go on where the transfer waits for it."""
        server = self._server
        error: ZerocopyError | None = DataError("a window could not be made ready")
        try:
            try:
                await server.handler.prepare(window)
                error = None
            except ZerocopyError as failure:
                error = failure
            finally:
                transfer.prepared(window, error)
                self._go_on(transfer)
        except Exception as fault:  # noqa: BLE001 - nobody waits for this task
            self.fail(fault)

    def _go_on(self, transfer: Transfer) -> None:
        """Queue a turn if it is this transfer that waits for the disk."""
        server = self._server
        if self.state is State.FETCHING and self._transfer is transfer:
            self.state = State.SENDING
            self.deadline = server.wheel.now + server.stall_ticks
            self._queue_turn()

    def _wait_writable(self) -> None:
        """Wait for the client, whatever for: from now on its progress is looked at."""
        if not self._writing:
            self._writing = True
            self._server.loop.add_writer(self._fd, self.on_writable)
        server = self._server
        self.deadline = min(self.deadline, server.wheel.now + server.stall_ticks)

    def _is_stalled(self) -> bool:
        """Whether the client took no byte since `STALL_SAMPLES` looks ago; this is one of them.

        The kernel's queue tells. Counting our own writes would not do: a slow but honest client
        drains a large socket buffer for minutes before there is room again. It would not do
        without them either: other bytes may have taken the place of those that left.
        """
        transfer = self._transfer
        mark = queued_bytes(self._fd), transfer and transfer.place
        if mark != self._mark:
            self._mark, self._stalls = mark, 0
            return False
        self._stalls += 1
        if transfer is not None:
            transfer.expire()
        return self._stalls >= STALL_SAMPLES

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._server.loop.remove_writer(self._fd)

    def _end_exchange(self) -> None:
        """The request is under way no longer, if it was; what is left to send is cut off."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.left_bytes = 0 if self._transfer is None else self._transfer.left_bytes
            self._server.account.end(exchange)

    def _drop_transfer(self) -> None:
        if self._transfer is not None:
            self._transfer.cancel()
            self._server.transfers_held -= 1
            self._server.segments_held -= self._transfer.segment_count
            self._transfer = None
