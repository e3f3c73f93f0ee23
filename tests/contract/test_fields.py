"""What every response carries, and what tells one state of an answer from another."""

from __future__ import annotations

import os
import re
import shutil
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import pytest

from tests.contract.site import Site, data_target, serve, serve_all
from tests.storage.trees import (
    DAY,
    DAY_START_S,
    U32_MAX,
    age,
    append,
    folder,
    marks,
    path_of,
    put,
    replace,
    start_of,
    u32,
)
from tests.table import each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.contract.transports import Transport
    from tests.server import Answer, RunningServer
    from zerocopy.storage.tree import Series

CLOSED = "public, max-age=3600, no-transform"
OPEN = "no-cache, no-transform"
DAY_END_S = DAY_START_S + 86_399
LATER = DAY + timedelta(days=1)
IMF_FIXDATE = re.compile(r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT")
STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]+"')
EXPOSED = {"ETag", "Content-Range", "Content-Length", "Retry-After"}


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, RunningServer]]:
    """A server with the default of ten minutes until a past day is closed."""
    root = str(tmp_path_factory.mktemp("patient"))
    with serve_all(root, ZEROCOPY_DATA_SETTLE_S="600") as server:
        yield root, server


@pytest.fixture
def patient(transport: Transport, waiting: tuple[str, RunningServer]) -> Site:
    """It by one transport."""
    return Site(*waiting, transport)


@pytest.fixture(scope="module")
def settling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, RunningServer]]:
    """A server that lets a past day settle for half a second."""
    root = str(tmp_path_factory.mktemp("settling"))
    environ = {"ZEROCOPY_DATA_SETTLE_S": "0.5", "ZEROCOPY_CACHE_CLOSED_MAX_AGE_S": "77"}
    with serve_all(root, **environ) as server:
        yield root, server


@pytest.fixture
def closed(site: Site, series: Series) -> Series:
    """Two past days that are closed, for the server lets nothing settle."""
    for day in (DAY, DAY + timedelta(days=1)):
        columns = {"time": u32(start_of(day)), "price": marks(1), "volume": marks(1)}
        settle(*put(site.root, columns, day, series).values())
    return series


def settle(*paths: str, modified_s: int = DAY_END_S + 30 * 86_400) -> None:
    """Set modification times that lie far back."""
    for path in paths:
        os.utime(path, (modified_s, modified_s))


def unsettle(path: str) -> None:
    """Set a modification time that lies ahead: what no settling time is over for."""
    ahead_s = time.time() + 3_600
    os.utime(path, (ahead_s, ahead_s))


def copied(path: str, content: bytes) -> None:
    """Put a file where it belongs as `cp -p` and `rsync -a` do: with the times of the original."""
    replace(path, content, (DAY_END_S + 30 * 86_400) * 10**9)


def moment(answer: Answer, name: str) -> datetime:
    """A field that is an IMF-fixdate."""
    assert IMF_FIXDATE.fullmatch(answer.fields[name])
    return parsedate_to_datetime(answer.fields[name])


def every_kind(site: Site, series: Series) -> list[Answer]:
    """One response of every kind there is."""
    good = data_target(series)
    targets = [good, good + "x", "/api/symbols", "/healthz", "/readyz", "/openapi.json", "/nowhere"]
    answers = [site.ask(target, method=method) for target in targets for method in ("GET", "HEAD")]
    answers += [site.ask(target, method="OPTIONS") for target in ("/healthz", "/nowhere")]
    answers += [site.ask(good, method="POST"), site.ask("/" + "x" * 9_000)]
    answers += [site.ask("/healthz", fields=[("X", "x" * 9_000)])]
    answers += [site.ask("/api/data"), site.ask(data_target(series, columns=("none",)))]
    assert {answer.status for answer in answers} == {200, 204, 400, 404, 405, 414, 431}
    return answers


