"""The event loop: uvloop's, with the two sendfile methods it lacks.

Owns `loop.sock_sendfile` and `loop.sendfile`: asyncio's signatures, checks, results and
exceptions, the kernel's sendfile(2), a bounded number of bytes a turn (uvloop 0.23 has neither,
MagicStack/uvloop issue 228). It must never know HTTP, nor make the system call itself:
`send_range` does.

The idea to read it by: a transfer is a loop of turns, and between two turns it waits until its
output is writable, whatever ended the turn. Readiness is level-triggered, so a transfer that only
spent its budget comes back in the loop's next iteration, after everybody else.

- `_SocketOutput` waits with `add_writer`.
- `_TransportOutput` cannot: uvloop refuses `add_writer` on the descriptor of a transport. The
  usual way around, a `dup()`, makes a second owner of the connection (an aborted transport sends
  no FIN while the duplicate is open) and can leave entries in the loop's epoll that burn a whole
  core (aio-libs/aiohttp issue 1412, uvloop issue 61). Here a private epoll watches the very
  descriptor, and the loop watches the epoll: it is readable while the socket is writable
  (epoll(7), question 3). Closing the epoll takes everything back.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import ssl
import stat
import sys
from contextlib import closing, suppress
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import uvloop
import uvloop.loop

from zerocopy.transport.sendfile import Outcome, send_range

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    _Send = Callable[[bytes], Awaitable[None]]

TURN_BYTES_MAX = 1 << 20
"""Bytes one transfer sends before the others are served.

