"""Seeded, realistic sample data in the day-file layout.

Owns what can be asked for, and how the files reach the disk. `sample_market.py` has the numbers. It
must never know configuration, the server, the command line.

A file appears under its name complete, by rename; `time` appears last, so a reader never meets a
new day without its columns. Files of days that are over carry the time of their last record, as if
recorded then: such a day is closed at once, and equal data has equal size and modification time on
every machine.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import time
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, BinaryIO, Final

from zerocopy.commands.development.sample_market import (
    DAYS_MAX,
    RECORD_SIZE_BYTES,
    S_TO_NS,
    SYMBOLS_KNOWN,
    Ticks,
)
from zerocopy.core.errors import ConfigError
from zerocopy.core.layout import TIME_COLUMN, file_name, is_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "MD": ("time", "nanos", "price", "volume", "side", "best_bid", "best_ask"),
    "TRADES": ("time", "nanos", "price", "size", "side"),
}
# fmt: off
EXCHANGES_KNOWN: Final = (
    "coinbase", "binance", "kraken", "bitfinex", "bybit", "okx", "gemini", "bitstamp")
# fmt: on
# Names seen in the field that clients must percent-encode or that look like something else.
SYMBOLS_ODD: Final = ("tAAVE:USD", "BRK.B", "^GSPC", "BTC+ETH", "PI_XBTUSD@q", "ES=F", "A&B#1~x")

NAMES_MAX: Final = 100_000  # exchanges, and symbols on each
RECORDS_PER_DAY_MAX: Final = 500_000_000  # 2 GB a column: one sendfile(2) call's limit
FIRST_DAY_MIN: Final = date(1970, 1, 1)  # two-digit years reach from 1970 to 2069
LAST_DAY_MAX: Final = date(2069, 12, 31)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateSpec:
    """What to generate; construction raises ConfigError, so one that exists is valid."""

    root: str
    first_day: date
    exchanges: int | Sequence[str] = 1  # how many, well-known ones first, or the names themselves
    symbols: int | Sequence[str] = 1  # likewise, on each exchange
    odd_symbols: bool = False  # add SYMBOLS_ODD on each exchange
    days: int = 1
    records_per_day: int = 100_000  # of each exchange, symbol and type
    seed: int = 0
    types: Sequence[str] = ("MD", "TRADES")
    overwrite: bool = False

    def __post_init__(self) -> None:
        _check_count("days", self.days, DAYS_MAX)
        _check_count("records_per_day", self.records_per_day, RECORDS_PER_DAY_MAX)
        _check_names("exchanges", self.exchanges)
        _check_names("symbols", self.symbols)
        _check_names("symbols", self.symbol_names)
        _check_names("types", self.types)
        if not set(self.types) <= set(COLUMNS):
            raise ConfigError(f"types must be of {', '.join(COLUMNS)}, not {list(self.types)}")
        if self.day_range[0] < 0 or self.day_range[-1] >= DAYS_MAX:
            raise ConfigError(f"days must be from {FIRST_DAY_MIN} to {LAST_DAY_MAX}")

    @property
    def day_range(self) -> range:
        """The days to generate, counted since 1970."""
        first = self.first_day.toordinal() - FIRST_DAY_MIN.toordinal()
        return range(first, first + self.days)

    @property
    def exchange_names(self) -> tuple[str, ...]:
        """The exchanges to generate."""
        return _names(self.exchanges, EXCHANGES_KNOWN, "venue{:03}")

    @property
    def symbol_names(self) -> tuple[str, ...]:
        """The symbols to generate on each exchange."""
        names = _names(self.symbols, tuple(SYMBOLS_KNOWN), "SYM{:05}-USD")
        return names + SYMBOLS_ODD if self.odd_symbols else names

    @property
    def total(self) -> GenerateSummary:
        """What `generate` will have written, for progress bars and questions beforehand."""
        markets = len(self.exchange_names) * len(self.symbol_names) * self.days
        columns = sum(len(COLUMNS[type_]) for type_ in self.types)
        return GenerateSummary(
            files=markets * columns,
            records=markets * len(self.types) * self.records_per_day,
            nbytes=markets * columns * self.records_per_day * RECORD_SIZE_BYTES,
        )


@dataclass(frozen=True, slots=True)
class GenerateSummary:
    """Files, records (one of each column is one record) and bytes."""

    files: int
    records: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class _DayDirectory:
    """One day of one type: the unit that is generated, and that appears at once."""

    exchange: str
    symbol: str
    type_: str
    day: int  # since 1970
    folder: str

    def path(self, column: str) -> str:
        return os.path.join(self.folder, file_name(column, self.day))


def generate(
    spec: GenerateSpec, on_progress: Callable[[int], None] | None = None
) -> GenerateSummary:
    """Write every file of `spec`; `on_progress` is told each increment of records.

    Raises:
        ConfigError: numpy is missing, a file is there already, or the disk refuses.
    """
    if importlib.util.find_spec("numpy") is None:
        raise ConfigError("sample data needs numpy: pip install numpy")
    for directory in () if spec.overwrite else _day_directories(spec):
        for path in map(directory.path, COLUMNS[directory.type_]):
            if os.path.lexists(path):
                raise ConfigError(f"{path} exists: choose another root, or --overwrite")
    try:
        for directory in _day_directories(spec):
            _write_day(spec, directory, on_progress)
    except OSError as error:
        raise ConfigError(
            f"cannot write sample data below {spec.root}: {error.strerror}"
        ) from error
    return spec.total


def date_of(day: int) -> date:
    """The date of a day counted since 1970."""
    return date.fromordinal(FIRST_DAY_MIN.toordinal() + day)


def _check_count(option: str, count: int, count_max: int = NAMES_MAX) -> None:
    if not 1 <= count <= count_max:
        raise ConfigError(f"{option} must be from 1 to {count_max:,}, not {count:,}")


def _check_names(option: str, names: int | Sequence[str]) -> None:
    if isinstance(names, str):
        raise ConfigError(f"{option} must be a list of names, not the single string {names!r}")
    listed = () if isinstance(names, int) else names
    _check_count(f"the number of {option}", names if isinstance(names, int) else len(names))
    if len(set(listed)) != len(listed):
        raise ConfigError(f"{option} must be distinct")
    for name in listed:
        if not is_name(name):
            raise ConfigError(f"{option}: {name!r} is not a legal name")


def _names(names: int | Sequence[str], known: tuple[str, ...], pattern: str) -> tuple[str, ...]:
    if isinstance(names, int):
        return (*known[:names], *(pattern.format(index) for index in range(len(known), names)))
    return tuple(names)


def _day_directories(spec: GenerateSpec) -> Iterator[_DayDirectory]:
    # Symbols first: the last market is remembered.
    for symbol, exchange in itertools.product(spec.symbol_names, spec.exchange_names):
        for type_, day in itertools.product(spec.types, spec.day_range):
            folder = os.path.join(spec.root, exchange, symbol, type_)
            yield _DayDirectory(exchange, symbol, type_, day, folder)


def _write_day(
    spec: GenerateSpec, directory: _DayDirectory, on_progress: Callable[[int], None] | None
) -> None:
    """Generate one day directory under temporary names, then let it appear, `time` last."""
    ticks = Ticks(
        directory.exchange,
        directory.symbol,
        directory.type_,
        directory.day,
        spec.records_per_day,
        spec.seed,
    )
    os.makedirs(directory.folder, exist_ok=True)
    with contextlib.ExitStack() as stack:
        paths = {column: directory.path(column) for column in COLUMNS[directory.type_]}
        files = {column: _temporary_file(stack, path) for column, path in paths.items()}
        for chunk in ticks.chunks():
            for column, file in files.items():
                file.write(chunk[column].data)
            if on_progress is not None:
                on_progress(len(chunk[TIME_COLUMN]))
        for file in files.values():
            file.close()  # flushes
        last_record_ns = int(chunk["time"][-1]) * S_TO_NS + int(chunk["nanos"][-1])
        for column, file in sorted(files.items(), key=lambda item: item[0] == TIME_COLUMN):
            if last_record_ns < time.time_ns():
                os.utime(file.name, ns=(last_record_ns, last_record_ns))
            os.rename(file.name, paths[column])


def _temporary_file(stack: contextlib.ExitStack, path: str) -> BinaryIO:
    """Open a hidden file beside `path`, removed at the end of `stack` unless renamed by then."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.tmp")
    stack.callback(_remove_leftover, temporary)
    return stack.enter_context(open(temporary, "wb"))


def _remove_leftover(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
