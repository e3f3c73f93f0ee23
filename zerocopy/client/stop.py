"""How one thread ends what another is doing: a wait, or a read from a socket."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from zerocopy.client.errors import ConnectionFailed


class Stop:
    """Belongs to one call. `set` may be called from any thread, any number of times."""

    __slots__ = ("_event", "_lock", "_sock")

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None

    @property
    def is_set(self) -> bool:
        """Whether the call is to end."""
        return self._event.is_set()

    def set(self) -> None:
        """End the call: its wait returns, its connection is shut down."""
        with self._lock:
            self._event.set()
            if self._sock is not None:
                with suppress(OSError):  # it has ended by itself
                    # Of an SSLSocket too: its own method would drop the TLS state that the other
                    # thread is reading with.
                    socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def attach(self, sock: socket.socket | None) -> None:
        """Name the connection that the call uses from now on; None: none.

        Raises:
            ConnectionFailed: the call is to end.
        """
        with self._lock:
            self._sock = sock
        if sock is not None:
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