nginx's `sendfile_max_chunk` is 2 MiB. p99 of an echo beside four large transfers on one core, in
ms: 1 to 5 with 256 KiB, 4 to 11 with 1 MiB, 16 to 38 with 4 MiB, 28 to 590 without a bound; the
throughput was the same within the noise of a shared machine.
"""

FALLBACK_READ_BYTES = 256 << 10
"""Bytes a read of the copying fallback: 256 KiB was measured 4 times as fast over TCP as asyncio's
16 KiB, which cost a trip to the executor each (python/cpython issue 152074)."""

_UNAVAILABLE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ESPIPE})
"""What sendfile(2) answers, before the first byte, when it cannot serve this file or socket.
asyncio takes every first error for that, which hides a reset peer or a broken disk."""

# uvloop ships no stubs for its transports. Its read and write pipes are not listed: asyncio does
# not send files to pipes either.
_extension: Any = uvloop.loop
_STREAM_TRANSPORTS: tuple[type, ...] = (_extension.TCPTransport, _extension.UnixTransport)


class Loop(uvloop.Loop):
    """uvloop's event loop with `sendfile` and `sock_sendfile`.

    Attributes:
        turn_bytes_max: Bytes a transfer may send in one turn of the loop.
    """

    turn_bytes_max: int = TURN_BYTES_MAX

    async def sock_sendfile(
        self,
        sock: socket.socket,
        file: IO[bytes],
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool | None = True,
    ) -> int:
        """Send a file to a connected, non-blocking socket.

        The file position is moved behind the last byte sent, also after an error or a
        cancellation. What fits into one turn and into the socket's buffer is sent without
        yielding, and a socket closed meanwhile closes when the transfer ends: as `sock_sendall`.

        Args:
            sock: A socket that does not belong to a transport.
            file: A file opened in binary mode.
            offset: Where in the file to begin.
            count: How many bytes to send; None sends up to the end of the file.
            fallback: Copy through memory what sendfile(2) cannot send.

        Returns:
            The number of bytes sent: less than `count` if the file ends before.

        Raises:
            ValueError: The file is not binary, the socket is no stream or is blocking (seen in
                debug mode only, as in asyncio), or count or offset is out of range.
            TypeError: count or offset is not an integer, or the socket is an SSLSocket.
            RuntimeError: The socket belongs to a transport.
            asyncio.SendfileNotAvailableError: sendfile(2) cannot, and `fallback` is off.
            ConnectionError: The peer is gone.
            OSError: See `send_range`.
        """
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        if isinstance(sock, ssl.SSLSocket):
            raise TypeError("Socket cannot be of type SSLSocket")
        _check_parameters(sock.type, file, offset, count)
        # It raises for a transport's descriptor, before a byte is sent and not at the first wait.
        self.remove_writer(sock)
        try:
            _check_regular(file)
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

        Arguments and result are those of `sock_sendfile`; a TLS transport needs `fallback`.
        Reading is paused meanwhile. A lost peer closes the transport, as after a failed write.
        Unlike asyncio's, uvloop's transports cannot refuse a `write` while this runs: do not call
        it, its bytes would land amid the file's.

        Raises:
            RuntimeError: The transport is closing, of a kind that cannot send files, or can only
                send copies and `fallback` is off.
            ValueError, TypeError, asyncio.SendfileNotAvailableError: As `sock_sendfile`.
            ConnectionError: The peer is gone, or the transport was closed or aborted meanwhile.
            OSError: See `send_range`.
        """
        if transport.is_closing():
            raise RuntimeError("Transport is closing")
        if isinstance(transport, _STREAM_TRANSPORTS):
            try:
                return await self._sendfile_native(transport, file, offset, count)
            except asyncio.SendfileNotAvailableError:
                if not fallback:
                    raise
        elif transport.get_extra_info("sslcontext") is None:
            raise RuntimeError(f"sendfile is not supported for transport {transport!r}")
        elif not fallback:
            raise RuntimeError(
                "fallback is disabled and native sendfile is not supported "
                f"for transport {transport!r}"
            )
        return await self._sendfile_fallback(transport, file, offset, count)

    # asyncio's name and arguments: CPython's tests replace it.
    async def _sendfile_native(
        self, transport: Any, file: IO[bytes], offset: int, count: int | None
    ) -> int:
        _check_parameters(socket.SOCK_STREAM, file, offset, count)
        _check_regular(file)
        try:
            with closing(_TransportOutput(self, transport)) as output:
                await output.drained()
                return await self._send_turns(output, file, offset, count)
        except ConnectionError:
            if not transport.is_closing():
                transport.abort()
            raise

    async def _sendfile_fallback(
        self, transport: Any, file: IO[bytes], offset: int, count: int | None
    ) -> int:
        _check_parameters(socket.SOCK_STREAM, file, offset, count)
        with closing(_TransportOutput(self, transport)) as output:
            return await self._copy(file, offset, count, output.write)

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


def _check_parameters(sock_type: int, file: IO[bytes], offset: object, count: object) -> None:
    """Raise what asyncio raises, in its order."""
    if "b" not in getattr(file, "mode", "b"):
        raise ValueError("file should be opened in binary mode")
    if sock_type != socket.SOCK_STREAM:
        raise ValueError("only SOCK_STREAM type sockets are supported")
    if count is not None:
        if not isinstance(count, int):
            raise TypeError(f"count must be a positive integer (got {count!r})")
        if count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
    if not isinstance(offset, int):
        raise TypeError(f"offset must be a non-negative integer (got {offset!r})")
    if offset < 0:
        raise ValueError(f"offset must be a non-negative integer (got {offset!r})")


def _check_regular(file: IO[bytes]) -> None:
    """Raise SendfileNotAvailableError unless `file` is a regular file with a descriptor.

    asyncio takes the size 0 of a pipe or a device for an empty file and sends nothing.
    """
    try:
        mode = os.fstat(file.fileno()).st_mode
    except (AttributeError, OSError) as error:  # io.UnsupportedOperation is an OSError
        raise asyncio.SendfileNotAvailableError("not a regular file") from error
    if not stat.S_ISREG(mode):
        raise asyncio.SendfileNotAvailableError("not a regular file")


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
