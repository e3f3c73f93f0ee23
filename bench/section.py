"""What was measured: rounds, the sections they belong to, and the machine.

Owns statistics over rounds. It measures nothing and knows nothing of how a report looks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from bench.meter import Memory
from bench.percentiles import Latencies

if TYPE_CHECKING:
    from collections.abc import Sequence

OURS = "zerocopy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One measurement of one server. `cpu_s` are its processor seconds, `units` what they moved."""

    units: float  # requests, or GB (1e9 bytes)
    seconds: float
    cpu_s: float
    others_share: float  # of all cores, taken by whoever is neither server nor client
    latencies: Latencies = field(default_factory=Latencies)
    memory: Memory = field(default_factory=Memory)

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

    path: str  # "HTTP/1.1", "HTTP/2 over TLS" or "HTTP/1.1 over TLS"
    label: str  # "4 KB answers, 16 connections"
    unit: str  # "requests" or "GB"
    client: str
    skipped: str | None = None
    notes: list[str] = field(default_factory=list)
    rounds: dict[str, list[Round]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Path and label."""
        return f"{self.path}, {self.label}"

    @property
    def cpu_unit(self) -> str:
        """How `cpu` counts."""
        return "processor µs a request" if self.unit == "requests" else "processor s a GB"

    def cpu(self, seconds: float) -> str:
        """Processor seconds of one unit, written in `cpu_unit`."""
        return f"{seconds * 1e6:.2f}" if self.unit == "requests" else f"{seconds:.3f}"

    def rate(self, units_a_second: float) -> str:
        """A rate, written without its unit."""
        return f"{units_a_second:,.0f}" if self.unit == "requests" else f"{units_a_second:.2f}"

    @property
    def peers(self) -> list[str]:
        """Whom ours is compared with, in the order of measurement."""
        return [server for server in self.rounds if server != OURS] if OURS in self.rounds else []

    def share_of_core(self, server: str) -> float:
        """Of a core, what a server used; median."""
        return median(round_.cpu_s / round_.seconds for round_ in self.rounds[server])

    def median_rate(self, server: str) -> float:
        """Units a second of a server."""
        return median(round_.rate for round_ in self.rounds[server])

    def ratio_of_medians(self, peer: str) -> float:
        """How many times that peer's median rate is ours."""
        return self.median_rate(OURS) / self.median_rate(peer)

    def ratio_by_cpu(self, peer: str) -> float:
        """How many times the peer's work ours does in a processor second of the server; medians."""
        ours, theirs = (
            median(round_.cpu_s_per_unit for round_ in self.rounds[server])
            for server in (OURS, peer)
        )
        return theirs / ours if ours else math.nan  # too short a round for a tick of the clock

    def ratios(self, peer: str) -> list[float]:
        """How many times the peer's rate was ours, round by round."""
        pairs = zip(self.rounds[OURS], self.rounds[peer], strict=True)
        return [ours.rate / theirs.rate for ours, theirs in pairs]


@dataclass(slots=True, kw_only=True)
class Table:
    """A question whose answer is no rate: a table of its own, and what it comes to in sentences."""

    title: str
    client: str
    skipped: str | None = None
    head: Sequence[str] = ()
    rows: list[Sequence[str]] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where, when and what: lines for the foot of a report."""

    date: str
    commit: str
    model: str
    lines: Sequence[str]


def spread(values: Sequence[float], digits: int = 0) -> str:
    """The median, and the range where there is one."""
    low, mid, high = (
        f"{value:,.{digits}f}" for value in (min(values), median(values), max(values))
    )
    return mid if low == high else f"{mid} ({low} to {high})"


def told(value: float | None) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else f"{value:,.0f}"
