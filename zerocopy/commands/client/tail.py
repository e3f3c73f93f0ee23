"""`zerocopy tail`: records as they are appended, a line each.

Owns the command, its options and its end; `lines.py` has the forms of a line.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from zerocopy.commands.client.options import (
    CaOption,
    ColumnsOption,
    ExchangeOption,
    KeyOption,
    SymbolArgument,
    ToOption,
    TypeOption,
    UrlOption,
    line_form,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from zerocopy.client.frame import Frame
    from zerocopy.client.live import Live


def tail(
    symbol: SymbolArgument,
    columns: ColumnsOption = None,
    type_: TypeOption = None,
    exchange: ExchangeOption = "coinbase",
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="The first moment, as for `get`; else now."),
    ] = None,
    end: ToOption = None,
    cursor: Annotated[
        str | None,
        typer.Option(metavar="CURSOR", help="Go on where a stream had come: 20250131.81234."),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format", "-f", metavar="NAME", help="text csv json; else text on a terminal, or csv."
        ),
    ] = None,
    url: UrlOption = None,
    key: KeyOption = None,
    ca: CaOption = None,
) -> None:
    """Print records as they are appended, until Ctrl-C, the record at --to, or nobody reads.

    A connection that breaks is opened again where it broke: no record is lost,
    none comes twice. If a day is replaced, standard error says so, and the day
    comes again.

    Example: zerocopy tail BTC-USD --type MD --columns time,price
    """
    from zerocopy.client.live import Live
    from zerocopy.client.requests import live_target
    from zerocopy.commands.client.asking import asking, moment
    from zerocopy.commands.client.lines import FORMS, Ending
    from zerocopy.commands.client.output import ending_unread, standard_output

    form = line_form(form)
    if cursor is not None and start is not None:
        raise typer.BadParameter("--cursor, --from: give one of them")
    with (
        contextlib.suppress(KeyboardInterrupt),
        asking(url, key, ca) as server,
        standard_output() as file,
    ):
        ending = Ending(moment(end))
        of = ending.with_time(server.series(symbol, type_, columns, exchange))
        target = live_target(of, moment(start))
        with Live(server.options, target, cursor) as stream, ending_unread(stream.close):
            _follow(stream, ending.cut, FORMS[form](file))


def _follow(
    stream: Live, cut: Callable[[Frame], tuple[Frame, bool]], write: Callable[[Frame], None]
) -> None:
    """Write frames until the end of the stream, or of what was asked for."""
    from zerocopy.client.errors import Reset
    from zerocopy.streams import tell

    while True:
        try:
            for frame in stream:
                wanted, is_last = cut(frame)
                write(wanted)
                if is_last:
                    return
        except Reset as reset:
            tell(f"zerocopy: {reset.reason}: the day comes again, from {reset.cursor}")
        else:
            return
