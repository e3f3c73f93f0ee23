"""`push_days`: whole days, `time` last, and nothing twice."""

from __future__ import annotations

import os
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.naive import naive_answer
from tests.standin import Reply, error_reply
from tests.storage.store.bench import Clock, key, node, store_of
from tests.storage.trees import DAY, DAY_START_S, SERIES, marks, put, query, u32
from zerocopy.core.errors import DataError, StoreError
from zerocopy.storage.store.breaker import Breaker
from zerocopy.storage.store.etags import PUT_PART_BYTES
from zerocopy.storage.store.pushing import DayPusher, Pushed, push_days

if TYPE_CHECKING:
    from pathlib import Path

    from tests.standin import Standin

FIRST = DAY_START_S // 86_400
COLUMNS = ("price", "size", "time")


def fill(root: Path, base: int = 0) -> None:
    """Two days."""
    for number in range(2):
        times = u32(*range(DAY_START_S + number * 86_400, DAY_START_S + number * 86_400 + 10))
        columns = {"price": marks(10, base=base), "size": marks(10), "time": times}
        put(str(root), columns, DAY + timedelta(days=number))


def test_days_are_put_with_time_last_and_once(bucket: Standin, tmp_path: Path) -> None:
    """Again nothing is sent; and what the store answers then is what the files answer."""
    fill(tmp_path / "root")
    store = store_of(bucket)
    pushed = push_days(store, str(tmp_path / "root"), SERIES, [FIRST, FIRST + 1])
    assert pushed == Pushed(6, 6 * 40, 0)
    put_keys = [name for method, name in bucket.requests if method == "PUT"]
    assert [name.rpartition("/")[2].split(".")[0] for name in put_keys] == [*COLUMNS] * 2
    assert push_days(store, str(tmp_path / "root"), SERIES, [FIRST, FIRST + 1]) == (0, 0, 2)
    with node(bucket, str(tmp_path / "cache")) as opened:
        assert opened.body(query()) == naive_answer(
            str(tmp_path / "root"), *SERIES, 0, 2**32 - 1, ["time", "price"]
        )


def test_replaced_day_is_never_mixed(bucket: Standin, tmp_path: Path) -> None:
    """A run that breaks off anywhere leaves it as it was, without `time`, or as it is now."""
    for left in range(4):  # requests that change something: the deletion, two files that differ
        bucket.reset()
        fill(tmp_path / "root")
        store = store_of(bucket)
        push_days(store, str(tmp_path / "root"), SERIES, [FIRST])
        old = {name: stored.content for name, stored in bucket.objects.items()}
        fill(tmp_path / "root", base=7)
        puts = [left]

        def break_off(method: str, _name: str, puts: list[int] = puts) -> Reply | None:
            puts[0] -= method in {"PUT", "POST"}
            return error_reply(403, "ExpiredToken") if puts[0] < 0 else None

        bucket.fault = break_off
        if left < 3:
            with pytest.raises(StoreError):
                push_days(store, str(tmp_path / "root"), SERIES, [FIRST])
        bucket.fault = lambda _method, _name: None
        found = {name: stored.content for name, stored in bucket.objects.items()}
        time = key(f"time.{DAY:%d.%m.%y}.bin")
        assert (time in found) == (left in {0, 3})
        assert left > 0 or found == old
        push_days(store_of(bucket), str(tmp_path / "root"), SERIES, [FIRST])
        assert bucket.objects[key(f"price.{DAY:%d.%m.%y}.bin")].content == marks(10, base=7)
        assert time in bucket.objects


def test_day_that_has_only_grown_is_never_away(bucket: Standin, tmp_path: Path) -> None:
    """Its `time` stays until the longer one takes its place: a run that breaks off cuts nothing."""
    time_key = key(f"time.{DAY:%d.%m.%y}.bin")
    put(str(tmp_path), {"price": marks(10), "time": u32(*range(DAY_START_S, DAY_START_S + 10))})
    push_days(store_of(bucket), str(tmp_path), SERIES, [FIRST])
    put(str(tmp_path), {"price": marks(15), "time": u32(*range(DAY_START_S, DAY_START_S + 15))})
    bucket.requests.clear()

    def refuse_time(method: str, name: str) -> Reply | None:
        is_refused = method == "PUT" and name == time_key
        return error_reply(403, "ExpiredToken") if is_refused else None

    bucket.fault = refuse_time
    with pytest.raises(StoreError):
        push_days(store_of(bucket), str(tmp_path), SERIES, [FIRST])
    assert len(bucket.objects[time_key].content) == 40
    bucket.fault = lambda _method, _name: None
    assert push_days(store_of(bucket), str(tmp_path), SERIES, [FIRST]).files == 1
    assert len(bucket.objects[time_key].content) == 60
    changes = [method for method, _ in bucket.requests if method != "GET"]
    assert changes == ["PUT", "PUT", "PUT"], "nothing was deleted"


