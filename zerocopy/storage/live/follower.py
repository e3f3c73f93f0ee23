"""What live streams need of whatever holds the days: looks at them, which block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from zerocopy.core.cursor import Cursor
    from zerocopy.storage.live.following import Followed, Look
    from zerocopy.storage.tree import Series


class DayFollower(Protocol):
    """See `Follower`, over a directory, and `StoreFollower`. Safe to use from several threads."""

    def directory(self, series: Series) -> str:
        """The path of the directory of a series; waits for nothing."""

    def expect(self, series: Series) -> None:
        """Somebody says that a series has changed just now; waits for nothing."""

    def check(self, followed: Followed) -> None:
        """Assure that there is something to follow; see `Follower.check`."""

    def newest(self, followed: Followed) -> Cursor:
        """The cursor behind all aligned records there are; see `Follower.newest`."""

    def first_at(self, followed: Followed, start_s: int) -> Cursor:
        """The cursor before the first record at a time; see `Follower.first_at`."""

    def reaching(self, followed: Followed, cursor: Cursor) -> Callable[[], None] | None:
        """What a thread has to do before looks show what a client with this cursor has seen.

        That may have been elsewhere. None where there is nothing to do; waits for nothing.
        """

    def look(self, followed: Followed, day: int, known: Look | None = None) -> Look:
        """Look at a day; see `Follower.look`."""
