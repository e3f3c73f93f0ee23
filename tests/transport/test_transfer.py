"""Transfer: every byte once and in order, through sockets of any size, in turns of any size."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from zerocopy.core import counters as slots
from zerocopy.core.counters import SLOTS
from zerocopy.core.errors import DataChangedError
from zerocopy.core.plan import Segment, in_memory
from zerocopy.core.window import GATHERED_BYTES_MAX, TINY_BYTES
from zerocopy.transport.transfer import SEGMENT_COST_BYTES, Transfer, queued_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = os.urandom(300_000)
HEAD = os.urandom(5_000)


class FileSource:
    """One open file; counts how often it was asked for its descriptor."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb")
        self.asked = 0

    def fileno(self) -> int:
        """The descriptor."""
        self.asked += 1
        return self.file.fileno()

    def read(self, offset: int, count: int) -> bytes:
        """Never called: a transfer copies nothing."""
        raise AssertionError((offset, count))

    def ready(self, _offset: int, count: int, *, mapped: bool = False) -> int:  # noqa: ARG002
        """All of it is in memory."""
        return count

    def view(self, offset: int, count: int) -> memoryview | bytes:
        """Never called: this is for TLS."""
        raise AssertionError((offset, count))


@pytest.fixture
def source(tmp_path: Path) -> Iterator[FileSource]:
    """A file of CONTENT."""
    (tmp_path / "file").write_bytes(CONTENT)
    source = FileSource(tmp_path / "file")
    yield source
    source.file.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connected pair with small buffers; the first end does not block."""
    out, peer = socket.socketpair()
    out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    out.setblocking(False)
    peer.setblocking(False)
    yield out, peer
    out.close()
    peer.close()


def drain(peer: socket.socket, count: int = 1 << 20) -> bytes:
    """What has arrived so far, up to `count` bytes."""
    received = b""
    while len(received) < count:
        try:
            data = peer.recv(min(1 << 16, count - len(received)))
        except BlockingIOError:
            break
        received += data
    return received


def make_counters() -> list[int]:
    """A row of zeroes."""
    return [0] * len(SLOTS)


@pytest.mark.parametrize("turn_bytes", [1, 1_000, 8_192, 1 << 20])
@pytest.mark.parametrize("read_bytes", [700, 1 << 20])
def test_head_and_segments_arrive_once_and_in_order(
    source: FileSource, pair: tuple[socket.socket, socket.socket], turn_bytes: int, read_bytes: int
) -> None:
    """Short writes of the head, full sockets and spent turns change nothing of what arrives."""
    out, peer = pair
    counters = make_counters()
    ranges = [(0, 10_000), (299_999, 1), (4_096, 50), (7, 20_000)]
    segments = tuple(Segment(source, offset, count) for offset, count in ranges)
    transfer = Transfer(memoryview(HEAD), segments)
    received = b""
    for _ in range(100_000):
        before = transfer.place
        done = transfer.send(out, counters, turn_bytes)
        data = drain(peer, read_bytes)
        received += data
        assert done or transfer.place != before or data, "each turn gets on, or the peer reads"
        if done:
            break
    received += drain(peer)
    data = b"".join(CONTENT[offset : offset + count] for offset, count in ranges)
    assert received == HEAD + data
    assert counters[slots.SENT_BYTES_COPY] == len(HEAD)
    assert counters[slots.SENT_BYTES_SENDFILE] == len(data)


@pytest.mark.parametrize("turn_bytes", [1, 1_000, 1 << 20])
@pytest.mark.parametrize("read_bytes", [700, 1 << 20])
def test_what_is_in_memory_arrives_between_what_is_in_files(
    source: FileSource, pair: tuple[socket.socket, socket.socket], turn_bytes: int, read_bytes: int
) -> None:
    """Bytes of neither a head nor a file keep their place, whole or in pieces, and are counted."""
    out, peer = pair
    counters = make_counters()
    segments = (
        in_memory(HEAD), Segment(source, 5, 9_000), in_memory(b"x"), Segment(source, 0, 1),
        in_memory(HEAD[:7]), in_memory(HEAD),
    )  # fmt: skip
    transfer = Transfer(None, segments)
    received = b""
    for _ in range(100_000):
        done = transfer.send(out, counters, turn_bytes)
        received += drain(peer, read_bytes)
        if done:
            break
    received += drain(peer)
    assert received == HEAD + CONTENT[5:9_005] + b"x" + CONTENT[:1] + HEAD[:7] + HEAD
    assert counters[slots.SENT_BYTES_COPY] == 2 * len(HEAD) + 8
    assert counters[slots.SENT_BYTES_SENDFILE] == 9_001


def test_turn_sends_no_more_than_its_budget(
    source: FileSource, pair: tuple[socket.socket, socket.socket]
) -> None:
    """A turn ends at its bytes, also when the socket would take more."""
    out, peer = pair
    out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    transfer = Transfer(None, (Segment(source, 0, 200_000),))
    assert not transfer.send(out, make_counters(), 30_000)
    assert drain(peer) == CONTENT[:30_000]
    assert transfer.place == (0, 30_000, 0)


@pytest.mark.parametrize("turn_bytes", [1, 1_000, 1 << 20])
@pytest.mark.parametrize("read_bytes", [700, 1 << 20])
def test_gathered_segments_arrive_once_and_in_order(
    source: FileSource, pair: tuple[socket.socket, socket.socket], turn_bytes: int, read_bytes: int
) -> None:
    """In few sends, none of which asks for a descriptor; short ones end amid a segment."""
    out, peer = pair
    ranges = [(index * 71, 1 + index % 90) for index in range(60)]
    ranges[30:30] = [(0, TINY_BYTES + 1)]
    transfer = Transfer(
        memoryview(HEAD[:9]), tuple(Segment(source, offset, count) for offset, count in ranges)
    )
    counters, received, done = make_counters(), b"", False
    for _ in range(100_000):
        done = transfer.send(out, counters, turn_bytes)
        received += drain(peer, read_bytes)
        window = transfer.next_window(64, GATHERED_BYTES_MAX)
        if window is not None:
            assert window.gathers
            window.content = memoryview(
                b"".join(CONTENT[part.offset :][: part.count] for part in window.slices)
            )
            transfer.prepared(window, None)
        if done:
            break
    received += drain(peer)
    wanted = b"".join(CONTENT[offset : offset + count] for offset, count in ranges)
    assert received == HEAD[:9] + wanted
    assert counters[slots.SENT_BYTES_SENDFILE] == TINY_BYTES + 1
    assert counters[slots.SENT_BYTES_COPY] == len(received) - TINY_BYTES - 1
    assert transfer.left_bytes == 0


@pytest.mark.usefixtures("nothing_is_tiny")
def test_tiny_segments_end_a_turn_by_their_number(
    source: FileSource, pair: tuple[socket.socket, socket.socket]
) -> None:
    """A segment costs its turn a fixed minimum, so that thousands of them are not one turn."""
    out, peer = pair
    segments = tuple(Segment(source, index, 1) for index in range(100))
    transfer = Transfer(None, segments)
    assert not transfer.send(out, make_counters(), 10 * SEGMENT_COST_BYTES)
    assert drain(peer) == CONTENT[:10]


def test_descriptor_is_asked_for_in_every_turn_and_not_before(
    source: FileSource, pair: tuple[socket.socket, socket.socket]
) -> None:
    """Nothing is held between turns; while the head waits the file is not even asked for."""
    out, peer = pair
    transfer = Transfer(memoryview(HEAD * 100), (Segment(source, 0, 100_000),))
    assert not transfer.send(out, make_counters(), 1 << 20)
    assert source.asked == 0
    while not transfer.send(out, make_counters(), 1 << 20):
        drain(peer)
    assert source.asked > 1


def test_place_and_queue_tell_what_the_peer_has_taken(
    source: FileSource, pair: tuple[socket.socket, socket.socket]
) -> None:
    """Neither changes while it reads nothing; its reading shows although nothing new was sent."""
    out, peer = pair
    transfer = Transfer(memoryview(HEAD), (Segment(source, 0, 300_000),))
    before = (-1, -1, -1)
    while transfer.place != before:
        before = transfer.place
        assert not transfer.send(out, make_counters(), 1 << 20)
    assert queued_bytes(out.fileno()) > 0
    assert len(drain(peer)) == len(HEAD) + before[1]
    assert (queued_bytes(out.fileno()), transfer.place) == (0, before)
    assert not transfer.send(out, make_counters(), 1 << 20)
    assert transfer.place > before


def test_file_that_ends_early_raises_and_pads_nothing(
    source: FileSource, pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    """What is there is sent; the missing rest is an error, not zeroes."""
    out, peer = pair
    out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    os.truncate(tmp_path / "file", 1_000)
    transfer = Transfer(None, (Segment(source, 0, 2_000),))
    with pytest.raises(DataChangedError):
        transfer.send(out, make_counters(), 1 << 20)
    assert drain(peer) == CONTENT[:1_000]


def test_peer_that_is_gone_raises(
    source: FileSource, pair: tuple[socket.socket, socket.socket]
) -> None:
    """EPIPE reaches the connection, from the head and from a segment."""
    out, peer = pair
    peer.close()
    for unsent in (memoryview(b"head"), None):
        with pytest.raises(BrokenPipeError):
            Transfer(unsent, (Segment(source, 0, 10),)).send(out, make_counters(), 1 << 20)
