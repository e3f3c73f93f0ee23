"""The oracle is held to literals computed by hand, so that others may be held to the oracle."""

from __future__ import annotations

import ast
import json
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import naive
from tests.naive import naive_answer, naive_symbols

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REPOSITORY = Path(__file__).resolve().parent.parent
MARKET_DATA = REPOSITORY.parent / "shared" / "market-data"
U32_MAX = 4_294_967_295
JAN_31 = 1_738_281_600  # 2025-01-31 00:00:00 UTC
FEB_01 = 1_738_368_000  # 2025-02-01 00:00:00 UTC


def u32(*values: int) -> bytes:
    """Little-endian u32 records."""
    return struct.pack(f"<{len(values)}I", *values)


def write(root: Path, name: str, content: bytes, *, folder: str = "coinbase/X/MD") -> None:
    """One file of the layout, `name` as in `time.31.01.25`."""
    path = root / folder / f"{name}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def ask(
    root: Path,
    start: int,
    end: int,
    columns: Sequence[str] = ("time", "price"),
    dtypes: Mapping[str, str] | None = None,
) -> bytes:
    """The oracle's answer for coinbase, X, MD."""
    return naive_answer(str(root), "coinbase", "X", "MD", start, end, columns, dtypes)


@pytest.fixture(name="two_days")
def fixture_two_days(tmp_path: Path) -> Path:
    """Three records on 31 January, two of them in one second, and two on 1 February."""
    write(tmp_path, "time.31.01.25", u32(JAN_31, JAN_31 + 5, JAN_31 + 5))
    write(tmp_path, "price.31.01.25", b"aaaabbbbcccc")
    write(tmp_path, "time.01.02.25", u32(FEB_01, FEB_01 + 86_399))
    write(tmp_path, "price.01.02.25", b"ddddeeee")
    return tmp_path


def test_answer_of_everything_is_header_line_then_columns_days_ascending(two_days: Path) -> None:
    """The whole body to the byte: key order, one LF, first all of time, then all of price."""
    assert ask(two_days, 0, U32_MAX) == (
        b'{"columns":[{"name":"time","record_size":4,"num_records":5,"data_length":20,"dtype":"<u4"},'
        b'{"name":"price","record_size":4,"num_records":5,"data_length":20,"dtype":"<f4"}]}\n'
        b"\x80\x12\x9c\x67\x85\x12\x9c\x67\x85\x12\x9c\x67\x00\x64\x9d\x67\x7f\xb5\x9e\x67"
        b"aaaabbbbccccddddeeee"
    )


@pytest.mark.parametrize(
    ("start", "end", "prices"),
    [
        (JAN_31, JAN_31, b"aaaa"),
        (JAN_31 + 1, JAN_31 + 4, b""),
        (JAN_31 + 5, JAN_31 + 5, b"bbbbcccc"),
        (JAN_31 + 5, FEB_01, b"bbbbccccdddd"),
        (JAN_31 + 6, FEB_01 - 1, b""),
        (FEB_01 + 86_399, U32_MAX, b"eeee"),
        (FEB_01 + 86_400, U32_MAX, b""),
        (0, JAN_31 - 1, b""),
    ],
)
def test_answer_has_both_ends_inclusive_and_every_duplicate(
    two_days: Path, start: int, end: int, prices: bytes
) -> None:
    """Records at start and at end are in, equal times come all or not at all."""
    header, _, data = ask(two_days, start, end, ["price"]).partition(b"\n")
    assert data == prices
    assert json.loads(header)["columns"][0]["num_records"] == len(prices) // 4


def test_answer_keeps_the_order_of_the_columns_asked(two_days: Path) -> None:
    """Columns come as asked, and time is only there if asked for."""
    assert ask(two_days, JAN_31, JAN_31, ["price", "time"]) == (
        b'{"columns":[{"name":"price","record_size":4,"num_records":1,"data_length":4,"dtype":"<f4"},'
        b'{"name":"time","record_size":4,"num_records":1,"data_length":4,"dtype":"<u4"}]}\n'
        b"aaaa\x80\x12\x9c\x67"
    )


def test_answer_of_declared_widths_counts_records_of_that_width(two_days: Path) -> None:
    """An 8-byte and a 2-byte column have their own sizes and stay aligned with time."""
    write(two_days, "id.31.01.25", b"AAAAAAAABBBBBBBBCCCCCCCC")
    write(two_days, "flag.31.01.25", b"112233")
    body = ask(two_days, JAN_31 + 1, FEB_01 - 1, ["id", "flag"], {"id": "u8", "flag": "u2"})
    assert body == (
        b'{"columns":[{"name":"id","record_size":8,"num_records":2,"data_length":16,"dtype":"<u8"},'
        b'{"name":"flag","record_size":2,"num_records":2,"data_length":4,"dtype":"<u2"}]}\n'
        b"BBBBBBBBCCCCCCCC2233"
    )


