"""Flags that `import` and `record` have in common, and what may be typed for them.

Owns each of these flags once. It must never know a command.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from zerocopy.core.errors import ConfigError
from zerocopy.streams import tell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from zerocopy.config.load import Config
    from zerocopy.ingest.recording.announcing import Announcer
    from zerocopy.ingest.times import TimeRule

TimeOption = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN[:UNIT[:ZONE]]", help="The column of times; s ms us ns or iso; a zone."
    ),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="NAME=COLUMN", help="Write only these; may be repeated."),
]
DtypeOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=DTYPE", help="As `columns` in config.toml says; may be repeated."),
]
AnnounceOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Tell servers by this Redis; else by [live] announce."),
]

_DELIMITERS = {"tab": "\t", "\\t": "\t"}


def pairs(flag: str, texts: Sequence[str] | None) -> dict[str, str]:
    """NAME=VALUE, each name once."""
    found: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise typer.BadParameter(f"{flag} {text}: expected NAME=VALUE")
        checked_name(flag, name)
        if name in found:
            raise typer.BadParameter(f"{flag} {name}: is given twice")
        found[name] = value
    return found


def checked_name(flag: str, text: str | None) -> str | None:
    """A name of the layout."""
    from zerocopy.core.layout import is_name

    if text is not None and not is_name(text):
        raise typer.BadParameter(f"{flag} {text}: expected 1 to 64 letters, digits or ._:+@^=&#~-")
    return text


def checked_map(columns: Mapping[str, str]) -> Mapping[str, str]:
    """Columns without the time, which has a flag of its own."""
    if "time" in columns:
        raise typer.BadParameter("--map time: --time says which column is the time")
    return columns


def checked_time(text: str | None) -> TimeRule | None:
    """COLUMN[:UNIT[:ZONE]]; an empty unit is one that is to be found."""
    from zerocopy.ingest.times import UNITS, TimeRule

    if text is None:
        return None
    column, *rest = text.split(":", 1)
    unit, _, zone = rest[0].partition(":") if rest else ("", "", "")
    if unit not in {"", "iso", *UNITS}:
        raise typer.BadParameter(f"--time {text}: expected s, ms, us, ns or iso, not {unit}")
    return TimeRule(column, unit or None, zone or None)


def checked_delimiter(text: str | None) -> str | None:
    """One character; a tabulator by its name."""
    text = _DELIMITERS.get(text, text) if text else text
    if text is not None and (len(text) != 1 or text in '"\r\n' or not text.isascii()):
        raise typer.BadParameter(f"--delimiter {text}: expected one character, or tab")
    return text


def checked_dtypes(asked: Mapping[str, str], declared: Mapping[str, str]) -> None:
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


def announcing(url: str | None, config: Config) -> AbstractContextManager[Announcer | None]:
    """What tells servers of what is appended, from enter to exit.

    Raises:
        ConfigError: the URL is none, or the package redis is not installed.
    """
    url = url or config.live.announce
    if url is None:
        return nullcontext()
    from zerocopy.ingest.recording.announcing import Announcer

    return Announcer(url, lambda sentence: tell(f"zerocopy: {sentence}"))
