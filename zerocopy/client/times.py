"""Times as users have them, as the unix seconds that the server counts in.

Owns the reading of `start` and `end`. Both become whole seconds, rounded up: a record has a whole
second, so `t <= second` and `ceil(t) <= second` say the same. Half-open intervals therefore stay
what they are: [a, b) and [b, c) share no record and leave none out, whatever the fractions.
"""

from __future__ import annotations

import re
from datetime import MAXYEAR, UTC, date, datetime, timedelta
from typing import Any, TypeAlias

import numpy as np

from zerocopy.client.errors import BadRequest

TimeLike: TypeAlias = int | str | date | datetime | np.datetime64
"""A moment: see `seconds`. pandas.Timestamp is a datetime."""

SECONDS_MAX = 2**32
"""The first second that no record can have: the server's times are u32."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SECOND_US = 1_000_000
_YEAR_S = 366 * 86_400
_FRACTION = re.compile(r"[.,](\d{6})(\d+)")
_DATE_DIGITS = 8
"""20250131: the basic form of ISO 8601."""

_TEXT_RULE = "ISO 8601, such as 2025-01-31 or 2025-01-31T09:30:00Z"
_RULE = (
    "must be unix seconds as an int, an ISO 8601 date or time as a str, a date, a datetime or a "
    "numpy.datetime64"
)


def span(start: TimeLike | None, end: TimeLike | None) -> tuple[int, int]:
    """The whole seconds [first, stop) of `start` inclusive and `end` exclusive; None is open.

    >>> span("2025-01-01", date(2025, 1, 2))
    (1735689600, 1735776000)
    >>> span(None, 86_400)
    (0, 86400)

    Raises:
        BadRequest: one of them is no time, or `start` is after `end`.
    """
    first = 0 if start is None else seconds("start", start)
    stop = SECONDS_MAX if end is None else seconds("end", end)
    if first > stop:
        raise BadRequest(f"start and end: start {start} must not be after end {end}")
    return first, stop


def seconds(name: str, value: TimeLike) -> int:
    """The first whole unix second at or after `value`, within 0 and 2**32.

    - int: unix seconds.
    - str: ISO 8601, a date (its midnight) or a date and time, with Z, an offset, or neither: UTC.
    - date: its midnight, UTC. datetime: as it says; naive means UTC. numpy.datetime64: UTC.

    A date or time before 1970 counts as 0, one after 2106-02-07 as 2**32: no record is beyond.

    >>> seconds("start", "2025-01-01T00:00:00.25+01:00")
    1735686001

    Raises:
        BadRequest: it is no time; the detail names the parameter and what would be right.
    """
    if isinstance(value, bool):
        raise BadRequest(f"{name}: {value} {_RULE}")
    if isinstance(value, (int, np.integer)):
        return _checked(name, int(value))
    if isinstance(value, str):
        value = _parsed(name, value)
    if hasattr(value, "to_datetime64"):  # pandas.Timestamp: its nanoseconds are no datetime's
        value = value.to_datetime64()
    if isinstance(value, np.datetime64):
        found = _of_numpy(name, value)
    elif isinstance(value, datetime):
        moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        found = -(-((moment - _EPOCH) // _MICROSECOND) // _SECOND_US)
    elif isinstance(value, date):
        found = (value - _EPOCH.date()).days * 86_400
    else:
        raise BadRequest(f"{name}: a {type(value).__name__} {_RULE}")
    return min(max(found, 0), SECONDS_MAX)


def _checked(name: str, value: int) -> int:
    if 0 <= value <= SECONDS_MAX:
        return value
    for unit, factor in (("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9)):
        if _YEAR_S <= value // factor <= SECONDS_MAX:
            raise BadRequest(
                f"{name}: {value} must be unix seconds, 0 to {SECONDS_MAX}; as {unit} it would be "
                f"{value // factor}"
            )
    raise BadRequest(f"{name}: {value} must be unix seconds, 0 to {SECONDS_MAX}")


def _parsed(name: str, text: str) -> date | datetime:
    """The date or time that `text` spells; digits beyond microseconds round up."""
    if text.isdigit() and len(text) > _DATE_DIGITS:  # Python reads some as a date and a time
        raise BadRequest(f"{name}: {text!r} must be {_TEXT_RULE}; unix seconds are an int")
    try:
        return date.fromisoformat(text)
    except ValueError:
        pass
    fraction = _FRACTION.search(text)
    is_more = fraction is not None and fraction[2].strip("0") != ""
    if fraction is not None:
        text = text[: fraction.end(1)] + text[fraction.end() :]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadRequest(f"{name}: {text!r} must be {_TEXT_RULE}") from None
    return moment + _MICROSECOND if is_more and moment.year < MAXYEAR else moment


def _of_numpy(name: str, value: Any) -> int:
    """The first whole second at or after a datetime64 of any unit."""
    if np.isnat(value):
        raise BadRequest(f"{name}: NaT {_RULE}")
    try:
        floor = value.astype("datetime64[s]")
    except OverflowError:
        raise BadRequest(f"{name}: a {value.dtype} {_RULE} of seconds to nanoseconds") from None
    return int(floor.astype(np.int64)) + bool(floor < value)
