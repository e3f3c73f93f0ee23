"""The JavaScript client in Node against a running server: what it gets is what the files hold."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.blackbox.chromium import CHROMIUM, chromium, run_page
from tests.certificate import authority
from tests.faults.client import poll
from tests.formats.readers import LETTERS, columns_of
from tests.naive import naive_answer, naive_symbols
from tests.naive_bars import naive_bars_answer
from tests.server import RunningServer
from tests.storage.trees import (
    DAY,
    DAY_S,
    DAY_START_S,
    U32_MAX,
    age,
    append,
    marks,
    path_of,
    put,
    u32,
)
from tests.web import node
from tests.web.origin import client_page
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path
    from subprocess import Popen

DTYPES = {name: name for name in ("u8", "f8", "i4", "i8", "u2", "i2", "u1", "i1", "S16", "S3")}
"""A column of each dtype, named like it."""

COLUMNS = ("time", "price", "u1", "S3", *(name for name in DTYPES if name not in {"u1", "S3"}))
"""Those of odd sizes first: what follows them is aligned only by the client."""

RECORDS = 1_001
EXCHANGE, LARGE = "coinbase", Series("coinbase", "LARGE", "MD")
LARGE_RECORDS = 2_000_000
LIVE = Series("coinbase", "LIVE", "MD")
DEADLINE_S = 40.0


@pytest.fixture(name="root", scope="module")
def fixture_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days of bits of any kind, the second of which lacks a column; and a large one."""
    root = tmp_path_factory.mktemp("web")
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
    return root


def large_columns() -> dict[str, bytes]:
    """More than the buffers of a connection hold: 24 MB."""
    return {"time": u32(DAY_START_S) * LARGE_RECORDS, "u8": marks(2 * LARGE_RECORDS)}


def large_dtypes() -> dict[str, tuple[str, bytes]]:
    """The same, with the dtype of each."""
    return {
        name: (f"<{name if name == 'u8' else 'u4'}", content)
        for name, content in large_columns().items()
    }


@pytest.fixture(name="server", scope="module")
def fixture_server(root: Path) -> Iterator[RunningServer]:
    """One worker, so that a test knows which one to kill."""
    config = root.parent / f"{root.name}.toml"
    lines = [f'{name} = "{dtype}"' for name, dtype in DTYPES.items()]
    config.write_text("\n".join(["[columns]", *lines]), encoding="ascii")
    with RunningServer(
        root,
        ZEROCOPY_CONFIG=str(config),
        ZEROCOPY_SERVER_WORKERS="1",
        ZEROCOPY_TLS_PORT="0",
    ) as running:
        yield running


def url_of(server: RunningServer) -> str:
    """Where the plain listener is."""
    return f"http://127.0.0.1:{server.port}"


def ask(server: RunningServer, *calls: list[Any], pem: str | None = None) -> list[Any]:
    """What the client answers to each call; over TLS, if there is a file of its authority."""
    if pem is None:
        url, trusted = url_of(server), {}
    else:
        url, trusted = f"https://localhost:{server.tls_port}", {"NODE_EXTRA_CA_CERTS": pem}
    told = json.dumps({"url": url, "calls": calls})
    answers: list[Any] = json.loads(node.run(str(node.HERE / "ask.mjs"), told, **trusted))
    return answers


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


def asking(server: RunningServer, **told: Any) -> AbstractContextManager[Popen[str]]:
    """The client in a process that does what it is told: see `ask.mjs`."""
    return started(str(node.HERE / "ask.mjs"), json.dumps({"url": url_of(server), **told}))


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


def check_frame(found: dict[str, Any], body: bytes) -> None:
    """Fail unless the client has what the oracle's answer holds."""
    check_columns(found, columns_of(body))
    header = json.loads(body.partition(b"\n")[0])
    assert found["length"] == header["columns"][0]["num_records"]
    assert found["skipped"] == header.get("skipped", [])
    assert found["intervalS"] == header.get("interval_s")


def test_frames_are_what_the_files_hold(root: Path, server: RunningServer) -> None:
    """Columns of every dtype, over days, a day that lacks one, one record, none; the newest."""
    second = DAY_START_S + 100
    queries: list[tuple[tuple[str, ...], int, int, int | None]] = [
        (COLUMNS, 0, U32_MAX, None),
        *(((name,), 0, U32_MAX, None) for name in ("S3", "i1", "u8")),
        (("time", "u1", "u8"), DAY_START_S + 50, DAY_START_S + DAY_S + 60, None),
        (("time", "S3", "f8"), second, second, None),
        (("f8", "i1", "time"), DAY_START_S - 9, DAY_START_S - 1, None),
        (("u1", "u2", "time"), 0, U32_MAX, 5),
    ]
    calls = []
    for columns, start_s, end_s, last in queries:
        options = {"type": "MD", "start": start_s, "end": end_s + 1, "last": last}
        calls.append(["data", "X", columns, options])
    for (columns, start_s, end_s, last), found in zip(queries, ask(server, *calls), strict=True):
        body = naive_answer(str(root), EXCHANGE, "X", "MD", start_s, end_s, columns, DTYPES, last)
        check_frame(found, body)


