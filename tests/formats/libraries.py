"""What libraries that nobody here wrote read of each format, by the call that a user would write.

Each takes the file that holds a body and the dtypes of its columns, which text does not tell, and
gives the columns as numpy arrays.
"""
# ruff: noqa: PLC0415 - a test is skipped where one of them is missing

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Dtypes = Mapping[str, str]
    Arrays = Mapping[str, Any]

DUCKDB_TYPES = {"u4": "UINTEGER", "u8": "UBIGINT", "f4": "FLOAT", "f8": "DOUBLE", "S4": "VARCHAR"}
BLOCK_BYTES = 1 << 24
"""pyarrow takes a document of JSON that one block holds."""


def arrow_by_pandas(path: Path, _: Dtypes) -> Arrays:
    """By way of pyarrow."""
    return _of_pandas(_arrow_table(path).to_pandas())


def arrow_by_duckdb(path: Path, _: Dtypes) -> Arrays:
    """By way of pyarrow, too: the table as it is in memory."""
    import duckdb

    return duckdb.from_arrow(_arrow_table(path)).fetchnumpy()


def parquet_by_pandas(path: Path, _: Dtypes) -> Arrays:
    """The file says all there is to know."""
    import pandas as pd  # type: ignore[import-untyped]

    return _of_pandas(pd.read_parquet(path))


def parquet_by_duckdb(path: Path, _: Dtypes) -> Arrays:
    """The same."""
    import duckdb

    return duckdb.read_parquet(str(path)).fetchnumpy()


def csv_by_pandas(path: Path, dtypes: Dtypes) -> Arrays:
    """NaN is a number of floats, and a word of texts."""
    import pandas as pd

    told = {name: "str" if dtype[0] == "S" else dtype for name, dtype in dtypes.items()}
    missing = {name: ["NaN"] for name, dtype in dtypes.items() if dtype[0] == "f"}
    return _of_pandas(pd.read_csv(path, dtype=told, keep_default_na=False, na_values=missing))


def csv_by_duckdb(path: Path, dtypes: Dtypes) -> Arrays:
    """An empty text is null."""
    import duckdb

    told = {name: DUCKDB_TYPES[dtype] for name, dtype in dtypes.items()}
    return duckdb.read_csv(str(path), columns=told, header=True).fetchnumpy()


def csv_by_polars(path: Path, dtypes: Dtypes) -> Arrays:
    """An empty text is null."""
    import polars as pl

    return _of_polars(pl.read_csv(path, schema=_polars_types(dtypes)))


def csv_by_pyarrow(path: Path, dtypes: Dtypes) -> Arrays:
    """Texts may hold line feeds."""
    from pyarrow import csv  # type: ignore[import-untyped]

    parsing = csv.ParseOptions(newlines_in_values=True)
    converting = csv.ConvertOptions(column_types=_arrow_types(dtypes))
    table = csv.read_csv(path, parse_options=parsing, convert_options=converting)
    return {name: table.column(name).to_numpy() for name in table.column_names}


def json_by_pandas(path: Path, dtypes: Dtypes) -> Arrays:
    """By way of the standard library, for the document is no table."""
    import pandas as pd

    frame = pd.DataFrame(json.loads(path.read_bytes())["columns"])
    return _of_pandas(frame.astype({name: each for name, each in dtypes.items() if each[0] != "S"}))


def json_by_duckdb(path: Path, dtypes: Dtypes) -> Arrays:
    """One row of lists, which become rows."""
    import duckdb

    lists = ", ".join(f'"{name}" {DUCKDB_TYPES[dtype]}[]' for name, dtype in dtypes.items())
    rows = ", ".join(f'unnest(columns."{name}") as "{name}"' for name in dtypes)
    document = duckdb.read_json(str(path), columns={"columns": f"STRUCT({lists})"})
    return document.project(rows).fetchnumpy()


def json_by_polars(path: Path, dtypes: Dtypes) -> Arrays:
    """The same."""
    import polars as pl

    lists = {name: pl.List(each) for name, each in _polars_types(dtypes).items()}
    frame = pl.read_json(path, schema={"columns": pl.Struct(lists)})
    return _of_polars(frame.unnest("columns").explode(list(dtypes)))


def json_by_pyarrow(path: Path, dtypes: Dtypes) -> Arrays:
    """The same."""
    import pyarrow as pa
    from pyarrow import json as arrow_json

    lists = {name: pa.list_(each) for name, each in _arrow_types(dtypes).items()}
    table = arrow_json.read_json(
        path,
        read_options=arrow_json.ReadOptions(block_size=BLOCK_BYTES),
        parse_options=arrow_json.ParseOptions(
            explicit_schema=pa.schema({"columns": pa.struct(lists)})
        ),
    )
    columns = table.column("columns").combine_chunks()
    return {name: columns.field(name).flatten().to_numpy(zero_copy_only=False) for name in dtypes}


READERS: dict[str, dict[str, Callable[[Path, Dtypes], Arrays]]] = {
    "arrow": {"pandas": arrow_by_pandas, "duckdb": arrow_by_duckdb},
    "parquet": {"pandas": parquet_by_pandas, "duckdb": parquet_by_duckdb},
    "csv": {
        "pandas": csv_by_pandas,
        "duckdb": csv_by_duckdb,
        "polars": csv_by_polars,
        "pyarrow": csv_by_pyarrow,
    },
    "json": {
        "pandas": json_by_pandas,
        "duckdb": json_by_duckdb,
        "polars": json_by_polars,
        "pyarrow": json_by_pyarrow,
    },
}
"""By format and library. `tests.formats.readers` has polars and pyarrow for Arrow and Parquet, and
the standard library for csv and JSON."""


def _arrow_table(path: Path) -> Any:
    import pyarrow as pa

    return pa.ipc.open_stream(path.read_bytes()).read_all()


def _of_pandas(frame: Any) -> Arrays:
    return {name: frame[name].to_numpy() for name in frame.columns}


def _of_polars(frame: Any) -> Arrays:
    return {column.name: column.to_numpy() for column in frame}


def _arrow_types(dtypes: Dtypes) -> dict[str, Any]:
    import pyarrow as pa

    known = {"u4": "uint32", "u8": "uint64", "f4": "float32", "f8": "float64", "S4": "string"}
    return {name: pa.type_for_alias(known[dtype]) for name, dtype in dtypes.items()}


def _polars_types(dtypes: Dtypes) -> dict[str, Any]:
    import polars as pl

    known = {
        "u4": pl.UInt32, "u8": pl.UInt64, "f4": pl.Float32, "f8": pl.Float64, "S4": pl.String,
    }  # fmt: skip
    return {name: known[dtype] for name, dtype in dtypes.items()}
