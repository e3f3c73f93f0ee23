"""The cache of an object store on a disk that is really full: room is made, or it is 503."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.faults.stored import CLOSED_S
from tests.faults.test_full_disk import Disk
from tests.server import RunningServer
from tests.standin import BUCKET, environ_of, standin
from tests.storage.trees import DAY, DAY_START_S, SERIES

if TYPE_CHECKING:
    from pathlib import Path

DAYS, FILE_BYTES, DISK = 5, 300_000, "1m"
"""Three files fit; a large one of twice the disk never does."""


def test_full_disk_makes_room_or_is_a_503(tmp_path: Path) -> None:
    """The bound is far above the disk. Each day has the right bytes, before and after the fault."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    disk = Disk(tmp_path / "cache", DISK)
    content = {
        f"{symbol}/{SERIES.type}/{column}.{DAY + timedelta(days=number):%d.%m.%y}.bin": bytes(
            [number + 1]
        )
        * nbytes
        for symbol, nbytes in ((SERIES.symbol, FILE_BYTES), ("LARGE", 2_000_000))
        for column in ("time", "price")
        for number in range(DAYS)
    }

    def ask(server: RunningServer, number: int, symbol: str = SERIES.symbol) -> tuple[int, bytes]:
        start_s = DAY_START_S + number * 86_400
        names = f"exchange={SERIES.exchange}&symbol={symbol}&type={SERIES.type}&columns=price"
        answer = server.get(f"/api/data?{names}&start={start_s}&end={start_s + 86_399}")
        if answer.status == 503:
            assert answer.fields["retry-after"]
        return answer.status, answer.content.partition(b"\n")[2]

    with standin() as bucket:
        for name, data in content.items():
            bucket.put(f"p/{SERIES.exchange}/{name}", data, CLOSED_S)
        with RunningServer(
            f"s3://{BUCKET}/p",
            under=disk.under,
            ZEROCOPY_MEMORY_OPEN_FILES_MAX="1",  # an open file is not deleted
            **environ_of(bucket.url, disk.path),
        ) as server:
            for turn in range(2):
                for number in range(DAYS):
                    right = bytes([number + 1]) * FILE_BYTES
                    assert ask(server, number) == (200, right), turn
                assert ask(server, 0, "LARGE")[0] == 503
            assert disk.taken(server) <= 1_048_576
            assert not [name for name in disk.files(server) if name.endswith(".part")]
