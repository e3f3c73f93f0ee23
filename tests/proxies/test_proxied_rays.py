"""CF-Ray through proxies: how Go's transport writes it, and whose it is in the log."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import MEDIUM, SMALL, Client, body_of, poll, request_of
from tests.proxies.reverse import Caddy, is_installed
from tests.server import RunningServer
from zerocopy.transport.http1.ray import BEGINNING, cut

if TYPE_CHECKING:
    from pathlib import Path

    from tests.proxies.reverse import ReverseProxy

RAYS = [f"8a1b2c3d4e5f67{number:02x}-FRA" for number in range(10)]
EVERYTHING = {"ZEROCOPY_LOG_ACCESS_SAMPLE": "1.0", "ZEROCOPY_SERVER_WORKERS": "1"}


@pytest.mark.skipif(not is_installed(Caddy), reason="caddy is not installed")
def test_head_that_go_sends_is_known_without_its_ray(tmp_path: Path) -> None:
    """However the client wrote the name, its line has the form that is cut out, and rests agree."""
    rests = []
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Caddy(str(tmp_path), listener.getsockname()[1]) as proxy,
    ):
        for name, ray in zip(("cf-ray", "CF-RAY", "Cf-Ray"), RAYS, strict=False):
            head = _forwarded(proxy, listener, request_of(SMALL, f"{name}: {ray}"))
            parts = cut(head, head.index(BEGINNING))
            assert parts is not None, head
            assert parts[1] == ray.encode()
            rests.append(parts[0])
    assert len(set(rests)) == 1, rests


def _forwarded(proxy: ReverseProxy, listener: socket.socket, request: bytes) -> bytes:
    """What the proxy sends to its origin for a request; the answer is empty and the last one."""
    answered = threading.Event()

    def ask() -> None:
        with Client(proxy) as client:
            client.send(request)
            client.answer()
        answered.set()

    asking = threading.Thread(target=ask)
    asking.start()
    sock, head = listener.accept()[0], b""
    with sock:
        sock.settimeout(10)
        while not head.endswith(b"\r\n\r\n"):
            data = sock.recv(65_536)
            assert data, head
            head += data
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        assert answered.wait(10)
    asking.join()
    return head


def test_each_request_is_named_by_the_ray_that_came_with_it(
    proxy_type: type[ReverseProxy], root: Path, tmp_path: Path
) -> None:
    """Small answers and large ones through a proxy, alike but for the ray: each has its line."""
    bodies = {SMALL: body_of(root, "SMALL"), MEDIUM: body_of(root, "MEDIUM")}
    with (
        RunningServer(root, **EVERYTHING) as server,
        proxy_type(str(tmp_path), server.port) as proxy,
        Client(proxy) as client,
    ):
        for number, ray in enumerate(RAYS):
            target = (SMALL, MEDIUM)[number % 2]
            client.send(request_of(target, f"Cf-Ray: {ray}"))
            assert client.answer().content == bodies[target]
        poll(lambda: len(_ids(server)) == len(RAYS), "the lines")
        assert sorted(_ids(server)) == RAYS


def _ids(server: RunningServer) -> list[str]:
    return [line["request_id"] for line in server.events() if line["event"] == "request"]
