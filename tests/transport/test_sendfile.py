"""`send_range`: every outcome of sendfile(2).

By real sockets where the kernel can be made to show it, by a replaced `os.sendfile` elsewhere.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import tempfile
import threading
import time
from typing import TYPE_CHECKING

import pytest

from zerocopy.transport.sendfile import CALL_BYTES_MAX, Outcome, send_range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KIB = 1 << 10
MIB = 1 << 20
CONTENT = os.urandom(4 * MIB)
GENEROUS = 1 << 40  # a turn that is never spent

SocketPair = tuple[socket.socket, socket.socket]


@pytest.fixture
def in_fd() -> Iterator[int]:
    """Yield a file with CONTENT, its position somewhere in the middle."""
    with tempfile.TemporaryFile() as file:
        file.write(CONTENT)
        file.seek(12345)
        yield file.fileno()


@pytest.fixture
def pair() -> Iterator[SocketPair]:
    """Yield a connected TCP pair over loopback, the first end non-blocking."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as ours,
        listener.accept()[0] as peer,
    ):
        ours.setblocking(False)
        yield ours, peer


def receive(sock: socket.socket, nbytes: int) -> bytes:
    """Return exactly `nbytes`."""
    received = bytearray()
    while len(received) < nbytes:
        data = sock.recv(nbytes - len(received))
        assert data
        received += data
    return bytes(received)


def fill(sock: socket.socket, in_fd: int) -> int:
    """Send until the socket says it would block; return how much it took."""
    total = 0
    while True:
        sent, outcome = send_range(sock.fileno(), in_fd, 0, MIB, GENEROUS)
        total += sent
        if outcome is Outcome.WOULD_BLOCK:
            return total


def replace_sendfile(
    monkeypatch: pytest.MonkeyPatch, *results: int | OSError
) -> list[tuple[int, int]]:
    """Let os.sendfile answer with `results`, one a call; return the list of (offset, count)."""
    calls: list[tuple[int, int]] = []
    answers = iter(results)

    def sendfile(_out_fd: int, _in_fd: int, offset: int, count: int) -> int:
        calls.append((offset, count))
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(os, "sendfile", sendfile)
    return calls


def test_send_range_whole_range_is_done(pair: SocketPair, in_fd: int) -> None:
    """A range that fits into the turn and the socket is DONE, and the bytes are the file's."""
    ours, peer = pair
    assert send_range(ours.fileno(), in_fd, 100, 5000, MIB) == (5000, Outcome.DONE)
    assert receive(peer, 5000) == CONTENT[100:5100]


def test_send_range_never_moves_the_file_position(pair: SocketPair, in_fd: int) -> None:
    """The offset is explicit: the descriptor's position stays where its owner left it."""
    send_range(pair[0].fileno(), in_fd, 100, 5000, MIB)
    assert os.lseek(in_fd, 0, os.SEEK_CUR) == 12345


def test_send_range_one_descriptor_serves_many_sockets(in_fd: int) -> None:
    """Turns of several connections on one descriptor interleave without mixing up offsets."""
    pairs = [socket.socketpair() for _ in range(5)]
    try:
        for turn in range(8):
            for index, (ours, _) in enumerate(pairs):
                offset = index * 1000 + turn * 300
                assert send_range(ours.fileno(), in_fd, offset, 300, MIB) == (300, Outcome.DONE)
        for index, (_, peer) in enumerate(pairs):
            assert receive(peer, 2400) == CONTENT[index * 1000 :][:2400]
    finally:
        for one_pair in pairs:
            for sock in one_pair:
                sock.close()


