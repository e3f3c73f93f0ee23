"""Cursors: their spelling, their order, and the one rule that moves them over days that change."""

from __future__ import annotations

import contextlib
from itertools import product
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.table import case, each
from zerocopy.core.cursor import (
    REPLACED,
    SHRANK,
    Advance,
    Cursor,
    Records,
    Reset,
    Sight,
    Wait,
    next_step,
)
from zerocopy.core.errors import BadRequestError, RequestError
from zerocopy.core.layout import LAST_DAY

Lengths = tuple[int | None, ...]

cursors = st.builds(Cursor, st.integers(0, LAST_DAY), st.integers(0, 999_999_999_999_999))


@given(cursors)
def test_cursor_reads_back_as_it_was_printed(cursor: Cursor) -> None:
    """So what a client hands back is what it was given."""
    assert Cursor.parse(str(cursor)) == cursor


@given(cursors, cursors)
def test_cursors_order_as_the_records_do(one: Cursor, other: Cursor) -> None:
    """By day, then by index; never by their text."""
    assert (one < other) == ((one.day, one.position) < (other.day, other.position))


def test_cursor_names_the_calendar_day() -> None:
    """The first, a leap day, and the last there can be."""
    spelled = [str(Cursor(day, 5)) for day in (0, 19_782, LAST_DAY)]
    assert spelled == ["19700101.5", "20240229.5", "20691231.5"]


@each(
    "text",
    [
        *("", ".", "20250131", "20250131.", ".5", "2025013.5", "202501311.5", "20250131.05"),
        *(
            "20250131.-1",
            "20250131.+1",
            "20250131.1.0",
            "20250131.1e3",
            " 20250131.1",
            "20250131.1 ",
        ),
        *("20250132.1", "20250229.1", "20251301.1", "20250001.0", "20250100.0", "19691231.0"),
        *("20700101.0", "20250131.1000000000000000", "\uff12\uff10250131.1", "20250131.1\n", "now"),
    ],
)
def test_parse_what_is_no_cursor_is_refused_by_name(text: str) -> None:
    """The detail names the parameter and says what would be right."""
    with pytest.raises(BadRequestError, match=r"^parameter from: must be YYYYMMDD\.N"):
        Cursor.parse(text)
    with pytest.raises(BadRequestError, match=r"^Last-Event-ID: "):
        Cursor.parse(text, "Last-Event-ID")


@given(st.text())
def test_parse_any_text_is_a_cursor_or_refused(text: str) -> None:
    """Nothing else is ever raised, and what is taken is in its one spelling."""
    with contextlib.suppress(RequestError):
        assert str(Cursor.parse(text)) == text


# ---- one look


def test_next_step_is_what_the_rules_say() -> None:
    """All small cases, against the rules written one by one."""
    for small in product(range(4), (None, 0, 1, 2, 3), (None, 8, 11), (None, "same", "other")):
        with case(*small):
            check_step(*small)


def check_step(index: int, count: int | None, later: int | None, identity: str | None) -> None:
    """Fail unless the step of one look is that of the rules."""
    sight = Sight(7, count, None if count is None else "same", later)
    step = next_step(Cursor(7, index), sight, identity)
    there = count or 0
    if index and identity == "other" and count is not None:
        assert step == Reset(REPLACED, Cursor(7, 0))
    elif there < index:
        assert step == Reset(SHRANK, Cursor(7, 0))
    elif there > index:
        assert step == Records(7, index, there)
    elif later is not None:
        assert step == Advance(Cursor(later, 0))
    else:
        assert step == Wait()


# ---- whole streams


class World(NamedTuple):
    """The aligned records of each day; None where it has no files."""

    lengths: Lengths

    def look(self, day: int) -> Sight:
        """What a look sees, as storage does it."""
        later = (d for d in range(day + 1, len(self.lengths)) if self.lengths[d])
        count = self.lengths[day]
        return Sight(day, count, None if count is None else f"files of {day}", next(later, None))


def read_all(cursor: Cursor, world: World) -> tuple[list[tuple[int, int]], Cursor]:
    """The records that a reader gets before it has to wait, and where it waits."""
    found: list[tuple[int, int]] = []
    identity: object = None
    while True:
        sight = world.look(cursor.day)
        match next_step(cursor, sight, identity):
            case Records(day, first, stop):
                found += [(day, index) for index in range(first, stop)]
                cursor = Cursor(day, stop)
                identity = sight.identity
            case Advance(later):
                assert later > cursor
                cursor, identity = later, None
            case Wait():
                return found, cursor
            case Reset():
                raise AssertionError("nothing shrank")


def naive(cursor: Cursor, world: World) -> list[tuple[int, int]]:
    """Every record that does not lie before the cursor, in order."""
    days = enumerate(world.lengths)
    records = [(day, index) for day, length in days for index in range(length or 0)]
    return [record for record in records if record >= cursor]


def test_stream_from_any_cursor_is_the_rest_of_the_records() -> None:
    """All worlds of three days: from each cursor that there can be, each record once, in order."""
    for lengths in product([None, 0, 1, 2], repeat=3):
        world = World(lengths)
        for day, length in enumerate(lengths):
            for index in range((length or 0) + 1):
                found, _ = read_all(Cursor(day, index), world)
                assert found == naive(Cursor(day, index), world), lengths


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=12),
    st.sets(st.integers(0, 11)),
)
def test_stream_of_a_recorder_in_order_misses_nothing_at_any_pace(
    writes: list[tuple[int, int]], reads: set[int]
) -> None:
    """It appends to a day or begins a later one; a reader that looks now and then gets it all."""
    lengths: list[int | None] = [None] * 40
    day, cursor = 0, Cursor(0, 0)
    found: list[tuple[int, int]] = []
    for number, (days, records) in enumerate(writes):
        day += days
        lengths[day] = (lengths[day] or 0) + records
        if number in reads:
            got, cursor = read_all(cursor, World(tuple(lengths)))
            found += got
    got, _ = read_all(cursor, World(tuple(lengths)))
    assert found + got == naive(Cursor(0, 0), World(tuple(lengths)))
