"""`zerocopy serve`: the server, until a signal ends it.

Owns the flags and the options that they override. The supervisor does the rest.
"""

from __future__ import annotations

import gc
import os
import signal
from functools import partial
from typing import Annotated

import typer

from zerocopy.commands.shared import (
    ConfigOption,
    DataOption,
    TlsOption,
    WorkersOption,
    read_config,
)


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

    gc.disable()
    from zerocopy.config.load import passed_over
    from zerocopy.observe.log import configure_logging, get_logger
    from zerocopy.supervise.activation import take_passed_sockets
    from zerocopy.supervise.notify import Notifier
    from zerocopy.supervise.supervisor import Supervisor

    # What lives now lives for good: the collector need not walk it, now or at the end.
    gc.freeze()
    gc.enable()
    flags = {
        "data.path": data_path,
        "server.host": host,
        "server.port": port,
        "server.use_tls": tls,
        "server.workers": workers,
    }
    passed, notifier = take_passed_sockets(os.environ), Notifier(os.environ)
    load = partial(read_config, config, flags)
    loaded = load()
    configure_logging(loaded.log)
    if names := passed_over(os.environ):
        _log = get_logger(__name__)
        _log.debug("variables_passed_over", names=names)
    if loaded.store_url is not None:
        from zerocopy.supervise.compose_store import begin_cache, open_store

        open_store(loaded)  # a wrong URL or a missing library stops the start
        begin_cache(loaded)
    raise typer.Exit(Supervisor(loaded, reread=load, passed=passed, notifier=notifier).run())
