"""Programs that nobody here wrote read the formats: apache-arrow for JavaScript, LibreOffice."""

from __future__ import annotations

import base64
import json
import math
import os
import shutil
import struct
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree as ET

import pytest

from tests.formats.readers import columns_of, text_of, values_of
from tests.naive import naive_answer
from tests.server import ForkedServer, RunningServer
from tests.storage.trees import DAY, DAY_START_S, DTYPES, SERIES, U32_MAX, age, marks, put, u32
from tests.web import node
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MARKET_DATA = Path(__file__).resolve().parents[3] / "shared" / "market-data"
COLUMNS = ("time", "price", "id", "order")
RECORDS = 70_001
"""Of a day: more than a record batch holds, and no multiple of anything."""

SHEET_RECORDS = 1_000

ARROW_JS = """\
const [from, ...urls] = process.argv.slice(1);
const { tableFromIPC } = require("node:module").createRequire(from)("apache-arrow");
(async () => {
  for (const url of urls) {
    const table = await tableFromIPC(fetch(url));
    const columns = table.schema.fields.map((field) => {
      const column = table.getChild(field.name);
      const values = column.toArray();
      const bytes = ArrayBuffer.isView(values)
        ? Buffer.from(values.buffer, values.byteOffset, values.byteLength)
        : Buffer.concat([...column]);
      return [field.name, {
        type: String(field.type), nulls: column.nullCount, unit: field.metadata.get("unit") ?? null,
        count: column.length, bytes: bytes.toString("base64") }];
    });
    console.log(JSON.stringify({ rows: table.numRows, columns,
      symbol: table.schema.metadata.get("symbol"),
      skipped: table.schema.metadata.get("skipped") ?? null }));
  }
})();
"""

ARROW_JS_TYPES = {"<u4": "Uint32", "<f4": "Float32", "<u8": "Uint64", "|S16": "FixedSizeBinary[16]"}

OFFICE = "urn:oasis:names:tc:opendocument:xmlns:office:1.0"
TABLE = "urn:oasis:names:tc:opendocument:xmlns:table:1.0"
TEXT = "urn:oasis:names:tc:opendocument:xmlns:text:1.0"
CSV_FILTER = "CSV:44,34,76,1"
"""Commas, quotes, UTF-8, from the first line on."""


@pytest.fixture(name="root", scope="module")
def fixture_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four days, one empty, one without a column, of any prices; beside them what was recorded."""
    root = tmp_path_factory.mktemp("readers")
    for asked in RECORDED.values():
        shutil.copytree(MARKET_DATA.joinpath(*asked.series), root.joinpath(*asked.series))
    for number, count in enumerate((RECORDS, 0, SHEET_RECORDS, RECORDS)):
        begin_s = DAY_START_S + number * 86_400
        columns = {
            "time": u32(*(begin_s + index for index in range(count))),
            "price": struct.pack(f"<{count}I", *(i * 0x9E37_79B1 % 2**32 for i in range(count))),
            "id": marks(count, 8, (1 << 62) + number if number != 2 else 1),
        }
        if number != 3:
            texts = [f'é"{index},\n x'.encode()[: index % 17] for index in range(count)]
            columns["order"] = b"".join(text.ljust(16, b"\0") for text in texts)
        age(*put(str(root), columns, DAY + timedelta(days=number)).values())
    return root


@pytest.fixture(name="server", scope="module")
def fixture_server(root: Path) -> Iterator[RunningServer]:
    """With the dtypes of the root."""
    environ = {"ZEROCOPY_CONFIG": str(root.parent / "config.toml")}
    lines = [f'{name} = "{dtype}"' for name, dtype in DTYPES.items()]
    (root.parent / "config.toml").write_text("\n".join(["[columns]", *lines]), encoding="ascii")
    with ForkedServer(root, **environ) as running:
        yield running


def target(
    name: str,
    start_s: int = 0,
    end_s: int = U32_MAX,
    series: Series = SERIES,
    columns: Sequence[str] = COLUMNS,
) -> str:
    """A request for a format."""
    exchange, symbol, kind = series
    return (
        f"/api/data?exchange={exchange}&symbol={symbol}&type={kind}&columns={','.join(columns)}"
        f"&start={start_s}&end={end_s}&format={name}"
    )


class Asked(NamedTuple):
    """What JavaScript asks for: a series up to an end."""

    series: Series
    columns: tuple[str, ...]
    end_s: int = U32_MAX


MADE = {
    "several days": Asked(SERIES, COLUMNS),
    "one record": Asked(SERIES, COLUMNS, DAY_START_S),
    "no record": Asked(SERIES, COLUMNS, DAY_START_S - 1),
}
RECORDED = {
    "/".join(folder.parts[-3:]): Asked(
        Series(*folder.parts[-3:]),
        tuple(sorted({file.name.split(".", 1)[0] for file in folder.glob("*.bin")})),
    )
    for folder in sorted(MARKET_DATA.glob("*/*/*/"))
}


@pytest.fixture(name="by_arrow_js", scope="module")
def fixture_by_arrow_js(server: RunningServer) -> dict[str, dict[str, Any]]:
    """What apache-arrow for JavaScript read of each answer, streamed by fetch, in one process."""
    asked = {**MADE, **RECORDED}
    urls = (
        f"http://127.0.0.1:{server.port}{target('arrow', 0, end_s, series, columns)}"
        for series, columns, end_s in asked.values()
    )
    lines = node.run("-e", ARROW_JS, f"{node.packages()}/package.json", *urls).splitlines()
    return dict(zip(asked, map(json.loads, lines), strict=True))


@pytest.mark.parametrize("name", MADE)
def test_apache_arrow_for_javascript_reads_every_bit(
    by_arrow_js: dict[str, dict[str, Any]], root: Path, name: str
) -> None:
    """Several days, one record, none; types, metadata and raw values."""
    check_arrow_js(by_arrow_js[name], root, MADE[name])


@pytest.mark.skipif(not RECORDED, reason="../shared/market-data is not there")
def test_apache_arrow_for_javascript_reads_recorded_market_data(
    by_arrow_js: dict[str, dict[str, Any]], root: Path
) -> None:
    """Every series, whole."""
    for name, asked in RECORDED.items():
        check_arrow_js(by_arrow_js[name], root, asked)


def check_arrow_js(found: dict[str, Any], root: Path, asked: Asked) -> None:
    """Fail unless it read what the oracle's answer holds."""
    body = naive_answer(str(root), *asked.series, 0, asked.end_s, asked.columns, DTYPES)
    wanted = columns_of(body)
    assert [name for name, _ in found["columns"]] == list(wanted)
    for name, told in found["columns"]:
        dtype, records = wanted[name]
        assert base64.b64decode(told["bytes"]) == records, name
        assert told["type"] == ARROW_JS_TYPES[dtype]
        assert (told["nulls"], told["count"]) == (0, found["rows"])
        assert told["unit"] == ("s" if name == "time" else None)
    assert found["rows"] == len(wanted["time"][1]) // 4
    assert found["symbol"] == asked.series.symbol
    skipped = json.loads(body.partition(b"\n")[0]).get("skipped")
    assert (found["skipped"] and json.loads(found["skipped"])) == skipped


