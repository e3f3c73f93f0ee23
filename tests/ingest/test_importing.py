"""Whole imports: days that exist, files that are left out, duplicates, runs that go on."""

from __future__ import annotations

import json
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.ingest.by_hand import Done, Row, files_of, found_in, import_
from tests.ingest.stepping import KilledError
from zerocopy.ingest import importing
from zerocopy.ingest.daywriter import SeriesWriter
from zerocopy.ingest.times import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

T = 1_735_689_600
DAY = 86_400
OPTIONS = ("--exchange=e", "--symbol=S", "--type=T", "--map=price=price")


def text_of(rows: list[tuple[int, float]], head: str = "time,price") -> str:
    """A CSV file."""
    return "\n".join([head, *(f"{ns},{price}" for ns, price in rows)]) + "\n"


def put(tmp_path: Path, name: str, rows: list[tuple[int, float]]) -> Path:
    """Write a file of rows: nanoseconds and prices."""
    path = tmp_path / name
    path.write_text(text_of(rows), encoding="utf-8")
    return path


def run(tmp_path: Path, *arguments: Path | str) -> Done:
    """Import files of the columns time and price."""
    return import_(tmp_path / "root", *arguments, *OPTIONS)


def found(tmp_path: Path) -> dict[str, bytes]:
    """The day files, without what the writer has noted."""
    files = found_in(tmp_path / "root", "e", "S", "T")
    return {name: content for name, content in files.items() if not name.startswith(".")}


def wanted(*rows: tuple[int, float]) -> dict[str, bytes]:
    """The day files of rows."""
    return files_of(Row(ns, {"price": price}) for ns, price in rows)


def at(second: int, nanos: int = 0) -> int:
    """Nanoseconds of a second of the first day."""
    return (T + second) * 10**9 + nanos


FIRST = [(at(1), 1.0), (at(1), 2.0), (at(3, 5), 3.0)]
SECOND = [(at(DAY), 4.0), (at(DAY + 1), 5.0)]


def test_days_come_sorted_and_apart_however_they_are_mixed(tmp_path: Path) -> None:
    """Interleaved days, two files, rows of one instant in the order of the files."""
    rng = random.Random(3)
    rows = [
        (at(rng.randrange(3 * DAY), rng.choice((0, 1, 999_999_999))), n / 2) for n in range(500)
    ]
    rows += [(at(7), 1000.0 + n) for n in range(20)]
    rng.shuffle(rows)
    done = run(tmp_path, put(tmp_path, "a.csv", rows[:300]), put(tmp_path, "b.csv", rows[300:]))
    assert (done.code, done.err) == (0, "")
    assert found(tmp_path) == wanted(*rows)
    assert len(found(tmp_path)) == 3 * 3
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["e"]


def test_day_that_exists_is_refused_and_the_others_are_imported(tmp_path: Path) -> None:
    """Nothing of it is touched; exit code 1; the flags that decide are named."""
    assert run(tmp_path, put(tmp_path, "a.csv", FIRST)).code == 0
    done = run(tmp_path, put(tmp_path, "b.csv", [(at(9), 9.0), *SECOND]))
    assert done.code == 1
    assert done.err == "zerocopy: e/S/T: 01.01.25 exists: --replace or --merge decides\n"
    assert "days: 1 left out, 1 written" in done.out
    assert found(tmp_path) == wanted(*FIRST, *SECOND)


def test_replace_takes_the_place_of_a_day(tmp_path: Path) -> None:
    """Of those in the files alone."""
    run(tmp_path, put(tmp_path, "a.csv", FIRST + SECOND))
    done = run(tmp_path, put(tmp_path, "b.csv", [(at(9), 9.0)]), "--replace")
    assert (done.code, done.err) == (0, "")
    assert "days: 1 replaced" in done.out
    assert found(tmp_path) == wanted((at(9), 9.0), *SECOND)


