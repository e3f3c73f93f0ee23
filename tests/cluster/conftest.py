"""Three nodes over one directory with HAProxy in front, shared by the tests of this folder."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.cluster.front import HAPROXY, Front, Node, nodes
from tests.faults.client import OLD_S, make_root, seal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SYMBOLS = 1_000
RECORDS = 50


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The series of `make_root` and many small ones; all days but MEDIUM and LARGE are closed."""
    path = tmp_path_factory.mktemp("cluster")
    make_root(path)
    seal(path, "SMALL")
    files = {}
    for column in ("time", "price"):
        files[column] = path / f".{column}"
        files[column].write_bytes(b"".join(index.to_bytes(4, "little") for index in range(RECORDS)))
        os.utime(files[column], (OLD_S, OLD_S))
    for symbol in range(SYMBOLS):
        folder = path / "binance" / f"S{symbol}" / "MD"
        folder.mkdir(parents=True)
        for column, file in files.items():
            os.link(file, folder / f"{column}.01.01.70.bin")
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def three(root: Path) -> Iterator[list[Node]]:
    """The nodes; whoever stops one starts it again."""
    with nodes(root, 3) as running:
        yield running


@pytest.fixture(scope="session")
def front(three: list[Node], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """HAProxy in front of the three."""
    if HAPROXY is None:
        pytest.skip("HAProxy is not installed")
    with Front(tmp_path_factory.mktemp("front"), [node.port for node in three]) as running:
        yield running
