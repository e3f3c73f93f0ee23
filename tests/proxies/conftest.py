"""One data root, one server and one of each proxy in front of it, shared by these tests."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import column_path, make_root, seal, unseal
from tests.proxies.reverse import PROXIES, ReverseProxy, is_installed
from tests.server import ForkedServer, RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


HUGE_BYTES = 64 << 20
"""Of a column that no kernel takes whole for a proxy: 32 MB to receive and 4 to send, each way."""


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root that no test changes; the day of SMALL is closed."""
    path = tmp_path_factory.mktemp("proxied")
    make_root(path)
    seal(path, "SMALL")
    for column in ("time", "price"):
        os.makedirs(os.path.dirname(column_path(path, "HUGE", column)), exist_ok=True)
        with open(column_path(path, "HUGE", column), "wb") as file:
            file.truncate(HUGE_BYTES)  # zeros that take no disk
    unseal(path, "HUGE")
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def server(root: Path) -> Iterator[RunningServer]:
    """Two workers that drop a connection after a second of idleness, and that tests may kill."""
    environ = {
        "ZEROCOPY_SERVER_WORKERS": "2",
        "ZEROCOPY_SERVER_DRAIN_DEADLINE_S": "2",
        "ZEROCOPY_TIMEOUTS_IDLE_S": "1",
    }
    with ForkedServer(root, **environ) as running:
        yield running


@pytest.fixture(scope="session", params=PROXIES, ids=lambda proxy: proxy.name)
def proxy_type(request: pytest.FixtureRequest) -> type[ReverseProxy]:
    """Each kind of proxy that is installed."""
    kind: type[ReverseProxy] = request.param
    if not is_installed(kind):
        pytest.skip(f"{kind.name} is not installed")
    return kind


@pytest.fixture(scope="session")
def proxy(
    proxy_type: type[ReverseProxy], server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ReverseProxy]:
    """A proxy in front of `server`."""
    with proxy_type(str(tmp_path_factory.mktemp(proxy_type.name)), server.port) as running:
        yield running
