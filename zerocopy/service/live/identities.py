"""Which files of a day a reader has seen: names for them that no later files of that day get.

Owns how often the files of each day were replaced. Device and inode alone are no name: an inode is
free once nobody has it open. So files that replace others twice may have the keys of the first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zerocopy.storage.live.following import Look


class Identities:
    """Those of one series and its columns."""

    __slots__ = ("_replaced",)

    def __init__(self) -> None:
        self._replaced: dict[int, int] = {}  # how often that was seen of a day, or told

    def note_replaced(self, day: int) -> None:
        """Names of the day lead to other files."""
        self._replaced[day] = self._replaced.get(day, 0) + 1

    def named(self, look: Look, known: Look | None) -> Look:
        """The look with an identity; `known` is the last one at that day, if it is kept."""
        day, opened = look.sight.day, look.opened
        if opened is None:
            return look
        before = None if known is None else known.opened
        if before is not None and before.keys == opened.keys:
            opened.identity = before.identity  # both are open, so they are the same files
        else:
            if before is not None:
                self.note_replaced(day)
            opened.identity = self._replaced.get(day, 0), opened.keys
        return look._replace(sight=look.sight._replace(identity=opened.identity))
