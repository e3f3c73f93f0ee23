"""One simulated run from one seed: which world it is, who comes, and what was wrong.

Owns the mix of worlds. A seed is a number; the same number is the same run, to the last system
call.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.client import Manners
from tests.simulation.faults import NoFaults, RandomFaults
from tests.simulation.judgement import complaints, verdict
from tests.simulation.kinds import KINDS, any_ask
from tests.simulation.tls import PIECE_BYTES
from tests.simulation.world import Shape, World, faked

if TYPE_CHECKING:
    from collections.abc import Iterable

SEED_VARIABLE = "SIMULATION_SEED"
RUNS = 100
"""Runs that every change has to pass, 30 ms each: each common mistake shows within the first 90."""
TLS_EVERY = 3
"""Of so many seeds one is a world whose clients speak TLS."""
PROBES = ("small", "large", "symbols", "range", "not modified")


class Outcome(NamedTuple):
    """What a run came to: what is wrong, and a digest of all that happened."""

    seed: int
    wrong: list[str]
    trace: str
    log: list[str]

    def __str__(self) -> str:
        """One line that says how to see it again."""
        return (
            f"{SEED_VARIABLE}={self.seed} python -m pytest tests/simulation/test_seeds.py"
            f" -k given  # {'; '.join(self.wrong)[:2_000]}"
        )


def shape_of(rng: random.Random, *, encrypts: bool) -> Shape:
    """The bounds and the restlessness of one world; a third is calm."""
    return Shape(
        small_answer_bytes_max=rng.choice([0, 300, 500, 65_536]),
        turn_bytes_max=rng.choice([100, 300, 2_000, 20_000]),
        open_files_max=rng.choice([1, 2, 8, 100]),
        room=rng.choice([400, 1_000, 4_000, 100_000]),
        read_ahead_bytes_max=rng.choice([50, 500, 100_000]),
        cold=rng.choice([0.0, 0.1, 0.5, 1.0]),
        evicts=rng.random() < 0.2,
        tiny_bytes=rng.choice([0, 0, 40, 100_000]),
        tiny_run=rng.choice([1, 2, 4]),
        gathered_bytes_max=rng.choice([50, 500, 100_000]),
        connections_max=rng.choice([100] * 9 + [2]),
        connections_per_address_max=rng.choice([0] * 9 + [1]),
        requests_in_flight_max=rng.choice([100] * 9 + [1]),
        changes=rng.choice([0, 3, 10]),
        bustle=rng.choice([0.0, 0.1, 0.4]),
        short_counts=rng.choice([0.0, 0.2]),
        tls_piece_bytes=rng.choice(PIECE_BYTES) if encrypts else 0,
    )


def run(seed: int, *, log: bool = False) -> Outcome:
    """Play the world of `seed` to its end."""
    rng = random.Random(f"shape {seed}")
    shape = shape_of(rng, encrypts=seed % TLS_EVERY == TLS_EVERY - 1)
    world = World(seed, shape)
    if log:
        world.kernel.log = []
    with faked(world.kernel, shape):
        wrong = _play(world, rng)
    return Outcome(seed, wrong, world.kernel.trace, world.kernel.log or [])


def _play(world: World, rng: random.Random) -> list[str]:
    try:
        world.begin()
        menu = [any_ask(rng, world.files.states[-1]) for _ in range(rng.choice([1, 2, 2, 5]))]
        for _ in range(rng.choice([1, 1, 2, 3])):
            asks = [rng.choice(menu) for _ in range(rng.choice([1, 2, 4, 9]))]
            manners = rng.choice(list(Manners) + [Manners.HONEST] * 4)
            world.connect(asks, manners)
        if rng.random() < 0.4:
            world.kernel.faults = RandomFaults(world.rng, rng.choice([0.01, 0.05, 0.2]))
        world.run()
        world.kernel.faults = NoFaults()
        return complaints(world) + probe(world) + verdict(world)
    except (AssertionError, OSError, ValueError) as error:
        return [f"{type(error).__name__}: {error}"]


def probe(world: World) -> list[str]:
    """Whether one more client, a patient one, is answered right after all that."""
    world.settle()
    world.calm()
    world.clients = []
    state = world.files.states[-1]
    world.connect([KINDS[kind][1](world.rng, state) for kind in PROBES])
    world.run()
    return [f"afterwards: {complaint}" for complaint in complaints(world)]


def runs(seeds: Iterable[int]) -> list[Outcome]:
    """Those of the runs in which something was wrong."""
    return [outcome for outcome in map(run, seeds) if outcome.wrong]
