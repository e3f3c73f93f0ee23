"""CSV as it is found: every line counts, and none is shifted, split or guessed at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.ingest.by_hand import Done, Row, files_of, found_in, import_
from zerocopy.ingest import csvtext

if TYPE_CHECKING:
    from pathlib import Path

T = 1_735_689_600


def run(tmp_path: Path, content: bytes | str, *options: str) -> Done:
    """Import a file of the columns time and price."""
    file = tmp_path / "a.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    mapped = () if any(option.startswith("--map") for option in options) else ("--map=price=price",)
    return import_(
        tmp_path / "root", file, "--exchange=e", "--symbol=S", "--type=T", *mapped, *options
    )


def rows(*prices: float) -> dict[str, bytes]:
    """What comes of these prices, one a second."""
    return files_of(Row((T + at) * 10**9, {"price": price}) for at, price in enumerate(prices))


@pytest.mark.parametrize(
    "text",
    [
        f"time,price\n{T},1.5\n{T + 1},2.5\n",
        f"time,price\n{T},1.5\n{T + 1},2.5",
        f"\ufefftime,price\n{T},1.5\n{T + 1},2.5\n",
        f"time,price\r\n{T},1.5\r\n{T + 1},2.5\r\n",
        f"\n\r\ntime,price\n\n{T},1.5\n\n\r\n\n{T + 1},2.5\n\n",
        f'"time","price"\n"{T}","1.5"\n"{T + 1}",2.5\n',
        f"time;price\n{T};1.5\n{T + 1};2.5\n",
        f"time\tprice\n{T}\t1.5\n{T + 1}\t2.5\n",
        f"time|price\n{T}|1.5\n{T + 1}|2.5\n",
        f" time , price\n {T} , 1.5\n{T + 1},2.5 \n",
        f"time,price\n{T},15e-1\n{T + 1},2.5E+00\n",
        f",time,price\n0,{T},1.5\n1,{T + 1},2.5\n",
        f'time,price,note\n{T},1.5,"a, ""b""\nc"\n{T + 1},2.5,é\n',
        f"time,price,note\n{T},1.5,\n{T + 1},2.5,x\n",
    ],
)
def test_each_way_to_write_the_same_rows_is_read_alike(tmp_path: Path, text: str) -> None:
    """BOM, CRLF, blank lines, quotes, blanks, delimiters, exponents, an index, notes."""
    done = run(tmp_path, text)
    assert (done.code, done.err) == (0, "")
    assert found_in(tmp_path / "root", "e", "S", "T") == rows(1.5, 2.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"time,price\n{T},1.5\n\n{T + 1}\n", "line 4: has 1 field, not 2"),
        (f"time,price\n{T},1.5,7\n", "line 2: has 3 fields, not 2"),
        (f"time,price,x\n{T},1.5,7\n{T},1.5\n{T},1.5,7,8\n", "line 3: has 2 fields, not 3"),
        (f"time,price\n{T},1.5\n{T},\0\n", "line 3: holds a NUL byte"),
        (f'time,price\n{T},"1.5\n{T},2.5\n', "line 2"),
        (f"time,price\n{T},1.5\n{T},abc\n", "line 3: price: 'abc' is no number"),
        (f'time,price,x\n{T},1.5,"\n\n"\n{T},abc,\n', "line 5: price: 'abc' is no number"),
        (f"time;price\n{T};1,5\n", "line 2: price: '1,5' is no number (a decimal comma?)"),
        (f'time,price\n{T},"1,234.5"\n', "line 2: price: '1,234.5' is no number"),
        (f"time;price,x\n{T};1.5,3\n", "divided by comma or semicolon: --delimiter decides"),
        (f"time,price,price\n{T},1.5,3\n", "the header names price twice"),
        (f"time,preis\n{T},1.5\n", "has no column price; did you mean preis?"),
        (f"{T},1.5\n", "which column is the time? 1 or 2: --time or --preset decides"),
        (f"time,price\n{T},1.5\ntime,price\n", "line 3: 'time' is no time"),
        (f"time,price\n{T},1.5\n{T + 1},True\n", "line 3: price: 'True' is no number"),
        (f"time,price\n{T},1e39\n", "line 2: price: 1e+39 is too large for f4"),
    ],
)
def test_line_that_is_wrong_is_named_and_nothing_written(
    tmp_path: Path, text: str, words: str
) -> None:
    """One line on standard error; exit code 1."""
    done = run(tmp_path, text)
    assert done.code == 1
    assert words in done.err
    assert done.err.count("\n") == 1
    assert found_in(tmp_path / "root", "e", "S", "T") == {}


def test_text_that_is_not_utf8_is_named_by_its_line(tmp_path: Path) -> None:
    """Latin-1 in a column that is not even taken."""
    done = run(tmp_path, f"time,price,x\n{T},1.5,a\n{T},1.5,\xe9\n".encode("latin-1"))
    assert "line 3: is not UTF-8" in done.err


def test_flags_decide_what_two_readings_leave_open(tmp_path: Path) -> None:
    """The delimiter, and whether there is a header."""
    text = f"a;1,b\n{T};1,b\n"
    assert run(tmp_path, text, "--delimiter=;", "--time=a", "--map=id=1,b").code == 1
    done = run(tmp_path, f"x;{T};1.5\n", "--no-header", "--time=2", "--map=price=3")
    assert (done.code, done.err) == (0, "")
    assert found_in(tmp_path / "root", "e", "S", "T") == rows(1.5)
    done = run(tmp_path, f"2024,1\n{T},1.5\n", "--header", "--time=2024", "--map=price=1")
    assert "1 there already" in done.out


def test_months_with_and_without_a_header_are_one_import(tmp_path: Path) -> None:
    """As Binance's futures are: the header came in between."""
    header = "open_time,open,high,low,close,volume,close_time,quote,count,a,b,ignore\n"
    for month, begin in (("01", 1_735_689_600_000), ("02", 1_738_368_000_000)):
        line = f"{begin},1,2,0.5,1.5,10,{begin + 59_999},15,3,1,1,0\n"
        text = line if month == "01" else header + line
        (tmp_path / f"BTCUSDT-1m-2025-{month}.csv").write_text(text, encoding="utf-8")
    done = import_(tmp_path / "root", f"{tmp_path}/*.csv", "--preset=binance-klines")
    assert (done.code, done.err) == (0, "")
    assert "comma between fields, no header (1 of 2 files)" in done.out
    assert "comma between fields, a header (1 of 2 files)" in done.out
    found = found_in(tmp_path / "root", "binance", "BTCUSDT", "BARS")
    assert sorted(name for name in found if name.startswith("time")) == [
        "time.01.01.25.bin",
        "time.01.02.25.bin",
    ]


