"""`Planner` when the disk fails: what is raised, and that no descriptor is left behind."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.descriptors import held_files
from tests.naive import naive_answer
from tests.storage.trees import (
    DAY,
    DAY_START_S,
    OPEN_DAY,
    OPEN_START_S,
    SERIES,
    U32_MAX,
    Bench,
    append,
    bench,
    body_of,
    marks,
    path_of,
    put,
    query,
    replace,
    u32,
)
from zerocopy.core.errors import (
    BadRequestError,
    DataChangedError,
    DataError,
    NotFoundError,
    OverloadError,
    ZerocopyError,
)
from zerocopy.formats.columns import represent
from zerocopy.storage.tree import Series, open_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zerocopy.core.plan import Plan, Representation
    from zerocopy.storage.planner import Planned

BOTH = pytest.mark.parametrize("small_bytes_max", [1 << 30, 0], ids=["content", "segments"])


@pytest.fixture(name="root")
def fixture_root(tmp_path: Path) -> str:
    """Two days of three columns."""
    root = str(tmp_path)
    for offset in range(2):
        start_s = DAY_START_S + 86_400 * offset
        columns = {"time": u32(start_s, start_s), "price": marks(2), "id": marks(2, 8)}
        put(root, columns, DAY + timedelta(days=offset))
    return root


@contextmanager
def failing(
    monkeypatch: pytest.MonkeyPatch, name: str, number: int, which: int
) -> Iterator[list[int]]:
    """Let the call `which` (0 is the first) of `os.<name>` fail; yields the number of calls."""
    calls = [0]
    system = getattr(os, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if which == calls[0] - 1:
            raise OSError(number, os.strerror(number))
        return system(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, name, call)
        yield calls


@BOTH
@pytest.mark.parametrize(
    ("name", "number", "raised"),
    [
        ("open", errno.EMFILE, OverloadError),
        ("open", errno.ENFILE, OverloadError),
        ("open", errno.ENOMEM, OverloadError),
        ("open", errno.EACCES, DataError),
        ("open", errno.EIO, DataError),
        ("pread", errno.EIO, DataError),
        ("scandir", errno.EIO, DataError),
        ("scandir", errno.EMFILE, OverloadError),
        ("fstat", errno.EIO, DataError),
        ("fstat", errno.ENOMEM, OverloadError),
    ],
)
def test_plan_any_failing_system_call_raises_and_leaks_nothing(
    root: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    small_bytes_max: int,
    name: str,
    number: int,
    raised: type[ZerocopyError],
) -> None:
    """Each call in turn fails: the documented error, every descriptor closed, then it works."""
    wanted = query(columns=("price", "id"))
    which, finished = 0, False
    while not finished:
        with bench(root, small_bytes_max=small_bytes_max) as opened:
            before = held_files()
            with failing(monkeypatch, name, number, which) as calls:
                try:
                    planned = opened.planner.plan(wanted, represent)
                except ZerocopyError as error:
                    assert type(error) is raised  # noqa: PT017 - the last round raises nothing
                    assert root not in error.detail  # noqa: PT017
                    assert os.strerror(number) not in error.detail  # noqa: PT017
                    assert not held_files() - before, f"call {which} of {name}"
                else:
                    finished = calls[0] <= which
                    assert finished, f"call {which} of {name} failed and nobody noticed"
                    for _, fd in planned.held:
                        os.close(fd)
                    assert not held_files() - before
        which += 1
    assert which > 1, "the call was never made"


@pytest.mark.parametrize(
    ("wanted", "raised"),
    [
        (query(series=Series("none", "X", "MD")), NotFoundError),
        (query(series=Series("coinbase", "none", "MD")), NotFoundError),
        (query(series=Series("coinbase", "X", "NONE")), NotFoundError),
        (query(columns=("none",)), NotFoundError),
        (query(), BadRequestError),
    ],
)
def test_plan_refused_query_leaks_nothing(
    root: str, wanted: Any, raised: type[ZerocopyError]
) -> None:
    """Unknown names and too many days give their descriptors back."""
    before = held_files()
    with bench(root, days_max=1) as opened:
        for _ in range(5):
            with pytest.raises(raised):
                opened.plan(wanted)
        assert not held_files() - before


def test_plan_missing_root_is_a_data_error(tmp_path: Path) -> None:
    """The operator's fault, not the client's: 500 and not 404."""
    for name in ("none", "file"):
        (tmp_path / "file").write_bytes(b"")
        with bench(str(tmp_path / name)) as opened, pytest.raises(DataError) as caught:
            opened.plan()
        assert caught.value.status == 500
        assert str(tmp_path) not in caught.value.detail


def between_listing_and_opening(
    monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[], object], times: int
) -> None:
    """Run `act` just before `os.open` of `name`, at most `times` times."""
    system_open = os.open
    left = [times]

    def call(path: str, *args: Any, **kwargs: Any) -> int:
        if path == name and left[0]:
            left[0] -= 1
            act()
        return system_open(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", call)


def test_plan_file_that_vanishes_after_the_listing_is_listed_again(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that goes between listing and opening is a day that lacks a column, not an error."""
    path = path_of(root, "price")
    with bench(root) as opened, monkeypatch.context() as patch:
        between_listing_and_opening(patch, os.path.basename(path), lambda: os.unlink(path), 1)
        before = held_files()
        body = opened.body()
        assert not held_files() - before
    assert body == naive_answer(root, *SERIES, 0, U32_MAX, ("time", "price"))
    assert b'"skipped":["31.01.25"]' in body


