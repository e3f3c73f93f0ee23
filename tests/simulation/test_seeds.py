"""Whole runs of the plain HTTP/1.1 server in a simulated world, each from one number."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.simulation.runs import RUNS, SEED_VARIABLE, run, runs

RUNS_VARIABLE = "SIMULATION_RUNS"
SLOW_RUNS = 200_000
CHUNK = 500
GROUPS = 2

ONCE_WRONG = (10_630, 16_615)
"""What many runs have found: /api/symbols told the time of a link that had just replaced a file."""


@pytest.mark.parametrize("group", range(GROUPS))
def test_no_run_breaks_the_contract(group: int) -> None:
    """Whatever clients, files and failing calls do: right answers, true errors, or aborts."""
    wrong = runs(range(group, RUNS, GROUPS))
    assert not wrong, "\n".join(map(str, wrong))


def test_no_given_run_breaks_the_contract() -> None:
    """The run of the number in the environment, to see a failure again; else the first run."""
    outcome = run(int(os.environ.get(SEED_VARIABLE, "0")), log=True)
    assert not outcome.wrong, "\n".join([*outcome.log, str(outcome)])


@pytest.mark.parametrize("seed", ONCE_WRONG)
def test_no_run_that_was_once_wrong_breaks_the_contract(seed: int) -> None:
    """What the server did wrong it does not do again."""
    assert not (outcome := run(seed)).wrong, str(outcome)


@pytest.mark.parametrize("seed", [1, 2, 3, 5])
def test_equal_seeds_are_equal_runs(seed: int) -> None:
    """Two runs from one number make the same system calls with the same results."""
    assert run(seed).trace == run(seed).trace


def test_different_seeds_are_different_runs() -> None:
    """The digest tells runs apart."""
    assert len({run(seed).trace for seed in range(20)}) == 20


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_no_run_of_many_breaks_the_contract() -> None:
    """The same over as many numbers as the environment says, on all processors."""
    count = int(os.environ.get(RUNS_VARIABLE, str(SLOW_RUNS)))
    chunks = [range(at, min(at + CHUNK, count)) for at in range(RUNS, count, CHUNK)]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(mp_context=spawn) as pool:
        wrong = [outcome for found in pool.map(runs, chunks) for outcome in found]
    assert not wrong, "\n".join(map(str, wrong[:20]))