def test_fields_of_every_response(site: Site, closed: Series) -> None:
    """Date, Server and CORS, whatever the status."""
    asked = datetime.now(UTC)
    answers = every_kind(site, closed)
    answered = datetime.now(UTC)
    for answer in answers:
        assert answer.fields["server"] == "zerocopy"
        assert asked - timedelta(seconds=2) < moment(answer, "date") <= answered
        assert answer.fields["access-control-allow-origin"] == "*"
        exposed = set(answer.fields["access-control-expose-headers"].split(", "))
        assert exposed >= EXPOSED
        if answer.status != 204:
            assert answer.fields["content-type"]
            assert "no-transform" in answer.fields["cache-control"] or answer.status >= 400


def test_fields_of_data(site: Site, closed: Series) -> None:
    """Validators and freshness, and no coding that would hide the length."""
    answer = site.data(closed, DAY_START_S, DAY_END_S)
    assert STRONG_ETAG.fullmatch(answer.fields["etag"])
    assert answer.fields["cache-control"] == CLOSED
    assert moment(answer, "last-modified").timestamp() == DAY_END_S + 30 * 86_400
    assert "transfer-encoding" not in answer.fields
    assert "content-encoding" not in answer.fields


@each("path", ["/api/data", "/api/data?symbol=A", "/api/symbols", "/healthz", "/readyz"])
def test_preflight_allows_what_a_browser_asks(site: Site, path: str) -> None:
    """204 with the methods, the request's own fields and how long that holds."""
    fields = [
        ("Origin", "https://example.com"),
        ("Access-Control-Request-Method", "GET"),
        ("Access-Control-Request-Headers", "range,if-none-match"),
    ]
    answer = site.ask(path, method="OPTIONS", fields=fields)
    assert (answer.status, answer.content) == (204, b"")
    assert answer.fields["access-control-allow-methods"] == "GET, HEAD, OPTIONS"
    allowed = answer.fields["access-control-allow-headers"].replace(" ", "")
    assert allowed == "range,if-none-match"
    assert int(answer.fields["access-control-max-age"]) > 0
    assert site.ask(path, method="OPTIONS").status == 204


def test_cache_control_past_settled_days_are_closed(site: Site, closed: Series) -> None:
    """One day or both, with or without records in the range."""
    for end_s in (DAY_END_S, DAY_START_S, DAY_START_S + 5, DAY_START_S + 2 * 86_400 - 1):
        answer = site.data(closed, DAY_START_S, end_s)
        assert answer.fields["cache-control"] == CLOSED


def test_cache_control_future_end_is_open(site: Site, closed: Series) -> None:
    """A range that has not ended yet may still get records, and so may one that just has.

    A day without files is waited for until `gap_days` after its end.
    """
    today_s = int(time.time()) // 86_400 * 86_400
    assert site.data(closed, DAY_START_S, U32_MAX).fields["cache-control"] == OPEN
    assert site.data(closed, DAY_START_S, today_s).fields["cache-control"] == OPEN
    assert site.data(closed, DAY_START_S, today_s - 1).fields["cache-control"] == OPEN
    past_s = today_s - 8 * 86_400 - 1
    assert site.data(closed, DAY_START_S, past_s).fields["cache-control"] == CLOSED


def test_cache_control_of_today_is_open_however_old_its_files(site: Site, series: Series) -> None:
    """Today is never closed."""
    now_s = int(time.time())
    today = datetime.fromtimestamp(now_s, UTC).date()
    settle(*put(site.root, {"time": u32(now_s), "price": marks(1)}, today, series).values())
    assert site.data(series, 0, now_s).fields["cache-control"] == OPEN
    assert site.data(series, now_s, now_s).fields["cache-control"] == OPEN


