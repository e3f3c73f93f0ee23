"""A disk that fails under the running worker: a status, or an abort, and the cause in the log."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import body_of, column_path, poll, seal, target_of, write_series
from tests.faults.download import (
    BOTH_LISTENERS,
    BOTH_WAYS,
    EVERY_WAY,
    Download,
    End,
    download,
    expect,
)
from tests.faults.strace import NEEDS_STRACE, injecting
from tests.server import Answer, ForkedServer, RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = NEEDS_STRACE

RECORDS = 1_500_000
SMALL_RECORDS = 500
PRICE_NAME = "price.01.01.70.bin"
_numbers = itertools.count()


class Scene:
    """A server over an open, a closed and a small series that no test changes."""

    def __init__(self, root: Path, server: RunningServer) -> None:
        self.root, self.server = root, server
        (self.worker,) = server.worker_pids()

    def price(self, series: str) -> str:
        """The path of its prices."""
        return column_path(self.root, series, "price")

    def target(self, series: str) -> str:
        """A target that nobody asked for before, so that it is planned."""
        return f"{target_of(series, 'price')}&n={next(_numbers)}"

    def body(self, series: str) -> bytes:
        """The right answer."""
        return body_of(self.root, series, ["price"])

    def logged(self, event: str, cause: str) -> bool:
        """Whether the log has a line of this event that names the cause."""
        return any(e["event"] == event and cause in json.dumps(e) for e in self.server.events())

    def is_well(self, way: str) -> None:
        """Nobody died, and the next honest answer is right."""
        assert self.server.event("worker_died") is None
        assert self.server.event("internal_error") is None
        end = download(self.server, way, target_of("SMALL", "price"))
        assert end == End(self.body("SMALL"), is_whole=True)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One server for all; its worker has one place for open files."""
    root = tmp_path_factory.mktemp("failing")
    write_series(root, "SMALL", SMALL_RECORDS)
    write_series(root, "OPEN", RECORDS)
    write_series(root, "CLOSED", RECORDS)
    seal(root, "CLOSED")
    with ForkedServer(root, **BOTH_LISTENERS, ZEROCOPY_MEMORY_OPEN_FILES_MAX="1") as server:
        yield Scene(root, server)
    shutil.rmtree(root)


BEFORE = [
    ("http1", "openat", "EIO", "Input/output error"),
    ("http1", "openat", "EACCES", "Permission denied"),
    ("http1", "openat", "EMFILE", ""),
    ("http1", "openat", "ENFILE", ""),
    ("http1", "openat", "ENOMEM", ""),
    ("http1", "newfstatat", "EIO", "Input/output error"),
    ("http1", "pread64", "EIO", "Input/output error"),
    ("http2", "openat", "EIO", "Input/output error"),
    ("http2", "openat", "EMFILE", ""),
    ("http2", "pread64", "EIO", "Input/output error"),
]


@pytest.mark.parametrize(("way", "call", "error", "cause"), BEFORE)
def test_call_that_fails_before_the_status_line_is_a_status(
    scene: Scene, way: str, call: str, error: str, cause: str
) -> None:
    """500 for a disk, 503 for a process that has run out; no path, no wording of the system."""
    status = 500 if cause else 503
    target, price = scene.target("SMALL"), scene.price("SMALL")
    with injecting(scene.worker, call, f"error={error}", price, PRICE_NAME):
        refused = download(scene.server, way, target)
    assert isinstance(refused, Answer)
    assert refused.status == status
    assert ("retry-after" in refused.fields) == (status == 503)
    assert refused.fields["content-type"] == "application/problem+json"
    assert str(scene.root).encode() not in refused.content
    assert b"rror]" not in refused.content
    assert cause.encode() not in refused.content or not cause
    if cause:
        poll(lambda: scene.logged("data_error", cause), f"a line in the log: {cause}")
    assert download(scene.server, way, target) == End(scene.body("SMALL"), is_whole=True)
    scene.is_well(way)


@BOTH_WAYS
def test_directory_that_cannot_be_listed_is_a_status(scene: Scene, way: str) -> None:
    """EIO of getdents64(2), of a series that nobody asked for before."""
    series = f"LIST-{way}"
    write_series(scene.root, series, SMALL_RECORDS)
    folder = os.path.dirname(scene.price(series))
    with injecting(scene.worker, "getdents64", "error=EIO", folder):
        refused = download(scene.server, way, scene.target(series))
    assert isinstance(refused, Answer)
    assert refused.status == 500
    poll(lambda: scene.logged("data_error", "Input/output error"), "a line in the log")
    end = download(scene.server, way, scene.target(series))
    assert end == End(scene.body(series), is_whole=True)


