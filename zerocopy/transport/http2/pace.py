"""When a client last took enough of what is sent to it.

Owns what counts as progress behind a window that is shut. It does not know whose bytes they are.
"""

from __future__ import annotations

PROGRESS_BYTES = 16_384
"""What a client that keeps its window shut must take within `write_progress_s`: one frame."""


class Pace:
    """The tick at which a client last got on, as `at`.

    A client that opens its window by the byte would else hold its responses in memory for ever.
    """

    __slots__ = ("_nbytes", "at")

    def __init__(self, now: int) -> None:
        self.at = now
        self._nbytes = 0  # taken since then

    def took(self, nbytes: int, now: int, *, is_shut: bool) -> None:
        """Note that `nbytes` have left; `is_shut` is whether they used up the window."""
        self._nbytes += nbytes
        if (nbytes and not is_shut) or self._nbytes >= PROGRESS_BYTES:
            self.at, self._nbytes = now, 0
