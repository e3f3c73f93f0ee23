"""A clock that jumps: planner and service under a patched one, nothing stale and no wrong byte."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.service.bench import Bench
from tests.storage.trees import (
    DAY,
    OPEN_DAY,
    OPEN_START_S,
    age,
    append,
    bench,
    marks,
    put,
    query,
    replace,
    start_of,
    u32,
)
from zerocopy.core.errors import DataChangedError
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from zerocopy.core.http.messages import Response

DAY_S = 86_400
OPEN, PAST = Series("coinbase", "OPEN", "MD"), Series("coinbase", "PAST", "MD")
PAST_START_S = start_of(DAY)
JUMPS_S = (-400 * DAY_S, -DAY_S, -700, -1, 1, 700, 2 * DAY_S, 400 * DAY_S)


class Clock:
    """The time that the process sees: the kernel's, and what was added to it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.offset_s = 0
        real, real_ns = time.time, time.time_ns
        patch.setattr(time, "time", lambda: real() + self.offset_s)
        patch.setattr(time, "time_ns", lambda: real_ns() + self.offset_s * 10**9)

    def show(self, at_s: int) -> None:
        """Go on from this unix second."""
        self.offset_s += at_s - int(time.time())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that shows the right time until it is told otherwise."""
    return Clock(monkeypatch)


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A day still recorded, and one settled long ago; both changed a moment before."""
    root = str(tmp_path)
    paths = put(root, {"time": u32(OPEN_START_S), "price": marks(1)}, OPEN_DAY, OPEN)
    past = put(root, {"time": u32(PAST_START_S), "price": marks(1)}, DAY, PAST)
    for path in past.values():
        os.utime(path, (PAST_START_S + 2 * DAY_S, PAST_START_S + 2 * DAY_S))
    age(*paths.values(), *past.values(), *map(os.path.dirname, (*paths.values(), *past.values())))
    return root


@pytest.fixture
def service(root: str, clock: Clock) -> Iterator[Bench]:
    """A service under that clock."""
    assert clock.offset_s == 0
    bench = Bench(root)  # type: ignore[arg-type]
    yield bench
    bench.close()


def target_of(series: Series, start_s: int) -> str:
    """The whole UTC day of a series."""
    ends = f"start={start_s}&end={start_s + DAY_S - 1}"
    return f"/api/data?symbol={series.symbol}&type=MD&{ends}&columns=time,price"


def is_public(response: Response) -> bool:
    """Whether shared caches may keep an answer."""
    assert response.status == 200
    return dict(response.fields)[b"Cache-Control"].startswith(b"public")


@pytest.mark.parametrize("jump_s", JUMPS_S)
def test_clock_that_jumps_serves_nothing_stale(
    service: Bench, clock: Clock, root: str, jump_s: int
) -> None:
    """There and back, with appends and a replacement each time: answers are as the disk is."""
    folder = f"{root}/coinbase/OPEN/MD"
    day = f"{OPEN_DAY:%d.%m.%y}"
    count = 1
    for offset_s in (0, jump_s, 0, jump_s, 0):
        clock.offset_s = offset_s
        append(f"{folder}/price.{day}.bin", marks(1, base=count))
        append(f"{folder}/time.{day}.bin", u32(OPEN_START_S + count))
        replace(f"{root}/coinbase/PAST/MD/price.31.01.25.bin", marks(1, base=count))
        count += 1
        for _ in range(3):
            content = service.ask(target_of(OPEN, OPEN_START_S)).content
            times = u32(*range(OPEN_START_S, OPEN_START_S + count))
            assert content.partition(b"\n")[2] == times + marks(count)
            content = service.ask(target_of(PAST, PAST_START_S)).content
            assert content.partition(b"\n")[2] == u32(PAST_START_S) + marks(1, base=count - 1)


def test_clock_set_back_opens_a_day_until_it_is_right_again(service: Bench, clock: Clock) -> None:
    """A closed day asked for by a clock that is behind it is not for shared caches."""
    target = target_of(PAST, PAST_START_S)
    assert is_public(service.ask(f"{target}&n=1"))
    clock.show(PAST_START_S)
    assert not is_public(service.ask(f"{target}&n=2"))
    clock.offset_s = 0
    assert is_public(service.ask(f"{target}&n=2")), "what was said by the wrong clock is not kept"


def test_answer_of_a_clock_that_was_ahead_is_not_public_once_it_is_right(
    service: Bench, clock: Clock
) -> None:
    """An answer kept while the clock was ahead of its open day is not for shared caches."""
    target = target_of(OPEN, OPEN_START_S)
    clock.show(OPEN_START_S + 2 * DAY_S)
    assert is_public(service.ask(target)), "by that clock the day is closed"
    clock.offset_s = 0
    assert not is_public(service.ask(target))


def test_clock_that_passes_the_end_of_the_day_closes_it(service: Bench, clock: Clock) -> None:
    """An answer kept since the day before says so no longer once its day is closed."""
    target = target_of(OPEN, OPEN_START_S)
    assert not is_public(service.ask(target))
    assert not is_public(service.ask(target))
    clock.show(OPEN_START_S + DAY_S + 601)
    assert is_public(service.ask(target))


@pytest.mark.parametrize("is_ahead", [False, True])
def test_day_taken_for_closed_by_a_clock_ahead_is_never_sent_mixed(
    root: str,
    clock: Clock,
    is_ahead: bool,  # noqa: FBT001
) -> None:
    """A day that is recorded on all the same: cut off where it was taken for closed, else right."""
    if is_ahead:
        clock.show(OPEN_START_S + 2 * DAY_S)
    day = f"{OPEN_DAY:%d.%m.%y}"
    with bench(root, small_bytes_max=0) as opened:
        planned = opened.plan(query(series=OPEN))
        segment = planned.representation.segments[1]
        append(f"{root}/coinbase/OPEN/MD/price.{day}.bin", marks(1, base=9))
        if is_ahead:
            with pytest.raises(DataChangedError):
                segment.source.fileno()
        else:
            assert segment.source.read(segment.offset, segment.count) == marks(1)
        clock.offset_s = 0
        assert b'"num_records":1,' in opened.plan(query(series=OPEN)).representation.content