def test_merge_is_by_time_and_nanos_and_what_was_there_comes_first(tmp_path: Path) -> None:
    """Given again, the same merge adds nothing."""
    run(tmp_path, put(tmp_path, "a.csv", FIRST))
    more = [(at(1), 7.0), (at(3, 4), 8.0), (at(0), 9.0), *SECOND]
    file = put(tmp_path, "b.csv", more)
    done = run(tmp_path, file, "--merge")
    assert (done.code, done.err) == (0, "")
    assert "days: 1 merged, 1 written" in done.out
    assert found(tmp_path) == wanted(*FIRST, *more)
    done = run(tmp_path, file, "--merge")
    assert "days: 2 there already" in done.out


def test_merge_into_a_recorded_day_sorts_its_nanos(tmp_path: Path) -> None:
    """A feed is in the order of seconds, not always of what is below them."""
    columns = {"price": np.array([1, 2, 3], "<f4"), "nanos": np.array([9, 5, 5], "<u4")}
    with SeriesWriter(str(tmp_path / "root"), ("e", "S", "T")) as writer:
        writer.write(T // DAY, columns | {"time": np.full(3, T, "<u4")})
    done = run(tmp_path, put(tmp_path, "b.csv", [(at(0, 7), 7.0)]), "--merge")
    assert (done.code, done.err) == (0, "")
    assert found(tmp_path) == wanted(
        (at(0, 5), 2.0), (at(0, 5), 3.0), (at(0, 7), 7.0), (at(0, 9), 1.0)
    )


def test_merge_without_duplicates_adds_what_is_missing(tmp_path: Path) -> None:
    """Two captures that overlap; the second of two equal records counts."""
    run(tmp_path, put(tmp_path, "a.csv", [(at(1), 1.0), (at(1), 1.0), (at(2), 2.0)]))
    more = [(at(1), 1.0), (at(2), 2.0), (at(2), 2.5), (at(3), 3.0)]
    done = run(tmp_path, put(tmp_path, "b.csv", more), "--merge", "--drop-duplicates")
    assert (done.code, done.err) == (0, "")
    assert "2 records were there already" in done.out
    assert found(tmp_path) == wanted((at(1), 1.0), (at(1), 1.0), *more[1:])
    done = run(tmp_path, put(tmp_path, "c.csv", more[1:3]), "--merge", "--drop-duplicates")
    assert "days: 1 there already" in done.out


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("column", "01.01.25 has the columns extra, nanos, price, time, not nanos, price, time"),
        ("order", "01.01.25 is not in the order of time: zerocopy verify --repair sorts it"),
        ("width", "01.01.25: its columns differ in length, so it cannot be merged into"),
        ("tail", "01.01.25: its columns differ in length, so it cannot be merged into"),
    ],
)
def test_merge_into_a_day_that_does_not_fit_is_refused(
    tmp_path: Path, damage: str, words: str
) -> None:
    """Another column, times that do not ascend, f8 of before: the day stays as it is."""
    run(tmp_path, put(tmp_path, "a.csv", FIRST))
    folder = tmp_path / "root" / "e" / "S" / "T"
    if damage == "column":
        (folder / "extra.01.01.25.bin").write_bytes(b"\0" * 12)
    elif damage == "width":
        np.fromfile(folder / "price.01.01.25.bin", "<f4").astype("<f8").tofile(
            folder / "price.01.01.25.bin"
        )
    elif damage == "tail":
        with (folder / "price.01.01.25.bin").open("ab") as file:
            file.write(b"ab")
    else:
        times = np.fromfile(folder / "time.01.01.25.bin", "<u4")
        times[::-1].tofile(folder / "time.01.01.25.bin")
    before = found(tmp_path)
    done = run(tmp_path, put(tmp_path, "b.csv", [*SECOND, (at(5), 5.0)]), "--merge")
    assert (done.code, words in done.err) == (1, True)
    assert {name: found(tmp_path)[name] for name in before} == before


