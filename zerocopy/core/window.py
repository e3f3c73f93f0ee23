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

WINDOWS_OPEN = 4
"""Windows of an answer whose files are open at once: the one being sent and the next; and two
listeners share the files."""

Place = tuple[int, int]
"""A segment's index, and a byte in it. Places compare as they lie in the answer."""


class Window:
    """`slices` of the segments of one answer from `start` to `stop`, in order.

    `mapped` is whether they are sent from mappings; sendfile(2) needs none.

    `is_cancelled` is set by the event loop's thread when nobody wants them any more, and looked at
    by the one that reads. `has_waited` tells afterwards that there was something to wait for.
    """

    __slots__ = ("has_waited", "is_cancelled", "mapped", "slices", "start", "stop")

    def __init__(self, slices: Sequence[Segment], start: Place, stop: Place) -> None:
        assert slices, "a window has bytes"
        assert start < stop, "in order"
        self.slices = slices
        self.start = start
        self.stop = stop
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


def cut(segments: Sequence[Segment], start: Place, bytes_max: int, count_max: int) -> Window:
    """The window from `start` of at most so many bytes and slices; something must be left there."""
    assert bytes_max > 0, "a window has bytes"
    assert count_max > 0, "in slices"
    index, position = start
    slices: list[Segment] = []
    while index < len(segments) and bytes_max > 0 and len(slices) < count_max:
        segment = segments[index]
        count = min(segment.count - position, bytes_max)
        if count < segment.count:
            segment = replace(segment, offset=segment.offset + position, count=count)
        slices.append(segment)
        bytes_max -= count
        position += count
        if position == segments[index].count:
            index, position = index + 1, 0
    return Window(slices, start, (index, position))
