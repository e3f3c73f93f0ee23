"""CF-Ray through proxies: whose it is in the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.faults.client import MEDIUM, SMALL, Client, body_of, poll, request_of
from tests.server import ForkedServer, RunningServer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.proxies.reverse import ReverseProxy

RAYS = [f"8a1b2c3d4e5f67{number:02x}-FRA" for number in range(10)]
EVERYTHING = {"ZEROCOPY_LOG_ACCESS_SAMPLE": "1.0", "ZEROCOPY_SERVER_WORKERS": "1"}


def test_each_request_is_named_by_the_ray_that_came_with_it(
    proxy_type: type[ReverseProxy], root: Path, tmp_path: Path
) -> None:
    """Small answers and large ones through a proxy, alike but for the ray: each has its line."""
    bodies = {SMALL: body_of(root, "SMALL"), MEDIUM: body_of(root, "MEDIUM")}
    with (
        ForkedServer(root, **EVERYTHING) as server,
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
