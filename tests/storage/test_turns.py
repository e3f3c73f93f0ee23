"""Turns: who gives way, when, and what others get of it."""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from zerocopy.storage import turns
from zerocopy.storage.turns import TURN_NS_MIN, give_way, take_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NEVER_S = 3_600.0
CALLS_MAX = 1_000_000


@pytest.fixture
def yields(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads that gave way, in order."""
    names: list[str] = []
    monkeypatch.setattr(os, "sched_yield", lambda: names.append(threading.current_thread().name))
    return names


@pytest.fixture
def in_thread() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Calls a function in a thread that takes turns."""
    with ThreadPoolExecutor(1, "computing", initializer=take_turns) as executor:
        yield lambda work: executor.submit(work).result()


def test_threads_that_take_turns_give_way_and_no_others(
    yields: list[str], in_thread: Callable[[Callable[[], None]], None]
) -> None:
    """An event loop's thread, or one that plans, never yields, though it makes the same reads."""
    give_way()
    in_thread(give_way)
    give_way()
    assert yields == ["computing_0"]


@pytest.mark.parametrize(
    ("waits_ns", "expected"),
    [(0, 20), (TURN_NS_MIN, 20), (100 * TURN_NS_MIN, 2)],
    ids=["idle", "others go first", "others never rest"],
)
def test_small_steps_are_one_turn_and_a_long_wait_earns_a_longer_one(
    waits_ns: int,
    expected: int,
    in_thread: Callable[[Callable[[], None]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 1,000 steps of a fiftieth of the shortest turn every fiftieth gives way, or the 500th."""
    clock_ns, yields = 0, 0

    def wait() -> None:
        nonlocal clock_ns, yields
        clock_ns += waits_ns
        yields += 1

    def steps() -> None:
        nonlocal clock_ns
        for _ in range(1_000):
            give_way()
            clock_ns += TURN_NS_MIN // 50

    monkeypatch.setattr(os, "sched_yield", wait)
    monkeypatch.setattr(time, "monotonic_ns", lambda: clock_ns)
    in_thread(steps)
    assert yields == expected


@pytest.mark.skipif(sys.version_info < (3, 11, 1), reason="os.sched_yield keeps the lock")
def test_give_way_lets_go_of_the_interpreters_lock(
    in_thread: Callable[[Callable[[], None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that would wait an hour for the lock gets it at one of the next calls."""
    may_go, is_done, was_done = threading.Event(), threading.Event(), list[bool]()

    def wait() -> None:
        may_go.wait()
        is_done.set()

    other = threading.Thread(target=wait)
    other.start()

    def steps() -> None:
        may_go.set()
        calls = 0
        while not is_done.is_set() and calls < CALLS_MAX:
            give_way()
            calls += 1
        was_done.append(is_done.is_set())

    monkeypatch.setattr(turns, "TURN_NS_MIN", 0)
    before = sys.getswitchinterval()
    sys.setswitchinterval(NEVER_S)
    try:
        in_thread(steps)
    finally:
        sys.setswitchinterval(before)
    assert was_done == [True]
    other.join()
