"""The demo's data root: whose it is, and what is in it when the demo starts.

Owns which series there are, two weeks of them, and the mark by which a root is known as a demo's.
A root without the mark belongs to somebody else: nothing is ever written there. It must never know
the server.
"""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from zerocopy.commands.development.growing import GrowingDay
from zerocopy.commands.development.sample_data import GenerateSpec, date_of
from zerocopy.commands.development.sample_market import Ticks
from zerocopy.core.errors import ConfigError
from zerocopy.core.layout import DAY_S, TIME_COLUMN, file_name

if TYPE_CHECKING:
    from collections.abc import Iterator

DAYS: Final = 14
"""Whole days before today; so many that a chart has something to zoom out to."""

MARK: Final = ".zerocopy-demo"
"""A file in the root: it holds the seed. No server lists a hidden name."""

_RECORDS: Final = {
    ("coinbase", "BTC-USD"): 200_000,
    ("coinbase", "ETH-USD"): 100_000,
    ("coinbase", "SOL-USD"): 50_000,
    ("coinbase", "XRP-USD"): 30_000,
    ("binance", "BTC-USD"): 100_000,
    ("binance", "ETH-USD"): 60_000,
}
"""Records of MD a day: several a second for the first, all together 18 MB a day."""

_TRADES_SHARE: Final = 4
"""One record of TRADES for so many of MD."""


def series_of_day(day: int, seed: int) -> Iterator[Ticks]:
    """What every series of the demo has on `day`, days counted since 1970."""
    for (exchange, symbol), records in _RECORDS.items():
        yield Ticks(exchange, symbol, "MD", day, records, seed)
        yield Ticks(exchange, symbol, "TRADES", day, records // _TRADES_SHARE, seed)


@dataclass(frozen=True, slots=True)
class DemoRoot:
    """A root that this process may write to, as long as `lock_fd` is open here or in a child."""

    path: str
    seed: int
    lock_fd: int

    def missing(self, today: int) -> list[GenerateSpec]:
        """What to generate so that each of the `DAYS` days before `today` has its files."""
        return [
            GenerateSpec(
                root=self.path,
                first_day=date_of(day),
                exchanges=(ticks.exchange,),
                symbols=(ticks.symbol,),
                types=(ticks.type_,),
                records_per_day=ticks.records,
                seed=self.seed,
                overwrite=True,  # what an interrupted start left of the day
            )
            for day in range(today - DAYS, today)
            for ticks in series_of_day(day, self.seed)
            if not os.path.exists(self._time_path(ticks))
        ]

    def complete(self, today: int) -> None:
        """Append what the days before `today` still lack: the demo was stopped while they grew.

        Raises:
            OSError: a file cannot be written.
        """
        for day in range(today - DAYS, today):
            for ticks in series_of_day(day, self.seed):
                path = self._time_path(ticks)
                if os.path.exists(path) and os.path.getsize(path) < ticks.nbytes_of_column:
                    with GrowingDay(self.path, ticks) as growing:
                        growing.grow(time.time_ns())

    def _time_path(self, ticks: Ticks) -> str:
        name = file_name(TIME_COLUMN, ticks.day)
        return os.path.join(self.path, ticks.exchange, ticks.symbol, ticks.type_, name)


def today() -> int:
    """The present UTC day, counted since 1970."""
    return int(time.time()) // DAY_S


def claim(path: str, seed: int) -> DemoRoot | str:
    """Take `path` as the root of this demo; or say why it has to be served as it is.

    A new or empty directory becomes the demo's. One that has the mark is topped up, unless another
    demo does that now, or it cannot be written.

    Raises:
        ConfigError: it was made with another seed, or there is no directory and none can be made.
    """
    mark = os.path.join(path, MARK)
    try:
        os.makedirs(path, exist_ok=True)
        if not os.path.exists(mark) and os.listdir(path):
            return f"{path} was not made by this demo and is served as it is"
        fd = os.open(mark, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if os.path.isdir(path):
            return f"{path} cannot be written ({error.strerror}) and is served as it is"
        raise ConfigError(f"{path}: cannot hold the demo's data: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return f"another demo writes to {path}: its data are served here too"
    made_with = os.read(fd, 32).decode("ascii", "replace").strip()
    if not made_with:
        os.write(fd, f"{seed}\n".encode())
    elif made_with != str(seed):
        os.close(fd)
        raise ConfigError(
            f"{path} was made with --seed {made_with}: say so, or name another --root"
        )
    return DemoRoot(path, seed, fd)