def test_plan_file_that_is_never_there_gives_up(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is listed and never found is a data error, after a bounded number of tries."""
    opens = []
    system_open = os.open

    def call(path: str, *args: Any, **kwargs: Any) -> int:
        if path.startswith("price"):
            opens.append(path)
            raise FileNotFoundError(errno.ENOENT, path)
        return system_open(path, *args, **kwargs)

    with bench(root) as opened:
        before = held_files()
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", call)
            with pytest.raises(DataError) as caught:
                opened.plan()
        assert not held_files() - before
    assert len(opens) == 3
    assert root not in caught.value.detail


def test_plan_file_truncated_while_it_is_read_is_never_half_answered(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file shorter than fstat(2) said a moment ago: 500 or what is there now, and no leak."""
    path = path_of(root, "price")
    system_pread = os.pread

    def call(fd: int, count: int, offset: int) -> bytes:
        os.truncate(path, 3)
        return system_pread(fd, count, offset)

    with bench(root) as opened:
        before = held_files()
        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", call)
            body = None
            with suppress(DataError):
                body = opened.body()
        assert not held_files() - before
    assert body in {None, naive_answer(root, *SERIES, 0, U32_MAX, ("time", "price"))}


@pytest.mark.parametrize("first", [True, False])
def test_plan_of_a_day_replaced_file_by_file_is_of_one_moment(
    root: str,
    monkeypatch: pytest.MonkeyPatch,
    first: bool,  # noqa: FBT001
) -> None:
    """Both columns renamed over between two openings: never one of before and one of after."""
    columns = {"time": u32(DAY_START_S), "price": marks(1, base=50)}
    before = naive_answer(root, *SERIES, 0, U32_MAX, ("time", "price"))
    opened_names: list[str] = []

    def call(directory_fd: int, name: str) -> tuple[int, os.stat_result]:
        result = open_file(directory_fd, name)
        opened_names.append(name)
        if len(opened_names) == (1 if first else 2):
            for column, content in columns.items():
                replace(path_of(root, column), content)
        return result

    with bench(root) as opened, monkeypatch.context() as patch:
        patch.setattr("zerocopy.storage.planner.open_file", call)
        body = opened.body()
    after = naive_answer(root, *SERIES, 0, U32_MAX, ("time", "price"))
    assert before != after
    assert body == after
    assert len(opened_names) > 4, "the first reading was thrown away"


@pytest.fixture(name="many_files")
def fixture_many_files(tmp_path: Path) -> str:
    """100 closed days of two files: more than one planning holds open."""
    root = str(tmp_path)
    for offset in range(100):
        start_s = DAY_START_S + 86_400 * offset
        columns = {"time": u32(start_s), "price": marks(1, base=offset)}
        for path in put(root, columns, DAY + timedelta(days=offset)).values():
            os.utime(path, (start_s, start_s))
    return root


def plan_while_replaced(opened: Bench, path: str) -> Planned:
    """Plan, and replace `path` in the instant between the search and the reading."""
    content = [marks(1, base=7)]

    def late(plan: Plan) -> Representation:
        if content:
            replace(path, content.pop())
        return represent(plan)

    return opened.plan(shape=late)


def test_plan_small_answer_of_many_files_one_replaced_meanwhile_still_answers(
    many_files: str,
) -> None:
    """A day replaced by rename is no fault: the answer holds the old day or the new one."""
    last = path_of(many_files, "price", DAY + timedelta(days=99))
    old = naive_answer(many_files, *SERIES, 0, U32_MAX, ("time", "price"))
    with bench(many_files) as opened:
        planned = plan_while_replaced(opened, last)
    new = naive_answer(many_files, *SERIES, 0, U32_MAX, ("time", "price"))
    assert old != new
    assert planned.content in {old, new}


def test_plan_segments_of_many_files_one_replaced_meanwhile_are_never_mixed(
    many_files: str,
) -> None:
    """What was replaced after the plan and not held is noticed and never sent as if it were old."""
    last = path_of(many_files, "price", DAY + timedelta(days=99))
    with bench(many_files, small_bytes_max=0) as opened:
        planned = plan_while_replaced(opened, last)
        with pytest.raises(DataChangedError):
            body_of(planned)


@pytest.mark.parametrize("day", [0, 1])
@pytest.mark.parametrize("cut", [False, True], ids=["whole day", "cut day"])
def test_plan_unsorted_times_name_the_day_and_never_a_path(
    root: str, *, day: int, cut: bool
) -> None:
    """The client is told which day, the log which file and record; descriptors are given back."""
    path = path_of(root, "time", DAY + timedelta(days=day))
    start_s = DAY_START_S + 86_400 * day
    times = [start_s + second for second in ((7, 5) if not cut else (5, 9, 7, 11))]
    replace(path, u32(*times))
    replace(path_of(root, "price", DAY + timedelta(days=day)), marks(len(times)))
    before = held_files()
    with bench(root) as opened:
        with pytest.raises(DataError) as caught:
            opened.plan(query(DAY_START_S, start_s + 6 if cut else U32_MAX))
        assert caught.value.detail == f"the times of {('31.01.25', '01.02.25')[day]} are not sorted"
        assert path in str(caught.value.__cause__)
        other_s = DAY_START_S + 86_400 * (1 - day)
        ends = other_s, other_s + 86_399
        expected = naive_answer(root, *SERIES, *ends, ("time", "price"))
        assert opened.body(query(*ends)) == expected
    assert not held_files() - before


def test_plan_times_outside_their_day_are_no_fault(root: str) -> None:
    """The clocks of recorders differ at midnight: records are found by their times."""
    replace(path_of(root, "time"), u32(DAY_START_S - 3, DAY_START_S + 86_402))
    with bench(root) as opened:
        for wanted in (query(), query(DAY_START_S, DAY_START_S + 86_402)):
            expected = naive_answer(root, *SERIES, wanted.start_s, wanted.end_s, wanted.columns)
            assert opened.body(wanted) == expected


def test_plan_of_a_growing_day_never_takes_it_for_unsorted(root: str) -> None:
    """A recorder appends without a pause, torn in the middle of records; every plan is right."""
    start_s = OPEN_START_S
    paths = put(root, {"time": u32(*[start_s] * 3_000), "price": marks(3_000)}, OPEN_DAY)
    done = threading.Event()

    def record() -> None:
        with open(paths["time"], "ab", buffering=0) as times:
            for second in range(1, 40_000):
                record = u32(start_s + second // 2)
                times.write(record[: second % 5])
                times.write(record[second % 5 :])
                append(paths["price"], marks(1))
                if done.is_set():
                    return

    recorder = threading.Thread(target=record)
    recorder.start()
    try:
        with bench(root, small_bytes_max=0) as opened:
            for second in range(300):
                opened.plan(query(start_s + 1 + second % 7, start_s + 40 + second))
    finally:
        done.set()
        recorder.join()