def test_large_file_is_put_once(bucket: Standin, tmp_path: Path) -> None:
    """S3 makes its ETag of those of its parts; the day never loses its `time` for it."""
    fill(tmp_path)
    large = os.urandom(PUT_PART_BYTES * 2 + 4)
    put(str(tmp_path), {"price": large})
    store = store_of(bucket)
    assert push_days(store, str(tmp_path), SERIES, [FIRST]).files == len(COLUMNS)
    assert bucket.objects[key(f"price.{DAY:%d.%m.%y}.bin")].etag.endswith('-3"')
    before = len(bucket.requests)
    assert push_days(store, str(tmp_path), SERIES, [FIRST]) == (0, 0, 1)
    assert {method for method, _ in bucket.requests[before:]} == {"GET"}
    put(str(tmp_path), {"price": bytes(1) + large[1:]})
    assert push_days(store, str(tmp_path), SERIES, [FIRST]).files == 2


def test_recorder_that_ends_waits_for_the_push_under_way(bucket: Standin, tmp_path: Path) -> None:
    """Two at once could take a day's `time` from each other."""
    fill(tmp_path)
    clock, begun, go = Clock(), threading.Event(), threading.Event()
    clock.now_s = float((FIRST + 1) * 86_400)
    pusher = DayPusher(store_of(bucket), str(tmp_path), 0.0, lambda _: None, clock, every_s=0.0)

    def hold_back(method: str, _key: str) -> None:
        if method == "PUT":
            begun.set()
            assert go.wait(30)

    bucket.fault = hold_back
    pusher.note(SERIES, FIRST)
    pusher.start()
    assert begun.wait(30)
    threading.Timer(0.2, go.set).start()
    assert pusher.close()
    puts = [name for method, name in bucket.requests if method == "PUT"]
    assert len(puts) == len(set(puts)) == len(COLUMNS)


def test_day_that_cannot_be_read_is_told_of_and_kept(bucket: Standin, tmp_path: Path) -> None:
    """Of the day before the first one nothing is said if nobody recorded it."""
    clock, told = Clock(), list[str]()
    clock.now_s = float((FIRST + 2) * 86_400)
    pusher = DayPusher(store_of(bucket), str(tmp_path), 0.0, told.append, clock)
    put(str(tmp_path), {"price": marks(10)})
    pusher.note(SERIES, FIRST)
    assert not pusher.push()
    assert len(told) == 1
    fill(tmp_path)
    assert pusher.close()
    assert len(bucket.objects) == len(COLUMNS)


def test_later_day_of_a_series_waits_for_an_earlier_one(bucket: Standin, tmp_path: Path) -> None:
    """Live streams would go past it. Who waits to be told hears of each day that was put."""
    clock, pushed = Clock(), list[tuple[int, frozenset[str]]]()
    clock.now_s = float((FIRST + 3) * 86_400)
    pusher = DayPusher(
        store_of(bucket, Breaker(clock)),
        str(tmp_path),
        0.0,
        lambda _: None,
        clock,
        on_pushed=lambda _series, day, columns: pushed.append((day, frozenset(columns))),
    )
    fill(tmp_path)
    for day in (FIRST, FIRST + 1):
        pusher.note(SERIES, day)
    first = f".{DAY:%d.%m.%y}.bin"
    bucket.fault = lambda _method, asked: (
        error_reply(403, "AccessDenied") if asked.endswith(first) else None
    )
    assert not pusher.push()
    assert bucket.objects == {}
    bucket.fault = lambda _method, _key: None
    clock.now_s += 60
    assert pusher.push()
    assert pushed == [(day, frozenset(COLUMNS)) for day in (FIRST, FIRST + 1)]


def test_day_without_time_is_refused(bucket: Standin, tmp_path: Path) -> None:
    """It would never be served."""
    put(str(tmp_path), {"price": marks(10)})
    with pytest.raises(DataError, match="time"):
        push_days(store_of(bucket), str(tmp_path), SERIES, [FIRST])
    assert bucket.objects == {}


def test_days_of_a_recorder_are_pushed_once_they_are_over(bucket: Standin, tmp_path: Path) -> None:
    """Past and settled; again after later rows; a store that is away is told of once."""
    fill(tmp_path)
    clock, told = Clock(), list[str]()
    clock.now_s = float((FIRST + 1) * 86_400 - 10)
    store = store_of(bucket, Breaker(clock))
    pusher = DayPusher(store, str(tmp_path), 600.0, told.append, clock)
    time = key(f"time.{DAY:%d.%m.%y}.bin")
    pusher.note(SERIES, FIRST)
    for later_s in (0.0, 20.0):  # still today, then not settled
        clock.now_s += later_s
        pusher.push()
        assert bucket.objects == {}
    clock.now_s += 600.0
    bucket.fault = lambda _method, _name: error_reply(403, "ExpiredToken")
    pusher.push()
    pusher.push()
    assert len(told) == 1
    bucket.fault = lambda _method, _name: None
    clock.now_s += 60.0
    pusher.push()
    assert time in bucket.objects
    before = len(bucket.requests)
    pusher.push()
    assert len(bucket.requests) == before
    fill(tmp_path, base=9)
    pusher.note(SERIES, FIRST)
    pusher.note(SERIES, FIRST + 1)
    pusher.close()
    assert bucket.objects[key(f"price.{DAY:%d.%m.%y}.bin")].content == marks(10, base=9)
    assert len(bucket.objects) == 3  # the next day is not over
