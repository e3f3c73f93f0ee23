"""All checks in their order, and what is told of them: a table, lines, or JSON.

Owns the list of checks, the forms of the report and its exit code. It must never read the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from rich.table import Table

from zerocopy.commands.doctor import files, network, process, system
from zerocopy.commands.doctor.finding import Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from zerocopy.commands.doctor.host import Host
    from zerocopy.commands.doctor.needs import Needs

CHECKS: tuple[Callable[[Host, Needs], Finding], ...] = (
    process.descriptors,
    process.descriptors_of_all,
    process.locked_memory,
    process.mappings,
    process.memory,
    process.processors,
    files.data_root,
    files.store_cache,
    files.rollups,
    files.key_file,
    files.file_system,
    files.access_times,
    files.read_ahead,
    network.accept_queue,
    network.syn_queue,
    network.send_buffer,
    network.slow_readers,
    network.slow_start,
    network.congestion_control,
    system.kernel,
    system.page_size,
    system.huge_pages,
    system.clock,
    system.kernel_tls,
    system.inotify,
    system.python,
    system.libraries,
)

_STYLES = {
    Verdict.CHANGE: "bold red",
    Verdict.ADVICE: "yellow",
    Verdict.UNKNOWN: "magenta",
    Verdict.NOTE: "cyan",
    Verdict.OK: "green",
}


def examine(host: Host, needs: Needs) -> list[Finding]:
    """The findings of all checks, the most urgent first and else in the order of the checks."""
    findings = [check(host, needs) for check in CHECKS]
    order = list(Verdict)
    return sorted(findings, key=lambda finding: order.index(finding.verdict))


def exit_code(findings: Sequence[Finding]) -> int:
    """1 when something is missing that the configuration needs, else 0."""
    return int(any(finding.verdict is Verdict.CHANGE for finding in findings))


def as_json(findings: Sequence[Finding]) -> str:
    """One object with all fields of all findings."""
    must_change = sum(finding.verdict is Verdict.CHANGE for finding in findings)
    document = {"must_change": must_change, "findings": list(findings)}
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()


def as_line(finding: Finding) -> str:
    """One line for a pipe: tabs stand between the fields."""
    parts = [finding.verdict.value, finding.check, finding.found]
    parts += [f"change: {finding.change}"] if finding.change else []
    parts += [f"gain: {finding.gain}"] if finding.gain else []
    parts += [f"see: {finding.source}"] if finding.source else []
    return "\t".join(parts)


def as_table(findings: Sequence[Finding]) -> Table:
    """A table for a terminal: one line for what is right, the reason below what is not."""
    table = Table("", "check", "found", "to change, and what it gains", show_lines=True)
    for finding in findings:
        rest = "\n".join(filter(None, (finding.change, finding.gain)))
        rest += f"\n({finding.source})" if finding.source else ""
        style = _STYLES[finding.verdict]
        cells = (f"[{style}]{finding.verdict.value}[/]", finding.check)
        table.add_row(*cells, _plain(finding.found), _plain(rest))
    return table


def write_report(findings: Sequence[Finding], console: Console) -> None:
    """The table where a person looks at a terminal, else a line a finding."""
    if console.is_terminal:
        console.print(as_table(findings))
        return
    for finding in findings:
        console.print(as_line(finding), highlight=False, markup=False, soft_wrap=True)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
