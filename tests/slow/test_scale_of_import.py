"""Imports at full size: every nuisance in a million rows, and 5 GB of CSV below 1 GiB of memory."""

from __future__ import annotations

import os
import random
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from tests.command_line import ZEROCOPY, environment
from tests.ingest.by_hand import found_in, import_
from zerocopy.core.layout import day_label

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_600)]

FIRST_DAY = 20_088  # 2024-12-31: the unit changes at its end
DAY_MS = 86_400_000
GIB = 1 << 30


def files_of(times_ms: np.ndarray, columns: dict[str, np.ndarray]) -> dict[str, bytes]:
    """Day files of rows, by numpy."""
    order = np.argsort(times_ms, kind="stable")
    times_ms = times_ms[order]
    whole = {
        "time": (times_ms // 1000).astype("<u4"),
        "nanos": (times_ms % 1000 * 1_000_000).astype("<u4"),
        **{name: column[order] for name, column in columns.items()},
    }
    days, found = times_ms // DAY_MS, {}
    for day in np.unique(days).tolist():
        begin, end = np.searchsorted(days, [day, day + 1])
        for name, column in whole.items():
            found[f"{name}.{day_label(day)}.bin"] = column[begin:end].tobytes()
    return found


def test_every_nuisance_in_a_million_rows(tmp_path: Path) -> None:
    """BOM, CRLF, blank lines, quotes, exponents, three spellings of true, two units, no order."""
    rng, count = random.Random(18), 1_000_000
    days = [FIRST_DAY, FIRST_DAY + 1, FIRST_DAY + 3]  # a gap
    times, prices, sides = [], [], []
    path = tmp_path / "BTCUSDT-trades-2024-12.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        file.write("id,price,qty,quote_qty,time,is_buyer_maker\r\n")
        for row in range(count):
            time_ms = rng.choice(days) * DAY_MS + rng.randrange(DAY_MS)
            cents = rng.randrange(1, 10_000_000)
            price = f"{cents / 100:.2f}"
            shape = rng.randrange(50)
            if shape == 0:
                price = f'"{price}"'
            elif shape == 1:
                price = f"{cents / 100:.8e}"
            side = rng.random() < 0.5
            word = str(side)
            word = (word, word.upper(), word.lower())[rng.randrange(3)]
            unit = "" if time_ms < (FIRST_DAY + 1) * DAY_MS else "000"
            line = f"{row},{price},1,1,{time_ms}{unit},{word}\r\n"
            if shape in {2, 3}:
                line += "\r\n" if shape == 2 else "\n"
            copies = 2 if shape == 4 else 1
            file.write(line * copies)
            times += [time_ms] * copies
            prices += [cents / 100] * copies
            sides += [int(side)] * copies
    done = import_(tmp_path / "root", path, "--preset=binance-trades")
    assert (done.code, done.err) == (0, "")
    columns = {
        "price": np.array(prices).astype("<f4"),
        "size": np.ones(len(times), "<f4"),
        "side": np.array(sides, "<u4"),
    }
    wanted = files_of(np.array(times), columns)
    assert found_in(tmp_path / "root", "binance", "BTCUSDT", "TRADES") == wanted
    assert f"{len(times) - count:,} rows repeat another one exactly" in done.out
    assert "time: ms by its size" in done.out
    assert "time: us by its size" in done.out


BLOCK_ROWS = 500_000
DAYS = 20


def blocks() -> Iterator[pl.DataFrame]:
    """Rows of all days, in no order."""
    for seed in range(10_000):
        rng = np.random.default_rng(seed)
        time_ms = rng.integers(FIRST_DAY * DAY_MS, (FIRST_DAY + DAYS) * DAY_MS, BLOCK_ROWS)
        yield pl.DataFrame(
            {
                "id": np.arange(BLOCK_ROWS) + seed * BLOCK_ROWS + 10**9,
                "price": np.round(rng.random(BLOCK_ROWS) * 100_000, 2),
                "qty": np.round(rng.random(BLOCK_ROWS) * 10, 3),
                "quote_qty": np.round(rng.random(BLOCK_ROWS) * 1_000, 5),
                "time": time_ms,
                "is_buyer_maker": rng.random(BLOCK_ROWS) < 0.5,
            }
        )


def test_five_gigabytes_take_less_than_one_of_memory(tmp_path: Path) -> None:
    """Some 85 million rows of twenty days, all interleaved, through a pipe; a day has to fit."""
    nbytes_wanted = int(os.environ.get("IMPORT_TEST_BYTES", "5000000000"))
    root = tmp_path / "root"
    options = ("--preset=binance-trades", "--symbol=X", "--root", str(root))
    with subprocess.Popen(
        [*ZEROCOPY, "import", "-", *options],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        nbytes = 0
        frames: list[pl.DataFrame] = []
        for block in blocks():
            text = block.write_csv(include_header=not frames).encode()
            process.stdin.write(text)
            nbytes += len(text)
            some = block.select(
                "time",
                pl.col("price").cast(pl.Float32),
                pl.col("qty").cast(pl.Float32),
                pl.col("is_buyer_maker"),
            )
            frames.append(some)
            if nbytes >= nbytes_wanted:
                break
        process.stdin.close()
        report = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, report
    assert usage.ru_maxrss * 1024 < GIB
    whole = pl.concat(frames)
    columns = {
        "price": whole["price"].to_numpy(),
        "size": whole["qty"].to_numpy(),
        "side": whole["is_buyer_maker"].to_numpy().astype("<u4"),
    }
    folder = root / "binance" / "X" / "TRADES"
    for name, content in files_of(whole["time"].to_numpy(), columns).items():
        assert (folder / name).read_bytes() == content, name
    assert len(list(folder.iterdir())) == DAYS * 5
