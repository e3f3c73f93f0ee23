"""Public clients of server-sent events: each record at once, each once, over a reload."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.blackbox.reloading import reload_once
from tests.server import ForkedServer
from tests.subscribers import Feed, by_curl, by_httpx_sse, by_websockets

if TYPE_CHECKING:
    from pathlib import Path

APPENDS = 20


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_public_clients_get_each_record_before_the_next_over_a_reload(tmp_path: Path) -> None:
    """`curl -N`, httpx-sse and `websockets` lose nothing and see nothing twice."""
    with (
        ForkedServer(tmp_path, ZEROCOPY_SERVER_WORKERS="1") as server,
        Feed(tmp_path, "LIVE") as feed,
    ):
        feed.subscribe(server.port, by_curl, by_httpx_sse, by_websockets)
        for _ in range(APPENDS):
            feed.append()
        reload_once(server, 1)  # the streams of the first generation have ended
        for _ in range(APPENDS):
            feed.append()
    feed.assert_exact()
    assert all(subscriber.connections >= 2 for subscriber in feed.subscribers)
