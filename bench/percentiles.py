"""Percentiles of latencies, as far as there are enough of them.

Owns one rule for every client: a percentile is told only where at least one answer was slower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

P99_ANSWERS_MIN, P999_ANSWERS_MIN = 100, 1_000
"""With fewer the percentile would be the slowest answer of all."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """Microseconds; None where too few answers would tell."""

    p50_us: float | None = None
    p99_us: float | None = None
    p999_us: float | None = None


def percentiles(took_us: Sequence[float]) -> Latencies:
    """The percentiles of what every answer took, in any order."""
    count = len(took_us)
    return Latencies(
        quantile(took_us, 500) if count else None,
        quantile(took_us, 990) if count >= P99_ANSWERS_MIN else None,
        quantile(took_us, 999) if count >= P999_ANSWERS_MIN else None,
    )


def quantile(values: Sequence[float], per_mille: int) -> float:
    """The value that `per_mille` thousandths of `values`, in any order, are below of."""
    return sorted(values)[len(values) * per_mille // 1_000]
