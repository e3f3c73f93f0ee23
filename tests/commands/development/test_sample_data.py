"""Sample data is exact in number, legal in layout, realistic in shape and the same for a seed."""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.storage.trees import OPEN_DAY
from zerocopy.commands.development import sample_market
from zerocopy.commands.development.sample_data import (
    COLUMNS,
    SYMBOLS_ODD,
    GenerateSpec,
    GenerateSummary,
    generate,
)
from zerocopy.core.errors import ConfigError, ZerocopyError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FIRST_DAY = date(2025, 1, 31)
DTYPES = {"time": "<u4", "nanos": "<u4", "side": "<u4"}  # everything else is <f4
DAY_S = 86_400


def make_spec(root: Path, **changes: Any) -> GenerateSpec:
    """One exchange, symbol and day of 1,000 records, but for `changes`."""
    values: dict[str, Any] = {"root": str(root), "first_day": FIRST_DAY, "records_per_day": 1_000}
    return GenerateSpec(**(values | changes))


def read_column(
    root: Path, column: str, *, type_: str = "MD", day: date = FIRST_DAY, symbol: str = "BTC-USD"
) -> NDArray[Any]:
    """One column of one generated day of coinbase."""
    path = root / "coinbase" / symbol / type_ / f"{column}.{day:%d.%m.%y}.bin"
    return np.fromfile(path, dtype=DTYPES.get(column, "<f4"))


