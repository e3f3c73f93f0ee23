"""The real server over a store that fails: right bytes, 503, or a cut; and then recovery."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import orjson
import pytest

from tests.faults.stored import (
    CLOSED_S,
    DAYS,
    RECORDS,
    TWO_WORKERS,
    expected,
    fill,
    get_by_tls,
    poll,
    serving,
    stored,
    target,
    until_right,
)
from tests.server import ForkedServer, RunningServer
from tests.standin import CREDENTIALS, Standin, error_reply
from tests.storage.trees import DAY, DAY_START_S, SERIES, marks, u32

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module", name="root")
def fixture_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the store has, on disk."""
    root = tmp_path_factory.mktemp("root")
    fill(root)
    return root


@pytest.fixture(name="bucket")
def fixture_bucket(root: Path) -> Iterator[Standin]:
    """A store of the test's own: nobody else's faults, requests or objects are in it."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    with stored(root) as bucket:
        yield bucket


@pytest.fixture(name="cache")
def fixture_cache(tmp_path: Path) -> Path:
    """The cache of `server`, empty."""
    return tmp_path / "cache"


@pytest.fixture(name="server")
def fixture_server(bucket: Standin, cache: Path) -> Iterator[RunningServer]:
    """Two workers over it, whose listings are asked for anew each second."""
    with serving(bucket, cache, **TWO_WORKERS) as server:
        yield server


def test_store_is_served_as_files_are(bucket: Standin, root: Path, cache: Path) -> None:
    """Data in every format, bars, symbols, catalog; caches may keep closed days for `list_s`."""
    with serving(bucket, cache, RunningServer, **TWO_WORKERS) as server:
        answer = server.get(target())
        assert answer.status == 200
        assert answer.content == expected(root)
        assert answer.fields["cache-control"] == "public, max-age=1, no-transform"
        assert len(bucket.fetched()) == len(set(bucket.fetched())) == DAYS + 2
        assert get_by_tls(server, target()).content == answer.content
        poll(lambda: server.metric("zerocopy_mapped_bytes") > 0)
        with ForkedServer(root) as local:
            check_same_answers(server, local)
        assert server.get("/readyz").status == 200
        assert server.metric("zerocopy_store_fetches_total") >= DAYS
        assert CREDENTIALS["AWS_ACCESS_KEY_ID"] not in server.log_text()


def check_same_answers(server: RunningServer, local: RunningServer) -> None:
    """Of a server over the store and of one over the files."""
    for format_ in ("arrow", "json", "csv"):
        asked = target(2, 3, format=format_)
        assert server.get(asked).content == local.get(asked).content
    bars = target(2, 3, "price:ohlc", interval="1h").replace("/api/data", "/api/bars")
    assert server.get(bars).content == local.get(bars).content
    asked = f"/api/catalog?exchange={SERIES.exchange}&symbol={SERIES.symbol}"
    assert server.get(asked).content == local.get(asked).content
    names = [orjson.loads(each.get("/api/symbols").content) for each in (server, local)]
    assert names[0]["symbols"] == names[1]["symbols"]
    assert names[0]["exchanges"][SERIES.exchange][0]["last_update"] == CLOSED_S


def test_nodes_of_one_store_agree_and_resume_for_each_other(
    server: RunningServer, bucket: Standin, root: Path, tmp_path: Path
) -> None:
    """The ETag of one is good for If-Range of the other, in ranges that it has yet to fetch."""
    body = expected(root)
    with serving(bucket, tmp_path) as other:
        first = server.get(target())
        middle = len(body) // 2
        fields = {"Range": f"bytes={middle}-", "If-Range": first.fields["etag"]}
        rest = other.get(target(), fields=fields)
        assert rest.status == 206
        assert first.content[:middle] + rest.content == body
        assert other.get(target()).fields["etag"] == first.fields["etag"]


def test_head_and_ranges_fetch_no_more_than_they_need(
    bucket: Standin, root: Path, tmp_path: Path
) -> None:
    """The first file, without which there is no status line, and those of the range."""
    ends = [f"price.{DAY + timedelta(days=number):%d.%m.%y}.bin" for number in (0, DAYS - 1)]
    with serving(bucket, tmp_path) as cold:
        for fields, method, columns in (
            ({}, "HEAD", ends[:1]),
            ({"If-None-Match": "*"}, "GET", []),
            ({"Range": "bytes=-100"}, "GET", ends[1:]),
        ):
            bucket.requests.clear()
            assert cold.get(target(), method=method, fields=fields).status < 400
            names = [name.rpartition("/")[2] for name in bucket.fetched()]
            assert [name for name in names if name.startswith("price.")] == columns
        assert cold.get(target()).content == expected(root)


def test_first_bytes_leave_while_the_store_holds_back_the_rest(
    bucket: Standin, root: Path, tmp_path: Path
) -> None:
    """The status line and the first day come; the others when the store gives them."""
    go = threading.Event()
    last = "/".join(("p", *SERIES, f"price.{DAY + timedelta(days=DAYS - 1):%d.%m.%y}.bin"))

    def hold_back(_method: str, key: str) -> None:
        if key == last:
            assert go.wait(30)

    bucket.fault = hold_back
    with serving(bucket, tmp_path, ZEROCOPY_S3_TIMEOUT_S="30") as cold:
        connection = http.client.HTTPConnection("127.0.0.1", cold.port, timeout=30)
        connection.request("GET", target())
        response = connection.getresponse()
        assert response.status == 200
        begin = response.read(RECORDS * 2)
        assert not go.is_set()
        go.set()
        assert begin + response.read() == expected(root)
        connection.close()


def test_what_is_in_the_cache_does_not_wait_for_what_is_not(
    bucket: Standin, root: Path, tmp_path: Path
) -> None:
    """The store holds back files of as many responses as there are reader threads at least."""
    for name, kept in list(bucket.objects.items()):
        cold = name.replace(f"/{SERIES.symbol}/", "/COLD/")
        bucket.put(cold, kept.content, CLOSED_S)
    with serving(bucket, tmp_path) as server:
        assert server.get(target()).content == expected(root)
    go, first = threading.Event(), f"price.{DAY:%d.%m.%y}.bin"

    def hold_back(_method: str, key: str) -> None:
        if "/COLD/" in key and "/price." in key and not key.endswith(first):
            assert go.wait(60)

    bucket.fault = hold_back
    # With few files open at once, those of a response are opened by the readers.
    options = {"ZEROCOPY_S3_TIMEOUT_S": "60", "ZEROCOPY_MEMORY_OPEN_FILES_MAX": "4"}
    with serving(bucket, tmp_path, **options) as server:
        cold = target().replace(f"symbol={SERIES.symbol}", "symbol=COLD")
        connections = []
        for _ in range(6):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            connection.request("GET", cold)
            response = connection.getresponse()
            response.read(RECORDS)
            connections.append((connection, response))
        assert server.get(target()).content == expected(root)
        assert not go.is_set()
        go.set()
        for connection, response in connections:
            response.read()
            connection.close()


def test_store_that_hangs_holds_up_nobody_who_needs_nothing_of_it(
    bucket: Standin, root: Path, tmp_path: Path
) -> None:
    """Data and bars wait for it, the worker lives, and kept or new answers of the cache come."""
    for name, kept in list(bucket.objects.items()):
        bucket.put(name.replace(f"/{SERIES.symbol}/", "/COLD/"), kept.content, CLOSED_S)
    go, held = threading.Event(), threading.Semaphore(0)

    def hang(_method: str, key: str) -> None:
        if "/COLD/" in key:
            held.release()
            assert go.wait(60)

    options = {"ZEROCOPY_S3_TIMEOUT_S": "60", "ZEROCOPY_LIMITS_PLANNER_THREADS": "1"}
    with serving(bucket, tmp_path, **options) as server, ThreadPoolExecutor() as clients:
        kept_answer = server.get(target()).content
        cold_data = target(0, 0).replace(f"symbol={SERIES.symbol}", "symbol=COLD")
        cold_bars = cold_data.replace("/api/data", "/api/bars").replace("=price", "=price:ohlc")
        bucket.fault = hang
        asked = [clients.submit(server.get, each) for each in (cold_data, cold_bars)]
        try:
            assert held.acquire(timeout=30)
            assert server.get("/healthz").status == 200
            assert server.get(target()).content == kept_answer == expected(root)
            assert server.get(target(1, 2)).content == expected(root, 1, 2)
            assert not any(each.done() for each in asked)
        finally:
            go.set()
        assert {each.result().status for each in asked} == {200}
        assert server.metric("zerocopy_worker_restarts_total") == 0


@pytest.mark.parametrize("path", ["/api/data", "/api/bars"])
def test_computed_answer_whose_file_is_gone_is_503(
    server: RunningServer, bucket: Standin, path: str
) -> None:
    """Its first file is there, so it is planned; what it is computed of is not."""
    copied = f"GONE{path.replace('/', '-')}"
    for name, kept in list(bucket.objects.items()):
        bucket.put(name.replace(f"/{SERIES.symbol}/", f"/{copied}/"), kept.content, CLOSED_S)
    bucket.listed = dict(bucket.objects)
    last = f"price.{DAY + timedelta(days=DAYS - 1):%d.%m.%y}.bin"
    [gone] = [name for name in bucket.objects if f"/{copied}/" in name and name.endswith(last)]
    del bucket.objects[gone]
    asked = target(format="csv")
    if path == "/api/bars":
        asked = target(columns="price:ohlc", interval="1h").replace("/api/data", path)
    answer = server.get(asked.replace(f"symbol={SERIES.symbol}", f"symbol={copied}"))
    assert (answer.status, "retry-after" in answer.fields) == (503, True)


@pytest.mark.parametrize("code", ["SlowDown", "ExpiredToken", "NoSuchBucket"])
def test_store_away_serves_what_is_here_uncacheable_and_503_else(
    server: RunningServer, bucket: Standin, root: Path, code: str
) -> None:
    """Never short; once the store is back everything is served, without a hand."""
    here = expected(root)
    assert server.get(target()).content == here
    for column, content in {"time": u32(DAY_START_S + 1), "price": marks(1)}.items():
        bucket.put(f"p/kraken/NEW/MD/{column}.{DAY:%d.%m.%y}.bin", content, CLOSED_S)
    status = {"SlowDown": 503, "ExpiredToken": 403, "NoSuchBucket": 404}[code]
    bucket.fault = lambda _method, _key: error_reply(status, code)
    asked = (
        target(0, 0)
        .replace(SERIES.exchange, "kraken")
        .replace(f"symbol={SERIES.symbol}", "symbol=NEW")
    )
    answer = server.get(asked)
    assert answer.status == 503
    assert answer.fields["retry-after"]
    assert server.get(target()).content == here
    poll(lambda: "no-cache" in server.get(target()).fields["cache-control"])  # its listing is old
    assert server.get(target()).content == here
    assert CREDENTIALS["AWS_ACCESS_KEY_ID"] not in server.log_text()
    bucket.fault = lambda _method, _key: None

    def is_served() -> bool:
        again = server.get(asked)
        assert again.status == 503 or again.content.endswith(marks(1))
        return again.status == 200

    poll(is_served)


def test_answer_that_cannot_be_finished_is_cut(bucket: Standin, root: Path, tmp_path: Path) -> None:
    """The store goes away amid it: fewer bytes than promised, and no clean end; then all of it."""
    late = "/".join(("p", *SERIES, f"price.{DAY + timedelta(days=DAYS - 1):%d.%m.%y}.bin"))
    bucket.fault = lambda _method, key: error_reply(503, "SlowDown") if key == late else None
    with serving(bucket, tmp_path) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("GET", target())
        response = connection.getresponse()
        assert response.status == 200
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            response.read()
        connection.close()
        bucket.fault = lambda _method, _key: None
        until_right(lambda: server.get(target()), expected(root))


def test_killed_amid_a_fetch_comes_back_right(bucket: Standin, root: Path, tmp_path: Path) -> None:
    """SIGKILL of the worker, while the store is halfway through its files."""
    begun, go = threading.Event(), threading.Event()

    def hold_back(method: str, key: str) -> None:
        if method == "GET" and "price" in key:
            begun.set()
            go.wait(30)

    bucket.fault = hold_back
    with serving(bucket, tmp_path) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(f"GET {target()} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert begun.wait(30)
            [pid] = server.worker_pids()
            os.kill(pid, signal.SIGKILL)
        go.set()
        bucket.fault = lambda _method, _key: None
        poll(lambda: server.worker_pids() not in ([], [pid]))
        until_right(lambda: server.get(target()), expected(root))
        # A lock goes after its file has come, which may have been sent by then.
        poll(lambda: not list(tmp_path.rglob(".*.bin.*")))


def test_ruined_cache_is_fetched_again(server: RunningServer, cache: Path, root: Path) -> None:
    """Files of the cache that are written over or cut while they are open: a cut answer at most."""
    until_right(lambda: server.get(target()), expected(root))
    until_right(lambda: get_by_tls(server, target()), expected(root))
    ruined = sorted(cache.rglob("price.*.bin"))
    assert len(ruined) >= DAYS
    for number, path in enumerate(ruined):
        if number % 2:
            path.write_bytes(bytes(path.stat().st_size))
        else:
            os.truncate(path, 100)
    until_right(lambda: server.get(target()), expected(root))
    until_right(lambda: get_by_tls(server, target()), expected(root))


def test_flipped_bits_are_not_served_after_a_start(
    bucket: Standin, root: Path, tmp_path: Path
) -> None:
    """Length and times of the files are as they were; the other files are not fetched again."""
    with serving(bucket, tmp_path) as server:
        assert server.get(target()).content == expected(root)
    ruined = sorted(tmp_path.rglob("price.*.bin"))[::2]
    for path in ruined:
        status, content = path.stat(), bytearray(path.read_bytes())
        content[-1] ^= 128
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    bucket.requests.clear()
    with serving(bucket, tmp_path) as server:
        assert server.get(target()).content == expected(root)
        names = sorted(name.rpartition("/")[2] for name in bucket.fetched())
        assert names == sorted(path.name for path in ruined)
        assert server.metric("zerocopy_store_cache_ruined_total") >= len(ruined)
        poll(lambda: server.metric("zerocopy_store_cache_checked_total") >= DAYS - len(ruined))


def test_cache_smaller_than_the_answer_streams_it_all_the_same(
    bucket: Standin, root: Path, tmp_path: Path
) -> None:
    """What was sent makes room for what is to come."""
    with serving(bucket, tmp_path, ZEROCOPY_S3_CACHE_BYTES_MAX="150000") as server:
        for _ in range(2):
            assert server.get(target()).content == expected(root)
        assert server.metric("zerocopy_store_cache_deleted_total") > 0
