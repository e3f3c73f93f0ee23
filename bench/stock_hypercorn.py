"""`python -m bench.stock_hypercorn PORT ROOT [CERT KEY]`: the service under Hypercorn as released.

One process on uvloop; every setting is Hypercorn's default but those that would end a connection in
the middle of a measurement or add work that nginx is not asked for. SIGTERM stops it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config

from zerocopy.config.load import load
from zerocopy.core.counters import SLOTS
from zerocopy.supervise.compose import build_service
from zerocopy.supervise.compose_tls import build_app
from zerocopy.supervise.worker import SWEEP_S

if TYPE_CHECKING:
    from zerocopy.transport.asgi import AsgiApp

REQUESTS_MAX = 1_000_000_000
"""Requests a connection may make; Hypercorn ends it after 1,000."""


def make_app(root: str) -> AsgiApp:
    """The application over `root`, as zerocopy serves it; called in the event loop."""
    config = load(os.devnull, environ={"DATA_PATH": root, "ZEROCOPY_DATA_SETTLE_S": "0"})
    counters = [0] * len(SLOTS)
    executor = ThreadPoolExecutor(config.limits.planner_threads, "planner")
    service = build_service(config, counters, executor)
    loop = asyncio.get_running_loop()

    def sweep() -> None:
        service.sweep()
        loop.call_later(SWEEP_S, sweep)

    sweep()
    return build_app(service, config, counters)


async def run(port: int, root: str, cert_path: str | None, key_path: str | None) -> None:
    """Serve until SIGTERM."""
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.certfile = cert_path
    config.keyfile = key_path
    config.keep_alive_max_requests = REQUESTS_MAX
    config.include_server_header = False
    config.accesslog = None
    await serve(make_app(root), config)  # type: ignore[arg-type]  # its scopes are TypedDicts


def main() -> None:
    """Serve what the command line says."""
    port, root, *paths = sys.argv[1:]
    cert_path, key_path = paths or (None, None)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(int(port), root, cert_path, key_path))


if __name__ == "__main__":
    main()
