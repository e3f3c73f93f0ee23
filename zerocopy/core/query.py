"""The query of /api/data: parameters in, a checked `Query` out.

Owns the rules of the parameters and the sentences a client reads when one is wrong. Percent-
encoding and `+` are decoded as in forms (WHATWG URL, section 5.1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from zerocopy.core.codings import IDENTITY, NOTHING, ZSTD
from zerocopy.core.cursor import Cursor
from zerocopy.core.errors import BadRequestError
from zerocopy.core.layout import U32_MAX, is_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from zerocopy.core.codings import Accepted

DEFAULT_EXCHANGE = "coinbase"
MEDIA_TYPES = {
    "columns": "application/octet-stream",
    "arrow": "application/vnd.apache.arrow.stream",
    "json": "application/json",
    "csv": "text/csv; charset=utf-8; header=present",
    "parquet": "application/vnd.apache.parquet",
}
"""Content-Type by format."""

FORMATS = tuple(MEDIA_TYPES)
"""What `format` may be; the first is meant where it is left out."""

COMPUTED = frozenset({"json", "csv", "parquet"})
"""Formats whose bytes are no file's: they are computed, and bounded in records."""

TEXTS = frozenset({"json", "csv"})
"""Formats that are coded as Accept-Encoding likes best; `columns` and `arrow` are only coded where
the query says so, and parquet is compressed already."""

PARAMETERS_MAX = 100
"""Pairs in one query string; unknown ones are ignored, but not without end."""

REQUIRED = ("symbol", "type", "start", "end", "columns")
PARAMETERS = frozenset((*REQUIRED, "exchange", "format", "compress", "last"))
"""All that is read of a query string, here and in /api/symbols."""
LIVE_PARAMETERS = frozenset({"symbol", "type", "columns", "exchange", "from", "start", "max_rate"})
"""All that /api/live reads."""

MAX_RATE_RULE = "messages a second, 0.1 to 1000"
_RATE = re.compile(r"[0-9]{1,4}(\.[0-9]{1,3})?")
_RATE_MIN, _RATE_MAX = 0.1, 1_000.0

_U32 = re.compile(r"0*([0-9]{1,10})")
LAST_MAX = U32_MAX
"""Records that `last` may ask for."""

_NAME_RULE = (
    "1 to 64 characters, the first a letter, digit, _ or ^, "
    "then letters, digits and . _ : + @ ^ = & # ~ - (percent-encoded where needed)"
)


@dataclass(frozen=True, slots=True)
class Query:
    """What /api/data is asked for; every value is already checked.

    `start_s` and `end_s` are unix seconds, both inclusive, `start_s` <= `end_s` <= 2**32 - 1.
    `columns` are distinct and in the order of the response. With `last`, only so many records from
    the end of the range are wanted. `compress` is whether the query asks for zstd, and `coding` the
    content coding of the answer, which the client takes.
    """

    exchange: str
    symbol: str
    type: str
    start_s: int
    end_s: int
    columns: tuple[str, ...]
    format: str = FORMATS[0]
    last: int | None = None
    compress: bool = False
    coding: bytes = IDENTITY

    @property
    def is_computed(self) -> bool:
        """Whether the bytes of the answer are no file's."""
        return self.format in COMPUTED or self.coding != IDENTITY

    @property
    def is_negotiated(self) -> bool:
        """Whether the answer has another form for clients that take other codings."""
        return self.compress or self.format in TEXTS


@dataclass(frozen=True, slots=True)
class LiveQuery:
    """What /api/live is asked for; every value is already checked.

    It begins at `cursor`, else at the first record with time >= `start_s`, else now. `max_rate` is
    in messages a second.
    """

    exchange: str
    symbol: str
    type: str
    columns: tuple[str, ...]
    cursor: Cursor | None = None
    start_s: int | None = None
    max_rate: float | None = None


def parse_parameters(query_string: bytes, known: frozenset[str]) -> dict[str, str]:
    """The `known` parameters of a query string, decoded as in forms; others are ignored.

    Bytes that are not UTF-8 become U+FFFD, which no name and no number holds: in a known parameter
    they are refused there, in another ignored with it.

    Raises:
        BadRequestError: too many pairs, or a known one repeated.
    """
    try:
        pairs = parse_qsl(
            query_string.decode("utf-8", "replace"),
            keep_blank_values=True,
            errors="replace",
            max_num_fields=PARAMETERS_MAX,
        )
    except ValueError:
        raise BadRequestError(
            f"the query string may hold at most {PARAMETERS_MAX} parameters"
        ) from None
    values: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            continue
        if name in values:
            raise BadRequestError(f"parameter {name}: given more than once, must be given once")
        values[name] = value
    return values


def require(values: Mapping[str, str], names: Iterable[str]) -> None:
    """Assure that each of `names` has a value.

    Raises:
        BadRequestError: one is missing or empty.
    """
    for name in names:
        if not values.get(name):
            state = "is empty" if name in values else "is missing"
            raise BadRequestError(f"parameter {name}: {state}, must be given once")


def parse_span(values: Mapping[str, str]) -> tuple[int, int]:
    """The first and the last unix second, which `start` and `end` spell.

    Raises:
        BadRequestError: one is no unix second, or the first is after the last.
    """
    start_s = parse_seconds("start", values["start"])
    end_s = parse_seconds("end", values["end"])
    if start_s > end_s:
        raise BadRequestError("parameters start and end: start must not be after end")
    return start_s, end_s


def parse_format(values: Mapping[str, str], names: Sequence[str]) -> str:
    """The `format` that was asked for, or the first of `names`.

    Raises:
        BadRequestError: it is none of them.
    """
    text = values.get("format", names[0])
    if text not in names:
        raise BadRequestError(f"parameter format: must be one of {', '.join(names)}")
    return text


