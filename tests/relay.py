"""A network between two programs of this machine, which a test may lose and find again.

Owns the two ways to be silent: a peer whose kernel still answers (`mute`), and packets that reach
nobody (`lose`). For the second a filter that drops every packet lies on the sockets of the relay
(SO_ATTACH_FILTER, socket(7)), before TCP has seen them. So nothing is acknowledged: new connections
time out, bytes are sent again, and keep-alive probes stay without an answer, as when a cable is
cut.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import threading
from dataclasses import dataclass
from typing import Self

from tests.faults.client import RESET

_ATTACH_FILTER, _DETACH_FILTER = 26, 27
_BUFFER_BYTES = 1 << 16
_TIMEOUT_S = 20.0
_DROP_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0)
"""The filter: one instruction of classic BPF, which returns that no byte is to be kept."""


class Relay:
    """Passes bytes between whoever connects to `port` and `to_port`, from enter until exit."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.accepted = 0
        """Connections so far."""
        self._lock = threading.Lock()
        self._passes = threading.Event()
        self._is_lost, self._is_over = False, False
        self._sockets: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        """Pass everything."""
        self._passes.set()
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        """Break every connection."""
        with self._lock:
            self._is_over = True
            for sock in (self._listener, *self._sockets):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        self._passes.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def mute(self) -> None:
        """Accept connections and bytes, and pass nothing on."""
        self._passes.clear()

    def lose(self) -> None:
        """Be no more: each packet of every connection, and each that would begin one, is lost."""
        self.mute()
        with self._lock:
            self._is_lost = True
            for sock in (self._listener, *self._sockets):
                _drop_all(sock)

    def heal(self) -> None:
        """Pass what waits, and what comes."""
        with self._lock:
            if self._is_lost:
                self._is_lost = False
                for sock in (self._listener, *self._sockets):
                    sock.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)
        self._passes.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # it is over
            self.accepted += 1
            try:
                far = socket.create_connection(("127.0.0.1", self._to_port), _TIMEOUT_S)
            except OSError:
                _Pair(near, near, is_broken=True).close()
                continue
            far.settimeout(None)
            pair = _Pair(near, far)
            ways = ((near, far), (far, near))
            threads = [threading.Thread(target=self._pass, args=(pair, *way)) for way in ways]
            with self._lock:
                if self._is_over:
                    pair.close()
                    return
                for sock in (near, far):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    if self._is_lost:  # it was accepted just before
                        _drop_all(sock)
                self._sockets |= {near, far}
                self._threads += threads
                for thread in threads:
                    thread.start()

    def _pass(self, pair: _Pair, one: socket.socket, other: socket.socket) -> None:
        """One way of a connection, until its end, which is passed on as well."""
        try:
            while data := one.recv(_BUFFER_BYTES):
                self._passes.wait()
                other.sendall(data)
            self._passes.wait()
            other.shutdown(socket.SHUT_WR)
        except OSError:
            self._passes.wait()
            pair.is_broken = True
            for sock in (one, other):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        with self._lock:
            pair.ways -= 1
            if not pair.ways:
                self._sockets -= {one, other}
                pair.close()


@dataclass
class _Pair:
    """The two sockets of a connection, and how many of its ways have not ended."""

    near: socket.socket
    far: socket.socket
    is_broken: bool = False
    ways: int = 2

    def close(self) -> None:
        """Both; a connection that was broken off is reset."""
        for sock in (self.near, self.far):
            if self.is_broken:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.close()


def _drop_all(sock: socket.socket) -> None:
    instructions = ctypes.create_string_buffer(_DROP_ALL)
    program = struct.pack("HP", 1, ctypes.addressof(instructions))
    sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)
