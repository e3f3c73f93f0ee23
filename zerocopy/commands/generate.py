"""`zerocopy generate`: sample data of any size, with a progress bar.

Owns the words for what to generate. `development/sample_data.py` makes the data.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated

import typer

from zerocopy.commands.shared import counting, terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from zerocopy.commands.development.sample_data import GenerateSpec


def generate(
    root: Annotated[str, typer.Argument(metavar="DIR", help="Where the data goes.")],
    exchanges: Annotated[
        str, typer.Option(metavar="N|NAMES", help="How many, or names with commas between.")
    ] = "1",
    symbols: Annotated[
        str, typer.Option(metavar="N|NAMES", help="On each exchange: how many, or names.")
    ] = "2",
    odd_symbols: Annotated[
        bool, typer.Option("--odd-symbols", help="Add legal names that need percent-encoding.")
    ] = False,
    types: Annotated[str, typer.Option(metavar="NAMES", help="Types to make.")] = "MD,TRADES",
    days: Annotated[int, typer.Option(metavar="N", help="Days of each symbol.")] = 3,
    first_day: Annotated[
        str | None,
        typer.Option(metavar="YYYY-MM-DD", help="The first day; else so that the last is today."),
    ] = None,
    records: Annotated[
        int, typer.Option(metavar="N", help="Records of each exchange, symbol, type and day.")
    ] = 100_000,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed, the same bytes.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace day files that exist.")
    ] = False,
) -> None:
    """Make seeded sample data of any size, with a progress bar."""
    from zerocopy.commands.development.sample_data import GenerateSpec

    today = dt.datetime.now(dt.UTC).date()
    try:
        first = dt.date.fromisoformat(first_day) if first_day else today - dt.timedelta(days - 1)
    except (ValueError, OverflowError):
        raise typer.BadParameter("--first-day, --days: must be a date and a count") from None
    spec = GenerateSpec(
        root=root,
        first_day=first,
        exchanges=_count_or_names(exchanges),
        symbols=_count_or_names(symbols),
        odd_symbols=odd_symbols,
        days=days,
        records_per_day=records,
        seed=seed,
        types=tuple(types.split(",")),
        overwrite=overwrite,
    )
    generate_with_progress([spec], terminal())


def _count_or_names(text: str) -> int | tuple[str, ...]:
    return int(text) if text.isascii() and text.isdigit() else tuple(text.split(","))


def generate_with_progress(specs: Sequence[GenerateSpec], console: Console) -> None:
    """Generate all of `specs` under one progress bar, then say what came of it."""
    from zerocopy.commands.development import sample_data

    totals = [spec.total for spec in specs]
    records = sum(total.records for total in totals)
    with counting("records", console) as progress:
        task = progress.add_task("generating", total=records)
        for spec in specs:
            sample_data.generate(spec, lambda more: progress.advance(task, more))
    console.print(
        f"{records:,} records in {sum(total.files for total in totals):,} files, "
        f"{sum(total.nbytes for total in totals):,} bytes, below {specs[0].root}"
    )
