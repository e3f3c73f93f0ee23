"""The listener of the metrics: few clients at once, and none of them for long.

Owns its connections, their threads and their time. The WSGI application decides what a request is
answered with. Every client has a thread, which may block on it for ever. If a client is late, the
accepting thread shuts down its socket, and the client's thread ends.

At the bound, the client that has waited longest without a request makes room for the next one, so
that clients which only connect keep no other out. It must never know workers, nor what they count.
"""

from __future__ import annotations

import contextlib
import io
import socket
import struct
import sys
import threading
import time
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

CLIENTS_MAX = 16
"""Connections, and so threads, at once: Prometheus has one, `zerocopy status` another."""

HEAD_S = 5.0
"""Seconds from the connection to the end of the request head. Scrapers send it at once."""

ANSWER_S = 10.0
"""Seconds from there until the page is taken: as long as Prometheus waits for one by default."""

HEAD_BYTES_MAX = 32_768
"""As `[limits] head_bytes_max` is by default; what is longer is closed without a response."""

ROOM_S = 1.0
"""Seconds that a thread whose socket was shut down gets to end. It takes a fraction of one."""

LOOK_S = 0.5
"""Seconds between two checks for late clients."""

_READ_BYTES = 8_192
_NEVER_S = float("inf")
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of zero seconds: what is queued is dropped


class _Client:
    """One connection: when it is late, and whether its head is still awaited."""

    __slots__ = ("deadline_s", "is_asking", "is_ended", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.deadline_s = time.monotonic() + HEAD_S
        self.is_asking = True
        self.is_ended = False

    def end(self) -> None:
        """Wake its thread, wherever on the socket that blocks, and keep nothing for its peer."""
        self.is_ended, self.is_asking, self.deadline_s = True, False, _NEVER_S
        with contextlib.suppress(OSError):  # the peer has left by itself
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.sock.shutdown(socket.SHUT_RDWR)


class MetricsServer(ThreadingMixIn, WSGIServer):
    """Answers with `app` on a socket of its own; `serve` runs in a thread that accepts."""

    daemon_threads = True
    request_queue_size = 128  # or a burst of clients would have the kernel drop the next for 1 s

    def __init__(self, family: int, address: tuple[Any, ...], app: WSGIApplication) -> None:
        self.address_family = family
        self._lock = threading.Lock()
        self._clients: dict[socket.socket, _Client] = {}  # the oldest first
        self._places = threading.Semaphore(CLIENTS_MAX)
        super().__init__(address, _Handler)
        self.set_app(app)

    def server_bind(self) -> None:
        """Bind, and ask no resolver for the name of what is bound, as HTTPServer would."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def serve(self) -> None:
        """Accept for as long as the process lives."""
        self.serve_forever(LOOK_S)

    # ---- in the thread that accepts

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a new client a thread, or close it if all places have clients being answered."""
        if not self._places.acquire(blocking=False) and not self._make_room():
            self.shutdown_request(request)
            return
        with self._lock:
            self._clients[request] = _Client(request)
        # If there is no thread to be had, the caller gives the place back by shutdown_request.
        threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="metrics client",
            daemon=True,
        ).start()

    def _make_room(self) -> bool:
        """End the client that has been silent for longest, and wait for its place."""
        with self._lock:
            oldest = next((each for each in self._clients.values() if each.is_asking), None)
            if oldest is None:
                return False
            oldest.end()
        return self._places.acquire(timeout=ROOM_S)

    def service_actions(self) -> None:
        """End late clients; called by serve_forever at least each `LOOK_S`."""
        now_s = time.monotonic()
        with self._lock:
            for client in self._clients.values():
                if now_s >= client.deadline_s:
                    client.end()

    # ---- in the thread of a client

    def begin_answer(self, request: socket.socket) -> bool:
        """Begin to answer a head. Returns False if its client has been ended meanwhile."""
        with self._lock:
            client = self._clients[request]
            if client.is_ended:
                return False
            client.is_asking, client.deadline_s = False, time.monotonic() + ANSWER_S
            return True

    def shutdown_request(self, request: Any) -> None:
        """Close a connection and free its place, if it had one."""
        with self._lock:  # so that none is ended whose descriptor is another's by then
            client = self._clients.pop(request, None)
        super().shutdown_request(request)
        if client is not None:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left, or had to, is nothing to tell of."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(WSGIRequestHandler):
    """One request; the connection ends with its response."""

    server: MetricsServer

    def handle(self) -> None:
        """Read the head whole, then have it answered."""
        head = self._read_head()
        if head is None or not self.server.begin_answer(self.connection):
            return
        self.rfile.close()
        self.rfile = io.BytesIO(head)
        super().handle()

    def _read_head(self) -> bytes | None:
        """Read until the empty line. Returns the head, or None if that line does not come."""
        head = bytearray()
        while b"\r\n\r\n" not in head and b"\n\n" not in head:
            data = self.connection.recv(_READ_BYTES)
            head += data
            if not data or len(head) > HEAD_BYTES_MAX:
                return None
        return bytes(head)

    def log_message(self, *_: object) -> None:
        """Log nothing: a scrape comes every few seconds."""
