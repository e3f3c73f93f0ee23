"""`StoredFiles`: what opens at once, and what a thread waits for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tests.storage.store.bench import key, node
from tests.storage.trees import DAY, DAY_START_S, SERIES, marks, put, query, u32
from zerocopy.core.window import Window
from zerocopy.storage.reading import Reading
from zerocopy.storage.residency import PageCache

if TYPE_CHECKING:
    from pathlib import Path

    from tests.standin import Standin

COLUMNS = ("price", "size")


def test_gathering_that_may_not_wait_does_not_wait_for_the_store(
    bucket: Standin, tmp_path: Path
) -> None:
    """It gives up, so that responses whose files are here are gathered; and the file comes."""
    times = u32(*range(DAY_START_S, DAY_START_S + 40))
    put(str(tmp_path / "root"), {"time": times, "price": marks(40), "size": marks(40, base=7)})
    bucket.upload(tmp_path / "root", "p/")
    go = threading.Event()

    def hold_back(_method: str, name: str) -> None:
        if name == key(f"size.{DAY:%d.%m.%y}.bin"):
            assert go.wait(30)

    bucket.fault = hold_back
    with node(bucket, str(tmp_path / "cache"), small_bytes_max=0, timeout_s=30.0) as opened:
        opened.files.residency = PageCache()
        planned = opened.plan(query(columns=COLUMNS))
        slices = planned.representation.segments
        window = Window(slices, (0, 0), (len(slices), 0), gathers=True)
        reading = Reading(opened.files, window)
        reading.run()
        reading.finish()
        assert not go.is_set()
        assert (bytes(window.content), window.has_waited) == (b"", True)
        go.set()
        opened.fetcher.close()
        reading = Reading(opened.files, window)
        reading.run()
        reading.finish()
        assert bytes(window.content).endswith(marks(40, base=7))
    assert len(bucket.fetched()) == len(set(bucket.fetched()))
    assert SERIES.type in bucket.fetched()[0]
