"""`zerocopy import`: files of exchanges and vendors into day files.

Owns the flags and what they mean, the progress bar, the exit code. `ingest/` does the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zerocopy.commands.shared import ConfigOption, read_config, terminal
from zerocopy.core.errors import ConfigError
from zerocopy.streams import tell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from zerocopy.ingest.importing import Request
    from zerocopy.ingest.outcome import Outcome
    from zerocopy.ingest.sources import Source
    from zerocopy.ingest.times import TimeRule

_DELIMITERS = {"tab": "\t", "\\t": "\t"}


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
_Time = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN[:UNIT[:ZONE]]", help="The column of times; s ms us ns or iso; a zone."
    ),
]
_Map = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="NAME=COLUMN", help="Write only these; may be repeated."),
]
_Dtype = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=DTYPE", help="As [columns] has it; may be repeated."),
]
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
    time: _Time = None,
    map_: _Map = None,
    dtype: _Dtype = None,
    delimiter: _Delimiter = None,
    header: _Header = None,
    replace: _Replace = False,
    merge: _Merge = False,
    drop_duplicates: _Drop = False,
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
    declared = read_config(config).columns
    _check_dtypes(_pairs("--dtype", dtype), declared)
    wanted = Wanted(
        preset=_checked_preset(preset),
        exchange=_name("--exchange", exchange),
        symbol=_name("--symbol", symbol),
        type=_name("--type", type_),
        time=_time(time),
        columns=_checked_map(_pairs("--map", map_)),
        delimiter=_delimiter(delimiter),
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
    return _run(request, terminal())


def _run(request: Request, console: Console) -> int:
    from zerocopy.ingest.report import faults_of, lines_of

    outcome = _with_progress(request, console)
    for line in lines_of(outcome, request.declared, is_dry=request.is_dry):
        console.print(line, markup=False, highlight=False)
    console.file.flush()
    for line in faults_of(outcome):
        tell(f"zerocopy: {line}")
    return 0 if outcome.is_whole else 1


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
        raise ConfigError("import needs polars: pip install 'zerocopy[import]'")


# ---- what was typed


def _pairs(flag: str, texts: Sequence[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise typer.BadParameter(f"{flag} {text}: expected NAME=VALUE")
        _name(flag, name)
        if name in found:
            raise typer.BadParameter(f"{flag} {name}: is given twice")
        found[name] = value
    return found


def _name(flag: str, text: str | None) -> str | None:
    from zerocopy.core.layout import is_name

    if text is not None and not is_name(text):
        raise typer.BadParameter(f"{flag} {text}: expected 1 to 64 letters, digits or ._:+@^=&#~-")
    return text


def _checked_map(columns: Mapping[str, str]) -> Mapping[str, str]:
    if "time" in columns:
        raise typer.BadParameter("--map time: --time says which column is the time")
    return columns


def _checked_preset(preset: str | None) -> str | None:
    from zerocopy.ingest.presets import PRESETS

    if preset is not None and preset not in PRESETS:
        raise typer.BadParameter(f"--preset {preset}: expected one of {', '.join(PRESETS)}")
    return preset


def _time(text: str | None) -> TimeRule | None:
    """COLUMN[:UNIT[:ZONE]]; an empty unit is one that is to be found."""
    from zerocopy.ingest.times import UNITS, TimeRule

    if text is None:
        return None
    column, *rest = text.split(":", 1)
    unit, _, zone = rest[0].partition(":") if rest else ("", "", "")
    if unit not in {"", "iso", *UNITS}:
        raise typer.BadParameter(f"--time {text}: expected s, ms, us, ns or iso, not {unit}")
    return TimeRule(column, unit or None, zone or None)


def _delimiter(text: str | None) -> str | None:
    text = _DELIMITERS.get(text, text) if text else text
    if text is not None and (len(text) != 1 or text in '"\r\n' or not text.isascii()):
        raise typer.BadParameter(f"--delimiter {text}: expected one character, or tab")
    return text


def _check_dtypes(asked: Mapping[str, str], declared: Mapping[str, str]) -> None:
    """What is asked for must be what the server will read.

    Raises:
        ConfigError: it is not; the line to add is named.
    """
    from zerocopy.core.layout import Dtypes, parse_dtype

    known = Dtypes(declared)
    for name, text in asked.items():
        if parse_dtype(name, text) != known.of(name):
            raise ConfigError(
                f"--dtype {name}={text}: the server would read {name} as "
                f'{known.of(name).name[1:]}; add to [columns] of config.toml: {name} = "{text}"'
            )
