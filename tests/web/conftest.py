"""One root and one server for the tests of the JavaScript client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.server import RunningServer
from tests.web.served import config_of, make_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(name="client_root", scope="session")
def fixture_client_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `make_root`; tests append to LIVE, and change nothing else."""
    root = tmp_path_factory.mktemp("web")
    make_root(root)
    return root


@pytest.fixture(name="client_server", scope="session")
def fixture_client_server(client_root: Path) -> Iterator[RunningServer]:
    """Both listeners, and one worker, which tests kill."""
    with RunningServer(
        client_root,
        ZEROCOPY_CONFIG=str(config_of(client_root)),
        ZEROCOPY_SERVER_WORKERS="1",
        ZEROCOPY_TLS_PORT="0",
    ) as running:
        yield running
