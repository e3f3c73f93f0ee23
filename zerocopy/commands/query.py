"""A query without a server: its plan as a table, or the body of its response in a file.

Owns what `zerocopy query` prints and writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from zerocopy.core.errors import ZerocopyError
from zerocopy.core.layout import Dtypes
from zerocopy.core.settling import Settling
from zerocopy.formats import columns
from zerocopy.storage.dayfile import OpenFiles
from zerocopy.storage.planner import Planner

if TYPE_CHECKING:
    from rich.console import Console

    from zerocopy.config.load import Config
    from zerocopy.core.query import Query
    from zerocopy.storage.planner import Planned

COPY_BYTES = 1_048_576
"""Bytes that `write_body` reads and writes at a time."""


def plan_query(config: Config, asked: Query) -> tuple[Planned, OpenFiles]:
    """The plan of a query, and the files it reads from, for the caller to close."""
    files = OpenFiles(config.data.path, config.memory.open_files_max)
    planner = Planner(
        root=config.data.path,
        files=files,
        dtypes=Dtypes(config.columns),
        settling=Settling(config.data.settle_s, config.data.gap_days),
        days_max=config.limits.days_max,
        segments_max=config.limits.segments_max,
        small_answer_bytes_max=0,
    )
    planned = planner.plan(asked, columns.represent)
    for day_file, fd in planned.held:
        files.adopt(day_file, fd)
    return planned, files


def print_plan(asked: Query, planned: Planned, console: Console) -> None:
    """The columns of a plan, the header line of its response and its size."""
    found = planned.representation
    table = Table("column", "segments", "bytes")
    per_column = len(found.segments) // len(asked.columns)
    for position, column in enumerate(asked.columns):
        segments = found.segments[position * per_column : (position + 1) * per_column]
        table.add_row(column, f"{per_column:,}", f"{sum(s.count for s in segments):,}")
    console.print(table)
    console.print(f"header {found.content.decode().rstrip()}", highlight=False)
    console.print(f"body   {found.nbytes:,} bytes, {len(planned.skipped)} days skipped")


def write_body(planned: Planned, output: str) -> None:
    """The body of /api/data into a file; `-` is standard output.

    Raises:
        ZerocopyError: the file cannot be written, or a day file cannot be read.
    """
    try:
        with open(1 if output == "-" else output, "wb", closefd=output != "-") as file:
            file.write(planned.representation.content)
            for segment in planned.representation.segments:
                for position in range(0, segment.count, COPY_BYTES):
                    count = min(COPY_BYTES, segment.count - position)
                    file.write(segment.source.read(segment.offset + position, count))
    except OSError as error:
        name = "standard output" if output == "-" else output
        raise ZerocopyError(f"{name}: {error.strerror}") from error
