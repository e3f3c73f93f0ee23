"""`StorePlanner`: over a store it answers what the oracle answers over the same files."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings

from tests.naive import naive_answer
from tests.standin import Reply, error_reply
from tests.storage.store.bench import LIST_S, Clock, key, node
from tests.storage.test_planner_properties import Case, cases
from tests.storage.trees import DAY, DAY_S, DAY_START_S, DTYPES, SERIES, marks, put, query, u32
from zerocopy.core import counters as slots
from zerocopy.core.errors import NotFoundError, StoreError
from zerocopy.storage.store.fetching import StoredFile

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.standin import Standin

DAYS = 5
RECORDS = 40


def fill(bucket: Standin, root: Path, days: int = DAYS, modified_s: int = 1_700_000_000) -> None:
    """So many days of `time`, `price` and `size`, on disk and in the store."""
    for number in range(days):
        day = DAY + timedelta(days=number)
        first_s = DAY_START_S + number * DAY_S
        times = u32(*(first_s + second * 60 for second in range(RECORDS)))
        columns = {"time": times, "price": marks(RECORDS, base=number * 1_000), "size": times}
        put(str(root), columns, day)
    bucket.upload(root, "p/")
    for name, stored in list(bucket.objects.items()):
        bucket.put(name, stored.content, modified_s)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_plan_of_any_store_and_query_equals_the_oracle_over_the_same_files(
    case: Case, bucket: Standin
) -> None:
    """Header and bytes, in pages of listings, first from the store and then from the cache."""
    bucket.reset()
    bucket.page = 3
    with tempfile.TemporaryDirectory() as root, tempfile.TemporaryDirectory() as path:
        put(root, {})
        for day, files in case.days.items():
            put(root, files, day)
        bucket.upload(root, "p/")
        wanted = query(case.start_s, case.end_s, case.columns, last=case.last)
        known = {column for files in case.days.values() for column in files}
        with node(bucket, path, small_bytes_max=case.small_bytes_max) as opened:
            if not known.issuperset(case.columns):
                with pytest.raises(NotFoundError):
                    opened.plan(wanted)
                return
            expected = naive_answer(root, *SERIES, *case[1:4], DTYPES, case.last)
            assert opened.body(wanted) == expected
            opened.fetcher.close()  # `time` of a cut day is asked for although another is empty
            before = len(bucket.requests)
            assert opened.body(wanted) == expected
            assert len(bucket.requests) == before


def test_plan_fetches_only_what_the_query_touches(bucket: Standin, tmp_path: Path) -> None:
    """`time` of the two cut days, and the column asked for; of a whole day its column alone."""
    fill(bucket, tmp_path / "root")
    start_s, end_s = DAY_START_S + DAY_S + 60, DAY_START_S + 3 * DAY_S + 60
    with node(bucket, str(tmp_path / "cache"), small_bytes_max=0) as opened:
        body = opened.body(query(start_s, end_s, ("price",)))
    assert body == naive_answer(str(tmp_path / "root"), *SERIES, start_s, end_s, ["price"])
    named = [DAY + timedelta(days=number) for number in range(1, 4)]
    cut = {key(f"time.{day:%d.%m.%y}.bin") for day in (named[0], named[-1])}
    assert set(bucket.fetched()) == cut | {key(f"price.{day:%d.%m.%y}.bin") for day in named}
    assert len(bucket.fetched()) == len(set(bucket.fetched()))


def test_plan_has_the_same_validators_on_every_node(bucket: Standin, tmp_path: Path) -> None:
    """Nodes with caches of their own, one of them filled in another order, agree on the ETag."""
    fill(bucket, tmp_path / "root")
    with node(bucket, str(tmp_path / "a")) as first, node(bucket, str(tmp_path / "b")) as second:
        second.body(query(DAY_START_S + 2 * DAY_S, columns=("size",)))
        tags = [each.plan(query(DAY_START_S + 60)).validators for each in (first, second)]
    assert tags[0] == tags[1]
    assert tags[0].modified_ns // 10**9 == 1_700_000_000


def test_plan_of_a_replaced_day_has_another_tag(bucket: Standin, tmp_path: Path) -> None:
    """The same length, put in the same second: the digest of the ETag tells them apart."""
    fill(bucket, tmp_path / "root")
    clock = Clock()
    name = key(f"price.{DAY:%d.%m.%y}.bin")
    with node(bucket, str(tmp_path / "cache"), clock=clock) as opened:
        before = opened.plan()
        bucket.put(name, marks(RECORDS, base=77), 1_700_000_000)
        clock.now_s += LIST_S
        assert not before.proof.holds()
        after = opened.plan()
        assert after.validators.etag != before.validators.etag
        assert marks(RECORDS, base=77) in opened.body()


def test_kept_plan_holds_while_its_listing_is_believed(bucket: Standin, tmp_path: Path) -> None:
    """For `list_s`, without asking anybody."""
    fill(bucket, tmp_path / "root")
    clock = Clock()
    with node(bucket, str(tmp_path / "cache"), clock=clock) as opened:
        planned = opened.plan()
        clock.now_s += LIST_S - 1
        assert planned.proof.reusable
        assert planned.proof.holds()
        clock.now_s += 2
        assert not planned.proof.holds()


def test_first_bytes_can_leave_while_later_days_are_on_their_way(
    bucket: Standin, tmp_path: Path
) -> None:
    """A plan is made although the store holds back every file but the first."""
    fill(bucket, tmp_path / "root")
    first = key(f"price.{DAY:%d.%m.%y}.bin")
    bucket.fault = lambda method, name: (
        error_reply(503, "SlowDown") if method == "GET" and name not in ("", first) else None
    )
    with node(bucket, str(tmp_path / "cache"), small_bytes_max=0) as opened:
        planned = opened.plan(query(columns=("price",)))
        assert planned.representation.nbytes > DAYS * RECORDS * 4
        assert [day_file.name for day_file, _ in planned.held] == [first.rpartition("/")[2]]


def test_each_file_of_a_plan_is_fetched_ahead_once_and_again_if_it_is_gone(
    bucket: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kept response is sent many times; looking for its files each time would cost more."""
    fill(bucket, tmp_path / "root")
    with node(bucket, str(tmp_path / "cache"), small_bytes_max=0) as opened:
        asked: list[str] = []
        start = opened.fetcher.start

        def noted(day_files: Iterable[StoredFile]) -> None:
            files = list(day_files)
            asked.extend(day_file.name for day_file in files)
            start(files)

        monkeypatch.setattr(opened.fetcher, "start", noted)
        planned = opened.plan(query(DAY_START_S, DAY_START_S + DAYS * DAY_S - 1, ("price",)))
        sources = [segment.source for segment in planned.representation.segments]
        for expected in (DAYS - 1, 0, DAYS - 1):
            for source in sources:
                assert isinstance(source, StoredFile)
                opened.files.fetch(source).close()
            assert len(set(asked)) == expected
            if not expected:
                opened.files.close()
                opened.fetcher.close()
                assert opened.cache.trim(0).nbytes == 0
            asked.clear()


