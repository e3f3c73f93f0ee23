"""The JavaScript client in Node against a running server: what it gets is what the files hold."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.blackbox.chromium import CHROMIUM, Browser, run_page
from tests.certificate import authority
from tests.faults.client import poll
from tests.formats.readers import LETTERS, columns_of
from tests.naive import naive_answer, naive_symbols
from tests.naive_bars import naive_bars_answer
from tests.storage.trees import DAY, DAY_S, DAY_START_S, U32_MAX, put
from tests.web import node
from tests.web.origin import client_page
from tests.web.served import (
    COLUMNS,
    DEADLINE_S,
    DTYPES,
    EXCHANGE,
    LIVE,
    RECORDS,
    append_prices,
    check_columns,
    kill_workers,
    large_dtypes,
    line_of,
    started,
    url_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server import RunningServer


def ask(client_server: RunningServer, *calls: list[Any], pem: str | None = None) -> list[Any]:
    """What the client answers to each call; over TLS, if there is a file of its authority."""
    if pem is None:
        url, trusted = url_of(client_server), {}
    else:
        url, trusted = f"https://localhost:{client_server.tls_port}", {"NODE_EXTRA_CA_CERTS": pem}
    told = json.dumps({"url": url, "calls": calls})
    answers: list[Any] = json.loads(node.run(str(node.HERE / "ask.mjs"), told, **trusted))
    return answers


def check_frame(found: dict[str, Any], body: bytes) -> None:
    """Fail unless the client has what the oracle's answer holds."""
    check_columns(found, columns_of(body))
    header = json.loads(body.partition(b"\n")[0])
    assert found["length"] == header["columns"][0]["num_records"]
    assert found["skipped"] == header.get("skipped", [])
    assert found["intervalS"] == header.get("interval_s")


def test_frames_are_what_the_files_hold(client_root: Path, client_server: RunningServer) -> None:
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
    for (columns, start_s, end_s, last), found in zip(
        queries, ask(client_server, *calls), strict=True
    ):
        body = naive_answer(
            str(client_root), EXCHANGE, "X", "MD", start_s, end_s, columns, DTYPES, last
        )
        check_frame(found, body)


def test_bars_symbols_and_catalog_are_the_servers(
    client_root: Path, client_server: RunningServer, tmp_path: Path
) -> None:
    """Over TLS. Bars equal the oracle's, at a given interval and at one that the server chose."""
    authority().cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    columns = "u2:ohlc,i4:sum+mean+count,u8:high"
    options = {"type": "MD", "start": DAY_START_S, "end": DAY_START_S + DAY_S}
    symbols, catalog, bars, few, missing, wrong = ask(
        client_server,
        ["symbols"],
        ["catalog", "X", {"type": "MD"}],
        ["bars", "X", columns, {**options, "interval": "5m"}],
        ["bars", "X", columns.split(","), {**options, "maxPoints": 10}],
        ["catalog", "NONE"],
        ["data", "X", "time,time", options],
        pem=str(tmp_path / "authority.pem"),
    )
    assert symbols == naive_symbols(str(client_root))
    dtypes = {column["name"]: column["dtype"] for column in catalog["types"]["MD"]["columns"]}
    assert dtypes["u8"] == "<u8"
    assert dtypes["S16"] == "|S16"
    for found, interval, most in ((bars, "5m", 2_000), (few, "auto", 10)):
        body = naive_bars_answer(
            str(client_root), EXCHANGE, "X", "MD", DAY_START_S, DAY_START_S + DAY_S - 1, columns,
            interval, most, DTYPES,
        )  # fmt: skip
        check_frame(found, body)
    assert (missing["name"], missing["status"]) == ("NotFound", 404)
    assert (wrong["name"], wrong["status"]) == ("BadRequest", 400)
    assert "columns" in wrong["detail"]


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_client_on_a_page_of_another_origin(
    client_root: Path, client_server: RunningServer, browser: Browser
) -> None:
    """In Chromium, over TLS, under a strict policy: frames, a resumed body, live streams."""
    count, first = 30, 10
    put(str(client_root), {"time": b"", "price": b""}, DAY, LIVE)
    append_prices(client_root, 0, first)
    options = {"type": "MD"}
    told = {
        "calls": [["symbols"], ["data", "X", COLUMNS, options], ["catalog", "NONE"]],
        "download": ["LARGE", "time,u8", options],
        "follow": ["LIVE", ["time", "price"], {**options, "start": 0}, count],
    }
    address = f"127.0.0.1:{client_server.tls_port}"

    read = client_server.metric("zerocopy_live_records_total")

    def kill_then_append() -> None:
        counted = "zerocopy_live_records_total"
        poll(lambda: client_server.metric(counted) >= read + first, "the first", DEADLINE_S)
        kill_workers(client_server)
        append_prices(client_root, first, count - first)

    with (
        client_page(f"https://{address} wss://{address}") as origin,
        ThreadPoolExecutor(1) as threads,
    ):
        writing = threads.submit(kill_then_append)
        found = run_page(browser, origin, "globalThis.run", f"https://{address}", told)
        writing.result()
    symbols, frame, missing = found["answers"]
    assert symbols["symbols"] == naive_symbols(str(client_root))["symbols"]
    check_frame(
        frame, naive_answer(str(client_root), EXCHANGE, "X", "MD", 0, U32_MAX, COLUMNS, DTYPES)
    )
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


