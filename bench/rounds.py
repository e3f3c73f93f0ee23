"""How a question is put to every server in turn, and which rounds of it count.

Owns interleaving. It must never know what is measured, nor start a server.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SMOKE_S = 0.2
"""Seconds of a measurement in a smoke run."""

OTHERS_SHARE_MAX = 0.03
"""Of all cores, in a round that counts as undisturbed."""

ATTEMPTS = 2
"""Rounds taken at most for each one that is wanted."""


class Disturbed(Protocol):
    """A measurement that tells what share of all cores strangers took meanwhile."""

    @property
    def others_share(self) -> float:
        """Of all cores."""


Measured = TypeVar("Measured", bound=Disturbed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much to measure."""

    rounds: int
    seconds: float
    smoke: bool


def take_rounds(
    options: Options,
    title: str,
    measures: Mapping[str, Callable[[], Measured]],
    notes: list[str],
) -> dict[str, list[Measured]]:
    """What every server gave, round by round: drift of the machine meets all of them alike.

    Until there are enough rounds that nobody disturbed, or `ATTEMPTS` times as many were taken;
    then the least disturbed ones count, in the order of time. `notes` are told where that matters.
    """
    taken: list[tuple[float, list[Measured]]] = []
    attempts_max = options.rounds * (1 if options.smoke else ATTEMPTS)
    while len(taken) < attempts_max and _quiet(taken) < options.rounds:
        turn = []
        for name, measure in measures.items():
            progress(f"{title}: round {len(taken) + 1}, {name}")
            turn.append(measure())
        taken.append((max(measured.others_share for measured in turn), turn))
    most = sorted(others_share for others_share, _ in taken)[options.rounds - 1]
    kept = [turn for others_share, turn in taken if others_share <= most][: options.rounds]
    if most > OTHERS_SHARE_MAX and not options.smoke:
        notes.append(
            f"a busy machine: others took up to {most:.0%} of all cores; trust the ratio by "
            "processor seconds, not the one by the clock"
        )
    if len(taken) > len(kept):
        notes.append(
            f"{len(taken)} rounds taken, the {len(kept)} counted that other processes disturbed "
            "least"
        )
    return {name: [turn[index] for turn in kept] for index, name in enumerate(measures)}


def _quiet(taken: list[tuple[float, list[Measured]]]) -> int:
    """How many rounds nobody disturbed."""
    return sum(others_share <= OTHERS_SHARE_MAX for others_share, _ in taken)


def progress(message: str) -> None:
    """Tell whoever waits; standard output is the report's."""
    print(f"bench: {message}", file=sys.stderr, flush=True)
