"""`zerocopy query`: a query without a server.

Owns what is printed and written: the plan as a table, or the body of the response in a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

import typer

from zerocopy.commands.shared import (
    ConfigOption,
    DataOption,
    print_table,
    read_config,
    terminal,
)
from zerocopy.core.errors import ZerocopyError

if TYPE_CHECKING:
    from rich.console import Console

    from zerocopy.config.load import Config
    from zerocopy.core.query import Query
    from zerocopy.storage.dayfile import OpenFiles
    from zerocopy.storage.planner import Planned

COPY_BYTES = 1_048_576
"""Bytes that `_write_body` reads and writes at a time."""


def query(
    symbol: Annotated[str, typer.Argument(help="As on disk, BTC-USD.")],
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="As on disk, MD or TRADES.")],
    start: Annotated[str, typer.Argument(help="First unix second, inclusive.")],
    end: Annotated[str, typer.Argument(help="Last unix second, inclusive.")],
    columns: Annotated[str, typer.Argument(help="Comma separated, time,price.")],
    exchange: Annotated[
        str, typer.Option("--exchange", "-e", metavar="NAME", help="As on disk.")
    ] = "coinbase",
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write the body of /api/data here; - is stdout."
        ),
    ] = None,
    config: ConfigOption = None,
    data_path: DataOption = None,
) -> None:
    """Plan a query without a server: print the plan, or write the response's body."""
    from zerocopy.core.query import parse_query

    loaded = read_config(config, {"data.path": data_path})
    parameters = {"symbol": symbol, "type": type_, "start": start, "end": end}
    parameters |= {"columns": columns, "exchange": exchange}
    asked = parse_query(
        urlencode(parameters, errors="surrogateescape").encode("ascii"),
        columns_max=loaded.limits.columns_max,
    )
    planned, files = _plan_query(loaded, asked)
    for day_file, fd in planned.held:
        files.adopt(day_file, fd)
    if output is None:
        _print_plan(asked, planned, terminal())
    else:
        _write_body(planned, files, output)
    files.close()


def _plan_query(config: Config, asked: Query) -> tuple[Planned, OpenFiles]:
    """The plan of a query, and the files it reads from, for the caller to close."""
    from zerocopy.core.layout import Dtypes
    from zerocopy.core.settling import Settling
    from zerocopy.formats import columns
    from zerocopy.storage.dayfile import OpenFiles
    from zerocopy.storage.planner import Planner

    if config.store_url is not None:
        from zerocopy.supervise.compose_store import build_stored

        stored = build_stored(config)
        return stored.planner.plan(asked, columns.represent), stored.files
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
    return planner.plan(asked, columns.represent), files


def _print_plan(asked: Query, planned: Planned, console: Console) -> None:
    """The columns of a plan, the header line of its response and its size."""
    found = planned.representation
    per_column = len(found.segments) // len(asked.columns)
    rows = []
    for position, column in enumerate(asked.columns):
        segments = found.segments[position * per_column : (position + 1) * per_column]
        rows.append((column, f"{per_column:,}", f"{sum(s.count for s in segments):,}"))
    print_table(console, ("column", "segments", "bytes"), rows)
    console.print(f"header {found.content.decode().rstrip()}", highlight=False)
    console.print(f"body   {found.nbytes:,} bytes, {len(planned.skipped)} days skipped")


def _write_body(planned: Planned, files: OpenFiles, output: str) -> None:
    """The body of /api/data into a file; `-` is standard output.

    Raises:
        ZerocopyError: the file cannot be written, or a day file cannot be read.
    """
    from zerocopy.storage.store.fetching import StoredFile

    try:
        with open(1 if output == "-" else output, "wb", closefd=output != "-") as file:
            file.write(planned.representation.content)
            for segment in planned.representation.segments:
                if isinstance(segment.source, StoredFile):  # it may have to be fetched
                    files.keep(segment.source, files.fetch(segment.source))
                for position in range(0, segment.count, COPY_BYTES):
                    count = min(COPY_BYTES, segment.count - position)
                    file.write(segment.source.read(segment.offset + position, count))
    except OSError as error:
        name = "standard output" if output == "-" else output
        raise ZerocopyError(f"{name}: {error.strerror}") from error
