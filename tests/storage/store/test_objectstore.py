"""`ObjectStore` over the stand-in: what it lists and reads, and what its faults say."""

from __future__ import annotations

import os
import sys
import zlib
from typing import TYPE_CHECKING

import pytest

from tests.standin import CREDENTIALS, Reply, error_reply
from tests.storage.store.bench import store_of
from zerocopy.core.errors import ConfigError, StoreError
from zerocopy.storage.store.breaker import FAILURES_MAX, Breaker
from zerocopy.storage.store.objectstore import (
    PART_BYTES,
    PARTS,
    ObjectChangedError,
    ObjectStore,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standin import Standin

ODD = "p/ex/t^A:U#S&~D+@=/MD/time.01.01.25.bin"


@pytest.fixture(name="fd")
def fixture_fd(tmp_path: Path) -> Iterator[int]:
    """A descriptor to read into."""
    fd = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def test_every_name_is_listed_and_read(bucket: Standin, fd: int) -> None:
    """All characters that names may have, below the prefix alone, in pages."""
    bucket.page = 2
    content = {ODD: b"abcd", **{f"p/ex/X/MD/time.{day:02}.01.25.bin": b"x" for day in range(1, 6)}}
    for key, data in {**content, "q/ex/X/MD/time.01.01.25.bin": b"other"}.items():
        bucket.put(key, data, 1_700_000_000)
    store = store_of(bucket)
    found = dict(store.files())
    assert {f"p/{key}" for key in found} == content.keys()
    assert store.folders("ex") == ["X", "t^A:U#S&~D+@="]
    assert list(store.files("ex/Y")) == []
    entry = found[ODD.removeprefix("p/")]
    assert (entry.size, entry.modified_ns // 10**9) == (4, 1_700_000_000)
    store.read_into(ODD.removeprefix("p/"), entry, fd)
    assert os.pread(fd, 100, 0) == b"abcd"


def test_identity_of_a_file_differs_with_its_content(bucket: Standin) -> None:
    """In one second and with one length; the same content put again in that second is the same."""
    store = store_of(bucket)
    seen = []
    for content in (b"abcd", b"abce", b"abcd"):
        bucket.put(ODD, content, 1_700_000_000)
        seen.append(next(entry for _, entry in store.files()).modified_ns)
    assert seen[0] == seen[2] != seen[1]


@pytest.mark.parametrize("extra", [0, 12_345])
def test_large_file_comes_in_parts(bucket: Standin, fd: int, extra: int) -> None:
    """More of them than are in memory at a time."""
    content = os.urandom(PART_BYTES) * PARTS + bytes(extra) + b"the end"
    bucket.put(ODD, content)
    store = store_of(bucket)
    [(key, entry)] = store.files()
    assert store.read_into(key, entry, fd) == zlib.crc32(content)
    assert os.pread(fd, len(content) + 1, 0) == content
    assert len(bucket.fetched()) == len(content) // PART_BYTES + 1


@pytest.mark.parametrize("check_md5", [True, False])
def test_sum_of_what_came_is_told(bucket: Standin, fd: int, check_md5: bool) -> None:  # noqa: FBT001
    """Of a file that comes at once, and of one in several pieces."""
    store = store_of(bucket, check_md5=check_md5)
    for size in (4, 3 << 20):
        content = os.urandom(size)
        bucket.put(ODD, content)
        [(key, entry)] = store.files()
        assert store.read_into(key, entry, fd) == zlib.crc32(content)


def test_large_file_that_is_replaced_meanwhile_is_not_taken(bucket: Standin, fd: int) -> None:
    """Parts of two files are never one."""
    bucket.put(ODD, bytes(PART_BYTES * 2), 1_700_000_000)
    store = store_of(bucket, check_md5=False)
    [(key, entry)] = store.files()

    def replace(method: str, _key: str) -> Reply | None:
        if method == "GET":
            bucket.put(ODD, bytes([1]) * PART_BYTES * 2, 1_700_000_000)
        return None

    bucket.fault = replace
    with pytest.raises(ObjectChangedError):
        store.read_into(key, entry, fd)


def test_part_of_another_length_is_no_part(bucket: Standin, fd: int) -> None:
    """Even where one is as much too long as another is too short."""
    bucket.put(ODD, bytes(PART_BYTES * 2), 1_700_000_000)
    store = store_of(bucket, check_md5=False)
    [(key, entry)] = store.files()
    extra = iter([4, -4])

    def shift(method: str, name: str) -> Reply | None:
        if method != "GET" or not name:
            return None
        size = PART_BYTES + next(extra, 0)
        begin = 0 if size >= PART_BYTES else PART_BYTES
        fields = {
            "ETag": bucket.objects[ODD].etag,
            "Last-Modified": "Tue, 14 Nov 2023 22:13:20 GMT",
            "Content-Range": f"bytes {begin}-{begin + PART_BYTES - 1}/{PART_BYTES * 2}",
        }
        return Reply(206, fields, bytes(size))

    bucket.fault = shift
    with pytest.raises(StoreError):
        store.read_into(key, entry, fd)


@pytest.mark.parametrize("size", [4, PART_BYTES + 4])
def test_disk_that_is_full_is_no_fault_of_the_store(bucket: Standin, size: int) -> None:
    """It is told as it is, so that the cache makes room; the breaker stays closed."""
    bucket.put(ODD, bytes(size))
    breaker = Breaker()
    store = store_of(bucket, breaker)
    [(key, entry)] = store.files()
    full = os.open("/dev/full", os.O_RDWR)
    for _ in range(FAILURES_MAX):
        with pytest.raises(OSError, match="No space left"):
            store.read_into(key, entry, full)
    os.close(full)
    assert not breaker.is_open


def test_etag_that_is_no_md5_is_believed_where_that_is_configured(bucket: Standin, fd: int) -> None:
    """An ETag of SSE-KMS looks like one."""
    bucket.put(ODD, b"abcd")
    stored = bucket.objects[ODD]
    bucket.objects[ODD] = type(stored)(stored.content, stored.modified_s, f'"{"0" * 32}"')
    [(key, entry)] = store_of(bucket).files()
    with pytest.raises(StoreError) as caught:
        store_of(bucket).read_into(key, entry, fd)
    assert "check_md5" in str(caught.value.__cause__)
    store_of(bucket, check_md5=False).read_into(key, entry, fd)


@pytest.mark.parametrize(
    ("status", "code"), [(503, "SlowDown"), (403, "ExpiredToken"), (404, "NoSuchBucket")]
)
def test_cause_of_a_fault_names_it_and_no_credentials(
    bucket: Standin, fd: int, status: int, code: str
) -> None:
    """Neither key nor secret nor what was signed, anywhere in the chain of causes."""
    bucket.put(ODD, b"abcd")
    store = store_of(bucket)
    [(key, entry)] = store.files()
    bucket.fault = lambda _method, _key: error_reply(status, code)
    for call in (lambda: [*store.files()], lambda: store.read_into(key, entry, fd)):
        with pytest.raises(StoreError) as caught:
            call()
        told = f"{caught.value} {caught.value.__cause__!r}"
        assert code in told
        assert CREDENTIALS["AWS_ACCESS_KEY_ID"] not in told
        assert "secret" not in told


def test_store_that_throttles_is_asked_again(bucket: Standin, fd: int) -> None:
    """Once or twice is no fault."""
    bucket.put(ODD, b"abcd")
    left = [2]

    def slow_down(_method: str, _key: str) -> Reply | None:
        left[0] -= 1
        return error_reply(503, "SlowDown") if left[0] >= 0 else None

    bucket.fault = slow_down
    store = store_of(bucket)
    [(key, entry)] = store.files()
    left[0] = 2
    store.read_into(key, entry, fd)
    assert os.pread(fd, 100, 0) == b"abcd"


def test_store_that_failed_in_a_row_is_left_alone(bucket: Standin) -> None:
    """Nothing is sent any more; after a while one call finds out."""
    now_s = [0.0]
    breaker = Breaker(lambda: now_s[0])
    store = store_of(bucket, breaker)
    bucket.fault = lambda _method, _key: error_reply(403, "ExpiredToken")
    for _ in range(FAILURES_MAX):
        with pytest.raises(StoreError):
            list(store.files())
    before = len(bucket.requests)
    with pytest.raises(StoreError):
        list(store.files())
    assert len(bucket.requests) == before
    bucket.fault = lambda _method, _key: None
    now_s[0] += 60.0
    assert list(store.files()) == []
    assert not breaker.is_open


def test_file_that_is_put_is_read_back(bucket: Standin, tmp_path: Path, fd: int) -> None:
    """A small one at once and a large one in parts."""
    store = store_of(bucket)
    for size in (4, 20 << 20):
        (tmp_path / "in").write_bytes(os.urandom(size))
        store.put("ex/X/MD/time.01.01.25.bin", str(tmp_path / "in"))
        [(key, entry)] = store.files()
        store_of(bucket, check_md5=False).read_into(key, entry, fd)
        assert os.pread(fd, size + 1, 0) == (tmp_path / "in").read_bytes()


def test_url_with_a_password_stops_the_start_and_is_not_repeated() -> None:
    """It would be in every log; a container and an account of Azure are no such thing."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    with pytest.raises(ConfigError, match="credentials do not belong") as caught:
        ObjectStore("s3://AKIA:very/secret@bucket/p", Breaker())
    assert "very" not in str(caught.value)
    ObjectStore("abfss://container@account.dfs.core.windows.net/p", Breaker())


def test_missing_library_and_wrong_url_stop_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that names the extra, or the URL."""
    with pytest.raises(ConfigError, match="wrong://bucket"):
        ObjectStore("wrong://bucket", Breaker())
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigError, match=r"zerocopy\[s3\]"):
        ObjectStore("s3://bucket", Breaker())
