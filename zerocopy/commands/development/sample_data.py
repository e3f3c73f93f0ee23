"""Seeded, realistic sample data in the day-file layout.

Owns: what a generated exchange, symbol, day and tick look like, and how their files reach the disk.
Must never know: configuration, the server, the command line.

The one idea: nothing is drawn from a shared stream. The daily closes of a symbol, the price path of
one exchange's symbol on one day, and the ticks of one day directory each have a generator of their
own, seeded by their names. So a day has the same bytes whatever else is generated, in any order;
prices run on into days generated later; and exchanges agree on them at midnight. (numpy does not
promise the same streams across its own versions.)

A day is arranged first by second (at most 86,400 numbers, however many records) and then written in
chunks of records, so memory is bounded by the chunk. A file appears under its name complete, by
rename; `time` appears last, so a reader never meets a new day without its columns. Files of days
that are over carry the time of their last record, as if recorded then: such a day is closed at
once, and equal data has equal size and modification time on every machine.
"""

# numpy is an optional extra and costs 0.1 s: functions import it where they use it.

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import itertools
import math
import os
import time
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, BinaryIO, Final

from zerocopy.core.errors import ConfigError
from zerocopy.core.layout import DAY_S, TIME_COLUMN, file_name, is_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "MD": ("time", "nanos", "price", "volume", "side", "best_bid", "best_ask"),
    "TRADES": ("time", "nanos", "price", "size", "side"),
}
RECORD_SIZE_BYTES: Final = 4  # of each of these columns
# fmt: off
EXCHANGES_KNOWN: Final = (
    "coinbase", "binance", "kraken", "bitfinex", "bybit", "okx", "gemini", "bitstamp")
# Reference prices decide the tick size and the level around which a symbol walks.
SYMBOLS_KNOWN: Final[Mapping[str, float]] = {
    "BTC-USD": 62_000.0, "ETH-USD": 3_100.0, "SOL-USD": 145.0, "XRP-USD": 0.62,
    "ADA-USD": 0.45, "DOGE-USD": 0.13, "LTC-USD": 84.0, "LINK-USD": 15.5,
    "AVAX-USD": 29.0, "DOT-USD": 6.4, "BCH-USD": 390.0, "UNI-USD": 8.1,
    "ETH-BTC": 0.051, "BTC-EUR": 57_000.0, "ETH-EUR": 2_850.0, "BTC-GBP": 48_500.0,
}
# fmt: on
# Names seen in the field that clients must percent-encode or that look like something else.
SYMBOLS_ODD: Final = ("tAAVE:USD", "BRK.B", "^GSPC", "BTC+ETH", "PI_XBTUSD@q", "ES=F", "A&B#1~x")

NAMES_MAX: Final = 100_000  # exchanges, and symbols on each
RECORDS_PER_DAY_MAX: Final = 500_000_000  # 2 GB a column: one sendfile(2) call's limit
FIRST_DAY_MIN: Final = date(1970, 1, 1)  # two-digit years reach from 1970 to 2069
LAST_DAY_MAX: Final = date(2069, 12, 31)
DAYS_MAX: Final = (LAST_DAY_MAX - FIRST_DAY_MIN).days + 1

_MINUTE_S: Final = 60
_S_TO_NS: Final = 1_000_000_000

# How a market moves. Prices walk in logarithms: each day a step, pulled back to the reference, so
# that a century stays within a factor of ten.
_DAILY_VOLATILITY: Final = 0.03
_DAILY_PULL: Final = 0.998
_PATH_STEP_S: Final = 10
_PATH_STEPS: Final = DAY_S // _PATH_STEP_S
_TICK_DIGITS: Final = 5  # a reference price is worth 10^5 to 10^6 ticks
_TICKS_MIN: Final = 16.0
_TICKS_MAX: Final = 2.0**23 - 16  # beyond, an f32 no longer tells two ticks apart
_REFERENCE_DECADES: Final = (-2.0, 3.0)  # unknown symbols cost between 0.01 and 1,000
_TICKET_VALUE: Final = 400.0  # the median tick is worth this much of the quote currency
_VOLUME_SIGMA: Final = 1.5
# How ticks arrive: this share of the records opens a second of its own, up to the busiest day.
_ACTIVE_SHARE: Final = 0.4
_ACTIVE_SECONDS_MAX: Final = int(0.9 * DAY_S)
_DIURNAL_SWING: Final = 0.5
_DIURNAL_PEAK_S: Final = 15 * 3_600  # London and New York are both open
# Temporaries of a chunk fit the second-level cache; part of what the bytes depend on.
_CHUNK_RECORDS: Final = 1 << 15


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


