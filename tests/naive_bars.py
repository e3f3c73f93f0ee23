"""The oracle of /api/bars: every record is looked at, one by one, in plain Python.

As `tests/naive.py`, a second reading of contract.md that shares no code with the package. A bucket
is a list of the records that lie in it, in the order of the files; each aggregate is a loop.

How it reads what the contract leaves open:

- Of zeros the high is 0.0 and the low -0.0, if the bucket has them: they are different records.
- A sum is added as f8, from 0.0: the records of a minute of a day file, then its minutes of an
  hour, then its hours, then the day files.
- A bucket without a number is NaN, whatever its records' bits are.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
from collections import defaultdict
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.naive import DAY, DTYPES, EPOCH, OTHERS_DTYPE, _days, _records

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FORMATS = {
    "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
    "i1": "b", "i2": "h", "i4": "i", "i8": "q",
    "f4": "f", "f8": "d",
}  # fmt: skip
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
STEPS = [
    *("1s", "2s", "5s", "10s", "15s", "30s", "1m", "2m", "5m", "10m", "15m", "30m"),
    *("1h", "2h", "4h", "6h", "12h", "1d", "2d", "1w", "2w", "4w"),
]
MONDAY = 4 * 86_400
Number = int | float


class Tick(NamedTuple):
    """A record: the day file it lies in, its time, and its values by column."""

    file: int
    time: int
    values: Mapping[str, Number]


def bucket_of(time: int, interval: str) -> int:
    """The second at which the bucket of `time` begins."""
    length, shift = _parsed(interval)
    return max(0, math.floor((time - shift) / length) * length + shift)


@cache
def _parsed(interval: str) -> tuple[int, int]:
    """Seconds of a bucket, and of the begin of the first one."""
    match = re.fullmatch("([0-9]+)([smhdw]?)", interval)
    assert match
    return int(match[1]) * UNITS[match[2]], MONDAY if match[2] == "w" else 0


def auto_interval(times: Sequence[int], max_points: int) -> str:
    """The shortest step that cuts the time from the first to the last record well enough."""
    for step in STEPS:
        if not times:
            return step
        length = length_of(step)
        shift = MONDAY if step.endswith("w") else 0
        cuts = (max(times) - shift) // length - (min(times) - shift) // length
        if cuts + 1 <= max_points:
            return step
    return STEPS[-1]


def length_of(interval: str) -> int:
    """Seconds of a bucket."""
    return int(interval.rstrip("smhdw")) * UNITS[interval.lstrip("0123456789")]


def is_number(value: Number) -> bool:
    """Whether a value is one; infinities are."""
    return not (isinstance(value, float) and math.isnan(value))


def total(ticks: Iterable[Tick], column: str) -> float:
    """The sum of the numbers, in the one order."""
    files = 0.0
    for _, in_file in groupby(ticks, lambda tick: tick.file):
        hours = 0.0
        for _, in_hour in groupby(in_file, lambda tick: tick.time // 3600):
            minutes = 0.0
            for _, in_minute in groupby(in_hour, lambda tick: tick.time // 60):
                records = 0.0
                for tick in in_minute:
                    if is_number(tick.values[column]):
                        records += float(tick.values[column])
                minutes += records
            hours += minutes
        files += hours
    return files


def aggregate(ticks: Sequence[Tick], column: str, name: str) -> Number:
    """One value of a bar."""
    if name == "count":
        return len(ticks)
    numbers = [tick.values[column] for tick in ticks if is_number(tick.values[column])]
    if not numbers:
        return math.nan
    if name in {"open", "close"}:
        return numbers[0 if name == "open" else -1]
    if name in {"high", "low"}:
        return (max if name == "high" else min)(numbers, key=with_sign)
    files = total(ticks, column)
    return files if name == "sum" else files / len(numbers)


def with_sign(value: Number) -> tuple[Number, float]:
    """What orders -0.0 below 0.0."""
    return value, math.copysign(1.0, value)


def outputs_of(columns: str) -> list[tuple[str, str]]:
    """`a:open+close,b` as pairs."""
    outputs = []
    for item in columns.split(","):
        column, _, names = item.rpartition(":") if ":" in item else (item, "", "ohlc")
        for name in names.split("+"):
            outputs += [(column, each) for each in (OHLC if name == "ohlc" else (name,))]
    return outputs


OHLC = ("open", "high", "low", "close")


def naive_bars(
    ticks: Sequence[Tick], columns: str, interval: str, dtypes: Mapping[str, str]
) -> list[tuple[str, str, list[Number]]]:
    """Name, dtype and values of each column of the response."""
    buckets: defaultdict[int, list[Tick]] = defaultdict(list)
    for tick in ticks:
        buckets[bucket_of(tick.time, interval)].append(tick)
    begins = sorted(buckets)
    found: list[tuple[str, str, list[Number]]] = [("time", "u4", list(begins))]
    for column, name in outputs_of(columns):
        kind = {"sum": "f8", "mean": "f8", "count": "u4"}.get(name, dtypes[column])
        values = [aggregate(buckets[begin], column, name) for begin in begins]
        found.append((f"{column}.{name}", kind, values))
    return found


def packed(kind: str, values: Sequence[Number]) -> bytes:
    """Little-endian records; every NaN is the same one."""
    plain = [math.nan if not is_number(value) else value for value in values]
    return struct.pack(f"<{len(plain)}{FORMATS[kind]}", *plain)


def naive_bars_answer(  # noqa: PLR0917 - the parameters of the request, in its order
    root: str,
    exchange: str,
    symbol: str,
    type_: str,
    start: int,
    end: int,
    columns: str,
    interval: str = "auto",
    max_points: int = 2_000,
    dtypes: Mapping[str, str] | None = None,
) -> bytes:
    """The exact body of `200` for this query."""
    known = DTYPES | dict(dtypes or {})
    names = {"time", *(column for column, _ in outputs_of(columns))}
    kinds = {name: known.get(name, OTHERS_DTYPE) for name in names}
    ticks, skipped = [], []
    for day, files in sorted(_days(os.path.join(root, exchange, symbol, type_)).items()):
        midnight = (day - EPOCH) // DAY * 86_400
        if midnight > end or midnight + 86_399 < start:
            continue
        if not names <= files.keys():
            skipped.append(f"{day:%d.%m.%y}")
            continue
        read = {name: _values(files[name], kinds[name]) for name in names}
        for index in range(min(map(len, read.values()))):
            if start <= read["time"][index] <= end:
                values = {name: read[name][index] for name in names}
                ticks.append(Tick(midnight, int(read["time"][index]), values))
    if interval == "auto":
        interval = auto_interval([tick.time for tick in ticks], max_points)
    bars = naive_bars(ticks, columns, interval, kinds)
    header: dict[str, Any] = {
        "columns": [
            {
                "name": name,
                "record_size": int(kind[1:]),
                "num_records": len(values),
                "data_length": len(values) * int(kind[1:]),
                "dtype": ("|" if kind[1:] == "1" else "<") + kind,
            }
            for name, kind, values in bars
        ],
        "interval_s": length_of(interval),
    }
    if skipped:
        header["skipped"] = skipped
    line = json.dumps(header, separators=(",", ":")).encode() + b"\n"
    return line + b"".join(packed(kind, values) for _, kind, values in bars)


def _values(path: str, kind: str) -> list[Number]:
    size = int(kind[1:])
    unpack = struct.Struct("<" + FORMATS[kind]).unpack
    return [unpack(record)[0] for record in _records(path, size)]
