"""How far a response may be sent without waiting for the disk, and what is to be read next.

Owns two places in the segments of one response: up to where a thread has made them ready, and what
was requested last. It knows neither files nor threads. Before bytes leave, it asks their source
whether they are in memory; what must be read is handed out as a `Window`.

Warm responses cost one question a window. Once something was missing, windows are read one ahead of
the one being sent, until a thread finds that it had nothing to wait for. What was ready once may be
sent without asking again, so that a response makes progress however small a cache is. A client that
stalls loses this right (`expire`).

The places while windows are read ahead, with `sent <= _ready_until <= end of the window`:

    |--- has left ---|--- ready ---|--- a thread reads it ---|
                    sent     _ready_until             _window.stop

Bytes that were found in memory leave without moving `_ready_until`, which then lies behind `sent`
and says nothing.

Runs of tiny segments are not sent one by one, because each would cost a system call in the event
loop and a packet on the wire. A thread gathers their bytes, warm or cold, and the sender finds them
in `content`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from zerocopy.core.window import (
    GATHERED_BYTES_MAX,
    WINDOW_SLICES_MAX,
    Place,
    Window,
    cut_tiny,
    cut_window,
    is_tiny,
    is_tiny_run,
    place_after,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zerocopy.core.plan import Segment

WINDOW_BYTES_MAX = 16_777_216
"""As `[memory] read_ahead_bytes_max` has it by default."""


class ReadAhead:
    """How much of `segments` is ready, in windows of at most `window_bytes_max` bytes.

    `is_from_disk` tells of the window that was made ready last.
    """

    __slots__ = (
        "_error", "_gathered", "_gathered_until", "_last_window_start", "_mapped", "_reads_ahead",
        "_ready_until", "_segments", "_window", "_window_bytes_max", "is_from_disk",
    )  # fmt: skip

    def __init__(
        self, segments: Sequence[Segment], window_bytes_max: int, *, mapped: bool = False
    ) -> None:
        self._segments = segments
        self._mapped = mapped  # whether they are sent by `view`
        self._window_bytes_max = window_bytes_max
        self._ready_until: Place = (0, 0)
        self._last_window_start: Place = (0, 0)  # the sender comes here before the next is cut
        self._window: Window | None = None  # being read
        self._gathered: deque[Window] = deque()  # those whose content has not left, in order
        self._gathered_until: Place = (-1, 0)  # nowhere yet
        self._reads_ahead = False  # a thread should read the next window: something was missing
        self.is_from_disk = False
        self._error: Exception | None = None

    def content(self, index: int, position: int) -> memoryview | None:
        """The gathered bytes from `position` of a segment on, if any; see `advance_gathered`."""
        gathered = self._gathered
        if not gathered or (index, position) < gathered[0].start:
            return None
        return gathered[0].content

    def advance_gathered(self, count: int) -> None:
        """Note that `count` bytes of `content` have left."""
        window = self._gathered[0]
        window.content = window.content[count:]
        if not window.content:
            self._gathered.popleft()

    def allowed(self, index: int, position: int, want: int) -> int:
        """How many of `want` bytes of a segment may be sent from `position` now; 0: wait.

        Call it only if there is no `content`.

        Raises:
            ZerocopyError: a thread found that they cannot be read.
        """
        until = self._ready_until
        if (index, position) < until:
            return want if index < until[0] else min(want, until[1] - position)
        if self._error is not None:
            raise self._error
        if self._window is not None:
            return 0
        if self._is_gathered((index, position)):
            self._reads_ahead = True
            return 0
        segment = self._segments[index]
        # One question for some turns: it costs 3 µs, a turn of 1 MiB some 130.
        most = min(segment.count - position, max(want, self._window_bytes_max))
        count = segment.source.ready(segment.offset + position, most, mapped=self._mapped)
        if not count:
            self._reads_ahead = True
        elif count > want:
            self._ready_until = (index, position + count)
        return min(count, want)

    def _is_gathered(self, place: Place) -> bool:
        """Whether a segment is to be gathered: a run begins there, or goes on."""
        if is_tiny_run(self._segments, place[0]):
            return True
        return place == self._gathered_until and is_tiny(self._segments[place[0]])

    def next_window(
        self,
        index: int,
        position: int,
        sharers: int = 1,
        slices_max: int = WINDOW_SLICES_MAX,
        gathered_bytes_max: int = GATHERED_BYTES_MAX,
    ) -> Window | None:
        """Cut the window that a thread should read now, or return None if it should read nothing.

        The sender is at `position` of segment `index`. `sharers` is how many responses of the
        connection divide its bytes, `slices_max` how many files it may have open, and
        `gathered_bytes_max` how many bytes in memory. The caller has the window made ready and then
        calls `on_prepared`.
        """
        here = (index, position)
        if not self._reads_ahead or self._window is not None or here < self._last_window_start:
            return None
        start = place_after(self._segments, max(self._ready_until, here), 0)
        if start[0] >= len(self._segments) or self._error is not None:
            return None
        self._last_window_start = start
        if self._is_gathered(start):
            bytes_max = min(self._window_bytes_max, gathered_bytes_max)
            self._window = cut_tiny(self._segments, start, bytes_max // sharers)
        else:
            bytes_max = max(1, self._window_bytes_max // sharers)
            slices_max = min(slices_max, WINDOW_SLICES_MAX)
            self._window = cut_window(self._segments, start, bytes_max, slices_max)
        self._window.mapped = self._mapped
        return self._window

    def on_prepared(self, window: Window, error: Exception | None = None) -> None:
        """Take a window that is ready, or the `error` why it cannot be."""
        if window is not self._window:
            return  # cancelled
        self._window = None
        if error is not None:
            self._error = error
        else:
            self._ready_until = window.stop
            self._reads_ahead = window.has_waited
            self.is_from_disk = window.is_from_disk
            if window.gathers:
                assert window.content, "gathered before it is done"
                self._gathered.append(window)
                self._gathered_until = window.stop

    def expire(self) -> None:
        """The client has stalled: what was made ready may be gone by the time that it reads on."""
        if self._window is None and self._error is None:
            self._ready_until = self._last_window_start = (0, 0)
            self._gathered.clear()

    def cancel(self) -> None:
        """Nothing is wanted any more."""
        self._gathered.clear()
        if self._window is not None:
            self._window.cancel()
            self._window = None
