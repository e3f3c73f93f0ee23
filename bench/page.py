"""The page in Chromium over a long series: its first drawing, and each step of a zoom.

Owns what is done and timed, in the page itself: by its own marks and by the events of a wheel.
There is no peer that draws the same from the same server; the question is whether a person waits.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench.bars_data import Ticks, make_days, make_rollups
from bench.peers import pinned
from bench.percentiles import quantile
from bench.rounds import progress
from bench.section import Table, spread
from tests.blackbox.chromium import CHROMIUM, chromium
from tests.server import RunningServer
from tests.web.tab import Tab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.rounds import Options
    from bench.servers import Servers

TICKS = Ticks("X", days=250, records=1_000_000)
SMOKE = Ticks("X", days=2, records=40_000)
STEPS = 60
"""Of the wheel: in to single records, then out again."""

FIRST_DRAWING = "performance.getEntriesByName('zerocopy:drawn')[0]?.startTime"

# A turn of the wheel, then until everything in view has come and is drawn.
ZOOM = """
(async (steps) => {
  const host = document.querySelector("#chart");
  const plot = host.querySelector(".plot");
  const box = plot.getBoundingClientRect();
  const at = { clientX: box.x + box.width * 0.6, clientY: box.y + 100, bubbles: true };
  const took = [];
  for (let step = 0; step < steps; step++) {
    const deltaY = step < steps / 2 ? -240 : 240;
    const begun = performance.now();
    plot.dispatchEvent(new WheelEvent("wheel", { ...at, deltaY, cancelable: true }));
    await window.zerocopy.idle();
    took.push(performance.now() - begun);
  }
  return took;
})
"""


def measure_page(options: Options, servers: Servers) -> Iterator[Table]:
    """One table: the first drawing and the steps of a zoom, in milliseconds."""
    ticks = SMOKE if options.smoke else TICKS
    table = Table(
        title=f"The page: {ticks.total} ticks in {ticks.days} days",
        client="headless Chromium, 1,200 by 760 pixels, no GPU; candles of price over all days",
        head=("what", "median, ms (range)", "p95, ms", "at most asked"),
    )
    if CHROMIUM is None:
        table.skipped = "chromium is not installed"
        yield table
        return
    folder = os.path.join(servers.directory, "page")
    data, rollups = (os.path.join(folder, name) for name in ("data", "rollups"))
    progress("page: making the days")
    make_days(data, ticks)
    progress("page: making the roll-ups")
    make_rollups(data, rollups)
    with ExitStack() as stack:
        with pinned(servers.server_core):
            server = stack.enter_context(RunningServer(data, ZEROCOPY_ROLLUPS_PATH=rollups))
        stack.enter_context(pinned(servers.client_core))
        first, steps = _visit(server.port, options.rounds, 10 if options.smoke else STEPS)
    for what, took, most in (
        ("first drawing, from the begin of the navigation", first, "1,000"),
        (f"a step of the zoom ({len(steps)} of them)", steps, "150"),
    ):
        table.rows.append((what, spread(took), f"{quantile(took, 950):.0f}", most))
    yield table


def _visit(port: int, rounds: int, steps: int) -> tuple[list[float], list[float]]:
    """Milliseconds of first drawings, each in a browser that kept nothing, and of zoom steps."""
    first: list[float] = []
    took: list[float] = []
    with tempfile.TemporaryDirectory() as profile, chromium(profile) as browser:
        for number in range(rounds + 1):  # the first round warms: numpy, the browser's own files
            tab = Tab(browser)
            tab.open_chart(f"http://127.0.0.1:{port}/#/coinbase/X/MD?panes=candles:price")
            if number:
                first.append(tab.evaluate(FIRST_DRAWING))
                took += tab.evaluate(f"({ZOOM})({steps})")
            assert tab.complaints() == []
            tab.close()
    return first, took