def test_answer_of_a_day_in_flight_stops_at_the_shortest_whole_record(two_days: Path) -> None:
    """A short column, a torn time and a torn column each end their day, not the others."""
    write(two_days, "price.31.01.25", b"aaaabbbbcc")
    write(two_days, "time.01.02.25", u32(FEB_01) + b"\xff\xb4\x9e")
    write(two_days, "price.01.02.25", b"ddddeeee")
    assert ask(two_days, 0, U32_MAX, ["price"]).endswith(b"}]}\naaaabbbbdddd")


@pytest.mark.parametrize("content", [b"", b"\x00", b"\x80\x12\x9c"])
def test_answer_of_a_time_file_below_one_record_has_no_records_and_no_skip(
    two_days: Path, content: bytes
) -> None:
    """Such a day exists and is empty: it is not listed as skipped."""
    write(two_days, "time.31.01.25", content)
    assert ask(two_days, 0, U32_MAX, ["price"]) == (
        b'{"columns":[{"name":"price","record_size":4,"num_records":2,"data_length":8,"dtype":"<f4"}]}\nddddeeee'
    )


def test_answer_lists_days_that_lack_a_requested_column_oldest_first(two_days: Path) -> None:
    """A day without the column or without time is skipped whole; key order is columns, skipped."""
    write(two_days, "time.03.03.25", b"")  # lacks price; being empty does not save it
    write(two_days, "other.02.02.25", b"zzzz")  # lacks time and price
    write(two_days, "price.04.02.99", b"yyyy")  # lacks time, in 1999
    (two_days / "coinbase/X/MD/price.31.01.25.bin").unlink()
    assert ask(two_days, 0, U32_MAX, ["price"]) == (
        b'{"columns":[{"name":"price","record_size":4,"num_records":2,"data_length":8,"dtype":"<f4"}],'
        b'"skipped":["04.02.99","31.01.25","02.02.25","03.03.25"]}\n'
        b"ddddeeee"
    )


@pytest.mark.parametrize(
    ("start", "end", "skipped"),
    [
        (JAN_31 - 9, JAN_31 - 1, None),
        (JAN_31 - 9, JAN_31, ["31.01.25"]),
        (FEB_01 - 1, FEB_01 - 1, ["31.01.25"]),
        (FEB_01, FEB_01, None),
    ],
)
def test_answer_lists_skipped_days_only_inside_the_range(
    two_days: Path, start: int, end: int, skipped: list[str] | None
) -> None:
    """A day counts from its midnight to one second before the next."""
    (two_days / "coinbase/X/MD/price.31.01.25.bin").unlink()
    header = ask(two_days, start, end, ["price"]).partition(b"\n")[0]
    assert json.loads(header).get("skipped") == skipped


def test_answer_reads_two_digit_years_from_1970_to_2069_once(tmp_path: Path) -> None:
    """70 and 99 are of the last century, 00 and 69 of this one, oldest first, none twice."""
    for label, time_s in (
        ("31.12.69", 3_155_673_600),
        ("01.01.70", 0),
        ("31.12.99", 946_598_400),
        ("01.01.00", 946_684_800),
    ):
        write(tmp_path, f"time.{label}", u32(time_s))
    assert ask(tmp_path, 0, U32_MAX, ["time"]).endswith(
        b'"num_records":4,"data_length":16,"dtype":"<u4"}]}\n'
        + u32(0, 946_598_400, 946_684_800, 3_155_673_600)
    )


def test_answer_ignores_whatever_is_no_day_file(two_days: Path) -> None:
    """Impossible dates, other endings, hidden files, folders and links are as good as absent."""
    for name in ("time.31.02.25", "time.1.2.25", ".time.02.02.25", "time.02.02.2025", "notes"):
        write(two_days, name, b"12345678")
    folder = two_days / "coinbase/X/MD"
    (folder / "time.05.02.25.bin").mkdir()
    (folder / "time.06.02.25.bin").symlink_to(folder / "time.01.02.25.bin")
    (folder / "time.07.02.25.bin.tmp").write_bytes(b"1234")
    assert ask(two_days, 0, U32_MAX).startswith(
        b'{"columns":[{"name":"time","record_size":4,"num_records":5,"data_length":20,"dtype":"<u4"},'
        b'{"name":"price","record_size":4,"num_records":5,"data_length":20,"dtype":"<f4"}]}\n'
    )


def test_answer_reads_column_names_with_dots(two_days: Path) -> None:
    """The date is the last three numbers of a name, whatever the column is called."""
    write(two_days, "bid.5.31.01.25", b"111122223333")
    assert ask(two_days, JAN_31, JAN_31, ["bid.5"]).endswith(b"\n1111")


def stamp(root: Path, path: str, modified_s: float) -> None:
    """One file with its modification time."""
    full = root / path
    full.parent.mkdir(parents=True, exist_ok=True)
    full.write_bytes(b"")
    os.utime(full, (modified_s, modified_s))