@pytest.mark.parametrize("block_bytes", [1, 7, 64, 200])
def test_blocks_end_where_lines_do(
    tmp_path: Path, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a read gives: the rows are the same, and so is the line of a fault."""
    monkeypatch.setattr(csvtext, "BLOCK_BYTES", block_bytes)
    text = "\ufefftime,price,x\r\n" + "".join(
        f'{T + at},{at}.5,"a\n""{at}"""\r\n' + "\n" * (at % 3) for at in range(20)
    )
    done = run(tmp_path, text)
    assert (done.code, done.err) == (0, "")
    assert found_in(tmp_path / "root", "e", "S", "T") == rows(*(at + 0.5 for at in range(20)))
    line = text.count("\n") + 1
    assert f"line {line}: has 2 fields, not 3" in run(tmp_path, f"{text}{T},1.5\n").err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"time,price\r{T},1.5\r", "a.csv: lines end with CR alone; convert it"),
        (f'time,price,"{"x" * 200_000}"\n{T},1.5,1\n', "a.csv: the first line is no CSV: field"),
        (f'time,price\n{T},"{"x" * 200_000}"\n', "a.csv: line 2: is no CSV: field"),
    ],
)
def test_what_the_reader_of_csv_does_not_take_is_a_fault_of_the_file(
    tmp_path: Path, text: str, words: str
) -> None:
    """One line names the file, never a traceback."""
    done = run(tmp_path, text)
    assert done.code == 1
    assert words in done.err
