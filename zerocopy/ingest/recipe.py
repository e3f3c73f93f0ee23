"""Which columns of a source become which of ours: a request, resolved against a file's own names.

Owns the choice: preset or map, time, symbol, exchange, type, and the sentence for each that was not
told. Where two would fit it refuses and names the flag that decides. It must never see a row.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from zerocopy.core.errors import IngestError
from zerocopy.core.layout import TIME_COLUMN, is_name
from zerocopy.ingest.presets import PRESETS, Preset
from zerocopy.ingest.times import TimeRule
from zerocopy.ingest.values import SIDE, SIDES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from zerocopy.ingest.sources import Source

NANOS = "nanos"
TIME_NAMES = (
    *("time", "timestamp", "timestamp_utc", "ts", "datetime", "datetime_utc", "date", "time_utc"),
    *("open_time", "trade_time", "transact_time", "event_time", "unix", "epoch"),
)
"""What a time is called, where --time does not say."""

_LEVEL = re.compile(r"(asks|bids)\[(\d+)\]\.(price|amount)")
_TOKEN = re.compile(r"[A-Z0-9]*[A-Z][A-Z0-9]*(?:_PERP|_\d{6})?")
_PARTS, _PARTS_OF_BINANCE = r"[-. !_]", r"[-. !]|_(?!PERP|\d{6}(?!\d))"
_TOKEN_MIN, _TOKEN_MAX = 3, 20
_WORDS = frozenset({"ASCII", "DAT", "CSV", "UTC", "GMT", "EST"})  # of file names, no symbols

_NAMED_MAX = 12
"""Columns that a question names."""


class Wanted(NamedTuple):
    """What the command line asks for."""

    preset: str | None = None
    exchange: str | None = None
    symbol: str | None = None
    type: str | None = None
    time: TimeRule | None = None
    columns: Mapping[str, str] = {}  # ours → the source's: --map
    delimiter: str | None = None
    has_header: bool | None = None


class View(NamedTuple):
    """The records that each row gives: ours → a column of the source, or a constant side.

    `needs` is the column without which a row gives none: a level that a book does not have.
    """

    columns: Mapping[str, str | int]
    needs: str | None = None


class Recipe(NamedTuple):
    """What to take of a source: `exchange` and `symbol` are names, or columns that hold them."""

    type: str
    time: TimeRule
    writes_nanos: bool
    views: tuple[View, ...]
    exchange: str | None
    exchange_column: str | None
    symbol: str | None
    symbol_column: str | None
    fixed_point: frozenset[str]
    others: tuple[str, ...]  # what the source has besides

    @property
    def columns(self) -> tuple[str, ...]:
        """Ours, in order."""
        own = [name for name in self.views[0].columns if name != NANOS]
        return (TIME_COLUMN, *((NANOS,) if self.writes_nanos else ()), *own)


def make_recipe(
    wanted: Wanted,
    source: Source,
    names: Sequence[str],
    note: Callable[[str], None],
) -> Recipe:
    """Resolve what is wanted against the `names` of a source; `note` is told what was inferred.

    Raises:
        IngestError: a column is missing, or the file does not tell what no flag does.
    """
    preset = _preset_of(wanted, source, names)
    find = _Finder(source, names)
    time = _time_rule(wanted, preset, find, note)
    if wanted.columns:
        views: tuple[View, ...] = (
            View({ours: find.exactly(theirs) for ours, theirs in wanted.columns.items()}),
        )
    elif preset is None:
        near = [name for name in PRESETS if _fitting(name, names)]
        looks = f"; it looks like --preset {near[0]}" if near else ""
        raise IngestError(f"{source.name}: which columns? --preset or --map{looks}")
    else:
        views = _views(preset, find)
    type_ = wanted.type or (preset.type if preset else "")
    if not type_:
        raise IngestError(f"{source.name}: which type? --type, MD or TRADES for example")
    if not wanted.type:
        note(f"type {type_} by the preset")
    exchange, exchange_column = _exchange(wanted, preset, find, note)
    symbol, symbol_column = _symbol(wanted, preset, find, note)
    return Recipe(
        type=type_,
        time=time,
        writes_nanos=bool(wanted.columns) or preset is None or preset.has_nanos,
        views=views,
        exchange=exchange,
        exchange_column=exchange_column,
        symbol=symbol,
        symbol_column=symbol_column,
        fixed_point=preset.fixed_point if preset else frozenset(),
        others=_others(names, views, (time.column, exchange_column, symbol_column)),
    )


def names_of(wanted: Wanted, source: Source, names: Sequence[str]) -> tuple[str, ...]:
    """What to call the fields of a file without a header: as its preset does, else 1, 2, 3."""
    if wanted.preset is None:
        return tuple(names)
    return _positions(PRESETS[wanted.preset][0], source, names)


class _Finder:
    """Columns of a source by their names."""

    def __init__(self, source: Source, names: Sequence[str]) -> None:
        self.source = source
        self.names = names

    def exactly(self, name: str) -> str:
        """A column that was named.

        Raises:
            IngestError: there is none; the nearest is named.
        """
        if name in self.names:
            return name
        near = difflib.get_close_matches(name, self.names, 1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(self.names)}"
        raise IngestError(f"{self.source.name}: has no column {name}; {hint}")

    def first(self, candidates: Sequence[str], ours: str) -> str:
        """The column that is called by one of `candidates`.

        Raises:
            IngestError: there is none.
        """
        for name in candidates:
            if name in self.names:
                return name
        words = " or ".join(dict.fromkeys(candidates))
        raise IngestError(f"{self.source.name}: has no column {words} for {ours}; --map decides")


def _fitting(preset: str, names: Sequence[str]) -> list[Preset]:
    """The variants of a preset that have their columns."""
    has = set(names)
    return [
        variant
        for variant in PRESETS[preset]
        if has & set(variant.time)
        and (
            all(has & set(candidates) for candidates in variant.columns.values())
            or (variant.is_wide_book and any(map(_LEVEL.fullmatch, names)))
        )
    ]


def _preset_of(wanted: Wanted, source: Source, names: Sequence[str]) -> Preset | None:
    if wanted.preset is None:
        return None
    variants = PRESETS[wanted.preset]
    if len(variants) == 1:
        return variants[0]
    fitting = [each for each in _fitting(wanted.preset, names) if wanted.type in {None, each.type}]
    if not fitting and wanted.columns:
        return replace(variants[0], type="")  # which of them, nothing tells
    if not fitting:
        raise IngestError(f"{source.name}: has not the columns of the preset {wanted.preset}")
    return fitting[0]


def _positions(preset: Preset, source: Source, names: Sequence[str]) -> tuple[str, ...]:
    known = preset.positions
    if not known:
        raise IngestError(
            f"{source.name}: has no header, which this preset needs: --header decides"
        )
    if preset.exchange == "truefx" and len(names) == len(known) - 1:
        known = known[1:]  # without the pair
    if len(names) > len(known) or len(names) < len(known) - 1:
        raise IngestError(
            f"{source.name}: has {len(names)} fields, the preset {len(known)}; --map decides"
        )
    return known[: len(names)]


def _time_rule(
    wanted: Wanted, preset: Preset | None, find: _Finder, note: Callable[[str], None]
) -> TimeRule:
    if wanted.time is not None:
        find.exactly(wanted.time.column)
        return wanted.time
    if preset is not None:
        return TimeRule(find.first(preset.time, TIME_COLUMN), preset.unit, preset.zone)
    found = [name for name in find.names if name.lower() in TIME_NAMES]
    if len(found) != 1:
        which = " or ".join(found or find.names[:_NAMED_MAX])
        more = ", and others" if not found and len(find.names) > _NAMED_MAX else ""
        raise IngestError(
            f"{find.source.name}: which column is the time? {which}{more}: "
            "--time or --preset decides"
        )
    note(f"time from {found[0]} by its name")
    return TimeRule(found[0])


def _views(preset: Preset, find: _Finder) -> tuple[View, ...]:
    levels = [match for match in map(_LEVEL.fullmatch, find.names) if match]
    if preset.is_wide_book and levels:
        depth = 1 + max(int(match[2]) for match in levels)
        return tuple(
            View(
                {
                    SIDE: SIDES[side.removesuffix("s")],
                    "price": find.exactly(f"{side}[{level}].price"),
                    "size": find.exactly(f"{side}[{level}].amount"),
                },
                needs=f"{side}[{level}].price",
            )
            for side in ("bids", "asks")
            for level in range(depth)
        )
    return (View({ours: find.first(theirs, ours) for ours, theirs in preset.columns.items()}),)


def _others(
    names: Sequence[str], views: tuple[View, ...], used: tuple[str | None, ...]
) -> tuple[str, ...]:
    taken = {theirs for view in views for theirs in view.columns.values()} | {*used}
    return tuple(name for name in names if name not in taken)


def _exchange(
    wanted: Wanted, preset: Preset | None, find: _Finder, note: Callable[[str], None]
) -> tuple[str | None, str | None]:
    if wanted.exchange is not None:
        return wanted.exchange, None
    column = (preset.exchange_column if preset else None) or "exchange"
    if column in find.names:
        note(f"exchange from the column {column}")
        return None, column
    if preset is not None and preset.exchange is not None:
        note(f"exchange {preset.exchange} by the preset")
        return preset.exchange, None
    raise IngestError(f"{find.source.name}: which exchange? --exchange decides")


def _symbol(
    wanted: Wanted, preset: Preset | None, find: _Finder, note: Callable[[str], None]
) -> tuple[str | None, str | None]:
    if wanted.symbol is not None:
        return wanted.symbol, None
    column = (preset.symbol_column if preset else None) or "symbol"
    if column in find.names:
        note(f"symbol from the column {column}")
        return None, column
    # Binance's futures of a date, and without one: BTCUSDT_250328, BTCUSD_PERP.
    is_binance = preset is not None and preset.exchange == "binance"
    parts = re.split(_PARTS_OF_BINANCE if is_binance else _PARTS, find.source.base)
    tokens = [
        part
        for part in dict.fromkeys(parts)
        if _TOKEN.fullmatch(part)
        and _TOKEN_MIN <= len(part) <= _TOKEN_MAX
        and part not in _WORDS
        and is_name(part)
    ]
    if len(tokens) != 1:
        can = f"{' or '.join(tokens)} of its name?" if tokens else "its name tells none"
        raise IngestError(f"{find.source.name}: which symbol? {can}: --symbol decides")
    note(f"symbol {tokens[0]} from the file's name")
    return tokens[0], None
