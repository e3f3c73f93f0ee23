"""One turn: every byte once and in order, through sockets of any size, in turns of any size."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.sources import Scatters
from zerocopy.core import counters as slots
from zerocopy.core.counters import SLOTS
from zerocopy.core.errors import DataChangedError
from zerocopy.core.plan import Segment, in_memory
from zerocopy.core.window import TINY_BYTES
from zerocopy.transport.body import SEGMENT_COST_BYTES, Bodies, Body
from zerocopy.transport.channel import PlainChannel
from zerocopy.transport.http1.transfer import Stop, send_turn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CONTENT = os.urandom(300_000)
HEAD = os.urandom(5_000)


class FileSource(Scatters):
    """One open file; counts how often it was asked for its descriptor."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb")
        self.asked = 0
        self.is_viewed = False

    def fileno(self) -> int:
        """The descriptor."""
        self.asked += 1
        return self.file.fileno()

    def read(self, offset: int, count: int) -> bytes:
        """Never called: sendfile(2) copies nothing."""
        raise AssertionError((offset, count))

    def ready(self, _offset: int, count: int, *, mapped: bool = False) -> int:  # noqa: ARG002
        """All of it is in memory."""
        return count

    def view(self, offset: int, count: int) -> memoryview | bytes:
        """The bytes, for a channel that cannot send files."""
        assert self.is_viewed, "the channel can send files"
        return CONTENT[offset : offset + count]


class CopyingChannel(PlainChannel):
    """One that sends no files, as those that encrypt."""

    can_send_file = False


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


def body_of(content: bytes, segments: Sequence[Segment] = ()) -> Body:
    """A body of its own listener."""
    return Bodies().open(content, segments, sum(segment.count for segment in segments))


def on(sock: socket.socket) -> PlainChannel:
    """A channel that nobody watches."""
    loop: Any = None
    return PlainChannel(loop, sock)


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
    body, channel = body_of(HEAD, segments), on(out)
    received = b""
    for _ in range(100_000):
        before = body.left_bytes
        stop, spent = send_turn(body, channel, counters, turn_bytes)
        data = drain(peer, read_bytes)
        received += data
        assert spent >= before - body.left_bytes, "no byte is free"
        assert stop in {Stop.SPENT, Stop.BLOCKED, Stop.DONE}
        assert body.left_bytes < before or data, "each turn gets on, or the peer reads"
        if stop is Stop.DONE:
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
    body, channel = body_of(b"", segments), on(out)
    received = b""
    for _ in range(100_000):
        stop, _ = send_turn(body, channel, counters, turn_bytes)
        received += drain(peer, read_bytes)
        if stop is Stop.DONE:
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
    body = body_of(HEAD, (Segment(source, 0, 200_000),))
    assert send_turn(body, on(out), make_counters(), 30_000) == (Stop.SPENT, 30_000)
    assert drain(peer) == (HEAD + CONTENT)[:30_000]
    assert body.left_bytes == len(HEAD) + 170_000


@pytest.mark.parametrize("turn_bytes", [1, 1_000, 1 << 20])
@pytest.mark.parametrize("read_bytes", [700, 1 << 20])
def test_gathered_segments_arrive_once_and_in_order(
    source: FileSource, pair: tuple[socket.socket, socket.socket], turn_bytes: int, read_bytes: int
) -> None:
    """In few sends, none of which asks for a descriptor; short ones end amid a segment."""
    out, peer = pair
    ranges = [(index * 71, 1 + index % 90) for index in range(60)]
    ranges[30:30] = [(0, TINY_BYTES + 1)]
    body = body_of(HEAD[:9], tuple(Segment(source, offset, count) for offset, count in ranges))
    counters, received, channel = make_counters(), b"", on(out)
    for _ in range(100_000):
        stop, _ = send_turn(body, channel, counters, turn_bytes)
        assert body.is_waiting == (stop is Stop.FETCHING)
        received += drain(peer, read_bytes)
        window = body.next_window()
        if window is not None:
            assert window.gathers
            window.content = memoryview(
                b"".join(CONTENT[part.offset :][: part.count] for part in window.slices)
            )
            body.prepared(window, None)
        if stop is Stop.DONE:
            break
    received += drain(peer)
    wanted = b"".join(CONTENT[offset : offset + count] for offset, count in ranges)
    assert received == HEAD[:9] + wanted
    assert counters[slots.SENT_BYTES_SENDFILE] == TINY_BYTES + 1
    assert counters[slots.SENT_BYTES_COPY] == len(received) - TINY_BYTES - 1
    assert body.left_bytes == 0


