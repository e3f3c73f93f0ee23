"""`Listings`: believed for a while, shared by processes, and old when the store is away."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.standin import error_reply
from tests.storage.store.bench import LIST_S, Clock, key, store_of
from tests.storage.trees import SERIES
from zerocopy.core.errors import StoreError
from zerocopy.storage.store.listings import Listings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.standin import Standin


def listings(bucket: Standin, path: Path, clock: Clock) -> Listings:
    """Those of one worker."""
    return Listings(store_of(bucket), str(path), LIST_S, clock)


def test_listing_is_asked_for_once_in_list_s(bucket: Standin, tmp_path: Path) -> None:
    """Then again, and shows what came meanwhile: twice, or a day could be listed by halves."""
    clock = Clock()
    known = listings(bucket, tmp_path, clock)
    bucket.put(key("time.01.01.25.bin"), b"abcd")
    assert list(known.of(SERIES).entries) == ["time.01.01.25.bin"]
    bucket.put(key("time.02.01.25.bin"), b"abcd")
    clock.now_s += LIST_S - 1
    assert len(known.of(SERIES).entries) == 1
    assert len(bucket.requests) == 1
    clock.now_s += 1
    assert len(known.of(SERIES).entries) == 2
    assert len(bucket.requests) == 3


def test_listing_is_shared_by_workers_and_outlives_them(bucket: Standin, tmp_path: Path) -> None:
    """Many threads of two workers ask the store once."""
    clock = Clock()
    bucket.put(key("time.01.01.25.bin"), b"abcd", 1_700_000_000)
    workers = [listings(bucket, tmp_path, clock) for _ in range(2)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda each: each.of(SERIES), workers * 8))
    assert len(bucket.requests) == 1
    entry = found[0].entry("time", 20_089)
    assert entry.etag == '"e2fc714c4727ee9395f324cd2e7f331f"'
    assert all(each.entries == found[0].entries for each in found)
    assert listings(bucket, tmp_path, clock).of(SERIES).days.days == [20_089]
    assert len(bucket.requests) == 1


def test_clock_that_was_set_back_believes_nothing(bucket: Standin, tmp_path: Path) -> None:
    """A listing of the future is asked for again."""
    clock = Clock()
    known = listings(bucket, tmp_path, clock)
    known.of(SERIES)
    clock.now_s -= 10.0
    known.of(SERIES)
    assert len(bucket.requests) == 2


def test_last_listing_holds_while_the_store_is_away(bucket: Standin, tmp_path: Path) -> None:
    """And says that it is old; what was never listed is an error."""
    clock = Clock()
    bucket.put(key("time.01.01.25.bin"), b"abcd")
    known = listings(bucket, tmp_path, clock)
    assert not known.of(SERIES).is_old
    clock.now_s += LIST_S
    bucket.fault = lambda _method, _key: error_reply(500, "InternalError")
    again = listings(bucket, tmp_path, clock)
    for each in (known, again):
        old = each.of(SERIES)
        assert old.is_old
        assert len(old.entries) == 1
        assert not each.is_current(SERIES, old)
    with pytest.raises(StoreError):
        known.of(SERIES._replace(symbol="NEVER"))


def test_ruined_copy_of_a_listing_is_asked_for_again(bucket: Standin, tmp_path: Path) -> None:
    """It is a copy and no more."""
    clock = Clock()
    bucket.put(key("time.01.01.25.bin"), b"abcd")
    listings(bucket, tmp_path, clock).of(SERIES)
    [copy] = (tmp_path / "listings").rglob("MD.json")
    copy.write_bytes(b'{"half":')
    assert len(listings(bucket, tmp_path, clock).of(SERIES).entries) == 1
    assert len(bucket.requests) == 2
