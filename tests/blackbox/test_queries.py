"""The cases every user meets first, by name, against the running command over HTTP.

Each is written as plainly as it can be: files by hand, a request, the bytes that must come back.
"""

from __future__ import annotations

import json
import os
import struct
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from tests.server import ForkedServer, RunningServer, write_column

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY_START_S = 1_738_281_600  # 2025-01-31 00:00:00 UTC
TIMES = [DAY_START_S + offset for offset in (10, 20, 20, 30, 40)]
PRICES = [1.5, 2.5, 3.5, 4.5, 5.5]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BTC-USD with five records, ONE with one, EMPTY with empty files, NONE with no file."""
    root = tmp_path_factory.mktemp("data")

    def write(symbol: str, column: str, values: list[Any], code: str) -> None:
        write_column(f"{root}/coinbase/{symbol}/MD/{column}.31.01.25.bin", values, code)

    write("BTC-USD", "time", TIMES, "I")
    write("BTC-USD", "price", PRICES, "f")
    write("BTC-USD", "side", [0, 1, 0, 1, 1], "I")
    write("BTC-USD", "id", [10**12 + index for index in range(5)], "Q")
    write("ONE", "time", [DAY_START_S + 7], "I")
    write("ONE", "price", [9.25], "f")
    write("EMPTY", "time", [], "I")
    write("EMPTY", "price", [], "f")
    os.makedirs(f"{root}/coinbase/NONE/MD")
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[RunningServer]:
    """The command over that root; `id` is declared to be 8 bytes wide."""
    with ForkedServer(root, ZEROCOPY_COLUMNS_id="u8") as running:
        yield running


def target_of(**parameters: str | int) -> str:
    """A request for BTC-USD's whole day unless told otherwise."""
    defaults: dict[str, str | int] = {
        "symbol": "BTC-USD",
        "type": "MD",
        "start": DAY_START_S,
        "end": DAY_START_S + 86_399,
        "columns": "time,price",
    }
    return "/api/data?" + urlencode({**defaults, **parameters})


def ask(server: RunningServer, **parameters: str | int) -> tuple[dict[str, Any], bytes]:
    """The header and the records of a 200."""
    answer = server.get(target_of(**parameters))
    assert answer.status == 200, answer
    line, _, data = answer.content.partition(b"\n")
    header = json.loads(line)
    assert len(data) == sum(column["data_length"] for column in header["columns"])
    return header, data


def times_of(server: RunningServer, start: int, end: int, symbol: str = "BTC-USD") -> list[int]:
    """The seconds, counted from midnight, of the records in a range."""
    header, data = ask(
        server, symbol=symbol, start=DAY_START_S + start, end=DAY_START_S + end, columns="time"
    )
    count = header["columns"][0]["num_records"]
    return [time - DAY_START_S for time in struct.unpack(f"<{count}I", data)]


def refusal(server: RunningServer, status: int, target: str) -> str:
    """The detail of an error."""
    answer = server.get(target)
    assert answer.status == status
    assert answer.fields["content-type"] == "application/problem+json"
    detail: str = json.loads(answer.content)["detail"]
    return detail


def test_parse_valid_parameters(server: RunningServer) -> None:
    """A complete query gives the header and the records of both columns."""
    header, data = ask(server)
    assert header == {
        "columns": [
            {"name": "time", "record_size": 4, "num_records": 5, "data_length": 20, "dtype": "<u4"},
            {
                "name": "price",
                "record_size": 4,
                "num_records": 5,
                "data_length": 20,
                "dtype": "<f4",
            },
        ]
    }
    assert data == struct.pack("<5I5f", *TIMES, *PRICES)


@pytest.mark.parametrize("name", ["symbol", "type", "start", "end", "columns"])
def test_parse_missing_parameter(server: RunningServer, name: str) -> None:
    """Each required parameter is missed by name; `exchange` is not required."""
    target = target_of().replace(f"{name}=", "other=")
    assert f"parameter {name}" in refusal(server, 400, target)


@pytest.mark.parametrize("start", ["abc", "", "-5", "1.5", "4294967296"])
def test_parse_invalid_start(server: RunningServer, start: str) -> None:
    """What is no u32 in digits is refused, and the detail says so."""
    assert "parameter start" in refusal(server, 400, target_of(start=start))


