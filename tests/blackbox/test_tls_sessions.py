"""TLS sessions that a client resumes, as BEHAVIOR.md promises (decision 36)."""

from __future__ import annotations

import os
import signal
import ssl
from typing import TYPE_CHECKING

from tests.certificate import client_context
from tests.faults.client import request_of
from tests.server import ForkedServer, RunningServer, connect_to
from tests.transport.http2.frames import ALIVE

if TYPE_CHECKING:
    from pathlib import Path


def ask_again(
    server: RunningServer, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[bool | None, ssl.SSLSession | None]:
    """Be served on a new connection that offers a session; whether it resumed it, and its own."""
    with context.wrap_socket(
        connect_to(server.tls_port), server_hostname="127.0.0.1", session=session
    ) as sock:
        sock.sendall(request_of("/healthz"))
        received = b""
        while not received.endswith(ALIVE):
            data = sock.recv(4_096)
            assert data, received
            received += data
        return sock.session_reused, sock.session


def test_session_is_resumed_until_the_next_reload(tmp_path: Path) -> None:
    """TLS 1.2 and 1.3, one worker: each connection resumes what the one before it was given.

    Behind a reload none does, and all are served.
    """
    contexts = {}
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        contexts[version] = client_context(["http/1.1"])
        contexts[version].minimum_version = contexts[version].maximum_version = version
    sessions: dict[ssl.TLSVersion, ssl.SSLSession | None] = dict.fromkeys(contexts)
    with ForkedServer(tmp_path, USE_TLS="true") as server:
        for reloads in range(2):
            for version, context in contexts.items():
                for is_known in (False, True, True, True):
                    resumed, sessions[version] = ask_again(server, context, sessions[version])
                    assert resumed == is_known, version
            if not reloads:
                os.kill(server.pid, signal.SIGHUP)
                server.logged("reloaded")
                server.logged("generation_gone")  # until then it may accept one more
