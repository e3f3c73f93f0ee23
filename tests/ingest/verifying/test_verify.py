"""Each fault that can be in a store is found, and named; a sound store gives nothing."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.ingest.verifying.stores import (
    COUNT,
    DAY,
    DAY_S,
    DTYPES,
    NOW_S,
    SERIES,
    findings,
    folder,
    path_of,
    problems,
    put,
    sound,
    table,
)
from zerocopy.commands.generate import generate
from zerocopy.commands.verify import verify
from zerocopy.core.errors import ConfigError
from zerocopy.ingest.verifying import scan
from zerocopy.ingest.verifying.day import Place
from zerocopy.ingest.verifying.finding import PROBLEMS
from zerocopy.ingest.verifying.verify import Verifier

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_sound_store_gives_nothing(tmp_path: Path) -> None:
    """Days that are empty, hidden names and what an import remembers are no faults."""
    sound(tmp_path)
    put(tmp_path, {name: column[:0] for name, column in table().items()}, DAY + 3)
    (folder(tmp_path) / ".import.01.06.25.merged").write_bytes(b"{}")
    (tmp_path / ".import").mkdir()
    assert findings(tmp_path) == []


def test_what_generate_makes_is_sound(tmp_path: Path) -> None:
    """Also today's files, whose records reach to the end of the day."""
    generate(str(tmp_path / "made"), days=2, records=100)
    assert findings(tmp_path / "made", time.time()) == []


def cut(root: Path, column: str, nbytes: int) -> None:
    """Take bytes from the end of a file."""
    path = path_of(root, column)
    os.truncate(path, path.stat().st_size - nbytes)


def append(root: Path, column: str, content: bytes) -> None:
    """Add bytes to the end of a file."""
    with path_of(root, column).open("ab") as file:
        file.write(content)


def with_times(root: Path, change: Callable[[np.ndarray], None]) -> None:
    """Write other times."""
    columns = table()
    change(columns["time"])
    put(root, columns)


def remove(root: Path, day: int) -> None:
    """Remove the files of a day."""
    for name in ("time", "price", "id"):
        path_of(root, name, day).unlink()


def second_case(root: Path) -> None:
    """A column whose name is that of another in capital letters."""
    for day in range(DAY, DAY + 3):
        put(root, {"Price": table(day)["price"]}, day)


def swap(times: np.ndarray) -> None:
    """Two times in the wrong order."""
    times[[10, 200]] = times[[200, 10]]


