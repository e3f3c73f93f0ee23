"""One TLS connection: what Hypercorn's TCPServer does, with deadlines and bounds.

Owns the reader and the writer of the connection, and its deadlines. Hypercorn has an idle time-out
that starts and cancels a task for every request, and neither a header nor a write time-out. Here a
wheel looks at each connection now and then, and a request costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import ssl
import struct
import termios
from typing import TYPE_CHECKING, Any

from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.events import Closed, RawData, Updated
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from zerocopy.transport.asgi import REFUSED
from zerocopy.transport.http2.batch import Receiver
from zerocopy.transport.http2.connection import Http2Connection
from zerocopy.transport.http2.h11_filter import FilteredH11Connection, Http1OverTls
from zerocopy.transport.http2.head import drain_frames
from zerocopy.transport.http2.tls_tasks import ConnectionTasks
from zerocopy.transport.timers import HORIZON_TICKS, NEVER, STALL_SAMPLES, Wheel

if TYPE_CHECKING:
    from hypercorn.asyncio.task_group import TaskGroup
    from hypercorn.events import Event

    from zerocopy.transport.http2.context import Http2Context

READ_BYTES = 65_536
"""Bytes read at once: what uvloop's TLS keeps for a reader before it pauses the socket."""

LINGER_TICKS = Wheel.ticks(1.0)
"""How long a client gets to answer close_notify once everything has left."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds."""

_QUEUED = struct.Struct("i")
_GONE = (OSError, RuntimeError, ssl.SSLError)
"""What reading from and writing to a connection that is closing raises (uvloop: RuntimeError)."""


