"""Descriptors that threads have fetched in a simulated world, and what becomes of them after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar
from weakref import WeakSet

from zerocopy.storage import dayfile

if TYPE_CHECKING:
    from zerocopy.storage.catalog import Stamp
    from zerocopy.storage.mapping import Mapping


class Fetched(dayfile.Fetched):
    """A descriptor of a world: what that leaves in circles must never close a real one."""

    __slots__ = ("__weakref__",)
    of_this_world: ClassVar[WeakSet[Fetched]] = WeakSet()

    def __init__(self, stamp: Stamp, fd: int, mapping: Mapping | None = None) -> None:
        super().__init__(stamp, fd, mapping)
        self.of_this_world.add(self)

    @classmethod
    def forget_all(cls) -> None:
        """The world is over."""
        for fetched in cls.of_this_world:
            fetched.take()
        cls.of_this_world.clear()
