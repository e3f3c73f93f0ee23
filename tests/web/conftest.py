"""Roots, servers and tabs that the tests of the JavaScript client and of the page share."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.server import ForkedServer, RunningServer
from tests.web.market import Recorder, make_market
from tests.web.served import config_of, make_root
from tests.web.tab import Tab

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.blackbox.chromium import Browser
    from tests.naive_bars import Tick


@pytest.fixture(name="client_root", scope="session")
def fixture_client_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `make_root`; tests append to LIVE, and change nothing else."""
    root = tmp_path_factory.mktemp("web")
    make_root(root)
    return root


@pytest.fixture(name="client_server", scope="session")
def fixture_client_server(client_root: Path) -> Iterator[RunningServer]:
    """Both listeners, and one worker, which tests kill."""
    with ForkedServer(
        client_root,
        ZEROCOPY_CONFIG=str(config_of(client_root)),
        ZEROCOPY_SERVER_WORKERS="1",
        ZEROCOPY_TLS_PORT="0",
    ) as running:
        yield running


@pytest.fixture(name="market_root", scope="session")
def fixture_market_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The markets that the page shows."""
    path = tmp_path_factory.mktemp("page")
    yield str(path)
    shutil.rmtree(path)


@pytest.fixture(name="ticks", scope="session")
def fixture_ticks(market_root: str) -> list[Tick]:
    """Every record of BTC-USD."""
    return make_market(market_root)


@pytest.fixture(name="recorder", scope="session")
def fixture_recorder(market_root: str) -> Recorder:
    """What appends to LIVE."""
    return Recorder(market_root)


@pytest.fixture(name="server", scope="session")
def fixture_server(
    market_root: str, ticks: list[Tick], recorder: Recorder
) -> Iterator[RunningServer]:
    """The server of the page."""
    assert ticks
    assert recorder.ticks
    with ForkedServer(market_root) as running:
        yield running


@pytest.fixture(name="base", scope="session")
def fixture_base(server: RunningServer) -> str:
    """Where the page is."""
    return f"http://127.0.0.1:{server.port}/"


@pytest.fixture(name="only_tab", scope="module")
def fixture_only_tab(browser: Browser) -> Iterator[Tab]:
    """One tab for all tests of a module: another costs a second of processor time."""
    tab = Tab(browser)
    yield tab
    tab.close()


@pytest.fixture(name="tab")
def fixture_tab(only_tab: Tab) -> Iterator[Tab]:
    """The tab, as new; the page in it must not have complained about anything."""
    only_tab.forget()
    yield only_tab
    complaints = only_tab.complaints()
    only_tab.evaluate("sessionStorage.clear()")
    assert complaints == []
