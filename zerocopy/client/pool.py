"""Connections that are kept for the next request.

Owns them while they are idle; who takes one owns it until it is given back. Safe to use from any
number of threads. Connections are `http.client`'s, which reads heads and framing.
"""

from __future__ import annotations

import select
import threading
from http.client import HTTPConnection, HTTPSConnection
from typing import TYPE_CHECKING

from zerocopy.client.response import Response

if TYPE_CHECKING:
    from zerocopy.client.options import Options

IDLE_MAX = 16
"""Connections kept; more are closed when they are given back."""


class Pool:
    """Idle connections to one origin, the last used first."""

    __slots__ = ("_idle", "_is_closed", "_lock", "_options")

    def __init__(self, options: Options) -> None:
        self._options = options
        self._idle: list[HTTPConnection] = []
        self._lock = threading.Lock()
        self._is_closed = False

    def take(self) -> HTTPConnection:
        """A connection: an idle one that the server has not closed, else one yet to connect."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._new()
            if not _is_over(connection):
                return connection
            connection.close()

    def give(self, connection: HTTPConnection) -> None:
        """Keep a connection whose last response was read to its end."""
        if connection.sock is None:  # the server wanted it closed
            return
        with self._lock:
            if not self._is_closed and len(self._idle) < IDLE_MAX:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close what is idle, and what is given back later."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _new(self) -> HTTPConnection:
        options = self._options
        host, port, timeout_s = options.host, options.port, options.timeout_s
        connection = (
            HTTPConnection(host, port, timeout=timeout_s)
            if options.context is None
            else HTTPSConnection(host, port, timeout=timeout_s, context=options.context)
        )
        connection.response_class = Response
        connection.set_debuglevel(0)  # the class may have another, which prints keys
        return connection


def _is_over(connection: HTTPConnection) -> bool:
    """Whether an idle connection has something to read: its end, or what nobody asked for."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))
