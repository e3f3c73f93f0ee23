"""`python -m bench.client_ways WAY URL TARGET SMALL CA`: one way into a table, in its own process.

For each line on standard input it fetches the target once, and prints seconds, processor seconds,
bytes of memory beyond what it had before, and a checksum, as JSON. Its first word is "ready", after
SMALL was fetched, which loads what it needs.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import ssl
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable

READ_BYTES_MAX = 1 << 30


def bare(url: str, ca: str) -> Callable[[str], Any]:
    """The reference: recv_into fresh memory of huge pages, and numpy over it; no table."""
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 0
    sock = socket.create_connection((host, port))
    if url.startswith("https"):
        context = ssl.create_default_context(cafile=ca)
        sock = context.wrap_socket(sock, server_hostname=host)

    def fetch(target: str) -> Any:
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        data = b""
        while b"\n" not in data.partition(b"\r\n\r\n")[2]:
            data += sock.recv(1 << 16)
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        with memoryview(mmap.mmap(-1, length, flags=flags)) as memory:
            memory.obj.madvise(mmap.MADV_HUGEPAGE)  # type: ignore[attr-defined]
            memory[: len(body)] = body
            at = len(body)
            while at < length:
                at += sock.recv_into(memory[at : at + READ_BYTES_MAX])
            return columns_of(memory.obj)

    return fetch


def ours(url: str, ca: str) -> Callable[[str], Any]:
    """This project's client."""
    from zerocopy.client import Client  # noqa: PLC0415 - of the way that is measured

    client = Client(url, ca=ca or None)

    def fetch(target: str) -> Any:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
        frame = client.data(
            asked["symbol"],
            asked["columns"],
            type=asked["type"],
            start=int(asked["start"]),
            end=int(asked["end"]) + 1,
        )
        return frame.to_polars()

    return fetch


def by_httpx(url: str, ca: str) -> Callable[[str], Any]:
    """httpx, and numpy by hand."""
    import httpx  # noqa: PLC0415 - of the way that is measured

    verify = ssl.create_default_context(cafile=ca) if ca else True
    client = httpx.Client(base_url=url, verify=verify, timeout=60)
    return lambda target: pl.DataFrame(columns_of(client.get(target).content))


def by_requests(url: str, ca: str) -> Callable[[str], Any]:
    """requests, and numpy by hand."""
    import requests  # noqa: PLC0415 - of the way that is measured

    session = requests.Session()

    def fetch(target: str) -> Any:
        # Given here, for the environment's REQUESTS_CA_BUNDLE wins over the session's.
        response = session.get(url + target, timeout=60, verify=ca or True)
        return pl.DataFrame(columns_of(response.content))

    return fetch


def by_parquet(url: str, _ca: str) -> Callable[[str], Any]:
    """pandas.read_parquet over HTTP; the server computes the file once."""
    import pandas as pd  # type: ignore[import-untyped]  # noqa: PLC0415 - of the way that is measured

    return lambda target: pl.from_pandas(pd.read_parquet(f"{url}{target}&format=parquet"))


def by_flight(url: str, _ca: str) -> Callable[[str], Any]:
    """Arrow Flight by pyarrow; the target is how many days."""
    from pyarrow import flight  # type: ignore[import-untyped]  # noqa: PLC0415 - as above

    client = flight.connect(url)
    return lambda target: pl.from_arrow(
        client.do_get(flight.Ticket(target.encode())).read_all(), rechunk=False
    )


def columns_of(body: Any) -> dict[str, Any]:
    """The columns of an answer, as views."""
    head = bytes(memoryview(body)[:4_096])
    end = head.index(b"\n") + 1
    columns = {}
    for told in json.loads(head[:end])["columns"]:
        columns[told["name"]] = np.frombuffer(body, told["dtype"], told["num_records"], end)
        end += told["data_length"]
    return columns


def memory_bytes(field: str) -> int:
    """`VmRSS` or `VmHWM` of this process."""
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(field):
                return int(line.split()[1]) << 10
    raise AssertionError(field)


def measure(fetch: Callable[[str], Any], target: str) -> dict[str, float]:
    """One fetch."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    before = memory_bytes("VmRSS")
    cpu_s, begun_s = time.process_time(), time.perf_counter()
    table = fetch(target)
    took = {"seconds": time.perf_counter() - begun_s, "cpu_s": time.process_time() - cpu_s}
    took["bytes"] = memory_bytes("VmHWM") - before
    price = np.asarray(table["price"])
    return took | {"sum": int(price.view(np.uint32).sum(dtype=np.uint64)), "records": len(price)}


WAYS = {
    "bare": bare,
    "ours": ours,
    "httpx": by_httpx,
    "requests": by_requests,
    "flight": by_flight,
    "parquet": by_parquet,
}


def main(way: str, url: str, target: str, small: str, ca: str) -> None:
    """Serve standard input."""
    if ca:
        os.environ["SSL_CERT_FILE"] = ca  # for pandas, which asks by urllib
    fetch = WAYS[way](url, ca)
    fetch(small)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(measure(fetch, target)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