@pytest.mark.parametrize(
    ("column", "columns"),
    [
        ("time", ("time", "price")),
        ("price", ("time", "price")),
        ("time", ("time",)),
        ("price", ("price",)),
        ("time", ("price",)),
    ],
)
def test_cache_control_day_with_a_file_that_changed_lately_is_open(
    site: Site, closed: Series, column: str, columns: tuple[str, ...]
) -> None:
    """A past day is open while any file that the answer depends on is unsettled; `time` is one."""
    unsettle(path_of(site.root, column, DAY, closed))
    assert site.data(closed, DAY_START_S, DAY_END_S, columns).fields["cache-control"] == OPEN
    both = site.data(closed, DAY_START_S, DAY_END_S + 86_400, columns)
    assert both.fields["cache-control"] == OPEN
    other = site.data(closed, DAY_START_S + 86_400, DAY_END_S + 86_400, columns)
    assert other.fields["cache-control"] == CLOSED


def test_cache_control_skipped_day_that_is_being_written_is_open(
    site: Site, closed: Series
) -> None:
    """A past day that gets its files just now is open; caches must not keep it as skipped."""
    settle(path_of(site.root, "volume", DAY, closed))
    os.unlink(path_of(site.root, "price", DAY, closed))
    unsettle(path_of(site.root, "time", DAY, closed))
    answer = site.data(closed, DAY_START_S, DAY_END_S)
    assert b'"skipped":["31.01.25"]' in answer.content
    assert answer.fields["cache-control"] == OPEN


def test_cache_control_skipped_day_written_after_a_plan_was_used_again_is_open(
    site: Site, closed: Series
) -> None:
    """The same, where the answer before was closed and would hold as far as its records go."""
    os.unlink(path_of(site.root, "price", DAY, closed))
    path = path_of(site.root, "time", DAY, closed)
    age(path, folder(site.root, closed), path_of(site.root, "price", LATER, closed))
    target = data_target(closed, DAY_START_S, DAY_END_S)
    with site.session() as session:
        for _ in range(3):
            assert session.request(target).fields["cache-control"] == CLOSED
        append(path, u32(DAY_START_S + 1))
        unsettle(path)
        assert session.request(target).fields["cache-control"] == OPEN


def test_cache_control_of_a_day_that_is_being_copied_in_is_open(
    patient: Site, series: Series
) -> None:
    """Its files keep their modification times and come one after another; none is cached."""
    times, prices = u32(DAY_START_S, DAY_START_S + 1), marks(2)
    put(patient.root, {"volume": marks(2)}, DAY, series)
    copied(path_of(patient.root, "price", DAY, series), prices)
    answer = patient.data(series, DAY_START_S, DAY_END_S, ("price",))
    assert b'"skipped":["31.01.25"]' in answer.content
    assert answer.fields["cache-control"] == OPEN
    copied(path_of(patient.root, "time", DAY, series), u32(DAY_START_S + 5, DAY_START_S + 6))
    assert patient.data(series, DAY_START_S, DAY_END_S).fields["cache-control"] == OPEN
    copied(path_of(patient.root, "time", DAY, series), times)
    answer = patient.data(series, DAY_START_S, DAY_END_S)
    assert answer.fields["cache-control"] == OPEN
    assert moment(answer, "last-modified").timestamp() == DAY_END_S + 30 * 86_400
    assert answer.content == patient.expected(series, DAY_START_S, DAY_END_S)


def test_cache_control_becomes_closed_when_the_day_settles(
    transport: Transport, settling: tuple[str, RunningServer], series: Series
) -> None:
    """The same request is open, then closed, without a change on disk; seconds from config."""
    root, _ = settling
    paths = put(root, {"time": u32(DAY_START_S), "price": marks(1)}, series=series)
    with Site(*settling, transport).session() as session:
        age(*paths.values())
        os.utime(paths["price"])
        settled_s = os.stat(paths["price"]).st_ctime + 0.5
        target = data_target(series, DAY_START_S, DAY_END_S)
        seen: list[str] = []
        while not seen or seen[-1] != "public, max-age=77, no-transform":
            begun_s = time.time()
            seen.append(session.request(target).fields["cache-control"])
            if time.time() < settled_s:
                assert seen[-1] == OPEN
            assert begun_s < settled_s or seen[-1] != OPEN
    assert OPEN in seen


