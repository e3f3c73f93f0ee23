"""`zerocopy doctor`: the command and its options.

Owns the choice of process and configuration, and of the form of the report.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from zerocopy.commands.shared import (
    ConfigOption,
    DataOption,
    TlsOption,
    WorkersOption,
    read_config,
    terminal,
)
from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from zerocopy.commands.doctor.finding import Finding


def doctor(
    config: ConfigOption = None,
    data_path: DataOption = None,
    tls: TlsOption = None,
    workers: WorkersOption = None,
    pid: Annotated[
        int | None,
        typer.Option(metavar="N", help="Look at the limits of this process, not of the shell's."),
    ] = None,
    node: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL", help="Compare the nodes of a cluster instead: http(s)://host:port, each."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All fields, for machines.")] = False,
) -> None:
    """Tell what of this machine the configuration needs changed, and what else it would gain.

    Changes nothing. Exit code 1 when something is missing that the configuration needs. Limits are
    those of the shell it runs in; --pid looks at those of a server that runs.

    Several --node: are they ready, do their clocks agree, have they the same series and files?
    Their key is $ZEROCOPY_KEY, or in ~/.netrc.
    """
    from zerocopy.commands.doctor import report

    if node:
        _compare(node, as_json=as_json)
    from zerocopy.commands.doctor.host import Host
    from zerocopy.commands.doctor.needs import needs_of

    flags = {"data.path": data_path, "server.use_tls": tls, "server.workers": workers}
    if pid is not None and not os.path.exists("/proc/self"):
        raise ConfigError("--pid: /proc is not mounted, where the limits of a process are read")
    if pid is not None and not os.path.exists(f"/proc/{pid}"):
        raise typer.BadParameter(f"--pid: no process {pid}")
    needs = needs_of(read_config(config, flags))
    _tell(report.examine(Host(pid=str(pid or "self")), needs), as_json=as_json)


def _compare(urls: list[str], *, as_json: bool) -> NoReturn:
    """The findings about nodes."""
    from zerocopy.commands.doctor import nodes

    try:
        findings = nodes.examine(urls)
    except ValueError:
        raise typer.BadParameter("--node: must be http://host:port or https://host:port") from None
    _tell(findings, as_json=as_json)


def _tell(findings: list[Finding], *, as_json: bool) -> NoReturn:
    """Write the report; the exit code follows from it."""
    from zerocopy.commands.doctor import report

    if as_json:
        typer.echo(report.as_json(findings))
    else:
        report.write_report(findings, terminal())
    raise typer.Exit(report.exit_code(findings))