def test_root_that_cannot_be_opened_is_not_ready(scene: Scene) -> None:
    """EIO on the root itself: /readyz says so, and is right again afterwards."""
    with injecting(scene.worker, "openat", "error=EIO", str(scene.root)):
        assert scene.server.get("/readyz").status == 503
        assert scene.server.get("/healthz").status == 200
        assert scene.server.get("/api/symbols").status == 500
    assert scene.server.get("/readyz").status == 200
    assert scene.server.get("/api/symbols").status == 200


EIO, ESTALE, ENOMEM = "Input/output error", "Stale file handle", "Cannot allocate memory"
AMID = {
    ("http1", "OPEN", "sendfile", "error=EIO:when=3+"): EIO,
    ("http1", "CLOSED", "sendfile", "error=EIO:when=1+"): EIO,
    ("http1", "CLOSED", "sendfile", "error=ENOMEM:when=4+"): ENOMEM,
    ("http1", "OPEN", "sendfile", "retval=0:when=3+"): "truncated",
    ("http1", "CLOSED", "newfstatat", "error=EIO:when=4+"): EIO,
    ("http1-tls", "OPEN", "pread64", "error=EIO:when=3+"): EIO,
    ("http1-tls", "CLOSED", "newfstatat", "error=EIO:when=9+"): EIO,
    ("http2", "OPEN", "preadv,preadv2", "error=EIO:when=3+"): EIO,
    ("http2", "OPEN", "preadv,preadv2", "retval=0:when=3+"): "shorter",
    ("http2", "CLOSED", "newfstatat", "error=EIO:when=9+"): EIO,
    ("http2", "CLOSED", "newfstatat", "error=ESTALE:when=9+"): ESTALE,
}


@pytest.mark.parametrize(("way", "series", "call", "how"), AMID)
def test_call_that_fails_amid_a_transfer_aborts_it(
    scene: Scene, way: str, series: str, call: str, how: str
) -> None:
    """What came is right, it ends as cut off, and the log says why."""
    body, cause = scene.body(series), AMID[way, series, call, how]
    with injecting(scene.worker, call, how, scene.price(series)):
        end = download(scene.server, way, scene.target(series))
    expect(end, body)
    assert isinstance(end, End)
    assert not end.is_whole
    poll(lambda: scene.logged("transfer_aborted", cause), f"a line in the log: {cause}")
    scene.is_well(way)


@EVERY_WAY
@pytest.mark.parametrize("error", ["EIO", "EMFILE"])
def test_file_that_cannot_be_opened_again_aborts_once_and_is_then_a_status(
    scene: Scene, error: str, way: str
) -> None:
    """An answer promised again, of a file that was evicted: cut off, then not promised again."""
    target, body = scene.target("CLOSED"), scene.body("CLOSED")
    assert download(scene.server, way, target) == End(body, is_whole=True)
    evict(scene)
    with injecting(scene.worker, "openat", f"error={error}", PRICE_NAME):
        cut, refused = (download(scene.server, way, target) for _ in range(2))
    expect(cut, body)
    assert isinstance(cut, End)
    assert not cut.is_whole
    assert isinstance(refused, Answer)
    assert refused.status == (503 if error == "EMFILE" else 500)
    assert download(scene.server, way, target) == End(body, is_whole=True)
    scene.is_well(way)


def evict(scene: Scene) -> None:
    """Let another large answer take the only place for open files."""
    assert scene.server.get(target_of("OPEN", "price")).status == 200


@pytest.mark.parametrize(
    ("way", "series", "call", "how"),
    [
        ("http1", "OPEN", "sendfile", "error=EAGAIN:when=2+3"),
        ("http1", "CLOSED", "sendfile", "error=EINTR:when=2+3"),
        ("http2", "CLOSED", "mmap", "error=ENOMEM"),
        ("http2", "CLOSED", "mmap", "error=ENODEV"),
        ("http2", "OPEN", "preadv,preadv2", "error=EINTR:when=2+3"),
        ("http1-tls", "CLOSED", "mmap", "error=EPERM"),
    ],
)
def test_call_whose_failure_is_no_loss_changes_no_byte(
    scene: Scene, way: str, series: str, call: str, how: str
) -> None:
    """What can be asked again is asked again; what cannot be mapped is read."""
    evict(scene)
    with injecting(scene.worker, call, how, scene.price(series)):
        end = download(scene.server, way, scene.target(series))
    assert end == End(scene.body(series), is_whole=True)
    scene.is_well(way)


def test_slow_reader_amid_a_failing_disk_is_cut_off(scene: Scene) -> None:
    """The disk fails while the client does not read; what the kernel holds for it still arrives."""
    with Download(scene.server, "http1") as under_way:
        under_way.begin(scene.target("OPEN"))
        with injecting(scene.worker, "sendfile", "error=EIO", scene.price("OPEN")):
            end = under_way.end()
    expect(end, scene.body("OPEN"))
    assert not end.is_whole
    scene.is_well("http1")