@dataclass(frozen=True, slots=True)
class _Market:
    """What the exchanges agree on about a symbol."""

    reference: float
    ticks_per_unit: float  # a power of ten: prices are whole ticks divided by it
    closes: Floats  # log of price over reference, at the beginning of each day since 1970


@dataclass(frozen=True, slots=True)
class _Seconds:
    """The seconds of a day that have ticks, ascending; all arrays have one item a second."""

    second: NDArray[np.int64]  # unix seconds
    start: NDArray[np.int64]  # index of the second's first record
    count: NDArray[np.int64]  # of its records
    skew: Floats  # 0 to 1: how evenly they spread; towards 0 they crowd at the beginning
    mid: Floats  # price around which bid and ask lie when the second begins, in ticks
    slope: Floats  # change of `mid` over the second


def generate(
    spec: GenerateSpec, on_progress: Callable[[int], None] | None = None
) -> GenerateSummary:
    """Write every file of `spec`; `on_progress` is told each increment of records.

    Raises:
        ConfigError: numpy is missing, a file is there already, or the disk refuses.
    """
    if importlib.util.find_spec("numpy") is None:
        raise ConfigError("sample data needs numpy: pip install 'zerocopy[generate]'")
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


def _random(*key: object) -> np.random.Generator:
    import numpy as np

    digest = hashlib.blake2b("\0".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(int.from_bytes(digest))))


@functools.lru_cache(maxsize=1)
def _market(seed: int, symbol: str) -> _Market:
    """Walk day by day: x[d] = pull * x[d-1] + step[d] = pull^d * sum(step[i] / pull^i, i <= d)."""
    import numpy as np

    random = _random(seed, "market", symbol)
    steps = random.normal(0.0, _DAILY_VOLATILITY, DAYS_MAX + 1)
    pull = _DAILY_PULL ** np.arange(DAYS_MAX + 1)
    reference = SYMBOLS_KNOWN.get(symbol) or 10.0 ** random.uniform(*_REFERENCE_DECADES)
    return _Market(
        reference=reference,
        ticks_per_unit=10.0 ** (_TICK_DIGITS - math.floor(math.log10(reference))),
        closes=pull * np.cumsum(steps / pull),
    )


def _price_path(seed: int, directory: _DayDirectory, market: _Market) -> Floats:
    """Mid price in ticks at each path step of the day: a bridge from one close to the next."""
    import numpy as np

    random = _random(seed, "path", directory.exchange, directory.symbol, directory.day)
    step_volatility = _DAILY_VOLATILITY / math.sqrt(_PATH_STEPS)
    walk = np.zeros(_PATH_STEPS + 1)
    np.cumsum(random.normal(0.0, step_volatility, _PATH_STEPS), out=walk[1:])
    begin, end = market.closes[directory.day : directory.day + 2]
    walk += begin + (end - begin - walk[-1]) * np.linspace(0.0, 1.0, _PATH_STEPS + 1)
    ticks = np.exp(walk) * (market.reference * market.ticks_per_unit)
    return np.clip(ticks, _TICKS_MIN, _TICKS_MAX)


