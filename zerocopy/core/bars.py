"""The query of /api/bars: which columns, what is taken of them, and how long a bar is.

Owns the grammar of the parameters and the intervals: where a bucket begins, and which one `auto`
means. `core/aggregate.py` computes the bars; only that module needs numpy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from zerocopy.core.codings import NOTHING
from zerocopy.core.errors import BadRequestError
from zerocopy.core.layout import DAY_S, TIME_COLUMN, U32_MAX
from zerocopy.core.query import (
    DEFAULT_EXCHANGE,
    REQUIRED,
    Query,
    check_name,
    choose_coding,
    parse_compress,
    parse_format,
    parse_parameters,
    parse_span,
    require,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zerocopy.core.codings import Accepted

BARS_MAX = 100_000
"""Bars of one response, and the largest `max_points`."""

VALUES_MAX = 3_200_000
"""Bars times outputs: 32 outputs of `BARS_MAX` bars, so a body has at most 26 MB."""

COMPUTING_THREADS = 2
"""Queries a worker computes at once; more wait."""

MAX_POINTS = 2_000
"""What `auto` aims at unless told otherwise: a chart has some pixel columns, not more."""

FORMATS = ("columns", "arrow", "json", "csv")
"""What `format` may be here; the first is meant where it is left out."""

OHLC = ("open", "high", "low", "close")
AGGREGATES = (*OHLC, "sum", "mean", "count")

MONDAY_S = 4 * DAY_S
"""1970-01-05, the first Monday: the epoch was a Thursday."""

PARAMETERS = frozenset((*REQUIRED, "exchange", "interval", "max_points", "format", "compress"))
"""All that /api/bars reads of a query string."""
_SEPARATOR = re.compile(r"[+ ]")  # a + that is not percent-encoded is a blank in a form
_COUNT = re.compile(r"0*([0-9]{1,10})([smhdw]?)")
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": DAY_S, "w": 7 * DAY_S}
_RULE = f"column:aggregates, of {' '.join(AGGREGATES)} or ohlc, joined by +"


class Interval(NamedTuple):
    """Buckets of `length_s` seconds, one of which begins at `shift_s`; `label` is its name."""

    length_s: int
    shift_s: int
    label: str

    def bucket(self, time_s: int) -> int:
        """Which bucket holds a second; -1 for the week before the first Monday."""
        return (time_s - self.shift_s) // self.length_s

    def begin(self, bucket: int) -> int:
        """The second at which a bucket begins: 0 for one that would begin before the epoch."""
        return max(0, bucket * self.length_s + self.shift_s)

    def buckets(self, first_s: int, last_s: int) -> int:
        """How many buckets there are from that of `first_s` to that of `last_s`."""
        return self.bucket(last_s) - self.bucket(first_s) + 1


class Output(NamedTuple):
    """A column of the response: an aggregate of a column on disk."""

    column: str
    aggregate: str

    @property
    def name(self) -> str:
        """`price.open`."""
        return f"{self.column}.{self.aggregate}"


@dataclass(frozen=True, slots=True)
class BarsQuery:
    """What /api/bars is asked for; every value is already checked.

    `records` are the records it is computed from, with `time` as their first column; its format and
    coding are those of the bars. `interval` is None for `auto`.
    """

    records: Query
    outputs: tuple[Output, ...]
    interval: Interval | None
    max_points: int

    @property
    def bars_max(self) -> int:
        """Bars that may be answered at once."""
        return min(BARS_MAX, VALUES_MAX // len(self.outputs))


def interval_of(count: int, unit: str = "") -> Interval:
    """`count` of s, m, h, d or w; only weeks are shifted, to Monday."""
    return Interval(count * _UNITS_S[unit], MONDAY_S if unit == "w" else 0, f"{count}{unit}")


AUTO = tuple(
    interval_of(count, unit)
    for unit, counts in (
        ("s", (1, 2, 5, 10, 15, 30)),
        ("m", (1, 2, 5, 10, 15, 30)),
        ("h", (1, 2, 4, 6, 12)),
        ("d", (1, 2)),
        ("w", (1, 2, 4)),
    )
    for count in counts
)
"""What `auto` chooses from, ascending."""


def choose_interval(span: tuple[int, int] | None, buckets_max: int) -> Interval:
    """The shortest of `AUTO` that cuts a span of time into at most so many buckets.

    `span` holds the first and the last second, None if there are no records. The longest where even
    that gives more.
    """
    if span is None:
        return AUTO[0]
    return next((each for each in AUTO if each.buckets(*span) <= buckets_max), AUTO[-1])


def parse_bars_query(
    query_string: bytes, *, columns_max: int, accepts: Accepted = NOTHING
) -> BarsQuery:
    """The query that the bytes after `?` spell, of a client that `accepts` so much.

    Raises:
        BadRequestError: a parameter is missing, repeated, empty or malformed; `detail` names it
            and says what would be right.
    """
    values = parse_parameters(query_string, PARAMETERS)
    require(values, REQUIRED)
    start_s, end_s = parse_span(values)
    format_ = parse_format(values, FORMATS)
    compress = parse_compress(values, format_)
    outputs = parse_outputs(values["columns"], columns_max)
    return BarsQuery(
        records=Query(
            exchange=check_name("exchange", values.get("exchange", DEFAULT_EXCHANGE)),
            symbol=check_name("symbol", values["symbol"]),
            type=check_name("type", values["type"]),
            start_s=start_s,
            end_s=end_s,
            columns=_sources(outputs),
            format=format_,
            compress=compress,
            coding=choose_coding(format_, accepts, compress=compress),
        ),
        outputs=outputs,
        interval=parse_interval(values.get("interval", "auto")),
        max_points=_parse_max_points(values.get("max_points", str(MAX_POINTS))),
    )


def parse_interval(text: str) -> Interval | None:
    """The interval that `60`, `5m` or `1w` means; None for `auto`.

    Raises:
        BadRequestError: it is none.
    """
    if text == "auto":
        return None
    match = _COUNT.fullmatch(text)
    interval = interval_of(int(match[1]), match[2]) if match else None
    if interval is None or not 1 <= interval.length_s <= U32_MAX:
        raise BadRequestError(
            "parameter interval: must be auto, or a number of seconds or of s m h d w as in 5m, "
            f"1 to {U32_MAX} s"
        )
    return interval


def parse_outputs(text: str, columns_max: int) -> tuple[Output, ...]:
    """Parse `price,volume:sum+count` into outputs, in its order.

    The aggregates stand after the last colon, because names may have colons, too.

    Raises:
        BadRequestError: an aggregate is unknown, a column no name, or an output given twice.
    """
    items = text.split(",")
    if len(items) > columns_max:
        raise BadRequestError(f"parameter columns: must be at most {columns_max} items")
    outputs: list[Output] = []
    for item in items:
        column, colon, spelled = item.rpartition(":")
        if not colon:
            column, spelled = item, "ohlc"
        if not column:
            raise BadRequestError(f"parameter columns: must be {_RULE}, separated by commas")
        check_name("columns", column)
        for aggregate in _SEPARATOR.split(spelled):
            if aggregate != "ohlc" and aggregate not in AGGREGATES:
                raise BadRequestError(f"parameter columns: {column} must be {_RULE}")
            taken = OHLC if aggregate == "ohlc" else (aggregate,)
            outputs += [Output(column, each) for each in taken]
    if len(set(outputs)) != len(outputs):
        twice = next(each for each in outputs if outputs.count(each) > 1)
        raise BadRequestError(f"parameter columns: {twice.name} must be asked for once")
    return tuple(outputs)


def too_many_bars(query: BarsQuery, interval: Interval, span: tuple[int, int]) -> BadRequestError:
    """The error of more than `bars_max` bars; it names the shortest interval of `AUTO` that fits.

    One that fits whatever the records between the first and the last are.
    """
    fitting = choose_interval(span, query.bars_max)
    return BadRequestError(
        f"parameter interval: {interval.label} gives more than {query.bars_max} bars; "
        f"the shortest that fits is {fitting.label}"
    )


def _sources(outputs: Iterable[Output]) -> tuple[str, ...]:
    """The columns to be read: `time`, then each of the outputs' once."""
    return tuple(dict.fromkeys((TIME_COLUMN, *(output.column for output in outputs))))


def _parse_max_points(text: str) -> int:
    match = _COUNT.fullmatch(text)
    if match is None or match[2] or not 1 <= int(match[1]) <= BARS_MAX:
        raise BadRequestError(f"parameter max_points: must be in digits, 1 to {BARS_MAX}")
    return int(match[1])