@pytest.mark.parametrize(
    ("count", "turn_bytes_max", "expected"),
    [
        (10, 9, (9, Outcome.BUDGET_SPENT)),
        (10, 10, (10, Outcome.DONE)),
        (10, 11, (10, Outcome.DONE)),
        (10, 1, (1, Outcome.BUDGET_SPENT)),
        (1, 1, (1, Outcome.DONE)),
    ],
)
def test_send_range_stops_at_the_turns_budget(
    pair: SocketPair, in_fd: int, count: int, turn_bytes_max: int, expected: tuple[int, Outcome]
) -> None:
    """A turn sends turn_bytes_max and not a byte more; DONE wins when both are reached."""
    ours, peer = pair
    assert send_range(ours.fileno(), in_fd, 7, count, turn_bytes_max) == expected
    ours.close()
    assert peer.recv(100) == CONTENT[7 : 7 + expected[0]]


def test_send_range_full_socket_would_block(pair: SocketPair, in_fd: int) -> None:
    """A full socket ends the turn with what it took, then with nothing, and loses no byte."""
    ours, peer = pair
    received = bytearray()

    def drain() -> None:
        while data := peer.recv(MIB):
            received.extend(data)

    # Small buffers: 4 MiB would fit into what Linux grows them to.
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * KIB)
    sent, outcome = send_range(ours.fileno(), in_fd, 0, len(CONTENT), GENEROUS)
    assert outcome is Outcome.WOULD_BLOCK
    assert 0 < sent < len(CONTENT)
    fill(ours, in_fd)
    assert send_range(ours.fileno(), in_fd, sent, 1000, MIB) == (0, Outcome.WOULD_BLOCK)
    reader = threading.Thread(target=drain)
    reader.start()
    ours.close()
    reader.join()
    assert bytes(received[:sent]) == CONTENT[:sent]


def test_send_range_would_block_after_bytes_of_the_same_turn_counts_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """EAGAIN after a short write returns the bytes that went out, and does not raise."""
    calls = replace_sendfile(monkeypatch, 300, BlockingIOError(errno.EAGAIN, "again"))
    assert send_range(3, 4, 50, 1000, MIB) == (300, Outcome.WOULD_BLOCK)
    assert calls == [(50, 1000), (350, 700)]