def test_what_users_write_compiles_and_runs(client_server: RunningServer) -> None:
    """TypeScript at its strictest: every public name, and what must not compile; then it runs."""
    folder = node.packages()
    tsc = f"{folder}/node_modules/typescript/bin/tsc"
    node.run(tsc, "--project", str(node.HERE), "--outDir", folder)
    refused, found = node.run(f"{folder}/user.js", url_of(client_server)).splitlines()
    assert refused == "404 null symbol NONE: does not exist NotFound"
    assert json.loads(found) == [
        len(COLUMNS), "<u4", "2025-01-31", 1, True, "bigint", True, 16, 7, True,
        ["time", "price", "u8", "S16"], 4, 5, 16, 300, "19700101.0", True,
    ]  # fmt: skip


def test_examples_of_the_page_run(client_server: RunningServer, tmp_path: Path) -> None:
    """The first two of docs/client-javascript.md, over a series that is there."""
    page = (node.REPOSITORY / "docs" / "client-javascript.md").read_text("utf-8")
    blocks = re.findall(r"```js\n(.*?)```", page, re.DOTALL)
    script = "".join(blocks[:2])
    for written, here in (
        ("https://data.example.com/ui/zerocopy.js", str(node.MODULE)),
        ("https://data.example.com", url_of(client_server)),
        ("…", "key"), ("BTC-USD", "X"), ('"2025-01-01"', "0"), ("2025-02-01", "2025-02-02"),
        ("volume:sum", "u2:sum"),
    ):  # fmt: skip
        assert written in script
        script = script.replace(written, here)
    (tmp_path / "page.mjs").write_text(script, "utf-8")
    data, bars = node.run(str(tmp_path / "page.mjs")).splitlines()
    assert data.startswith(f"{2 * RECORDS} 2025-01-31T00:00:00.000Z ")
    assert re.fullmatch(r"3600 [0-9.e+-]+|3600 NaN", bars)


def test_clients_of_npm_get_each_record_once(
    client_root: Path, client_server: RunningServer
) -> None:
    """`ws` and `eventsource`, which nobody here wrote, over the death of a worker."""
    count, first = 20, 10
    put(str(client_root), {"time": b"", "price": b""}, DAY, LIVE)
    append_prices(client_root, 0, first)
    target = f"{url_of(client_server)}/api/live?symbol=LIVE&type=MD&columns=time,price"
    script = [str(node.HERE / "packages.mjs"), f"{node.packages()}/package.json"]
    with started(*script, target, str(count)) as process:
        read = {"ws": 0, "eventsource": 0}
        while min(read.values()) < first:
            name, rows = line_of(process)
            read[name] = rows
        kill_workers(client_server)
        append_prices(client_root, first, count - first)
        while isinstance((found := line_of(process))[0], str):
            pass
    wanted = [[DAY_START_S + each, each] for each in range(count)]
    assert found == [{"rows": wanted, "code": 1000}, {"rows": wanted}]


def test_letters_of_every_dtype_are_covered() -> None:
    """The root has a column of each dtype that the contract names."""
    numbers = {"f4", "u4", *(name for name in DTYPES if name[0] != "S")}
    assert numbers == set(LETTERS)
