"""Day files for tests: written by hand, in bytes, with none of the package's own rules."""

from __future__ import annotations

import os
import struct
import time
from array import array
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from zerocopy.core.layout import Dtypes
from zerocopy.core.query import Query
from zerocopy.core.settling import Settling
from zerocopy.formats.columns import represent
from zerocopy.storage.dayfile import OpenFiles
from zerocopy.storage.planner import Planned, Planner
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from zerocopy.core.plan import Represent

SERIES = Series("coinbase", "X", "MD")
U32_MAX = 4_294_967_295
DAY_S = 86_400
DAY = date(2025, 1, 31)
DAY_START_S = 1_738_281_600
OPEN_DAY = date(2068, 7, 5)
"""A day that is open whenever a test runs. Today is over once midnight comes during one."""
OPEN_START_S = 3_108_672_000
DTYPES = {"id": "u8", "order": "S16"}
SIZES = {"id": 8, "order": 16}

GENEROUS = 1 << 30
YOUNG_S = 0.15
"""Longer than a change time may be too young to prove anything."""


def u32(*values: int) -> bytes:
    """Little-endian u32 records."""
    return struct.pack(f"<{len(values)}I", *values)


def marks(count: int, size: int = 4, base: int = 0) -> bytes:
    """Records that are all different: `base`, `base` + 1, and so on, little-endian."""
    if size == 4:
        return array("I", range(base, base + count)).tobytes()
    return b"".join((base + index).to_bytes(size, "little") for index in range(count))


def start_of(day: date) -> int:
    """The unix second at which a day begins."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def file_name(column: str, day: date) -> str:
    """`time.31.01.25.bin`."""
    return f"{column}.{day:%d.%m.%y}.bin"


def folder(root: str, series: Series = SERIES) -> str:
    """The directory of a series."""
    return os.path.join(root, *series)


def path_of(root: str, column: str, day: date = DAY, series: Series = SERIES) -> str:
    """Where a column of a day lies."""
    return os.path.join(folder(root, series), file_name(column, day))


def put(
    root: str, columns: Mapping[str, bytes], day: date = DAY, series: Series = SERIES
) -> dict[str, str]:
    """Write the files of one day; their paths by column."""
    os.makedirs(folder(root, series), exist_ok=True)
    paths = {column: path_of(root, column, day, series) for column in columns}
    for column, content in columns.items():
        with open(paths[column], "wb") as file:
            file.write(content)
    return paths


def append(path: str, content: bytes) -> None:
    """Append and flush, as a recorder does."""
    with open(path, "ab", buffering=0) as file:
        file.write(content)


def replace(path: str, content: bytes, mtime_ns: int | None = None) -> None:
    """Write beside `path` and rename over it."""
    with open(path + ".new", "wb") as file:
        file.write(content)
    if mtime_ns is not None:
        os.utime(path + ".new", ns=(mtime_ns, mtime_ns))
    os.rename(path + ".new", path)


def age(*paths: str) -> None:
    """Wait until the change times of `paths` are old enough to prove that nothing changed."""
    newest_s = max(os.stat(path, follow_symlinks=False).st_ctime for path in paths)
    while time.time() < newest_s + YOUNG_S:
        time.sleep(0.01)


def query(
    start_s: int = 0,
    end_s: int = U32_MAX,
    columns: Sequence[str] = ("time", "price"),
    series: Series = SERIES,
    last: int | None = None,
) -> Query:
    """A checked query, of everything unless told otherwise."""
    return Query(*series, start_s, end_s, tuple(columns), last=last)


class Bench:
    """A planner over real files, with the descriptors it hands over."""

    def __init__(self, root: str, *, small_bytes_max: int = GENEROUS, **limits: int) -> None:
        self.root = root
        self.files = OpenFiles(root, limits.get("open_files_max", 512))
        self.planner = Planner(
            root=root,
            files=self.files,
            dtypes=Dtypes(DTYPES),
            settling=Settling(600, 7),
            days_max=limits.get("days_max", 50_000),
            segments_max=limits.get("segments_max", 200_000),
            small_answer_bytes_max=small_bytes_max,
        )

    def plan(self, wanted: Query | None = None, shape: Represent = represent) -> Planned:
        """Plan, and adopt what is held, as the service does."""
        planned = self.planner.plan(wanted or query(), shape)
        for day_file, fd in planned.held:
            self.files.adopt(day_file, fd)
        return planned

    def body(self, wanted: Query | None = None) -> bytes:
        """The whole body of an answer."""
        return body_of(self.plan(wanted))


def body_of(planned: Planned) -> bytes:
    """What a client would get: the content, or the header and every segment through its source."""
    if planned.content is not None:
        return planned.content
    found = planned.representation
    segments = [part.source.read(part.offset, part.count) for part in found.segments]
    body = found.content + b"".join(segments)
    assert len(body) == found.nbytes
    return body


@contextmanager
def bench(root: str, *, small_bytes_max: int = GENEROUS, **limits: int) -> Iterator[Bench]:
    """A `Bench` that gives its descriptors back."""
    opened = Bench(root, small_bytes_max=small_bytes_max, **limits)
    try:
        yield opened
    finally:
        opened.files.close()
