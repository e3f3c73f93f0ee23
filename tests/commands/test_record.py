"""`zerocopy record`: what comes by standard input is in the day files, and what is not is told."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
import typer

from tests.command_line import environment, started
from tests.faults.client import poll
from zerocopy.commands.record import record
from zerocopy.core.errors import ConfigError, IngestError
from zerocopy.ingest.feed import Row
from zerocopy.ingest.recorder import RecorderFullError
from zerocopy.ingest.recorders import Recorders
from zerocopy.ingest.times import EXAMPLES

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

AT_S = 1_748_736_000
LABEL = "01.06.25"
LOST = (
    "zerocopy: price: 1 values lose digits in f4 (16777217 becomes 16777216); "
    'price = "f8" below [columns] of config.toml keeps them'
)


def recording(root: Path, *flags: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """The command, with pipes."""
    arguments = ["record", "--root", str(root), "--exchange", "e", "--type", "T", *flags]
    pipe = subprocess.PIPE
    return started(arguments, stdin=pipe, stdout=pipe, stderr=pipe, env=environment())


def column(root: Path, symbol: str, name: str, code: str) -> list[float]:
    """The values of a day file; none if there is none."""
    path = root / "e" / symbol / "T" / f"{name}.{LABEL}.bin"
    content = path.read_bytes() if path.exists() else b""
    return [*struct.unpack(f"<{len(content) // struct.calcsize(code)}{code}", content)]


def test_rows_go_to_the_files_of_their_symbol_and_refusals_are_told(tmp_path: Path) -> None:
    """Two symbols in turn, one late row, one that is none: exit code 1, all others recorded."""
    lines = [
        f'{{"time":{AT_S},"symbol":"A","price":1.5}}',
        f'{{"time":{AT_S}.25,"symbol":"B","price":"2.5","side":"sell"}}',
        f'{{"time":{AT_S - 1},"symbol":"A","price":9}}',
        '{"time":"x","symbol":"A","price":1}',
        f'{{"time":{AT_S + 1},"symbol":"A","price":16777217}}',
        f'{{"time":{AT_S + 1},"symbol":"A","price":1,"size":3}}',
        f'{{"time":{AT_S + 2},"symbol":"B","side":0,"price":3}}',
    ]
    with recording(tmp_path) as process:
        out, err = process.communicate("\n".join(lines).encode(), timeout=20)
    assert (process.returncode, out) == (1, b"")
    assert err.decode().splitlines() == [
        f"zerocopy: line 4: time: 'x' is no time: {EXAMPLES}",
        "zerocopy: line 6: a row has size, which no column is for",
        "zerocopy: recorded 4 rows of 2 series; 2 do not fit; 1 came too late",
        LOST,
    ]
    assert column(tmp_path, "A", "time", "I") == [AT_S, AT_S + 1]
    assert column(tmp_path, "A", "price", "f") == [1.5, 16_777_216]
    assert column(tmp_path, "B", "nanos", "I") == [250_000_000, 0]
    assert column(tmp_path, "B", "side", "I") == [1, 0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_writes_what_has_come_and_ends_with_0(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Rows are in the files while standard input is open; half a line is no row."""
    with recording(tmp_path, "--flush-ms=1", "--symbol=A", "--reorder-s=60") as process:
        assert process.stdin is not None
        process.stdin.write(f"time,price\n{AT_S},1\n{AT_S + 100},2\n".encode())
        process.stdin.flush()
        poll(lambda: column(tmp_path, "A", "time", "I") == [AT_S], "the row that is due")
        process.stdin.write(f"{AT_S + 99},3\n{AT_S + 200},".encode())
        process.stdin.flush()
        process.send_signal(number)
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b"zerocopy: recorded 3 rows of 1 series\n"
    assert column(tmp_path, "A", "price", "f") == [1, 3, 2]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"format_": "xml"}, "--format xml: expected ndjson or csv"),
        ({"fsync": "often"}, "--fsync often: expected never, flush or seconds"),
        ({"dtype": ["price=f8"]}, 'add to [columns] of config.toml: price = "f8"'),
        ({"time": "t:min"}, "expected s, ms, us, ns or iso, not min"),
        ({"map_": ["price"]}, "--map price: expected NAME=VALUE"),
    ],
)
def test_flags_that_cannot_be_are_told(tmp_path: Path, flags: dict[str, Any], words: str) -> None:
    """Before a row is read, and nothing is made on the disk."""
    with pytest.raises((typer.BadParameter, ConfigError)) as refused:
        record(root=str(tmp_path), config=os.devnull, **flags)
    assert words in str(refused.value)
    assert [*tmp_path.iterdir()] == []


