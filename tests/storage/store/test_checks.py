"""Copies of before a start of the server: none is believed before its content was checked."""

from __future__ import annotations

import errno
import os
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.standin import error_reply
from tests.storage.store.bench import Node, node
from tests.storage.store.test_cache import CONTENT, ENTRY, GENEROUS, NAME, content_of, names, writes
from tests.storage.trees import DAY_START_S, SERIES, marks, put, u32
from zerocopy.core import counters as slots
from zerocopy.core.errors import StoreError
from zerocopy.storage.store import checks
from zerocopy.storage.store.cache import CacheDirectory
from zerocopy.storage.store.checking import CacheCheck
from zerocopy.storage.store.checks import ATTRIBUTE, CHUNK_BYTES, Checks, start_of, sum_of
from zerocopy.storage.store.tally import Tally
from zerocopy.storage.tree import close_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standin import Standin

RECORDS = 50


@pytest.fixture(autouse=True)
def fixture_attributes(tmp_path: Path) -> None:
    """A file system that keeps them."""
    if not Checks(str(tmp_path)).are_kept:
        pytest.skip("the file system of temporary files keeps no extended attributes")


@pytest.fixture(name="warm")
def fixture_warm(bucket: Standin, tmp_path: Path) -> Iterator[Node]:
    """A node with a day of two columns in its cache; no test before it has asked for them."""
    times = u32(*range(DAY_START_S, DAY_START_S + RECORDS))
    put(str(tmp_path / "root"), {"time": times, "price": marks(RECORDS)})
    bucket.upload(tmp_path / "root", "p/")
    with node(bucket, str(tmp_path / "cache")) as opened:
        opened.body()
        yield opened


def path_of(cache: Path, name: str = NAME) -> Path:
    """A copy."""
    return cache / "data" / "/".join(SERIES) / name


def flip_a_bit(path: Path) -> None:
    """As a disk does it: nothing else of the file differs."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def check_of(opened: Node, path: Path, bytes_per_s_max: int = GENEROUS) -> CacheCheck:
    """The check in the background of a node."""
    return CacheCheck(opened.cache, opened.listings, str(path), bytes_per_s_max, opened.tally)


def test_start_is_a_larger_number_each_time_and_survives_its_file(tmp_path: Path) -> None:
    """Whoever asks between two starts gets the same."""
    path = str(tmp_path)
    first = start_of(path)
    assert start_of(path) == first
    second = start_of(path, is_new=True)
    assert start_of(path) == second > first
    (tmp_path / "start").write_bytes(b"torn")
    assert start_of(path) > second


def test_machine_that_was_started_anew_is_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For commands, too, which run without a server."""
    first = start_of(str(tmp_path))
    (tmp_path / "boot").write_text("0000-0000\n")
    monkeypatch.setattr(checks, "_BOOT_PATH", str(tmp_path / "boot"))
    second = start_of(str(tmp_path))
    assert start_of(str(tmp_path)) == second > first
    monkeypatch.setattr(checks, "_BOOT_PATH", str(tmp_path / "none"))
    assert start_of(str(tmp_path)) > second


def test_sum_covers_all_of_a_file_in_pieces(tmp_path: Path) -> None:
    """One that is shorter than it should be has another sum."""
    content = os.urandom(2 * CHUNK_BYTES + 5)
    (tmp_path / "file").write_bytes(content)
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    whole = sum_of(fd, len(content))
    assert sum_of(fd, len(content) + 1) == whole
    assert sum_of(fd, len(content) - 1) != whole
    os.close(fd)


