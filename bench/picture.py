"""What was measured, as a picture: how many times the rate of each peer is ours.

Owns the drawing. Bars begin at 1 on a logarithmic scale, to the right where zerocopy is faster, so
that twice as fast and half as fast are as long. Every bar says in words whom it is about: colour
only helps. All of it is also text, for those who cannot see.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from bench.report import TITLE
from bench.section import OURS, Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.section import Machine, Table

_WIDTH = 800
_LABEL_X = 262
_SCALE_X, _SCALE_WIDTH = 276, 384
"""The rest of the width is for the words behind the longest bar."""

_BAR_HEIGHT, _BAR_STEP = 13, 16
_TITLE_HEIGHT = 30
_ROW_GAP = 9
_TOP = 54
_FOOT_HEIGHT = 46
_TICKS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)

# The fills have a contrast above 3 on white and on GitHub's dark page, and so has the fallback grey
# of the text; the style sheet sharpens it where the reader's preference is known.
_STYLE = """\
text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #6e7781; }
.title { font-weight: 600; font-size: 15px; }
.foot { font-size: 11px; }
.figure { font-size: 11px; }
rect.peer0 { fill: #2f81f7; }
rect.peer1 { fill: #bf6a02; }
rect.peer2 { fill: #8a63d2; }
line { stroke: #7d8590; stroke-opacity: 0.35; }
line.one { stroke-opacity: 1; stroke-width: 1.5; }
@media (prefers-color-scheme: light) { text { fill: #1f2328; } }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3; } }"""  # noqa: E501 - one rule a line


def svg(machine: Machine, sections: Sequence[Section | Table]) -> str:
    """The picture; without a peer it says so and shows the rates alone."""
    shown = [section for section in sections if isinstance(section, Section) and section.rounds]
    peers = list(dict.fromkeys(peer for section in shown for peer in section.peers))
    scale = _Scale([ratio for section in shown for ratio in _ratios(section).values()])
    body: list[str] = []
    top = _TOP
    path = ""
    for section in shown:
        if section.path != path:
            path = section.path
            body.append(f'<text class="title" x="8" y="{top + 16}">{escape(path)}</text>')
            top += _TITLE_HEIGHT
        height, lines = _row(section, peers, scale, top)
        body += lines
        top += height + _ROW_GAP
    grid = scale.grid(_TOP - 14, top) if peers else []
    foot = (
        f"{machine.date}, {machine.model}, commit {machine.commit}; one core for the server, one "
        "for the client"
    )
    total = top + _FOOT_HEIGHT
    caption = (
        f"Rate of {OURS} divided by that of {_listed(peers)}; right of 1 is faster"
        if peers
        else f"Rate of {OURS}; no peer was installed"
    )
    body.append(f'<text class="foot" x="8" y="{total - 8}">{escape(foot)}</text>')
    spoken = " ".join(_words(section) for section in shown)
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{total}" '
                f'viewBox="0 0 {_WIDTH} {total}" role="img" aria-labelledby="title desc">'
            ),
            f'<title id="title">{TITLE}</title>',
            f'<desc id="desc">{escape(caption)}. {escape(spoken)} {escape(foot)}.</desc>',
            f"<style>\n{_STYLE}\n</style>",
            f'<text class="title" x="8" y="22">{escape(caption)}</text>',
            *grid,
            *body,
            "</svg>",
            "",
        ]
    )


class _Scale:
    """Where a ratio is, from the left to the right of the picture."""

    def __init__(self, ratios: Sequence[float]) -> None:
        low, high = min([*ratios, 1.0]), max([*ratios, 2.0])
        self._ticks = [tick for tick in _TICKS if low * 0.7 <= tick <= high * 1.5]
        self._low = math.log(min(low * 0.9, self._ticks[0]))
        self._high = math.log(max(high, self._ticks[-1]))

    def x(self, ratio: float) -> float:
        """In pixels."""
        share = (math.log(ratio) - self._low) / (self._high - self._low)
        return _SCALE_X + share * _SCALE_WIDTH

    def grid(self, top: int, bottom: int) -> list[str]:
        """A line and a figure for each tick."""
        lines = []
        for tick in self._ticks:
            x = round(self.x(tick), 1)
            kind = ' class="one"' if tick == 1 else ""
            lines += [
                f'<line{kind} x1="{x}" y1="{top + 6}" x2="{x}" y2="{bottom}"/>',
                f'<text class="foot" x="{x}" y="{top}" text-anchor="middle">{tick:g}&#215;</text>',
            ]
        return lines


def _row(section: Section, peers: Sequence[str], scale: _Scale, top: int) -> tuple[int, list[str]]:
    """The height and the elements of one section's bars."""
    ratios = _ratios(section)
    height = max(1, len(ratios)) * _BAR_STEP + 14
    middle = top + height // 2 - 6
    answers, _, connections = section.label.partition(", ")
    unit = "/s" if section.unit == "requests" else " GB/s"
    figure = f"{section.rate(section.median_rate(OURS))}{unit}"
    detail = f"{connections}: {figure}" if connections else figure
    lines = [
        f'<text x="{_LABEL_X}" y="{middle}" text-anchor="end">{escape(answers)}</text>',
        (
            f'<text class="figure" x="{_LABEL_X}" y="{middle + 15}" text-anchor="end">'
            f"{escape(detail)}</text>"
        ),
    ]
    for index, (peer, ratio) in enumerate(ratios.items()):
        y = top + index * _BAR_STEP + 4
        one, x = scale.x(1), scale.x(ratio)
        left, width = min(one, x), max(1.0, abs(x - one))
        lines += [
            (
                f'<rect class="peer{peers.index(peer) % 3}" x="{left:.1f}" y="{y}" '
                f'width="{width:.1f}" height="{_BAR_HEIGHT}" rx="2"/>'
            ),
            (
                f'<text class="figure" x="{left + width + 6:.1f}" y="{y + 11}">'
                f"{ratio:.2f}&#215; {escape(peer)}</text>"
            ),
        ]
    return height, lines


def _ratios(section: Section) -> dict[str, float]:
    return {peer: section.ratio_of_medians(peer) for peer in section.peers}


def _words(section: Section) -> str:
    """What the bars of a section say."""
    figure = f"{section.rate(section.median_rate(OURS))} {section.unit}/s"
    times = "".join(f", {ratio:.2f} times {peer}" for peer, ratio in _ratios(section).items())
    return f"{section.title}: {OURS} {figure}{times}."


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
