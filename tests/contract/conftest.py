"""One server for all tests and transports; every test has a series of its own."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.contract.site import Site, serve_all
from tests.contract.transports import TRANSPORTS, KeptHttp2, Transport
from tests.storage.trees import DAY, DAY_START_S, marks, put, u32
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.server import RunningServer

    Shared = tuple[str, RunningServer]

HERE = Path(__file__).parent

ON_EVERY_WIRE = frozenset(
    {
        *("test_access", "test_data", "test_endpoints", "test_preconditions", "test_ranges"),
        "test_statuses",
    }
)
"""Modules that ask over HTTP/1.1 in TLS too. It is the protocol of the plain path on the channel of
HTTP/2: what the others prove of both, the slow tests prove once more of it. So do they of what the
tests prove that have a directory of their own, and most of them a server over it."""

_numbers = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave HTTP/1.1 in TLS to `make slow` where it proves nothing new."""
    for item in items:
        if (
            isinstance(item, pytest.Function)
            and item.path.parent == HERE
            and (item.path.stem not in ON_EVERY_WIRE or "tmp_path" in item.fixturenames)
            and "http1-tls" in item.name
        ):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> Transport:
    """Each way to reach the server in turn; all of a module before the next module.

    So a module's own servers start once, and not once for each transport.
    """
    return TRANSPORTS[request.param]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """The server that most tests share; its root holds one series to begin with."""
    root = str(tmp_path_factory.mktemp("root"))
    put(root, {"time": u32(DAY_START_S), "price": marks(1)}, DAY, Series("coinbase", "A", "MD"))
    with serve_all(root) as server:
        yield root, server


@pytest.fixture(scope="session")
def kept(shared: Shared) -> Iterator[KeptHttp2]:
    """The connection of HTTP/2 that most tests share."""
    kept = KeptHttp2(shared[1])
    yield kept
    kept.close()


@pytest.fixture(scope="module")
def site(transport: Transport, shared: Shared, kept: KeptHttp2) -> Site:
    """The shared server by one transport."""
    return Site(*shared, transport, kept if transport is TRANSPORTS["http2"] else None)


@pytest.fixture
def series(site: Site) -> Series:
    """A series that nobody else uses, with nothing on disk yet."""
    assert site.root
    return Series("coinbase", f"S{next(_numbers)}", "MD")