def test_copy_is_believed_at_the_next_start_once_it_was_read_through(tmp_path: Path) -> None:
    """It is not fetched again; the start before goes on to believe it."""
    before = CacheDirectory(str(tmp_path), GENEROUS)
    close_file(before.fill(SERIES, NAME, ENTRY, writes()))
    start_of(str(tmp_path), is_new=True)
    after = CacheDirectory(str(tmp_path), GENEROUS)
    assert after.open(SERIES, NAME, ENTRY) is None
    assert not after.has(SERIES, NAME, ENTRY)
    assert after.has(SERIES, NAME, ENTRY, unchecked=True)
    assert content_of(before.open(SERIES, NAME, ENTRY)) == CONTENT
    assert content_of(after.fill(SERIES, NAME, ENTRY, writes(b"never asked for"))) == CONTENT
    assert content_of(after.open(SERIES, NAME, ENTRY)) == CONTENT
    assert content_of(before.open(SERIES, NAME, ENTRY)) == CONTENT


@pytest.mark.parametrize(
    ("ruin", "ruined"), [("a bit", 1), ("its sum", 0), ("its sum is short", 0)]
)
def test_copy_with_a_flipped_bit_is_fetched_again(tmp_path: Path, ruin: str, ruined: int) -> None:
    """Length, times and name are as they were; so is one whose sum was lost or is none.

    Of that nobody knows whether it is wrong, so it does not count as ruined.
    """
    close_file(CacheDirectory(str(tmp_path), GENEROUS).fill(SERIES, NAME, ENTRY, writes()))
    path = path_of(tmp_path)
    if ruin == "a bit":
        flip_a_bit(path)
    elif ruin == "its sum":
        os.removexattr(path, ATTRIBUTE)
    else:
        os.setxattr(path, ATTRIBUTE, b"x")
    start_of(str(tmp_path), is_new=True)
    counters = [0] * len(slots.SLOTS)
    cache = CacheDirectory(str(tmp_path), GENEROUS, Tally(counters))
    assert cache.open(SERIES, NAME, ENTRY) is None
    assert content_of(cache.fill(SERIES, NAME, ENTRY, writes())) == CONTENT
    assert path.read_bytes() == CONTENT
    assert counters[slots.STORE_CACHE_RUINED] == ruined


def test_wrong_copy_that_another_process_trims_meanwhile_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is gone before this one comes to delete it."""
    cache = CacheDirectory(str(tmp_path), GENEROUS)
    close_file(cache.fill(SERIES, NAME, ENTRY, writes()))
    start_of(str(tmp_path), is_new=True)

    def is_wrong(_checks: Checks, _fd: int, _size: int) -> bool:
        path_of(tmp_path).unlink()
        return False

    monkeypatch.setattr(Checks, "check", is_wrong)
    cache = CacheDirectory(str(tmp_path), GENEROUS)
    assert content_of(cache.fill(SERIES, NAME, ENTRY, writes())) == CONTENT


def test_node_that_starts_anew_serves_no_flipped_bit(
    bucket: Standin, warm: Node, tmp_path: Path
) -> None:
    """The file is fetched again; the other one was read through, which is a hit."""
    expected = warm.body()
    [path] = (tmp_path / "cache").rglob("price.*.bin")
    flip_a_bit(path)
    assert warm.body() != expected  # of one start it is believed
    start_of(str(tmp_path / "cache"), is_new=True)
    bucket.requests.clear()
    with node(bucket, str(tmp_path / "cache")) as again:
        assert again.body() == expected
        assert [key.rpartition("/")[2] for key in bucket.fetched()] == [path.name]
        assert again.counters[slots.STORE_CACHE_RUINED] == 1
        # Its times are asked for by two threads: one checks them, the other one finds them checked.
        assert again.counters[slots.STORE_CACHE_CHECKED] == 1
        assert again.counters[slots.STORE_CACHE_HITS] >= 1


def test_whole_copies_are_served_after_a_start_without_the_store(
    bucket: Standin, warm: Node, tmp_path: Path
) -> None:
    """Each is read through by who asks; for a ruined one there is an error, never what is in it."""
    expected = warm.body()
    bucket.fault = lambda _method, _key: error_reply(403, "ExpiredToken")
    start_of(str(tmp_path / "cache"), is_new=True)
    with node(bucket, str(tmp_path / "cache")) as again:
        assert again.body() == expected
    [price] = (tmp_path / "cache").rglob("price.*.bin")
    flip_a_bit(price)
    start_of(str(tmp_path / "cache"), is_new=True)
    with node(bucket, str(tmp_path / "cache")) as again, pytest.raises(StoreError):
        again.body()


def test_background_check_deletes_what_is_wrong_and_what_is_listed_no_more(
    bucket: Standin, warm: Node, tmp_path: Path
) -> None:
    """What is whole is believed from then on, without being read again."""
    cache = tmp_path / "cache"
    [price] = cache.rglob("price.*.bin")
    flip_a_bit(price)
    stray = path_of(cache, "size.01.01.20.bin")
    close_file(warm.cache.fill(SERIES, stray.name, ENTRY, writes()))
    start_of(str(cache), is_new=True)
    with node(bucket, str(cache)) as again:
        check_of(again, cache).run()
        assert [name.split(".")[0] for name in names(cache)] == ["time"]
        assert again.counters[slots.STORE_CACHE_RUINED] == 1
        assert again.counters[slots.STORE_CACHE_CHECKED] == 1
        [time] = cache.rglob("time.*.bin")
        assert again.cache.checks.is_checked(str(time))


def test_background_check_rests_for_as_long_as_its_bytes_take(
    warm: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small file counts as a larger one; what was checked costs nothing."""
    cache = tmp_path / "cache"
    start_of(str(cache), is_new=True)
    with_start = Node.__new__(Node)
    with_start.__dict__.update(warm.__dict__)
    with_start.cache = CacheDirectory(str(cache), GENEROUS)
    check = check_of(with_start, cache, 1_000_000)
    rests: list[float] = []
    monkeypatch.setattr(check._stop, "wait", rests.append)
    check.run()
    assert sum(rests) == pytest.approx(2 * 65_536 / 1_000_000)
    rests.clear()
    check.run()
    assert rests == []