def test_exact_duplicates_are_counted_and_kept(tmp_path: Path) -> None:
    """Or dropped on request, in one file or over two."""
    rows = [(at(1), 1.0), (at(1), 2.0), (at(1), 1.0), (at(2), 1.0)]
    files = put(tmp_path, "a.csv", rows), put(tmp_path, "b.csv", rows[:1])
    done = run(tmp_path, *files)
    assert "2 rows repeat another one exactly" in done.out
    assert found(tmp_path) == wanted(*rows, *rows[:1])
    done = run(tmp_path, *files, "--replace", "--drop-duplicates")
    assert (done.code, done.err) == (0, "")
    assert found(tmp_path) == wanted(rows[0], rows[1], rows[3])


def test_trades_that_differ_in_their_id_are_no_duplicates(tmp_path: Path) -> None:
    """Though what is written of them is the same."""
    file = tmp_path / "a.csv"
    file.write_text(f"id,time,price\n1,{T},5\n2,{T},5\n2,{T},5\n", encoding="utf-8")
    done = run(tmp_path, file, "--drop-duplicates")
    assert "1 rows repeat another one exactly" in done.out
    assert found(tmp_path) == wanted((at(0), 5), (at(0), 5))


def test_files_of_a_day_need_not_have_the_same_columns_besides(tmp_path: Path) -> None:
    """A row with an id and one without are no duplicates; it was a KeyError."""
    lines = (f"id,time,price\n7,{T},5\n", f"time,price\n{T},5\n{T},5\n")
    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for file, text in zip(files, lines, strict=True):
        file.write_text(text, encoding="utf-8")
    for given in (files, files[::-1]):
        done = run(tmp_path, *given, "--replace")
        assert (done.code, done.err) == (0, "")
        assert "1 rows repeat another one exactly" in done.out
        assert found(tmp_path) == wanted(*[(at(0), 5)] * 3)


def test_file_with_a_bad_row_is_left_out_as_a_whole(tmp_path: Path) -> None:
    """Its good rows too, while those of other files are imported, of the same day even."""
    bad = tmp_path / "b.csv"
    bad.write_text(text_of([(at(2), 2.0), (at(DAY), 4.0)]) + "x,1\n", encoding="utf-8")
    done = run(tmp_path, put(tmp_path, "a.csv", FIRST), bad)
    assert done.code == 1
    assert done.err == (
        f"zerocopy: {bad}: line 4: 'x' is no time: {EXAMPLES}; nothing of this file is imported\n"
    )
    assert found(tmp_path) == wanted(*FIRST)


def test_merge_that_lacks_a_file_is_left_out_as_a_whole(tmp_path: Path) -> None:
    """Put right and given again, it would have added the rows of the sound file twice."""
    run(tmp_path, put(tmp_path, "a.csv", FIRST))
    good, bad = put(tmp_path, "b.csv", [(at(5), 5.0)]), tmp_path / "c.csv"
    bad.write_text("time,price\n1,x\n", encoding="utf-8")
    for flags in (("--merge", "--dry-run"), ("--merge",)):
        done = run(tmp_path, good, bad, *flags)
        assert done.code == 1
        assert "e/S/T: nothing is merged, as a file is left out" in done.err
        assert "days: 1 left out" in done.out
        assert found(tmp_path) == wanted(*FIRST)
    put(tmp_path, "c.csv", [(at(6), 6.0)])
    for _ in range(2):
        assert run(tmp_path, good, bad, "--merge").code == 0
        assert found(tmp_path) == wanted(*FIRST, (at(5), 5.0), (at(6), 6.0))


