"""What the worker asks of the kernel, as strace(1) sees it: the promise in the project's name."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.blackbox.tracing import calls_of, traced
from tests.faults.client import (
    LARGE_BYTES,
    SMALL,
    Client,
    body_of,
    column_path,
    make_root,
    request_of,
    target_of,
)
from tests.server import ForkedServer, RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

HUGE_COLUMNS = ("price", "price1", "price2", "price3", "price4")
HUGE = target_of("LARGE", ",".join(HUGE_COLUMNS))
HUGE_BYTES = len(HUGE_COLUMNS) * LARGE_BYTES
RESIDENT_BYTES_MAX = 80_000_000
REQUESTS = 200
TICKS_MAX = 40
"""Waits that end without a request: four ticks a second, for ten seconds at the most."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The sample data, and 80 MB an answer by giving one column five names."""
    path = tmp_path_factory.mktemp("system_calls")
    make_root(path)
    for column in HUGE_COLUMNS[1:]:
        os.link(column_path(path, "LARGE", "price"), column_path(path, "LARGE", column))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def server(root: Path) -> Iterator[RunningServer]:
    """A fresh worker, so that its peak of memory is of this test."""
    with RunningServer(root) as running:
        yield running


@pytest.fixture(scope="module")
def shared(root: Path) -> Iterator[RunningServer]:
    """A worker that served others before."""
    with ForkedServer(root) as running:
        yield running


