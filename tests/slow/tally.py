"""What happened in a soak: counts by kind and outcome, and everything that was wrong."""

from __future__ import annotations

import threading
import traceback
from collections import Counter, defaultdict

FAULTS_MAX = 20
"""A soak that has seen so many stops; the rest would say the same."""


class Tally:
    """Shared by all threads of a soak."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.faults: list[str] = []

    def note(self, kind: str, outcome: object, count: int = 1) -> None:
        """Something of `kind` ended with `outcome`, a status or a word."""
        with self._lock:
            self._counts[kind][str(outcome)] += count

    def fault(self, kind: str) -> None:
        """Note the exception that is being handled; it should not have happened."""
        with self._lock:
            self.faults.append(f"{kind}: {traceback.format_exc()[-3_000:]}")

    @property
    def is_hopeless(self) -> bool:
        """Whether there is no point in going on."""
        return len(self.faults) >= FAULTS_MAX

    def count(self, kind: str, outcome: object) -> int:
        """How often something of `kind` ended so."""
        with self._lock:
            return self._counts[kind][str(outcome)]

    def text(self) -> str:
        """One line a kind."""
        with self._lock:
            return "\n".join(
                f"  {kind:<26} {sum(outcomes.values()):>8}  "
                + ", ".join(f"{name}: {n}" for name, n in sorted(outcomes.items()))
                for kind, outcomes in sorted(self._counts.items())
            )
