"""The commands of docs/import.md and the programs of docs/layout.md do what the pages say."""

from __future__ import annotations

import gzip
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zstandard

from tests.ingest.by_hand import found_in, import_

DOCS = Path(__file__).parents[2] / "docs"
T = 1_735_689_600
MS = f"{T}000"
US = f"{T}000000"
NS = f"{T}000000000"

COMMANDS = [
    line.strip()
    for line in (DOCS / "import.md").read_text("utf-8").splitlines()
    if re.match(r"    (zcat \S+ \| )?zerocopy import (?!FILE)", line)
]


def zipped(name: str, text: str) -> bytes:
    """A zip archive of one file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, text)
    return out.getvalue()


def parquet() -> bytes:
    """Ticks with types."""
    import polars as pl  # noqa: PLC0415

    out = io.BytesIO()
    pl.DataFrame({"time": [T], "bid": [1.0], "ask": [2.0]}).write_parquet(out)
    return out.getvalue()


TARDIS = "exchange,symbol,timestamp,local_timestamp,"
LEVELS = ",".join(
    f"{side}[{level}].{what}"
    for level in range(5)
    for side in ("asks", "bids")
    for what in ("price", "amount")
)
DATABENTO = (
    "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size,flags,"
    "ts_in_delta,sequence,symbol\n"
)
FILES = {
    "BTCUSDT-1m-2025-01.zip": zipped("BTCUSDT-1m-2025-01.csv", f"{US},1,1,1,1,1,{US},1,1,1,1,0\n"),
    "BTCUSDT-1m-2024-12.zip": zipped(
        "BTCUSDT-1m-2024-12.csv", f"{T - 60}000,1,1,1,1,1,{MS},1,1,1,1,0\n"
    ),
    "BTCUSDT-trades-2025-01.zip": zipped("BTCUSDT-trades-2025-01.csv", f"1,1,1,1,{US},True,True\n"),
    "BTCUSDT-aggTrades-2025-01.zip": zipped(
        "BTCUSDT-aggTrades-2025-01.csv",
        "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n"
        f"1,1,1,1,1,{MS},true\n",
    ),
    "BTCUSDT-bookTicker-2024-01.zip": zipped(
        "BTCUSDT-bookTicker-2024-01.csv", f"1,1,1,2,1,{MS},{MS}\n"
    ),
    "deribit_trades_2025-01-01_OPTIONS.csv.gz": gzip.compress(
        f"{TARDIS}id,side,price,amount\nderibit,BTC-C,{US},{US},1,buy,1,1\n".encode()
    ),
    "deribit_quotes_2025-01-01_OPTIONS.csv.gz": gzip.compress(
        f"{TARDIS}ask_amount,ask_price,bid_price,bid_amount\nderibit,BTC-C,{US},{US},1,2,1,1\n".encode()
    ),
    "deribit_book_snapshot_5_2025-01-01_X.csv.gz": gzip.compress(
        f"{TARDIS}{LEVELS}\nderibit,BTC-C,{US},{US},{','.join(['1'] * 20)}\n".encode()
    ),
    "glbx-mdp3-20250101.trades.csv.zst": zstandard.compress(
        f"{DATABENTO}{NS},{NS},0,1,5,T,A,0,1000000000,7,0,0,1,ESH5\n".encode()
    ),
    "EURUSD-2025-01.zip": zipped("EURUSD-2025-01.csv", "EUR/USD,20250101 00:00:00.123,1.03,1.04\n"),
    "DAT_ASCII_EURUSD_T_202501.csv": b"20250101 000000660,1.03,1.04,0\n",
    "bars.csv": f"ts,Open,Close\n{MS},1,2\n".encode(),
    "fills.csv": b"executed_at,fill_price,qty,direction\n2025-07-01T09:00:00+02:00,1,2,Sell\n",
    "local.csv": b"when,px,Side\n2025-07-01 09:00:00,1,buy\n",
    "ticks.parquet": parquet(),
    "feed.ndjson.gz": gzip.compress(f'{{"time":{T},"price":1}}\n'.encode()),
    "answer.csv": f"time,nanos,price\n{T},5,1\n".encode(),
}


def test_every_recipe_of_the_page_is_known() -> None:
    """All that are typed there are run below."""
    assert len(COMMANDS) == 16


@pytest.mark.parametrize("command", COMMANDS, ids=range(len(COMMANDS)))
def test_recipe_imports_its_files(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is typed, over small files of the names that it gives."""
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        Path(name).write_bytes(content)
    feed, _, typed = command.rpartition(" | ")
    if feed:
        content = gzip.decompress(Path(feed.split()[1]).read_bytes())
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    words = shlex.split(typed)[2:]
    at = words.index("--root")
    done = import_(words[at + 1], *words[:at], *words[at + 2 :])
    assert (done.code, done.err) == (0, "")
    written = [path for path in Path("mydata").rglob("time.*.bin") if path.stat().st_size]
    assert written


def layout_program(language: str) -> str:
    """The program of docs/layout.md in a language."""
    page = (DOCS / "layout.md").read_text("utf-8")
    found = re.search(rf"```{language}\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return found[1]


def test_python_program_of_the_layout_page_writes_a_day(tmp_path: Path) -> None:
    """Two columns of a thousand records, nothing hidden left."""
    subprocess.run([sys.executable, "-c", layout_program("python")], check=True, cwd=tmp_path)
    found = found_in(tmp_path, "mydata", "coinbase", "ACME", "TRADES")
    assert sorted(found) == ["price.01.06.25.bin", "time.01.06.25.bin"]
    assert np.frombuffer(found["time.01.06.25.bin"], "<u4")[[0, -1]].tolist() == [
        1_748_736_000,
        1_748_736_999,
    ]


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler: apt-get install gcc")
def test_c_program_of_the_layout_page_writes_a_column(tmp_path: Path) -> None:
    """It compiles without a warning, and writes what it is given."""
    main = 'int main(void) { uint32_t t[2] = {7, 9}; return write_column(".", "time", t, 8); }\n'
    (tmp_path / "a.c").write_text(layout_program("c") + main, encoding="utf-8")
    subprocess.run(
        ["cc", "-Wall", "-Wextra", "-Werror", "-o", "a.out", "a.c"], check=True, cwd=tmp_path
    )
    subprocess.run([str(tmp_path / "a.out")], check=True, cwd=tmp_path)
    assert (tmp_path / "time.01.06.25.bin").read_bytes() == np.array([7, 9], "<u4").tobytes()
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