def peak_resident_bytes(pid: int) -> int:
    """The most memory a process has held so far."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1_024 for line in file if line.startswith("VmHWM"))


@pytest.mark.parametrize("form", ["columns", "arrow"])
def test_large_answer_leaves_through_sendfile(
    server: RunningServer, tmp_path: Path, form: str
) -> None:
    """Of 80 MB, 99 % and more is moved by sendfile(2), in turns, and none of it passes memory."""
    (worker,) = server.worker_pids()
    request = request_of(f"{HUGE}&format={form}")
    received = 0
    with Client(server) as client:
        client.send(request.replace(b"GET", b"HEAD", 1))
        assert client.head()[0] == 200  # what the format needs is loaded
    with traced(worker, tmp_path / "trace"), Client(server) as client:
        client.send(request)
        status, fields = client.head()
        length = int(fields["content-length"])
        while part := client.read(min(1 << 20, length - received)):
            received += len(part)
    calls = calls_of(tmp_path / "trace")
    sent = Counter[str]()
    for name, result in calls:
        sent[name] += max(result, 0)
    tally = Counter(name for name, _ in calls)
    copied = sum(sent[name] for name in ("sendmsg", "sendto", "write", "writev", "sendmmsg"))
    assert status == 200
    assert received == length > HUGE_BYTES
    assert sent["sendfile"] >= 0.99 * received, tally
    assert sent["sendfile"] == HUGE_BYTES, tally
    assert copied < 4_096, tally
    assert not {"read", "pread64", "preadv", "readv"} & {
        name for name, result in calls if result > 65_536
    }
    assert peak_resident_bytes(worker) < RESIDENT_BYTES_MAX


def test_range_leaves_through_sendfile_at_its_offset(
    shared: RunningServer, root: Path, tmp_path: Path
) -> None:
    """A range of a large answer is one call at its offset: nothing else of the file is touched."""
    (worker,) = shared.worker_pids()
    expected = body_of(root, "LARGE", HUGE_COLUMNS)
    first, count = len(expected) // 2, 50_000
    request = request_of(HUGE).replace(
        b"\r\n\r\n", b"\r\nRange: bytes=%d-%d\r\n\r\n" % (first, first + count - 1)
    )
    with traced(worker, tmp_path / "trace"), Client(shared) as client:
        client.send(request)
        answer = client.answer()
    assert (answer.status, answer.content) == (206, expected[first : first + count])
    sent = [result for name, result in calls_of(tmp_path / "trace") if name == "sendfile"]
    assert sent == [count]


def test_repeated_304_costs_a_wait_a_read_a_send_and_its_proof(
    shared: RunningServer, tmp_path: Path
) -> None:
    """What a client has already costs the calls of a small answer, without its bytes."""
    (worker,) = shared.worker_pids()
    with Client(shared) as client:
        client.send(request_of(SMALL))
        etag = client.answer().fields["etag"]
        tag_field = b"\r\nIf-None-Match: %s\r\n\r\n" % etag.encode()
        request = request_of(SMALL).replace(b"\r\n\r\n", tag_field)
        for _ in range(5):
            client.send(request)
            assert client.answer().status == 304
        with traced(worker, tmp_path / "trace"):
            for _ in range(REQUESTS):
                client.send(request)
                assert client.answer().status == 304
    tally = Counter(name for name, _ in calls_of(tmp_path / "trace"))
    assert tally["recvfrom"] == tally["sendto"] == REQUESTS
    assert sum(tally[name] for name in ("lstat", "newfstatat", "statx")) == 2 * REQUESTS
    assert not {"sendmsg", "sendfile", "openat", "pread64"} & tally.keys()


def test_large_answer_is_exact(server: RunningServer, root: Path) -> None:
    """Five columns of 16 MB each arrive as they lie on disk, in order, behind the header line."""
    (worker,) = server.worker_pids()
    expected = body_of(root, "LARGE", HUGE_COLUMNS)
    with Client(server) as client:
        client.send(request_of(HUGE))
        _, fields = client.head()
        assert int(fields["content-length"]) == len(expected)
        for position in range(0, len(expected), 1 << 22):
            part = expected[position : position + (1 << 22)]
            assert client.read(len(part)) == part
    assert peak_resident_bytes(worker) < RESIDENT_BYTES_MAX


@pytest.mark.parametrize(
    ("target", "proofs"),
    [
        pytest.param(SMALL, 2, id="time and price"),
        pytest.param(target_of("SMALL", "price"), 2, id="price, whose proof needs time too"),
        pytest.param(target_of("SMALL", "time"), 1, id="time alone"),
    ],
)
def test_repeated_small_answer_costs_a_wait_a_read_a_send_and_its_proof(
    shared: RunningServer, tmp_path: Path, target: str, proofs: int
) -> None:
    """A repeated request is epoll_wait, recvfrom, an lstat for each file, one send, and no more."""
    (worker,) = shared.worker_pids()
    request = request_of(target)
    with Client(shared) as client:
        for _ in range(5):
            client.send(request)
            warm = client.answer()
        with traced(worker, tmp_path / "trace"):
            for _ in range(REQUESTS):
                client.send(request)
                assert client.answer().content == warm.content
    assert_one_call_each(tmp_path / "trace", proofs)


def assert_one_call_each(trace: Path, proofs: int, send: str = "sendto") -> None:
    """A request is one recv, one send, one wait, and an lstat for each file of its proof."""
    tally = Counter(name for name, _ in calls_of(trace))
    waits = sum(tally.pop(name, 0) for name in ("epoll_wait", "epoll_pwait", "epoll_pwait2"))
    stats = sum(tally.pop(name, 0) for name in ("lstat", "newfstatat", "statx"))
    assert tally == {"recvfrom": REQUESTS, send: REQUESTS}, tally
    assert stats == proofs * REQUESTS
    assert REQUESTS <= waits <= REQUESTS + TICKS_MAX


def test_requests_that_differ_in_their_rays_cost_as_many_calls_as_equal_ones(
    shared: RunningServer, tmp_path: Path
) -> None:
    """Behind a tunnel each head is new and is parsed: it costs no call more than a known one.

    Its answer leaves by sendmsg(2), that to a known head by send(2).
    """
    (worker,) = shared.worker_pids()
    requests = [
        request_of(SMALL, "Accept-Encoding: gzip, br", f"Cf-Ray: {number:016x}-FRA", "A: b")
        for number in range(REQUESTS + 5)
    ]
    with Client(shared) as client:
        for request in requests[:5]:
            client.send(request)
            warm = client.answer()
        with traced(worker, tmp_path / "trace"):
            for request in requests[5:]:
                client.send(request)
                assert client.answer().content == warm.content
    assert_one_call_each(tmp_path / "trace", 2, "sendmsg")


def test_new_plan_of_a_small_answer_opens_each_file_once(
    server: RunningServer, tmp_path: Path
) -> None:
    """The first answer opens and reads each of its files once, and leaves none open."""
    (worker,) = server.worker_pids()
    with traced(worker, tmp_path / "trace"), Client(server) as client:
        client.send(request_of(SMALL))
        assert client.answer().status == 200
    text = (tmp_path / "trace").read_text(encoding="ascii")
    for column in ("time", "price"):
        assert len(re.findall(rf'open\w*\([^)]*"{column}\.01\.01\.70\.bin"', text)) == 1, text
