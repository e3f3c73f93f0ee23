"""Looks at days that are over, of all live series of a worker.

Owns their bound. Each look keeps the files of its day open: those of the days that were read last
are kept, so that readers which catch up share them.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from zerocopy.core.plan import LIVE_LOOKS_KEPT

if TYPE_CHECKING:
    from zerocopy.storage.live.following import Followed, Look


class Past:
    """At most `LIVE_LOOKS_KEPT` looks, by what is followed and the day."""

    def __init__(self) -> None:
        self._looks: OrderedDict[tuple[Followed, int], Look] = OrderedDict()

    def __len__(self) -> int:
        """Looks that are kept."""
        return len(self._looks)

    def get(self, followed: Followed, day: int) -> Look | None:
        """The last look at a day, if it is kept."""
        return self._looks.get((followed, day))

    def keep(self, followed: Followed, look: Look) -> None:
        """Keep a look in place of an older one."""
        key = followed, look.sight.day
        self._looks[key] = look
        self._looks.move_to_end(key)
        if len(self._looks) > LIVE_LOOKS_KEPT:
            self._looks.popitem(last=False)

    def forget(self, followed: Followed, day: int) -> None:
        """A day has changed."""
        self._looks.pop((followed, day), None)

    def forget_all(self, followed: Followed) -> None:
        """All that is followed may have changed, or nobody reads it any more."""
        for key in [key for key in self._looks if key[0] == followed]:
            del self._looks[key]
