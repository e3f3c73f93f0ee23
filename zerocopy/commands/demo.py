"""`zerocopy demo`: sample data that grows, a certificate, a running server, and lines to copy.

Owns what a newcomer sees first. The data are those of `development/demo_data.py`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shlex
import signal
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

import typer

from zerocopy.commands.generate import generate_with_progress
from zerocopy.commands.shared import read_config, terminal
from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from zerocopy.config.options import AuthTable

EXCHANGE, SYMBOL = "coinbase", "BTC-USD"
"""What the printed URLs ask for."""

_MINUTE_S = 60
_FIELD = "Authorization: Bearer $ZEROCOPY_KEY"


def demo(
    root: Annotated[
        str,
        typer.Option(metavar="DIR", help="Where the sample data goes, or is."),
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
    """Make sample data and a certificate if there are none, serve both paths, print URLs.

    The data are two weeks of several symbols up to now. While the demo runs, it
    appends records as a recorder would, so that a chart moves. A directory that
    the demo has not made is served as it is.
    """
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    console = terminal()
    with contextlib.ExitStack() as stack:
        _prepare_data(root, seed, console, stack)
        code = _serve(root=root, plain_port=port, tls_port=tls_port, certs=certs, console=console)
    raise typer.Exit(code)


def _serve(*, root: str, plain_port: int, tls_port: int, certs: str, console: Console) -> int:
    """Serve `root` on 127.0.0.1, plain and over TLS, until stopped; the exit code."""
    from zerocopy.commands.development.certificates import ensure_certificates
    from zerocopy.observe.log import configure_logging
    from zerocopy.supervise.supervisor import Supervisor

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
        _print_urls(origins, metrics, certificates.ca_cert, midday_s, config.auth, console)

    return supervisor.run(print_urls)


def _prepare_data(root: str, seed: int, console: Console, stack: contextlib.ExitStack) -> None:
    """Make what is missing up to now, and have it go on growing until `stack` ends."""
    from zerocopy.commands.development.demo_data import claim, today
    from zerocopy.commands.development.recorder import recording

    claimed = claim(root, seed)
    if isinstance(claimed, str):
        console.print(claimed, highlight=False, markup=False)
        return
    stack.callback(os.close, claimed.lock_fd)
    day = today()
    missing = claimed.missing(day)
    if missing:
        generate_with_progress(missing, console)
    try:
        claimed.complete(day)
    except OSError as error:
        raise ConfigError(f"{root}: cannot be topped up: {error.strerror}") from error
    if not stack.enter_context(recording(claimed, day)):
        console.print("Today has no new records: the recorder did not start.")


def _print_urls(
    origins: tuple[str, str],
    metrics: str,
    ca_cert: str,
    day_s: int,
    auth: AuthTable,
    console: Console,
) -> None:
    plain, tls = origins
    curl = "curl -s" + (f' -H "{_FIELD}"' if auth.is_on else "")
    minute, whole = (
        _query(day_s, day_s + _MINUTE_S - 1, "time,price,volume"),
        _query(0, 2**32 - 1, "time,price,best_bid,best_ask"),
    )
    bars = _query(0, 2**32 - 1, "price", "bars") + "&interval=1h&format=json"
    has_csv = find_spec("polars") is not None
    over_tls = (
        f"{curl} -o /dev/null -w '%{{size_download}} bytes, HTTP/%{{http_version}}\\n' "
        f"--cacert {ca_cert}"
    )
    day = dt.datetime.fromtimestamp(day_s, dt.UTC).date()
    span = f'start="{day}", end="{day + dt.timedelta(1)}"'
    frame = f'.data("{SYMBOL}", ["time", "price"], type="MD", {span}).to_polars()'
    for line in (
        "",
        "Serving. A chart, in a browser:",
        "",
        f"  {plain}/",
        *_lines_on_keys(auth),
        "",
        "Or try, with that field:" if auth.is_on else "Or try, in another terminal or a browser:",
        "",
        f"  {plain}/api/symbols",
        f"  {plain}{minute}",
        f"  {tls}{minute}",
        f"  {tls}{whole}",
        "",
        "Bars of an hour, for a chart; a minute for a spreadsheet:",
        "",
        f"  {plain}{bars}",
        f"  {plain}{minute}&format=csv" if has_csv else "  csv needs: pip install polars",
        "",
        "One minute of ticks; the first line of the answer says what follows it:",
        "",
        f"  {curl} '{plain}{minute}' | head -n 1",
        f"  {curl} --cacert {ca_cert} '{tls}{minute}' | head -n 1",
        "",
        "Everything there is, over plain HTTP/1.1 and over HTTP/2:",
        "",
        f"  {curl} -o /dev/null -w '%{{size_download}} bytes\\n' '{plain}{whole}'",
        f"  {over_tls} '{tls}{whole}'",
        "",
        "A day as a DataFrame, in .venv/bin/python:",
        "",
        "  from zerocopy.client import Client",
        f'  Client("{plain}"){frame}',
        "",
        f"A browser trusts the certificate once {ca_cert} is imported as an authority.",
        f"What it does: zerocopy status --url {metrics}",
        "Ctrl-C stops.",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _lines_on_keys(auth: AuthTable) -> list[str]:
    """How to ask where not everybody may."""
    if not auth.is_on:
        return []
    if auth.keys_path is None:
        lines = ["Each request needs a token of the issuer (docs/tokens.md). For all below:", ""]
        lines.append("  export ZEROCOPY_KEY=TOKEN")
    else:
        lines = [f"Each request needs a key of {auth.keys_path}. For all below, make one:", ""]
        lines.append(f"  zerocopy keys add NAME --file {shlex.quote(auth.keys_path)}")
        lines.append("  export ZEROCOPY_KEY=zc_…")
    return ["", *lines, "", f"The page asks for it; other requests have the field {_FIELD}"]


def _query(start_s: int, end_s: int, columns: str, endpoint: str = "data") -> str:
    query = {
        "symbol": SYMBOL,
        "type": "MD",
        "start": start_s,
        "end": end_s,
        "columns": columns,
        "exchange": EXCHANGE,
    }
    return f"/api/{endpoint}?{urlencode(query, safe=',')}"


def _newest_midday_s(root: str) -> int:
    """The newest noon that has records around it, in unix seconds: of the last day that is over."""
    from zerocopy.core.layout import DAY_S, parse_file_name

    try:
        names = os.listdir(os.path.join(root, EXCHANGE, SYMBOL, "MD"))
    except OSError as error:
        raise ConfigError(f"{root}: holds no demo data; remove it or name another") from error
    days = {parsed[1] for parsed in map(parse_file_name, names) if parsed is not None}
    if not days:
        raise ConfigError(f"{root}: holds no demo data; remove it or name another")
    over = [day for day in days if (day + 1) * DAY_S <= time.time()]
    return max(over or days) * DAY_S + DAY_S // 2