def test_one_worker_checks_and_another_takes_over(warm: Node, tmp_path: Path) -> None:
    """The second one begins when the first has ended, and not before."""
    cache = tmp_path / "cache"
    first, second = (check_of(warm, cache) for _ in range(2))
    runs: dict[str, threading.Event] = {"first": threading.Event(), "second": threading.Event()}
    looked = threading.Event()
    first.run, second.run = runs["first"].set, runs["second"].set  # type: ignore[method-assign]
    first.start()
    assert runs["first"].wait(30)
    waits = second._stop.wait

    def wait(timeout: float | None = None) -> bool:
        looked.set()
        return waits(0.01 if timeout else None)

    second._stop.wait = wait  # type: ignore[method-assign]
    second.start()
    assert looked.wait(30)
    assert not runs["second"].is_set()
    first.close()
    assert runs["second"].wait(30)
    second.close()


def test_cache_without_attributes_is_written_to_the_disk_and_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system that has none."""
    synced: list[int] = []
    monkeypatch.setattr(checks, "_keeps_attributes", lambda _path: False)
    monkeypatch.setattr(os, "fsync", synced.append)
    cache = CacheDirectory(str(tmp_path), GENEROUS)
    synced.clear()
    close_file(cache.fill(SERIES, NAME, ENTRY, writes()))
    assert len(synced) == 1
    start_of(str(tmp_path), is_new=True)
    assert content_of(CacheDirectory(str(tmp_path), GENEROUS).open(SERIES, NAME, ENTRY)) == CONTENT
    monkeypatch.undo()
    assert ATTRIBUTE not in os.listxattr(path_of(tmp_path))


def test_full_disk_is_not_one_without_attributes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what a power cut has ruined would be believed, and be sent."""

    def refuse(number: int, *_: object) -> None:
        raise OSError(number, os.strerror(number))

    for number in (errno.ENOSPC, errno.EDQUOT, errno.ENOTSUP):
        monkeypatch.setattr(os, "setxattr", partial(refuse, number))
        assert Checks(str(tmp_path)).are_kept is (number != errno.ENOTSUP)
