"""`zerocopy import` as it is typed: flags, exit codes, one line for each error, a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import typer

from tests.command_line import environment, run
from tests.ingest.by_hand import Row, files_of, found_in, import_

if TYPE_CHECKING:
    from pathlib import Path

T = 1_735_689_600
TEXT = f"time,price\n{T},1.5\n{T + 1},2.5\n"
OPTIONS = ("--exchange=e", "--symbol=S", "--type=T", "--map=price=price")
ROWS = [Row(T * 10**9, {"price": 1.5}), Row((T + 1) * 10**9, {"price": 2.5})]


def test_process_reads_standard_input_and_reports(tmp_path: Path) -> None:
    """The report on standard output, nothing on standard error; no progress bar in a pipe."""
    root = tmp_path / "root"
    done = run(
        ["import", "-", "--root", str(root), *OPTIONS], stdin=None, input=TEXT.encode(), timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"1 file read: 2 rows\n")
    assert b"e/S/T: 2 records of 1 day, 01.01.25\n" in done.stdout
    assert b"\x1b" not in done.stdout
    assert found_in(root, "e", "S", "T") == files_of(ROWS)


def test_fault_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    """Of a process, with the file's name and line."""
    (tmp_path / "a.csv").write_text(TEXT + "x\n", encoding="utf-8")
    done = run(["import", str(tmp_path / "a.csv"), "--root", str(tmp_path / "root"), *OPTIONS])
    assert done.returncode == 1
    assert done.stderr.decode() == (
        f"zerocopy: {tmp_path}/a.csv: line 4: has 1 field, not 2; "
        "nothing of this file is imported\n"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--preset=binance",), "--preset binance: expected one of binance-klines, "),
        (("--map=price",), "--map price: expected NAME=VALUE"),
        (("--map=price=",), "--map price=: expected NAME=VALUE"),
        (("--map=a/b=price",), "--map a/b: expected 1 to 64 letters, digits or"),
        (("--map=a=b", "--map=a=c"), "--map a: is given twice"),
        (("--map=time=t",), "--map time: --time says which column is the time"),
        (("--time=t:h",), "--time t:h: expected s, ms, us, ns or iso, not h"),
        (("--exchange=.x",), "--exchange .x: expected 1 to 64 letters"),
        (("--delimiter=ab",), "--delimiter ab: expected one character, or tab"),
        (("--replace", "--merge"), "--replace and --merge exclude each other"),
    ],
)
def test_flag_that_is_wrong_is_a_usage_error(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    """Exit code 2, before a file is looked for."""
    usage = typer.BadParameter.__mro__[1]
    with pytest.raises(usage) as raised:
        import_(tmp_path / "root", tmp_path / "none.csv", *arguments)
    assert words in str(raised.value)
    assert getattr(raised.value, "exit_code", None) == 2


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("--map=price=price", "which columns? --preset or --map"),
        ("--type=T", "which type? --type"),
        ("--exchange=e", "which exchange? --exchange decides"),
        ("--symbol=S", "which symbol? its name tells none: --symbol decides"),
    ],
)
def test_what_no_file_tells_is_asked_for(tmp_path: Path, missing: str, words: str) -> None:
    """One line that names the flag."""
    (tmp_path / "a.csv").write_text(TEXT, encoding="utf-8")
    options = [option for option in OPTIONS if option != missing]
    done = import_(tmp_path / "root", tmp_path / "a.csv", *options)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert words in done.err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("BTC-USD.csv", "which symbol? BTC or USD of its name?: --symbol decides"),
        ("ohlc.csv", "which symbol? its name tells none"),
    ],
)
def test_name_that_tells_two_symbols_or_none_is_asked_about(
    tmp_path: Path, name: str, words: str
) -> None:
    """It could be either."""
    (tmp_path / name).write_text(TEXT, encoding="utf-8")
    done = import_(tmp_path / "root", tmp_path / name, "--exchange=e", *OPTIONS[2:])
    assert words in done.err


def test_columns_of_a_preset_are_recognised(tmp_path: Path) -> None:
    """Without a flag they are not taken, but told."""
    head = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount"
    (tmp_path / "a.csv").write_text(f"{head}\ne,S,{T}000000,{T}000000,1,buy,1,1\n", "utf-8")
    done = import_(tmp_path / "root", tmp_path / "a.csv", "--time=timestamp")
    assert "which columns? --preset or --map; it looks like --preset tardis-trades" in done.err


def test_two_columns_that_could_be_the_time_are_asked_about(tmp_path: Path) -> None:
    """--time decides."""
    (tmp_path / "a.csv").write_text(f"time,timestamp,price\n{T},{T},1\n", encoding="utf-8")
    done = import_(tmp_path / "root", tmp_path / "a.csv", *OPTIONS)
    assert "which column is the time? time or timestamp: --time or --preset decides" in done.err
    assert import_(tmp_path / "root", tmp_path / "a.csv", *OPTIONS, "--time=time").code == 0


def test_without_polars_the_extra_is_named(tmp_path: Path) -> None:
    """In a Python that cannot find it."""
    code = "import sys; sys.modules['polars'] = None; from zerocopy.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "import", "a.csv", "--root", str(tmp_path)],
        env=environment(PYTHONPATH=os.pathsep.join(sys.path)),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr == b"zerocopy: import needs polars: pip install polars\n"
