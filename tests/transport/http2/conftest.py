"""One data root and one server on TLS for all tests of HTTP/2 that need no options of their own."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import make_root, seal, write_series
from tests.h2client import H2Client
from tests.server import ForkedServer, RunningServer
from tests.transport.http2.frames import ALIVE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLOOD_FRAMES = 100
"""A second, of a server that is flooded: a busy machine reads as many too."""


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """4 KB, 800 KB and 16 MB an answer, and 40 KB of a closed day; tests may add, not change."""
    path = tmp_path_factory.mktemp("http2")
    make_root(path)
    write_series(path, "HALF", 5_000)
    seal(path, "HALF")
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def server(root: Path) -> Iterator[RunningServer]:
    """One worker with default options, on TLS."""
    with ForkedServer(root, USE_TLS="true") as running:
        yield running


@pytest.fixture(scope="session")
def strict(root: Path) -> Iterator[RunningServer]:
    """One worker on TLS to which a hundred useless frames in a second are a flood."""
    options = {"ZEROCOPY_LIMITS_CONTROL_FRAMES_MAX": f"{FLOOD_FRAMES}"}
    with ForkedServer(root, USE_TLS="true", **options) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[H2Client]:
    """A connection; after the test the server must still answer another one."""
    with H2Client(server) as connected:
        connected.ping()
        yield connected
    with H2Client(server) as other:
        assert other.ask("/healthz").content == ALIVE
