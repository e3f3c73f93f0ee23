"""The TLS channel: what it waits for, sends again, has decrypted ahead, and how it ends."""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import RESET
from tests.tls import VERSIONS
from tests.transport.tls.ends import WAIT, Ends, until
from zerocopy.core.counters import SLOTS
from zerocopy.core.plan import Segment, spread
from zerocopy.transport.body import Bodies
from zerocopy.transport.http1.transfer import Stop, send_turn
from zerocopy.transport.tls.channel import RECORD_BYTES, SEND_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CONTENT = os.urandom(400_000)
FLIPPED = bytes(255 - byte for byte in range(256))
"""Every byte another one, for bytes.translate."""


@pytest.fixture(params=VERSIONS.args[1], ids=lambda version: version.name)
def ends(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Ends]:
    """Both ends, in each version."""
    with Ends(tmp_path, request.param) as made:
        yield made


# ---- receiving


def test_nothing_that_came_is_to_be_waited_for(ends: Ends) -> None:
    """No byte, or a part of a record."""
    with pytest.raises(BlockingIOError):
        ends.channel.recv(100)


@pytest.mark.parametrize("nbytes", [1, 100, RECORD_BYTES, RECORD_BYTES + 1])
def test_record_that_is_read_in_parts_is_told_of(ends: Ends, nbytes: int) -> None:
    """The socket is not readable any more; the loop is asked to call, and calls once a part."""
    content = CONTENT[:nbytes]
    received = b""

    def on_readable() -> None:
        nonlocal received
        with suppress(BlockingIOError):
            received += ends.channel.recv(40)

    ends.channel.wait_readable(on_readable)
    ends.client.sendall(content)
    received += until(lambda: ends.channel.recv(40))
    while len(received) < nbytes:
        if not ends.loop.turn():
            on_readable()  # the next record: the socket is readable
    assert received == content
    ends.loop.turn()
    assert not ends.loop.soon
    assert received == content


def test_what_was_decrypted_waits_while_nobody_reads(ends: Ends) -> None:
    """Reading stopped: no call, though one was due; resumed: then a call, though nothing comes."""
    calls: list[bytes] = []
    ends.channel.wait_readable(lambda: calls.append(ends.channel.recv(40)))
    ends.client.sendall(CONTENT[:100])
    first = until(lambda: ends.channel.recv(40))
    ends.channel.stop_reading()
    assert not ends.loop.readers
    ends.loop.turn()
    assert calls == []
    ends.channel.wait_readable(lambda: calls.append(ends.channel.recv(40)))
    assert ends.loop.readers
    while ends.loop.turn():
        pass
    assert first + b"".join(calls) == CONTENT[:100]


def test_call_that_was_due_is_not_made_after_the_end(ends: Ends) -> None:
    """Closed between the two: nothing is called (see `Channel.close`)."""
    calls: list[bytes] = []
    ends.channel.wait_readable(lambda: calls.append(b"called"))
    ends.client.sendall(CONTENT[:100])
    until(lambda: ends.channel.recv(40))
    ends.channel.close()
    ends.loop.turn()
    assert calls == []
    assert not ends.loop.readers


