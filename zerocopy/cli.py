"""The command line: what a person types, and what they read.

Owns options, help texts, tables and exit codes: 0 right, 1 failed, 2 usage. Every error is one line
on standard error. Each command imports what it needs, so that `zerocopy --help` is quick.
"""

# ruff: noqa: PLC0415 - commands import what they use when they run
# ruff: noqa: PLR0917 - typer calls by keyword; the order is that of the help text
# ruff: noqa: FBT001, FBT002 - typer turns boolean parameters into pairs of flags

from __future__ import annotations

import datetime as dt
import os
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

import typer
from rich.console import Console
from rich.table import Table

from zerocopy import __version__
from zerocopy.commands.check_config import check_config
from zerocopy.commands.health import health
from zerocopy.commands.status.status import status
from zerocopy.core.errors import ConfigError, ZerocopyError
from zerocopy.streams import escape_what_has_no_code, fail, open_missing, tell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zerocopy.config.load import Config

app = typer.Typer(
    name="zerocopy",
    help="Stream columnar market data from day files over HTTP.",
    epilog="Start with `zerocopy demo`: sample data, a running server, URLs to try.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
_out = Console(soft_wrap=True)

# typer carries its own copy of click, whose errors it does not name in public; this is the base
# class of the one it does.
_UsageError: Any = typer.BadParameter.__base__

ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="config.toml to read; else $ZEROCOPY_CONFIG, ./config.toml, "
        "/etc/zerocopy/config.toml, else defaults.",
    ),
]
DataOption = Annotated[
    str | None,
    typer.Option("--data-path", "-d", metavar="DIR", help="Root of the day files: data.path."),
]
TlsOption = Annotated[
    bool | None,
    typer.Option("--tls/--plain", help="HTTP/2 over TLS, or plain HTTP/1.1: server.use_tls."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(metavar="N", help="Worker processes; 0: one a core; server.workers."),
]


def _load(config_path: str | None, flags: Mapping[str, object]) -> Config:
    from zerocopy.config.load import load

    return load(config_path, environ=os.environ, flags=flags)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"zerocopy {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version_wanted: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    config: ConfigOption = None,
    data_path: DataOption = None,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Address to listen on: server.host.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="PORT", help="Port to listen on: server.port.")
    ] = None,
    tls: TlsOption = None,
    workers: WorkersOption = None,
) -> None:
    """Serve a data directory until SIGTERM or Ctrl-C.

    Flags override the environment, which overrides config.toml. SIGTERM and Ctrl-C let responses
    that are being sent finish; the same signal again stops at once. SIGHUP reads the configuration
    and the certificate again, without a request that fails.
    """
    # What comes before the configuration is read asks for nothing more; it must not end us.
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)

    from zerocopy.config.load import passed_over
    from zerocopy.observe.log import configure_logging, get_logger
    from zerocopy.supervise.activation import take_passed_sockets
    from zerocopy.supervise.notify import Notifier
    from zerocopy.supervise.supervisor import Supervisor

    flags = {
        "data.path": data_path,
        "server.host": host,
        "server.port": port,
        "server.use_tls": tls,
        "server.workers": workers,
    }
    passed, notifier = take_passed_sockets(os.environ), Notifier(os.environ)
    load = partial(_load, config, flags)
    loaded = load()
    configure_logging(loaded.log)
    if names := passed_over(os.environ):
        _log = get_logger(__name__)
        _log.debug("variables_passed_over", names=names)
    raise typer.Exit(Supervisor(loaded, reread=load, passed=passed, notifier=notifier).run())


