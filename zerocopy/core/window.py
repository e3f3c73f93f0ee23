"""The next bytes of an answer that are to be sent: what a thread makes ready, and until where.

Owns no bytes. A window is cut by the transport (`transport/readahead.py`), made ready by whoever
has the files, and handed back; the two sides meet in it as they do in a `Segment`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zerocopy.core.plan import Segment

WINDOW_SLICES_MAX = 64
"""Slices of a window, each of which may be a file to open."""

TINY_BYTES = 16_384
"""A segment of at most so many bytes is tiny: to send it by itself costs more than to copy it."""

TINY_RUN = 24
"""So many tiny segments in a row are gathered; fewer leave sooner than a thread would be woken."""

GATHERED_BYTES_MAX = 262_144
"""Bytes that a thread gathers at a time for a connection, which has them in memory until they have
left; where many answers share them each has `TINY_BYTES` at least."""

GATHERED_SLICES_MAX = 256
"""Slices of such a window: a thread opens, reads and closes one after another, in some 2 ms."""

WINDOWS_OPEN = 4
"""Windows of an answer whose files are open at once: the one being sent and the next; and two
listeners share the files."""

Place = tuple[int, int]
"""A segment's index, and a byte in it. Places compare as they lie in the answer."""


class Window:
    """`slices` of the segments of one answer from `start` to `stop`, in order.

    `mapped` is whether they are sent from mappings; sendfile(2) needs none. One that `gathers` has
    a thread read its slices, which are tiny, into `content`, and nothing of it stays open.

    `is_cancelled` is set by the event loop's thread when nobody wants them any more, and looked at
    by the one that reads. `has_waited` tells afterwards that there was something to wait for.
    """

    __slots__ = (
        "content", "gathers", "has_waited", "is_cancelled", "mapped", "slices", "start", "stop"
    )  # fmt: skip

    def __init__(
        self, slices: Sequence[Segment], start: Place, stop: Place, *, gathers: bool = False
    ) -> None:
        assert slices, "a window has bytes"
        assert start < stop, "in order"
        self.slices = slices
        self.start = start
        self.stop = stop
        self.gathers = gathers
        self.content = memoryview(b"")
        self.mapped = False
        self.is_cancelled = False
        self.has_waited = False

    def cancel(self) -> None:
        """Nobody wants it any more."""
        self.is_cancelled = True


def fair_slices(own: int, held: int, files_max: int) -> int:
    """Slices of a window for an answer of `own` segments while all together have `held`.

    So many files that none of `files_max` open ones is closed before it is sent.
    """
    assert 0 <= own <= held, "its own are counted"
    return max(1, files_max * own // (WINDOWS_OPEN * held)) if own else 1


def is_tiny_run(segments: Sequence[Segment], index: int) -> bool:
    """Whether the segments from `index` on are to be gathered."""
    run = segments[index : index + TINY_RUN]
    return len(run) == TINY_RUN and all(segment.count <= TINY_BYTES for segment in run)


def place_after(segments: Sequence[Segment], place: Place, count: int) -> Place:
    """Where a sender is who was at `place` and has sent `count` bytes more."""
    index, position = place
    position += count
    while index < len(segments) and position >= segments[index].count:
        position -= segments[index].count
        index += 1
    assert index < len(segments) or not position, "no more than there is"
    return index, position


def cut(
    segments: Sequence[Segment], start: Place, bytes_max: int, count_max: int, share: int = 1
) -> Window:
    """The window from `start` of at most so many bytes and slices; something must be left there.

    One that begins with a run of tiny segments gathers all of them that fit the bounds for it.
    `share` is among how many answers the bytes are divided.
    """
    assert bytes_max > 0, "a window has bytes"
    assert count_max > 0, "in slices"
    index, position = start
    gathers = is_tiny_run(segments, index)
    if gathers:
        # At least the largest tiny segment, or who has many answers waits for threads only.
        bytes_max = max(TINY_BYTES, min(bytes_max, GATHERED_BYTES_MAX) // share)
        count_max = GATHERED_SLICES_MAX
    else:
        bytes_max = max(1, bytes_max // share)
    slices: list[Segment] = []
    while index < len(segments) and bytes_max > 0 and len(slices) < count_max:
        segment = segments[index]
        if gathers and segment.count > TINY_BYTES:
            break
        if slices and not gathers and is_tiny_run(segments, index):
            break
        count = min(segment.count - position, bytes_max)
        if count < segment.count:
            segment = replace(segment, offset=segment.offset + position, count=count)
        slices.append(segment)
        bytes_max -= count
        position += count
        if position == segments[index].count:
            index, position = index + 1, 0
    return Window(slices, start, (index, position), gathers=gathers)
