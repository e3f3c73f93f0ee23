"""`zerocopy health`: is the server of this machine ready? A health check without curl or shell.

Owns one request to the main listener and the exit code that follows. It finds the listener where
`serve` does, in config.toml and the environment, so a server that was started with flags is named
by --url instead.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

import typer

from zerocopy.commands.shared import ServeConfigOption, read_config
from zerocopy.core.errors import ConfigError

DEADLINE_S = 3.0
"""Below the 5 s after which Docker, as the Dockerfile says, gives up on a check itself."""

_OK = 200
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound


def health(
    config: ServeConfigOption = None,
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="http(s)://host:port; else the main listener."),
    ] = None,
    alive: Annotated[
        bool, typer.Option("--alive", help="Ask /healthz: it answers; else /readyz: it serves.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, max=60, help="How long all may take.")
    ] = DEADLINE_S,
) -> None:
    """Ask a running server whether it is ready; exit code 1 and one line if it is not."""
    scheme, host, port = _listener(config) if url is None else _parts(url)
    path = "/healthz" if alive else "/readyz"
    status, word = _ask(scheme, host, port, path, timeout)
    if status != _OK:
        typer.echo(f"zerocopy: {scheme}://{host}:{port}{path}: {word}", err=True)
        raise typer.Exit(1)
    typer.echo("alive" if alive else "ready")


def _listener(config: str | None) -> tuple[str, str, int]:
    """Where `serve` with this configuration has its main listener, seen from this machine."""
    loaded = read_config(config)
    listeners = loaded.listeners()
    port = listeners.tls_port if loaded.server.use_tls else listeners.plain_port
    if not port:
        raise ConfigError("the port is any free one (0): name the listener with --url")
    host = seen_from_here(loaded.server.host)
    return "https" if loaded.server.use_tls else "http", host, port


def seen_from_here(host: str) -> str:
    """The address by which this machine reaches a listener bound to `host`."""
    return _ANY_ADDRESS.get(host, host)


def _parts(url: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if scheme not in {"http", "https"} or not host or parts.path.strip("/"):
        raise typer.BadParameter("--url: must be http://host:port or https://host:port")
    return scheme, host, port or (443 if scheme == "https" else 80)


def _ask(scheme: str, host: str, port: int, path: str, timeout_s: float) -> tuple[int, str]:
    """The status, 0 where there is none, and what to say of it; within `timeout_s` in any case.

    A timeout of a socket would begin anew with each byte, and a resolver knows none. So a thread
    asks, and is left behind when its time is over: the process ends soon.
    """
    import queue
    import threading

    outcomes: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()

    def ask() -> None:
        outcomes.put(_exchange(scheme, host, port, path, timeout_s))

    threading.Thread(target=ask, daemon=True).start()
    try:
        return outcomes.get(timeout=timeout_s)
    except queue.Empty:
        return 0, f"no answer within {timeout_s:g} s"


def _exchange(scheme: str, host: str, port: int, path: str, timeout_s: float) -> tuple[int, str]:
    """One request, each step of which may take `timeout_s`."""
    import http.client

    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    if scheme == "https":
        import ssl

        # Whether clients trust the certificate is not asked here: the names in it are those that
        # clients use, and one that was renewed is not served yet before the next SIGHUP.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        answer.read()
    except TimeoutError:
        return 0, f"no answer within {timeout_s:g} s"
    except OSError as error:
        return 0, error.strerror or type(error).__name__
    except http.client.HTTPException as error:
        return 0, f"not an answer of HTTP ({type(error).__name__})"
    except ValueError:  # such as UnicodeError: a label is too long
        return 0, "this is no host name and no address"
    finally:
        connection.close()
    return answer.status, f"status {answer.status}"
