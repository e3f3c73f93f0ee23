"""What threads count about the store: additions to a worker's row that none of them loses."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zerocopy.core.counters import Counters


class Tally:
    """Adds to `counters`, or to nothing. Safe to use from several threads."""

    def __init__(self, counters: Counters | None = None) -> None:
        self._counters = counters
        self._lock = threading.Lock()

    def add(self, slot: int, value: int = 1) -> None:
        """Add to a slot."""
        if self._counters is not None:
            with self._lock:
                self._counters[slot] += value

    def tell(self, slot: int, value: int) -> None:
        """Set a slot."""
        if self._counters is not None:
            self._counters[slot] = value
