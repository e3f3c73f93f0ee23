"""`zerocopy tail` prints each record once, until it is told to end."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.command_line import environment, started
from tests.commands.client.conftest import DAY, write_day
from zerocopy.core.layout import DAY_S, file_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.commands.client.conftest import Done, Place

    Run = Callable[..., Done]

SECOND = DAY * DAY_S


def append(folder: Path, times: list[int], prices: list[float]) -> None:
    """Some records, as a recorder writes them."""
    for name, values in (("price", np.array(prices, "<f4")), ("time", np.array(times, "<u4"))):
        with open(folder / file_name(name, DAY), "ab") as file:
            file.write(values.tobytes())


ENDING = "the day comes again, from 20241004.0\n"


def make(place: Place, symbol: str) -> Path:
    """A symbol of two records; its folder."""
    columns = {
        "time": np.array([SECOND, SECOND + 1], "<u4"),
        "price": np.array([1.5, np.nan], "<f4"),
    }
    write_day(place.root, "MD", DAY, columns, symbol=symbol)
    return place.root / "coinbase" / symbol / "MD"


def test_tail_ends_once_nobody_reads(place: Place) -> None:
    """Not with the next record: `tail X | head -2` gives the prompt back."""
    make(place, "HEAD")
    with started(
        ["tail", "HEAD", "--cursor=20241004.0", "--format=csv"],
        env=environment(ZEROCOPY_URL=place.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"time,price\n"
        assert process.stdout.readline().endswith(b",1.5\n")
        process.stdout.close()
        assert process.wait(timeout=30) == 0
        assert process.stderr.read() == b""


def test_tail_prints_what_is_appended_until_ctrl_c(place: Place) -> None:
    """From the cursor on, a line a record; a reset is told, and the end is no failure."""
    folder = make(place, "TAIL")
    with started(
        ["tail", "TAIL", "--cursor", "20241004.1"],
        env=environment(ZEROCOPY_URL=place.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        out, err = process.stdout, process.stderr
        assert out is not None
        assert err is not None
        assert [out.readline(), out.readline()] == ["time,price\n", f"{SECOND + 1},NaN\n"]
        append(folder, [SECOND + 2, SECOND + 2], [2.5, 1e-7])
        assert [out.readline(), out.readline()] == [f"{SECOND + 2},2.5\n", f"{SECOND + 2},1e-07\n"]
        paths = [folder / file_name(name, DAY) for name in ("price", "time")]
        for path in paths:
            path.with_suffix(".fresh").write_bytes(path.read_bytes()[:4])
        for path in paths:
            path.with_suffix(".fresh").rename(path)
        told = err.readline()
        assert told.startswith("zerocopy: ")
        assert told.endswith(ENDING)
        again = out.readline()
        assert again == f"{SECOND},1.5\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        # Where it saw one file replaced before the other, the day came twice.
        assert all(line.endswith(ENDING) for line in err.read().splitlines(keepends=True))
        assert set(out.read().splitlines(keepends=True)) <= {again}


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("csv", f"price,time\n1.5,{SECOND}\n"),
        ("json", f'{{"price":1.5,"time":{SECOND}}}\n'),
        ("text", "price                 time\n  1.5  2024-10-04T00:00:00\n"),
    ],
)
def test_tail_ends_before_the_record_at_its_end(
    zerocopy: Run, place: Place, form: str, expected: str
) -> None:
    """In every form: with `--to` it prints a range and ends."""
    make(place, "ENDS")
    span = ("--from=2024-10-04", "--to", str(SECOND + 1))
    done = zerocopy("tail", "ENDS", "--columns=price,time", "--format", form, *span)
    assert done == (0, expected.encode(), "")


def test_tail_json_has_null_for_what_is_no_number(zerocopy: Run, place: Place) -> None:
    """NaN is none in JSON; the time that `--to` needs is not printed unasked."""
    folder = make(place, "NULLS")
    append(folder, [SECOND + 5], [3.0])
    span = ("--from=2024-10-04", "--to", str(SECOND + 5))
    done = zerocopy("tail", "NULLS", "--columns=price", "--format=json", *span)
    assert [json.loads(line) for line in done.out.splitlines()] == [{"price": 1.5}, {"price": None}]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--format=xml",), 2, "--format: xml must be one of text, csv, json"),
        (("--cursor=20241004.1", "--from=2024-10-04"), 2, "--cursor, --from: give one of them"),
        (("--cursor=nonsense",), 1, "from"),
        (("--columns=nope", "--type=MD"), 1, "column nope"),
        (("--url=http://127.0.0.1:1",), 1, "nothing listens there"),
    ],
)
def test_tail_errors_are_one_line(
    zerocopy: Run, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """2 for wrong usage, 1 for what failed."""
    done = zerocopy("tail", "ETH-USD", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (code, b"", 1), done
    assert words in done.err.lower()
