"""pandas, DuckDB, polars and pyarrow read each format, of made data and of what was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.formats.libraries import READERS
from tests.formats.plans import Columns, plan_in_memory, sample
from tests.formats.readers import columns_of, text_of
from tests.naive import naive_answer
from tests.storage.trees import U32_MAX
from zerocopy.service.representations import written

for library in ("duckdb", "pandas", "polars", "pyarrow"):
    pytest.importorskip(library, reason=f"{library} is not installed")

MARKET_DATA = Path(__file__).resolve().parents[3] / "shared" / "market-data"
EACH = pytest.mark.parametrize("name", READERS)


@pytest.fixture(name="recorded", scope="module")
def fixture_recorded() -> list[Columns]:
    """Every series, whole, as the oracle reads it."""
    found = []
    for folder in sorted(MARKET_DATA.glob("*/*/*/")):
        names = sorted({file.name.split(".", 1)[0] for file in folder.glob("*.bin")})
        exchange, symbol, kind = folder.parts[-3:]
        body = naive_answer(str(MARKET_DATA), exchange, symbol, kind, 0, U32_MAX, names)
        kinds = columns_of(body)
        found.append({name: (dtype[1:], records) for name, (dtype, records) in kinds.items()})
    return found


@EACH
def test_made_data_is_read_as_it_was(name: str, tmp_path: Path) -> None:
    """NaN, infinities, numbers of 64 bits and texts that must be quoted, in two days."""
    check(name, sample(1_000), [0, 400, 1_000], tmp_path / "body")


@pytest.mark.skipif(not MARKET_DATA.is_dir(), reason="../shared/market-data is not there")
@EACH
def test_recorded_market_data_is_read_as_it_was(
    name: str, recorded: list[Columns], tmp_path: Path
) -> None:
    """Every column of every series, from one record to a month of minutes."""
    for columns in recorded:
        check(name, columns, [0, len(columns["time"][1]) // 4], tmp_path / "body")


def check(name: str, columns: Columns, cuts: list[int], path: Path) -> None:
    """Fail unless each library reads of a format what was written."""
    path.write_bytes(written(name, plan_in_memory(columns, cuts))[1])
    dtypes = {column: dtype for column, (dtype, _) in columns.items()}
    for library, read in READERS[name].items():
        found = read(path, dtypes)
        assert list(found) == list(columns), library
        for column, (dtype, records) in columns.items():
            if dtype[0] != "S":
                check_numbers(name, found[column], np.frombuffer(records, f"<{dtype}"))
            elif name in {"arrow", "parquet"}:
                assert b"".join(map(bytes, found[column])) == records, library
            else:
                texts = np.frombuffer(records, dtype).tolist()  # without NULs at their end
                read_texts = [text or "" for text in found[column].tolist()]
                assert read_texts == [text_of(raw) for raw in texts], library


def check_numbers(name: str, found: Any, wanted: Any) -> None:
    """Bit for bit; in text NaN is one value, and in JSON a null that stands for infinities, too."""
    assert found.dtype == wanted.dtype
    if name in {"csv", "json"} and wanted.dtype.kind == "f":
        found = np.ma.filled(found, np.nan)
        wanted = np.where(np.isfinite(wanted) | (name == "csv"), wanted, np.nan)
        found, wanted = (np.where(np.isnan(each), np.nan, each) for each in (found, wanted))
        found, wanted = (each.astype(wanted.dtype) for each in (found, wanted))
    assert found.tobytes() == wanted.tobytes()