class TlsConnection(TCPServer):
    """A connection of a server that constructs it as Hypercorn does its own class."""

    def __init__(self, *hypercorn: Any, context: Http2Context, is_refused: bool) -> None:
        super().__init__(*hypercorn)
        self._context = context
        self._is_refused = is_refused
        self._begun = context.wheel.now
        self._http2: Http2Connection | None = None
        self._h11: FilteredH11Connection | None = None  # of HTTP/1.1
        self._serving: asyncio.Task[None] | None = None
        self._is_over = False  # nothing can be sent any more
        self._is_reading = False  # the task waits for bytes
        self._is_taken = False  # some came meanwhile and are answered at the end of the turn
        self._is_answering = False  # a request of HTTP/1.1 is being answered
        self._head_since: int | None = context.wheel.now  # a head is awaited in full since then
        self._idle_since = context.wheel.now
        self._mark: tuple[int, ...] = ()
        self._stalls = 0
        self._sampled_at = context.wheel.now
        self._is_all_taken = True  # the client's kernel has all that was written, at the last look
        self._closing_since: int | None = None
        self._retired_at: int | None = None  # the first GOAWAY is out, the one that counts is not
        self.deadline = context.wheel.now + 1

    async def run(self) -> None:
        """Serve the connection to its end; nothing that happens on it goes any further."""
        try:
            await self._serve()
        except* _GONE:
            pass
        except* Exception as errors:  # noqa: BLE001 - one connection must not stop the others
            self._context.on_connection_failed(errors)
        finally:
            if self._http2 is not None:
                self._http2.forget_all()
            try:
                await self._close()
            finally:
                self.deadline = NEVER
                self._let_go()

    def _let_go(self) -> None:
        """Break the cycles with the protocol and the streams.

        They would hold what TLS reads and writes with, 256 KiB and more, and what was queued, up to
        a megabyte, until CPython's collector comes round.
        """
        error = self.reader.exception()
        if error is not None:
            error.__traceback__ = None  # its frames hold the streams, and they hold it
        self._http2 = self.protocol = self.reader = self.writer = None  # type: ignore[assignment]

    async def _serve(self) -> None:
        """Serve until one side ends the connection; all that was begun for it has ended then."""
        peer = self.writer.get_extra_info("socket")
        if peer is None:
            raise ConnectionAbortedError("the client left right after its handshake")
        receiver = self.writer.transport.get_protocol()
        assert isinstance(receiver, Receiver), "made by Http2Server"
        self._serving = asyncio.current_task()
        receiver.on_end = self._end
        try:
            async with ConnectionTasks(self.loop) as tasks:
                await self._begin(tasks, peer, receiver)
                if self._context.draining:
                    self.retire()
                await self._read_data()
        except asyncio.CancelledError as error:
            if not self._is_over:
                raise
            error.__traceback__ = None  # CPython's TaskGroup keeps the error in a frame of it
        finally:
            self._serving = None

    def _end(self) -> None:
        """Cancel whatever is done or waited for: nothing of it would reach the client."""
        self._is_over = True
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.cancel()

    async def _begin(self, tasks: TaskGroup, peer: Any, receiver: Receiver) -> None:
        """Begin to speak the protocol that the client chose."""
        tls = self.writer.get_extra_info("ssl_object")
        arguments = (
            self.app,
            self.config,
            self.context,
            tasks,
            ConnectionState({**self.state, REFUSED: self._is_refused}),
            True,
            parse_socket_addr(peer.family, peer.getpeername()),
            parse_socket_addr(peer.family, peer.getsockname()),
            self.protocol_send,
        )
        if tls.selected_alpn_protocol() == "h2":
            self._http2 = Http2Connection(
                *arguments, context=self._context, wire=self, is_refused=self._is_refused
            )
            self.protocol = self._http2  # type: ignore[assignment]
            receiver.take = self._take
        else:
            http1 = Http1OverTls(*arguments, context=self._context, wire=self)
            self.protocol, self._h11 = http1, http1.connection  # type: ignore[assignment]
        await self.protocol.initiate()

    async def _read_data(self) -> None:
        while not self.reader.at_eof():
            self._is_reading = True
            try:
                data = await self.reader.read(READ_BYTES)
            except _GONE as error:
                error.__traceback__ = None  # see _close
                break
            finally:
                self._is_reading = False
            begun = self._head_since
            if begun is None and not self._is_busy():
                begun = self._context.wheel.now
            if self._http2 is None:
                self._head_since = begun
                self._look_soon()
                await self.protocol.handle(RawData(data))
                continue
            self._head_since = None  # what follows may wait for the client to read
            self._look_soon()
            await self.protocol.handle(RawData(data))
            if self._http2.is_mid_head:
                self._head_since = begun if begun is not None else self._context.wheel.now
            else:
                self._idle_since = self._context.wheel.now
            self._look_soon()
        await self.protocol.handle(Closed())

    def _take(self, data: bytes) -> bool:
        """Whether `data` is answered without waking the task that reads; see `http2/batch.py`.

        Only while that task waits for bytes, so that nothing overtakes what it has, and while the
        client takes what it is sent, because nobody waits here for it to do so.
        """
        if self._is_taken:
            self._context.batch.answer()
        if (
            data
            and self._is_reading
            and self._http2 is not None
            and self._head_since is None
            and self.writer.transport.get_write_buffer_size() == 0
            and self._http2.take(data)
        ):
            self._is_taken = True
            return True
        self._is_reading = False
        return False

    def resume_reading(self, data: bytes) -> None:
        """What was taken is answered, but for `data`, which the reading task gets first."""
        self._is_taken = False
        now = self._idle_since = self._context.wheel.now
        self.deadline = now + 1  # as _look_soon
        if data and self.reader is not None:
            self._is_reading = False
            self.reader.feed_data(data)

    async def protocol_send(self, event: Event) -> None:
        """Write bytes and wait until most of them have left; close; or note what goes on."""
        if isinstance(event, RawData):
            self.write(event.data)
            await self.drain()
        elif isinstance(event, Closed):
            await self._close()
        elif isinstance(event, Updated):
            # HTTP/2 counts its requests itself, and tells only of their beginning.
            self._is_answering = self._http2 is None and not event.idle
            self._idle_since = self._context.wheel.now
            # What came behind the request may be the beginning of a head.
            self._head_since = self._idle_since if self._is_mid_head() else None
            self._look_soon()

    @property
    def unsent_bytes(self) -> int:
        """What was written and has not reached the kernel."""
        return self.writer.transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Encrypt and queue `data`; nothing once the connection is closing."""
        if data and not self.writer.transport.is_closing():
            self.writer.write(data)

    async def drain(self) -> None:
        """Wait until little of what was written is left; end the protocol if the client left."""
        try:
            await self.writer.drain()
        except _GONE as error:
            error.__traceback__ = None  # see _close
            await self.protocol.handle(Closed())

    async def _close(self) -> None:
        """Close in whatever state; a client gets `LINGER_TICKS` to answer close_notify."""
        self._begin_closing()
        try:
            # Shielded: other tasks that wait for it must not be cancelled with this one.
            await asyncio.shield(self.writer.wait_closed())
        except _GONE as error:
            # The stream keeps the exception, and a traceback would keep this connection.
            error.__traceback__ = None

    # ---- time

    def on_deadline(self) -> None:
        """Look whether the client gets on; called when something can be due, never while idle."""
        now = self._context.wheel.now
        self._look_soon()
        try:
            self._check_progress(now)
            self.deadline = self._next_look(now)
        except Exception as error:  # noqa: BLE001 - the wheel turns for the other connections too
            self._context.on_connection_failed(error)
            self.abort()

    def _look_soon(self) -> None:
        """Something happened: see within `HORIZON_TICKS` what can be due next."""
        self.deadline = self._context.wheel.now + 1

    def _next_look(self, now: int) -> int:
        """When something can be due, if nothing happens until then."""
        context = self._context
        looks = [self._sampled_at + context.stall_ticks, now + HORIZON_TICKS]
        if self._is_all_taken and not self._is_busy() and self._closing_since is None:
            looks = [self._idle_since + context.idle_ticks + 1]
        if self._head_since is not None:
            looks.append(self._head_since + context.header_ticks + 1)
        if self._is_refused:
            looks.append(self._begun + context.header_ticks + 1)
        if self._closing_since is not None:
            looks.append(self._closing_since + LINGER_TICKS + 1)
        return min((look for look in looks if look > now), default=now + 1)

    def _check_progress(self, now: int) -> None:
        is_late = (
            self._head_since is not None and now - self._head_since > self._context.header_ticks
        )
        if self._is_refused and now - self._begun > self._context.header_ticks:
            self.abort()  # told or not: it takes the place of others that are to be told
        elif self._is_stalled(now):
            self.reset()
        elif self._lingers(now) or is_late:
            self.abort()
        elif self._is_idle_too_long(now):
            self.leave()
        elif self._http2 is not None and self._http2.is_done:
            self._begin_closing()

    def _is_idle_too_long(self, now: int) -> bool:
        """Whether it is; in a drain a busy client, too, has had time to see the first GOAWAY."""
        if self._is_mid_head():
            return False  # a head has a deadline of its own, in a drain as well
        if self._is_busy() and not self._context.draining:
            self._idle_since = now  # it is idle once all is answered
        since = self._retired_at if self._is_busy() else self._idle_since
        return since is not None and now - since > self._context.idle_ticks

    def retire(self) -> None:
        """The server is stopping: answer what is on its way for a while, then leave."""
        self._look_soon()
        if not self._context.idle_ticks:
            if not self._is_mid_head():
                self.leave()
            return
        self._idle_since = self._context.wheel.now
        if self._http2 is not None:
            self._retired_at = self._context.wheel.now
            self.write(drain_frames())

    def leave(self) -> None:
        """Finish what is being answered, then close; at once where nothing is."""
        self._retired_at = None
        if self._http2 is not None:
            self.write(self._http2.go_away())
        if not self._is_busy():
            self._begin_closing()

    def _begin_closing(self) -> None:
        if self._closing_since is None:
            self._closing_since = self._context.wheel.now
            self._look_soon()
        self.writer.close()

    def abort(self) -> None:
        """Close at once; what has not left is lost, and the client can tell."""
        self.writer.transport.abort()

    def reset(self) -> None:
        """Abort with RST: else the kernel keeps what is queued, for a client that takes nothing."""
        peer = self.writer.get_extra_info("socket")
        if peer is not None:
            with contextlib.suppress(OSError):
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.abort()

    def _is_busy(self) -> bool:
        return self._is_answering or (self._http2 is not None and self._http2.requests_open > 0)

    def _is_mid_head(self) -> bool:
        """Whether a head of HTTP/1.1 has begun; `_head_since` bounds how long it takes."""
        return self._h11 is not None and self._h11.is_mid_head

    def _is_stalled(self, now: int) -> bool:
        """Whether the client took no byte for the write-progress timeout, though some are there."""
        context = self._context
        if self._http2 is not None and self._http2.requests_open:
            self.write(self._http2.reset_stalled(now - STALL_SAMPLES * context.stall_ticks))
        buffered = self.unsent_bytes
        peer = self.writer.get_extra_info("socket")  # None once the connection is lost
        queued = 0
        if peer is not None and (fd := peer.fileno()) >= 0:
            queued = _QUEUED.unpack(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(_QUEUED.size)))[0]
        mark = (buffered, queued)
        self._is_all_taken = not any(mark)
        if now - self._sampled_at < context.stall_ticks:
            return False
        self._sampled_at = now
        self._stalls = self._stalls + 1 if mark == self._mark and any(mark) else 0
        self._mark = mark
        return self._stalls >= STALL_SAMPLES

    def _lingers(self, now: int) -> bool:
        """Whether everything has left and the client does not answer close_notify."""
        return (
            self._closing_since is not None
            and now - self._closing_since > LINGER_TICKS
            and not self.unsent_bytes
        )
