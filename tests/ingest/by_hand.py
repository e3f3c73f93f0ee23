"""The oracle of imports: rows as text become day files by csv, Decimal and numpy, never by polars.

It shares no code with the package. `Row` holds what a record is to be; `files_of` are the bytes.
"""

from __future__ import annotations

import csv
import io
import os
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zerocopy.cli import command_line
from zerocopy.core.errors import ZerocopyError
from zerocopy.streams import tell

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FOLDER = os.path.join("shared", "import-samples")
SAMPLES = next(
    (str(above / FOLDER) for above in Path(__file__).parents if (above / FOLDER).is_dir()), ""
)
"""Beside the project, or beside what it lies in; empty where there are none."""

U4 = ("time", "nanos", "side", "count")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NS = 10**9


class Row(NamedTuple):
    """One record: its instant in unix nanoseconds, and what it holds besides time and nanos."""

    ns: int
    values: Mapping[str, Any]


def files_of(
    rows: Iterable[Row], *, nanos: bool = True, dtypes: Mapping[str, str] | None = None
) -> dict[str, bytes]:
    """The day files of rows by name, sorted by time; rows of one instant stay in their order."""
    days: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.ns):
        days.setdefault(f"{EPOCH + timedelta(seconds=row.ns // NS):%d.%m.%y}", []).append(row)
    found = {}
    for day, some in days.items():
        columns: dict[str, list[Any]] = {"time": [row.ns // NS for row in some]}
        if nanos:
            columns["nanos"] = [row.ns % NS for row in some]
        for name in some[0].values:
            columns[name] = [row.values[name] for row in some]
        for name, values in columns.items():
            dtype = (dtypes or {}).get(name) or ("u4" if name in U4 else "f4")
            array = np.array([_number(each) for each in values] if dtype[0] != "S" else values)
            found[f"{name}.{day}.bin"] = array.astype(f"<{dtype}").tobytes()
    return found


def _number(value: Any) -> Any:
    if isinstance(value, str):
        return int(value) if value.isdigit() else float(value)
    return value


def found_in(root: Path | str, *series: str) -> dict[str, bytes]:
    """All files of a series by name, hidden ones included."""
    folder = os.path.join(root, *series)
    if not os.path.isdir(folder):
        return {}
    found = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as file:
            found[name] = file.read()
    return found


def csv_rows(path: str, names: str | None = None) -> list[dict[str, str]]:
    """The rows of a CSV file; `names` of its columns, with commas between, if it has no header."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, names.split(",") if names else None))


def ns_of(text: str, per_s: int = 1) -> int:
    """Unix nanoseconds of a decimal that counts `per_s` units a second."""
    return int(Decimal(text) * NS / per_s)


class Done(NamedTuple):
    """What a command has come to."""

    code: int
    out: str
    err: str


def import_(root: Path | str, *arguments: Path | str) -> Done:
    """`zerocopy import … --root ROOT` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            typed = ["import", *map(str, arguments), "--root", str(root)]
            code = command_line(typed)(typed, standalone_mode=False)
        except ZerocopyError as error:
            tell(f"zerocopy: {error.detail}")
            code = 1
    return Done(code, out.getvalue(), err.getvalue())
