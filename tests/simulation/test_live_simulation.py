"""Live streams in a simulated world: each reader gets each record once, whatever happens.

One seed again: `SIMULATION_SEED=N pytest tests/simulation/test_live_simulation.py -k given`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.simulation.live_run import RUNS, run, runs
from tests.simulation.runs import SEED_VARIABLE
from zerocopy.core import cursor
from zerocopy.core.cursor import Advance, Cursor, Records
from zerocopy.service.live import feed
from zerocopy.transport.http1.streamer import Streamer

if TYPE_CHECKING:
    from collections.abc import Callable

    Patch = pytest.MonkeyPatch

SLOW_RUNS = 3_000
ONCE_WRONG = (345, 636, 830)
"""A client that came back got records of files that had been replaced before."""


def test_no_run_loses_or_repeats_a_record() -> None:
    """Records torn and unequal, midnight, days replaced, slow readers, failing calls, drains."""
    wrong = runs(range(RUNS))
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize("seed", ONCE_WRONG)
def test_no_run_that_was_once_wrong_loses_a_record(seed: int) -> None:
    """What the server did wrong it does not do again."""
    assert not (outcome := run(seed)).wrong, str(outcome)


def test_no_given_run_loses_a_record() -> None:
    """The run of the number in the environment, to see a failure again; else the first run."""
    outcome = run(int(os.environ.get(SEED_VARIABLE, "0")))
    assert not outcome.wrong, str(outcome)


def test_equal_seeds_are_equal_runs() -> None:
    """Two runs from one number make the same system calls with the same results."""
    assert run(1).trace == run(1).trace != run(2).trace


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_no_run_of_many_loses_a_record() -> None:
    """The same over many numbers."""
    wrong = runs(range(RUNS, SLOW_RUNS))
    assert not wrong, "\n".join(map(str, wrong[:20]))


def never_resets(patch: Patch) -> None:
    """A reader of files that others have replaced is left waiting."""

    def step(at: Cursor, sight: cursor.Sight, identity: object = None) -> cursor.Step:
        found = cursor.next_step(at, sight, identity)
        return cursor.WAIT if isinstance(found, cursor.Reset) else found

    patch.setattr(feed, "next_step", step)


def leaves_a_day_too_early(patch: Patch) -> None:
    """Once a later day has records, what is left of the day is passed over."""

    def step(at: Cursor, sight: cursor.Sight, identity: object = None) -> cursor.Step:
        found = cursor.next_step(at, sight, identity)
        if isinstance(found, Records) and sight.later is not None and at.position:
            return Advance(Cursor(sight.later, 0))
        return found

    patch.setattr(feed, "next_step", step)


def forgets_the_rest_of_a_short_write(patch: Patch) -> None:
    """What the socket did not take of a message is taken for sent."""
    whole = Streamer._sends

    def sends(self: Any, data: bytes) -> bool:
        if len(data) > 200:
            self._channel.send(data)
            return True
        return whole(self, data)

    patch.setattr(Streamer, "_sends", sends)


def counts_a_message_twice(patch: Patch) -> None:
    """The cursor of a reader runs ahead by a record."""
    whole = feed.LiveFeed._note_message

    def note(self: Any, stop: int) -> None:
        whole(self, stop + (stop % 7 == 0))

    patch.setattr(feed.LiveFeed, "_note_message", note)


MUTANTS = (
    never_resets,
    leaves_a_day_too_early,
    forgets_the_rest_of_a_short_write,
    counts_a_message_twice,
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_mutant_is_caught(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    """A simulator that lets one of these live is too weak."""
    monkeypatch.setattr("tests.simulation.world.STEPS_MAX", 3_000)
    mutant(monkeypatch)
    assert any(run(seed).wrong for seed in range(RUNS))
