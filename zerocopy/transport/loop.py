"""The event loop: uvloop's, with two sendfile methods that applications may call, and we do not.

uvloop lacks them (MagicStack/uvloop issue 228). The loop promises them to any code that runs on it;
our own connections call `send_range` themselves.

Owns `loop.sock_sendfile` and `loop.sendfile`: asyncio's signatures, checks, results and
exceptions, the kernel's sendfile(2), a bounded number of bytes a turn. It must never know HTTP, nor
make the system call itself: `send_range` does.

The idea to read it by: a transfer is a loop of turns, and between two turns it waits until its
output is writable, whatever ended the turn. Readiness is level-triggered, so a transfer that only
spent its budget comes back in the loop's next iteration, after everybody else.

uvloop refuses `add_writer` on the descriptor of a transport, and a `dup()` of it would be a second
owner of the connection. So a private epoll watches that descriptor, and the loop watches the epoll:
it is readable while the socket is writable (epoll(7), question 3).
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
import select
import ssl
import sys
from contextlib import closing, suppress
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import uvloop
import uvloop.loop

from zerocopy.transport.sendfile import Outcome, send_range

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    _Send = Callable[[bytes], Awaitable[None]]

TURN_BYTES_MAX = 1 << 20
"""Bytes one transfer sends before the others are served: an echo beside four large transfers on one
core had a p99 of 1 to 5 ms with 256 KiB, 4 to 11 with 1 MiB, 16 to 38 with 4 MiB."""

FALLBACK_READ_BYTES = 256 << 10
"""Bytes a read of the copying fallback, a trip to the executor (python/cpython issue 152074)."""

_UNAVAILABLE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ESPIPE})
"""Errors of sendfile(2), before the first byte, if it cannot serve this file or socket.
asyncio takes every first error for that, which hides a reset peer or a broken disk."""

# uvloop ships no stubs for its transports. Pipes are not listed: asyncio sends no files to them.
_extension: Any = uvloop.loop
_asyncio: Any = asyncio.BaseEventLoop
_STREAM_TRANSPORTS: tuple[type, ...] = (_extension.TCPTransport, _extension.UnixTransport)


class Loop(uvloop.Loop):
    """uvloop's event loop with `sendfile` and `sock_sendfile`."""

    turn_bytes_max: int = TURN_BYTES_MAX
    _check_sendfile_params = _asyncio._check_sendfile_params  # noqa: SLF001 - the very sentences

    async def sock_sendfile(
        self,
        sock: socket.socket,
        file: IO[bytes],
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool | None = True,
    ) -> int:
        """Send a file to a connected, non-blocking socket that belongs to no transport.

        Arguments, result and errors are asyncio's, but only certain errors mean a lack of
        sendfile(2), not every first error. The file's position is moved behind the last byte
        sent, also after an error or a cancellation. A socket closed meanwhile closes when the
        transfer ends, as with `sock_sendall`.
        """
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        if isinstance(sock, ssl.SSLSocket):
            raise TypeError("Socket cannot be of type SSLSocket")
        self._check_sendfile_params(sock, file, offset, count)
        # It raises for a transport's descriptor, before a byte is sent and not at the first wait.
        self.remove_writer(sock)
        try:
            with closing(_SocketOutput(self, sock)) as output:
                return await self._send_turns(output, file, offset, count)
        except asyncio.SendfileNotAvailableError:
            if not fallback:
                raise
        return await self._copy(file, offset, count, partial(self.sock_sendall, sock))

    async def sendfile(
        self,
        transport: asyncio.BaseTransport,
        file: IO[bytes],
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool | None = True,
    ) -> int:
        """Send a file through a transport, after everything that was written to it before.

        As `sock_sendfile`; a TLS transport needs `fallback`. Reading is paused meanwhile. A lost
        peer closes the transport, as after a failed write. Unlike asyncio's, uvloop's transports
        cannot refuse a `write` while this runs: do not call it, its bytes would land amid the
        file's.
        """
        if transport.is_closing():
            raise RuntimeError("Transport is closing")
        is_stream = isinstance(transport, _STREAM_TRANSPORTS)
        if not is_stream and transport.get_extra_info("sslcontext") is None:
            raise RuntimeError(f"sendfile is not supported for transport {transport!r}")
        if not is_stream and not fallback:
            raise RuntimeError(
                "fallback is disabled and native sendfile is not supported "
                f"for transport {transport!r}"
            )
        self._check_sendfile_params(transport.get_extra_info("socket"), file, offset, count)
        if is_stream:
            try:
                return await self._sendfile_native(transport, file, offset, count)
            except asyncio.SendfileNotAvailableError:
                if not fallback:
                    raise
        with closing(_TransportOutput(self, transport)) as output:
            return await self._copy(file, offset, count, output.write)

    # asyncio's name and arguments: CPython's tests replace it.
    async def _sendfile_native(
        self, transport: Any, file: IO[bytes], offset: int, count: int | None
    ) -> int:
        try:
            with closing(_TransportOutput(self, transport)) as output:
                await output.drained()
                return await self._send_turns(output, file, offset, count)
        except ConnectionError:
            if not transport.is_closing():
                transport.abort()
            raise

    async def _send_turns(
        self,
        output: _SocketOutput | _TransportOutput,
        file: IO[bytes],
        offset: int,
        count: int | None,
    ) -> int:
        """Send by the kernel, turn by turn."""
        end = sys.maxsize if count is None else offset + count
        position = offset
        try:
            while position < end:
                # Both numbers are asked for anew: if the file or the transport was closed
                # meanwhile this raises, and never touches what was opened under the number.
                nbytes, outcome = send_range(
                    output.fileno(), file.fileno(), position, end - position, self.turn_bytes_max
                )
                position += nbytes
                if outcome is Outcome.DONE or outcome is Outcome.END_OF_FILE:
                    break
                await output.writable()
        except (AttributeError, io.UnsupportedOperation) as error:  # it has no descriptor
            raise asyncio.SendfileNotAvailableError("not a regular file") from error
        except OSError as error:
            position += getattr(error, "characters_written", 0)
            if position == offset and error.errno in _UNAVAILABLE:
                raise asyncio.SendfileNotAvailableError("os.sendfile call failed") from error
            if error.errno == errno.ENOTCONN:  # an OSError without a class of its own
                raise ConnectionError(errno.ENOTCONN, "socket is not connected") from error
            raise
        finally:
            if position > offset:
                with suppress(ValueError):  # the file was closed meanwhile
                    os.lseek(file.fileno(), position, os.SEEK_SET)
        return position - offset

    async def _copy(self, file: IO[bytes], offset: int, count: int | None, send: _Send) -> int:
        """Read in the executor and `send`, for what sendfile(2) cannot do."""
        seekable = file.seekable()
        if seekable or offset:
            file.seek(offset)
        total = 0
        try:
            while count is None or total < count:
                nbytes = FALLBACK_READ_BYTES
                if count is not None:
                    nbytes = min(nbytes, count - total)
                data = await self.run_in_executor(None, file.read, nbytes)
                if not data:
                    break
                await send(data)
                total += len(data)
        finally:
            if seekable and total:
                file.seek(offset + total)
        return total


