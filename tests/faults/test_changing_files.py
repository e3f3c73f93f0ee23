"""Day files that change while they are sent: the right bytes or an abort, never anything else."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import (
    TINY_BUFFER_BYTES,
    Client,
    column_path,
    poll,
    request_of,
    seal,
    target_of,
    write_series,
)
from tests.server import ForkedServer, RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECORDS = 2_000_000
NBYTES = 4 * RECORDS
"""Of a column: twice what the kernel takes of an answer that nobody reads (tcp_wmem)."""


class Scene:
    """A day of a type of its own, which a test may ruin, and the bytes it had."""

    def __init__(self, root: Path, server: RunningServer, series: str) -> None:
        self.server = server
        self.price = write_series(root, series, RECORDS)
        self.price_path = column_path(root, series, "price")
        self.time_path = column_path(root, series, "time")
        self.target = target_of(series, "price")
        self.target_of_both = target_of(series, "price,time")
        self.aborted = server.metric("zerocopy_transfers_aborted_total")

    def begin(self, client: Client, target: str) -> bytes:
        """Ask, read a first part, and leave the rest unread; the header line is dropped."""
        client.send(request_of(target))
        status, _ = client.head()
        assert status == 200
        line = b""
        while not line.endswith(b"\n"):
            line += client.read(1)
        return client.read(100_000)

    def evict(self) -> None:
        """Wait until nothing more can be sent, then let another answer take the only place."""
        seen = [-1.0]

        def is_stalled() -> bool:
            seen.append(self.server.metric('zerocopy_sent_bytes_total{path="sendfile"}'))
            return seen[-1] == seen[-2]

        poll(is_stalled, "the answer to stall")
        assert self.server.get(target_of("OTHER")).status == 200
        assert not self.is_open()

    def is_open(self) -> bool:
        """Whether the worker has the price file open."""
        (worker,) = self.server.worker_pids()
        fds = f"/proc/{worker}/fd"
        for fd in os.listdir(fds):
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(f"{fds}/{fd}") == self.price_path:
                    return True
        return False

    def assert_aborted(
        self, client: Client, begun: bytes, nbytes: int = NBYTES, torn: int = NBYTES
    ) -> None:
        """What came is right, the rest never comes, the end is a reset, and the server is well.

        What the kernel holds for the client are the file's own pages, so truncating the file at
        byte `torn` clears what follows in its folio even there (sendfile(2), NOTES). The abort
        tells the client so.
        """
        rest, is_reset = client.read_until_end(nbytes)
        body = begun + rest
        assert is_reset, "an answer that is cut off ends with a reset, not with a FIN"
        assert len(body) < nbytes
        assert body[:torn] == self.price[: min(torn, len(body))]
        poll(lambda: self.server.metric("zerocopy_connections") == 0, "the connection to be gone")
        assert self.server.logged("transfer_aborted")
        metric = "zerocopy_transfers_aborted_total"
        poll(lambda: self.server.metric(metric) == self.aborted + 1, "the abort to be counted")
        assert self.server.get("/healthz").status == 200


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, RunningServer]]:
    """A root and its server, which has one place for open files."""
    root = tmp_path_factory.mktemp("changing")
    write_series(root, "OTHER", 50_000)
    with ForkedServer(
        root, ZEROCOPY_MEMORY_OPEN_FILES_MAX="1", ZEROCOPY_SERVER_DRAIN_DEADLINE_S="2"
    ) as server:
        yield root, server
    shutil.rmtree(root)


@pytest.fixture(params=["open day", "closed day"])
def scene(shared: tuple[Path, RunningServer], request: pytest.FixtureRequest) -> Scene:
    """A fresh day of 20 MB a column, still written or settled long ago."""
    root, server = shared
    series = f"T{len(os.listdir(os.path.join(root, 'coinbase', 'BTC-USD')))}"
    scene = Scene(root, server, series)
    if request.param == "closed day":
        seal(root, series)
    return scene


@pytest.mark.parametrize("left_bytes", [0, 100_000, NBYTES - 4])
def test_file_truncated_while_sent_aborts(scene: Scene, left_bytes: int) -> None:
    """A truncated file is never padded, however little of it is missing."""
    with Client(scene.server, TINY_BUFFER_BYTES) as client:
        begun = scene.begin(client, scene.target)
        os.truncate(scene.price_path, left_bytes)
        scene.assert_aborted(client, begun, torn=left_bytes)
    answer = scene.server.get(scene.target)
    assert answer.status == 200
    assert b'"num_records":%d,' % (left_bytes // 4) in answer.content[:200]


@pytest.mark.parametrize("how", ["unlink", "rename away"])
def test_file_removed_while_sent_gives_the_right_bytes_or_aborts(scene: Scene, how: str) -> None:
    """A name that goes leaves the open file as it was: what is sent is what was promised."""
    with Client(scene.server, TINY_BUFFER_BYTES) as client:
        begun = scene.begin(client, scene.target)
        if how == "unlink":
            os.unlink(scene.price_path)
        else:
            os.rename(scene.price_path, scene.price_path + ".gone")
        rest, is_reset = client.read_until_end(NBYTES - len(begun))
        body = begun + rest
        assert body == scene.price[: len(body)]
        assert is_reset or len(body) == NBYTES
    answer = scene.server.get(scene.target)
    assert answer.status in {200, 404}
    assert scene.price[:100] not in answer.content


def test_file_removed_and_evicted_while_sent_aborts(scene: Scene) -> None:
    """A file that can be opened no more cuts its answer off."""
    with Client(scene.server, TINY_BUFFER_BYTES) as client:
        begun = scene.begin(client, scene.target)
        scene.evict()
        os.unlink(scene.price_path)
        scene.assert_aborted(client, begun)


@pytest.mark.parametrize("records", [RECORDS, 2 * RECORDS])
def test_file_replaced_and_evicted_while_sent_is_never_mixed(scene: Scene, records: int) -> None:
    """A day replaced by rename is another file: the answer that had begun with the old is cut."""
    with Client(scene.server, TINY_BUFFER_BYTES) as client:
        begun = scene.begin(client, scene.target)
        scene.evict()
        with open(scene.price_path + ".new", "wb") as file:
            file.write(os.urandom(4 * records))
        os.rename(scene.price_path + ".new", scene.price_path)
        scene.assert_aborted(client, begun)


def test_file_removed_and_made_anew_is_never_mixed(scene: Scene) -> None:
    """A new file may get the number (inode) of the old one: the answer must not go on with it."""
    inode = os.stat(scene.price_path).st_ino
    with Client(scene.server, TINY_BUFFER_BYTES) as client:
        begun = scene.begin(client, scene.target)
        scene.evict()
        os.unlink(scene.price_path)
        for attempt in range(100):  # others make files as well, and take the number
            made = f"{scene.price_path}.{attempt}"
            with open(made, "wb") as file:
                if os.fstat(file.fileno()).st_ino == inode or attempt == 99:
                    file.write(os.urandom(NBYTES))
                    break
        os.rename(made, scene.price_path)
        rest, is_reset = client.read_until_end(NBYTES - len(begun))
        body = begun + rest
        assert body == scene.price[: len(body)]
        assert is_reset


def test_file_that_grows_while_sent_gives_the_right_bytes_or_aborts(scene: Scene) -> None:
    """A recorder appends while the only place for open files goes from column to column."""
    with Client(scene.server, TINY_BUFFER_BYTES) as client:
        body = scene.begin(client, scene.target_of_both)
        append(scene.price_path, scene.time_path)
        rest, is_reset = client.read_until_end(2 * NBYTES - len(body))
        body += rest
        assert body == (scene.price + bytes(NBYTES))[: len(body)]
        assert is_reset != (len(body) == 2 * NBYTES)


def test_open_day_that_grows_while_sent_is_sent_as_planned(tmp_path: Path) -> None:
    """With room for its files open, a day that is recorded meanwhile arrives to the last byte."""
    with ForkedServer(tmp_path) as server, Client(server, TINY_BUFFER_BYTES) as client:
        scene = Scene(tmp_path, server, "LARGE")
        body = scene.begin(client, scene.target_of_both)
        append(scene.price_path, scene.time_path)
        body += client.read(2 * NBYTES - len(body))
        assert body == scene.price + bytes(NBYTES)


def append(*paths: str) -> None:
    """Write a hundred records more to each file."""
    for path in paths:
        with open(path, "ab") as file:
            file.write(os.urandom(400))


def test_second_column_truncated_while_the_first_is_sent_aborts(scene: Scene) -> None:
    """A fault in a file that was not begun yet is found when its turn comes."""
    with Client(scene.server, TINY_BUFFER_BYTES) as client:
        begun = scene.begin(client, scene.target_of_both)
        os.truncate(scene.time_path, 4)
        scene.assert_aborted(client, begun, 2 * NBYTES)