def digest_files(root: Path) -> dict[str, str]:
    """Relative path to digest of every file below `root`."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("records", [1, 2, 3, 999, (1 << 15) - 1, 1 << 15, (1 << 15) + 1, 200_003])
def test_generate_any_number_of_records_writes_exactly_that_many(
    tmp_path: Path, records: int
) -> None:
    """Every column of both types holds the records asked for, at and around chunk borders too."""
    generate(make_spec(tmp_path, records_per_day=records))
    for type_, columns in COLUMNS.items():
        for column in columns:
            assert len(read_column(tmp_path, column, type_=type_)) == records


def test_generate_many_markets_lays_files_out_as_the_contract_says(tmp_path: Path) -> None:
    """Known names come first, made ones after, and file names carry day, month and short year."""
    summary = generate(
        make_spec(tmp_path, exchanges=9, symbols=17, days=2, records_per_day=3, types=("TRADES",))
    )
    files = digest_files(tmp_path)
    assert summary == GenerateSummary(
        files=9 * 17 * 2 * 5, records=9 * 17 * 2 * 3, nbytes=9 * 17 * 2 * 5 * 12
    )
    assert len(files) == summary.files
    assert "coinbase/BTC-USD/TRADES/time.31.01.25.bin" in files
    assert "bitstamp/ETH-USD/TRADES/size.01.02.25.bin" in files
    assert "venue008/SYM00016-USD/TRADES/side.01.02.25.bin" in files


def test_generate_odd_symbols_writes_names_that_need_percent_encoding(tmp_path: Path) -> None:
    """The odd names are added on request, and explicit names may be as odd."""
    generate(make_spec(tmp_path / "a", odd_symbols=True, records_per_day=1))
    generate(make_spec(tmp_path / "b", symbols=["^GSPC", "tAAVE:USD"], records_per_day=1))
    assert set(os.listdir(tmp_path / "a" / "coinbase")) == {"BTC-USD", *SYMBOLS_ODD}
    assert {"tAAVE:USD", "BRK.B", "^GSPC"} <= set(SYMBOLS_ODD)
    assert set(os.listdir(tmp_path / "b" / "coinbase")) == {"^GSPC", "tAAVE:USD"}


@pytest.mark.parametrize("type_", ["MD", "TRADES"])
@pytest.mark.parametrize("records", [50, 70_000, 1_000_000])
def test_generate_times_are_sorted_inside_the_day_with_nanos_ascending(
    tmp_path: Path, type_: str, records: int
) -> None:
    """Time and nanos together ascend, and no record leaves the UTC day of its file."""
    generate(make_spec(tmp_path, records_per_day=records, types=(type_,)))
    time = read_column(tmp_path, "time", type_=type_).astype(np.int64)
    nanos = read_column(tmp_path, "nanos", type_=type_).astype(np.int64)
    midnight = int(datetime(2025, 1, 31, tzinfo=UTC).timestamp())
    assert midnight <= time[0] <= time[-1] < midnight + DAY_S
    assert nanos.max() < 1_000_000_000
    assert (np.diff(time * 1_000_000_000 + nanos) >= 0).all()


def test_generate_arrivals_are_bursty(tmp_path: Path) -> None:
    """Many ticks share a second, other seconds are absent: far from an even spread."""
    generate(make_spec(tmp_path, records_per_day=100_000, types=("MD",)))
    _, counts = np.unique(read_column(tmp_path, "time"), return_counts=True)
    assert len(counts) < 0.5 * DAY_S
    assert counts.max() >= 20
    assert counts.var() > 3 * counts.mean()  # a Poisson process would have the two equal


def test_generate_quotes_have_a_positive_spread_on_the_tick_grid(tmp_path: Path) -> None:
    """Bid is below ask, both are whole ticks, and price is the ask of a buy, the bid of a sale."""
    generate(make_spec(tmp_path, symbols=["BTC-USD", "XRP-USD", "Z9"], records_per_day=20_000))
    for symbol, ticks_per_unit in (("BTC-USD", 10), ("XRP-USD", 1_000_000), ("Z9", None)):
        bid = read_column(tmp_path, "best_bid", symbol=symbol)
        ask = read_column(tmp_path, "best_ask", symbol=symbol)
        side = read_column(tmp_path, "side", symbol=symbol)
        assert (bid > 0).all()
        assert (bid < ask).all()
        assert set(np.unique(side)) == {0, 1}
        price = read_column(tmp_path, "price", symbol=symbol)
        assert (price == np.where(side == 0, ask, bid)).all()
        if ticks_per_unit is not None:
            ticks = np.round(bid.astype(np.float64) * ticks_per_unit)
            assert (bid == (ticks / ticks_per_unit).astype("<f4")).all()


def test_generate_volumes_are_log_normal(tmp_path: Path) -> None:
    """Volumes are positive, their logarithm symmetric about a ticket of about 400 in the quote."""
    generate(make_spec(tmp_path, records_per_day=100_000, types=("TRADES",)))
    size = read_column(tmp_path, "size", type_="TRADES").astype(np.float64)
    logarithm = np.log(size)
    assert (size > 0).all()
    assert np.median(size) * 62_000 == pytest.approx(400, rel=0.05)
    assert logarithm.std() == pytest.approx(1.5, rel=0.05)
    assert logarithm.mean() == pytest.approx(float(np.median(logarithm)), abs=0.05)


def test_generate_prices_run_on_across_days_types_and_exchanges(tmp_path: Path) -> None:
    """A day opens where the last one closed, types and exchanges agree, and prices move."""
    spec = make_spec(tmp_path, exchanges=2, days=30, records_per_day=20_000)
    generate(spec)
    days = [FIRST_DAY + timedelta(days=index) for index in range(30)]
    prices = [read_column(tmp_path, "price", day=day) for day in days]
    for earlier, later in itertools.pairwise(prices):
        assert later[0] == pytest.approx(earlier[-1], rel=0.01)
    for day, price in zip(days, prices, strict=True):
        trades = read_column(tmp_path, "price", type_="TRADES", day=day)
        assert np.median(trades) == pytest.approx(np.median(price), rel=0.03)
    opens = np.array([price[0] for price in prices])
    assert opens.max() / opens.min() > 1.03
    other = tmp_path / "binance" / "BTC-USD" / "MD" / f"price.{FIRST_DAY:%d.%m.%y}.bin"
    assert np.fromfile(other, "<f4")[0] == pytest.approx(prices[0][0], rel=0.01)


def test_generate_century_of_prices_stays_sane(tmp_path: Path) -> None:
    """The first and the last day there are still give a price of the symbol's magnitude."""
    for day in (date(1970, 1, 1), date(1999, 12, 31), date(2000, 1, 1), date(2069, 12, 31)):
        generate(make_spec(tmp_path, first_day=day, records_per_day=10))
        bid = read_column(tmp_path, "best_bid", day=day)
        assert ((bid > 6_200) & (bid < 620_000)).all()
        midnight = (day - date(1970, 1, 1)).days * DAY_S
        assert (read_column(tmp_path, "time", day=day) // DAY_S * DAY_S == midnight).all()


def test_generate_same_day_has_the_same_bytes_whatever_surrounds_it(tmp_path: Path) -> None:
    """Order, other markets, other days and the type's siblings change no byte of a file."""
    generate(make_spec(tmp_path / "all", exchanges=2, symbols=3, days=3))
    for spec in (
        make_spec(tmp_path / "one", exchanges=["binance"], symbols=["SOL-USD"], types=("TRADES",)),
        make_spec(
            tmp_path / "two",
            exchanges=["binance", "coinbase"],
            symbols=["ETH-USD", "BTC-USD"],
            types=("TRADES", "MD"),
            first_day=FIRST_DAY + timedelta(days=2),
        ),
    ):
        generate(spec)
        assert digest_files(tmp_path / "one").items() <= digest_files(tmp_path / "all").items()
    assert digest_files(tmp_path / "two").items() <= digest_files(tmp_path / "all").items()


def test_generate_other_seed_gives_other_bytes(tmp_path: Path) -> None:
    """Every file changes with the seed, and none is a copy of another but by chance."""
    generate(make_spec(tmp_path / "a", exchanges=2, symbols=2, days=2))
    generate(make_spec(tmp_path / "b", exchanges=2, symbols=2, days=2, seed=1))
    first, second = digest_files(tmp_path / "a"), digest_files(tmp_path / "b")
    assert first.keys() == second.keys()
    assert not set(first.values()) & set(second.values())
    assert len(set(first.values())) == len(first)


def test_generate_existing_file_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """One file in the way stops the whole run, and it keeps its bytes."""
    present = tmp_path / "coinbase" / "ETH-USD" / "MD" / "nanos.31.01.25.bin"
    present.parent.mkdir(parents=True)
    present.write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"nanos\.31\.01\.25\.bin exists"):
        generate(make_spec(tmp_path, symbols=2))
    assert list(digest_files(tmp_path)) == ["coinbase/ETH-USD/MD/nanos.31.01.25.bin"]
    assert present.read_bytes() == b"mine"