def test_store_that_is_away_serves_what_is_in_the_cache_and_nothing_else(
    bucket: Standin, tmp_path: Path
) -> None:
    """The last listing holds, uncacheable; a day that is not here is an error, never left out."""
    fill(bucket, tmp_path / "root")
    clock = Clock()
    warm = query(0, DAY_START_S + 2 * DAY_S - 1, ("price",))
    with node(bucket, str(tmp_path / "cache"), clock=clock, small_bytes_max=0) as opened:
        body = opened.body(warm)
        bucket.fault = lambda _method, _name: error_reply(503, "SlowDown")
        clock.now_s += LIST_S
        assert opened.body(warm) == body
        planned = opened.plan(warm)
        assert planned.closes_s == math.inf
        assert not planned.proof.reusable
        with pytest.raises(StoreError):
            opened.plan(query(columns=("price",)))
        with pytest.raises(StoreError):
            opened.plan(query(0, DAY_START_S + 2 * DAY_S - 1, ("size",)))
        opened.fetcher.close()
        bucket.reset()
        bucket.upload(tmp_path / "root", "p/")
        clock.now_s += LIST_S
        assert opened.body() == naive_answer(
            str(tmp_path / "root"), *SERIES, 0, 2**32 - 1, ["time", "price"]
        )


