"""SIGKILL at random moments of a real import, a server and readers beside.

No answer is ever wrong, and the next run completes the work.
"""

from __future__ import annotations

import random
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.command_line import ZEROCOPY, environment
from tests.ingest.by_hand import found_in
from tests.server import ForkedServer, RunningServer
from zerocopy.core.layout import day_label

if TYPE_CHECKING:
    from pathlib import Path

FIRST_DAY = 20_089  # 2025-01-01
DAYS = 30
RECORDS = 50
DAY_S = 86_400
PACE_S = 0.01
"""Between two queries: enough for some in each import, and little of the processor."""


def rows_of(version: int) -> tuple[np.ndarray, np.ndarray]:
    """Times and prices of all days; both tell the version, and both versions are equally long."""
    days = np.repeat(np.arange(FIRST_DAY, FIRST_DAY + DAYS), RECORDS)
    times = days * DAY_S + np.tile(np.arange(RECORDS) * 2 + version, DAYS)
    return times.astype("<u4"), np.full(len(times), version, "<f4")


def put(path: Path, version: int) -> None:
    """Write the rows of a version as CSV, the days interleaved."""
    times, prices = rows_of(version)
    order = np.random.default_rng(version).permutation(len(times))
    lines = [f"{times[at]},{prices[at]}" for at in order]
    path.write_text("\n".join(["time,price", *lines]) + "\n", encoding="utf-8")


def day_files(version: int) -> dict[str, bytes]:
    """What the directory holds at the end."""
    times, prices = rows_of(version)
    found = {}
    for at in range(DAYS):
        label, some = day_label(FIRST_DAY + at), slice(at * RECORDS, (at + 1) * RECORDS)
        found[f"time.{label}.bin"] = times[some].tobytes()
        found[f"price.{label}.bin"] = prices[some].tobytes()
        found[f"nanos.{label}.bin"] = b"\0" * 4 * RECORDS
    return found


class Reader(threading.Thread):
    """Asks for one day after another; `wrong` are answers that no moment explains."""

    def __init__(self, server: RunningServer, seed: int) -> None:
        super().__init__()
        self._server = server
        self._rng = random.Random(seed)
        self._files = {version: day_files(version) for version in (1, 2)}
        self._is_over = threading.Event()
        self.answers = 0
        self.wrong: list[object] = []

    def run(self) -> None:
        """Until it is told to stop."""
        while not self._is_over.wait(PACE_S):
            day = FIRST_DAY + self._rng.randrange(DAYS)
            self.check(day)

    def check(self, day: int) -> None:
        """Ask for a day: it is of one version as a whole, or not there."""
        target = (
            f"/api/data?exchange=e&symbol=S&type=T&columns=time,price"
            f"&start={day * DAY_S}&end={day * DAY_S + DAY_S - 1}"
        )
        answer = self._server.get(target)
        body = answer.content.partition(b"\n")[2]
        label = day_label(day)
        right = [
            files[f"time.{label}.bin"] + files[f"price.{label}.bin"]
            for files in self._files.values()
        ]
        is_busy = answer.status == 500 and b"changed faster" in answer.content
        if not (answer.status == 200 and body in (*right, b"")) and not is_busy:
            self.wrong.append((label, answer))
        self.answers += 1

    def stop(self) -> None:
        """Wait for the last answer."""
        self._is_over.set()
        self.join()


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(1, id="one"),
        pytest.param(400, id="hundreds", marks=(pytest.mark.slow, pytest.mark.timeout(3_600))),
    ],
)
def test_import_is_killed_at_any_moment_beside_readers(tmp_path: Path, kills: int) -> None:
    """Each version replaces the other, killed again and again until a run comes through."""
    root, rng = tmp_path / "root", random.Random(kills)
    files = {version: tmp_path / f"{version}.csv" for version in (1, 2)}
    for version, file in files.items():
        put(file, version)

    def command(version: int) -> list[str]:
        options = ("--exchange=e", "--symbol=S", "--type=T", "--map=price=price", "--replace")
        return [*ZEROCOPY, "import", str(files[version]), "--root", str(root), *options]

    begun = time.monotonic()
    subprocess.run(command(1), env=environment(), check=True, stdout=subprocess.DEVNULL)
    took_s = time.monotonic() - begun
    killed, version = 0, 2
    with ForkedServer(root, USE_TLS="false") as server:
        reader = Reader(server, kills)
        reader.start()
        try:
            while killed < kills:
                with subprocess.Popen(
                    command(version), env=environment(), stdout=subprocess.DEVNULL
                ) as process:
                    try:
                        # Most of a run is its start; kills belong to the rest.
                        code = process.wait(took_s * rng.uniform(0.4, 1.1))
                    except subprocess.TimeoutExpired:
                        process.kill()
                        killed += 1
                        continue
                assert code == 0
                assert found_in(root, "e", "S", "T") == day_files(version)
                version = 3 - version
            subprocess.run(command(version), env=environment(), check=True, capture_output=True)
        finally:
            reader.stop()
        for day in range(FIRST_DAY, FIRST_DAY + DAYS):
            reader.check(day)
    assert reader.wrong == []
    assert reader.answers > DAYS
    assert found_in(root, "e", "S", "T") == day_files(version)
    assert [path.name for path in root.iterdir()] == ["e"]
