"""The Python client through caddy and HAProxy: frames and streams are what they are without."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.client.ticker import Ticker
from tests.faults.client import column_path
from zerocopy.client import Client, NotFound

if TYPE_CHECKING:
    from pathlib import Path

    from tests.proxies.reverse import ReverseProxy
    from tests.server import RunningServer


def test_frames_through_a_proxy_are_the_files(
    proxy: ReverseProxy, root: Path, tmp_path: Path
) -> None:
    """Small ones, 48 MB, and a file; an error keeps its words."""
    with Client(f"http://127.0.0.1:{proxy.port}") as client:
        for type_, columns in (("SMALL", "time,price"), ("LARGE", "price")):
            frame = client.data("BTC-USD", columns, type=type_)
            with open(column_path(root, type_, "price"), "rb") as file:
                assert frame["price"].tobytes() == file.read()
        path = client.download("BTC-USD", "price", tmp_path / "x.bin", type="LARGE")
        assert path.read_bytes().endswith(frame["price"].tobytes())
        with pytest.raises(NotFound, match="symbol"):
            client.catalog("NOPE")


@pytest.mark.usefixtures("each_read")
def test_a_transfer_through_a_proxy_outlives_its_worker(
    proxy: ReverseProxy, server: RunningServer, root: Path
) -> None:
    """The proxy breaks the response off; the client resumes it."""
    killed: list[int] = []

    def kill(received: int, total: int | None) -> None:
        if received > 1 << 20 and not killed:
            assert received != total
            killed.extend(server.worker_pids())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    with Client(f"http://127.0.0.1:{proxy.port}") as client:
        frame = client.data("BTC-USD", "price", type="LARGE", progress=kill)
    assert killed
    with open(column_path(root, "LARGE", "price"), "rb") as file:
        assert frame["price"].tobytes() == file.read()


def test_a_stream_through_a_proxy_is_whole(proxy: ReverseProxy, root: Path) -> None:
    """WebSocket by upgrade, records as they are appended."""
    ticker = Ticker(root, f"LIVE-{proxy.name}")
    prices: list[float] = []
    with (
        Client(f"http://127.0.0.1:{proxy.port}") as client,
        client.live(ticker.symbol, "price", type="MD") as stream,
    ):
        for count in (1, 30, 200):
            ticker.append(count)
            while len(prices) < ticker.count:
                prices += next(stream)["price"].tolist()
    assert prices == list(range(231))
