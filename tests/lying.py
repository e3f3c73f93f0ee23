"""A server that lies: it passes on what an honest one says, with one thing wrong.

Owns the ways to be wrong that a load test has to notice. It stands before a real server, so that
everything else about its answers is right.
"""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

Lie = tuple[int, dict[str, str], bytes]


def wrong_byte(status: int, fields: dict[str, str], content: bytes) -> Lie:
    """The last byte of the last record is another one."""
    return status, fields, content[:-1] + bytes([content[-1] ^ 1])


def short_body(status: int, fields: dict[str, str], content: bytes) -> Lie:
    """The connection ends a record early."""
    return status, fields, content[:-4]


def short_and_clean(status: int, fields: dict[str, str], content: bytes) -> Lie:
    """A record is missing, and Content-Length hides it."""
    return status, {**fields, "content-length": str(len(content) - 4)}, content[:-4]


def wrong_header_line(status: int, fields: dict[str, str], content: bytes) -> Lie:
    """The header line names a record size of 8 and half of the records."""
    line, _, data = content.partition(b"\n")
    line = line.replace(b'"record_size":4', b'"record_size":8', 1)
    return status, fields, line + b"\n" + data


def weak_tag(status: int, fields: dict[str, str], content: bytes) -> Lie:
    """The ETag promises less than the contract."""
    return status, {**fields, "etag": f"W/{fields['etag']}"}, content


def without_cors(status: int, fields: dict[str, str], content: bytes) -> Lie:
    """A browser may not read it."""
    kept = {name: value for name, value in fields.items() if "allow-origin" not in name}
    return status, kept, content


def not_found(_status: int, fields: dict[str, str], content: bytes) -> Lie:
    """What is there is said not to be."""
    return 404, fields, content


LIES: tuple[Callable[[int, dict[str, str], bytes], Lie], ...] = (
    wrong_byte,
    short_body,
    short_and_clean,
    wrong_header_line,
    weak_tag,
    without_cors,
    not_found,
)


class LyingServer:
    """Serves what the server on `port` of this machine says; whole answers go through `lie`."""

    def __init__(self, port: int, lie: Callable[[int, dict[str, str], bytes], Lie]) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10
            wbufsize = 1 << 16  # head and content in one segment: no delayed acknowledgement

            def do_GET(self) -> None:
                """Ask the honest server, then lie."""
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                connection.request(self.command, self.path, headers=dict(self.headers.items()))
                honest = connection.getresponse()
                fields = {name.lower(): value for name, value in honest.getheaders()}
                told: Lie = (honest.status, fields, honest.read())
                connection.close()
                if self.command == "GET" and honest.status == 200 and "/api/data" in self.path:
                    told = lie(*told)
                status, fields, content = told
                self.send_response_only(status)
                for name, value in fields.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
                is_short = len(content) < int(fields.get("content-length", 0))
                self.close_connection = is_short and self.command == "GET"

            do_HEAD = do_OPTIONS = do_DELETE = do_GET  # noqa: N815 - the names http.server calls

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # joined at the end: each holds a descriptor
        self.port = self._server.server_port

    def __enter__(self) -> Self:
        """Serve from a thread."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