def recorders(root: Path, told: list[str], **options: object) -> Recorders:
    """As the command has them."""
    return Recorders(str(root), {"fsync": "never", **options}, told.append)


def row(symbol: str, number: int) -> Row:
    """One row of a symbol."""
    return Row(("e", symbol, "T"), ("price",), (AT_S * 10**9, float(number)))


def test_a_series_that_another_process_writes_is_refused_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    """The reason comes with the row, each time."""
    (tmp_path / "e" / "A" / "T").mkdir(parents=True)
    fd = os.open(tmp_path / "e" / "A" / "T", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    told: list[str] = []
    several = recorders(tmp_path, told)
    for _ in range(2):
        with pytest.raises(IngestError, match="another process writes it"):
            several.give(row("A", 1))
        several.give(row("B", 1))
    os.close(fd)
    totals = several.close()
    assert (totals.series, totals.recorded, totals.refused, told) == (1, 2, 2, [])


def test_a_full_disk_is_told_once_for_all_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows wait, a full buffer is an error of its own, and all is written when there is room."""
    monkeypatch.setattr("zerocopy.ingest.recorder.FLUSH_BYTES", 16)
    pwrite, is_full = os.pwrite, True

    def scarce(fd: int, data: memoryview, offset: int) -> int:
        if is_full:
            raise OSError(28, "No space left on device")
        return pwrite(fd, data, offset)

    monkeypatch.setattr("zerocopy.ingest.recording.appending.os.pwrite", scarce)
    told: list[str] = []
    several = recorders(tmp_path, told, buffer_bytes_max=64, nanos=False)
    kept = 0
    with pytest.raises(RecorderFullError):  # noqa: PT012
        while True:
            several.give(row("A", kept))
            kept += 1
    several.give(row("B", 0))
    several.flush()
    is_full = False
    several.flush()
    assert told == [
        f"{tmp_path}: No space left on device; rows wait until it is tried again",
        f"{tmp_path}: written again",
    ]
    assert several.close().recorded == kept + 1
    assert column(tmp_path, "A", "price", "f") == [*range(kept)]


def test_a_series_that_goes_wrong_later_is_closed_and_its_lost_rows_are_counted(
    tmp_path: Path,
) -> None:
    """It is told once; the counts say what was lost."""
    told: list[str] = []
    several = recorders(tmp_path, told)
    several.give(row("A", 1))
    several.flush()
    with (tmp_path / "e" / "A" / "T" / f"time.{LABEL}.bin").open("ab") as other:
        other.write(bytes(4_000))
    several.give(row("A", 2))
    several.flush()
    with pytest.raises(IngestError, match="changed by another program"):
        several.give(row("A", 3))
    totals = several.close()
    assert len(told) == 1
    assert (totals.recorded, totals.lost, totals.refused) == (1, 1, 1)


def test_rows_held_back_are_written_while_nothing_comes(tmp_path: Path) -> None:
    """`flush` of everything looks at series without new rows, too."""
    several = recorders(tmp_path, [], reorder_s=1)
    several.give(row("A", 1))
    several.flush()
    deadline_s = time.monotonic() + 10
    while not column(tmp_path, "A", "price", "f"):
        assert time.monotonic() < deadline_s
        several.flush(everything=True)
        time.sleep(0.05)
    assert several.close().recorded == 1
