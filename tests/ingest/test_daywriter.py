"""Days are written whole: for readers beside, after any kill, and for one writer at a time."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.ingest.by_hand import found_in
from tests.ingest.stepping import KilledError, Stepped, killed_before
from tests.storage.trees import DAY, DAY_START_S, SERIES, age, bench, file_name, path_of, query
from zerocopy.core.errors import DataError, IngestError, NotFoundError
from zerocopy.core.layout import Dtypes
from zerocopy.ingest.daywriter import PREFIX, SeriesWriter, digest_of
from zerocopy.storage import planner, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.storage.trees import Bench

Columns = dict[str, "NDArray[np.generic]"]
DAY_NUMBER = DAY_START_S // 86_400


def made(version: int, *names: str) -> Columns:
    """Columns whose every record tells the version."""
    times = np.arange(DAY_START_S, DAY_START_S + 50, dtype="<u4")
    columns: Columns = {"time": times + np.uint32(version)}
    for name in names or ("price",):
        columns[name] = np.full(50, version, "<f4")
    return columns


OLD, NEW = made(1, "price", "size"), made(2, "price", "count")


def write(root: Path | str, columns: Columns, added: str = "") -> None:
    """Write the day."""
    with SeriesWriter(str(root), SERIES) as writer:
        writer.write(DAY_NUMBER, columns, added=added)


def files(columns: Mapping[str, NDArray[np.generic]]) -> dict[str, bytes]:
    """What the directory holds when these columns are all."""
    return {file_name(name, DAY): column.tobytes() for name, column in columns.items()}


def body(opened: Bench) -> bytes:
    """What a query of time and price gets."""
    try:
        return opened.body(query())
    except NotFoundError:
        return b"404"


def bodies(tmp_path: Path) -> Iterator[bytes]:
    """The answers before, after, and while the only day has no times: it is skipped then."""
    for name, columns in (("old", OLD), ("new", NEW)):
        write(tmp_path / name, columns)
        with bench(str(tmp_path / name)) as opened:
            yield body(opened)
    write(tmp_path / "none", NEW)
    os.unlink(path_of(str(tmp_path / "none"), "time"))
    with bench(str(tmp_path / "none")) as opened:
        assert body(opened) == b"404"  # no day of the series has a time, or gets one
        (tmp_path / "none").joinpath(*SERIES, f"{PREFIX}x.ready").touch()
        found = body(opened)
    assert b'"num_records":0' in found
    assert b'"skipped":["' in found
    yield found


def test_day_appears_with_all_columns_and_nothing_else(tmp_path: Path) -> None:
    """Another one in its place leaves no column of it behind."""
    for columns in (OLD, NEW, NEW, OLD):
        write(tmp_path, columns)
        assert found_in(tmp_path, *SERIES) == files(columns)


def calls_of(action: Callable[[], None]) -> int:
    """How many calls a writer makes."""
    calls = 0
    while True:
        with killed_before(calls):
            try:
                action()
            except KilledError:
                calls += 1
            else:
                return calls


@pytest.mark.parametrize("first", [None, OLD], ids=["a new day", "a day that exists"])
def test_killed_before_any_call_no_answer_is_wrong_and_the_next_run_completes(
    tmp_path: Path, first: Columns | None
) -> None:
    """Killed at each call in turn; then killed again in each call of the mending."""
    old, new, none = bodies(tmp_path)
    calls = 0
    while True:
        root = tmp_path / f"root{calls}"
        if first is not None:
            write(root, first)
        with killed_before(calls):
            try:
                write(root, NEW)
            except KilledError:
                pass
            else:
                break
        if not root.joinpath(*SERIES).exists():
            calls += 1
            continue
        # A series that has no file yet has no column.
        right = {b"404", none, new} if first is None else {old, none, new}
        with bench(str(root)) as opened:
            assert body(opened) in right, calls
        # Each next run is killed one call later, until one comes through.
        later = 0
        while True:
            with killed_before(later):
                try:
                    with SeriesWriter(str(root), SERIES):
                        break
                except KilledError:
                    later += 1
            with bench(str(root)) as opened:
                assert body(opened) in right, (calls, later)
        left = found_in(root, *SERIES)
        assert left in ({} if first is None else files(first), files(NEW)), calls
        write(root, NEW)
        assert found_in(root, *SERIES) == files(NEW)
        calls += 1
    assert calls > 20


def interleave(root: str, seed: int, right: set[bytes]) -> bytes:
    """Plan while a writer replaces the day, a seeded number of calls between any two files."""
    rng = random.Random(seed)
    answers = []
    with (
        bench(root) as opened,
        Stepped(lambda: write(root, NEW)) as writer,
        pytest.MonkeyPatch.context() as patch,
    ):
        open_file = tree.open_file

        def opening(directory_fd: int, name: str) -> tuple[int, os.stat_result]:
            writer.step(rng.choice((0, 0, 1, 2, 5, 9, 30)))
            return open_file(directory_fd, name)

        patch.setattr(planner, "open_file", opening)
        writer.step(rng.randrange(30))
        while not writer.is_over:
            try:
                answers.append(body(opened))
            except DataError as error:
                assert "changed faster than they could be read" in error.detail  # noqa: PT017
            writer.step(rng.randrange(1, 4))
        answers.append(body(opened))
    assert set(answers) <= right, seed
    return answers[-1]


@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(range(12), id="some"),
        pytest.param(
            range(12, 1_000), id="many", marks=(pytest.mark.slow, pytest.mark.timeout(900))
        ),
    ],
)
def test_reader_beside_a_replacement_gets_the_old_day_the_new_one_or_none(
    tmp_path: Path, seeds: range
) -> None:
    """New prices never come with old times, wherever in its planning the writer goes on."""
    old, new, none = bodies(tmp_path)
    for seed in seeds:
        root = str(tmp_path / str(seed))
        write(root, OLD)
        if seed % 2:
            age(path_of(root, "time"), os.path.dirname(path_of(root, "time")))
        assert interleave(root, seed, {old, new, none}) == new


@pytest.mark.parametrize("last", [None, 2**32 - 1])
def test_reader_of_times_alone_sees_no_moving_record_twice_or_never(
    tmp_path: Path, last: int | None
) -> None:
    """The first day is opened, both are replaced, the second is opened: it starts anew.

    With `last` the second day is opened first.
    """
    root, midnight = str(tmp_path), DAY_START_S + 86_400
    times = np.arange(midnight - 20, midnight + 20, dtype="<u4")

    def put(split: int) -> None:
        days = {DAY_NUMBER: {"time": times[:split]}, DAY_NUMBER + 1: {"time": times[split:]}}
        with SeriesWriter(root, SERIES) as writer:
            writer.write_together(days)

    whole = query(columns=("time",), last=last)
    open_file = tree.open_file
    put(23)
    with bench(root) as opened, pytest.MonkeyPatch.context() as patch:
        before = opened.body(whole)
        for split in (20, 23):  # three records move on, then back
            opens = 0

            def opening(directory_fd: int, name: str, split: int = split) -> Any:
                nonlocal opens
                opens += 1
                if opens == 2:
                    put(split)
                return open_file(directory_fd, name)

            patch.setattr(planner, "open_file", opening)
            assert opened.body(whole) == before
            assert opens == 4  # both days, twice
            patch.undo()


def test_second_writer_is_refused(tmp_path: Path) -> None:
    """One process at a time writes a series; another series is free."""
    with SeriesWriter(str(tmp_path), SERIES):
        with (
            pytest.raises(IngestError, match="coinbase/X/MD: another process writes it"),
            SeriesWriter(str(tmp_path), SERIES),
        ):
            pass
        with SeriesWriter(str(tmp_path), ("coinbase", "X", "TRADES")):
            pass
    with SeriesWriter(str(tmp_path), SERIES):
        pass


def test_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file is where the exchange's directory should be."""
    (tmp_path / "coinbase").write_text("", encoding="utf-8")
    with (
        pytest.raises(IngestError, match="cannot be written: Not a directory"),
        SeriesWriter(str(tmp_path), SERIES),
    ):
        pass


