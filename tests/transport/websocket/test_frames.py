"""The frames that leave, as the RFC prints them and as wsproto reads them."""

from __future__ import annotations

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong

from zerocopy.transport.websocket import frames


def read(data: bytes) -> list[Event]:
    """What a client that is wsproto's reads in `data`."""
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(data)
    return list(client.events())


def test_headers_are_those_of_section_5_7() -> None:
    """The examples of RFC 6455: 256 bytes in one unmasked frame, 64 KiB in another."""
    assert frames.message_header(256) == bytes.fromhex("827e0100")
    assert frames.message_header(65_536) == bytes.fromhex("827f0000000000010000")


@pytest.mark.parametrize("nbytes", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
def test_a_message_is_its_header_and_its_bytes(nbytes: int) -> None:
    """Each way to write a length, on both sides of its bounds: one whole binary message."""
    content = bytes(range(256)) * (nbytes // 256 + 1)
    events = read(frames.message_header(nbytes) + content[:nbytes])
    assert all(isinstance(event, BytesMessage) for event in events)
    pieces = [event for event in events if isinstance(event, BytesMessage)]
    assert b"".join(piece.data for piece in pieces) == content[:nbytes]
    assert [piece.message_finished for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_a_header_holds_the_length_of_the_largest_file() -> None:
    """No message is too long for its header: 63 bits, section 5.2."""
    assert frames.message_header(2**63 - 1) == b"\x82\x7f\x7f" + b"\xff" * 7


def test_control_frames_are_what_they_are_called() -> None:
    """A heartbeat is an empty ping, a pong has its ping's payload, a close its code and reason."""
    assert read(frames.HEARTBEAT) == [Ping(payload=b"")]
    assert read(frames.pong(b"\xff" * 125)) == [Pong(payload=b"\xff" * 125)]
    assert read(frames.close(4001, "day shrank")) == [CloseConnection(4001, "day shrank")]
    assert read(frames.close(1001)) == [CloseConnection(1001, "")]
    assert read(frames.CLOSE_WITHOUT_CODE) == [CloseConnection(1005, "")]


@pytest.mark.parametrize("reason", ["x" * 123, "x" * 124, "é" * 62, "x" + "€" * 41, "😀" * 40])
def test_a_reason_is_cut_between_two_characters(reason: str) -> None:
    """A close frame has 125 bytes at most, and its reason is UTF-8 (section 5.5.1)."""
    frame = frames.close(1000, reason)
    (event,) = read(frame)
    assert isinstance(event, CloseConnection)
    assert len(frame) <= 127
    assert event.reason is not None
    assert reason.startswith(event.reason)
    assert len(event.reason.encode()) > 123 - 4
