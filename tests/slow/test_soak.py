"""Mixed traffic over changing files for minutes: every answer right, and nothing stays behind.

`SOAK_S` says for how many seconds (600). The brief one is the same code for some seconds.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from tests.h2client import H2Client
from tests.server import RunningServer
from tests.slow.footprint import assert_given_back, rested
from tests.slow.soak import Soak
from tests.slow.tally import Tally
from tests.slow.world import BRIEF, FULL, World

if TYPE_CHECKING:
    from pathlib import Path

SOAK_S = float(os.environ.get("SOAK_S", "600"))
WARM_S = min(60.0, SOAK_S / 4)
BEYOND_THE_BOUND = 400_000
"""SEGMENTS_HELD_MAX: a soak that gave up more would have met 503, had any of them leaked."""

ENVIRON = {
    "USE_TLS": "false",
    "ZEROCOPY_TLS_PORT": "0",
    "ZEROCOPY_COLUMNS_id": "u8",
    "ZEROCOPY_COLUMNS_order": "S16",
    "ZEROCOPY_TIMEOUTS_WRITE_PROGRESS_S": "4",
    "ZEROCOPY_TIMEOUTS_HEADER_READ_S": "6",
    "ZEROCOPY_SERVER_DRAIN_DEADLINE_S": "4",
}
NEVER_LOGGED = {
    "internal_error",
    "loop_error",
    "connection_failed",
    "unraisable",
    "data_error",
    "worker_died",
}


def write(text: str) -> None:
    """Tell people."""
    sys.stdout.write(f"\n{text}")
    sys.stdout.flush()


def cut_off(tally: Tally) -> int:
    """How many answers of the wide series clients saw cut off."""
    return sum(tally.count(f"{name} wide", "cut off") for name in ("http1", "http2", "http1-tls"))


def soak(tmp_path: Path, *, seconds: float, warm_s: float, workers: int) -> None:
    """Warm up, look, soak, look again; `seconds` of a minute or more wait for the sweeps too."""
    is_swept = seconds >= 30
    root = str(tmp_path / "root")
    world, tally = World(root, FULL if is_swept else BRIEF), Tally()
    with RunningServer(root, **ENVIRON, ZEROCOPY_SERVER_WORKERS=str(workers)) as server:
        running = Soak(server, world, tally)
        running.run(warm_s)
        before = rested(server, root, is_swept=is_swept)
        if not tally.faults:
            running.run(seconds)
        write(f"{workers} workers, {warm_s:.0f} + {seconds:.0f} s\n{tally.text()}")
        write(f"  before: {before.text()}")
        after = rested(server, root, is_swept=is_swept)
        write(f"  after:  {after.text()}\n")
        assert tally.faults == [], "\n".join(tally.faults)
        assert_given_back(server, root, before)
        with H2Client(server) as client:
            assert client.ask(world.many.target).content == world.many.body
        assert server.get(world.many.target).content == world.many.body
        events = [event["event"] for event in server.events()]
        wrong = [event for event in server.events() if event["event"] in NEVER_LOGGED]
        assert wrong == []
        assert server.metric("zerocopy_worker_restarts_total") == 0
        assert events.count("transfer_aborted") <= cut_off(tally)
        running.close()
    if is_swept:
        assert (after.mapped, after.locked, after.kernel_locked) == (0, 0, 0)
    if seconds >= 600 and workers == 1:
        for path in ("plain", "tls"):
            assert tally.count("segments given up", path) > BEYOND_THE_BOUND


@pytest.mark.slow
@pytest.mark.timeout(SOAK_S + WARM_S + 400)
@pytest.mark.parametrize("workers", [1, 2])
def test_soak(tmp_path: Path, workers: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten minutes of everything: bytes, descriptors, threads, memory, gauges and the log."""
    with capsys.disabled():
        soak(tmp_path, seconds=SOAK_S, warm_s=WARM_S, workers=workers)


@pytest.mark.slow
def test_brief_soak(tmp_path: Path) -> None:
    """The same for five seconds."""
    soak(tmp_path, seconds=4, warm_s=1, workers=1)
