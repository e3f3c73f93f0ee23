"""The directory of a series that somebody reads: how changes are learned of, and who wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zerocopy.service.live.tail import Tail
    from zerocopy.storage.live.watching import Watch


class Directory:
    """The directory of a series that somebody reads, and its tails."""

    __slots__ = ("hinted_ns", "is_checked", "is_hinted", "tails", "watch")

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.tails: list[Tail] = []
        self.is_checked = False
        self.is_hinted = False
        """Whether a look for a hint is still to come."""
        self.hinted_ns = 0

    @property
    def is_told(self) -> bool:
        """Whether every change is told by an event."""
        return self.watch.is_local and self.watch.number is not None
