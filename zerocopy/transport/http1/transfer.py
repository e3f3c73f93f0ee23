"""One turn of sending a body on a channel: sendfile(2) for files, send(2) for the rest.

Owns the choice between the two, and why a turn ends. It knows no request and waits for nothing:
`http1/sender.py` waits for the client or the disk, and calls again.
"""

from __future__ import annotations

import enum
import socket
from typing import TYPE_CHECKING

from zerocopy.core import counters as slots
from zerocopy.core.errors import DataChangedError
from zerocopy.transport.body import SEGMENT_COST_BYTES
from zerocopy.transport.sendfile import Outcome

if TYPE_CHECKING:
    from zerocopy.core.counters import Counters
    from zerocopy.transport.body import Body
    from zerocopy.transport.channel import Channel


class Stop(enum.Enum):
    """Why a turn ended."""

    DONE = "the kernel has all of the body"
    SPENT = "the turn has no bytes left"
    BLOCKED = "the socket is full"
    FETCHING = "the next bytes are not in memory"


def send_turn(body: Body, channel: Channel, counters: Counters, budget: int) -> tuple[Stop, int]:
    """Send `body` for at most `budget` bytes. Returns why that ended, and how many bytes it cost.

    A segment costs `SEGMENT_COST_BYTES` at least.

    Raises:
        DataError: a file changed or cannot be opened; the promise cannot be kept.
        OverloadError: the system is out of memory; so it cannot either.
        OSError: the peer is gone, or a file cannot be read (see `sendfile.send_range`).
    """
    spent = 0
    while body.left_bytes:
        if spent >= budget:
            return Stop.SPENT, spent
        most = max(min(budget - spent, channel.piece_bytes_max), channel.retry_bytes)
        view: memoryview | bytes | None = body.in_memory(most)
        cost = 0
        if view is None:
            count = body.allowed(most)
            if not count:
                return Stop.FETCHING, spent
            cost = SEGMENT_COST_BYTES
            source, offset, left = body.file_range
            fd = source.fileno() if channel.can_send_file else None
            if fd is not None:
                sent, is_full = _send_file(channel, counters, fd, offset, left, most=count)
                body.advance(sent)
                spent += max(sent, cost)
                if is_full:
                    return Stop.BLOCKED, spent
                continue
            view = source.view(offset, count)
        try:
            sent = channel.send(view, socket.MSG_MORE if body.joins_next else 0)
        except BlockingIOError:
            if channel.retry_bytes:
                body.hold(view)
            return Stop.BLOCKED, spent
        counters[slots.SENT_BYTES_COPY] += sent
        body.advance(sent)
        spent += max(sent, cost)
        if sent < len(view):
            return Stop.BLOCKED, spent
    return Stop.DONE, spent


def _send_file(
    channel: Channel, counters: Counters, fd: int, offset: int, count: int, *, most: int
) -> tuple[int, bool]:
    """Send a range of a file. Returns the bytes sent and whether the socket is full.

    The segment has `count` bytes from `offset` on, of which `most` may leave now.
    """
    try:
        sent, outcome = channel.send_file(fd, offset, count, most)
    except OSError as error:
        counters[slots.SENT_BYTES_SENDFILE] += getattr(error, "characters_written", 0)
        raise
    counters[slots.SENT_BYTES_SENDFILE] += sent
    if outcome is Outcome.END_OF_FILE:
        raise DataChangedError("a day file was truncated while it was being sent")
    return sent, outcome is Outcome.WOULD_BLOCK
