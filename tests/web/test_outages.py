"""The JavaScript client while workers die and generations change, also behind proxies."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import poll
from tests.ports import free_port
from tests.proxies.reverse import PROXIES, is_installed
from tests.server import ForkedServer, RunningServer
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


FIRST = 10


def check_both(root: Path, url: str, outage: Callable[[], None], ws: str | None = None) -> None:
    """Fail unless a download of 24 MB, and a live stream, are whole after an outage amid them."""
    count = 2 * FIRST
    put(str(root), {"time": b"", "price": b""}, DAY, LIVE)
    append_prices(root, 0, FIRST)
    follow = ["LIVE", ["time", "price"], {"type": "MD", "start": 0}, count]
    with (
        asking(url, download=["LARGE", "time,u8", {"type": "MD"}]) as download,
        asking(url, follow=follow, ws=ws) as stream,
    ):
        line_of(download)  # it has a third, and reads no more for now
        rows = [line_of(stream) for _ in range(FIRST)]
        outage()
        append_prices(root, FIRST, FIRST)
        assert download.stdin is not None
        download.stdin.write("\n")
        download.stdin.flush()
        check_columns(line_of(download), large_dtypes())
        rows += [line_of(stream) for _ in range(FIRST)]
        found = line_of(stream)
    assert rows == found["rows"] == [[DAY_START_S + each, each] for each in range(count)]
    assert found["cursor"].endswith(f".{count}")
    assert found["states"].count("open") > 1


def test_both_outlive_a_worker(client_root: Path, client_server: RunningServer, url: str) -> None:
    """It is killed: the rest of the body, and only that, comes from the next one."""
    parts = 'zerocopy_requests_total{status="206"}'
    resumed = client_server.metric(parts)
    check_both(client_root, url, lambda: kill_workers(client_server))
    poll(lambda: client_server.metric(parts) == resumed + 1, "the rest, counted", DEADLINE_S)


@pytest.mark.slow
def test_both_outlive_a_reload(client_root: Path, client_server: RunningServer, url: str) -> None:
    """A new generation takes over; the stream is that of npm's `ws`."""
    reloads = len([event for event in client_server.events() if event["event"] == "reloaded"])

    def reload() -> None:
        os.kill(client_server.pid, signal.SIGHUP)
        client_server.logged("reloaded", reloads + 1)

    check_both(client_root, url, reload, f"{node.packages()}/package.json")


@pytest.mark.slow
def test_both_outlive_a_restart_of_the_server(client_root: Path) -> None:
    """It is stopped, and started on the same port."""
    environ = {
        "PORT": str(free_port()),
        "ZEROCOPY_SERVER_DRAIN_DEADLINE_S": "1",
        "ZEROCOPY_CONFIG": str(config_of(client_root)),
    }
    with ExitStack() as stack:
        first = stack.enter_context(ForkedServer(client_root, **environ))

        def restart() -> None:
            first.stop()
            stack.enter_context(ForkedServer(client_root, **environ))

        check_both(client_root, url_of(first), restart)
