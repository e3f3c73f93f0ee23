"""The proof of a plan: what must be unchanged on disk for its response to be still true.

Owns the question, asked of the file system each time, and no memory of an earlier answer.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zerocopy.storage.catalog import Stamp


@dataclass(frozen=True, slots=True)
class Proof:
    """Paths and the stamps lstat(2) must give for the plan to be still true.

    `reusable` is False when a stamp is too young to tell two changes apart; see `RACY_NS`. `lost`
    names files of the plan that could not be opened again since; see `DayFile`.
    """

    stamps: tuple[tuple[str, Stamp], ...]
    reusable: bool
    lost: list[str] = field(default_factory=list)

    def holds(self) -> bool:
        """Whether nothing the response depends on has changed: one lstat(2) for each stamp.

        Nothing is opened. The last component is never followed; a directory further up that was
        moved away and linked back leads to the same inode, so to the same bytes. But once a file
        had to be opened again and could not be, which follows no link at all, nothing holds.
        """
        if self.lost:
            return False
        try:
            for path, (inode, device, size, changed_ns) in self.stamps:
                status = os.lstat(path)
                if (
                    status.st_size != size
                    or status.st_ctime_ns != changed_ns
                    or status.st_ino != inode
                    or status.st_dev != device
                ):
                    return False
        except OSError:
            return False
        return True
