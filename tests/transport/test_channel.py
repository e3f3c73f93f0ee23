"""A plain channel: a socket's bytes, and which of its directions the event loop watches."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from zerocopy.transport.channel import PlainChannel
from zerocopy.transport.loop import new_event_loop
from zerocopy.transport.sendfile import Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    Pair = tuple[PlainChannel, socket.socket]
    Scenario = Callable[[PlainChannel, socket.socket], Awaitable[None]]

WAIT_S = 10.0


class Watching:
    """A loop that writes down what it watches."""

    def __init__(self) -> None:
        self.watched: set[str] = set()
        self.calls: list[str] = []

    def add_reader(self, _fd: int, _call: object) -> None:
        """Watch for input."""
        self._note("add_reader")
        self.watched.add("reader")

    def remove_reader(self, _fd: int) -> None:
        """No longer."""
        self._note("remove_reader")
        self.watched.remove("reader")

    def add_writer(self, _fd: int, _call: object) -> None:
        """Watch for room."""
        self._note("add_writer")
        self.watched.add("writer")

    def remove_writer(self, _fd: int) -> None:
        """No longer."""
        self._note("remove_writer")
        self.watched.remove("writer")

    def _note(self, name: str) -> None:
        self.calls.append(name)


@pytest.fixture(name="loop")
def fixture_loop() -> Watching:
    """A loop that runs nothing."""
    return Watching()


@pytest.fixture(name="sockets")
def fixture_sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection with small buffers; neither end waits for more than a moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 10)
        sock = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 << 10)
    sock.setblocking(False)
    peer.settimeout(WAIT_S)
    with sock, peer:
        yield sock, peer


@pytest.fixture(name="pair")
def fixture_pair(loop: Any, sockets: tuple[socket.socket, socket.socket]) -> Pair:
    """A channel and its peer."""
    return PlainChannel(loop, sockets[0]), sockets[1]


def receive(peer: socket.socket, count: int) -> bytes:
    """Exactly so many bytes."""
    data = b""
    while len(data) < count and (part := peer.recv(count - len(data))):
        data += part
    return data


def test_socket_that_could_hold_the_loop_is_refused(loop: Any) -> None:
    """It does not block, or it is no channel."""
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(AssertionError, match="blocking"):
        PlainChannel(loop, ours)


def test_bytes_pass_in_both_directions(pair: Pair, tmp_path: Path) -> None:
    """From memory, from several buffers, and from a file."""
    channel, peer = pair
    (tmp_path / "file").write_bytes(b"0123456789")
    with pytest.raises(BlockingIOError):
        channel.recv(10)
    assert channel.send(b"one ") == 4
    assert channel.send_all((b"two ", memoryview(b"three "), b""), socket.MSG_MORE) == 10
    with (tmp_path / "file").open("rb") as file:
        assert channel.send_file(file.fileno(), 2, 5, 3) == (3, Outcome.BUDGET_SPENT)
        assert channel.send_file(file.fileno(), 5, 2, 9) == (2, Outcome.DONE)
        assert channel.send_file(file.fileno(), 10, 1, 9) == (0, Outcome.END_OF_FILE)
    assert receive(peer, 19) == b"one two three 23456"
    peer.sendall(b"back")
    peer.shutdown(socket.SHUT_WR)

    async def read() -> bytes:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        reading = PlainChannel(loop, channel._sock)
        reading.wait_readable(readable.set)
        await asyncio.wait_for(readable.wait(), WAIT_S)
        reading.stop_reading()
        return channel.recv(2) + channel.recv(10)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert runner.run(read()) == b"back"


def test_each_direction_is_watched_once(pair: Pair, loop: Watching) -> None:
    """Asking twice, or stopping what is not watched, costs no call."""
    channel, _ = pair
    channel.stop_reading()
    channel.stop_writing()
    assert not loop.calls
    assert not channel.is_reading
    for _ in range(2):
        channel.wait_readable(print)
        channel.wait_writable(print)
    assert (loop.calls, channel.is_reading) == (["add_reader", "add_writer"], True)
    for _ in range(2):
        channel.stop_reading()
        channel.stop_writing()
    assert loop.calls[2:] == ["remove_reader", "remove_writer"]
    assert not channel.is_reading


def test_untaken_bytes_are_those_that_the_peer_has_not_acknowledged(pair: Pair) -> None:
    """More the more is sent to one that reads nothing, and none once it has read all."""
    channel, peer = pair
    assert channel.untaken_bytes() == 0
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += channel.send(bytes(4_096))
    assert 0 < channel.untaken_bytes() <= sent
    assert receive(peer, sent) == bytes(sent)
    assert channel.untaken_bytes() == 0


def test_what_is_shut_down_ends_for_the_peer_which_may_still_send(pair: Pair) -> None:
    """RFC 9112 section 9.6: the last response arrives, whatever the peer sends meanwhile."""
    channel, peer = pair
    channel.send(b"last")
    channel.shut_down()
    assert receive(peer, 10) == b"last"
    peer.sendall(b"more")
    with pytest.raises(BrokenPipeError):
        channel.send(b"x")


def test_closing_gives_the_descriptor_back_and_ends_clean(pair: Pair, loop: Watching) -> None:
    """Nothing is watched afterwards; closing again does nothing."""
    channel, peer = pair
    channel.wait_readable(print)
    channel.wait_writable(print)
    channel.send(b"last")
    for _ in range(2):
        channel.close()
        assert (channel._sock.fileno(), loop.watched) == (-1, set())
    assert receive(peer, 10) == b"last"


def test_reset_is_seen_as_one(pair: Pair, loop: Watching) -> None:
    """Even with nothing unread: nobody takes what has arrived for all there is."""
    channel, peer = pair
    channel.wait_readable(print)
    channel.reset()
    assert (channel._sock.fileno(), loop.watched) == (-1, set())
    with pytest.raises(ConnectionResetError):
        receive(peer, 10)


def test_reset_of_what_the_peer_has_reset_closes(
    sockets: tuple[socket.socket, socket.socket], loop: Any
) -> None:
    """An option that can no longer be set holds nothing up."""

    class Gone(socket.socket):
        """A socket whose options cannot be set."""

        def setsockopt(self, *_: object) -> None:
            """As some systems answer after a reset."""
            raise OSError(22, "Invalid argument")

    with Gone(fileno=os.dup(sockets[0].fileno())) as sock:
        sock.setblocking(False)
        PlainChannel(loop, sock).reset()
        assert sock.fileno() == -1


@pytest.mark.parametrize("name", ["remove_reader", "remove_writer"])
def test_descriptor_is_given_back_whatever_fails(
    pair: Pair, loop: Watching, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The fault is told, and nothing is left of the other direction either."""

    def fail(_fd: int) -> None:
        raise ValueError(name)

    channel, _ = pair
    channel.wait_readable(print)
    channel.wait_writable(print)
    monkeypatch.setattr(loop, name, fail)
    with pytest.raises(ValueError, match=name):
        channel.close()
    assert channel._sock.fileno() == -1
    assert loop.watched == {name.removeprefix("remove_")}
