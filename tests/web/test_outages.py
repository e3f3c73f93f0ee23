"""The JavaScript client while workers die and generations change, also behind proxies."""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import poll
from tests.proxies.reverse import PROXIES, free_port, is_installed
from tests.server import RunningServer
from tests.storage.trees import DAY, DAY_START_S, put
from tests.web import node
from tests.web.served import (
    DEADLINE_S,
    LIVE,
    append_prices,
    asking,
    check_columns,
    config_of,
    kill_workers,
    large_dtypes,
    line_of,
    url_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.proxies.reverse import ReverseProxy


@pytest.fixture(
    name="url",
    scope="module",
    params=[None, *(pytest.param(kind, marks=pytest.mark.slow) for kind in PROXIES)],
    ids=["direct", *(kind.name for kind in PROXIES)],
)
def fixture_url(
    request: pytest.FixtureRequest,
    client_server: RunningServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """Where the server is reached: by itself, and through each proxy."""
    kind: type[ReverseProxy] | None = request.param
    if kind is None:
        yield url_of(client_server)
        return
    if not is_installed(kind):
        pytest.skip(f"{kind.name} is not installed")
    with kind(str(tmp_path_factory.mktemp(kind.name)), client_server.port) as proxy:
        yield f"http://127.0.0.1:{proxy.port}"


def test_a_download_outlives_its_worker(client_server: RunningServer, url: str) -> None:
    """Killed after a third of 24 MB: the rest comes from the next one, and all of it is right."""
    told = ["LARGE", "time,u8", {"type": "MD"}]
    parts = 'zerocopy_requests_total{status="206"}'
    resumed = client_server.metric(parts)
    with asking(url, download=told) as process:
        line_of(process)
        kill_workers(client_server)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        found = line_of(process)
    check_columns(found, large_dtypes())
    poll(lambda: client_server.metric(parts) == resumed + 1, "the rest, counted", DEADLINE_S)


@pytest.mark.parametrize(
    "is_socket", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["events", "ws"]
)
def test_a_live_stream_outlives_reload_and_worker(
    client_root: Path, client_server: RunningServer, url: str, *, is_socket: bool
) -> None:
    """Each record once, in order; by server-sent events, and by the WebSocket of npm's `ws`."""
    piece = 10
    put(str(client_root), {"time": b"", "price": b""}, DAY, LIVE)
    reloads = len([event for event in client_server.events() if event["event"] == "reloaded"])

    def reload() -> None:
        os.kill(client_server.pid, signal.SIGHUP)
        client_server.logged("reloaded", reloads + 1)

    kill = partial(kill_workers, client_server)
    disturbances: list[Callable[[], None]] = [kill] if is_socket else [reload, kill]
    count = piece * (len(disturbances) + 1)
    follow = ["LIVE", ["time", "price"], {"type": "MD", "start": 0}, count]
    told = {"follow": follow, "ws": f"{node.packages()}/package.json" if is_socket else None}
    rows = []
    with asking(url, **told) as process:
        for first in range(0, count, piece):
            append_prices(client_root, first, piece)
            rows += [line_of(process) for _ in range(piece)]
            if disturbances:
                disturbances.pop(0)()
        found = line_of(process)
    assert rows == found["rows"] == [[DAY_START_S + each, each] for each in range(count)]
    assert found["cursor"].endswith(f".{count}")
    assert found["states"].count("open") > 1


@pytest.mark.slow
def test_both_outlive_a_restart_of_the_server(client_root: Path) -> None:
    """Stopped amid a download and a live stream, and started on the same port: nothing is lost."""
    count, first = 20, 10
    put(str(client_root), {"time": b"", "price": b""}, DAY, LIVE)
    append_prices(client_root, 0, first)
    port = free_port()
    environ = {
        "PORT": str(port),
        "ZEROCOPY_SERVER_DRAIN_DEADLINE_S": "1",
        "ZEROCOPY_CONFIG": str(config_of(client_root)),
    }
    url = f"http://127.0.0.1:{port}"
    follow = ["LIVE", ["time", "price"], {"type": "MD", "start": 0}, count]
    with (
        RunningServer(client_root, **environ) as server,
        asking(url, download=["LARGE", "time,u8", {"type": "MD"}]) as download,
        asking(url, follow=follow) as stream,
    ):
        line_of(download)
        rows = [line_of(stream) for _ in range(first)]
        server.stop()
        append_prices(client_root, first, count - first)
        with RunningServer(client_root, **environ):
            assert download.stdin is not None
            download.stdin.write("\n")
            download.stdin.flush()
            check_columns(line_of(download), large_dtypes())
            rows += [line_of(stream) for _ in range(first)]
    assert rows == [[DAY_START_S + each, each] for each in range(count)]
