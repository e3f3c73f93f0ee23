"""One HTTP/2 connection on its channel: what is received and sent of it, and its time.

Owns the channel, what it has not taken yet, and the deadlines. Hypercorn's H2Protocol is fed by a
task, because it may wait: for a client that does not read, for an application. Requests that were
made before go past it (`http2/batch.py`). A wheel looks at each connection now and then.

How a connection ends, in this order; a later step may come without those above it:

    retire            first GOAWAY, which refuses nothing, and PING; the server is stopping
    leave             GOAWAY that counts; requests that came before are still answered
    _begin_closing    nothing more is written; what was written still leaves
    _shut_down        close_notify and FIN; the client is to close within `LINGER_TICKS`
    reset, fail       RST for a client that takes nothing; a logged fault of the server
    end               nothing more is sent or received; cancels the serving task
    _give_back        once, when that task has ended: closes the channel, calls `on_end`
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from hypercorn.events import Closed, RawData

from zerocopy.transport.channel import recv_all
from zerocopy.transport.http2.connection import Http2Connection
from zerocopy.transport.http2.head import drain_frames
from zerocopy.transport.http2.outbox import Outbox
from zerocopy.transport.http2.tasks import ConnectionTasks
from zerocopy.transport.timers import HORIZON_TICKS, NEVER, STALL_SAMPLES, Progress, Wheel

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypercorn.events import Event

    from zerocopy.transport.channel import Buffer, Channel
    from zerocopy.transport.http2.context import Http2Context

RECV_BYTES = 16_384
"""Bytes asked of one recv: a record of TLS has no more."""

LINGER_TICKS = Wheel.ticks(1.0)
"""How long a client gets to close once everything has left."""


class Http2Wire:
    """The bytes of one connection, from its handshake to its end. Used in the loop's thread only.

    A member of the listener's wheel. `on_end` is called once, when all is given back.
    """

    __slots__ = (
        "_asked", "_begun", "_channel", "_closing_since", "_context", "_head_since", "_http2",
        "_idle_since", "_is_all_taken", "_is_at_end", "_is_begun", "_is_over", "_is_refused",
        "_is_taken", "_on_end", "_outbox", "_progress", "_recv", "_retired_at", "_retires",
        "_sampled_at", "_serving", "deadline", "network",
    )  # fmt: skip

    def __init__(
        self,
        context: Http2Context,
        channel: Channel,
        on_end: Callable[[Http2Wire], None],
        *,
        is_refused: bool,
    ) -> None:
        self._context = context
        self._channel = channel
        self.network = context.network_of(channel)
        self._recv = channel.recv
        self._on_end = on_end
        self._is_refused = is_refused
        self._http2: Http2Connection | None = None
        self._is_begun = False
        self._serving = context.loop.create_task(self._serve())
        self._outbox = Outbox(context.loop, channel, self)
        self._asked: asyncio.Future[bytes] | None = None  # the task waits for bytes
        self._is_taken = False  # some came meanwhile and are answered at the end of the iteration
        self._is_at_end = False  # the client sends nothing more
        self._is_over = False
        now = context.wheel.now
        self._begun = now
        self._head_since: int | None = now  # a head is awaited in full since then
        self._idle_since = now
        self._closing_since: int | None = None
        self._retires = False  # once what was read is handled
        self._retired_at: int | None = None  # the first GOAWAY is out, the one that counts is not
        self._progress = Progress()
        self._sampled_at = now
        self._is_all_taken = True  # the client's kernel has all that was written, at the last look
        self.deadline = now + 1

    async def _serve(self) -> None:
        """Serve to the end of the connection; nothing that happens on it goes any further."""
        self._is_begun = True
        try:
            await self._serve_until_over()
        except* Exception as errors:  # noqa: BLE001 - one connection must not stop the others
            self._context.on_connection_failed(errors)
        finally:
            self._give_back()

    async def _serve_until_over(self) -> None:
        """Serve until one side ends the connection; all that was begun for it has ended then."""
        try:
            async with ConnectionTasks(self._context.loop) as tasks:
                self._http2 = Http2Connection(
                    tasks, context=self._context, wire=self, is_refused=self._is_refused
                )
                await self._http2.initiate()
                if self._context.draining:
                    self.retire()
                await self._read(self._http2)
        except asyncio.CancelledError as error:
            if not self._is_over:
                raise
            error.__traceback__ = None  # CPython's TaskGroup keeps the error in a frame of it

    def _give_back(self) -> None:
        """Close, and break the cycles with the protocol: they would hold what is queued."""
        self._is_over = True
        self.deadline = NEVER
        http2, self._http2 = self._http2, None
        steps: list[Callable[[], None]] = [] if http2 is None else [http2.close]
        steps += [self._channel.close, self._outbox.close, partial(self._on_end, self)]
        for give_back in steps:
            try:
                give_back()
            except Exception as error:  # noqa: BLE001 - whatever fails, the rest goes
                self._context.on_connection_failed(error)

    # ---- receiving

    def _on_readable(self) -> None:
        """Read once; the event loop calls again while there is more."""
        if self._is_taken:
            self._context.batch.answer()
        http2 = self._http2
        if self._asked is None or http2 is None:
            self._channel.stop_reading()  # the task is busy; it asks again
            return
        try:
            data = self._recv(RECV_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.end()
            return
        try:
            if data and self._closing_since is not None:  # nobody answers it
                self._context.loop.call_soon(self._read_on)
            elif data and self._head_since is None and not self._outbox.nbytes and http2.take(data):
                self._is_taken = True
            else:
                self._hand_over(data)
        except Exception as error:  # noqa: BLE001 - the client would wait for what was read
            self.fail(error)

    def _read_on(self) -> None:
        """Look once more after bytes that nothing answers, for a reset right behind them.

        On EPOLLERR uvloop calls the reader a last time and forgets it; that call got the bytes.
        """
        if self._channel.is_reading:
            self._on_readable()

    def _hand_over(self, data: bytes) -> None:
        asked, self._asked = self._asked, None
        if asked is not None and not asked.done():
            asked.set_result(data)

    def resume_reading(self, data: bytes) -> None:
        """Read on after the batch. The reading task first gets `data`, which was not answered."""
        self._is_taken = False
        now = self._idle_since = self._context.wheel.now
        self.deadline = now + 1  # as _look_soon
        if data:
            self._hand_over(data)

    async def _next(self) -> bytes:
        self._asked = self._context.loop.create_future()
        if self._retires:
            self._context.loop.call_soon(self.retire)
        self._channel.wait_readable(self._on_readable)
        return await self._asked

    async def _read(self, http2: Http2Connection) -> None:
        """Feed the protocol; ends only when it is cancelled, by `end`."""
        while data := await self._next():
            if self._closing_since is not None:
                continue  # nobody reads it any more
            begun = self._head_since
            if begun is None and not http2.requests_open:
                begun = self._context.wheel.now
            self._head_since = None  # what follows may wait for the client to read
            self._look_soon()
            before = http2.partial_bytes
            await http2.handle(RawData(data))
            now = self._context.wheel.now
            is_same = http2.is_mid_block or http2.partial_bytes == before + len(data)
            if begun is None or not is_same:  # else nothing has come in full since
                self._idle_since = begun = now
            self._head_since = begun if http2.is_mid_head else None
            self._look_soon()
        self._channel.stop_reading()
        self._is_at_end = True
        self._head_since = None
        if self._closing_since is not None:
            self.end()
        else:
            self.leave()  # what it asked for before is still answered
        await self._context.loop.create_future()

    # ---- sending

    @property
    def unsent_bytes(self) -> int:
        """What was written and has not reached the kernel."""
        return self._outbox.nbytes

    def write(self, data: Buffer) -> None:
        """Send `data`, or keep what the channel does not take; nothing once it is closing."""
        if not self._is_over and self._closing_since is None:
            self._outbox.write(data)

    async def drain(self) -> None:
        """Wait until all that was written is in the kernel."""
        await self._outbox.drain()

    def on_drained(self) -> None:
        """All that was written is in the kernel."""
        if self._closing_since is not None:
            self._shut_down()

    async def send(self, event: Event) -> None:
        """Obey an event of Hypercorn's protocol: send bytes, or close."""
        if isinstance(event, RawData):
            self.write(event.data)
            await self.drain()
        elif isinstance(event, Closed):
            self._begin_closing()

    # ---- time

    def on_deadline(self) -> None:
        """Look whether the client gets on; called when something can be due."""
        now = self._context.wheel.now
        self._look_soon()
        try:
            self._read_on()
            self._check_progress(now)
            if self.deadline != NEVER:
                self.deadline = self._next_look(now)
        except Exception as error:  # noqa: BLE001 - the wheel turns for the other connections too
            self.fail(error)

    def _look_soon(self) -> None:
        """Something happened: see within `HORIZON_TICKS` what can be due next."""
        if not self._is_over:
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
        context, http2 = self._context, self._http2
        is_late = self._head_since is not None and now - self._head_since > context.header_ticks
        if self._is_refused and now - self._begun > context.header_ticks:
            self.end()  # told or not: it takes the place of others that are to be told
        elif self._is_stalled(now):
            self.reset()
        elif is_late:
            if http2 is not None:
                self.write(http2.go_away())
            self.end()
        elif self._lingers(now):
            self.end()
        elif self._is_idle_too_long(now):
            self.leave()
        elif http2 is not None and http2.is_done:
            self._begin_closing()

    def _is_idle_too_long(self, now: int) -> bool:
        """Whether it is idle for too long; or, in a drain, busy for so long since it was told."""
        if self._is_busy() and not self._context.draining:
            self._idle_since = now  # it is idle once all is answered
        since = self._retired_at if self._is_busy() else self._idle_since
        return since is not None and now - since > self._context.idle_ticks

    def _is_busy(self) -> bool:
        return self._http2 is not None and self._http2.requests_open > 0

    def _is_stalled(self, now: int) -> bool:
        """Whether the client took no byte for the write-progress timeout, though some are there."""
        context, http2 = self._context, self._http2
        if http2 is not None and http2.requests_open:
            # Who sends nothing more will open no window either.
            patience = 0 if self._is_at_end else STALL_SAMPLES * context.stall_ticks
            self.write(http2.reset_stalled(now - patience))
        if self._is_over:
            return False
        untaken = self._channel.untaken_bytes()
        self._is_all_taken = not (self._outbox.nbytes or untaken)
        if now - self._sampled_at < context.stall_ticks:
            return False
        self._sampled_at = now
        # Not what waits in the outbox or our kernel: that grows for a client that reads nothing.
        has_grown = self._progress.has_grown(self._outbox.taken_bytes - untaken)
        return not (has_grown or self._is_all_taken) and self._progress.is_stalled

    def _lingers(self, now: int) -> bool:
        """Whether the client has all, as it has told, and does not close.

        What it sends to a closed socket makes our kernel drop what it has not sent.
        """
        if self._closing_since is None:
            return False
        if not self._is_all_taken:
            self._closing_since = now
        return now - self._closing_since > LINGER_TICKS

    # ---- ending

    def retire(self) -> None:
        """The server is stopping: answer what is on its way for a while, then leave."""
        self._look_soon()
        if self._http2 is None:
            return  # it says so once it has begun, after its SETTINGS (RFC 9113 section 3.4)
        if not self._context.idle_ticks:
            if self._is_taken:
                self._context.batch.answer()
            self._retires = self._asked is None  # the task is busy, and comes back
            if not self._retires:
                if data := recv_all(self._channel, 4 * RECV_BYTES):
                    self._hand_over(data)  # requests that came before the stop
                self._context.loop.call_soon(self.leave)
        else:
            self._idle_since = self._retired_at = self._context.wheel.now
            self.write(drain_frames())
            self._http2.end_feeds()

    def leave(self) -> None:
        """Finish what is being answered, then close; at once where nothing is."""
        self._retired_at = None
        if self._http2 is not None:
            self.write(self._http2.go_away())
        if not self._is_busy():
            self._begin_closing()

    def _begin_closing(self) -> None:
        """Say that nothing follows, once everything has left; the client is to close."""
        if self._closing_since is None and not self._is_over:
            self._closing_since = self._context.wheel.now
            self._look_soon()
            if not self._outbox.nbytes:
                self._shut_down()

    def _shut_down(self) -> None:
        try:
            is_said = self._channel.shut_down()
        except OSError:  # the client is gone
            is_said = self._is_at_end = True
        if self._is_at_end and is_said:
            self.end()

    def reset(self) -> None:
        """End with RST: else the kernel keeps what is queued, for a client that takes nothing."""
        self._channel.reset()
        self.end()

    def fail(self, error: Exception) -> None:
        """A fault of the server: log it, and end this connection and no other."""
        try:
            self._context.on_connection_failed(error)
        finally:
            self.end()

    def end(self) -> None:
        """Close at once: what has not left is lost, and its streams have no end."""
        if not self._is_over:
            self._is_over = True
            self.deadline = NEVER
            self._channel.stop_reading()
            self._channel.stop_writing()
            self._serving.cancel()
            if not self._is_begun:  # nor will it ever
                self._give_back()