def test_full_disk_leaves_the_day_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing hidden stays, and the sentence says what to do."""
    write(tmp_path, OLD)

    def full(self: SeriesWriter, name: str, content: object) -> None:
        if "price" in name:
            raise OSError(28, os.strerror(28))
        real(self, name, content)  # type: ignore[arg-type]

    real = SeriesWriter._write_file
    monkeypatch.setattr(SeriesWriter, "_write_file", full)
    with pytest.raises(IngestError, match="the disk is full; run the same command again"):
        write(tmp_path, NEW)
    assert found_in(tmp_path, *SERIES) == files(OLD)


def test_merge_is_known_again_until_something_changes(tmp_path: Path) -> None:
    """By what it added and by the day that came of it."""
    added = digest_of(NEW)
    write(tmp_path, OLD, added)
    with SeriesWriter(str(tmp_path), SERIES) as writer:
        assert writer.was_merged(DAY_NUMBER, added)
        assert not writer.was_merged(DAY_NUMBER, digest_of(OLD))
        assert not writer.was_merged(DAY_NUMBER + 1, added)
    with open(path_of(str(tmp_path), "time"), "ab") as file:
        file.write(b"\0\0\0\0")
    with SeriesWriter(str(tmp_path), SERIES) as writer:
        assert not writer.was_merged(DAY_NUMBER, added)
        writer.write(DAY_NUMBER, OLD)
        assert not writer.was_merged(DAY_NUMBER, added)
    assert not [name for name in found_in(tmp_path, *SERIES) if name.startswith(PREFIX)]


def test_digest_tells_columns_dtypes_and_values_apart() -> None:
    """And nothing else does."""
    assert digest_of(made(1)) == digest_of({k: v.copy() for k, v in made(1).items()})
    others = [made(2), made(1, "size"), {k: v[:-1] for k, v in made(1).items()}]
    others.append({"time": made(1)["time"], "price": made(1)["price"].view("<u4")})
    assert len({digest_of(each) for each in [made(1), *others]}) == 5


def test_day_is_read_as_far_as_all_columns_reach(tmp_path: Path) -> None:
    """Torn and uneven tails are left out, as a query leaves them out."""
    write(tmp_path, made(1))
    with open(path_of(str(tmp_path), "price"), "r+b") as file:
        file.truncate(4 * 30 + 3)
    with SeriesWriter(str(tmp_path), SERIES) as writer:
        columns = writer.read(DAY_NUMBER, Dtypes({}))
    assert {name: len(column) for name, column in columns.items()} == {"time": 30, "price": 30}
    assert columns["time"].tolist() == made(1)["time"][:30].tolist()


@pytest.mark.parametrize("name", ["time", "price"])
def test_day_that_differs_in_one_byte_is_not_held(tmp_path: Path, name: str) -> None:
    """Nor one with fewer records, nor with other columns."""
    write(tmp_path, OLD)
    with SeriesWriter(str(tmp_path), SERIES) as writer:
        assert writer.holds(DAY_NUMBER, OLD)
        other = {key: column.copy() for key, column in OLD.items()}
        other[name][-1] += 1
        assert not writer.holds(DAY_NUMBER, other)
        assert not writer.holds(DAY_NUMBER, {key: column[:-1] for key, column in OLD.items()})
        assert not writer.holds(DAY_NUMBER, {"time": OLD["time"], "price": OLD["price"]})
        assert not writer.holds(DAY_NUMBER + 1, OLD)
