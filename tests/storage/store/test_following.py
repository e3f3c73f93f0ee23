"""`StoreFollower`: days that grow, are replaced, come late or lack their `time`; the store away."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.standin import error_reply
from tests.storage.store.bench import LIST_S, Node, Ticking, key, node
from tests.storage.trees import DTYPES, SERIES, marks, u32
from zerocopy.core.cursor import Cursor, Sight
from zerocopy.core.errors import DataError, NotFoundError, StoreError
from zerocopy.core.layout import DAY_S, Dtypes, file_name
from zerocopy.storage.live.following import Followed, Look
from zerocopy.storage.store.following import StoreFollower
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standin import Reply, Standin

DAY = 20_000
SETTLE_S = 600.0
FOLLOWED = Followed(SERIES, ("time", "price"))
OLD_S = 1_700_000_000
LINES_MAX = 4


class Bench:
    """A node, what follows its store, and the days that a test puts there."""

    def __init__(self, bucket: Standin, parts: Node) -> None:
        self.bucket = bucket
        self.node = parts
        self.follower = StoreFollower(
            parts.listings,
            parts.names,
            parts.fetcher,
            parts.files,
            Dtypes(DTYPES),
            settle_s=SETTLE_S,
            lines_max=LINES_MAX,
            clock=parts.clock,
        )

    def put(self, day: int, count: int, base: int = 0) -> None:
        """A day of so many records, `time` last."""
        self.bucket.put(key(file_name("price", day)), marks(count, base=base), OLD_S)
        times = u32(*range(day * DAY_S, day * DAY_S + count))
        self.bucket.put(key(file_name("time", day)), times, OLD_S)

    def look(self, day: int = DAY, known: Look | None = None, *, fresh: bool = True) -> Look:
        """A look, by a listing that is made for it."""
        if fresh:
            self.node.clock.now_s += LIST_S
        return self.follower.look(FOLLOWED, day, known)


@pytest.fixture(name="bench")
def fixture_bench(bucket: Standin, tmp_path: Path) -> Iterator[Bench]:
    """With a day of three records."""
    with node(bucket, str(tmp_path), clock=Ticking()) as parts:
        bench = Bench(bucket, parts)
        bench.put(DAY, 3)
        yield bench


def prices(look: Look, count: int) -> bytes:
    """The first records of the column `price`."""
    assert look.opened is not None
    return look.opened.read("price", 0, count)


@contextmanager
def away(bench: Bench) -> Iterator[None]:
    """A store that refuses everything, what other threads ask meanwhile too."""
    bucket = bench.bucket

    def refuse(_method: str, _key: str) -> Reply:
        return error_reply(403, "AccessDenied")

    sound, bucket.fault = bucket.fault, refuse
    try:
        yield
    finally:
        bench.node.fetcher.close()  # a failure that comes later would open the breaker then
        bucket.fault = sound


def test_day_that_grew_is_the_same_to_its_readers(bench: Bench) -> None:
    """Other files in the store and in the cache; the same keys, and all records."""
    first = bench.look()
    assert first.sight == Sight(DAY, 3, first.sight.identity, None)
    assert bench.look(known=first) is first
    bench.put(DAY, 5)
    grown = bench.look(known=first)
    assert grown.opened is not None
    assert first.opened is not None
    assert (grown.sight.aligned, grown.opened.keys) == (5, first.opened.keys)
    assert prices(grown, 5) == marks(5)
    assert prices(first, 3) == marks(3)


def others(bench: Bench) -> None:
    """Look for more series than are kept."""
    for number in range(LINES_MAX + 1):
        bench.follower.newest(Followed(Series("coinbase", f"OTHER{number}", "MD"), ("time",)))


def test_day_that_somebody_reads_is_known_however_many_others_are(bench: Bench) -> None:
    """It grew, and is the same to its readers: they begin anew with none of its records."""
    first = bench.look()
    assert first.opened is not None
    for count in (5, 8):
        others(bench)
        bench.put(DAY, count)
        grown = bench.look(known=first)
        assert grown.opened is not None
        assert (grown.sight.aligned, grown.opened.keys) == (count, first.opened.keys)


def test_what_nobody_reads_is_forgotten(bench: Bench) -> None:
    """But for the last series and columns."""
    assert bench.look().opened is not None
    assert FOLLOWED in bench.follower._lines
    others(bench)
    assert FOLLOWED not in bench.follower._lines
    assert len(bench.follower._lines) == LINES_MAX


def test_day_that_grew_unseen_is_the_same_as_well(bench: Bench) -> None:
    """Nobody has the copy open that was seen last, and nothing has changed since."""
    keys = bench.look().opened.keys  # type: ignore[union-attr]
    assert bench.look().opened.keys == keys  # type: ignore[union-attr]


@pytest.mark.parametrize("count", [2, 3, 5])
def test_day_with_other_records_was_replaced(bench: Bench, count: int) -> None:
    """Fewer, as many or more: its keys are others."""
    first = bench.look()
    bench.put(DAY, count, base=1)
    other = bench.look(known=first)
    assert other.opened is not None
    assert first.opened is not None
    assert other.opened.keys != first.opened.keys
    assert prices(other, count) == marks(count, base=1)


def test_only_what_is_asked_for_and_has_changed_is_fetched(bench: Bench) -> None:
    """`time` tells by its length where it is no column of the stream."""
    followed = Followed(SERIES, ("price",))
    bench.follower.look(followed, DAY)
    assert bench.bucket.fetched() == [key(file_name("price", DAY))]
    bench.put(DAY, 4)
    bench.bucket.put(key(file_name("price", DAY)), marks(3), OLD_S)
    bench.node.clock.now_s += LIST_S
    assert bench.follower.look(followed, DAY).sight.aligned == 3
    assert len(bench.bucket.fetched()) == 1


def test_later_day_is_seen_behind_all_records_of_this_one(bench: Bench) -> None:
    """The listing that shows it first shows this day as it was before."""
    stale = dict(bench.bucket.objects)
    first = bench.look()
    bench.put(DAY, 5)
    bench.put(DAY + 1, 1)
    told = {name: each for name, each in bench.bucket.objects.items() if name not in stale}
    bench.bucket.listed = {**stale, **told}

    def second(_method: str, asked: str) -> None:
        if not asked and sum(not name for _, name in bench.bucket.requests) % 2 == 0:
            bench.bucket.listed = None

    bench.bucket.requests.clear()
    bench.bucket.fault = second
    found = bench.look(known=first)
    assert (found.sight.aligned, found.sight.later) == (5, DAY + 1)


def test_day_between_is_seen_before_the_one_behind_it(bench: Bench) -> None:
    """It comes late, and nobody goes past it."""
    bench.put(DAY + 2, 1)
    assert bench.look().sight.later == DAY + 2
    bench.put(DAY + 1, 1)
    assert bench.look().sight.later == DAY + 1


def test_later_day_is_not_believed_while_the_store_cannot_say_so(bench: Bench) -> None:
    """One listing is not enough, and there is no second one: the reader waits."""
    bench.put(DAY + 1, 1)
    bench.node.listings.of(SERIES)
    with away(bench), pytest.raises(StoreError):
        bench.look(fresh=False)
    assert bench.look().sight.later == DAY + 1


def test_day_without_its_time_is_waited_for(bench: Bench) -> None:
    """Its readers keep what they had. Nobody else gets that: it may be replaced."""
    bench.put(DAY + 1, 1)
    first = bench.look()
    times = bench.bucket.objects.pop(key(file_name("time", DAY)))
    for known in (None, first):
        with pytest.raises(StoreError, match="is being replaced"):
            bench.look(known=known)
    assert bench.look(DAY - 1).sight.later == DAY
    bench.bucket.objects[key(file_name("time", DAY))] = times
    assert bench.look(known=first) is first


def test_day_that_never_gets_its_time_is_passed_over(bench: Bench) -> None:
    """As queries skip it, once nothing has happened to it for long."""
    bench.put(DAY + 1, 1)
    del bench.bucket.objects[key(file_name("time", DAY))]
    with pytest.raises(StoreError):
        bench.look()
    bench.node.clock.now_s += SETTLE_S
    assert bench.look(fresh=False).sight == Sight(DAY, None, None, DAY + 1)
    assert bench.look(DAY - 1).sight.later == DAY + 1


def test_day_without_its_time_is_no_beginning(bench: Bench) -> None:
    """Else all of it would come: as new, or although it is older than what was asked for."""
    assert bench.follower.newest(FOLLOWED) == Cursor(DAY, 3)
    del bench.bucket.objects[key(file_name("time", DAY))]
    bench.node.clock.now_s += LIST_S
    with pytest.raises(StoreError, match="is being replaced"):
        bench.follower.newest(FOLLOWED)
    with pytest.raises(StoreError, match="is being replaced"):
        bench.follower.first_at(FOLLOWED, DAY * DAY_S + 2)


def test_store_that_is_away_leaves_what_was_seen(bench: Bench) -> None:
    """The last listing holds, and what is in the cache; what is not, is asked for again."""
    first = bench.look()
    with away(bench):
        assert bench.look(known=first) is first
        assert bench.look().sight == first.sight
    bench.put(DAY, 4)
    listed = bench.bucket.fault
    bench.bucket.fault = lambda _method, asked: error_reply(403, "AccessDenied") if asked else None
    with pytest.raises(StoreError):
        bench.look(known=first)
    bench.node.fetcher.close()
    bench.bucket.fault = listed
    assert bench.look(known=first).sight.aligned == 4


def test_file_that_was_replaced_since_it_was_listed_is_listed_again(bench: Bench) -> None:
    """What comes is what the store has."""
    bench.node.listings.of(SERIES)
    bench.put(DAY, 4)
    assert bench.follower.first_at(FOLLOWED, DAY * DAY_S + 3) == Cursor(DAY, 3)
    bench.put(DAY, 5)
    bench.node.cache.trim(0)
    assert prices(bench.look(fresh=False), 5) == marks(5)


def test_series_that_is_expected_to_have_changed_is_listed_at_once(bench: Bench) -> None:
    """Once, however often it is looked at."""
    bench.look()
    bench.put(DAY, 5)
    bench.node.clock.now_s += 1
    assert bench.look(fresh=False).sight.aligned == 3
    bench.follower.expect(SERIES)
    bench.node.clock.now_s += 1
    bench.bucket.requests.clear()
    assert bench.look(fresh=False).sight.aligned == 5
    lists = sum(not name for _, name in bench.bucket.requests)
    assert bench.look(fresh=False).sight.aligned == 5
    assert sum(not name for _, name in bench.bucket.requests) == lists


def test_expectation_of_a_clock_that_was_set_back_is_forgotten(bench: Bench) -> None:
    """Else the store would be asked at each look, until the clock shows that time again."""
    bench.follower.expect(SERIES)
    bench.node.clock.now_s -= 3_600
    bench.look(fresh=False)
    bench.bucket.requests.clear()
    bench.look(fresh=False)
    assert not bench.bucket.requests


def reach(bench: Bench, position: int) -> None:
    """What is done before a stream begins there."""
    bench.follower.reaching(FOLLOWED, Cursor(DAY, position))()


def test_cursor_of_a_server_that_has_seen_more_is_reached(bench: Bench) -> None:
    """It would look as if the day had become shorter. One that was reached asks nobody."""
    bench.look()
    bench.put(DAY, 5)
    bench.bucket.requests.clear()
    reach(bench, 3)
    assert not bench.bucket.requests
    with away(bench), pytest.raises(StoreError):
        reach(bench, 4)
    reach(bench, 4)
    assert bench.look(fresh=False).sight.aligned == 5
    reach(bench, 9)


def test_cursors_that_no_server_gave_cost_one_listing_together(bench: Bench) -> None:
    """Of all who have come before it was begun; who comes later has the store asked again."""
    bench.look()
    for _ in range(2):
        asked = [bench.follower.reaching(FOLLOWED, Cursor(DAY, 99)) for _ in range(5)]
        bench.bucket.requests.clear()
        for each in asked:
            each()
        assert sum(not name for _, name in bench.bucket.requests) == 1


def test_beginning_by_time(bench: Bench) -> None:
    """As over files: the first record at or after it, else behind the day, else the day itself."""
    for start, position in ((0, 0), (1, 1), (2, 2), (3, 3)):
        assert bench.follower.first_at(FOLLOWED, DAY * DAY_S + start) == Cursor(DAY, position)
    assert bench.follower.first_at(FOLLOWED, (DAY + 7) * DAY_S) == Cursor(DAY + 7, 0)
    first_s = DAY * DAY_S
    unsorted = u32(first_s + 1, first_s + 9, first_s + 5)
    bench.bucket.put(key(file_name("time", DAY)), unsorted, OLD_S)
    bench.node.clock.now_s += LIST_S
    with pytest.raises(DataError, match="not sorted"):
        bench.follower.first_at(FOLLOWED, first_s + 6)


def test_what_does_not_exist_is_told_and_what_may_come_is_waited_for(bench: Bench) -> None:
    """As over files."""
    bench.follower.check(FOLLOWED)
    with pytest.raises(NotFoundError, match="column size"):
        bench.follower.check(Followed(SERIES, ("size",)))
    with pytest.raises(NotFoundError, match="symbol Y"):
        bench.follower.check(Followed(Series("coinbase", "Y", "MD"), ("price",)))
    assert bench.look(DAY + 9).sight == Sight(DAY + 9, None, None, None)
    bench.bucket.reset()
    assert bench.look().sight == Sight(DAY, None, None, None)
    assert bench.follower.newest(FOLLOWED) == Cursor(int(bench.node.clock.now_s) // DAY_S, 0)


def test_what_is_known_of_series_is_bounded(bench: Bench) -> None:
    """The one that was not looked at for longest is forgotten."""
    for number in range(9):
        series = Series("coinbase", f"N{number}", "MD")
        bench.follower.expect(series)
        bench.follower.look(Followed(series, ("price",)), DAY)
    assert len(bench.follower._lines) == len(bench.follower._expected) == 4