def test_send_range_short_write_is_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short write alone means nothing: the rest is asked for at the next offset."""
    calls = replace_sendfile(monkeypatch, 300, 1, 699)
    assert send_range(3, 4, 0, 1000, MIB) == (1000, Outcome.DONE)
    assert calls == [(0, 1000), (300, 700), (301, 699)]


def test_send_range_truncated_file_is_end_of_file(pair: SocketPair, in_fd: int) -> None:
    """A file that ends within the range gives its last bytes and END_OF_FILE in one turn."""
    ours, peer = pair
    os.ftruncate(in_fd, 1000)
    assert send_range(ours.fileno(), in_fd, 900, 200, MIB) == (100, Outcome.END_OF_FILE)
    assert receive(peer, 100) == CONTENT[900:1000]


@pytest.mark.parametrize("offset", [len(CONTENT), len(CONTENT) + 1, 1 << 40])
def test_send_range_offset_beyond_the_end_is_end_of_file(
    pair: SocketPair, in_fd: int, offset: int
) -> None:
    """Nothing is sent from behind the end of the file."""
    assert send_range(pair[0].fileno(), in_fd, offset, 10, MIB) == (0, Outcome.END_OF_FILE)


def test_send_range_peer_closed_raises_broken_pipe(in_fd: int) -> None:
    """EPIPE is BrokenPipeError, and no SIGPIPE kills the process."""
    ours, peer = socket.socketpair()
    with ours:
        peer.close()
        with pytest.raises(BrokenPipeError):
            send_range(ours.fileno(), in_fd, 0, 10, MIB)


def test_send_range_peer_reset_raises_connection_reset(pair: SocketPair, in_fd: int) -> None:
    """A reset from the peer is ConnectionResetError."""
    ours, peer = pair
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()  # with a linger of zero: RST, delivered at once over loopback
    with pytest.raises(ConnectionResetError):
        send_range(ours.fileno(), in_fd, 0, 10, MIB)


@pytest.mark.parametrize("sent", [0, 300])
@pytest.mark.parametrize(
    "number",
    [
        errno.ECONNRESET,
        errno.EPIPE,
        errno.EIO,
        errno.ENOMEM,
        errno.EINVAL,
        errno.EOVERFLOW,
        errno.ESPIPE,
        errno.ENOTCONN,
        errno.ETIMEDOUT,
        errno.EBADF,
    ],
    ids=errno.errorcode.get,
)
def test_send_range_error_propagates_and_counts(
    monkeypatch: pytest.MonkeyPatch, number: int, sent: int
) -> None:
    """Every error propagates as it is, also after bytes of the same turn, which it counts."""
    error = OSError(number, "injected")
    replace_sendfile(monkeypatch, *([sent] if sent else []), error)
    with pytest.raises(OSError, match="injected") as caught:
        send_range(3, 4, 0, 1000, MIB)
    assert caught.value is error
    assert getattr(caught.value, "characters_written", None) == sent


def test_send_range_not_seekable_file_raises(pair: SocketPair) -> None:
    """A pipe is no file: ESPIPE from the real kernel, not a hang."""
    read_fd, write_fd = os.pipe()
    try:
        with pytest.raises(OSError, match="Illegal seek"):
            send_range(pair[0].fileno(), read_fd, 0, 10, MIB)
    finally:
        os.close(read_fd)
        os.close(write_fd)


def test_send_range_caps_one_call_below_two_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    """A longer range is asked for in calls of CALL_BYTES_MAX at most."""
    calls = replace_sendfile(monkeypatch, CALL_BYTES_MAX, 10)
    count = CALL_BYTES_MAX + 10
    assert send_range(3, 4, 5, count, GENEROUS) == (count, Outcome.DONE)
    assert calls == [(5, CALL_BYTES_MAX), (5 + CALL_BYTES_MAX, 10)]
    assert CALL_BYTES_MAX < 2 << 30


def test_send_range_signals_lose_no_byte(pair: SocketPair, in_fd: int) -> None:
    """Signals that hit a waiting call (EINTR, short writes) neither raise nor lose a byte."""
    ours, peer = pair
    ours.setblocking(True)  # only a call that sleeps can be interrupted
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * KIB)
    received = bytearray()
    signals: list[int] = []
    main = threading.get_ident()

    def read_slowly() -> None:
        while len(received) < MIB:
            signal.pthread_kill(main, signal.SIGUSR1)
            time.sleep(0.001)
            received.extend(peer.recv(256 * KIB))

    def on_signal(number: int, _frame: object) -> None:
        signals.append(number)

    previous = signal.signal(signal.SIGUSR1, on_signal)
    reader = threading.Thread(target=read_slowly)
    try:
        reader.start()
        assert send_range(ours.fileno(), in_fd, 0, MIB, GENEROUS) == (MIB, Outcome.DONE)
        reader.join()
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert received == CONTENT[:MIB]
    assert len(signals) > 3


def test_send_range_signal_handler_that_raises_propagates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a signal handler raises is not swallowed."""

    def sendfile(*_arguments: int) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "sendfile", sendfile)
    with pytest.raises(KeyboardInterrupt):
        send_range(3, 4, 0, 1000, MIB)


@pytest.mark.parametrize(
    "call",
    [
        lambda: send_range(3, 4, -1, 10, MIB),
        lambda: send_range(3, 4, 0, 0, MIB),
        lambda: send_range(3, 4, 0, -1, MIB),
        lambda: send_range(3, 4, 0, 10, 0),
    ],
    ids=["offset", "count zero", "count negative", "turn"],
)
def test_send_range_programmers_errors_are_asserted(call: Callable[[], object]) -> None:
    """Arguments that no plan can hold never reach the kernel."""
    with pytest.raises(AssertionError):
        call()
