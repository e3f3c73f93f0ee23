"""`zerocopy bars` writes what /api/bars answers, in every format."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow.ipc  # type: ignore[import-untyped]
import pytest

from tests.commands.client.conftest import DAY, write_day

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.commands.client.conftest import Done, Place

    Run = Callable[..., Done]

BARS = ("bars", "BTC-USD", "--type", "MD", "--interval", "6h")
ASKED = "/api/bars?symbol=BTC-USD&type=MD&interval=6h&columns=price&start=0&end=4294967295"


@pytest.mark.parametrize("form", ["csv", "json", "columns"])
def test_bars_are_those_of_the_server(
    zerocopy: Run, place: Place, tmp_path: Path, form: str
) -> None:
    """Byte for byte, on standard output and in a file; without columns the price's."""
    expected = place.server.get(f"{ASKED}&format={form}").content
    assert zerocopy(*BARS, "--format", form) == (0, expected, "")
    path = tmp_path / "out"
    assert zerocopy(*BARS, "--format", form, "-o", str(path)) == (0, b"", "")
    assert path.read_bytes() == expected


@pytest.mark.parametrize("ending", ["arrow", "parquet", "npz"])
def test_bars_in_formats_that_are_made_here(
    zerocopy: Run, place: Place, tmp_path: Path, ending: str
) -> None:
    """The same bars, also where the server has no such format."""
    path = tmp_path / f"out.{ending}"
    done = zerocopy(*BARS, "--columns=price:close+count,side:sum", "-o", str(path))
    assert done == (0, b"", "")
    asked = ASKED.replace("columns=price", "columns=price:close+count,side:sum")
    expected = json.loads(place.server.get(f"{asked}&format=json").content)["columns"]
    if ending == "npz":
        found = {name: values.tolist() for name, values in np.load(path).items()}
    elif ending == "parquet":
        found = pl.read_parquet(path).to_dict(as_series=False)
    else:
        found = pyarrow.ipc.open_stream(path.read_bytes()).read_all().to_pydict()
    assert list(found) == ["time", "price.close", "price.count", "side.sum"]
    for name, values in expected.items():
        np.testing.assert_array_equal(np.array(found[name], "f4"), np.array(values, "f4"))


def test_bars_of_bars_are_open_high_low_and_close_of_theirs(zerocopy: Run, place: Place) -> None:
    """And the sum of their volume, without a word about columns."""
    values = np.array([[2, 4, 1, 3, 10], [3, 9, 2, 5, 20]], "f4").T
    columns = dict(zip(("open", "high", "low", "close", "volume"), values, strict=True))
    time = np.array([DAY * 86_400, DAY * 86_400 + 60], "u4")
    write_day(place.root, "BARS", DAY, {**columns, "time": time}, "OHLC")
    done = zerocopy("bars", "OHLC", "--type=BARS", "--interval=1d")
    head, row = done.out.decode().splitlines()
    assert head == "time,open.open,high.high,low.low,close.close,volume.sum"
    assert [float(value) for value in row.split(",")] == [DAY * 86_400, 2, 9, 1, 5, 30]


def test_bars_errors_are_one_line(zerocopy: Run) -> None:
    """What the server refuses, and a type without a price."""
    done = zerocopy(*BARS, "--columns=price:median")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "of open high low close" in done.err
    done = zerocopy("bars", "NOPRICE", "--type=MD")
    assert (done.code, done.err.count("\n")) == (1, 1)