FAULTS: dict[str, tuple[Callable[[Path], Any], list[tuple[str, str]]]] = {
    "a torn tail": (lambda root: append(root, "price", b"xx"), [("torn", "price.01.06.25.bin")]),
    "a torn time": (
        lambda root: cut(root, "time", 1),
        [("torn", "time.01.06.25.bin"), ("uneven", "time.01.06.25.bin")],
    ),
    "more prices than times": (
        lambda root: append(root, "price", bytes(40)),
        [("uneven", "time.01.06.25.bin")],
    ),
    "fewer prices": (lambda root: cut(root, "price", 8), [("uneven", "time.01.06.25.bin")]),
    "another width": (
        lambda root: path_of(root, "price").write_bytes(bytes(8 * COUNT)),
        [("width", "price.01.06.25.bin")],
    ),
    "unsorted": (lambda root: with_times(root, swap), [("unsorted", "time.01.06.25.bin")]),
    "the first ticks of the next day": (
        lambda root: with_times(root, lambda times: times[-3:].put([0, 1, 2], (DAY + 1) * DAY_S)),
        [("outside", "time.01.06.25.bin")],
    ),
    "the last ticks of the day before": (
        lambda root: with_times(root, lambda times: times.put([0], DAY * DAY_S - 1)),
        [("outside", "time.01.06.25.bin")],
    ),
    "no times": (
        lambda root: path_of(root, "time").unlink(),
        [("missing-time", "id.01.06.25.bin")],
    ),
    "a column that comes": (
        lambda root: path_of(root, "id").unlink(),
        [("missing-column", "e/s/T")],
    ),
    "a gap": (
        lambda root: remove(root, DAY + 1),
        [("gap", "e/s/T")],
    ),
    "NaN": (
        lambda root: put(root, {"price": np.where(np.arange(COUNT) % 3, 1, np.nan).astype("<f4")}),
        [("nan", "e/s/T")],
    ),
    "a day to come": (
        lambda root: sound(root, days=42),
        [("future", "time.12.07.25.bin")],
    ),
    "anybody may write": (
        lambda root: path_of(root, "price").chmod(0o666),
        [("permissions", "price.01.06.25.bin")],
    ),
    "executable": (
        lambda root: path_of(root, "price").chmod(0o755),
        [("permissions", "price.01.06.25.bin")],
    ),
    "fewer may read": (
        lambda root: path_of(root, "price").chmod(0o600),
        [("permissions", "price.01.06.25.bin")],
    ),
    "a directory for all": (lambda root: (root / "e").chmod(0o777), [("permissions", "e")]),
    "a link to a file": (
        lambda root: path_of(root, "size").symlink_to("price.01.06.25.bin"),
        [("link", "size.01.06.25.bin")],
    ),
    "a link to a symbol": (lambda root: (root / "e" / "t").symlink_to("s"), [("link", "e/t")]),
    "two cases": (
        lambda root: (root / "e" / "S").mkdir(),
        [("case", "e/S")],
    ),
    "two cases of a column": (
        second_case,
        [("case", f"Price.0{number}.06.25.bin") for number in (1, 2, 3)],
    ),
    "an impossible date": (
        lambda root: (folder(root) / "price.31.02.25.bin").touch(),
        [("unreachable", "price.31.02.25.bin")],
    ),
    "another kind of file": (
        lambda root: (folder(root) / "notes.txt").touch(),
        [("unreachable", "notes.txt")],
    ),
    "a directory below a type": (
        lambda root: (folder(root) / "old").mkdir(),
        [("unreachable", "old")],
    ),
    "a directory of a day file's name": (
        lambda root: (folder(root) / "size.01.06.25.bin").mkdir(),
        [("unreachable", "size.01.06.25.bin")],
    ),
    "a pipe": (
        lambda root: os.mkfifo(folder(root) / "size.01.06.25.bin"),
        [("unreachable", "size.01.06.25.bin")],
    ),
    "a file of rsync": (
        lambda root: (folder(root) / ".price.01.06.25.bin.Ab12").touch(),
        [("unreachable", ".price.01.06.25.bin.Ab12")],
    ),
    "a file beside exchanges": (
        lambda root: (root / "README").touch(),
        [("unreachable", "README")],
    ),
    "a name that cannot be asked for": (
        lambda root: (root / "e" / "a b").mkdir(),
        [("unreachable", "e/a b")],
    ),
    "a rest of an import": (
        lambda root: (folder(root) / ".import.time.01.06.25.bin").touch(),
        [("leftover", ".import.time.01.06.25.bin")],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_nothing_else(tmp_path: Path, fault: str) -> None:
    """With the word for it, and the file or the series it is in."""
    sound(tmp_path)
    make, expected = FAULTS[fault]
    make(tmp_path)
    assert problems(tmp_path) == expected


def test_every_problem_has_a_fault_above_or_a_test_of_its_own() -> None:
    """`unreadable` needs a user who may not read all."""
    made = {problem for _, expected in FAULTS.values() for problem, _ in expected}
    assert made | {"unreadable"} == PROBLEMS.keys()


def test_what_cannot_be_read_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the other files are looked at all the same."""
    sound(tmp_path)
    put(tmp_path, {"price": np.full(COUNT, np.nan, "<f4")}, DAY + 1)
    reading = os.open

    def refused(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path).endswith("time.01.06.25.bin"):
            raise PermissionError(13, "Permission denied")
        return reading(path, *arguments, **options)

    monkeypatch.setattr("zerocopy.ingest.verifying.day.os.open", refused)
    assert problems(tmp_path) == [("unreadable", "time.01.06.25.bin"), ("nan", "e/s/T")]


def test_numbers_of_what_is_wrong_are_exact(tmp_path: Path) -> None:
    """How many records a query loses, which record is the first that descends, how many are NaN."""
    columns = table()
    columns["time"][:2] = DAY * DAY_S - 5
    columns["time"][-4:] = (DAY + 1) * DAY_S
    columns["time"][100] = columns["time"][90] - 50
    columns["price"][7:10] = np.nan
    put(tmp_path, columns)
    unsorted, outside, nan = findings(tmp_path)
    assert (unsorted.facts["count"], unsorted.facts["record"]) == (1, 100)
    assert (outside.facts["before"], outside.facts["after"], outside.facts["far"]) == (2, 4, 0)
    assert "2 before and 4 after this day" in outside.detail
    assert nan.facts == {"column": "price", "nan": 3, "records": COUNT, "share": 0.01, "days": 1}


@pytest.mark.parametrize("piece", [8, 12, 64, 1 << 18])
def test_scans_are_the_same_whatever_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    """Disorder at the seam of two pieces is found, once; compared with numpy over the whole."""
    monkeypatch.setattr(scan, "PIECE_BYTES", piece)
    monkeypatch.setattr(scan, "_buffers", type("Buffers", (), {})())
    chance = np.random.default_rng(3)
    start_s = DAY * DAY_S
    for size in (1, 2, 3, 40):
        times = chance.integers(start_s - 3, start_s + DAY_S + 3, size).astype("<u4")
        floats = np.where(chance.random(size) < 0.2, np.nan, 1.0).astype("<f8")
        (tmp_path / "t").write_bytes(times.tobytes())
        (tmp_path / "f").write_bytes(floats.tobytes())
        with (tmp_path / "t").open("rb") as file:
            found = scan.scan_times(file.fileno(), size, start_s, start_s + DAY_S)
        falls = np.flatnonzero(times[1:] < times[:-1])
        assert found == scan.TimeScan(
            records=size,
            first_s=times[0],
            last_s=times[-1],
            newest_s=times.max(),
            descents=len(falls),
            descent=falls[0] + 1 if len(falls) else -1,
            before=int(np.count_nonzero(times < start_s)),
            after=int(np.count_nonzero(times >= start_s + DAY_S)),
            far=0,
        )
        with (tmp_path / "f").open("rb") as file:
            nan = scan.count_nan(file.fileno(), size, np.dtype("<f8"))
        assert nan == np.count_nonzero(np.isnan(floats))


def test_a_day_that_is_being_written_may_be_uneven(tmp_path: Path) -> None:
    """Today's, and yesterday's for some minutes; once it has stood still it is a fault."""
    put(tmp_path, table() | {"price": table()["price"][:-2].tobytes() + b"x"})
    changed_s = path_of(tmp_path, "price").stat().st_mtime
    path_of(tmp_path, "id", DAY + 1).touch()  # the first file of the next day

    def at(now_s: float) -> list[str]:
        return [problem for problem, _ in problems(tmp_path, now_s=now_s)]

    today_s = DAY * DAY_S + 50_000
    for path in folder(tmp_path).iterdir():
        os.utime(path, (today_s, today_s))
    assert changed_s > today_s, "change time is the clock's, which no test can set"
    assert "uneven" not in at(today_s)
    assert "torn" not in at(today_s)
    assert {"uneven", "torn", "missing-time"} <= {*at(changed_s + 601)}


def test_markets_that_close_at_weekends_have_no_gap_there(tmp_path: Path) -> None:
    """Monday to Friday, twice: no gap; without a Wednesday, one; with one Sunday, the other."""
    monday = DAY + 1
    for day in (*range(monday, monday + 5), *range(monday + 7, monday + 12)):
        put(tmp_path, table(day), day)
    assert findings(tmp_path) == []
    remove(tmp_path, monday + 2)
    (gap,) = findings(tmp_path)
    assert gap.facts == {"first": "04.06.25", "last": "04.06.25", "days": 1}
    put(tmp_path, table(DAY), DAY)
    assert [each.facts["first"] for each in findings(tmp_path)] == ["04.06.25", "08.06.25"]


def run(root: Path, capsysbinary: pytest.CaptureFixture[bytes], **flags: Any) -> tuple[int, str]:
    """The command's exit code and what it prints."""
    status = verify(str(root), config=os.devnull, **flags)
    return status, capsysbinary.readouterr().out.decode()


def test_json_is_a_line_for_each_finding(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """And nothing, with exit code 0, for a store that is sound."""
    put(tmp_path, {name: table()[name] for name in ("time", "price")})
    assert run(tmp_path, capsysbinary, as_json=True) == (0, "")
    append(tmp_path, "price", b"x")
    (tmp_path / "README").touch()
    status, out = run(tmp_path, capsysbinary, as_json=True)
    assert status == 1
    assert [json.loads(line) for line in out.splitlines()] == [
        {
            "path": "README",
            "problem": "unreachable",
            "detail": "is no directory, and so no exchange",
            "repairable": False,
        },
        {
            "path": "e/s/T/price.01.06.25.bin",
            "problem": "torn",
            "detail": "ends with 1 bytes of a record",
            "day": "01.06.25",
            "column": "price",
            "bytes": 1,
            "repairable": True,
        },
    ]


def test_the_table_names_what_is_wrong_and_what_can_be_mended(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Exit code 1; what is ignored does not count."""
    put(tmp_path, {name: table()[name] for name in ("time", "price")})
    assert run(tmp_path, capsysbinary) == (0, f"{tmp_path}: 1 series, 0 MB: sound\n")
    append(tmp_path, "price", b"x")
    status, out = run(tmp_path, capsysbinary)
    assert status == 1
    assert "torn" in out
    assert "1 finding\n" in out
    assert run(tmp_path, capsysbinary, ignore=["torn"])[0] == 0


def test_names_that_drive_a_terminal_or_are_no_text_are_escaped(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """In the table and in JSON, from which the very name can be had back."""
    name = b"\x1b[31m\xff[bold]"
    (tmp_path / os.fsdecode(name)).touch()
    _, out = run(tmp_path, capsysbinary)
    assert "\x1b" not in out
    assert "[bold]" in out.replace("\n", "")
    _, out = run(tmp_path, capsysbinary, as_json=True)
    assert out.isascii()
    assert os.fsencode(json.loads(out)["path"]) == name


def test_a_root_that_cannot_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    """With its path and the reason."""
    with pytest.raises(ConfigError, match="none: cannot be read: No such file"):
        verify(str(tmp_path / "none"), config=os.devnull)


def test_bytes_of_files_are_told_for_the_progress(tmp_path: Path) -> None:
    """Every byte of a day once it is done."""
    sound(tmp_path)
    told: list[int] = []
    with Verifier(Place(str(tmp_path), DTYPES, NOW_S), told.append) as verifier:
        assert [*verifier.series(SERIES)] == []
    assert told == [COUNT * 16] * 3