@pytest.fixture(name="markets")
def fixture_markets(tmp_path: Path) -> Path:
    """Two exchanges that share a symbol, and clutter beside and below them."""
    stamp(tmp_path, "coinbase/BTC-USD/MD/time.31.01.25.bin", 1_738_326_923.9)
    stamp(tmp_path, "coinbase/BTC-USD/TRADES/time.30.01.25.bin", 1_738_240_000)
    stamp(tmp_path, "coinbase/ETH-USD/MD/time.31.01.25.bin", 1_738_326_924)
    stamp(tmp_path, "coinbase/ADA-USD/MD/time.31.01.25.bin", 1_738_326_923)
    stamp(tmp_path, "binance/BTC-USD/MD/time.31.01.25.bin", 0)
    stamp(tmp_path, "coinbase/ETH-USD/MD/notes.txt", 1_900_000_000)
    stamp(tmp_path, "coinbase/ETH-USD/MD/.time.01.02.25.bin", 1_900_000_000)
    stamp(tmp_path, "coinbase/.hidden/MD/time.31.01.25.bin", 1_900_000_000)
    stamp(tmp_path, ".snapshot/BTC-USD/MD/time.31.01.25.bin", 1_900_000_000)
    stamp(tmp_path, "coinbase/README", 1_900_000_000)
    stamp(tmp_path, "notes.bin", 1_900_000_000)
    (tmp_path / "coinbase" / "EMPTY" / "MD").mkdir(parents=True)
    return tmp_path


BINANCE = [
    {"symbol": "BTC-USD", "last_update": 0, "last_update_date": "1970-01-01 00:00:00 UTC"},
]
COINBASE = [
    {
        "symbol": "ETH-USD",
        "last_update": 1_738_326_924,
        "last_update_date": "2025-01-31 12:35:24 UTC",
    },
    {
        "symbol": "ADA-USD",
        "last_update": 1_738_326_923,
        "last_update_date": "2025-01-31 12:35:23 UTC",
    },
    {
        "symbol": "BTC-USD",
        "last_update": 1_738_326_923,
        "last_update_date": "2025-01-31 12:35:23 UTC",
    },
]


@pytest.mark.parametrize(
    ("exchange", "expected"),
    [
        (
            None,
            {
                "symbols": ["ADA-USD", "BTC-USD", "ETH-USD"],
                "exchanges": {"binance": BINANCE, "coinbase": COINBASE},
            },
        ),
        ("binance", {"symbols": ["BTC-USD"], "exchanges": {"binance": BINANCE}}),
        ("nowhere", {"symbols": [], "exchanges": {"nowhere": []}}),
    ],
)
def test_symbols_are_newest_first_within_an_exchange_and_unique_over_all(
    markets: Path, exchange: str | None, expected: dict[str, Any]
) -> None:
    """Seconds are whole, ties go by name, clutter and empty symbols are not there."""
    assert naive_symbols(str(markets), exchange) == expected


def test_oracle_imports_the_standard_library_only() -> None:
    """An oracle that borrowed the package's code would agree with its mistakes."""
    imported: set[str | None] = set()
    for node in ast.walk(ast.parse(Path(naive.__file__).read_bytes())):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    assert {"json", "struct"} <= imported
    assert not {name for name in imported if name and name.startswith(("zerocopy", "tests"))}


@pytest.mark.skipif(not MARKET_DATA.is_dir(), reason=f"no market data at {MARKET_DATA}")
def test_answer_of_a_real_capture_is_all_of_its_files() -> None:
    """Nine recorded ticks of one day: the columns are the files, to the byte."""
    body = naive_answer(
        str(MARKET_DATA), "coinbase", "BAND-BTC", "MD", 0, U32_MAX, ["time", "side"]
    )
    folder = MARKET_DATA / "coinbase" / "BAND-BTC" / "MD"
    assert body == (
        b'{"columns":[{"name":"time","record_size":4,"num_records":9,"data_length":36,"dtype":"<u4"},'
        b'{"name":"side","record_size":4,"num_records":9,"data_length":36,"dtype":"<u4"}]}\n'
        + (folder / "time.17.04.21.bin").read_bytes()
        + (folder / "side.17.04.21.bin").read_bytes()
    )


@pytest.mark.skipif(not MARKET_DATA.is_dir(), reason=f"no market data at {MARKET_DATA}")
def test_answer_of_real_bars_runs_across_the_new_year() -> None:
    """Three minutes from 2021-12-31 23:59 on: one bar of the old year, two of the new one."""
    body = naive_answer(
        *(str(MARKET_DATA), "ftx", "BTC-PERP", "BARS"), 1_640_995_140, 1_640_995_260, ["open"]
    )
    assert body == (
        b'{"columns":[{"name":"open","record_size":4,"num_records":3,"data_length":12,"dtype":"<f4"}]}\n'
        + struct.pack("<3f", 46_257.0, 46_197.0, 46_224.0)
    )
