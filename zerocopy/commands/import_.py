"""`zerocopy import`: files of exchanges and vendors into day files.

Owns the flags and what they mean, the progress bar, the exit code. `ingest/` does the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zerocopy.commands.ingest_flags import (
    AnnounceOption,
    DtypeOption,
    MapOption,
    TimeOption,
    announcing,
    checked_delimiter,
    checked_dtypes,
    checked_map,
    checked_name,
    checked_time,
    pairs,
)
from zerocopy.commands.shared import ConfigOption, read_config, terminal
from zerocopy.core.errors import ConfigError
from zerocopy.streams import tell

if TYPE_CHECKING:
    from rich.console import Console

    from zerocopy.ingest.importing import Request
    from zerocopy.ingest.outcome import Outcome
    from zerocopy.ingest.recording.announcing import Announcer
    from zerocopy.ingest.sources import Source
    from zerocopy.storage.store.objectstore import ObjectStore

_Files = Annotated[
    list[str], typer.Argument(metavar="FILE…", help="Names or globs; - is standard input.")
]
_Root = Annotated[
    str, typer.Option("--root", metavar="DIR", help="The data root that gets the day files.")
]
_Preset = Annotated[
    str | None, typer.Option(metavar="NAME", help="What the files are: see docs/import.md.")
]
_Exchange = Annotated[
    str | None, typer.Option(metavar="NAME", help="Else of a column, or of the preset.")
]
_Symbol = Annotated[
    str | None, typer.Option(metavar="NAME", help="Else of a column, or of the file's name.")
]
_Type = Annotated[str | None, typer.Option("--type", metavar="NAME", help="Else of the preset.")]
_Delimiter = Annotated[
    str | None, typer.Option(metavar="C", help="Between fields; tab for a tabulator.")
]
_Header = Annotated[
    bool | None, typer.Option("--header/--no-header", help="Whether CSV begins with one.")
]
_Replace = Annotated[bool, typer.Option("--replace", help="Replace days that exist.")]
_Merge = Annotated[bool, typer.Option("--merge", help="Merge into days that exist.")]
_Drop = Annotated[
    bool, typer.Option("--drop-duplicates", help="Leave out rows that repeat one exactly.")
]
_To = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="Put the days into an object store as well: s3://bucket/prefix."
    ),
]
_DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be written; write nothing.")
]


def import_(
    files: _Files,
    root: _Root,
    preset: _Preset = None,
    exchange: _Exchange = None,
    symbol: _Symbol = None,
    type_: _Type = None,
    time: TimeOption = None,
    map_: MapOption = None,
    dtype: DtypeOption = None,
    delimiter: _Delimiter = None,
    header: _Header = None,
    replace: _Replace = False,
    merge: _Merge = False,
    drop_duplicates: _Drop = False,
    to: _To = None,
    announce: AnnounceOption = None,
    dry_run: _DryRun = False,
    config: ConfigOption = None,
) -> int:
    """Turn CSV, Parquet, Arrow, NDJSON or DBN files into day files.

    What is inferred is said; what can be read in two ways is refused. A run that was interrupted
    goes on when the same command is given again. Exit code 1 when files or days were left out.
    """
    from zerocopy.ingest.importing import Request
    from zerocopy.ingest.recipe import Wanted
    from zerocopy.ingest.sources import list_sources

    _need_polars()
    if replace and merge:
        raise typer.BadParameter("--replace and --merge exclude each other")
    loaded = read_config(config)
    declared, store = loaded.columns, None
    if to is not None:
        from zerocopy.supervise.compose_store import open_store

        store = open_store(loaded, url=to)
    checked_dtypes(pairs("--dtype", dtype), declared)
    wanted = Wanted(
        preset=_checked_preset(preset),
        exchange=checked_name("--exchange", exchange),
        symbol=checked_name("--symbol", symbol),
        type=checked_name("--type", type_),
        time=checked_time(time),
        columns=checked_map(pairs("--map", map_)),
        delimiter=checked_delimiter(delimiter),
        has_header=header,
    )
    request = Request(
        root=root,
        sources=list_sources(files),
        wanted=wanted,
        declared=declared,
        mode="replace" if replace else "merge" if merge else "new",
        drop_duplicates=drop_duplicates,
        is_dry=dry_run,
    )
    with announcing(announce, loaded) as announcer:
        return _run(request, terminal(), store, announcer)


def _run(
    request: Request, console: Console, store: ObjectStore | None, announcer: Announcer | None
) -> int:
    from zerocopy.ingest.report import faults_of, lines_of

    outcome = _with_progress(request, console)
    for line in lines_of(outcome, request.declared, is_dry=request.is_dry):
        console.print(line, markup=False, highlight=False)
    if announcer is not None and not request.is_dry:
        for names, entry in outcome.series.items():
            if entry.days:
                announcer.appended(names, max(entry.days), entry.columns)
    if store is not None and not request.is_dry:
        _push(request, outcome, store, console, announcer)
    console.file.flush()
    for line in faults_of(outcome):
        tell(f"zerocopy: {line}")
    return 0 if outcome.is_whole else 1


def _push(
    request: Request,
    outcome: Outcome,
    store: ObjectStore,
    console: Console,
    announcer: Announcer | None,
) -> None:
    """Put the days of the run into the store, each whole, but for those that were left out.

    Raises:
        ZerocopyError: a file cannot be read, or the store is away.
    """
    from zerocopy.ingest.outcome import REFUSED
    from zerocopy.storage.store.pushing import push_days
    from zerocopy.storage.tree import Series

    for names, entry in outcome.series.items():
        days = [day for day, fate in sorted(entry.days.items()) if fate != REFUSED]
        more = () if announcer is None else (announcer.pushed,)
        files, nbytes, days_there = push_days(store, request.root, Series(*names), days, *more)
        console.print(
            f"{'/'.join(names)}: {files:,} files, {nbytes:,} bytes put into the store; "
            f"{days_there:,} of {len(days):,} days were there",
            markup=False,
            highlight=False,
        )


def _with_progress(request: Request, console: Console) -> Outcome:
    import os

    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from zerocopy.ingest.importing import run
    from zerocopy.storage.libc.malloc import keep_freed_memory

    keep_freed_memory()
    sizes = {each.path: os.path.getsize(each.path) for each in request.sources if each.path}
    read: dict[Source, int] = {}
    shown = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*shown, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("reading", total=sum(sizes.values()) or None)

        def on_read(source: Source, position: int) -> None:
            read[source] = position
            progress.update(bar, completed=sum(read.values()))

        def on_days(done: int, total: int) -> None:
            progress.update(bar, description=f"writing day {done:,} of {total:,}")

        return run(request, on_read, on_days)


def _need_polars() -> None:
    from importlib.util import find_spec

    if find_spec("polars") is None:
        raise ConfigError("import needs polars: pip install polars")


# ---- what was typed


def _checked_preset(preset: str | None) -> str | None:
    from zerocopy.ingest.presets import PRESETS

    if preset is not None and preset not in PRESETS:
        raise typer.BadParameter(f"--preset {preset}: expected one of {', '.join(PRESETS)}")
    return preset
