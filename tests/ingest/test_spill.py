"""Records between source and day: beyond memory, after a kill, on a full disk."""

from __future__ import annotations

import errno
import os
import random
from typing import IO, TYPE_CHECKING, Any

import pytest

from tests.ingest.by_hand import found_in, import_
from tests.ingest.stepping import KilledError
from tests.ingest.test_importing import DAY, FIRST, OPTIONS, at, found, put, run, wanted
from zerocopy.ingest import csvtext, importing, spill

if TYPE_CHECKING:
    from pathlib import Path


def test_records_beyond_memory_go_through_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the bounds: the day files are the same, and nothing is left behind."""
    rng = random.Random(5)
    rows = [(at(rng.randrange(2 * DAY)), n / 2) for n in range(900)]
    files = [put(tmp_path, f"{n}.csv", rows[n * 300 : n * 300 + 300]) for n in range(3)]
    for bounds in ((0, 10**9), (6_000, 10**9), (10**9, 0), (10**9, 10**9)):
        monkeypatch.setattr(spill, "MEMORY_BYTES", bounds[0])
        monkeypatch.setattr(spill, "DAY_BYTES", bounds[1])
        assert run(tmp_path, *files, "--replace").code == 0
        assert found(tmp_path) == wanted(*rows)
        assert not (tmp_path / "root" / ".import").exists()


def test_day_that_lies_on_the_disk_in_order_is_written_as_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never loaded, unless repetitions are to be dropped or a second file has the day."""
    rows = [(at(n // 3, n // 6), float(n // 2)) for n in range(300)]
    rows += [(at(DAY + n), 1.0) for n in range(50)]
    file, loads = put(tmp_path, "a.csv", rows), []
    real = spill.StoredDay.load

    def load(self: spill.StoredDay) -> object:
        loads.append(self.day.key[-1])
        return real(self)

    monkeypatch.setattr(spill.StoredDay, "load", load)
    monkeypatch.setattr(spill, "DAY_BYTES", 0)
    monkeypatch.setattr(csvtext, "BLOCK_BYTES", 2_000)  # so that a day comes in pieces
    repeats = len(rows) - len({*rows})
    done = run(tmp_path, file)
    assert (done.code, loads, found(tmp_path)) == (0, [], wanted(*rows))
    assert f"{repeats} rows repeat another one exactly" in done.out
    first = rows[0][0] // 10**9 // DAY
    done = import_(tmp_path / "dropped", file, *OPTIONS, "--drop-duplicates")
    assert (done.code, loads) == (0, [first])
    assert found_in(tmp_path / "dropped", "e", "S", "T") == wanted(*dict.fromkeys(rows))
    loads.clear()
    done = import_(tmp_path / "two", file, put(tmp_path, "b.csv", [(at(5), 9.0)]), *OPTIONS)
    assert (done.code, loads) == (0, [first, first])
    assert found_in(tmp_path / "two", "e", "S", "T") == wanted(*rows, (at(5), 9.0))


def test_bars_lie_on_the_disk_with_nanos_and_are_written_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A preset without nanos writes none, from memory and from the disk."""
    file = tmp_path / "BTCUSDT-1m-2025-01-01.csv"
    lines = [
        f"{at(n * 60) // 10**6},1,2,3,4,5,{at(n * 60 + 59) // 10**6},1,2,3,4,0" for n in range(9)
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    for bound in (0, 10**9):
        monkeypatch.setattr(spill, "DAY_BYTES", bound)
        done = import_(tmp_path / f"{bound}", file, "--preset=binance-klines")
        assert (done.code, done.err) == (0, "")
    series = "binance", "BTCUSDT", "BARS"
    files = found_in(tmp_path / "0", *series)
    names = {name.partition(".")[0] for name in files}
    assert names == {"time", "open", "high", "low", "close", "volume", "count"}
    assert files == found_in(tmp_path / f"{10**9}", *series)


def test_run_that_was_killed_does_not_read_again_what_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the third of three files: two are kept; a file that changed is read again."""
    monkeypatch.setattr(spill, "MEMORY_BYTES", 0)
    files = [put(tmp_path, f"{n}.csv", [(at(n), float(n))]) for n in range(3)]
    reads: list[str] = []
    real = importing._read

    def read(*arguments: object) -> object:
        reads.append(os.path.basename(arguments[1].name))  # type: ignore[attr-defined]
        if kills and reads[-1] == "2.csv":
            raise KilledError
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(importing, "_read", read)
    kills = True
    with pytest.raises(KilledError):
        run(tmp_path, *files)
    assert (tmp_path / "root" / ".import").exists()
    kills = False
    put(tmp_path, "1.csv", [(at(1), 1.0), (at(7), 7.0)])
    reads.clear()
    done = run(tmp_path, *files)
    assert (done.code, done.err) == (0, "")
    assert reads == ["1.csv", "2.csv"]
    assert "3 files read, 1 by a run before: 4 rows" in done.out
    assert found(tmp_path) == wanted(*((at(n), float(n)) for n in (0, 1, 2, 7)))
    assert not (tmp_path / "root" / ".import").exists()


def test_full_disk_doubles_no_record_that_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of three files is on the disk in part: the run ends there, the next one is right.

    It went on, and wrote the part again behind itself.
    """
    files = [put(tmp_path, f"{n}.csv", [(at(n), float(n)), (at(DAY + n), 5.0)]) for n in range(3)]
    opened: list[str] = []

    def full(path: str, mode: str, **options: Any) -> IO[Any]:
        opened.extend([path] * (mode == "ab"))
        if mode == "ab" and len(opened) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return open(path, mode, **options)

    monkeypatch.setattr(spill, "MEMORY_BYTES", 30)  # the first file's two records, of 12 bytes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "open", full, raising=False)
        done = run(tmp_path, *files)
    assert done.code == 1
    assert "No space left on device" in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "root" / "e").exists()
    assert run(tmp_path, *files).code == 0
    rows = [(at(n), float(n)) for n in range(3)] + [(at(DAY + n), 5.0) for n in range(3)]
    assert found(tmp_path) == wanted(*rows)


@pytest.mark.parametrize("step", [1, -1], ids=["in order", "to be sorted"])
def test_kept_records_that_are_cut_off_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """They are never taken for all that there were."""
    monkeypatch.setattr(spill, "MEMORY_BYTES", 0)
    file = put(tmp_path, "a.csv", FIRST[::step])
    real = importing._write_all

    def cut(*arguments: object) -> None:
        (kept,) = (tmp_path / "root" / ".import").glob("*/*/0.price")
        os.truncate(kept, kept.stat().st_size - 1)
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(importing, "_write_all", cut)
    done = run(tmp_path, file)
    assert done.code == 1
    assert "is cut off; remove .import and run it again" in done.err
    assert not found(tmp_path)


def test_what_another_killed_run_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that of one that is running."""
    monkeypatch.setattr(spill, "MEMORY_BYTES", 0)
    top = tmp_path / "root" / ".import"
    (top / "dead" / "x").mkdir(parents=True)
    with spill.Spill(str(tmp_path / "root"), "alive"):
        assert os.listdir(top) == ["alive"]
        assert run(tmp_path, put(tmp_path, "a.csv", FIRST)).code == 0
        assert os.listdir(top) == ["alive"]
    assert not top.exists()
