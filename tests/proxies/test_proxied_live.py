"""Live streams through a proxy: each record at once, each once, over a reload of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.blackbox.reloading import reload_once
from tests.server import ForkedServer
from tests.subscribers import Feed, by_httpx_sse, by_websockets

if TYPE_CHECKING:
    from pathlib import Path

    from tests.proxies.reverse import ReverseProxy

APPENDS = 20


def test_proxy_passes_on_each_record_before_the_next_over_a_reload(
    proxy_type: type[ReverseProxy], tmp_path: Path
) -> None:
    """Events and messages of a WebSocket, unbuffered; clients go on with their cursor."""
    with (
        ForkedServer(tmp_path, ZEROCOPY_SERVER_WORKERS="1") as server,
        proxy_type(str(tmp_path), server.port) as proxy,
        Feed(tmp_path, "LIVE") as feed,
    ):
        feed.subscribe(proxy.port, by_httpx_sse, by_websockets)
        for _ in range(APPENDS):
            feed.append()
        reload_once(server, 1)  # the streams of the first generation have ended
        for _ in range(APPENDS):
            feed.append()
    feed.assert_exact()
    assert all(subscriber.connections >= 2 for subscriber in feed.subscribers)
