"""Every call beneath a request over HTTP/2 fails: each ends right, and nothing stays behind."""

from __future__ import annotations

import functools
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.simulation.http2_batch import failure_of, folder
from tests.simulation.http2_nth import SHAPES, Fault, NthRun, counts_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.http2_nth import Shape

CALLS_AT_LEAST = {
    "small and cold": 20, "small, by the lane": 1, "large, of closed days": 30,
    "large, once more": 3, "large, with the open day": 30, "by the application": 10, "head": 10,
    "symbols": 5, "unknown": 3, "part, small": 10, "part, by the lane": 1, "part, large": 20,
    "parts, large": 10, "beyond": 10, "not modified": 10, "not modified, by the lane": 1,
    "failed precondition": 1,
}  # fmt: skip


@functools.cache
def counted(name: str) -> tuple[int, int]:
    """Calls and writes of a request without a fault."""
    root = folder()
    try:
        return counts_of(root, SHAPES[name])
    finally:
        shutil.rmtree(root)


def stories_of(shape: Shape, faults: Iterator[Fault]) -> list[str]:
    """What went wrong with which fault."""
    stories = []
    for fault in faults:
        story = failure_of(lambda _seed, root, f=fault: NthRun(root, shape, f).execute(), 0)  # type: ignore[misc]
        if story is not None:
            stories.append(f"{fault}: {story}")
    return stories


@pytest.mark.parametrize("name", SHAPES)
def test_each_call_fails_once(name: str) -> None:
    """The n-th system call fails, for every sixteenth n: the answer is right, an error or a reset.

    The slow test below leaves none out.
    """
    calls, _ = counted(name)
    assert calls >= CALLS_AT_LEAST[name]
    begin = 1 + len(name) % min(16, calls)
    faults = (Fault(nth, choice=nth // 16 + len(name)) for nth in range(begin, calls + 1, 16))
    assert not (stories := stories_of(SHAPES[name], faults)), stories[0]


@pytest.mark.parametrize("name", SHAPES)
def test_each_call_fails_and_all_behind_it(name: str) -> None:
    """The disk is gone from the n-th system call on; the request after that finds it again."""
    calls, _ = counted(name)
    begin = 1 + len(name) % min(18, calls)
    faults = (Fault(nth, choice=nth // 18, onwards=True) for nth in range(begin, calls + 1, 18))
    assert not (stories := stories_of(SHAPES[name], faults)), stories[0]


@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SHAPES)
def test_each_write_breaks_the_connection(name: str, every: int) -> None:
    """The connection is lost at a write of the answer: nothing of it stays behind.

    At the first, the last, and some or all between them.
    """
    _, writes = counted(name)
    assert writes
    faults = (Fault(nth, is_write=True) for nth in {*range(1, writes, every), writes})
    assert not (stories := stories_of(SHAPES[name], faults)), stories[0]


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("onwards", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_each_call_fails_in_each_way(name: str, *, onwards: bool) -> None:
    """Every call with every error that its manual page has, once and from then on."""
    calls, _ = counted(name)
    faults = (Fault(nth, choice, onwards) for nth in range(1, calls + 1) for choice in range(6))
    assert not (stories := stories_of(SHAPES[name], faults)), stories[0]
