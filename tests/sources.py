"""What fake sources have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.core.plan import spread

if TYPE_CHECKING:
    from collections.abc import Sequence


class Scatters:
    """`scatter` of a source, made of its `view`."""

    def view(self, offset: int, count: int) -> memoryview | bytes:
        """As `Source` has it; for the fake to say."""
        raise NotImplementedError

    def scatter(self, offset: int, targets: Sequence[memoryview]) -> None:
        """As `Source` has it."""
        spread(self.view(offset, sum(map(len, targets))), targets)