def test_bars_symbols_and_catalog_are_the_servers(
    root: Path, server: RunningServer, tmp_path: Path
) -> None:
    """Over TLS. Bars equal the oracle's, at a given interval and at one that the server chose."""
    authority().cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    columns = "u2:ohlc,i4:sum+mean+count,u8:high"
    options = {"type": "MD", "start": DAY_START_S, "end": DAY_START_S + DAY_S}
    symbols, catalog, bars, few, missing, wrong = ask(
        server,
        ["symbols"],
        ["catalog", "X", {"type": "MD"}],
        ["bars", "X", columns, {**options, "interval": "5m"}],
        ["bars", "X", columns.split(","), {**options, "maxPoints": 10}],
        ["catalog", "NONE"],
        ["data", "X", "time,time", options],
        pem=str(tmp_path / "authority.pem"),
    )
    assert symbols == naive_symbols(str(root))
    dtypes = {column["name"]: column["dtype"] for column in catalog["types"]["MD"]["columns"]}
    assert dtypes["u8"] == "<u8"
    assert dtypes["S16"] == "|S16"
    for found, interval, most in ((bars, "5m", 2_000), (few, "auto", 10)):
        body = naive_bars_answer(
            str(root), EXCHANGE, "X", "MD", DAY_START_S, DAY_START_S + DAY_S - 1, columns,
            interval, most, DTYPES,
        )  # fmt: skip
        check_frame(found, body)
    assert (missing["name"], missing["status"]) == ("NotFound", 404)
    assert (wrong["name"], wrong["status"]) == ("BadRequest", 400)
    assert "columns" in wrong["detail"]


def test_a_download_outlives_its_worker(server: RunningServer) -> None:
    """Killed after a third of 24 MB: the rest comes from the next one, and all of it is right."""
    told = ["LARGE", "time,u8", {"type": "MD"}]
    parts = 'zerocopy_requests_total{status="206"}'
    resumed = server.metric(parts)
    with asking(server, download=told) as process:
        line_of(process)
        kill_workers(server)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        found = line_of(process)
    check_columns(found, large_dtypes())
    poll(lambda: server.metric(parts) == resumed + 1, "the rest, counted", DEADLINE_S)


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


@pytest.mark.parametrize(
    "is_socket", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["events", "ws"]
)
def test_a_live_stream_outlives_reload_and_worker(
    root: Path, server: RunningServer, *, is_socket: bool
) -> None:
    """Each record once, in order; by server-sent events, and by the WebSocket of npm's `ws`."""
    piece = 10
    put(str(root), {"time": b"", "price": b""}, DAY, LIVE)
    reloads = len([event for event in server.events() if event["event"] == "reloaded"])

    def reload() -> None:
        os.kill(server.pid, signal.SIGHUP)
        server.logged("reloaded", reloads + 1)

    kill = partial(kill_workers, server)
    disturbances: list[Callable[[], None]] = [kill] if is_socket else [reload, kill]
    count = piece * (len(disturbances) + 1)
    follow = ["LIVE", ["time", "price"], {"type": "MD", "start": 0}, count]
    told = {"follow": follow, "ws": f"{node.packages()}/package.json" if is_socket else None}
    rows = []
    with asking(server, **told) as process:
        for first in range(0, count, piece):
            append_prices(root, first, piece)
            rows += [line_of(process) for _ in range(piece)]
            if disturbances:
                disturbances.pop(0)()
        found = line_of(process)
    assert rows == found["rows"] == [[DAY_START_S + each, each] for each in range(count)]
    assert found["cursor"].endswith(f".{count}")
    assert found["states"].count("open") > 1


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_client_on_a_page_of_another_origin(
    root: Path, server: RunningServer, tmp_path: Path
) -> None:
    """In Chromium, over TLS, under a strict policy: frames, a resumed body, live streams."""
    count, first = 30, 10
    put(str(root), {"time": b"", "price": b""}, DAY, LIVE)
    append_prices(root, 0, first)
    options = {"type": "MD"}
    told = {
        "calls": [["symbols"], ["data", "X", COLUMNS, options], ["catalog", "NONE"]],
        "download": ["LARGE", "time,u8", options],
        "follow": ["LIVE", ["time", "price"], {**options, "start": 0}, count],
    }
    address = f"127.0.0.1:{server.tls_port}"

    read = server.metric("zerocopy_live_records_total")

    def kill_then_append() -> None:
        counted = "zerocopy_live_records_total"
        poll(lambda: server.metric(counted) >= read + first, "the first", DEADLINE_S)
        kill_workers(server)
        append_prices(root, first, count - first)

    with (
        chromium(str(tmp_path)) as browser,
        client_page(f"https://{address} wss://{address}") as origin,
        ThreadPoolExecutor(1) as threads,
    ):
        writing = threads.submit(kill_then_append)
        found = run_page(browser, origin, "globalThis.run", f"https://{address}", told)
        writing.result()
    symbols, frame, missing = found["answers"]
    assert symbols["symbols"] == naive_symbols(str(root))["symbols"]
    check_frame(frame, naive_answer(str(root), EXCHANGE, "X", "MD", 0, U32_MAX, COLUMNS, DTYPES))
    assert missing["name"] == "NotFound"
    check_columns(found["resumed"], large_dtypes())
    assert found["resumed"]["statuses"] == [200, 206]
    assert found["aborted"] == "AbortError"
    rows = [[DAY_START_S + each, each] for each in range(count)]
    assert found["live"]["rows"] == found["events"]["rows"] == rows
    assert found["live"]["states"].count("open") > 1
    assert set(found["sockets"]) == {"/api/live"}
    assert found["origin"] == origin
    assert found["violations"] == []


