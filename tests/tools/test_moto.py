"""The object store over moto's S3, which others wrote; `MOTO_SERVER` names its command.

What S3 does is in `tests/standin.py` as we understood it. Here the main ways meet others' reading.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.command_line import environment, run_forked
from tests.moto_server import COMMAND, MotoServer
from tests.naive import naive_answer
from tests.server import ForkedServer
from tests.standin import BUCKET, CREDENTIALS, environ_of
from tests.storage.trees import DAY, DAY_S, DAY_START_S, SERIES, marks, put, u32
from zerocopy.core.layout import day_of
from zerocopy.storage.store.breaker import Breaker
from zerocopy.storage.store.objectstore import PART_BYTES, ObjectChangedError, ObjectStore
from zerocopy.storage.store.pushing import push_days

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

URL = f"s3://{BUCKET}/p"
DAYS, RECORDS = 4, 8_640
"""One record each ten seconds: a day of a column is no small answer."""

TARGET = (
    f"/api/data?exchange={SERIES.exchange}&symbol={SERIES.symbol}&type={SERIES.type}"
    f"&start={DAY_START_S + 1}&end={DAY_START_S + DAYS * DAY_S - 2}&columns=time,price"
)
"""All days, the first and the last of them cut."""


class Stored(NamedTuple):
    """Day files on disk that were pushed to a store, and the store by our client."""

    moto: MotoServer
    root: Path
    store: ObjectStore


@pytest.fixture(scope="module", name="stored")
def fixture_stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """The days of a series."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    if COMMAND is None:
        pytest.skip("moto_server is not installed, or MOTO_SERVER does not name it: make test-moto")
    root = tmp_path_factory.mktemp("root")
    for number in range(DAYS):
        first_s = DAY_START_S + number * DAY_S
        columns = {
            "time": u32(*range(first_s, first_s + DAY_S, 10)),
            "price": marks(RECORDS, base=number * RECORDS),
        }
        put(str(root), columns, DAY + timedelta(days=number))
    first = day_of(DAY_START_S)
    with pytest.MonkeyPatch.context() as patch, MotoServer() as moto:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        store = ObjectStore(URL, Breaker(), endpoint=moto.url, allow_http=True)
        pushed = push_days(store, str(root), SERIES, range(first, first + DAYS))
        assert pushed.files == 2 * DAYS
        yield Stored(moto, root, store)


def test_listing_comes_in_pages_with_sizes_and_tags(stored: Stored) -> None:
    """All that was pushed: its lengths and, as ETags, its MD5. Pushed again, nothing is put."""
    status, page = stored.moto.ask("GET", f"/{BUCKET}?list-type=2&prefix=p/")
    assert status == 200
    assert b"<IsTruncated>true</IsTruncated>" in page
    prefix, first = "/".join(SERIES), day_of(DAY_START_S)
    found = {
        key.removeprefix(f"{prefix}/"): (entry.size, entry.etag.strip('"'))
        for key, entry in stored.store.files(prefix)
    }
    folder = stored.root.joinpath(*SERIES)
    assert found == {
        path.name: (path.stat().st_size, hashlib.md5(path.read_bytes()).hexdigest())
        for path in folder.iterdir()
    }
    assert SERIES.exchange in stored.store.folders("")
    again = push_days(stored.store, str(stored.root), SERIES, range(first, first + DAYS))
    assert again == (0, 0, DAYS)


def test_cold_query_is_that_of_the_files_on_every_node(stored: Stored, tmp_path: Path) -> None:
    """Content as the oracle has it, one ETag, a range and a 304 by the other node's."""
    expected = naive_answer(
        str(stored.root),
        *SERIES,
        DAY_START_S + 1,
        DAY_START_S + DAYS * DAY_S - 2,
        ["time", "price"],
    )
    tags = []
    for name in ("one", "other"):
        with ForkedServer(URL, **environ_of(stored.moto.url, tmp_path / name)) as server:
            answer = server.get(TARGET)
            assert (answer.status, answer.content) == (200, expected)
            tags.append(answer.fields["etag"])
            part = server.get(TARGET, fields={"Range": "bytes=100-", "If-Range": tags[0]})
            assert (part.status, part.content) == (206, expected[100:])
            assert server.get(TARGET, fields={"If-None-Match": tags[0]}).status == 304
    assert tags[0] == tags[1]


def test_object_put_in_parts_is_read_in_parts(stored: Stored, tmp_path: Path) -> None:
    """Its ETag is that of its parts, and proves it; so it proves a copy of which the rest came."""
    content = os.urandom(PART_BYTES + 12_345)
    (tmp_path / "in").write_bytes(content)
    stored.store.put("large/L/MD/price.01.01.25.bin", str(tmp_path / "in"))
    [(key, entry)] = stored.store.files("large")
    assert entry.etag.strip('"').endswith("-2")
    assert stored.store.is_provable(entry)
    fd = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    try:
        assert stored.store.read_into(key, entry, fd) == zlib.crc32(content)
        assert os.pread(fd, len(content) + 1, 0) == content
        assert stored.store.read_rest_into(key, entry, fd, PART_BYTES)
        os.pwrite(fd, bytes([content[0] ^ 1]), 0)
        assert not stored.store.read_rest_into(key, entry, fd, PART_BYTES)
    finally:
        os.close(fd)


def test_object_that_was_replaced_or_deleted_is_not_taken(stored: Stored, tmp_path: Path) -> None:
    """Each says that another listing is needed, and neither that the store is away."""
    key = "changing/C/MD/price.01.01.25.bin"
    for content in (b"first", b"other"):
        (tmp_path / "in").write_bytes(content)
        before = dict(stored.store.files("changing"))
        stored.store.put(key, str(tmp_path / "in"))
    fd = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    try:
        with pytest.raises(ObjectChangedError):
            stored.store.read_into(key, before[key], fd)
        now = dict(stored.store.files("changing"))
        for _ in range(2):
            stored.store.remove(key)
        with pytest.raises(ObjectChangedError):
            stored.store.read_into(key, now[key], fd)
    finally:
        os.close(fd)


def test_import_puts_days_that_prefetch_brings_back(stored: Stored, tmp_path: Path) -> None:
    """The copies in the cache are the files that were imported."""
    pytest.importorskip("polars", reason="the extra import is not installed")
    (tmp_path / "trades.csv").write_text("time,price\n1735689599,2.5\n1735689600,3.5\n")
    environ = environment(DATA_PATH=URL, **environ_of(stored.moto.url, tmp_path / "cache"))
    arguments = (
        *("import", str(tmp_path / "trades.csv"), "--root", str(tmp_path / "new")),
        *("--exchange=kraken", "--symbol=NEW", "--type=TRADES", "--map=price=price", f"--to={URL}"),
    )
    done = run_forked(arguments, environ)
    assert done.returncode == 0, done.stderr
    fetched = run_forked(("prefetch", "--exchange=kraken", "--symbol=NEW"), environ)
    assert fetched.returncode == 0, fetched.stderr
    folders = [tmp_path / "new", tmp_path / "cache" / "data"]
    new, copies = (
        {path.name: path.read_bytes() for path in folder.rglob("*.bin")} for folder in folders
    )
    assert new.keys() >= {"time.31.12.24.bin", "price.01.01.25.bin"}
    assert copies == new
