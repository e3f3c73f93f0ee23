"""A recorder at full speed, with a live reader and bars beside it on a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import pytest
from websockets.sync.client import connect

from tests.server import ForkedServer, RunningServer, resident_bytes
from tests.storage.trees import DAY_START_S

if TYPE_CHECKING:
    from pathlib import Path

A_SECOND = 100_000
"""Rows that share a second of their time: none is of the future, however fast they come."""

PRICES = 1_000
MINUTE = 60 * A_SECOND
LOOK_S = 0.1
QUERY = "symbol=s&type=T&exchange=e"
GROWTH_BYTES_MAX = 48 << 20
"""What a process may take more at the end than when it had warmed up."""

RECORDER = """
import sys, time
from zerocopy.ingest import Recorder
root, start_s, end_s = sys.argv[1], int(sys.argv[2]), time.monotonic() + float(sys.argv[3])
with Recorder(root, exchange="e", symbol="s", type="T", columns=("price", "id")) as recorder:
    at = 0
    while time.monotonic() < end_s:
        for at in range(at, at + 1000):
            recorder.append((start_s + at // 100_000, at % 1000, at))
        at += 1
print(recorder.counts.recorded)
"""


class Tail(threading.Thread):
    """Reads /api/live by WebSocket, and checks that record i comes as the i-th."""

    def __init__(self, server: RunningServer) -> None:
        super().__init__()
        self._url = f"ws://127.0.0.1:{server.port}/api/live?{QUERY}&columns=time,price,id&start=0"
        self.count = 0
        self.faults: list[str] = []
        self.is_ending = False

    def run(self) -> None:
        """Until the stream is to end."""
        try:
            with connect(self._url, max_size=None) as socket:
                while not self.faults and not self.is_ending:
                    with suppress(TimeoutError):
                        self._check(socket.recv(LOOK_S))
        except Exception as error:  # noqa: BLE001 - told by the thread that waits
            self.faults.append(repr(error))

    def _check(self, message: str | bytes) -> None:
        assert isinstance(message, bytes)
        head, _, body = message.partition(b"\n")
        count = json.loads(head)["columns"][0]["num_records"]
        ids = np.frombuffer(body, "<f4", count, 8 * count)
        prices = np.frombuffer(body, "<f4", count, 4 * count)
        numbers = np.arange(self.count, self.count + count)
        if not (
            np.array_equal(ids, numbers.astype("<f4")) and np.array_equal(prices, numbers % PRICES)
        ):
            self.faults.append(f"{count} records behind {self.count} are not those recorded")
        self.count += count


def check_bars(server: RunningServer, start_s: int) -> int:
    """Bars of a minute: whole ones as computed by hand, and one that is growing; their records."""
    target = f"/api/bars?{QUERY}&columns=price:ohlc+count&interval=1m&start=0&end=4294967295"
    answer = server.get(f"{target}&format=json")
    assert answer.status == 200
    columns = json.loads(answer.content)["columns"]
    counts = columns["price.count"]
    for at, count in enumerate(counts):
        is_last = at == len(counts) - 1
        assert count == MINUTE or is_last
        bar = [columns[f"price.{what}"][at] for what in ("open", "high", "low", "close")]
        high = PRICES - 1 if count >= PRICES else count - 1
        assert bar == [0, high, 0, (count - 1) % PRICES]
        assert columns["time"][at] == start_s + at * 60
    return sum(counts)


@pytest.mark.parametrize(
    "seconds", [2, pytest.param(600, marks=(pytest.mark.slow, pytest.mark.timeout(900)))]
)
def test_live_readers_and_bars_agree_with_a_recorder_at_full_speed(
    tmp_path: Path, seconds: int
) -> None:
    """Every record once and in order, every bar exact; no process takes more and more memory."""
    command = [sys.executable, "-c", RECORDER, str(tmp_path), str(DAY_START_S), str(seconds)]
    # A day that is past, so that no row is of the future; open while its files change.
    settles = {"ZEROCOPY_DATA_SETTLE_S": "600"}
    with ForkedServer(tmp_path, USE_TLS="false", **settles) as server:
        label = time.strftime("%d.%m.%y", time.gmtime(DAY_START_S))
        first = tmp_path / "e" / "s" / "T" / f"time.{label}.bin"
        recorder = subprocess.Popen(command, stdout=subprocess.PIPE)
        deadline_s = time.monotonic() + 20
        try:
            while not first.exists() or not os.stat(first).st_size:
                assert time.monotonic() < deadline_s, "the recorder does not begin"
                time.sleep(0.01)
        except BaseException:
            recorder.kill()
            recorder.communicate()
            raise
        tail = Tail(server)
        tail.start()
        resident: list[list[int]] = []
        processes = [recorder.pid, *server.worker_pids()]
        try:
            seen = 0
            while recorder.poll() is None:
                counted = check_bars(server, DAY_START_S)
                assert counted >= seen
                seen = counted
                assert not tail.faults
                with suppress(ProcessLookupError, FileNotFoundError):
                    resident.append([resident_bytes(pid) for pid in processes])
                time.sleep(min(1.0, seconds / 10))
            assert recorder.stdout is not None
            total = int(recorder.stdout.read())
            while tail.count < total and not tail.faults:
                assert time.monotonic() < deadline_s + seconds + 60, "the live reader is behind"
                time.sleep(0.01)
        finally:
            recorder.kill()
            recorder.communicate()
            tail.is_ending = True
            tail.join()
        assert tail.faults == []
        assert tail.count == check_bars(server, DAY_START_S) == total
    half = resident[len(resident) // 2 :]
    growth = [max(each) - min(each) for each in zip(*half, strict=True)]
    print(f"{total:,} rows in {seconds} s; growth in the second half: {growth}")  # noqa: T201
    assert seconds < 60 or max(growth) < GROWTH_BYTES_MAX
