"""What was measured, as a Markdown page.

Owns how figures are written. It measures nothing.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from bench.section import OURS, Section, Table, spread, told

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.section import Machine, Round

TITLE = "zerocopy beside nginx, stock Hypercorn and uvicorn"

_KEY = (
    "Resident memory is that of all processes of a server and counts the day files they map; peak "
    "is the most of it within a round, own is anonymous memory alone. Percentiles are what the "
    "client saw with all its requests open at once."
)


def markdown(machine: Machine, sections: Sequence[Section | Table]) -> str:
    """The whole report: the ratios first, then every section, then the machine."""
    parts = [f"# {TITLE}", ""]
    rates = [section for section in sections if isinstance(section, Section)]
    compared = [section for section in rates if section.peers]
    if compared:
        parts += [*_summary(compared), ""]
    if any(section.rounds for section in rates):
        parts += [_KEY, ""]
    for section in sections:
        parts += [f"## {section.title}", "", f"Client: {section.client}.", ""]
        parts += _rates(section) if isinstance(section, Section) else _table(section)
        if section.skipped is not None:
            parts += [f"Skipped: {section.skipped}.", ""]
        if section.notes:
            parts += [*(f"- {note}" for note in section.notes), ""]
    parts += ["## Where and when", "", *(f"- {line}" for line in machine.lines), ""]
    return "\n".join(parts)


def _summary(sections: Sequence[Section]) -> list[str]:
    """One line a section: our rate, and how many times every peer's it is."""
    peers = list(dict.fromkeys(peer for section in sections for peer in section.peers))
    rows = []
    for section in sections:
        rate = section.rate(section.median_rate(OURS))
        ratios = (
            f"{section.ratio_of_medians(peer):.2f}" if peer in section.peers else "-"
            for peer in peers
        )
        rows.append((section.title, f"{rate} {_SHORT[section.unit]}", *ratios))
    return lines_of(("", OURS, *(f"times {peer}" for peer in peers)), rows)


_SHORT = {"requests": "/s", "GB": "GB/s"}


def lines_of(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _table(table: Table) -> list[str]:
    lines = [*lines_of(table.head, table.rows), ""] if table.rows else []
    for verdict in table.verdicts:
        lines += [verdict, ""]
    return lines


def _rates(section: Section) -> list[str]:
    lines: list[str] = []
    if section.rounds:
        head = (
            *("server", f"{section.unit} a second, median (range)", section.cpu_unit),
            *("share of its core", "p50 µs", "p99 µs", "p99.9 µs"),
            *("resident MB", "peak MB", "own MB"),
        )
        rows = (_row(section, server, rounds) for server, rounds in section.rounds.items())
        lines += [*lines_of(head, rows), ""]
    for peer in section.peers:
        ratios = section.ratios(peer)
        lines += [
            (
                f"{OURS} / {peer}: **{section.ratio_of_medians(peer):.2f}** (ratio of medians), "
                f"{median(ratios):.2f} (median over {len(ratios)} rounds; "
                f"range {min(ratios):.2f} to {max(ratios):.2f}). "
                f"By processor seconds of the server: {section.ratio_by_cpu(peer):.2f}."
            ),
            "",
        ]
    return lines


def _row(section: Section, server: str, rounds: Sequence[Round]) -> tuple[str, ...]:
    latencies = [round_.latencies for round_ in rounds]
    memories = [round_.memory for round_ in rounds]
    return (
        server,
        spread([round_.rate for round_ in rounds], 0 if section.unit == "requests" else 2),
        section.cpu(median(round_.cpu_s_per_unit for round_ in rounds)),
        f"{section.share_of_core(server):.0%}",
        _median(one.p50_us for one in latencies),
        _median(one.p99_us for one in latencies),
        _median(one.p999_us for one in latencies),
        _median(_megabytes(one.resident) for one in memories),
        _median(_megabytes(one.peak) for one in memories),
        _median(_megabytes(one.own) for one in memories),
    )


def _median(values: Iterable[float | None]) -> str:
    """The median of those that are known."""
    known = [value for value in values if value is not None]
    return told(median(known) if known else None)


def _megabytes(nbytes: int | None) -> float | None:
    return None if nbytes is None else nbytes / 1e6
