"""What was measured, as a Markdown page and as a small picture.

Owns statistics over rounds and how they are written. It measures nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

OURS = "zerocopy"
_TITLE = "zerocopy beside nginx and stock Hypercorn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One measurement of one server. `cpu_s` are its processor seconds, `units` what they moved."""

    units: float  # requests, or GB (1e9 bytes)
    seconds: float
    cpu_s: float
    others_share: float  # of both cores, taken by whoever is neither server nor client
    p50_us: float | None = None
    p99_us: float | None = None

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.units / self.seconds

    @property
    def cpu_s_per_unit(self) -> float:
        """Processor seconds of the server a unit: little moved by neighbours on its core."""
        return self.cpu_s / self.units


@dataclass(slots=True, kw_only=True)
class Section:
    """One question put to every server; `rounds` by server, interleaved as they were taken."""

    title: str
    unit: str  # "requests" or "GB"
    client: str
    skipped: str | None = None
    notes: list[str] = field(default_factory=list)
    rounds: dict[str, list[Round]] = field(default_factory=dict)

    @property
    def cpu_unit(self) -> str:
        """How `cpu` counts."""
        return "processor µs a request" if self.unit == "requests" else "processor s a GB"

    def cpu(self, seconds: float) -> str:
        """Processor seconds of one unit, written in `cpu_unit`."""
        return f"{seconds * 1e6:.2f}" if self.unit == "requests" else f"{seconds:.3f}"

    @property
    def peers(self) -> list[str]:
        """Whom ours is compared with, in the order of measurement."""
        return [server for server in self.rounds if server != OURS] if OURS in self.rounds else []

    def share_of_core(self, server: str) -> float:
        """Of a core, what a server used; median."""
        return median(round_.cpu_s / round_.seconds for round_ in self.rounds[server])

    def ratio_of_medians(self, peer: str) -> float:
        """How many times that peer's median rate is ours."""
        return _median_rate(self.rounds[OURS]) / _median_rate(self.rounds[peer])

    def ratio_by_cpu(self, peer: str) -> float:
        """How many times the peer's work ours does in a processor second of the server; medians."""
        ours, theirs = (
            median(round_.cpu_s_per_unit for round_ in self.rounds[server])
            for server in (OURS, peer)
        )
        return theirs / ours

    def ratios(self, peer: str) -> list[float]:
        """How many times the peer's rate was ours, round by round."""
        pairs = zip(self.rounds[OURS], self.rounds[peer], strict=True)
        return [ours.rate / theirs.rate for ours, theirs in pairs]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where, when and what: lines for the foot of a report."""

    date: str
    commit: str
    lines: Sequence[str]


def markdown(machine: Machine, sections: Sequence[Section]) -> str:
    """The whole report."""
    parts = [f"# {_TITLE}", ""]
    for section in sections:
        parts += _section_lines(section)
    parts += ["## Where and when", "", *(f"- {line}" for line in machine.lines), ""]
    return "\n".join(parts)


def _section_lines(section: Section) -> list[str]:
    lines = [f"## {section.title}", "", f"Client: {section.client}.", ""]
    if section.rounds:
        lines += [
            (
                f"| server | {section.unit} a second, median (range) | {section.cpu_unit} "
                "| share of its core | taken by others | p50 µs | p99 µs |"
            ),
            "|---|---|---|---|---|---|---|",
        ]
        lines += [_row(section, server, rounds) for server, rounds in section.rounds.items()]
        lines.append("")
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
    if section.skipped is not None:
        lines += [f"Skipped: {section.skipped}.", ""]
    if section.notes:
        lines += [*(f"- {note}" for note in section.notes), ""]
    return lines


def _row(section: Section, server: str, rounds: Sequence[Round]) -> str:
    rates = [round_.rate for round_ in rounds]
    rate = "{:,.0f}" if section.unit == "requests" else "{:.2f}"
    spread = f"{rate} ({rate} to {rate})".format(median(rates), min(rates), max(rates))
    cpu = section.cpu(median(round_.cpu_s_per_unit for round_ in rounds))
    share = section.share_of_core(server)
    others = max(round_.others_share for round_ in rounds)
    p50 = _latency([round_.p50_us for round_ in rounds])
    p99 = _latency([round_.p99_us for round_ in rounds])
    return f"| {server} | {spread} | {cpu} | {share:.0%} | {others:.0%} | {p50} | {p99} |"


def _latency(values_us: Sequence[float | None]) -> str:
    known_us = [value for value in values_us if value is not None]
    return f"{median(known_us):,.0f}" if known_us else "-"


def _median_rate(rounds: Sequence[Round]) -> float:
    return median(round_.rate for round_ in rounds)


# ---- the picture

_WIDTH = 800
_LABEL_X = 124
_BAR_X = 132
_BAR_WIDTH_MAX = 240
_BAR_HEIGHT = 22
_BAR_STEP = 28
_TITLE_HEIGHT = 34
_GROUP_GAP = 18
_TOP = 12
_FOOT_HEIGHT = 30

# Both colours and the fallback grey of the text have a contrast above 4 on white and on GitHub's
# dark page; the style sheet sharpens the text where the reader's preference is known.
_STYLE = """\
text { font: 14px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #6e7781; }
.title { font-weight: 600; }
.foot { font-size: 12px; }
rect.ours { fill: #2f81f7; }
rect.peer { fill: #7d8590; }
.ratio { font-weight: 700; }
@media (prefers-color-scheme: light) { text { fill: #1f2328; } }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3; } }"""  # noqa: E501 - one rule a line


def svg(machine: Machine, sections: Sequence[Section]) -> str:
    """Horizontal bars, one group a section, every figure also as text for those who cannot see."""
    shown = [section for section in sections if section.rounds]
    body: list[str] = []
    spoken: list[str] = []
    top = _TOP
    for section in shown:
        height, lines, words = _group(section, top)
        body += lines
        spoken.append(words)
        top += height + _GROUP_GAP
    total = top - _GROUP_GAP + _FOOT_HEIGHT
    foot = f"{machine.date}, commit {machine.commit}, one core for the server; longer is better"
    body.append(f'<text class="foot" x="8" y="{total - 10}">{escape(foot)}</text>')
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{total}" '
                f'viewBox="0 0 {_WIDTH} {total}" role="img" aria-labelledby="title desc">'
            ),
            f'<title id="title">{_TITLE}</title>',
            f'<desc id="desc">{escape(" ".join(spoken))} {escape(foot)}.</desc>',
            f"<style>\n{_STYLE}\n</style>",
            *body,
            "</svg>",
            "",
        ]
    )


def _group(section: Section, top: int) -> tuple[int, list[str], str]:
    """The height, the elements and the words of one section's bars."""
    rates = {server: _median_rate(rounds) for server, rounds in section.rounds.items()}
    most = max(rates.values())
    lines = [f'<text class="title" x="8" y="{top + 16}">{escape(section.title)}</text>']
    words = [f"{section.title}:"]
    for index, (server, rate) in enumerate(rates.items()):
        y = top + _TITLE_HEIGHT - 6 + index * _BAR_STEP
        figure = f"{rate:,.0f} requests/s" if section.unit == "requests" else f"{rate:.2f} GB/s"
        width = max(1, round(_BAR_WIDTH_MAX * rate / most))
        ratios = {peer: section.ratio_of_medians(peer) for peer in section.peers}
        told = ratios if server == OURS else {}
        times = ", ".join(f"{ratio:.2f}&#215; {escape(peer)}" for peer, ratio in told.items())
        tail = f'<tspan class="ratio" dx="8">{times}</tspan>' if times else ""
        kind = "ours" if server == OURS else "peer"
        lines += [
            f'<text x="{_LABEL_X}" y="{y + 16}" text-anchor="end">{escape(server)}</text>',
            (
                f'<rect class="{kind}" x="{_BAR_X}" y="{y}" width="{width}" '
                f'height="{_BAR_HEIGHT}" rx="3"/>'
            ),
            f'<text x="{_BAR_X + width + 8}" y="{y + 16}">{figure}{tail}</text>',
        ]
        spoken = "".join(f", {ratio:.2f} times {peer}" for peer, ratio in told.items())
        words.append(f"{server} {figure}{spoken};")
    height = _TITLE_HEIGHT - 6 + len(rates) * _BAR_STEP
    return height, lines, " ".join(words).rstrip(";") + "."
