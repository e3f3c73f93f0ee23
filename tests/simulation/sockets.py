"""TCP connections without a network: what one end has sent waits for the other to read it.

Owns the two queues of a connection, its ends and its errors, as Linux has them: a reset leaves what
was received readable and then tells of it once; closing with unread input, or input for a closed
socket, resets, and a reset destroys what was still on its way.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING, Any

from tests.simulation.filesystem import failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.kernel import Kernel

_LINGER = struct.Struct("ii")


class Mark:
    """Where a stream of bytes stood at one moment: bytes so far, state of the tree, faults."""

    __slots__ = ("faults", "total", "version")

    def __init__(self, total: int, version: int, faults: int) -> None:
        self.total = total
        self.version = version
        self.faults = faults


class Socket:
    """The server's end of a connection, with the calls of socket.socket that transports use."""

    def __init__(self, kernel: Kernel, room: int) -> None:
        self._kernel = kernel
        self._room = room
        self.fd = -1
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.input_ended = False
        self.output_ended = False
        self.error: int | None = None
        self.closed = False
        self._resets_on_close = False
        self.peer_reset = False  # the peer gets ECONNRESET once the outbox is read
        self.peer_closed = False
        self.received: list[Mark] = []
        self.sent: list[Mark] = []

    # ---- what the server calls

    def fileno(self) -> int:
        """The descriptor, -1 once closed."""
        return self.fd

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - the signature of socket.socket
        """Only ever made non-blocking."""
        assert not flag, "the event loop never waits in a call"

    def gettimeout(self) -> float:
        """Never waits."""
        return 0.0

    def recv(self, count: int) -> bytes:
        """The system call."""
        self._kernel.enter("recv")
        if self.inbox:
            data = bytes(self.inbox[: self._kernel.cut(min(count, len(self.inbox)))])
            del self.inbox[: len(data)]
            self._mark(self.received, len(data))
            self._kernel.left("recv", len(data))
            return data
        self._raise_error()
        if self.input_ended:
            return b""
        raise failure(errno.EAGAIN)

    def send(self, data: bytes | memoryview, _flags: int = 0) -> int:
        """The system call."""
        self._kernel.enter("send")
        return self._put("send", bytes(data))

    def sendmsg(
        self, parts: Sequence[bytes], _ancillary: Sequence[Any] = (), _flags: int = 0
    ) -> int:
        """The system call."""
        self._kernel.enter("sendmsg")
        return self._put("sendmsg", b"".join(parts))

    def put_file(self, data: bytes) -> int:
        """The half of sendfile(2) that meets the socket."""
        return self._put("sendfile", data)

    def setsockopt(self, _level: int, option: int, value: int | bytes) -> None:
        """The system call: SO_LINGER of zero seconds is remembered."""
        self._kernel.enter("setsockopt")
        if option == socket.SO_LINGER and isinstance(value, bytes):
            self._resets_on_close = _LINGER.unpack(value) == (1, 0)

    def shutdown(self, how: int) -> None:
        """The system call, of our side."""
        assert how == socket.SHUT_WR, "the only one in use"
        self._kernel.enter("shutdown")
        if self.error is not None or self.peer_reset or (self.peer_closed and not self.input_ended):
            raise failure(errno.ENOTCONN)
        self.output_ended = True

    def close(self) -> None:
        """The system call."""
        if self.closed:
            return
        self._kernel.enter("close_socket")
        self._kernel.forget(self.fd)
        self.closed = True
        self.fd = -1
        if self._resets_on_close or self.inbox:
            self._destroy_output()
        self.output_ended = True

    # ---- what the kernel asks

    @property
    def readable(self) -> bool:
        """EPOLLIN."""
        return bool(self.inbox) or self.input_ended or self.error is not None

    @property
    def writable(self) -> bool:
        """EPOLLOUT: a third of the buffer is free, or a call would fail at once."""
        free = self._room - len(self.outbox)
        return free * 3 >= self._room or self.error is not None or self.output_ended

    # ---- what the client does

    def peer_sends(self, data: bytes) -> None:
        """Bytes arrive; a closed socket answers them with a reset."""
        if self.closed:
            self._destroy_output()
        elif self.error is None:
            self.inbox += data

    def peer_ends(self) -> None:
        """FIN arrives."""
        self.input_ended = True

    def peer_resets(self) -> None:
        """RST arrives: what was sent is dropped, what was received can still be read."""
        self.peer_closed = True
        self.outbox.clear()
        if not self.closed:
            self.error = errno.EPIPE if self.input_ended else errno.ECONNRESET
            self.input_ended = True

    def peer_closes(self) -> None:
        """The other end closes: a reset if it has not read everything, or for what comes."""
        if self.outbox:
            self.peer_resets()
        else:
            self.peer_closed = True
            self.input_ended = True

    def peer_reads(self, count: int) -> bytes | None:
        """Up to `count` bytes; b"" at the end; None if there is nothing yet.

        Raises:
            ConnectionResetError: the server reset the connection.
        """
        if self.outbox:
            data = bytes(self.outbox[:count])
            del self.outbox[:count]
            return data
        if self.peer_reset:
            raise failure(errno.ECONNRESET)
        return b"" if self.output_ended else None

    # ---- within

    def _put(self, name: str, data: bytes) -> int:
        self._raise_error()
        if self.output_ended:
            raise failure(errno.EPIPE)
        if self.peer_closed:  # the peer answers with a reset, which comes later
            self.error = errno.EPIPE
            sent = len(data)
        else:
            free = self._room - len(self.outbox)
            if data and free <= 0:
                raise failure(errno.EAGAIN)
            sent = self._kernel.cut(min(len(data), free)) if data else 0
            self.outbox += data[:sent]
        self._mark(self.sent, sent)
        self._kernel.left(name, sent)
        return sent

    def _mark(self, marks: list[Mark], count: int) -> None:
        before = marks[-1].total if marks else 0
        kernel = self._kernel
        marks.append(Mark(before + count, kernel.files.version, kernel.faults_struck))

    def _raise_error(self) -> None:
        if self.error is not None:
            code, self.error = self.error, None
            self.output_ended = True
            raise failure(code)

    def _destroy_output(self) -> None:
        """A reset overtakes what is still on its way."""
        self.peer_reset = True
        del self.outbox[self._kernel.rng.randint(0, len(self.outbox)) :]