def test_last_modified_is_the_newest_of_the_files(site: Site, closed: Series) -> None:
    """Of all files of the answer, in whole seconds."""
    path = path_of(site.root, "price", DAY + timedelta(days=1), closed)
    os.utime(path, ns=(1, 1_751_500_800_900_000_000))
    assert moment(site.data(closed), "last-modified").timestamp() == 1_751_500_800


def test_last_modified_is_never_after_date(site: Site, series: Series) -> None:
    """Also as a second begins, of a file whose time lies ahead.

    RFC 9110, 8.8.2.1: an origin server must not send a Last-Modified that is later than Date.
    """
    path = put(site.root, {"time": u32(DAY_START_S)}, DAY, series)["time"]
    os.utime(path, (U32_MAX, U32_MAX))
    target = data_target(series, columns=("time",))
    seconds: set[datetime] = set()
    with site.session() as session:
        while len(seconds) < 2:
            answer = session.request(target)
            assert moment(answer, "last-modified") <= moment(answer, "date")
            seconds.add(moment(answer, "date"))


def test_etag_is_the_same_each_time_and_for_get_and_head(site: Site, closed: Series) -> None:
    """While nothing changes, fresh plan or used again."""
    target = data_target(closed)
    answers = [site.ask(target, method=method) for method in ("GET", "HEAD", "GET") * 3]
    assert len({answer.fields["etag"] for answer in answers}) == 1


def test_etag_on_a_copy_of_the_tree_is_the_same(
    site: Site, closed: Series, transport: Transport, tmp_path: Path
) -> None:
    """Replicas with the same files agree on every validator, wherever their root is."""
    source = os.path.join(site.root, *closed)
    shutil.copytree(source, os.path.join(tmp_path, *closed), copy_function=shutil.copy2)
    with serve(transport, str(tmp_path)) as replica:
        for columns in (("time", "price"), ("price",), ("volume", "time")):
            for end_s in (DAY_END_S, U32_MAX):
                ours = site.data(closed, 0, end_s, columns)
                theirs = replica.data(closed, 0, end_s, columns)
                assert ours.content == theirs.content
                for name in ("etag", "last-modified", "cache-control"):
                    assert ours.fields[name] == theirs.fields[name]


def test_etag_after_every_change_is_another(site: Site, closed: Series) -> None:
    """Grown, replaced by one of the same size, shrunk, gone: never a tag seen before."""
    price = path_of(site.root, "price", DAY, closed)
    paths = [path_of(site.root, column, DAY, closed) for column in ("time", "price", "volume")]

    def grow() -> None:
        for path in paths:
            append(path, u32(DAY_START_S + 1))

    changes: list[Callable[[], object]] = [
        grow,
        lambda: replace(price, marks(2, base=50)),
        lambda: os.truncate(price, 4),
        lambda: os.unlink(price),
    ]
    tags = [site.data(closed).fields["etag"]]
    bodies = [site.data(closed).content]
    for change in changes:
        change()
        answer = site.data(closed)
        assert answer.content == site.expected(closed)
        tags.append(answer.fields["etag"])
        bodies.append(answer.content)
    assert len(set(bodies)) == len(bodies)
    assert len(set(tags)) == len(tags)


def test_etag_of_different_answers_of_a_series_differs(site: Site, closed: Series) -> None:
    """Other columns, another order, another range."""
    queries = [
        site.data(closed, columns=columns)
        for columns in (("time",), ("price",), ("time", "price"), ("price", "time"))
    ]
    queries.append(site.data(closed, DAY_START_S + 86_400))
    assert len({answer.fields["etag"] for answer in queries}) == len(queries)
