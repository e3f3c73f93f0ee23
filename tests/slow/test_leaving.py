"""Clients that leave at every point of every kind of exchange: afterwards all is as it was before.

`LEAVING_S` says for how many seconds (600), `LEAVING_SEED` which clients come in which order, and
`LEAVING_ONLY` takes a part of a kind's name, to have only such. `make test` has a brief one.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import poll
from tests.server import RunningServer
from tests.slow.footprint import assert_given_back, rested
from tests.slow.leaving import WIRES, Site
from tests.slow.leaving_crowd import CONNECTIONS_MAX, Crowd, seats, shares
from tests.slow.leaving_wire import KEPT_S
from zerocopy.core.counters import SLOTS

if TYPE_CHECKING:
    from pathlib import Path

LEAVING_S = float(os.environ.get("LEAVING_S", "600"))
ONLY = os.environ.get("LEAVING_ONLY", "")
BRIEF_S = 4.0
BACK_S = 20.0
"""Until the last client is forgotten: longer than any deadline below."""

HEAP_BYTES = CONNECTIONS_MAX * 1_048_576
"""What a crowd leaves of the heap, which the next one uses: a megabyte for each TLS connection that
stalled, as BEHAVIOR.md says. A leak would leave more with each of the hundreds of clients."""

ENVIRON = {
    "USE_TLS": "false",
    "ZEROCOPY_TLS_PORT": "0",
    "ZEROCOPY_LIMITS_CONNECTIONS_MAX": str(CONNECTIONS_MAX),
    "ZEROCOPY_LIMITS_PLANNER_THREADS": "2",
    "ZEROCOPY_LIMITS_READER_THREADS": "2",
    "ZEROCOPY_LIMITS_CONNECTIONS_PER_ADDRESS_MAX": "1",
    "ZEROCOPY_TIMEOUTS_HEADER_READ_S": "1",
    "ZEROCOPY_TIMEOUTS_IDLE_S": "1",
    "ZEROCOPY_TIMEOUTS_WRITE_PROGRESS_S": "2",
    # Longer than `stop` waits for the end: nobody is left for whom a drain had to wait.
    "ZEROCOPY_SERVER_DRAIN_DEADLINE_S": "60",
}
OF_CACHES = {
    "zerocopy_locked_bytes",
    "zerocopy_mapped_bytes",
    "zerocopy_open_files",
    "zerocopy_plan_cache_bytes",
    "zerocopy_watched_directories",
}
"""Gauges of what has a bound of its own; all others are of what clients hold."""

OF_CLIENTS = sorted({slot.name for slot in SLOTS if slot.kind == "gauge"} - OF_CACHES)


def gauges(server: RunningServer) -> dict[str, float]:
    """What clients hold now."""
    return {name: server.metric(name) for name in OF_CLIENTS}


def assert_nothing_held(crowd: Crowd) -> None:
    """Wait until no client holds anything, each has been given up, and no log line tells of one."""
    server, faults = crowd.server, [f"{name}:{shares(of)}" for name, of in crowd.wrong.items()]
    deadline_s = time.monotonic() + BACK_S
    while any((now := gauges(server)).values()) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    if any(now.values()):
        faults.append(f"not given back: {now}; seats are held by:{shares(crowd.held())}")
    lines = Counter(line for line in server.log_text().splitlines() if not line.startswith("{"))
    lines += Counter(str(event) for event in server.events() if event["level"] != "info")
    faults += [f"logged {count} times: {line[:1_000]}" for line, count in lines.most_common(10)]
    assert not faults, "\n".join([crowd.text(), *faults])


def assert_all_seats(crowd: Crowd, *, is_tls: bool) -> None:
    """As many connections as the server allows are served at once, and one more is refused."""
    wanted, got = Counter({200: CONNECTIONS_MAX, 503: 1}), Counter[int]()

    def all_had() -> bool:
        nonlocal got
        got = seats(crowd, is_tls=is_tls)
        return got == wanted

    name = "TLS" if is_tls else "plain"
    poll(all_had, f"all seats over {name}; {crowd.text()}, the last had {got}", BACK_S)


def soak(root: str, *, seconds: float, seed: int) -> None:
    """Warm up, look, let clients come and leave, look again."""
    site = Site(root)
    with RunningServer(root, **ENVIRON) as server:
        crowd = Crowd(server, site, seed)
        assert_all_seats(crowd, is_tls=False)
        assert_all_seats(crowd, is_tls=True)
        before = rested(server, root)
        crowd.run(WIRES, seconds, ONLY)
        sys.stdout.write(f"\n{crowd.text()}\n")
        assert_nothing_held(crowd)
        assert_given_back(server, root, before, slack_bytes=HEAP_BYTES)
        assert crowd.outcomes["all said"] > crowd.outcomes.total() / 10, crowd.text()
        assert_all_seats(crowd, is_tls=False)
        assert_all_seats(crowd, is_tls=True)
        poll(lambda: not any(gauges(server).values()), "nobody to be connected", BACK_S)
        assert server.stop() == 0, crowd.text()
        assert_nothing_logged_at_the_end(server)


def assert_nothing_logged_at_the_end(server: RunningServer) -> None:
    """The drain cut nobody off."""
    assert server.events()[-1]["event"] == "stopped", server.log_text()
    assert all(event["level"] == "info" for event in server.events()), server.log_text()


@pytest.mark.slow
@pytest.mark.timeout(LEAVING_S + 300)
def test_leaving(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten minutes of clients that leave: gauges, descriptors, memory, seats and drain are back."""
    seed = int(os.environ.get("LEAVING_SEED", str(time.time_ns() % 1_000_000)))
    with capsys.disabled():
        soak(str(tmp_path), seconds=LEAVING_S, seed=seed)


@pytest.mark.timeout(BRIEF_S + KEPT_S + 4 * BACK_S + 60)
def test_brief_leaving(tmp_path: Path) -> None:
    """The same for four seconds: some 30 clients over each wire, as many amid the handshake."""
    soak(str(tmp_path), seconds=BRIEF_S, seed=int(os.environ.get("LEAVING_SEED", "1")))
