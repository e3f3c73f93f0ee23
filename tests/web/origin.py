"""An origin of its own for a page that imports the JavaScript client: not the data server's."""

from __future__ import annotations

from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

from tests.blackbox.chromium import serving
from tests.web.node import HERE, MODULE

if TYPE_CHECKING:
    from collections.abc import Iterator

HTML = b'<!doctype html><title>page</title><script type="module" src="page.mjs"></script>'


@contextmanager
def client_page(connect_src: str) -> Iterator[str]:
    """The origin of `page.mjs`, whose strict policy lets it ask `connect_src` and nobody else."""
    policy = f"default-src 'none'; script-src 'self'; connect-src {connect_src}"
    files = {
        "/": ("text/html", HTML),
        "/page.mjs": ("text/javascript", (HERE / "page.mjs").read_bytes()),
        "/report.mjs": ("text/javascript", (HERE / "report.mjs").read_bytes()),
        "/zerocopy.js": ("text/javascript", MODULE.read_bytes()),
    }

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """One of the files; nothing for what else a browser wants, such as an icon.

            What lies below /moved/ has moved.
            """
            if self.path.startswith("/moved/"):
                self.send_response(302)
                self.send_header("Location", self.path.removeprefix("/moved"))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            media_type, content = files.get(self.path, ("text/plain", b""))
            self.send_response(200)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Content-Security-Policy", policy)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            """Say nothing."""

    with serving(Page) as origin:
        yield origin