def parse_compress(values: Mapping[str, str], format_: str) -> bool:
    """Whether `compress` asks for zstd; parquet has it inside, whether asked for or not.

    Raises:
        BadRequestError: it asks for something else.
    """
    if values.get("compress", "zstd") != "zstd":
        raise BadRequestError("parameter compress: must be zstd")
    return "compress" in values and format_ != "parquet"


def choose_coding(format_: str, accepts: Accepted, *, compress: bool) -> bytes:
    """The content coding of an answer to a client that `accepts` so much."""
    if compress and accepts.takes_zstd:
        return ZSTD
    return accepts.coding if format_ in TEXTS else IDENTITY


def parse_query(query_string: bytes, *, columns_max: int, accepts: Accepted = NOTHING) -> Query:
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
    return Query(
        exchange=check_name("exchange", values.get("exchange", DEFAULT_EXCHANGE)),
        symbol=check_name("symbol", values["symbol"]),
        type=check_name("type", values["type"]),
        start_s=start_s,
        end_s=end_s,
        columns=_parse_columns(values["columns"], columns_max),
        format=format_,
        last=_parse_last(values["last"]) if "last" in values else None,
        compress=compress,
        coding=choose_coding(format_, accepts, compress=compress),
    )


def parse_live_query(
    query_string: bytes, *, columns_max: int, last_event_id: bytes | None = None
) -> LiveQuery:
    """The query of /api/live; `last_event_id` is the field of a browser that asks again.

    It wins over `from`, and `from` over `start`; what does not win is checked as well.

    Raises:
        BadRequestError: a parameter or the field is malformed.
    """
    values = parse_parameters(query_string, LIVE_PARAMETERS)
    require(values, ("symbol", "type", "columns"))
    cursor = Cursor.parse(values["from"]) if "from" in values else None
    if last_event_id:  # empty is none: WHATWG HTML, section 9.2.3
        cursor = Cursor.parse(last_event_id.decode("ascii", "replace"), "Last-Event-ID")
    return LiveQuery(
        exchange=check_name("exchange", values.get("exchange", DEFAULT_EXCHANGE)),
        symbol=check_name("symbol", values["symbol"]),
        type=check_name("type", values["type"]),
        columns=_parse_columns(values["columns"], columns_max),
        cursor=cursor,
        start_s=parse_seconds("start", values["start"]) if "start" in values else None,
        max_rate=_parse_rate(values["max_rate"]) if "max_rate" in values else None,
    )


def parse_catalog_query(query_string: bytes) -> tuple[str, str, str | None]:
    """Exchange, symbol and type that the bytes after `?` ask /api/catalog for; type may be None.

    Raises:
        BadRequestError: a parameter is missing, repeated or no name.
    """
    values = parse_parameters(query_string, frozenset({"exchange", "symbol", "type"}))
    require(values, ("symbol",))
    type_ = values.get("type")
    return (
        check_name("exchange", values.get("exchange", DEFAULT_EXCHANGE)),
        check_name("symbol", values["symbol"]),
        None if type_ is None else check_name("type", type_),
    )


def check_extent(query: Query, days: int, days_max: int, segments_max: int) -> None:
    """Assure that what `query` touches on disk, so many days of its columns, is within the limits.

    Raises:
        BadRequestError: it is not.
    """
    if days > days_max:
        raise BadRequestError(
            f"parameters start and end: the range holds {days} days, "
            f"at most {days_max} are answered at once"
        )
    if days * len(query.columns) > segments_max:
        raise BadRequestError(
            f"parameters start, end and columns: days times columns must be at most {segments_max}"
        )


def check_name(parameter: str, text: str) -> str:
    """`text` itself, if it is a name.

    Raises:
        BadRequestError: it is not; the detail gives the rule.
    """
    if not is_name(text):
        raise BadRequestError(f"parameter {parameter}: must be a name of {_NAME_RULE}")
    return text


def parse_seconds(parameter: str, text: str) -> int:
    """The unix second that `text` spells.

    Raises:
        BadRequestError: it is none, or above `U32_MAX`.
    """
    value = _parse_u32(text)
    if value is None:
        raise BadRequestError(
            f"parameter {parameter}: must be unix seconds in digits, 0 to {U32_MAX}"
        )
    return value


def _parse_last(text: str) -> int:
    value = _parse_u32(text)
    if not value or value > LAST_MAX:
        raise BadRequestError(
            f"parameter last: must be a number of records in digits, 1 to {LAST_MAX}"
        )
    return value


def _parse_rate(text: str) -> float:
    if _RATE.fullmatch(text) is None or not _RATE_MIN <= float(text) <= _RATE_MAX:
        raise BadRequestError(f"parameter max_rate: must be {MAX_RATE_RULE}")
    return float(text)


def _parse_u32(text: str) -> int | None:
    # int() alone would take signs, spaces and underscores, and refuse thousands of zeros.
    digits = _U32.fullmatch(text)
    value = int(digits[1]) if digits else U32_MAX + 1
    return value if value <= U32_MAX else None


def _parse_columns(text: str, columns_max: int) -> tuple[str, ...]:
    columns = tuple(text.split(","))
    if len(columns) > columns_max:
        raise BadRequestError(f"parameter columns: must be at most {columns_max} names")
    if "" in columns:
        raise BadRequestError("parameter columns: must be names separated by single commas")
    for column in columns:
        check_name("columns", column)
    if len(set(columns)) != len(columns):
        raise BadRequestError("parameter columns: each name must be given once")
    return columns
