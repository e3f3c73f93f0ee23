"""`zerocopy status`: a running server's state in a terminal, from its page of metrics.

Owns the command, its options and the forms of the report: a table, lines for a pipe, JSON. It knows
the server only by /metrics, so with --url it works from anywhere that may scrape it; without, the
configuration tells where the page is. Several --url are the nodes of a cluster: cluster.py.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zerocopy.commands.health import seen_from_here
from zerocopy.commands.shared import ServeConfigOption, read_config, terminal
from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from zerocopy.commands.status.cluster import Node
    from zerocopy.commands.status.figures import Figure
    from zerocopy.commands.status.scrape import Page

INTERVAL_S = 1.0
"""Between the two scrapes that rates come from."""

_NO_URL = "--url: must be like http://127.0.0.1:9091/metrics"
_NOTHING = "-"
_STEPS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_ALARMING = {
    "failed",
    "days_skipped",
    "days_unsound",
    "store_failures",
    "connections_refused",
    "log_lines_dropped",
    "reloads_refused",
}
"""Figures that should be nothing."""


def status(
    config: ServeConfigOption = None,
    url: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="The page of metrics; else of metrics.host and port. Several: nodes of a cluster.",
        ),
    ] = None,
    watch: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=0.1, max=3_600, help="Go on, a report each so many seconds."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One object a line, for machines.")
    ] = False,
) -> None:
    """Tell what a running server does: requests, latency, bytes, connections, files, memory.

    Rates and quantiles are of the second between two scrapes, or of --watch SECONDS, and beside
    them of all the time since the start. Ctrl-C ends --watch. Exit code 1 when no server of ours
    answers there, or one of several does not.

    Several --url: a row a node, with its share of all requests.
    """
    # Ctrl-C is how a watch ends; without one it is the command line's affair, as everywhere.
    with contextlib.suppress(*(() if watch is None else (KeyboardInterrupt,))):
        if url is not None and len(url) > 1:
            _watch_nodes(url, watch, is_json=as_json)
        else:
            _watch(url[0] if url else _page_of(config), watch, is_json=as_json)


def _watch(url: str, watch: float | None, *, is_json: bool) -> None:
    """One server, once or until Ctrl-C."""
    from zerocopy.commands.status.scrape import fetch

    console = terminal()
    try:
        before = fetch(url)
    except ValueError:
        raise typer.BadParameter(_NO_URL) from None
    while True:
        time.sleep(watch or INTERVAL_S)
        after = fetch(url)
        if watch is not None and console.is_terminal and not is_json:
            console.clear()
        write_report(url, before, after, console, is_json=is_json)
        if watch is None:
            return
        before = after


def _watch_nodes(urls: list[str], watch: float | None, *, is_json: bool) -> None:
    """Several nodes; one that does not answer is a row, and the others are told all the same."""
    from zerocopy.commands.status import cluster

    if len(urls) > cluster.NODES_MAX:
        raise typer.BadParameter(f"--url: at most {cluster.NODES_MAX} nodes")
    console = terminal()
    try:
        before, began_s = cluster.look(urls), time.monotonic()
    except ValueError:
        raise typer.BadParameter(_NO_URL) from None
    while True:
        time.sleep(watch or INTERVAL_S)
        after, ended_s = cluster.look(urls), time.monotonic()
        nodes = cluster.nodes_of(urls, before, after)
        if is_json:
            import orjson

            typer.echo(orjson.dumps(cluster.document_of(nodes, ended_s - began_s)))
        else:
            if watch is not None and console.is_terminal:
                console.clear()
            _write_nodes(nodes, cluster.remarks_of(nodes), console)
        if watch is None:
            if after.errors:
                raise typer.Exit(1)
            return
        before, began_s = after, ended_s


def _write_nodes(nodes: Sequence[Node], remarks: Sequence[str], console: Console) -> None:
    """A table where a person looks on, else lines with tabs; below it what is remarkable."""
    from zerocopy.commands.status.cluster import COLUMNS

    rows = [
        [printable(node.url), printable(node.error or "up")]
        + [quantity(node.figures.get(key), unit) for key, _, unit in COLUMNS]
        for node in nodes
    ]
    headings = ["node", "state", *(heading for _, heading, _ in COLUMNS)]
    if not console.is_terminal:
        typer.echo("\n".join("\t".join(row) for row in [headings, *rows]))
    else:
        from rich.table import Table
        from rich.text import Text

        table = Table(*headings, box=None, pad_edge=False)
        for column in table.columns[2:]:
            column.justify = "right"
        for node, row in zip(nodes, rows, strict=True):
            style = "bold red" if node.error or node.figures.get("failed") else ""
            table.add_row(*(Text(cell, style) for cell in row))
        console.print(table)
    for remark in remarks:
        typer.echo(remark)


def _page_of(config: str | None) -> str:
    """Where `serve` with this configuration has its metrics, seen from this machine."""
    metrics = read_config(config).metrics
    if not metrics.port:
        raise ConfigError("the port is any free one (0): name the page of metrics with --url")
    host = seen_from_here(metrics.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{metrics.port}/metrics"


def write_report(
    url: str, before: Page, after: Page, console: Console, *, is_json: bool = False
) -> None:
    """The report of two scrapes: JSON, a table where a person looks on, else a line a figure."""
    from zerocopy.commands.status.figures import figures_of

    figures = figures_of(before, after)
    if is_json:
        typer.echo(_json(url, before, after, figures))
        return
    head = _head(url, after)
    if console.is_terminal:
        console.print(head, markup=False, highlight=False)
        console.print(_table(figures))
        return
    lines = [head, *("\t".join((figure.label, *cells(figure))) for figure in figures)]
    typer.echo("\n".join(lines))


def cells(figure: Figure) -> tuple[str, str]:
    """A figure as a person reads it: now, and since the start."""
    now = quantity(figure.now, figure.unit)
    if figure.is_rate and figure.now is not None:
        now += "/s"
    return now, quantity(figure.since_start, figure.unit)


def quantity(value: float | None, unit: str) -> str:
    """A number with its unit, in three or four digits: 1.25 GB, 85 us, 99.8 %."""
    if value is None:
        return _NOTHING
    if unit == "share":
        return f"{_digits(100 * value)} %"
    if unit == "seconds":
        steps = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))
        size, name = next((step for step in steps if value >= step[0]), steps[-1])
        return f"{_digits(value / size)} {name}"
    suffix = "B" if unit == "bytes" else ""
    size, name = next((step for step in _STEPS if value >= step[0]), (1.0, ""))
    return f"{_digits(value / size)} {name}{suffix}".rstrip()


def _digits(number: float) -> str:
    """Three digits, more of a whole number only where it has more."""
    return f"{number:.0f}" if 99.95 <= number < 1e6 else f"{number:.3g}"  # noqa: PLR2004 - 3 digits


def lasting(seconds: float) -> str:
    """A span of time in its two largest units: 3 d 4 h, 5 min 12 s."""
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    whole = max(0, int(seconds))
    first = next((index for index, (_, size) in enumerate(units) if whole >= size), 3)
    parts = []
    for name, size in units[first : first + 2]:
        count, whole = divmod(whole, size)
        parts.append(f"{count} {name}")
    return " ".join(parts)


def _about(page: Page) -> dict[str, Any]:
    """What the server is, and how it has lived."""
    builds = page.samples.get("zerocopy_build_info", {})
    build = dict(next(iter(builds), frozenset()))
    started_s = page.total("process_start_time_seconds")
    return {
        "version": build.get("version"),
        "python": build.get("python"),
        "uptime_s": None if started_s is None else time.time() - started_s,
        "workers": page.total("zerocopy_workers"),
        "generation": page.total("zerocopy_generation"),
        "restarts": page.total("zerocopy_worker_restarts_total"),
        "worker_connections": page.values("zerocopy_worker_connections", "worker"),
    }


def _place(item: tuple[str, float]) -> int:
    return int(item[0]) if item[0].isdecimal() else 0


def _head(url: str, page: Page) -> str:
    about = _about(page)
    version, uptime_s = about["version"], about["uptime_s"]
    parts = [f"zerocopy {version}" if version else "zerocopy", f"at {url}"]
    if uptime_s is not None:
        parts.append(f"up {lasting(uptime_s)}")
    for key, name in (
        ("workers", "workers"),
        ("generation", "generation"),
        ("restarts", "restarts"),
    ):
        if about[key] is not None:
            parts.append(f"{name} {about[key]:.0f}")
    spread = sorted(about["worker_connections"].items(), key=_place)
    if len(spread) > 1:
        parts.append("connections by worker " + " ".join(f"{count:.0f}" for _, count in spread))
    return ", ".join(printable(part) for part in parts)


def printable(text: str) -> str:
    """Text from elsewhere without anything that could move a cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _table(figures: Sequence[Figure]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("", "now", "since the start", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for figure in figures:
        is_bad = figure.key in _ALARMING and bool(figure.now)
        style = "bold red" if is_bad else ""
        table.add_row(*(Text(text, style) for text in (figure.label, *cells(figure))))
    return table


def _json(url: str, before: Page, after: Page, figures: Sequence[Figure]) -> bytes:
    import orjson

    document = {
        "url": url,
        "interval_s": after.at_s - before.at_s,
        "server": _about(after),
        "figures": {
            figure.key: {"unit": figure.unit, "now": figure.now, "since_start": figure.since_start}
            for figure in figures
        },
    }
    return orjson.dumps(document)
