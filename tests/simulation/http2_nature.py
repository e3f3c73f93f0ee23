"""What a seed makes of a run: how long it is, how restless, and what is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.simulation import http2_kinds

if TYPE_CHECKING:
    from random import Random

    from tests.simulation.http2_kinds import Kind

_PARTS = frozenset({"range", "ranges apart", "if range"})


class Nature(NamedTuple):
    """What a seed makes of its run."""

    steps: int
    changes: float
    amid: float
    faults: float
    windows: tuple[int, ...]
    kinds: tuple[Kind, ...]
    small_bytes_max: int
    waits: float
    is_brisk: bool = False

    @classmethod
    def of(cls, rng: Random) -> Nature:
        """Some runs are of everything; some repeat a request, for the lane; some send slowly.

        In a brisk run bytes come and go in whole writes, so that they can be answered in a batch.
        """
        nature = cls(
            steps=rng.choice((15, 30, 60, 100)),
            changes=rng.choice((0.0, 0.02, 0.1, 0.3)),
            amid=rng.choice((0.0, 0.0, 0.0, 0.02)),
            faults=rng.choice((0.0, 0.0, 0.01, 0.1)),
            windows=rng.choice(((65_535, 3_000), (0, 1, 100, 65_535), (0, 1, 20))),
            kinds=http2_kinds.KINDS,
            small_bytes_max=rng.choice((0, 300, 1_500, 65_536)),
            waits=0.04,
        )
        fate = rng.random()
        data = [kind for kind in http2_kinds.KINDS if kind.asked is not None]
        if fate < 0.25:
            plain = [kind for kind in data if kind.content is None and kind.status == 200]
            few = tuple(rng.choices(plain, [kind.weight for kind in plain], k=2))
            return nature._replace(
                steps=100,
                changes=min(nature.changes, 0.05),
                kinds=few,
                windows=(65_535, 60_000, 5_000),
                small_bytes_max=65_536,
                faults=0.0,
                waits=0.1,
                is_brisk=rng.random() < 0.7,
            )
        if fate < 0.5:
            wide = tuple(kind for kind in data if kind.weight > 5 or kind.condition in _PARTS)
            return nature._replace(kinds=wide, small_bytes_max=0, windows=(20, 100, 1_000))
        return nature