def new_event_loop() -> Loop:
    """Return a new loop; fits `asyncio.Runner(loop_factory=...)`."""
    return Loop()


class _Output:
    """Where a transfer goes; its one coroutine waits for it."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _SocketOutput(_Output):
    """A socket of the caller's own."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        super().__init__(loop)
        self._sock = sock
        self._registered_fd = -1

    def fileno(self) -> int:
        return self._sock.fileno()

    async def writable(self) -> None:
        if self._registered_fd < 0:
            # By the socket object, not by its number: so uvloop defers sock.close(), and the
            # number cannot become another connection's while the writer is there.
            self._loop.add_writer(self._sock, self._wake)
            self._registered_fd = self._sock.fileno()
        await self._wait()

    def close(self) -> None:
        if self._registered_fd >= 0:
            self._loop.remove_writer(self._registered_fd)


class _TransportOutput(_Output, asyncio.Protocol):
    """A transport; as its protocol until `close` this hears of drained buffers and of the end."""

    def __init__(self, loop: Loop, transport: Any) -> None:
        super().__init__(loop)
        self._transport = transport
        self._protocol = transport.get_protocol()
        if isinstance(self._protocol, _TransportOutput):
            raise RuntimeError("sendfile is in progress")  # noqa: TRY004 - a state, not a type
        self._reading = transport.is_reading()
        self._limits = transport.get_write_buffer_limits()
        self._epoll: select.epoll | None = None
        self._lost = False
        self._paused: bool | None = None
        transport.pause_reading()
        transport.set_protocol(self)
        # With both limits at zero, resume_writing() means: everything is in the kernel.
        transport.set_write_buffer_limits(high=0)
        # Transports do not tell whether they had paused the protocol before. But with a limit of
        # zero they call pause_writing() or resume_writing() at once if that changes anything.
        if self._paused is None:
            self._paused = self._was_paused = transport.get_write_buffer_size() > 0
        else:
            self._was_paused = not self._paused

    async def drained(self) -> None:
        """Wait until what was written before has left for the kernel."""
        self._check_open()
        while self._transport.get_write_buffer_size() > 0:
            await self._wait()
            self._check_open()

    async def write(self, data: bytes) -> None:
        """Write a copy, never with another one still in the buffer."""
        await self.drained()
        self._transport.write(data)

    def fileno(self) -> int:
        self._check_open()
        fd: int = self._transport.get_extra_info("socket").fileno()
        return fd

    async def writable(self) -> None:
        if self._epoll is None:
            self._epoll = select.epoll()
            self._epoll.register(self.fileno(), select.EPOLLOUT)
            self._loop.add_reader(self._epoll.fileno(), self._wake)
        await self._wait()

    def close(self) -> None:
        """Give the transport back as it was, and tell its protocol what it missed."""
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
        if self._lost or self._loop.is_closed():
            return
        if not self._transport.is_closing():
            low, high = self._limits
            self._transport.set_write_buffer_limits(high=high, low=low)
        self._transport.set_protocol(self._protocol)
        if self._paused and not self._was_paused:
            self._protocol.pause_writing()
        elif self._was_paused and not self._paused:
            self._protocol.resume_writing()
        if self._reading:
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._wake()
        self._protocol.connection_lost(exc)

    def _check_open(self) -> None:
        if self._lost or self._transport.is_closing():
            raise ConnectionError("transport closed during sendfile")
