"""A gate before a server: /api/ needs `Authorization: Bearer KEY`, as the contract has it."""

from __future__ import annotations

import http.client
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

from tests.blackbox.chromium import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

DETAIL = "a key is needed: Authorization: Bearer KEY"
HOP_BY_HOP = {"connection", "transfer-encoding", "date", "server", "upgrade"}


@contextmanager
def gate(port: int, key: str) -> Iterator[str]:
    """The origin of a gate before the server on `port`, for as long as the block runs."""

    class Gate(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Forward, where the key is right; streams as they come."""
            is_open = not self.path.startswith("/api/")
            if not is_open and self.headers.get("Authorization") != f"Bearer {key}":
                self._refuse()
                return
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=50)
            fields = {name: value for name, value in self.headers.items()
                      if name.lower() not in HOP_BY_HOP}  # fmt: skip
            connection.request("GET", self.path, headers=fields)
            response = connection.getresponse()
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.end_headers()
            try:
                while piece := response.read1(65_536):
                    self.wfile.write(piece)
            except OSError:
                pass
            connection.close()
            self.close_connection = True

        def _refuse(self) -> None:
            problem = {"type": "about:blank", "title": "Unauthorized", "status": 401}
            content = json.dumps({**problem, "detail": DETAIL}).encode()
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Bearer")
            self.send_header("Content-Type", "application/problem+json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            """Say nothing."""

    with serving(Gate) as origin:
        yield f"{origin}/"
