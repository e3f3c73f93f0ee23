"""The page while something is missing: data, the server. It says what to do, and mends."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.blackbox.chromium import CHROMIUM, Browser
from tests.ports import free_port
from tests.server import ForkedServer, RunningServer
from tests.web.drawn import assert_draws, await_live
from tests.web.market import Recorder
from tests.web.tab import Tab

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[str]:
    """Empty at first, for each test."""
    path = tmp_path / "states"
    path.mkdir()
    yield str(path)
    shutil.rmtree(path)


@pytest.fixture
def server(root: str) -> Iterator[RunningServer]:
    """A server whose port stays when it is started again."""
    with ForkedServer(root, PORT=str(free_port())) as running:
        yield running


def test_empty_root_then_a_recorder_a_restart_and_a_reset(
    root: str, server: RunningServer, browser: Browser
) -> None:
    """The page says how to get data in, shows what comes, goes on after the server was away.

    What is replaced is loaded anew.
    """
    tab = Tab(browser)
    tab.open(f"http://127.0.0.1:{server.port}/")
    tab.until("document.querySelector('#notice').textContent.includes('No data yet')")
    assert "zerocopy generate" in tab.text("#notice")
    recorder = Recorder(root)
    tab.until("window.zerocopy.chart.series && window.zerocopy.panes()[0].x.length")
    tab.until("window.zerocopy.state().live === 'open'")
    assert tab.evaluate("document.querySelector('#notice').hidden")
    tab.evaluate("window.zerocopy.chart.showNewest(400)")
    await_live(tab, recorder.ticks)
    assert_draws(tab, recorder.ticks)
    assert tab.complaints() == []

    server.kill()
    tab.until("document.querySelector('#banner').textContent.includes('does not answer')")
    recorder.append(50)
    server.start()
    tab.until("document.querySelector('#banner').hidden")
    newest_s = recorder.ticks[-1].time
    tab.until(f"window.zerocopy.chart.loader.bounds.last === {newest_s}")
    recorder.append(50)
    await_live(tab, recorder.ticks)
    assert_draws(tab, recorder.ticks)
    assert tab.complaints(server_left=True) == []

    recorder.replace()
    newest_s = recorder.ticks[-1].time
    tab.until(f"window.zerocopy.chart.loader?.bounds.last === {newest_s}")
    tab.evaluate("window.zerocopy.chart.showNewest(400)")
    await_live(tab, recorder.ticks)
    assert_draws(tab, recorder.ticks)
    tab.close()


def test_columns_replaced_before_the_new_stream_is_open_are_shown(
    root: str, server: RunningServer, browser: Browser
) -> None:
    """The page reads between the first column and the last; nothing else tells it of the last."""
    recorder = Recorder(root)
    tab = Tab(browser)
    tab.open(f"http://127.0.0.1:{server.port}/")
    tab.until("window.zerocopy.state().live === 'open'")
    tab.evaluate("window.zerocopy.chart.showNewest(400)")
    await_live(tab, recorder.ticks)
    # The next catalog is read by the server, and reaches the page when it is let go.
    tab.evaluate(
        "const real = fetch; window.held = new Promise((done) => (window.letGo = done));"
        "window.fetch = async (...args) => { const answer = await real(...args);"
        "if (String(args[0].url ?? args[0]).includes('/api/catalog')) {"
        "window.isRead = true; await window.held; } return answer; }"
    )
    recorder.replace(lambda: tab.until("window.isRead"))
    tab.evaluate("window.letGo()")
    newest_s = recorder.ticks[-1].time
    tab.until(f"window.zerocopy.chart.loader?.bounds.last === {newest_s}")
    tab.evaluate("window.zerocopy.chart.showNewest(400)")
    await_live(tab, recorder.ticks)
    assert_draws(tab, recorder.ticks)
    tab.close()