def test_restarted_node_serves_its_cache_without_the_store(bucket: Standin, tmp_path: Path) -> None:
    """Listing and files outlive the process that fetched them."""
    fill(bucket, tmp_path / "root")
    clock = Clock()
    with node(bucket, str(tmp_path / "cache"), clock=clock) as opened:
        body = opened.body()
    bucket.fault = lambda _method, _name: error_reply(403, "ExpiredToken")
    clock.now_s += 10 * LIST_S
    with node(bucket, str(tmp_path / "cache"), clock=clock) as again:
        assert again.body() == body


def test_open_days_of_a_store_are_open(bucket: Standin, tmp_path: Path) -> None:
    """By when they were put there, not by when they were fetched."""
    fill(bucket, tmp_path / "root")
    with node(bucket, str(tmp_path / "cache")) as opened:
        span = query(DAY_START_S, DAY_START_S + DAYS * DAY_S - 1)
        assert opened.plan(span).closes_s < time.time()
    fill(bucket, tmp_path / "root", modified_s=int(time.time()))
    with node(bucket, str(tmp_path / "other")) as opened:
        assert opened.plan(span).closes_s > time.time()


def test_day_is_closed_by_a_listing_of_after_it_and_with_its_time(
    bucket: Standin, tmp_path: Path
) -> None:
    """What was put before it was closed, and after it was listed, is in no cache for it."""
    closes_s = time.time() - 100.0
    fill(bucket, tmp_path / "root", modified_s=int(closes_s) - 600)
    span = query(DAY_START_S, DAY_START_S + DAYS * DAY_S - 1)
    with node(bucket, str(tmp_path / "cache")) as opened:
        opened.clock.now_s = closes_s - 10.0
        assert opened.plan(span).closes_s == math.inf
        opened.clock.now_s += LIST_S
        assert opened.plan(span).closes_s <= time.time()
        bucket.objects.pop(key(f"time.{DAY:%d.%m.%y}.bin"))  # as before it is put anew
        opened.clock.now_s += LIST_S
        planned = opened.plan(span)
        assert (len(planned.skipped), planned.closes_s) == (1, math.inf)


def test_day_that_is_replaced_while_it_is_listed_is_not_mixed(
    bucket: Standin, tmp_path: Path
) -> None:
    """A page has `price` from before and a later one `time` from after; `price` is in the cache."""
    fill(bucket, tmp_path / "root", days=1)
    wanted = query(columns=("price",))
    with node(bucket, str(tmp_path / "cache")) as opened:
        opened.body(wanted)
        opened.clock.now_s += LIST_S
        bucket.page = 1
        put(str(tmp_path / "root"), {"time": u32(*range(DAY_START_S, DAY_START_S + RECORDS))})
        put(str(tmp_path / "root"), {"price": marks(RECORDS, base=33)})
        pages = iter(range(9))

        def replace(_method: str, name: str) -> None:
            if not name and next(pages) == 1:
                bucket.upload(tmp_path / "root", "p/")

        bucket.fault = replace
        expected = naive_answer(str(tmp_path / "root"), *SERIES, 0, 2**32 - 1, ["price"])
        assert opened.body(wanted) == expected


def test_cache_that_is_deleted_is_made_anew(bucket: Standin, tmp_path: Path) -> None:
    """All of it, listings and locks too, while it is used."""
    fill(bucket, tmp_path / "root")
    with node(bucket, str(tmp_path / "cache")) as opened:
        body = opened.body()
        shutil.rmtree(tmp_path / "cache")
        opened.clock.now_s += LIST_S
        assert opened.names.listed().keys() == {SERIES.exchange}
        assert opened.body() == body


@pytest.mark.parametrize("small_bytes_max", [0, 1 << 20])
def test_replaced_file_that_the_listing_does_not_show_yet_is_listed_again(
    bucket: Standin, tmp_path: Path, small_bytes_max: int
) -> None:
    """The plan is made of the file that is there; nothing of the old one is in it."""
    fill(bucket, tmp_path / "root")
    path = str(tmp_path / "cache")
    with node(bucket, path, small_bytes_max=small_bytes_max) as opened:
        opened.listings.of(SERIES)
        opened.clock.now_s += 1
        name = f"price.{DAY:%d.%m.%y}.bin"
        bucket.put(key(name), marks(RECORDS, base=55))
        put(str(tmp_path / "root"), {"price": marks(RECORDS, base=55)})
        expected = naive_answer(str(tmp_path / "root"), *SERIES, 0, 2**32 - 1, ["price"])
        assert opened.body(query(columns=("price",))) == expected


