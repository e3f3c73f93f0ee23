"""One data root and one server with default options for every test of faults."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import make_root
from tests.server import RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root that no test changes."""
    path = tmp_path_factory.mktemp("faults")
    make_root(path)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[RunningServer]:
    """One worker with default options, but for a drain that does not wait for a failed test."""
    with RunningServer(root, ZEROCOPY_SERVER_DRAIN_DEADLINE_S="2") as running:
        yield running
