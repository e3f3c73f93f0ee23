"""How far a reader of a live stream has come, and what comes next.

Owns the cursor and the one rule that moves it. The files are the queue, so a cursor is all that is
known of a reader; it means the same on every replica with the same files. What a look at the files
saw comes in as a `Sight`, what to do goes out: records, the next day, waiting, or a reset.

A recorder writes in order: all records of a day before the first of a later day. So a day is over
once a later one has records and a look at the day *after that was seen* found nothing new. Records
that are appended to a day which is over are not delivered.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import NamedTuple, Self

from zerocopy.core.errors import BadRequestError
from zerocopy.core.layout import LAST_DAY, YEAR_FIRST, YEAR_LAST

_EPOCH_ORDINAL = dt.date(1970, 1, 1).toordinal()
_CURSOR = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})\.(0|[1-9][0-9]{0,14})")

CURSOR_RULE = (
    f"YYYYMMDD.N as a live stream gave it: a day of {YEAR_FIRST} to {YEAR_LAST}, and a number of "
    "records"
)

SHRANK = "the day has fewer records than were read of it"
REPLACED = "the day was replaced"
"""Why a cursor is good for nothing any more."""


class Cursor(NamedTuple):
    """The next record: its `day`, and its `position` among the aligned records of that day.

    Cursors compare as the records lie in the stream.

    Example:
        >>> cursor = Cursor.parse("20250131.7")
        >>> cursor
        Cursor(day=20119, position=7)
        >>> str(cursor)
        '20250131.7'
    """

    day: int
    position: int

    def __str__(self) -> str:
        """`YYYYMMDD.N`."""
        return f"{day_digits(self.day)}.{self.position}"

    @classmethod
    def parse(cls, text: str, named: str = "parameter from") -> Self:
        """The cursor that `text` spells; `named` is what the client calls it.

        Raises:
            BadRequestError: it is none.
        """
        match = _CURSOR.fullmatch(text)
        try:
            if match is None or not YEAR_FIRST <= int(match[1]) <= YEAR_LAST:
                raise ValueError
            date = dt.date(int(match[1]), int(match[2]), int(match[3]))
        except ValueError:
            raise BadRequestError(f"{named}: must be {CURSOR_RULE}") from None
        return cls(date.toordinal() - _EPOCH_ORDINAL, int(match[4]))


def day_digits(day: int) -> str:
    """`YYYYMMDD`."""
    assert 0 <= day <= LAST_DAY, "a day that files can have"
    # All years have four digits. Each message spells one: a format string takes four times as long.
    return dt.date.fromordinal(_EPOCH_ORDINAL + day).isoformat().replace("-", "")


class Sight(NamedTuple):
    """What one look saw of a `day`.

    `aligned` is how many aligned records it has; None where the day, or a column that is asked for,
    has no file. `identity` tells its files from others that take their names. `later` is the first
    later day that has aligned records, None where there is none; it was looked for before `aligned`
    was.
    """

    day: int
    aligned: int | None
    identity: object
    later: int | None


class Records(NamedTuple):
    """The records [first, stop) of `day` are there; at least one."""

    day: int
    first: int
    stop: int


class Advance(NamedTuple):
    """The day is over: go on at `cursor`."""

    cursor: Cursor


class Wait(NamedTuple):
    """There is nothing new."""


class Reset(NamedTuple):
    """What was read is no longer what the files hold. `cursor` is the beginning of the day."""

    reason: str
    cursor: Cursor


Step = Records | Advance | Wait | Reset

WAIT = Wait()


def next_step(cursor: Cursor, sight: Sight, identity: object = None) -> Step:
    """What a reader at `cursor` does after a look at its day.

    `identity` is that of the files the reader has seen so far; None where it has seen none.
    """
    assert sight.day == cursor.day, "a look at the day of the cursor"
    day, position = cursor
    there = sight.aligned or 0
    if position > 0:
        is_known = identity is None or sight.aligned is None or identity == sight.identity
        if not is_known or there < position:
            return Reset(SHRANK if is_known else REPLACED, Cursor(day, 0))
    if there > position:
        return Records(day, position, there)
    if sight.later is not None:
        return Advance(Cursor(sight.later, 0))
    return WAIT
