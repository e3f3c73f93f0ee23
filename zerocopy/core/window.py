"""A window: the next bytes of a response, which a thread makes ready before they are sent.

Owns no bytes. The transport cuts a window (`transport/readahead.py`), a thread of the service makes
it ready, and the transport gets it back. Both sides meet in it, as they do in a `Segment`.
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
"""Bytes that a thread gathers at a time for a connection; they are in memory until they leave."""

GATHERED_BYTES_TOTAL = 67_108_864
"""Bytes gathered for all responses of a listener, divided among them; each has `TINY_BYTES`."""

GATHERED_SLICES_MAX = 128
"""Slices of such a window: a thread opens, reads and closes one after another, in some 1 ms."""

GATHERERS_MAX = 2
"""Windows gathered at once by the threads that plan, so that there are some left for plans."""

FROM_DISK = 4
"""A window is from the disk if one byte of so many was not in memory."""

WINDOWS_OPEN = 4
"""Windows of a response whose files are open at once: the one being sent and the next; and two
listeners share the files."""

Place = tuple[int, int]
"""A segment's index, and a byte in it. Places compare as they lie in the response."""


class Window:
    """`slices` of the segments of one response from `start` to `stop`, in order.

    `mapped` is whether they are sent from mappings; sendfile(2) needs none. For a window that
    `gathers`, a thread reads the slices, which are tiny, into `content`, and leaves nothing open.
    If a slice is not in memory, the thread gives up. The window then `may_wait`: it goes to the
    reader threads.

    `is_cancelled` is set by the event loop's thread when they are no longer wanted, and looked at
    by the one that reads. `has_waited` tells afterwards that there was something to wait for, and
    `missing_bytes` how much of it had to be read from the disk.
    """

    __slots__ = (
        "content", "gathers", "has_waited", "is_cancelled", "mapped", "may_wait", "missing_bytes",
        "slices", "start", "stop",
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
        self.may_wait = not gathers
        self.mapped = False
        self.is_cancelled = False
        self.has_waited = False
        self.missing_bytes = 0

    @property
    def is_from_disk(self) -> bool:
        """Whether a good part of it was not in memory; to open a file does not count."""
        return FROM_DISK * self.missing_bytes >= sum(piece.count for piece in self.slices)

    def cancel(self) -> None:
        """It is no longer wanted."""
        self.is_cancelled = True


def fair_slices(own: int, held: int, files_max: int) -> int:
    """Slices of a window for a response of `own` segments while all together have `held`.

    So few that none of `files_max` open files is closed before it is sent.
    """
    assert 0 <= own <= held, "its own are counted"
    return max(1, files_max * own // (WINDOWS_OPEN * held)) if own else 1


def fair_gathered_bytes(answers: int) -> int:
    """Bytes gathered at a time for one of so many responses that are being sent."""
    return min(GATHERED_BYTES_MAX, GATHERED_BYTES_TOTAL // max(1, answers))


def is_tiny(segment: Segment) -> bool:
    """Whether it is sent with its neighbours where there are enough of them."""
    return segment.count <= TINY_BYTES


def is_tiny_run(segments: Sequence[Segment], index: int) -> bool:
    """Whether the segments from `index` on are to be gathered."""
    run = segments[index : index + TINY_RUN]
    return len(run) == TINY_RUN and all(map(is_tiny, run))


def place_after(segments: Sequence[Segment], place: Place, count: int) -> Place:
    """The place of a sender that was at `place` and has sent `count` bytes more."""
    index, position = place
    position += count
    while index < len(segments) and position >= segments[index].count:
        position -= segments[index].count
        index += 1
    assert index < len(segments) or not position, "no more than there is"
    return index, position


def cut_window(segments: Sequence[Segment], start: Place, bytes_max: int, count_max: int) -> Window:
    """The window from `start` of at most so many bytes and slices; something must be left there.

    It ends before a run of tiny segments, which is to be gathered.
    """
    assert bytes_max > 0, "a window has bytes"
    assert count_max > 0, "in slices"
    stop = start[0] + 1
    while stop < len(segments) and stop - start[0] < count_max and not is_tiny_run(segments, stop):
        stop += 1
    slices, end = _slices(segments, start, stop, bytes_max)
    return Window(slices, start, end)


def cut_tiny(segments: Sequence[Segment], start: Place, bytes_max: int) -> Window:
    """The window that gathers tiny segments from `start` on: one and those that come behind it.

    Its bytes are at least those of the largest tiny segment. With less, a body that shares them
    with many would only wait for threads.
    """
    stop = start[0] + 1
    most = min(len(segments), start[0] + GATHERED_SLICES_MAX)
    while stop < most and is_tiny(segments[stop]):
        stop += 1
    slices, end = _slices(segments, start, stop, max(bytes_max, TINY_BYTES))
    return Window(slices, start, end, gathers=True)


def _slices(
    segments: Sequence[Segment], start: Place, stop: int, bytes_max: int
) -> tuple[list[Segment], Place]:
    """Slices from `start` to the segment `stop`, at most so many bytes; and where they end."""
    index, position = start
    slices: list[Segment] = []
    while index < stop and bytes_max > 0:
        segment = segments[index]
        count = min(segment.count - position, bytes_max)
        if count < segment.count:
            segment = replace(segment, offset=segment.offset + position, count=count)
        slices.append(segment)
        bytes_max -= count
        position += count
        if position == segments[index].count:
            index, position = index + 1, 0
    return slices, (index, position)
