"""The server in the virtual machine: every response over TLS is that of the plain listener.

`python -m tests.ktls -m tests.ktls.guest.serve` prints one line of JSON a request: status, length
and hash of the body, and what differs. Then what the server and the kernel counted. Arguments
NAME=VALUE are options of the server, as environment variables. It serves DATA, or a few ticks.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import sys
import tempfile
from typing import TYPE_CHECKING

import tests.server
from tests.certificate import client_context
from tests.server import RunningServer
from tests.ticks import END_S, make_ticks, small_end_s, ticks_target

if TYPE_CHECKING:
    from collections.abc import Mapping

DATA = "/data"
"""Days of `tests.ticks` that the host made, RECORDS_PER_DAY each."""

RECORDS_PER_DAY = 200_000
FEW_PER_DAY = 20_000
TIMEOUT_S = 120.0
"""An emulated processor, on a machine that has other work."""

REQUESTS: dict[str, tuple[str, dict[str, str]]] = {
    "small": (ticks_target(end_s=small_end_s(RECORDS_PER_DAY)), {}),
    "whole": (ticks_target(), {}),
    "one column": (ticks_target(columns="price"), {}),
    "range": (ticks_target(), {"Range": "bytes=100001-400000"}),
    "beyond": (ticks_target(start_s=END_S + 1), {}),
    "symbols": ("/api/symbols", {}),
    "error": ("/api/data?symbol=", {}),
}

Fetched = tuple[int, dict[str, str], bytes]


def fetch_all(connection: http.client.HTTPConnection) -> dict[str, Fetched]:
    """Each of `REQUESTS`, all on this connection."""
    found = {}
    for name, (target, fields) in REQUESTS.items():
        connection.request("GET", target, headers=fields)
        response = connection.getresponse()
        of_connection = {"date", "cf-ray", "server-timing", "alt-svc"}
        names = {key.lower(): value for key, value in response.getheaders()}
        kept = {key: value for key, value in names.items() if key not in of_connection}
        found[name] = response.status, kept, response.read()
    connection.close()
    return found


def kernel_counters() -> dict[str, int]:
    """What the kernel counts of TLS; nothing where it has no such module."""
    try:
        with open("/proc/net/tls_stat", encoding="ascii") as file:
            return {name: int(count) for name, count in map(str.split, file)}
    except FileNotFoundError:
        return {}


def main(options: Mapping[str, str]) -> None:
    """Print what was compared and counted."""
    tests.server.START_TIMEOUT_S = tests.server.STOP_TIMEOUT_S = TIMEOUT_S
    root = DATA
    if not os.path.isdir(DATA):
        root = tempfile.mkdtemp()
        make_ticks(root, FEW_PER_DAY)
    environ = {
        "ZEROCOPY_TLS_PORT": "0",
        "ZEROCOPY_SERVER_START_DEADLINE_S": str(TIMEOUT_S),
        "PYTHONPATH": os.environ["PYTHONPATH"],
        **options,
    }
    with RunningServer(root, **environ) as server:
        plain = fetch_all(http.client.HTTPConnection("127.0.0.1", server.plain_port, TIMEOUT_S))
        encrypted = fetch_all(
            http.client.HTTPSConnection(
                "127.0.0.1",
                server.tls_port,
                timeout=TIMEOUT_S,
                context=client_context(["http/1.1"]),
            )
        )
        for name, (status, fields, body) in plain.items():
            differences = [
                what
                for what, one, other in zip(
                    ("status", "fields", "body"), plain[name], encrypted[name], strict=True
                )
                if one != other
            ]
            told = {
                "status": status,
                "bytes": len(body),
                "sha256": hashlib.sha256(body).hexdigest(),
                "differences": differences,
            }
            print(json.dumps({name: told}), flush=True)
            if differences:
                print(name, fields, encrypted[name][:2], file=sys.stderr)
        sent = {
            path: server.metric(f'zerocopy_sent_bytes_total{{path="{path}"}}')
            for path in ("sendfile", "copy")
        }
        encrypted_by_kernel = server.metric("zerocopy_kernel_tls_connections_total")
        print(json.dumps({"sent": sent, "connections": encrypted_by_kernel}))
        print(json.dumps({"kernel": kernel_counters()}))
        print(server.log_text(), file=sys.stderr)


if __name__ == "__main__":
    main(dict(argument.split("=", 1) for argument in sys.argv[1:]))