def test_series_come_from_columns(tmp_path: Path) -> None:
    """Exchanges and symbols mixed in one file."""
    lines = ["exchange,symbol,time,price"]
    lines += [f"{'ab'[n % 2]},{'XYZ'[n % 3]},{T + n // 2},{n}" for n in range(60)]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    done = import_(tmp_path / "root", tmp_path / "a.csv", "--type=T", "--map=price=price")
    assert (done.code, done.err) == (0, "")
    for exchange in range(2):
        for symbol in range(3):
            rows = [
                Row((T + n // 2) * 10**9, {"price": n})
                for n in range(60)
                if n % 2 == exchange and n % 3 == symbol
            ]
            got = found_in(tmp_path / "root", "ab"[exchange], "XYZ"[symbol], "T")
            assert got == files_of(rows)


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "x" * 65])
def test_symbol_that_is_no_name_is_refused_by_its_line(tmp_path: Path, name: str) -> None:
    """Nothing outside the root is ever written."""
    (tmp_path / "a.csv").write_text(
        f"symbol,time,price\nok,{T},1\n{name},{T},2\n", encoding="utf-8"
    )
    done = import_(tmp_path / "root", tmp_path / "a.csv", "--exchange=e", *OPTIONS[2:])
    assert done.code == 1
    assert f"line 3: {name!r} is no name of a symbol: --symbol decides" in done.err
    assert not found_in(tmp_path / "root", "e", "ok", "T")


def test_dry_run_tells_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    """Series, columns with dtypes, days, records, first and last; refusals included."""
    run(tmp_path, put(tmp_path, "a.csv", FIRST))
    before = found(tmp_path)
    done = run(tmp_path, put(tmp_path, "b.csv", [(at(5), 6.0), *SECOND]), "--dry-run")
    assert done.code == 1
    assert found(tmp_path) == before
    assert "e/S/T: 3 records of 2 days, 01.01.25 to 02.01.25" in done.out
    assert "columns: time=u4 nanos=u4 price=f4" in done.out
    assert "days: 1 left out, 1 written (dry run: nothing is)" in done.out
    assert f"first: time={T + 5} (2025-01-01 00:00:05 UTC) nanos=0 price=6.0" in done.out
    assert f"last: time={T + DAY + 1} (2025-01-02 00:00:01 UTC) nanos=0 price=5.0" in done.out
    assert "01.01.25 exists" in done.err
    fresh = import_(tmp_path / "none", tmp_path / "b.csv", *OPTIONS, "--dry-run")
    assert (fresh.code, (tmp_path / "none").exists()) == (0, False)


def test_f8_is_written_where_the_server_reads_f8(tmp_path: Path) -> None:
    """Else it is refused, with the line to add; u8 ids and S16 texts as [columns] has them."""
    file = tmp_path / "a.csv"
    file.write_text(f"time,price,id,order\n{T},0.12345678901,{2**63},abc\n", encoding="utf-8")
    options = (file, *OPTIONS, "--map=id=id", "--map=order=order", "--dtype=price=f8")
    done = import_(tmp_path / "root", *options)
    assert done.code == 1
    assert 'add to [columns] of config.toml: price = "f8"' in done.err
    config = tmp_path / "config.toml"
    config.write_text('[columns]\nprice = "f8"\nid = "u8"\norder = "S16"\n', encoding="utf-8")
    done = import_(tmp_path / "root", *options, f"--config={config}")
    assert (done.code, done.err) == (0, "")
    assert "loses digits" not in done.out
    values = {"price": 0.12345678901, "id": 2**63, "order": b"abc"}
    dtypes = {"price": "f8", "id": "u8", "order": "S16"}
    assert found(tmp_path) == files_of([Row(at(0), values)], dtypes=dtypes)


def test_lost_digits_and_inferences_are_said(tmp_path: Path) -> None:
    """The unit, the time, the delimiter, the digits, the empty values."""
    file = tmp_path / "a.csv"
    file.write_text(f"time,price\n{T}123,162305.70000000\n{T}124,\n", encoding="utf-8")
    done = run(tmp_path, file)
    assert "price: f4 loses digits of 1 of 2 values; the most, 0.0031, " in done.out
    assert "where 162305.70000000 becomes 162305.70312500; --dtype price=f8" in done.out
    assert "price: 1 of 2 values are empty: NaN" in done.out
    assert "time: ms by its size" in done.out
    assert "time from time by its name" in done.out
    assert "comma between fields, a header" in done.out


