"""One who reads a live stream, as its tail sees it; `feed.py` is the only one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from zerocopy.core.cursor import Cursor
    from zerocopy.core.http.stream import Message
    from zerocopy.storage.live.following import Look


class Reader(Protocol):
    """A subscriber, as a tail sees it."""

    def wake(self) -> None:
        """Something may have come."""

    def stall(self) -> None:
        """What it asked for cannot be seen now: it is to ask again when it is woken."""

    def beat(self) -> None:
        """Nothing has come for long."""

    def offer(self, version: int, look: Look) -> None:
        """What it asked for was seen of its day; of use while the tail has that version."""

    def give(self, message: Message, begin: Cursor, stop: int) -> None:
        """The message it asked for, of the records from `begin` to `stop` of that day."""

    def fail(self, error: Exception) -> None:
        """What it asked for cannot be had."""
