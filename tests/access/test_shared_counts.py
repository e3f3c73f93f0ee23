"""Counts in shared memory: several writers, one sum, and a bound."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerocopy.access import shared_counts
from zerocopy.access.shared_counts import (
    ADDRESSES,
    BYTES,
    PROBES,
    REQUESTS,
    STREAMS,
    WORLD,
    Meter,
    SharedCounts,
    add_rows,
    make_counts,
    meter_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITERS = 3
WORKER, OTHER = 1, 2


@pytest.fixture
def fd() -> Iterator[int]:
    """Rows for the world and three writers."""
    made = make_counts()
    add_rows(made, 1 + WRITERS)
    yield made
    os.close(made)


STEPS = st.lists(
    st.tuples(
        st.integers(1, WRITERS),
        st.sampled_from([REQUESTS, ADDRESSES, BYTES]),
        st.sampled_from(["desk", "risk", "web"]),
        st.integers(0, 1),  # how far the clock goes
        st.integers(-5, 1_000),  # what is had, or given back
    ),
    max_size=60,
)


@given(STEPS, st.booleans())
def test_a_count_is_that_of_a_naive_counter(
    steps: list[tuple[int, int, str, int, int]],
    grows: bool,  # noqa: FBT001
) -> None:
    """Whoever writes and whoever reads, with rows that are there from the start or come later."""
    fd = make_counts()
    add_rows(fd, 1 + (1 if grows else WRITERS))
    writers: dict[int, SharedCounts] = {}
    meters: dict[tuple[int, int, str], Meter] = {}
    naive, window = Counter[tuple[int, str, int]](), 1_000
    own = Counter[tuple[int, int, str, int]]()
    for row, table, name, passed, amount in steps:
        if row not in writers:
            add_rows(fd, row + 1)
            writers[row] = SharedCounts(fd, row)
        window += passed
        meter = meters.setdefault((row, table, name), meter_of(table, name))
        if amount >= 0:
            writers[row].add(meter, window, amount)
            naive[table, name, window] += amount
            own[row, table, name, window] += amount
        else:
            back = min(-amount, own[row, table, name, window])
            writers[row].give_back(meter, window, -amount)
            naive[table, name, window] -= back
            own[row, table, name, window] -= back
        for reader, counts in writers.items():
            seen = meters.setdefault((reader, table, name), meter_of(table, name))
            assert counts.total(seen, window) == naive[table, name, window]
    os.close(fd)


def _write(fd: int, row: int, times: int) -> None:
    counts, meters = SharedCounts(fd, row), [meter_of(REQUESTS, f"key{n}") for n in range(50)]
    for step in range(times):
        counts.add(meters[step % len(meters)], 7, 1)


def test_processes_that_write_at_the_same_time_lose_nothing(fd: int) -> None:
    """Three processes count the same fifty names; each sum is exact at the end."""
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_write, args=(fd, row, 5_000)) for row in range(1, WRITERS + 1)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    counts = SharedCounts(fd, 1)
    assert [counts.total(meter_of(REQUESTS, f"key{n}"), 7) for n in range(50)] == [300] * 50


def test_a_successor_goes_on_with_the_counts_of_its_row(fd: int) -> None:
    """A worker that died had counted bytes of today; they still count."""
    SharedCounts(fd, WORKER).add(meter_of(BYTES, "desk"), 20_000, 500)
    successor, meter = SharedCounts(fd, WORKER), meter_of(BYTES, "desk")
    successor.begin()
    successor.add(meter, 20_000, 7)
    assert successor.total(meter, 20_000) == 507


def test_streams_of_a_process_that_died_are_gone(fd: int) -> None:
    """Those of others stay; a successor counts its own."""
    dead, other, meter = (
        SharedCounts(fd, WORKER),
        SharedCounts(fd, OTHER),
        meter_of(STREAMS, "desk"),
    )
    for counts in (dead, other):
        counts.begin()
        counts.add_stream(meter_of(STREAMS, "desk"))
        counts.add_stream(meter_of(STREAMS, "desk"))
    other.end_stream(meter_of(STREAMS, "desk"))
    assert other.streams(meter) == 3
    successor = SharedCounts(fd, WORKER)
    successor.begin()
    assert other.streams(meter) == successor.streams(meter_of(STREAMS, "desk")) == 1
    successor.add_stream(meter_of(STREAMS, "desk"))
    assert other.streams(meter) == 2


def test_a_clock_that_is_set_back_neither_locks_out_nor_forgets_what_comes(fd: int) -> None:
    """The window of a count that lies ahead is another one, in the own row and in others'."""
    counts, other, meter = (
        SharedCounts(fd, WORKER),
        SharedCounts(fd, OTHER),
        meter_of(REQUESTS, "k"),
    )
    counts.add(meter, 5_000, 9)
    assert counts.total(meter, 1_400) == other.total(meter_of(REQUESTS, "k"), 1_400) == 0
    counts.add(meter, 1_400, 2)
    other.add(meter_of(REQUESTS, "k"), 1_400, 3)
    assert counts.total(meter, 1_400) == 5


