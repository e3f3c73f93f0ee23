"""What locust loads: the options, the start and the end of a run.

Owns the command line and the order of things: find out what there is to ask, let users ask it, say
whether the run has passed. README.md tells how to use it.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from locust import events
from locust.runners import WorkerRunner

from loadtest.dataroot import DataRoot
from loadtest.http1_client import Http1Client
from loadtest.http2_client import Http2Client
from loadtest.mix import Market
from loadtest.question import WrongAnswerError
from loadtest.series import find_series
from loadtest.server_url import ServerUrl, client_context
from loadtest.shapes import SHAPES, Shape
from loadtest.users import Http2User, MarketUser, PlainUser
from loadtest.verdict import Bounds, Verdict, judge

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from locust.env import Environment

__all__ = ["Http2User", "PlainUser", "Shape"]

QUIT_DELAY_S = 0.5  # a runner that is still starting ignores quit()
DISCOVERY_WINDOW_BYTES = 1 << 20

logger = logging.getLogger("loadtest")
verdicts: list[Verdict] = []


@events.init_command_line_parser.add_listener
def add_options(parser: ArgumentParser) -> None:
    """Add the options; each has a variable of the environment too, LOAD_<OPTION>."""
    group: Any = parser.add_argument_group("zerocopy")

    def add(name: str, default: object, text: str, **more: Any) -> None:
        variable = "LOAD_" + name.upper().replace("-", "_")
        kind = {} if isinstance(default, bool) else {"type": type(default)}
        group.add_argument(
            f"--{name}", default=default, env_var=variable, help=text, **kind, **more
        )

    add("plain-url", "", "Server of the plain path, http://host:port")
    add("tls-url", "", "Server of HTTP/2 over TLS, https://host:port")
    add("ca", "", "PEM file of the CA to trust instead of the system's")
    add("insecure", default=False, text="Trust any certificate", action="store_true")
    add("data-root", "", "The server's data directory, where it can be read from here")
    add("types", "MD,TRADES", "Types to look for")
    add("columns", "price,volume,size,side,best_bid,best_ask", "Columns to look for beside time")
    add("seed", 0, "The same seed asks the same questions")
    add("streams", 4, "Streams that an HTTP/2 user has under way")
    add("pause-s", 0.0, "Pause of a user between two requests")
    add("shape", "steady", "How many users there are as time goes on", choices=sorted(SHAPES))
    add("p99-ms-max", 0.0, "Fail above this p99 of a path; 0: only show it")
    add("mb-s-min", 0.0, "Fail below this throughput of a path; 0: only show it")


@events.init.add_listener
def choose_paths(environment: Environment, **_: Any) -> None:
    """Leave out the users whose path has no server in this run."""
    options: Any = environment.parsed_options
    urls = [options.plain_url, options.tls_url, options.host or ""]
    for user in (PlainUser, Http2User):
        user.url = None
    for url in filter(None, urls):
        parsed = ServerUrl.parse(url)
        user = Http2User if parsed.scheme == "https" else PlainUser
        user.url = user.url or parsed
    Http2User.trust = client_context(options.ca, insecure=options.insecure)
    environment.user_classes[:] = [user for user in (PlainUser, Http2User) if user.url is not None]


@events.test_start.add_listener
def find_market(environment: Environment, **_: Any) -> None:
    """Find out what there is to ask for; without anything the run stops as failed."""
    options: Any = environment.parsed_options
    root = DataRoot(options.data_root) if options.data_root else None
    MarketUser.market = Market([], root)
    try:
        client: Http1Client | Http2Client
        if PlainUser.url is not None:
            client = Http1Client(PlainUser.url)
        elif Http2User.url is not None and Http2User.trust is not None:
            client = Http2Client(Http2User.url, Http2User.trust, DISCOVERY_WINDOW_BYTES)
        else:
            raise WrongAnswerError("no server: give --plain-url, --tls-url or --host")
        series = find_series(
            client,
            types=options.types.split(","),
            columns=options.columns.split(","),
            seed=options.seed,
        )
        client.close()
        if not series:
            raise WrongAnswerError("no series with records, nothing to ask for")
        MarketUser.market = Market(series, root)
    except (OSError, WrongAnswerError, LookupError, ValueError) as error:
        logger.error("discovery: %s", error)  # noqa: TRY400 - one line, no trace
        environment.process_exit_code = 1
        if environment.runner is not None:
            threading.Timer(QUIT_DELAY_S, environment.runner.quit).start()
        return
    logger.info("%d series to ask for, seed %d", len(series), options.seed)


@events.quitting.add_listener
def decide(environment: Environment, **_: Any) -> None:
    """Turn the statistics into the exit code."""
    if isinstance(environment.runner, WorkerRunner):
        return  # the master has everybody's
    options: Any = environment.parsed_options
    paths = [user.path for user in (PlainUser, Http2User) if user.url is not None]
    verdict = judge(environment.stats, paths, Bounds(options.p99_ms_max, options.mb_s_min))
    verdicts.append(verdict)
    environment.process_exit_code = environment.process_exit_code or verdict.exit_code


@events.quit.add_listener
def print_verdict(**_: Any) -> None:
    """Say it last, below locust's tables."""
    for verdict in verdicts:
        print(*verdict.lines(), sep="\n", flush=True)