def sheet_of(path: Path) -> list[list[float | str]]:
    """The cells of the only table of a flat OpenDocument spreadsheet."""
    rows: list[list[float | str]] = []
    for row in ET.parse(path).iter(f"{{{TABLE}}}table-row"):
        cells: list[float | str] = []
        for cell in row.iter(f"{{{TABLE}}}table-cell"):
            kind = cell.get(f"{{{OFFICE}}}value-type")
            lines = ["".join(line.itertext()) for line in cell.iter(f"{{{TEXT}}}p")]
            value = cell.get(f"{{{OFFICE}}}value")
            cells.append(float(value or "") if kind == "float" else "\n".join(lines))
        rows.append(cells)
    return rows


@pytest.mark.slow
def test_libreoffice_reads_the_numbers_of_csv(
    server: RunningServer, root: Path, tmp_path: Path
) -> None:
    """A thousand records: each number to the last bit, what is no number as text."""
    office = shutil.which("soffice")
    if office is None:
        pytest.skip("libreoffice-calc is not installed")
    pytest.importorskip("polars", reason="polars is not installed")
    span = DAY_START_S + 2 * 86_400, DAY_START_S + 3 * 86_400 - 1
    answer = server.get(target("csv", *span))
    assert answer.status == 200, answer.content
    (tmp_path / "ticks.csv").write_bytes(answer.content)
    command = [office, "--headless", f"-env:UserInstallation=file://{tmp_path}/profile"]
    command += [f"--infilter={CSV_FILTER}", "--convert-to", "fods", "--outdir", str(tmp_path)]
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    subprocess.run([*command, str(tmp_path / "ticks.csv")], env=environ, check=True, timeout=50)
    head, *rows = sheet_of(tmp_path / "ticks.fods")
    assert head == list(COLUMNS)
    assert len(rows) == SHEET_RECORDS
    wanted = values_of(naive_answer(str(root), *SERIES, *span, COLUMNS, DTYPES))
    for index, (time_s, price, number, _order) in enumerate(rows):
        assert time_s == wanted["time"][index]
        assert number == wanted["id"][index]
        expected = wanted["price"][index]
        if math.isfinite(expected):
            assert isinstance(price, float)
            # It writes numbers around 1e-14 with 20 decimals.
            is_bare = abs(price - expected) < 1e-20
            assert is_bare or struct.pack("<f", price) == struct.pack("<f", expected)
        else:
            assert str(price) in {"NaN", "inf", "-inf"}
    texts = [text_of(raw) for raw in wanted["order"]]
    for index, row in enumerate(rows):
        if "x" in texts[index] or index % 17 == 3:  # others are cut to what reads as a number
            assert str(row[3]).split() == texts[index].split()
