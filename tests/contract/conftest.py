"""One server for all tests and transports; every test has a series of its own."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from tests.contract.site import Site, serve_all
from tests.contract.transports import TRANSPORTS, Transport
from tests.storage.trees import DAY, DAY_START_S, marks, put, u32
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.server import RunningServer

    Shared = tuple[str, RunningServer]

_numbers = itertools.count()


@pytest.fixture(scope="session", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> Transport:
    """Each way to reach the server in turn."""
    return TRANSPORTS[request.param]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """The server that most tests share; its root holds one series to begin with."""
    root = str(tmp_path_factory.mktemp("root"))
    put(root, {"time": u32(DAY_START_S), "price": marks(1)}, DAY, Series("coinbase", "A", "MD"))
    with serve_all(root) as server:
        yield root, server


@pytest.fixture(scope="session")
def site(transport: Transport, shared: Shared) -> Site:
    """The shared server by one transport."""
    return Site(*shared, transport)


@pytest.fixture
def series(site: Site) -> Series:
    """A series that nobody else uses, with nothing on disk yet."""
    assert site.root
    return Series("coinbase", f"S{next(_numbers)}", "MD")
