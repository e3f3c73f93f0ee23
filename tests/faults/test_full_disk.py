"""A disk that is really full, a tmpfs of the server's own, below what is computed for clients."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.client import poll
from tests.naive import naive_answer
from tests.naive_bars import naive_bars_answer
from tests.server import Answer, RunningServer
from tests.storage.trees import DAY, DAY_START_S, SERIES, U32_MAX, age, put, u32
from zerocopy.storage.rollups import RECORDS_MIN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAYS = 4
FEW, MANY = RECORDS_MIN, DAYS * RECORDS_MIN
"""Records whose json takes 0.6 MB and four times that."""

ROOM = {"spool": "1m", "rollups": "96k"}
"""Bytes of the disk: room for the json of `FEW`, and for two roll-ups of 40 KB."""

MOUNT = 'mount -t tmpfs -o "size=$0" none "$1" && shift && exec "$@"'
BARS = f"/api/bars?symbol=X&type=MD&start=0&end={U32_MAX}&columns=price&interval=7m"


@pytest.fixture(name="root", scope="module")
def fixture_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four closed days of just so many ticks that they are rolled up."""
    root = tmp_path_factory.mktemp("full") / "data"
    for number in range(DAYS):
        begin_s = DAY_START_S + number * 86_400
        times = u32(*(begin_s + index * 2 for index in range(RECORDS_MIN)))
        prices = struct.pack(f"<{RECORDS_MIN}f", *(i % 977 / 4 for i in range(RECORDS_MIN)))
        day = DAY + timedelta(days=number)
        age(*put(str(root), {"time": times, "price": prices}, day).values())
    return root


class Disk:
    """A small file system of the server's own, and how to look into it."""

    def __init__(self, path: Path, size: str) -> None:
        self.path = path
        path.mkdir()
        mounting = ("unshare", "--mount", "--propagation", "private", "sh", "-c", MOUNT, size)
        self.under = (*mounting, str(path))
        if shutil.which("unshare") is None:
            pytest.skip("unshare is not installed")
        tried = subprocess.run([*self.under, "true"], capture_output=True, check=False)
        if tried.returncode:
            pytest.skip(f"mounting is not permitted here: {tried.stderr.decode().strip()}")

    def seen_by(self, server: RunningServer) -> str:
        """Its root, for this process."""
        return f"/proc/{server.pid}/root{self.path}"

    def taken(self, server: RunningServer) -> int:
        """Bytes that files take, named and unnamed."""
        told = os.statvfs(self.seen_by(server))
        return (told.f_blocks - told.f_bfree) * told.f_frsize

    def files(self, server: RunningServer) -> list[str]:
        """The names of all files, by their day."""
        found = [name for _, _, names in os.walk(self.seen_by(server)) for name in names]
        return sorted(found, key=lambda name: name.split(".")[3::-1])


def target(records: int, number: int = 0) -> str:
    """All records of the first days as json; `number` makes equal queries different ones."""
    end_s = DAY_START_S + records // RECORDS_MIN * 86_400 - 1 - number
    return f"/api/data?symbol=X&type=MD&columns=time,price&format=json&start=0&end={end_s}"


def columns_of(root: Path, number: int = 0) -> dict[str, list[Any]]:
    """What the json of the first day holds."""
    end_s = DAY_START_S + 86_400 - 1 - number
    body = naive_answer(str(root), *SERIES, 0, end_s, ["time", "price"])
    head, _, rest = body.partition(b"\n")
    count = json.loads(head)["columns"][0]["num_records"]
    values = struct.unpack(f"<{count}I{count}f", rest)
    return {"time": list(values[:count]), "price": list(values[count:])}


def test_spool_on_a_full_disk(root: Path, tmp_path: Path) -> None:
    """What does not fit is 503; what does is right, before, beside and after; all is given back."""
    disk = Disk(tmp_path / "spool", ROOM["spool"])
    right = columns_of(root)

    def is_right(answer: Answer) -> bool:
        if answer.status == 503:
            assert int(answer.fields["retry-after"]) > 0
            assert answer.fields["content-type"] == "application/problem+json"
            return False
        assert answer.status == 200
        assert json.loads(answer.content)["columns"] == right
        return True

    with RunningServer(
        root, under=disk.under, ZEROCOPY_FORMATS_SPOOL_PATH=str(disk.path)
    ) as server:
        assert is_right(server.get(target(FEW)))
        assert 0 < disk.taken(server) < 1_000_000
        assert not is_right(server.get(target(MANY)))
        assert server.get("/readyz").status == 200
        with ThreadPoolExecutor(4) as clients:
            # No record lies in the last seconds of the day, so all have the same records.
            answers = clients.map(server.get, [target(FEW, number) for number in range(8)])
            assert [is_right(answer) for answer in answers].count(True) > 0
        for number in range(3):  # what is kept of the one before gives way, once its thread lets go
            asked = target(FEW, 8 + number)
            poll(lambda asked=asked: is_right(server.get(asked)), "room for another")  # type: ignore[misc]
        assert disk.taken(server) <= server.metric("zerocopy_spool_bytes") + 65_536
        assert disk.files(server) == []
        assert server.event("worker_died") is None


def test_roll_ups_on_a_full_disk(root: Path, tmp_path: Path) -> None:
    """Those that fit are used, the others leave nothing; one warning; once there is room, more."""
    disk = Disk(tmp_path / "rollups", ROOM["rollups"])
    expected = naive_bars_answer(str(root), *SERIES, 0, U32_MAX, "price", "7m")
    days = [DAY + timedelta(days=number) for number in range(DAYS)]
    names = [f"price.{day:%d.%m.%y}.rollup" for day in days]
    with RunningServer(
        root,
        under=disk.under,
        ZEROCOPY_ROLLUPS_PATH=str(disk.path),
        ZEROCOPY_ROLLUPS_BYTES_MAX="0",
        ZEROCOPY_MEMORY_PLAN_CACHE_BYTES_MAX="0",
    ) as server:

        def made_again(times: int) -> Callable[[], bool]:
            made = server.metric("zerocopy_rollups_made_total")
            assert server.get(BARS).content == expected
            return lambda: server.metric("zerocopy_rollups_made_total") >= made + times

        poll(made_again(DAYS), "all are made")
        poll(made_again(DAYS - 2), "those that did not fit are made again")
        poll(lambda: disk.files(server) == names[:2], "the last writer has given up")
        [warning] = server.logged("rollups_not_written")
        assert warning["detail"] == (
            f"{disk.path}: No space left on device; roll-ups are not kept there"
        )
        subprocess.run(
            ["nsenter", "-t", str(server.pid), "-m", "mount", "-o", "remount,size=1m", disk.path],
            check=True,
        )
        poll(made_again(DAYS - 2), "there is room")
        poll(lambda: disk.files(server) == names, "all are there, and nothing else")
        assert server.get(BARS).content == expected
        assert server.event("worker_died") is None