class Listener:
    """A listening socket and its backlog."""

    writable = False
    error: int | None = None

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.backlog: list[Socket] = []
        self.fd = kernel.add(self)
        self.closed = False

    def fileno(self) -> int:
        """The descriptor."""
        return self.fd

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - the signature of socket.socket
        """Only ever made non-blocking."""
        assert not flag, "the event loop never waits in a call"

    def setsockopt(self, _level: int, _option: int, _value: int | bytes) -> None:
        """The system call: TCP_NODELAY changes nothing here."""
        self._kernel.enter("setsockopt")

    def accept(self) -> tuple[Socket, tuple[str, int]]:
        """The system call. A connection that is gone is handed out all the same, as Linux does."""
        try:
            self._kernel.enter("accept")
        except OSError as error:
            if error.errno == errno.ECONNABORTED and self.backlog:
                self._kernel.lost.append(self.backlog.pop(0))
                self._kernel.lost[-1].peer_reset = True
            raise
        if not self.backlog:
            raise failure(errno.EAGAIN)
        connection = self.backlog.pop(0)
        connection.fd = self._kernel.add(connection)
        self._kernel.note(f"={connection.fd}")
        return connection, ("127.0.0.1", 1)

    def close(self) -> None:
        """The system call."""
        self._kernel.forget(self.fd)
        self.closed = True

    @property
    def readable(self) -> bool:
        """EPOLLIN."""
        return bool(self.backlog)


class Spare:
    """A socket that is never connected: all it does is to hold a descriptor."""

    readable = writable = False
    error: int | None = None

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.fd = kernel.add(self)

    def close(self) -> None:
        """The system call."""
        self._kernel.enter("close_socket")
        self._kernel.forget(self.fd)