def test_mapped_nanos_go_beside_whole_seconds(tmp_path: Path) -> None:
    """As this server's own csv has them; a fraction in both is refused."""
    file = tmp_path / "a.csv"
    file.write_text(f"time,nanos,price\n{T},7,1\n{T},5,2\n", encoding="utf-8")
    done = run(tmp_path, file, "--map=nanos=nanos")
    assert (done.code, done.err) == (0, "")
    assert found(tmp_path) == wanted((at(0, 7), 1), (at(0, 5), 2))
    file.write_text(f"time,nanos,price\n{T}.5,7,1\n", encoding="utf-8")
    assert "the time has a part of a second" in run(tmp_path, file, "--map=nanos=nanos").err
    file.write_text(f"time,nanos,price\n{T},1000000000,1\n", encoding="utf-8")
    assert "nanos: 1000000000 is a second or more" in run(tmp_path, file, "--map=nanos=nanos").err


def test_the_same_import_does_not_run_twice_at_once(tmp_path: Path) -> None:
    """The second is told; so is one for a series that is being written."""
    file = put(tmp_path, "a.csv", FIRST)
    real = importing._write_all

    def meanwhile(*arguments: object) -> None:
        assert run(tmp_path, file).err == "zerocopy: this import is running already\n"
        real(*arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importing, "_write_all", meanwhile)
        assert run(tmp_path, file).code == 0
    with SeriesWriter(str(tmp_path / "root"), ("e", "S", "T")):
        done = run(tmp_path, file, "--replace")
    assert done.code == 1
    assert done.err == "zerocopy: e/S/T: e/S/T: another process writes it\n"


@contextmanager
def dying_after(days: int) -> Iterator[None]:
    """Kill the run once it has written some days."""
    real, left = importing._write_day, days

    def write(*given: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KilledError
        real(*given)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importing, "_write_day", write)
        yield


def test_killed_at_any_moment_the_next_run_completes(tmp_path: Path) -> None:
    """Between any two days, in each mode: what is there is right, and the rest is made."""
    rows = [(at(n * DAY // 2), float(n)) for n in range(12)]
    file = put(tmp_path, "a.csv", rows)
    for mode, before in (("", []), ("--replace", rows[:1]), ("--merge", [(at(5), 9.0)])):
        for days in (0, 1, 4, 6):
            root = tmp_path / f"{mode}{days}"
            if before:
                import_(root, put(tmp_path, "b.csv", before), *OPTIONS)
            arguments: list[Path | str] = [file, *OPTIONS, *([mode] if mode else [])]
            with dying_after(days):
                if days < 6:
                    with pytest.raises(KilledError):
                        import_(root, *arguments)
                else:
                    import_(root, *arguments)
            done = import_(root, *arguments)
            assert (done.code, done.err) == (0, "")
            files = found_in(root, "e", "S", "T")
            visible = {name: files[name] for name in files if not name.startswith(".")}
            assert visible == wanted(*(before if mode == "--merge" else []), *rows)


def test_ndjson_is_read_in_pieces(tmp_path: Path) -> None:
    """Columns that come and go are empty where they are not."""
    lines = [{"time": T + n, "price": n} for n in range(10)] + [{"time": T + 10}]
    file = tmp_path / "a"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zerocopy.ingest.tables._JSON_ROWS", 3)
        done = run(tmp_path, file)
    assert (done.code, done.err) == (0, "")
    prices = [*map(float, range(10)), float("nan")]
    assert found(tmp_path) == wanted(*((at(n), price) for n, price in enumerate(prices)))
