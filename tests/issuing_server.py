"""An issuer's key set over HTTPS, and each way in which its server may fail."""

from __future__ import annotations

import http.server
import os
import ssl
import threading
import time
from typing import TYPE_CHECKING, Self

from tests.certificate import authority, certificate_files
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Handler = http.server.BaseHTTPRequestHandler


class KeySetServer:
    """Serves `document` at `url` until a test gives it another `answer`.

    `asked` counts requests. `close` ends it as a crash does, and `open` has it back at its port.
    """

    def __init__(self, document: bytes) -> None:
        self.document = document
        self.asked = 0
        self.answer: Callable[[Handler], None] = self.send
        self._server: http.server.ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self.port = free_port()  # still its own after a crash
        self.never = threading.Event()
        """Set at the end, so that no answer outlives its test."""

    @property
    def url(self) -> str:
        """Where the key set is."""
        return f"https://127.0.0.1:{self.port}/certs"

    def send(self, handler: Handler) -> None:
        """The document, as it should be."""
        self.send_bytes(handler, self.document)

    def send_bytes(
        self, handler: Handler, content: bytes, status: int = 200, length: int | None = None
    ) -> None:
        """Some content, whose length may be a lie."""
        handler.send_response(status)
        if status == 302:
            handler.send_header("Location", self.url)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        handler.end_headers()
        handler.wfile.write(content)

    def stall(self, _handler: Handler) -> None:
        """No byte."""
        self.never.wait(60)

    def drip(self, handler: Handler) -> None:
        """A byte now and then, for ever."""
        handler.send_response(200)
        handler.end_headers()
        while not self.never.wait(0.02):
            handler.wfile.write(b" ")

    def drip_head(self, handler: Handler) -> None:
        """The same amid the fields."""
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not self.never.wait(0.02):
            handler.wfile.write(b"x")

    def open(self) -> None:
        """Serve."""
        owner = self

        class Answering(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Whatever the test wants."""
                owner.asked += 1
                owner.answer(self)

            def log_message(self, *_args: object) -> None:
                """Say nothing."""

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_args: object) -> None:
                """A client that gave up is no news."""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate_files())
        self._server = Quiet(("127.0.0.1", self.port), Answering)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        """Serve no more."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_args: object) -> None:
        self.never.set()
        self.close()


def trust_file(folder: Path) -> str:
    """The authority of our certificates, as SSL_CERT_FILE takes it."""
    path = folder / "authority.pem"
    authority().cert_pem.write_to_path(os.fspath(path))
    return os.fspath(path)


def wait_until(condition: Callable[[], object], what: str, within_s: float = 30.0) -> None:
    """Wait for an event that others bring about."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.01)
