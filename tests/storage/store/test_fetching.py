"""`StoredFiles`: what opens at once, and what a thread waits for."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import poll
from tests.storage.store.bench import Ticking, key, node
from tests.storage.trees import DAY, DAY_START_S, SERIES, marks, put, query, u32
from zerocopy.core import counters as slots
from zerocopy.core.errors import StoreError
from zerocopy.core.window import Window
from zerocopy.storage.reading import Reading
from zerocopy.storage.residency import PageCache
from zerocopy.storage.store.cache import GROWN_BYTES_MIN
from zerocopy.storage.store.fetching import StoredFile

if TYPE_CHECKING:
    from pathlib import Path

    from tests.standin import Standin
    from tests.storage.store.bench import Node

COLUMNS = ("price", "size")
NAME = f"price.{DAY:%d.%m.%y}.bin"
FIRST = os.urandom(GROWN_BYTES_MIN)
MIB = 1 << 20


def fetched(opened: Node, content: bytes) -> int:
    """Fetch the file as the store lists it now, which is `content`; the bytes that came."""
    before = opened.counters[slots.STORE_BYTES]
    listing = opened.listings.of(SERIES, newer_than=None, after_s=opened.clock.now_s)
    entry = listing.entries[NAME]
    wanted = StoredFile(opened.files, SERIES, NAME, entry, is_closed=False, lost=[])
    fd = opened.fetcher.fetch(wanted)
    try:
        assert os.pread(fd, len(content) + 1, 0) == content
    finally:
        os.close(fd)
    return opened.counters[slots.STORE_BYTES] - before


@pytest.mark.parametrize("parts_bytes", [None, 5 * MIB, 8 * MIB])
def test_of_a_file_that_grew_only_the_rest_is_fetched(
    bucket: Standin, tmp_path: Path, parts_bytes: int | None
) -> None:
    """If the ETag proves that it begins as before: of one put at once, or in usual parts."""

    def put_file(content: bytes) -> bytes:
        parts = None
        if parts_bytes is not None:
            parts = [content[at : at + parts_bytes] for at in range(0, len(content), parts_bytes)]
        bucket.put(key(NAME), content, parts=parts)
        return content

    first = FIRST if parts_bytes is None else FIRST * (9 * MIB // len(FIRST))
    with node(bucket, str(tmp_path), clock=Ticking()) as opened:
        assert fetched(opened, put_file(first)) == len(first)
        assert fetched(opened, put_file(first + b"abcd")) == 4
        assert fetched(opened, put_file(first + b"abcdefgh")) == 4
        assert [method for method, name in bucket.requests if name] == ["GET"] * (
            3 if parts_bytes is None else 4
        )


@pytest.mark.parametrize("is_ruined", [False, True])
def test_of_a_file_that_begins_differently_all_is_fetched(
    bucket: Standin, tmp_path: Path, *, is_ruined: bool
) -> None:
    """Be it that it was replaced, or that the copy is no longer what it was."""
    with node(bucket, str(tmp_path), clock=Ticking()) as opened:
        bucket.put(key(NAME), FIRST)
        assert fetched(opened, FIRST) == len(FIRST)
        content = FIRST + b"abcd" if is_ruined else b"x" + FIRST + b"abcd"
        if is_ruined:
            with open(os.path.join(opened.cache.root, *SERIES, NAME), "r+b") as file:
                file.write(b"~~~~")
        bucket.put(key(NAME), content)
        assert fetched(opened, content) == len(content)


@pytest.mark.parametrize(
    ("first", "parts", "options"),
    [
        (FIRST[:-1], None, {}),
        (FIRST, [FIRST, b"abcd"], {}),  # parts of a size that nobody uses
        (FIRST, None, {"check_md5": False}),
    ],
)
def test_what_is_small_or_cannot_be_proved_is_fetched_whole(
    bucket: Standin,
    tmp_path: Path,
    first: bytes,
    parts: list[bytes] | None,
    options: dict[str, bool],
) -> None:
    """At once, with one request."""
    with node(bucket, str(tmp_path), clock=Ticking(), **options) as opened:
        bucket.put(key(NAME), first)
        fetched(opened, first)
        bucket.put(key(NAME), first + b"abcd", parts=parts)
        assert fetched(opened, first + b"abcd") == len(first) + 4
        assert len(bucket.fetched()) == 2


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
        found: list[bytes] = []

        def is_back() -> bool:
            with contextlib.suppress(StoreError):  # a busy machine may take longer, too
                found.append(opened.body(query(columns=("price",))))
            return bool(found)

        poll(is_back, "the store is back")
        assert found[0].endswith(marks(40))
