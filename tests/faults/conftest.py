"""One data root and one server with default options for every test of faults."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import SMALL_RECORDS, make_root, write_series
from tests.faults.download import BOTH_LISTENERS, started_by
from tests.server import ForkedServer, RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CAPABILITIES = "-dac_override,-dac_read_search"
WITHOUT_OVERRIDE = ("setpriv", f"--bounding-set={CAPABILITIES}", f"--inh-caps={CAPABILITIES}")


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root that no test changes."""
    path = tmp_path_factory.mktemp("faults")
    make_root(path)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def server(root: Path) -> Iterator[RunningServer]:
    """One worker with default options, but for a drain that does not wait for a failed test."""
    with ForkedServer(root, ZEROCOPY_SERVER_DRAIN_DEADLINE_S="2") as running:
        yield running


@pytest.fixture(scope="session")
def bound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, RunningServer]]:
    """A root that tests may ruin and put in order again, and its server with both listeners.

    It runs without the right to read what a mode forbids, so that mode bits bind root too.
    """
    folder = tmp_path_factory.mktemp("bound")
    root = folder / "outer" / "root"
    write_series(root, "OTHER", SMALL_RECORDS)
    with contextlib.ExitStack() as stack:
        with contextlib.ExitStack() as start:  # the tests that follow start others
            if os.geteuid() == 0:
                if shutil.which("setpriv") is None:
                    pytest.skip("mode bits do not bind root, and setpriv is not installed")
                start.enter_context(started_by(folder, *WITHOUT_OVERRIDE))
            server = stack.enter_context(RunningServer(root, **BOTH_LISTENERS))
        yield root, server
    shutil.rmtree(folder)