def _arrange_seconds(
    random: np.random.Generator, records: int, path: Floats, midnight_s: int
) -> _Seconds:
    """Spread `records` over the day: quiet stretches, busy minutes, bursts within a second."""
    import numpy as np

    active = max(1, min(int(records * _ACTIVE_SHARE), _ACTIVE_SECONDS_MAX))
    # Seconds are distinct and inside the day: the squared exponential gaps share out exactly the
    # seconds that stay quiet.
    gaps = np.cumsum(random.standard_exponential(active + 1) ** 2)
    quiet = (gaps[:-1] / gaps[-1] * (DAY_S - active)).astype(np.int64)
    second = np.arange(active) + quiet
    # Counts are exact because rounding happens on the running total. Each active second has one.
    minute = random.standard_exponential(DAY_S // _MINUTE_S)[second // _MINUTE_S]
    hour = 1.0 + _DIURNAL_SWING * np.cos((second - _DIURNAL_PEAK_S) * (math.tau / DAY_S))
    weight = np.cumsum(random.standard_exponential(active) ** 2 * minute * hour)
    shared = (weight / weight[-1] * (records - active)).astype(np.int64)
    count = 1 + np.diff(shared, prepend=0)
    steps = np.arange(_PATH_STEPS + 1) * _PATH_STEP_S
    mid = np.interp(second, steps, path)
    return _Seconds(
        second=midnight_s + second,
        start=np.cumsum(count) - count,
        count=count,
        skew=random.random(active),
        mid=mid,
        slope=np.interp(second + 1, steps, path) - mid,
    )


def _chunk(
    random: np.random.Generator, seconds: _Seconds, market: _Market, begin: int, end: int
) -> dict[str, NDArray[np.uint32 | np.float32]]:
    """Records [begin, end) of the day: every column that a type can have."""
    import numpy as np

    first = np.searchsorted(seconds.start, begin, side="right") - 1
    last = np.searchsorted(seconds.start, end, side="left")
    start, count = seconds.start[first:last], seconds.count[first:last]
    # What each second has inside the chunk: only the first and the last can be cut.
    inside = np.minimum(start + count, end) - np.maximum(start, begin)
    which = np.repeat(np.arange(first, last), inside)

    # Tick j of k lies in the j-th of k equal parts of its second, at random: ascending for free.
    # x -> skew*x + (1-skew)*x^2 keeps the order and crowds the ticks at the beginning.
    records = end - begin
    fraction = np.arange(begin, end) - seconds.start[which] + random.random(records, np.float32)
    fraction /= seconds.count[which]
    skew = seconds.skew[which]
    fraction *= skew + (1.0 - skew) * fraction

    bits = random.integers(0, 1 << 32, records, np.uint32)
    side = (bits & 1).astype("<u4")  # 0 buys at the ask, 1 sells at the bid
    wobble = ((bits >> 1) & 3) + ((bits >> 3) & 3)  # 0 to 6, mostly 3
    bid = np.floor(seconds.mid[which] + seconds.slope[which] * fraction + wobble) - 3.0
    # One tick between bid and ask; in 1 of 8 records one more, in 1 of 32 three more.
    ask = bid + 1.0 + (((bits >> 5) & 7) == 0) + 3.0 * (((bits >> 8) & 31) == 0)
    best_bid = (bid / market.ticks_per_unit).astype("<f4")
    best_ask = (ask / market.ticks_per_unit).astype("<f4")
    exponent = random.standard_normal(records, np.float32) * _VOLUME_SIGMA
    volume = np.exp(exponent + math.log(_TICKET_VALUE / market.reference)).astype("<f4")
    return {
        "time": seconds.second[which].astype("<u4"),
        "nanos": (fraction * _S_TO_NS).astype("<u4"),
        "price": np.where(side == 0, best_ask, best_bid),
        "volume": volume,
        "size": volume,
        "side": side,
        "best_bid": best_bid,
        "best_ask": best_ask,
    }


def _write_day(
    spec: GenerateSpec, directory: _DayDirectory, on_progress: Callable[[int], None] | None
) -> None:
    """Generate one day directory under temporary names, then let it appear, `time` last."""
    market = _market(spec.seed, directory.symbol)
    mids = _price_path(spec.seed, directory, market)
    key = (directory.exchange, directory.symbol, directory.type_, directory.day)
    random = _random(spec.seed, "ticks", *key)
    seconds = _arrange_seconds(random, spec.records_per_day, mids, directory.day * DAY_S)

    os.makedirs(directory.folder, exist_ok=True)
    with contextlib.ExitStack() as stack:
        paths = {column: directory.path(column) for column in COLUMNS[directory.type_]}
        files = {column: _temporary_file(stack, path) for column, path in paths.items()}
        for begin in range(0, spec.records_per_day, _CHUNK_RECORDS):
            end = min(begin + _CHUNK_RECORDS, spec.records_per_day)
            chunk = _chunk(random, seconds, market, begin, end)
            for column, file in files.items():
                file.write(chunk[column].data)
            if on_progress is not None:
                on_progress(end - begin)
        for file in files.values():
            file.close()  # flushes
        last_record_ns = int(chunk["time"][-1]) * _S_TO_NS + int(chunk["nanos"][-1])
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