def test_what_users_write_compiles_and_runs(server: RunningServer) -> None:
    """TypeScript at its strictest: every public name, and what must not compile; then it runs."""
    folder = node.packages()
    tsc = f"{folder}/node_modules/typescript/bin/tsc"
    node.run(tsc, "--project", str(node.HERE), "--outDir", folder)
    refused, found = node.run(f"{folder}/user.js", url_of(server)).splitlines()
    assert refused == "404 null symbol NONE: does not exist NotFound"
    assert json.loads(found) == [
        len(COLUMNS), "<u4", "2025-01-31", 1, True, "bigint", True, 16, 7, True,
        ["time", "price", "u8", "S16"], 4, 5, 16, 300, "19700101.0", True,
    ]  # fmt: skip


def test_examples_of_the_page_run(server: RunningServer, tmp_path: Path) -> None:
    """The first two of docs/client-javascript.md, over a series that is there."""
    page = (node.REPOSITORY / "docs" / "client-javascript.md").read_text("utf-8")
    blocks = re.findall(r"```js\n(.*?)```", page, re.DOTALL)
    script = "".join(blocks[:2])
    for written, here in (
        ("https://data.example.com/ui/zerocopy.js", str(node.MODULE)),
        ("https://data.example.com", url_of(server)),
        ("…", "key"), ("BTC-USD", "X"), ('"2025-01-01"', "0"), ("2025-02-01", "2025-02-02"),
        ("size:sum", "u2:sum"),
    ):  # fmt: skip
        assert written in script
        script = script.replace(written, here)
    (tmp_path / "page.mjs").write_text(script, "utf-8")
    data, bars = node.run(str(tmp_path / "page.mjs")).splitlines()
    assert data.startswith(f"{2 * RECORDS} 2025-01-31T00:00:00.000Z ")
    assert re.fullmatch(r"3600 [0-9.e+-]+|3600 NaN", bars)


def test_clients_of_npm_get_each_record_once(root: Path, server: RunningServer) -> None:
    """`ws` and `eventsource`, which nobody here wrote, over the death of a worker."""
    count, first = 20, 10
    put(str(root), {"time": b"", "price": b""}, DAY, LIVE)
    append_prices(root, 0, first)
    target = f"{url_of(server)}/api/live?symbol=LIVE&type=MD&columns=time,price"
    script = [str(node.HERE / "packages.mjs"), f"{node.packages()}/package.json"]
    with started(*script, target, str(count)) as process:
        read = {"ws": 0, "eventsource": 0}
        while min(read.values()) < first:
            name, rows = line_of(process)
            read[name] = rows
        kill_workers(server)
        append_prices(root, first, count - first)
        while isinstance((found := line_of(process))[0], str):
            pass
    wanted = [[DAY_START_S + each, each] for each in range(count)]
    assert found == [{"rows": wanted, "code": 1000}, {"rows": wanted}]


def test_letters_of_every_dtype_are_covered() -> None:
    """The root has a column of each dtype that the contract names."""
    numbers = {"f4", "u4", *(name for name in DTYPES if name[0] != "S")}
    assert numbers == set(LETTERS)
