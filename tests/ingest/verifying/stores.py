"""Small stores for tests of verify, and what a person would say is in them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from zerocopy.core.layout import Dtypes, day_label
from zerocopy.ingest.verifying.day import Place
from zerocopy.ingest.verifying.verify import Verifier

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from zerocopy.ingest.verifying.finding import Finding

DAY = 20_240  # 2025-06-01, a Sunday
DAY_S = 86_400
NOW_S = (DAY + 40) * DAY_S
DTYPES = Dtypes({"id": "u8"})
COLUMNS = {"time": "<u4", "price": "<f4", "id": "<u8"}
SERIES = ("e", "s", "T")
COUNT = 300

Table = dict[str, np.ndarray]


def folder(root: Path, series: tuple[str, str, str] = SERIES) -> Path:
    """The directory of a series."""
    return root.joinpath(*series)


def path_of(root: Path, column: str, day: int = DAY) -> Path:
    """The file of a column."""
    return folder(root) / f"{column}.{day_label(day)}.bin"


def table(day: int = DAY, count: int = COUNT) -> Table:
    """Records of a day, each with a mark of its own; several share a second."""
    number = np.arange(count) + day * 1_000
    times = day * DAY_S + np.arange(count) * 86_000 // max(1, count) // 7 * 7
    return {"time": times.astype("<u4"), "price": number.astype("<f4"), "id": number.astype("<u8")}


def put(root: Path, columns: Mapping[str, np.ndarray | bytes], day: int = DAY) -> None:
    """Write the files of a day."""
    folder(root).mkdir(parents=True, exist_ok=True)
    for name, column in columns.items():
        path_of(root, name, day).write_bytes(bytes(column))


def sound(root: Path, days: int = 3) -> None:
    """A store without a fault."""
    for day in range(DAY, DAY + days):
        put(root, table(day), day)


def findings(root: Path, now_s: float = NOW_S, **dtypes: str) -> list[Finding]:
    """All that verify finds."""
    place = Place(str(root), Dtypes({"id": "u8", **dtypes}), now_s)
    with Verifier(place) as verifier:
        series, found = verifier.names()
        for each in series:
            found += verifier.series(each)
    return found


def problems(root: Path, **options: Any) -> list[tuple[str, str]]:
    """Problem and path of each, the path below the series."""
    prefix = os.path.join(*SERIES) + "/"
    return [(each.problem, each.path.removeprefix(prefix)) for each in findings(root, **options)]


def records(root: Path, days: int = 8) -> list[tuple[int, ...]]:
    """Every record of the store as (day of the file, time, price, id), in the files' order."""
    found: list[tuple[int, ...]] = []
    for day in range(DAY - 2, DAY + days):
        if not path_of(root, "time", day).exists():
            continue
        columns = [
            np.frombuffer(path_of(root, name, day).read_bytes(), dtype).tolist()
            for name, dtype in COLUMNS.items()
        ]
        found += [(day, *row) for row in zip(*columns, strict=True)]
    return found
