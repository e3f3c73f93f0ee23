"""What HAProxy sends to a node, and what it sends again: before a node that notes and refuses."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.front import HAPROXY, Front
from tests.faults.client import Client, request_of

if TYPE_CHECKING:
    from collections.abc import Iterator

RETRIES = 3
"""As in deploy/haproxy.cfg."""


@dataclass
class Noted:
    """What the node was asked, how often, and what the last request said of its client."""

    port: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    told: dict[str, list[str]] = field(default_factory=dict)


class Refusing(BaseHTTPRequestHandler):
    """Is ready; answers /busy with 503, and drops the connection at /dropped without an answer."""

    protocol_version = "HTTP/1.1"
    noted: Noted

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        if self.path != "/readyz":
            self.noted.asked[f"{self.command} {self.path}"] += 1
            for name in ("X-Forwarded-For", "X-Forwarded-Proto"):
                self.noted.told[name] = self.headers.get_all(name) or []
        if self.path == "/dropped":
            self.close_connection = True
            return
        self.send_response(503 if self.path == "/busy" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = do_POST = _answer  # noqa: N815 - as http.server has them


@pytest.fixture(name="node", scope="module")
def fixture_node() -> Iterator[Noted]:
    """The node, which listens."""
    noted = Noted()
    handler: Any = type("Noting", (Refusing,), {"noted": noted})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    noted.port = server.server_address[1]
    try:
        yield noted
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(name="refused", scope="module")
def fixture_refused(node: Noted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """HAProxy, which takes it for three nodes."""
    if HAPROXY is None:
        pytest.skip("HAProxy is not installed")
    with Front(tmp_path_factory.mktemp("refused"), [node.port] * 3) as front:
        yield front


@pytest.mark.parametrize(
    "case",
    [
        ("GET", "/busy", 503, 1 + RETRIES),
        ("HEAD", "/busy", 503, 1 + RETRIES),
        ("GET", "/dropped", 502, 1 + RETRIES),
        ("POST", "/busy", 503, 1),
        ("POST", "/dropped", 502, 1),
    ],
)
def test_only_what_is_safe_is_sent_again(
    node: Noted, refused: Front, case: tuple[str, str, int, int]
) -> None:
    """GET and HEAD go to one node after the other; what may change something is sent once."""
    method, path, status, times = case
    assert refused.get(path, method=method).status == status
    assert node.asked[f"{method} {path}"] == times


def test_address_of_a_client_is_what_the_front_saw(node: Noted, refused: Front) -> None:
    """Over TLS what a client says of itself is removed; on the plain port a tunnel is believed."""
    forged = ("X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: http")
    with refused.connect_tls(["http/1.1"]) as client:
        client.sendall(request_of("/", *forged))
        assert client.recv(4_096).startswith(b"HTTP/1.1 200")
    assert node.told == {"X-Forwarded-For": ["127.0.0.1"], "X-Forwarded-Proto": ["https"]}
    with Client(refused) as tunnel:
        tunnel.send(request_of("/", *forged))
        assert tunnel.answer().status == 200
    assert node.told == {"X-Forwarded-For": ["203.0.113.9"], "X-Forwarded-Proto": ["http"]}
    assert refused.get("/").status == 200
    assert node.told == {"X-Forwarded-For": ["127.0.0.1"], "X-Forwarded-Proto": []}
