"""What a client sends, fault by fault: RFC 6455 sections 5 to 8."""

from __future__ import annotations

import pytest

from tests.transport.websocket.clientframes import binary, close, frame, more, ping, pong, text
from zerocopy.transport.timers import Wheel
from zerocopy.transport.websocket import frames
from zerocopy.transport.websocket.inbox import (
    FRAME_COST,
    KEPT_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    WINDOW_COST_MAX,
    WINDOW_TICKS,
    Inbox,
)


def fed(*received: bytes) -> Inbox:
    """An inbox that has received this, piece by piece."""
    inbox = Inbox(Wheel())
    for data in received:
        inbox.on_data(data)
    return inbox


def closes_with(inbox: Inbox, code: int) -> bool:
    """Whether an inbox is over, and its last reply says so with this code."""
    return inbox.is_over and inbox.replies()[-125:].find(b"%c%c" % divmod(code, 256)) >= 0


def test_the_last_ping_is_answered_once() -> None:
    """Section 5.5.3 lets a server answer only the most recent ping, so nothing piles up."""
    inbox = fed(ping(b"a") + ping(b"b"), ping(b"c"))
    assert inbox.replies() == frames.pong(b"c")
    assert inbox.replies() == b""
    inbox.on_data(ping())
    assert inbox.replies() == frames.pong(b"")


def test_messages_and_pongs_ask_for_nothing() -> None:
    """Text, binary, fragments with control frames among them: read and dropped."""
    inbox = fed(
        text("héllo") + binary(bytes(70)) + pong(b"x"),
        text("a", fin=False) + ping(b"amid") + more("b") + pong() + more("c", fin=True),
        binary(b"", fin=False) + more(b"") + more(b"", fin=True),
    )
    assert not inbox.is_over
    assert inbox.replies() == frames.pong(b"amid")


def test_a_close_is_answered_with_its_code() -> None:
    """Section 5.5.1: typically the code that was received; none where there was none."""
    assert fed(close(1000, "done")).replies() == frames.close(1000)
    assert fed(close(4999)).replies() == frames.close(4999)
    assert fed(close()).replies() == frames.CLOSE_WITHOUT_CODE


def test_nothing_counts_after_a_close() -> None:
    """Section 1.4: data after it is discarded; neither ping nor fault changes the answer."""
    inbox = fed(ping(b"before") + close(1001) + ping(b"behind") + b"\xff\xff", b"\xff" * 100)
    assert inbox.replies() == frames.pong(b"before") + frames.close(1001)
    inbox.on_data(ping())
    assert inbox.replies() == b""


def test_a_fault_is_told_once() -> None:
    """The first counts: section 7.1.7."""
    inbox = fed(frame(3), close(1000))
    assert closes_with(inbox, 1002)


def test_a_message_may_be_so_long_in_all() -> None:
    """Fragments count together, a length is believed before its bytes come."""
    half = MESSAGE_BYTES_MAX // 2
    assert not fed(binary(bytes(half), fin=False), more(bytes(half), fin=True)).is_over
    assert not fed(*[binary(bytes(half))] * 3).is_over
    inbox = fed(binary(bytes(half), fin=False), more(bytes(half)))
    assert not inbox.is_over
    inbox.on_data(more(b"x"))
    assert closes_with(inbox, 1009)
    assert closes_with(fed(frame(2, length=MESSAGE_BYTES_MAX + 1)), 1009)
    assert closes_with(fed(frame(1, length=2**63 - 1)), 1009)


def test_a_flood_of_frames_ends_with_1008() -> None:
    """A frame counts more than its bytes; those of another second count anew."""
    wheel = Wheel()
    inbox = Inbox(wheel)
    burst = (ping() + text("x")) * (WINDOW_COST_MAX // (FRAME_COST + 8) // 2)
    for _ in range(3):
        inbox.on_data(burst)
        assert not inbox.is_over
        wheel.now += WINDOW_TICKS
    inbox.on_data(burst)
    inbox.on_data((ping() + text("x")) * 99)
    assert closes_with(inbox, 1008)


def test_a_flood_of_bytes_ends_with_1008() -> None:
    """A mebibyte in a window, whatever its frames hold."""
    wheel = Wheel()
    inbox = Inbox(wheel)
    message = binary(bytes(60_000))
    for _ in range(WINDOW_COST_MAX // len(message)):
        inbox.on_data(message)
        assert not inbox.is_over
    wheel.now += WINDOW_TICKS - 1
    inbox.on_data(message)
    assert closes_with(inbox, 1008)


@pytest.mark.parametrize(
    "data", [ping(bytes(125)), binary(bytes(60_000)), text("é" * 9_000), close(1000, "x" * 123)]
)
def test_an_inbox_keeps_no_more_than_a_control_frame(data: bytes) -> None:
    """Byte by byte: nothing of a data frame is kept, and less than one control frame."""
    inbox = Inbox(Wheel())
    for at in range(0, len(data), 1 if len(data) < 1_000 else 7):
        inbox.on_data(data[at : at + (1 if len(data) < 1_000 else 7)])
        assert len(inbox._kept) < KEPT_BYTES_MAX
    assert inbox._kept == b""
