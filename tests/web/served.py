"""The server that the JavaScript client asks here: its data, its deaths, and clients in Node.

Owns a root of bits of any kind, and how a script of Node is told what to ask.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import struct
import subprocess
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from tests.faults.client import poll
from tests.storage.trees import DAY, DAY_S, DAY_START_S, age, append, marks, path_of, put, u32
from tests.web import node
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path
    from subprocess import Popen

    from tests.server import RunningServer

DTYPES = {name: name for name in ("u8", "f8", "i4", "i8", "u2", "i2", "u1", "i1", "S16", "S3")}
"""A column of each dtype, named like it."""

COLUMNS = ("time", "price", "u1", "S3", *(name for name in DTYPES if name not in {"u1", "S3"}))
"""Those of odd sizes first: what follows them is aligned only by the client."""

RECORDS = 1_001
EXCHANGE, LARGE = "coinbase", Series("coinbase", "LARGE", "MD")
LARGE_RECORDS = 2_000_000
LIVE = Series("coinbase", "LIVE", "MD")
DEADLINE_S = 40.0


def config_of(root: Path) -> Path:
    """The configuration that declares the dtypes of the root, beside it."""
    return root.parent / f"{root.name}.toml"


def make_root(root: Path) -> None:
    """Three days of bits of any kind, the second of which lacks a column; and a large one."""
    rng = random.Random(17)
    for number in range(3):
        begin_s = DAY_START_S + number * DAY_S
        columns = {"time": u32(*(begin_s + index * 7 // 3 for index in range(RECORDS)))}
        columns["price"] = rng.randbytes(4 * RECORDS)
        for name in DTYPES:
            columns[name] = rng.randbytes(int(name[1:]) * RECORDS)
        if number == 1:
            del columns["S16"]
        age(*put(str(root), columns, DAY + timedelta(days=number)).values())
    age(*put(str(root), large_columns(), DAY, LARGE).values())
    put(str(root), {"time": b"", "price": b""}, DAY, LIVE)
    lines = [f'{name} = "{dtype}"' for name, dtype in DTYPES.items()]
    config_of(root).write_text("\n".join(["[columns]", *lines]), encoding="ascii")


@cache
def large_columns() -> dict[str, bytes]:
    """More than the buffers of a connection hold: 24 MB."""
    return {"time": u32(DAY_START_S) * LARGE_RECORDS, "u8": marks(2 * LARGE_RECORDS)}


def large_dtypes() -> dict[str, tuple[str, bytes]]:
    """The same, with the dtype of each."""
    return {
        name: (f"<{name if name == 'u8' else 'u4'}", content)
        for name, content in large_columns().items()
    }


def url_of(server: RunningServer) -> str:
    """Where the plain listener is."""
    return f"http://127.0.0.1:{server.port}"


@contextmanager
def started(*arguments: str) -> Iterator[Popen[str]]:
    """A script that prints lines and may wait for input."""
    with subprocess.Popen(
        node.command(*arguments),
        env=node.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def asking(url: str, **told: Any) -> AbstractContextManager[Popen[str]]:
    """The client in a process that does what it is told: see `ask.mjs`."""
    return started(str(node.HERE / "ask.mjs"), json.dumps({"url": url, **told}))


def line_of(process: Popen[str]) -> Any:
    """The next line that a client prints, as JSON."""
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def check_columns(found: dict[str, Any], wanted: Mapping[str, tuple[str, bytes]]) -> None:
    """Fail unless the client has these columns, to the bit."""
    assert [name for name, _, _ in found["columns"]] == list(wanted)
    for name, dtype, digest in found["columns"]:
        assert dtype == wanted[name][0], name
        assert digest == hashlib.sha256(wanted[name][1]).hexdigest(), name


def kill_workers(server: RunningServer) -> None:
    """The death of all workers, of a generation that drains too; it returns when others live."""
    old = set(server.worker_pids())
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    poll(lambda: bool(set(server.worker_pids()) - old), "another worker", DEADLINE_S)


def append_prices(root: Path, first: int, count: int) -> None:
    """Records of `LIVE`, whose prices count."""
    numbers = range(first, first + count)
    append(path_of(str(root), "price", DAY, LIVE), struct.pack(f"<{count}f", *numbers))
    append(path_of(str(root), "time", DAY, LIVE), u32(*(DAY_START_S + each for each in numbers)))