@pytest.mark.usefixtures("nothing_is_tiny")
def test_tiny_segments_end_a_turn_by_their_number(
    source: FileSource, pair: tuple[socket.socket, socket.socket]
) -> None:
    """A segment costs its turn a fixed minimum, so that thousands of them are not one turn."""
    out, peer = pair
    segments = tuple(Segment(source, index, 1) for index in range(100))
    spent = 10 * SEGMENT_COST_BYTES
    assert send_turn(body_of(b"", segments), on(out), make_counters(), spent) == (Stop.SPENT, spent)
    assert drain(peer) == CONTENT[:10]


def test_descriptor_is_asked_for_in_every_turn_and_not_before(
    source: FileSource, pair: tuple[socket.socket, socket.socket]
) -> None:
    """Nothing is held between turns; while the head waits the file is not even asked for."""
    out, peer = pair
    body, channel = body_of(HEAD * 100, (Segment(source, 0, 100_000),)), on(out)
    assert send_turn(body, channel, make_counters(), 1 << 20)[0] is Stop.BLOCKED
    assert source.asked == 0
    while send_turn(body, channel, make_counters(), 1 << 20)[0] is Stop.BLOCKED:
        drain(peer)
    assert body.left_bytes == 0
    assert source.asked > 1


def test_bytes_left_and_queue_tell_what_the_peer_has_taken(
    source: FileSource, pair: tuple[socket.socket, socket.socket]
) -> None:
    """Neither changes while it reads nothing; its reading shows although nothing new was sent."""
    out, peer = pair
    body, channel = body_of(HEAD, (Segment(source, 0, 300_000),)), on(out)
    whole, before = body.left_bytes, -1
    while body.left_bytes != before:
        before = body.left_bytes
        assert send_turn(body, channel, make_counters(), 1 << 20)[0] is Stop.BLOCKED
    assert channel.untaken_bytes() > 0
    assert len(drain(peer)) == whole - before
    assert (channel.untaken_bytes(), body.left_bytes) == (0, before)
    send_turn(body, channel, make_counters(), 1 << 20)
    assert body.left_bytes < before


@pytest.mark.parametrize("turn_bytes", [1, 1_000, 1 << 20])
def test_channel_that_cannot_send_files_gets_their_bytes(
    source: FileSource, pair: tuple[socket.socket, socket.socket], turn_bytes: int
) -> None:
    """As views, without a descriptor; they are counted as copied."""
    out, peer = pair
    source.is_viewed = True
    channel, counters = CopyingChannel(cast("Any", None), out), make_counters()
    body, received = body_of(HEAD, (Segment(source, 7, 9_000), Segment(source, 0, 3))), b""
    while send_turn(body, channel, counters, turn_bytes)[0] is not Stop.DONE:
        received += drain(peer, 700)
    received += drain(peer)
    assert received == HEAD + CONTENT[7:9_007] + CONTENT[:3]
    assert (source.asked, counters[slots.SENT_BYTES_COPY]) == (0, len(received))


def test_what_the_disk_has_ends_a_turn_before_it_is_sent(
    source: FileSource, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in memory leaves; the turn ends there, until a thread has read on."""
    out, peer = pair
    monkeypatch.setattr(source, "ready", lambda *_, **__: 0)
    body, channel = body_of(b"head", (Segment(source, 0, 1_000),)), on(out)
    assert send_turn(body, channel, make_counters(), 1 << 20) == (Stop.FETCHING, 4)
    assert (drain(peer), source.asked) == (b"head", 0)
    window = body.next_window()
    assert window is not None
    assert send_turn(body, channel, make_counters(), 1 << 20) == (Stop.FETCHING, 0)
    body.prepared(window, None)
    stop, spent = send_turn(body, channel, make_counters(), 1 << 20)
    assert (stop, spent) == (Stop.DONE, SEGMENT_COST_BYTES)
    assert drain(peer) == CONTENT[:1_000]


def test_file_that_ends_early_raises_and_pads_nothing(
    source: FileSource, pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    """What is there is sent; the missing rest is an error, not zeroes."""
    out, peer = pair
    out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    os.truncate(tmp_path / "file", 1_000)
    counters = make_counters()
    with pytest.raises(DataChangedError):
        send_turn(body_of(b"", (Segment(source, 0, 2_000),)), on(out), counters, 1 << 20)
    assert counters[slots.SENT_BYTES_SENDFILE] == 1_000
    assert drain(peer) == CONTENT[:1_000]


def test_peer_that_is_gone_raises(
    source: FileSource, pair: tuple[socket.socket, socket.socket]
) -> None:
    """EPIPE reaches the connection, from the head and from a segment."""
    out, peer = pair
    peer.close()
    for unsent in (b"head", b""):
        body = body_of(unsent, (Segment(source, 0, 10),))
        with pytest.raises(BrokenPipeError):
            send_turn(body, on(out), make_counters(), 1 << 20)
