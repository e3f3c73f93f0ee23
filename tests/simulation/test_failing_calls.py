"""Each system call of each kind of request fails once, in each way it can, and then for a while.

As SQLite's tests do: count the calls of a request, then make the first fail, then the second, and
so on. Whatever fails, the answer is right, an error of the contract, or an abort; nothing is left
behind; and the next client is answered.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.simulation import conditions
from tests.simulation.faults import ERRORS, Faults, Names, NthFault
from tests.simulation.judgement import complaints, verdict
from tests.simulation.kinds import KINDS, LARGE, conditional, data
from tests.simulation.runs import probe
from tests.simulation.world import Shape, World, faked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.simulation.filesystem import State
    from tests.simulation.requests import Ask


class Case(NamedTuple):
    """What one client asks, whether somebody asked the same before, and the sizes of the world."""

    asks: tuple[str, ...]
    warm: bool = False
    shape: Shape = Shape(bustle=0.0, short_counts=0.0, small_answer_bytes_max=65_536)


BY_SENDFILE = Shape(
    bustle=0.0, short_counts=0.0, small_answer_bytes_max=0, turn_bytes_max=300, open_files_max=2
)
FROM_DISK = replace(BY_SENDFILE, cold=1.0, read_ahead_bytes_max=200, open_files_max=8)
GATHERED = replace(BY_SENDFILE, tiny_bytes=1_000)
GATHERED_FROM_DISK = replace(FROM_DISK, tiny_bytes=1_000)
NARROW = Shape(bustle=0.0, short_counts=0.0, small_answer_bytes_max=65_536, room=400)
OVER_TLS = Shape(
    bustle=0.0, short_counts=0.0, small_answer_bytes_max=0, turn_bytes_max=300,
    tls_piece_bytes=200, room=400,
)  # fmt: skip
SMALL_OVER_TLS = replace(OVER_TLS, small_answer_bytes_max=65_536)

CASES = {
    "small, cold": Case(("quick",)),
    "small, reused": Case(("quick",), warm=True),
    "small, into a full socket": Case(("quick",), warm=True, shape=NARROW),
    "large, by sendfile": Case(("quick",), shape=BY_SENDFILE),
    "large, reused": Case(("quick",), warm=True, shape=BY_SENDFILE),
    "large, from the disk": Case(("quick",), shape=FROM_DISK),
    "large, reused, from the disk": Case(("quick",), warm=True, shape=FROM_DISK),
    "large, gathered": Case(("quick",), shape=GATHERED),
    "large, gathered, reused": Case(("quick",), warm=True, shape=GATHERED),
    "large, gathered from the disk": Case(("quick",), shape=GATHERED_FROM_DISK),
    "ranges, gathered": Case(("ranges apart",), shape=GATHERED),
    "large, closing": Case(("close",), shape=BY_SENDFILE),
    "small, over TLS": Case(("quick",), shape=SMALL_OVER_TLS),
    "small, over TLS, reused": Case(("quick",), warm=True, shape=SMALL_OVER_TLS),
    "large, over TLS": Case(("quick",), warm=True, shape=OVER_TLS),
    "expect, over TLS": Case(("expect",), shape=OVER_TLS),
    "symbols": Case(("symbols",)),
    "health": Case(("health",)),
    "ready": Case(("ready",)),
    "no path": Case(("no path",)),
    "absent": Case(("absent",)),
    "bad query": Case(("bad query",)),
    "malformed": Case(("malformed",)),
    "head": Case(("head of large",), shape=BY_SENDFILE),
    "pipelined pair": Case(("quick", "no path"), warm=True),
    "pipelined large": Case(("quick", "quick"), shape=BY_SENDFILE),
    "content": Case(("content",)),
    "expect": Case(("expect",)),
    "chunked": Case(("chunked",)),
    "range, small": Case(("range",)),
    "range, reused": Case(("range",), warm=True),
    "range, by sendfile": Case(("range",), shape=BY_SENDFILE),
    "ranges, into a full socket": Case(("ranges apart",), warm=True, shape=NARROW),
    "ranges, by sendfile": Case(("ranges apart",), shape=BY_SENDFILE),
    "range of the same": Case(("if range",), warm=True, shape=BY_SENDFILE),
    "range of another": Case(("if range old",), shape=BY_SENDFILE),
    "beyond": Case(("beyond",)),
    "not modified": Case(("not modified",)),
    "not modified, reused": Case(("not modified",), warm=True),
    "failed precondition": Case(("if match old",)),
}


def asks_of(case: Case, state: State) -> list[Ask]:
    """The requests of a case; of the data most ask for one day, to keep the calls few."""
    day = LARGE._replace(start=LARGE.end - 86_399)
    rng = random.Random(1)
    made = {name: conditional(name, day)(rng, state) for name in conditions.MAKERS}
    made["quick"] = data(day, "quick")
    return [made.get(kind) or KINDS[kind][1](rng, state) for kind in case.asks]


def play(case: Case, faults: Faults | None = None) -> tuple[World, list[str]]:
    """One client in a fresh world, with `faults` from the moment it connects."""
    world = World("failing calls", case.shape)
    with faked(world.kernel, case.shape):
        world.begin()
        asks = asks_of(case, world.files.states[-1])
        if case.warm:
            world.connect(asks)
            world.run()
            world.settle()
            world.clients = []
        world.kernel.calls = 0
        if faults is not None:
            world.kernel.faults = faults
        world.connect(asks)
        world.run()
        return world, complaints(world) + probe(world) + verdict(world)


def calls_of(case: Case) -> list[str]:
    """The names of the calls that the server makes for one client."""
    names = Names()
    _, wrong = play(case, names)
    assert not wrong, wrong
    return names.names


def failures(names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Each call, by its number, and each error it can give."""
    for number, name in enumerate(names, 1):
        for code in ERRORS[name]:
            yield number, code


def wrongs(case: Case, *, lasting: bool, every: int) -> list[str]:
    """What goes wrong where; `every` error of a call in turn, or each."""
    names = calls_of(case)
    found = []
    for index, (number, code) in enumerate(failures(names)):
        if index % every:
            continue
        world, wrong = play(case, NthFault(number, code, lasting=lasting))
        if wrong:
            found.append(f"call {number} of {len(names)}, {names[number - 1]}, {code}: {wrong}")
        assert world.kernel.faults_struck, "the call was made"
    return found


@pytest.mark.parametrize("name", CASES)
def test_any_call_may_fail_once(name: str) -> None:
    """The n-th call of a request fails: a right answer, an error of the contract, or an abort."""
    assert wrongs(CASES[name], lasting=False, every=101) == []


@pytest.mark.parametrize("name", CASES)
def test_any_call_may_fail_from_then_on(name: str) -> None:
    """From the n-th call on all of its name fail for a while: the same, and then all is well."""
    assert wrongs(CASES[name], lasting=True, every=211) == []


@pytest.mark.slow
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("name", CASES)
def test_any_call_may_fail_in_every_way(name: str, *, lasting: bool) -> None:
    """Each call with each of its errors, none left out."""
    assert wrongs(CASES[name], lasting=lasting, every=1) == []
