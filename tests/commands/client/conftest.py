"""A server for the commands that are clients, and the commands, run in this process."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from tests.server import ForkedServer, RunningServer
from zerocopy import cli
from zerocopy.core.layout import DAY_S, file_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

DAY = 20_000
"""2024-10-04, the first of three days; the second has no files."""

RECORDS_MAX = 300
"""What the server computes at most: less than there is."""

Columns = dict[str, "NDArray[np.generic]"]


class Place(NamedTuple):
    """A server, and what all days of BTC-USD, MD hold."""

    root: Path
    server: RunningServer
    columns: Columns

    @property
    def url(self) -> str:
        """Of the server."""
        return f"http://127.0.0.1:{self.server.port}"


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    out: bytes
    err: str


def write_day(root: Path, type_: str, day: int, columns: Columns, symbol: str = "BTC-USD") -> None:
    """The files of one day, `time` last."""
    folder = root / "coinbase" / symbol / type_
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(columns, key=lambda name: name == "time"):
        columns[name].tofile(folder / file_name(name, day))


def day_of(day: int, records: int) -> Columns:
    """Records that share seconds, and whose prices are no round numbers."""
    random = np.random.default_rng(day)
    return {
        "time": np.sort(random.integers(0, DAY_S, records, "u4")).astype("<u4") + day * DAY_S,
        "price": random.normal(100, 1, records).astype("<f4"),
        "nanos": random.integers(0, 10**9, records).astype("<u4"),
        "side": random.integers(0, 2, records).astype("<u4"),
    }


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Two days of MD, one of them without `extra`; one day of TRADES; one type of ETH-USD."""
    root = tmp_path_factory.mktemp("data")
    days = [day_of(DAY, 400), day_of(DAY + 2, 250)]
    days[0]["price"][:3] = [np.nan, np.inf, 1e-7]
    for number, day in zip((DAY, DAY + 2), days, strict=True):
        write_day(root, "MD", number, day)
    (root / "coinbase/BTC-USD/MD" / file_name("extra", DAY)).write_bytes(bytes(4 * 400))
    write_day(root, "TRADES", DAY, day_of(DAY, 10))
    write_day(root, "MD", DAY, day_of(DAY, 10), symbol="ETH-USD")
    whole = {name: np.concatenate([day[name] for day in days]) for name in days[0]}
    with ForkedServer(root, ZEROCOPY_FORMATS_RECORDS_MAX=str(RECORDS_MAX)) as server:
        yield Place(root, server, whole)


@pytest.fixture
def zerocopy(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], place: Place
) -> Callable[..., Done]:
    """Run a command in this process, against the server unless another URL is given."""

    def run(*arguments: str, url: str = place.url) -> Done:
        monkeypatch.setattr(sys, "argv", ["zerocopy", *arguments])
        monkeypatch.setenv("ZEROCOPY_URL", url)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Done(code, out, err.decode())

    return run
