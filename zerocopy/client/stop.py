"""How one thread ends what another is doing: a wait, or a read from a socket."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from zerocopy.client.errors import ConnectionFailed

if TYPE_CHECKING:
    from http.client import HTTPConnection


class Stop:
    """Belongs to one call. `set` may be called from any thread, any number of times."""

    __slots__ = ("_connection", "_event", "_lock")

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._connection: HTTPConnection | None = None

    @property
    def is_set(self) -> bool:
        """Whether the call is to end."""
        return self._event.is_set()

    def set(self) -> None:
        """End the call: its wait returns, its connection is shut down."""
        with self._lock:
            self._event.set()
            sock = None if self._connection is None else self._connection.sock
            if sock is not None:
                with suppress(OSError):  # it has ended by itself
                    # Of an SSLSocket too: unlike its own method this leaves the TLS state, which
                    # the other thread reads, as it is.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def attach(self, connection: HTTPConnection | None) -> None:
        """Name the connection that the call uses from now on.

        Raises:
            ConnectionFailed: the call is to end.
        """
        with self._lock:
            self._connection = connection
            if connection is not None:
                self.check()

    def pause(self, seconds: float) -> None:
        """Wait, unless the call is to end.

        Raises:
            ConnectionFailed: the call is to end.
        """
        self._event.wait(seconds)
        self.check()

    def check(self) -> None:
        """Raise ConnectionFailed if the call is to end."""
        if self._event.is_set():
            raise ConnectionFailed("the client was closed")
