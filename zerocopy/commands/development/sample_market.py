"""What a generated market does: prices that walk, ticks that come in bursts, from a seed.

Owns the numbers of a generated day: which seconds have ticks, and every column of each. It must
never know files, nor who writes them.

The one idea: nothing is drawn from a shared stream. The daily closes of a symbol, the price path of
one exchange's symbol on one day, and the ticks of one type on one day each have a generator of
their own, seeded by their names. So a day has the same bytes whatever else is generated, in any
order; prices run on into days generated later; and exchanges agree on them at midnight. (numpy does
not promise the same streams across its own versions.)

A day is arranged first by second (at most 86,400 numbers, however many records) and then made in
chunks of records, so memory is bounded by the chunk.
"""

# numpy is an optional extra and costs 0.1 s: functions import it where they use it.

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from zerocopy.core.layout import DAY_S, LAST_DAY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Chunk = dict[str, NDArray[np.uint32 | np.float32]]

# fmt: off
# Reference prices decide the tick size and the level around which a symbol walks.
SYMBOLS_KNOWN: Final[Mapping[str, float]] = {
    "BTC-USD": 62_000.0, "ETH-USD": 3_100.0, "SOL-USD": 145.0, "XRP-USD": 0.62,
    "ADA-USD": 0.45, "DOGE-USD": 0.13, "LTC-USD": 84.0, "LINK-USD": 15.5,
    "AVAX-USD": 29.0, "DOT-USD": 6.4, "BCH-USD": 390.0, "UNI-USD": 8.1,
    "ETH-BTC": 0.051, "BTC-EUR": 57_000.0, "ETH-EUR": 2_850.0, "BTC-GBP": 48_500.0,
}
# fmt: on

RECORD_SIZE_BYTES: Final = 4  # of each column
DAYS_MAX: Final = LAST_DAY + 1  # since 1970
_MINUTE_S: Final = 60
S_TO_NS: Final = 1_000_000_000

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


@dataclass(frozen=True, slots=True)
class Ticks:
    """One day of one type of one symbol: what is generated."""

    exchange: str
    symbol: str
    type_: str
    day: int  # since 1970
    records: int
    seed: int

    @property
    def nbytes_of_column(self) -> int:
        """Of the day's file of one column, when the day is over."""
        return self.records * RECORD_SIZE_BYTES

    def chunks(self) -> Iterator[Chunk]:
        """Every record of the day, ascending: arrays by column, as many records as fit a cache."""
        market = _market(self.seed, self.symbol)
        mids = _price_path(self, market)
        key = (self.exchange, self.symbol, self.type_, self.day)
        random = _random(self.seed, "ticks", *key)
        seconds = _arrange_seconds(random, self.records, mids, self.day * DAY_S)
        for begin in range(0, self.records, _CHUNK_RECORDS):
            end = min(begin + _CHUNK_RECORDS, self.records)
            yield _chunk(random, seconds, market, begin, end)


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


def _price_path(ticks: Ticks, market: _Market) -> Floats:
    """Mid price in ticks at each path step of the day: a bridge from one close to the next."""
    import numpy as np

    random = _random(ticks.seed, "path", ticks.exchange, ticks.symbol, ticks.day)
    step_volatility = _DAILY_VOLATILITY / math.sqrt(_PATH_STEPS)
    walk = np.zeros(_PATH_STEPS + 1)
    np.cumsum(random.normal(0.0, step_volatility, _PATH_STEPS), out=walk[1:])
    begin, end = market.closes[ticks.day : ticks.day + 2]
    walk += begin + (end - begin - walk[-1]) * np.linspace(0.0, 1.0, _PATH_STEPS + 1)
    level = np.exp(walk) * (market.reference * market.ticks_per_unit)
    return np.clip(level, _TICKS_MIN, _TICKS_MAX)


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
) -> Chunk:
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
        "nanos": (fraction * S_TO_NS).astype("<u4"),
        "price": np.where(side == 0, best_ask, best_bid),
        "volume": volume,
        "size": volume,
        "side": side,
        "best_bid": best_bid,
        "best_ask": best_ask,
    }
