"""`StoredFiles`: what opens at once, and what a thread waits for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.storage.store.bench import key, node
from tests.storage.trees import DAY, DAY_START_S, SERIES, marks, put, query, u32
from zerocopy.core.errors import StoreError
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


def test_store_that_brings_no_byte_is_away_and_back_again(bucket: Standin, tmp_path: Path) -> None:
    """A request that is not answered ends after `timeout_s`; nothing short is kept."""
    times = u32(*range(DAY_START_S, DAY_START_S + 40))
    put(str(tmp_path / "root"), {"time": times, "price": marks(40)})
    bucket.upload(tmp_path / "root", "p/")
    go = threading.Event()

    def hang(_method: str, name: str) -> None:
        if name:
            assert go.wait(60)

    bucket.fault = hang
    with node(bucket, str(tmp_path / "cache"), timeout_s=0.2) as opened:
        with pytest.raises(StoreError):
            opened.plan(query(columns=("price",)))
        assert not list((tmp_path / "cache").rglob("*.bin"))
        go.set()
        opened.fetcher.close()
        assert opened.body(query(columns=("price",))).endswith(marks(40))