def test_listing_that_stays_behind_is_a_503(bucket: Standin, tmp_path: Path) -> None:
    """The store lists a file that it does not have."""
    fill(bucket, tmp_path / "root")
    bucket.listed = dict(bucket.objects)
    del bucket.objects[key(f"price.{DAY:%d.%m.%y}.bin")]
    with (
        node(bucket, str(tmp_path / "cache")) as opened,
        pytest.raises(StoreError, match="lists"),
    ):
        opened.plan()


@pytest.mark.parametrize(
    "fault",
    [
        lambda stored: Reply(200, {"ETag": stored.etag}, stored.content[:-4]),
        lambda stored: Reply(200, {"ETag": stored.etag}, stored.content + b"more"),
        lambda stored: Reply(200, {"ETag": stored.etag}, b"x" + stored.content[1:]),
        lambda stored: Reply(200, {"ETag": '"another"'}, stored.content),
        lambda stored: Reply(200, {"ETag": stored.etag}, stored.content, cut=10),
        lambda _stored: error_reply(503, "SlowDown"),
        lambda _stored: error_reply(403, "ExpiredToken"),
        lambda _stored: error_reply(404, "NoSuchBucket"),
    ],
    ids=["short", "long", "checksum", "other", "cut", "slow down", "expired", "bucket gone"],
)
def test_faulty_store_gives_503_and_then_the_right_bytes(
    bucket: Standin, tmp_path: Path, fault: object
) -> None:
    """Nothing short and nothing wrong is answered or kept; recovery needs no hand."""
    assert callable(fault)
    fill(bucket, tmp_path / "root")
    bucket.fault = lambda method, name: (
        fault(bucket.objects[name]) if method == "GET" and name else None
    )
    with node(bucket, str(tmp_path / "cache")) as opened:
        for _ in range(2):
            with pytest.raises(StoreError):
                opened.plan()
        # A fetch that began before the store was back would fail after it, and open the breaker.
        opened.fetcher.close()
        assert not list((tmp_path / "cache").rglob("*.bin"))
        bucket.fault = lambda _method, _name: None
        opened.clock.now_s += LIST_S
        assert opened.body() == naive_answer(
            str(tmp_path / "root"), *SERIES, 0, 2**32 - 1, ["time", "price"]
        )
        assert opened.counters[slots.STORE_FAILURES] >= 1


def test_unknown_series_and_columns_are_not_found(bucket: Standin, tmp_path: Path) -> None:
    """As on disk; names that nobody has leave nothing below the cache."""
    fill(bucket, tmp_path / "root", days=1)
    with node(bucket, str(tmp_path / "cache")) as opened:
        with pytest.raises(NotFoundError, match="symbol"):
            opened.plan(query(series=SERIES._replace(symbol="NONE")))
        with pytest.raises(NotFoundError, match="column nothing"):
            opened.plan(query(columns=("nothing",)))
    assert not [path for path in (tmp_path / "cache").rglob("*") if "NONE" in path.name]


def test_catalog_of_a_store_is_that_of_the_files(bucket: Standin, tmp_path: Path) -> None:
    """Days, columns, first and last time; a symbol that nobody has is not found."""
    fill(bucket, tmp_path / "root")
    with node(bucket, str(tmp_path / "cache")) as opened:
        found = opened.contents.of(SERIES.exchange, SERIES.symbol)["types"]["MD"]
        assert (found["first_day"], found["days"]) == (f"{DAY}", DAYS)
        assert found["first_time"] == DAY_START_S
        assert found["last_time"] == DAY_START_S + (DAYS - 1) * DAY_S + (RECORDS - 1) * 60
        assert [column["name"] for column in found["columns"]] == ["time", "price", "size"]
        with pytest.raises(NotFoundError):
            opened.contents.of(SERIES.exchange, "NONE")