def test_parse_start_after_end(server: RunningServer) -> None:
    """A reversed range is refused."""
    assert "start" in refusal(server, 400, target_of(start=20, end=10))


def test_record_size_of_known_column(server: RunningServer) -> None:
    """A column whose dtype is declared has the width of that dtype."""
    header, data = ask(server, columns="id")
    assert header["columns"][0]["record_size"] == 8
    assert header["columns"][0]["dtype"] == "<u8"
    assert struct.unpack("<5Q", data) == tuple(10**12 + index for index in range(5))


def test_record_size_of_unknown_column(server: RunningServer) -> None:
    """A column nobody declared has records of 4 bytes."""
    header, data = ask(server, columns="side")
    assert header["columns"][0]["record_size"] == 4
    assert header["columns"][0]["dtype"] == "<u4"
    assert struct.unpack("<5I", data) == (0, 1, 0, 1, 1)


def test_start_index_exact(server: RunningServer) -> None:
    """A start that is the time of records begins with the first of them."""
    assert times_of(server, 20, 100) == [20, 20, 30, 40]


def test_start_index_between(server: RunningServer) -> None:
    """A start between two times begins with the later one."""
    assert times_of(server, 21, 100) == [30, 40]


def test_start_index_before(server: RunningServer) -> None:
    """A start before all begins with the first record."""
    assert times_of(server, 0, 100) == [10, 20, 20, 30, 40]


def test_start_index_after(server: RunningServer) -> None:
    """A start after all finds nothing, and that is no error."""
    assert times_of(server, 41, 100) == []


def test_end_index_exact(server: RunningServer) -> None:
    """An end that is the time of records includes all of them."""
    assert times_of(server, 0, 20) == [10, 20, 20]


def test_end_index_between(server: RunningServer) -> None:
    """An end between two times ends with the earlier one."""
    assert times_of(server, 0, 29) == [10, 20, 20]


def test_end_index_before(server: RunningServer) -> None:
    """An end before all finds nothing."""
    assert times_of(server, 0, 9) == []


def test_end_index_after(server: RunningServer) -> None:
    """An end after all ends with the last record."""
    assert times_of(server, 40, 86_399) == [40]


def test_start_and_end_on_one_second(server: RunningServer) -> None:
    """Both ends are inclusive: a range of one second holds every record of it."""
    assert times_of(server, 20, 20) == [20, 20]


def test_single_element(server: RunningServer) -> None:
    """One record: found exactly, from before, up to after, and missed on either side."""
    assert times_of(server, 7, 7, "ONE") == [7]
    assert times_of(server, 0, 86_399, "ONE") == [7]
    assert times_of(server, 0, 6, "ONE") == []
    assert times_of(server, 8, 86_399, "ONE") == []


def test_empty_file(server: RunningServer) -> None:
    """An empty day has no records; the answer is 200 with nothing after the header."""
    header, data = ask(server, symbol="EMPTY")
    assert [column["num_records"] for column in header["columns"]] == [0, 0]
    assert data == b""
    assert "skipped" not in header


def test_nonexistent_file(server: RunningServer) -> None:
    """No such symbol, type or column is 404; a day without any file has no records."""
    assert "symbol" in refusal(server, 404, target_of(symbol="GONE"))
    assert "type" in refusal(server, 404, target_of(type="GONE"))
    assert "column" in refusal(server, 404, target_of(columns="time,gone"))
    assert "column" in refusal(server, 404, target_of(symbol="NONE"))
    assert ask(server, start=0, end=5)[1] == b""


def test_several_columns(server: RunningServer) -> None:
    """One after the other in the order of the request, each of its own width, all aligned."""
    header, data = ask(server, start=DAY_START_S + 20, end=DAY_START_S + 30, columns="id,side,time")
    assert [column["name"] for column in header["columns"]] == ["id", "side", "time"]
    assert [column["data_length"] for column in header["columns"]] == [24, 12, 12]
    ids, sides, times = data[:24], data[24:36], data[36:]
    assert struct.unpack("<3Q", ids) == (10**12 + 1, 10**12 + 2, 10**12 + 3)
    assert struct.unpack("<3I", sides) == (1, 0, 1)
    assert struct.unpack("<3I", times) == tuple(TIMES[1:4])