@app.command()
def demo(
    root: Annotated[
        str, typer.Option(metavar="DIR", help="Where the sample data goes; kept for next time.")
    ] = "var/demo",
    port: Annotated[
        int, typer.Option(metavar="PORT", help="Port of plain HTTP/1.1; 0: any free one.")
    ] = 8080,
    tls_port: Annotated[
        int, typer.Option(metavar="PORT", help="Port of HTTP/2 over TLS; 0: any free one.")
    ] = 8443,
    certs: Annotated[
        str, typer.Option(metavar="DIR", help="Where the development certificate is, or goes.")
    ] = "certs",
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the sample data.")] = 7,
) -> None:
    """Make sample data and a certificate if there are none, serve both paths, print URLs."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)

    from zerocopy.commands.demo import run_demo

    raise typer.Exit(
        run_demo(
            root=root, plain_port=port, tls_port=tls_port, certs=certs, seed=seed, console=_out
        )
    )


@app.command()
def doctor(
    config: ConfigOption = None,
    data_path: DataOption = None,
    tls: TlsOption = None,
    workers: WorkersOption = None,
    pid: Annotated[
        int | None,
        typer.Option(metavar="N", help="Look at the limits of this process, not of the shell's."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All fields, for machines.")] = False,
) -> None:
    """Tell what of this machine the configuration needs changed, and what else it would gain.

    Changes nothing. Exit code 1 when something is missing that the configuration needs. Limits are
    those of the shell it runs in; --pid looks at those of a server that runs.
    """
    from zerocopy.commands.doctor.host import Host
    from zerocopy.commands.doctor.needs import needs_of
    from zerocopy.commands.doctor.report import as_json as to_json
    from zerocopy.commands.doctor.report import examine, exit_code, write_report

    flags = {"data.path": data_path, "server.use_tls": tls, "server.workers": workers}
    if pid is not None and not os.path.exists("/proc/self"):
        raise ConfigError("--pid: /proc is not mounted, where the limits of a process are read")
    if pid is not None and not os.path.exists(f"/proc/{pid}"):
        raise typer.BadParameter(f"--pid: no process {pid}")
    findings = examine(Host(pid=str(pid or "self")), needs_of(_load(config, flags)))
    if as_json:
        typer.echo(to_json(findings))
    else:
        write_report(findings, _out)
    raise typer.Exit(exit_code(findings))


app.command("check-config")(check_config)
app.command()(health)
app.command()(status)


@app.command()
def symbols(
    config: ConfigOption = None,
    data_path: DataOption = None,
    exchange: Annotated[
        str | None, typer.Option("--exchange", "-e", metavar="NAME", help="Only this exchange.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the JSON of /api/symbols instead.")
    ] = False,
) -> None:
    """List the symbols in a data directory, newest first."""
    import orjson

    from zerocopy.core.query import check_name
    from zerocopy.storage.symbols.walk import date_text, list_symbols, symbols_document

    loaded = _load(config, {"data.path": data_path})
    if exchange is not None:
        check_name("exchange", exchange)
    document = symbols_document(listed := list_symbols(loaded.data.path, exchange))
    if as_json:
        typer.echo(orjson.dumps(document))
        return
    table = Table("exchange", "symbol", "last update (UTC)")
    for name, entries in listed.items():
        for entry in entries:
            table.add_row(name, entry.symbol, date_text(entry.last_update_s))
    _out.print(table)


@app.command()
def query(
    symbol: Annotated[str, typer.Argument(help="As on disk, BTC-USD.")],
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="As on disk, MD or TRADES.")],
    start: Annotated[str, typer.Argument(help="First unix second, inclusive.")],
    end: Annotated[str, typer.Argument(help="Last unix second, inclusive.")],
    columns: Annotated[str, typer.Argument(help="Comma separated, time,price.")],
    exchange: Annotated[
        str, typer.Option("--exchange", "-e", metavar="NAME", help="As on disk.")
    ] = "coinbase",
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write the body of /api/data here; - is stdout."
        ),
    ] = None,
    config: ConfigOption = None,
    data_path: DataOption = None,
) -> None:
    """Plan a query without a server: print the plan, or write the response's body."""
    from zerocopy.commands.query import plan_query, print_plan, write_body
    from zerocopy.core.query import parse_query

    loaded = _load(config, {"data.path": data_path})
    parameters = {"symbol": symbol, "type": type_, "start": start, "end": end}
    parameters |= {"columns": columns, "exchange": exchange}
    asked = parse_query(
        urlencode(parameters, errors="surrogateescape").encode("ascii"),
        columns_max=loaded.limits.columns_max,
    )
    planned, files = plan_query(loaded, asked)
    if output is None:
        print_plan(asked, planned, _out)
    else:
        write_body(planned, output)
    files.close()


@app.command()
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
    from zerocopy.commands.demo import generate_with_progress
    from zerocopy.commands.generate import GenerateSpec

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
    generate_with_progress(spec, _out)


def _count_or_names(text: str) -> int | tuple[str, ...]:
    return int(text) if text.isascii() and text.isdigit() else tuple(text.split(","))


@app.command()
def certs(
    directory: Annotated[
        str, typer.Option("--directory", metavar="DIR", help="Where the files go.")
    ] = "certs",
    names: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="NAME", help="A further host name or address; repeatable."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a certificate that exists; keep its CA.")
    ] = False,
    new_ca: Annotated[
        bool, typer.Option("--new-ca", help="With --force: replace the CA too.")
    ] = False,
) -> None:
    """Make a certificate for localhost, and a CA to trust it by, for development."""
    import shlex

    from zerocopy.commands.certs import make_certificates

    made = make_certificates(directory, names or (), force=force, new_ca=new_ca)
    ca = shlex.quote(made.ca_cert)
    installed = "/usr/local/share/ca-certificates/zerocopy-development-ca.crt"
    for line in (
        *made,
        "",
        "To trust the CA:",
        f"  curl     curl --cacert {ca} https://localhost:8443/api/symbols",
        f"  Debian   sudo cp {ca} {installed} && sudo update-ca-certificates",
        f"  browser  import {ca} in the settings, under certificates, as an authority",
    ):
        typer.echo(line)


def main() -> None:
    """Run the command line; the entry point of `zerocopy`."""
    sys.exit(_run())


def _run() -> int:
    """The exit code; what went wrong is one line, and the same for every command."""
    try:
        open_missing()
        escape_what_has_no_code()
        status = app(standalone_mode=False)
        sys.stdout.flush()
    except ZerocopyError as error:
        return fail(error)
    except (KeyboardInterrupt, typer.Abort):
        return 1
    except _UsageError as error:
        message = error.format_message()
        # Without any argument the message is the help, many lines long.
        tell(message if "\n" in message else f"zerocopy: {message}")
        return int(error.exit_code)
    except SystemExit as end:
        # typer and rich end so, without a word, when the reader of standard output has gone.
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        return fail(end.__context__)
    except Exception as error:
        if hasattr(sys.stderr, "beneath"):
            raise  # the log has taken over, and tells it
        return fail(error)
    return status if isinstance(status, int) else 0
