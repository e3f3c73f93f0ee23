"""`zerocopy demo`: sample data, a certificate, a running server, and lines to copy.

Owns what a newcomer sees first. Makes nothing that the other commands could not.
"""

from __future__ import annotations

import datetime as dt
import os
import signal
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

import typer

from zerocopy.commands.generate import generate_with_progress
from zerocopy.commands.shared import read_config, terminal
from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

DEMO_EXCHANGES = ("coinbase", "binance")
DEMO_SYMBOLS = ("BTC-USD", "ETH-USD")
DEMO_DAYS = 3
DEMO_RECORDS = 500_000
"""Records a day: 2 MB a column, ticks in bursts, several a second."""

_MINUTE_S = 60


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
    code = _run_demo(
        root=root, plain_port=port, tls_port=tls_port, certs=certs, seed=seed, console=terminal()
    )
    raise typer.Exit(code)


def _run_demo(
    *, root: str, plain_port: int, tls_port: int, certs: str, seed: int, console: Console
) -> int:
    """Serve sample data on 127.0.0.1, plain and over TLS, until stopped; the exit code."""
    from zerocopy.commands.development.certificates import ensure_certificates
    from zerocopy.observe.log import configure_logging
    from zerocopy.supervise.supervisor import Supervisor

    if not os.path.isdir(root):
        _make_data(root, seed, console)
    midday_s = _newest_midday_s(root)
    certificates = ensure_certificates(certs)
    flags: dict[str, object] = {
        "data.path": os.path.abspath(root),
        "server.host": "127.0.0.1",
        "server.use_tls": True,
        "server.port": tls_port,
        "server.drain_idle_s": 0,  # Ctrl-C waits for no browser
        "plain.port": plain_port,
        "tls.cert_path": certificates.cert,
        "tls.key_path": certificates.key,
        "metrics.host": "127.0.0.1",
        "metrics.port": 0,
        "log.level": "warning",
    }
    config = read_config(None, flags)
    configure_logging(config.log)
    try:
        supervisor = Supervisor(config)
    except ConfigError:
        if plain_port == tls_port == 0:
            raise
        console.print(f"Port {plain_port} or {tls_port} is taken; using free ones.")
        config = read_config(None, {**flags, "server.port": 0, "plain.port": 0})
        supervisor = Supervisor(config)
    ports = {name: port for name, (_, port) in supervisor.addresses.items()}
    origins = (f"http://127.0.0.1:{ports['plain']}", f"https://127.0.0.1:{ports['tls']}")

    def print_urls() -> None:
        metrics = f"http://{supervisor.metrics_address}/metrics"
        _print_urls(origins, metrics, certificates.ca_cert, midday_s, console)

    return supervisor.run(print_urls)


def _make_data(root: str, seed: int, console: Console) -> None:
    from zerocopy.commands.development.sample_data import GenerateSpec

    partial = f"{root}.partial"  # an interrupted first run leaves nothing that looks complete
    today = dt.datetime.now(dt.UTC).date()
    generate_with_progress(
        GenerateSpec(
            root=partial,
            first_day=today - dt.timedelta(DEMO_DAYS),
            exchanges=DEMO_EXCHANGES,
            symbols=DEMO_SYMBOLS,
            days=DEMO_DAYS,
            records_per_day=DEMO_RECORDS,
            seed=seed,
            overwrite=True,
        ),
        console,
    )
    os.rename(partial, root)


def _print_urls(
    origins: tuple[str, str], metrics: str, ca_cert: str, day_s: int, console: Console
) -> None:
    plain, tls = origins
    minute, whole = (
        _query(day_s, day_s + _MINUTE_S - 1, "time,price,volume"),
        _query(0, 2**32 - 1, "time,price,best_bid,best_ask"),
    )
    bars = _query(0, 2**32 - 1, "price", "bars") + "&interval=1h&format=json"
    has_csv = find_spec("polars") is not None
    over_tls = (
        f"curl -s -o /dev/null -w '%{{size_download}} bytes, HTTP/%{{http_version}}\\n' "
        f"--cacert {ca_cert}"
    )
    for line in (
        "",
        "Serving. Try, in another terminal or a browser:",
        "",
        f"  {plain}/api/symbols",
        f"  {plain}{minute}",
        f"  {tls}{minute}",
        f"  {tls}{whole}",
        "",
        "Bars of an hour, for a chart; a minute for a spreadsheet:",
        "",
        f"  {plain}{bars}",
        f"  {plain}{minute}&format=csv"
        if has_csv
        else "  csv needs: pip install zerocopy[formats]",
        "",
        "One minute of ticks; the first line of the answer says what follows it:",
        "",
        f"  curl -s '{plain}{minute}' | head -n 1",
        f"  curl -s --cacert {ca_cert} '{tls}{minute}' | head -n 1",
        "",
        "Everything there is, over plain HTTP/1.1 and over HTTP/2:",
        "",
        f"  curl -s -o /dev/null -w '%{{size_download}} bytes\\n' '{plain}{whole}'",
        f"  {over_tls} '{tls}{whole}'",
        "",
        f"A browser trusts the certificate once {ca_cert} is imported as an authority.",
        f"What it does: zerocopy status --url {metrics}",
        "Ctrl-C stops.",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _query(start_s: int, end_s: int, columns: str, endpoint: str = "data") -> str:
    query = {
        "symbol": DEMO_SYMBOLS[0],
        "type": "MD",
        "start": start_s,
        "end": end_s,
        "columns": columns,
        "exchange": DEMO_EXCHANGES[0],
    }
    return f"/api/{endpoint}?{urlencode(query, safe=',')}"


def _newest_midday_s(root: str) -> int:
    """Noon of the newest day there is, in unix seconds."""
    from zerocopy.core.layout import DAY_S, parse_file_name

    try:
        names = os.listdir(os.path.join(root, DEMO_EXCHANGES[0], DEMO_SYMBOLS[0], "MD"))
    except OSError as error:
        raise ConfigError(f"{root}: holds no demo data; remove it or name another") from error
    days = [parsed[1] for parsed in map(parse_file_name, names) if parsed is not None]
    if not days:
        raise ConfigError(f"{root}: holds no demo data; remove it or name another")
    return max(days) * DAY_S + DAY_S // 2