def test_generate_overwrite_replaces_by_rename(tmp_path: Path) -> None:
    """A reader that holds the old file keeps the old bytes; the name leads to the new ones."""
    generate(make_spec(tmp_path))
    path = tmp_path / "coinbase" / "BTC-USD" / "MD" / "price.31.01.25.bin"
    with path.open("rb") as held:
        generate(make_spec(tmp_path, records_per_day=10, overwrite=True))
        assert len(held.read()) == 4_000
    assert path.stat().st_size == 40


def test_generate_failure_leaves_no_file_behind(tmp_path: Path) -> None:
    """An exception amid a day leaves neither half a day nor a temporary file."""

    def stop(_increment: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(make_spec(tmp_path), on_progress=stop)
    assert digest_files(tmp_path) == {}


def test_generate_files_appear_whole_with_time_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When `time` gets its name, every other column of the day is already there in full."""
    names: list[str] = []
    rename = os.rename

    def watch(source: str, target: str) -> None:
        assert os.path.basename(source).startswith(".")
        assert not source.endswith(".bin")
        assert os.stat(source).st_size == 4_000
        names.append(os.path.basename(target).split(".")[0])
        rename(source, target)

    monkeypatch.setattr(os, "rename", watch)
    generate(make_spec(tmp_path))
    assert sorted(names[:7]) == sorted(COLUMNS["MD"])
    assert sorted(names[7:]) == sorted(COLUMNS["TRADES"])
    assert (names[6], names[11]) == ("time", "time")


def test_generate_past_day_carries_the_time_of_its_last_record(tmp_path: Path) -> None:
    """Files of a past day look as recorded then; those of a day to come were modified now."""
    before_s = datetime.now(UTC).timestamp()
    for day in (FIRST_DAY, OPEN_DAY):
        generate(make_spec(tmp_path, first_day=day))
        modified = [
            path.stat().st_mtime
            for path in tmp_path.rglob(f"*.{day:%d.%m.%y}.bin")
            if "MD" in path.parts
        ]
        assert len(set(map(int, modified))) <= 2
        if day == FIRST_DAY:
            assert int(modified[0]) == read_column(tmp_path, "time")[-1]
        else:
            assert before_s - 60 < min(modified) <= max(modified) < before_s + 60


def test_generate_progress_adds_up_to_the_total(tmp_path: Path) -> None:
    """The increments are positive, bounded and sum to the records of the summary."""
    increments: list[int] = []
    spec = make_spec(tmp_path, symbols=2, days=2, records_per_day=70_000)
    summary = generate(spec, on_progress=increments.append)
    assert summary == spec.total
    assert sum(increments) == summary.records == 2 * 2 * 2 * 70_000
    assert all(0 < increment <= 70_000 for increment in increments)


def test_generate_without_numpy_raises_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The optional extra is named in the error, and nothing is written."""
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ZerocopyError, match=r"^sample data needs numpy: pip install numpy$"):
        generate(make_spec(tmp_path))
    assert digest_files(tmp_path) == {}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"days": 0}, "days"),
        ({"days": 36_526, "first_day": date(1970, 1, 1)}, "days"),
        ({"days": 2, "first_day": date(2069, 12, 31)}, "2069-12-31"),
        ({"first_day": date(1969, 12, 31)}, "1970-01-01"),
        ({"first_day": date(2070, 1, 1)}, "2069-12-31"),
        ({"records_per_day": 0}, "records_per_day"),
        ({"records_per_day": 500_000_001}, "500,000,000"),
        ({"exchanges": 0}, "exchanges"),
        ({"exchanges": []}, "exchanges"),
        ({"exchanges": "coinbase"}, "list of names"),
        ({"symbols": ["A", "A"]}, "distinct"),
        ({"symbols": ["^GSPC"], "odd_symbols": True}, "distinct"),
        ({"symbols": ["../up"]}, "legal name"),
        ({"symbols": [".hidden"]}, "legal name"),
        ({"symbols": ["A" * 65]}, "legal name"),
        ({"symbols": ["A\n"]}, "legal name"),
        ({"types": ()}, "types"),
        ({"types": ("MD", "BARS")}, "types"),
    ],
)
def test_spec_out_of_bounds_raises_a_config_error_that_names_it(
    tmp_path: Path, changes: dict[str, Any], word: str
) -> None:
    """The operator's mistake is one line that says what would be right."""
    with pytest.raises(ConfigError, match=word) as caught:
        make_spec(tmp_path, **changes)
    assert "\n" not in caught.value.detail


def test_generate_unwritable_root_raises_a_config_error(tmp_path: Path) -> None:
    """A root that is a file is the operator's mistake, told in one line."""
    root = tmp_path / "file"
    root.write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot write sample data below"):
        generate(make_spec(root))


def test_generate_memory_stays_flat_however_long_the_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No chunk is larger than the bound: 50 million records need no more than 50,000."""
    lengths: list[int] = []
    chunk = sample_market._chunk

    def watch(*args: Any) -> dict[str, NDArray[Any]]:
        columns = chunk(*args)
        lengths.append(max(map(len, columns.values())))
        return columns

    monkeypatch.setattr(sample_market, "_chunk", watch)
    generate(make_spec(tmp_path, records_per_day=100_000, types=("MD",)))
    assert max(lengths) == sample_market._CHUNK_RECORDS
    assert sum(lengths) == 100_000