def test_what_is_given_back_too_late_takes_nothing_off_the_next_day(fd: int) -> None:
    """Nor does more come back than was counted."""
    counts, meter = SharedCounts(fd, WORKER), meter_of(BYTES, "desk")
    counts.add(meter, 1, 100)
    counts.add(meter, 2, 50)
    counts.give_back(meter, 1, 100)
    assert counts.total(meter, 2) == 50
    counts.give_back(meter, 2, 80)
    assert counts.total(meter, 2) == 0


def test_the_least_used_of_a_full_place_is_forgotten(
    fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never one that was used more, and what is past goes first."""
    monkeypatch.setattr(Meter, "__init__", _at_home(Meter.__init__))
    counts, reader = SharedCounts(fd, WORKER), SharedCounts(fd, OTHER)
    for use in range(PROBES):
        counts.add(meter_of(REQUESTS, f"k{use}"), 9, 10 + use)
    counts.add(meter_of(REQUESTS, "new"), 9, 5)
    assert counts.forgotten == 1
    totals = [reader.total(meter_of(REQUESTS, f"k{use}"), 9) for use in range(PROBES)]
    assert totals == [0, *range(11, 10 + PROBES)]
    assert reader.total(meter_of(REQUESTS, "new"), 9) == 5
    counts.add(meter_of(REQUESTS, "later"), 10, 1)
    assert counts.forgotten == 1, "all others are past"
    assert reader.total(meter_of(REQUESTS, "later"), 10) == 1


def test_a_meter_whose_place_was_given_away_counts_anew(
    fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never adds to the count of another name."""
    monkeypatch.setattr(Meter, "__init__", _at_home(Meter.__init__))
    counts, meters = SharedCounts(fd, WORKER), [meter_of(BYTES, f"k{n}") for n in range(PROBES + 1)]
    for meter in meters:
        counts.add(meter, 3, 10)
    counts.give_back(meters[0], 3, 10)
    counts.add(meters[0], 3, 1)
    assert counts.total(meters[0], 3) == 1
    assert sorted(counts.total(meter, 3) for meter in meters)[-PROBES + 1 :] == [10] * (PROBES - 1)


def _at_home(made: object) -> object:
    def init(self: Meter, table: int, tag: int) -> None:
        made(self, table, tag)  # type: ignore[operator]
        self.home = 17

    return init


def test_tables_and_names_do_not_meet(fd: int) -> None:
    """The same name in another table is another count."""
    counts = SharedCounts(fd, WORKER)
    names = [(REQUESTS, "desk"), (ADDRESSES, "desk"), (BYTES, "desk"), (BYTES, "desk2")]
    for amount, (table, name) in enumerate(names):
        counts.add(meter_of(table, name), 5, amount)
    assert [counts.total(meter_of(table, name), 5) for table, name in names] == [0, 1, 2, 3]


def test_other_servers_count_only_where_they_are_asked(fd: int) -> None:
    """Without Redis nobody fills their row, and nobody reads it."""
    SharedCounts(fd, WORLD, asks_world=True).add(meter_of(REQUESTS, "desk"), 5, 40)
    alone, together = SharedCounts(fd, WORKER), SharedCounts(fd, WORKER, asks_world=True)
    assert alone.total(meter_of(REQUESTS, "desk"), 5) == 0
    assert together.total(meter_of(REQUESTS, "desk"), 5) == 40


def test_the_memory_of_a_server_without_limits_is_a_page(fd: int) -> None:
    """Rows of 4 MiB each are made of holes until somebody counts."""
    assert os.fstat(fd).st_size > (1 + WRITERS) * shared_counts.ROW_WORDS * 8
    assert os.fstat(fd).st_blocks * 512 <= 4_096