def test_garbage_amid_records_ends_the_connection(ends: Ends) -> None:
    """A record that does not decrypt: the peer is as good as gone, and gets an alert."""
    socket.socket.sendall(ends.client, b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(ConnectionAbortedError):
        until(lambda: ends.channel.recv(100))
    with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac|decryption"):
        until(lambda: ends.client.recv(100))


# ---- sending


def test_piece_is_sent_as_a_whole(ends: Ends) -> None:
    """At most `SEND_BYTES_MAX`; what the socket does not take of one does not count as sent."""
    sent, taken = 0, b""
    while sent < len(CONTENT):
        piece = CONTENT[sent : sent + SEND_BYTES_MAX]
        try:
            now = ends.channel.send(CONTENT[sent:])
        except BlockingIOError:
            assert ends.channel.retry_bytes == len(piece)
            assert len(taken) < sent + len(piece)
            taken += ends.take()
            continue
        assert (now, ends.channel.retry_bytes) == (len(piece), 0)
        sent += now
    while len(taken) < sent:
        taken += ends.take()
    assert taken == CONTENT


def test_retry_may_be_longer_and_lie_elsewhere(ends: Ends) -> None:
    """SSL_write(3) wants the same bytes first; what a protocol has queued meanwhile may follow."""
    queued = bytearray(CONTENT[:1_000])
    sent = 0
    while True:
        try:
            sent += ends.channel.send(bytes(queued))
        except BlockingIOError:
            break
    assert ends.channel.retry_bytes == len(queued)
    queued += CONTENT[1_000:9_000]
    taken = b""
    while ends.channel.retry_bytes:
        taken += ends.take()
        with suppress(BlockingIOError):
            sent += ends.channel.send(bytes(queued))
    while len(taken) < sent:
        taken += ends.take()
    assert taken[-9_000:] == CONTENT[:9_000]
    assert taken == CONTENT[:1_000] * (len(taken[:-9_000]) // 1_000) + CONTENT[:9_000]


class Changing:
    """A file that somebody overwrites whenever it was looked at."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def fileno(self) -> int:
        """Never asked: the channel sends no files."""
        raise AssertionError

    def read(self, offset: int, count: int) -> bytes:
        """Never asked: it is in memory."""
        raise AssertionError((offset, count))

    def ready(self, _offset: int, count: int, *, mapped: bool = False) -> int:  # noqa: ARG002
        """All of it."""
        return count

    def view(self, offset: int, count: int) -> bytes:
        """Its bytes now; then they change."""
        seen = self.content[offset : offset + count]
        self.content = self.content.translate(FLIPPED)
        return seen

    def scatter(self, offset: int, targets: Sequence[memoryview]) -> None:
        """The same, copied."""
        spread(self.view(offset, sum(map(len, targets))), targets)


@pytest.mark.parametrize("turn_bytes", [7_000, 50_000, 1 << 20])
def test_body_sends_the_same_bytes_again_though_its_file_changes(
    ends: Ends, turn_bytes: int
) -> None:
    """`Body.hold`: what OpenSSL has begun with is kept, or the record would be of two files."""
    source = Changing(CONTENT)
    other = CONTENT.translate(FLIPPED)
    body = Bodies().open(b"head", (Segment(source, 0, len(CONTENT)),), len(CONTENT), mapped=True)
    counters, taken, holds = [0] * len(SLOTS), b"", 0
    while (stop := send_turn(body, ends.channel, counters, turn_bytes)[0]) is not Stop.DONE:
        if stop is Stop.BLOCKED:
            if ends.channel.retry_bytes:
                holds += 1
                held = body.in_memory(ends.channel.retry_bytes)
                assert held is not None, "the file is not asked again"
                assert len(held) >= ends.channel.retry_bytes
            taken += ends.take(20_000)
    while len(taken) < len(CONTENT) + 4:
        taken += ends.take()
    assert holds
    assert taken[:4] == b"head"
    assert all(byte in pair for byte, *pair in zip(taken[4:], CONTENT, other, strict=True))
    assert len(taken) == len(CONTENT) + 4


@pytest.mark.parametrize("nbytes", [1, RECORD_BYTES, RECORD_BYTES + 1])
def test_records_of_one_piece_leave_together(ends: Ends, nbytes: int) -> None:
    """The socket is corked while several are written, and never afterwards, though it is full."""
    piece = CONTENT[:nbytes]
    ends.channel.send(piece)
    assert ends.sock.was_corked == (nbytes > RECORD_BYTES)
    assert not ends.sock.is_corked
    ends.fill(piece)
    assert not ends.sock.is_corked


# ---- ending


def test_close_notify_of_the_client_ends_its_input_alone(ends: Ends) -> None:
    """RFC 8446 section 6.1: what it asked for is still answered."""
    with pytest.raises(WAIT):
        ends.client.unwrap()
    assert until(lambda: ends.channel.recv(100)) == b""
    assert ends.channel.recv(100) == b""
    assert ends.channel.send(b"still answered") == 14
    ends.channel.close()


def test_our_close_notify_ends_our_output_alone(ends: Ends) -> None:
    """What the client says afterwards is read; then its close_notify, or FIN, is the end."""
    ends.channel.send(b"last")
    ends.channel.shut_down()
    assert until(lambda: ends.client.recv(100)) == b"last"
    ends.client.sendall(b"more")
    assert until(lambda: ends.channel.recv(100)) == b"more"
    assert until(lambda: ends.client.recv(100)) == b"", "close_notify has come"
    with suppress(OSError):
        ends.client.unwrap()
    assert until(lambda: ends.channel.recv(100)) == b""
    ends.channel.close()


def test_end_without_close_notify_is_an_end_of_input(ends: Ends) -> None:
    """FIN alone, as many clients have it; what they asked for is still answered."""
    socket.socket.shutdown(ends.client, socket.SHUT_WR)
    assert until(lambda: ends.channel.recv(100)) == b""
    assert ends.channel.send(b"answer") == 6
    assert until(lambda: ends.client.recv(100)) == b"answer"


def test_reset_by_the_client_is_an_error_of_both_directions(ends: Ends) -> None:
    """As on a plain socket: nobody is left to answer."""
    ends.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    ends.client.close()
    for call in (lambda: ends.channel.recv(100), lambda: ends.channel.send(b"x")):
        with pytest.raises(OSError, match=r".") as gone:
            until(call)
        assert not isinstance(gone.value, BlockingIOError)
    ends.channel.close()


def test_reset_of_ours_is_no_end_that_anybody_could_believe(ends: Ends) -> None:
    """RST, and no close_notify before it."""
    ends.channel.send(b"a part")
    assert until(lambda: ends.client.recv(100)) == b"a part"
    ends.channel.reset()
    with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):  # by the version of CPython
        until(lambda: ends.client.recv(100))
    with pytest.raises(OSError, match="not connected"):  # by FIN it would still be
        ends.client.getpeername()


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("state", ["fresh", "amid a piece", "shut down", "client ended", "lost"])
def test_channel_can_be_closed_in_every_state(ends: Ends, end: str, state: str) -> None:
    """It gives everything back, twice if need be, and nothing is called afterwards."""
    ends.channel.wait_readable(lambda: None)
    if state == "amid a piece":
        ends.fill()
        ends.channel.wait_writable(lambda: None)
    elif state == "shut down":
        ends.channel.shut_down()
    elif state == "client ended":
        with suppress(*WAIT, OSError):
            ends.client.unwrap()
        until(lambda: ends.channel.recv(1))
    elif state == "lost":
        ends.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        ends.client.close()
    getattr(ends.channel, end)()
    ends.loop.turn()
    assert (ends.loop.readers, ends.loop.writers, ends.sock.fileno()) == ({}, {}, -1)


def test_piece_that_did_not_leave_is_never_followed_by_close_notify(ends: Ends) -> None:
    """A record of the piece is half sent: the client must not believe in an end there."""
    sent = ends.fill(CONTENT[:30_000])
    ends.channel.close()
    taken = b""
    data, is_cut_off = b"x", False
    while data and not is_cut_off:
        try:
            data = until(lambda: ends.client.recv(65_536))
            taken += data
        except (ssl.SSLError, ConnectionResetError):
            is_cut_off = True
    assert is_cut_off
    assert len(taken) < sent + 30_000


def test_close_notify_waits_for_room(ends: Ends) -> None:
    """The socket is full of an answer that is whole: its client is still told of the end."""
    sent = ends.channel.send(CONTENT[:9_000])
    ends.sock.has_room = False
    ends.channel.shut_down()
    for on_writable in list(ends.loop.writers.values()):
        on_writable()
    assert ends.loop.writers
    ends.sock.has_room = True
    for on_writable in list(ends.loop.writers.values()):
        on_writable()
    assert not ends.loop.writers
    taken = b""
    while data := until(lambda: ends.client.recv(65_536)):  # an EOF without it would raise
        taken += data
    assert len(taken) == sent


def test_connection_that_ends_before_there_is_room_waits_no_longer(ends: Ends) -> None:
    """Closed by its deadline: nothing is called any more."""
    ends.sock.has_room = False
    ends.channel.shut_down()
    ends.channel.close()
    assert (ends.loop.writers, ends.sock.fileno()) == ({}, -1)
