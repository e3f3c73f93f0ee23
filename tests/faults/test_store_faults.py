"""Each way in which a store fails, over HTTP: 503, or an abort of what has begun; then right bytes.

`tests/storage/store/test_planner.py` has the same faults below HTTP.
"""

from __future__ import annotations

import http.client
import threading
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.faults.stored import CLOSED_S, RECORDS, poll, serving, until_right
from tests.naive import naive_answer
from tests.standin import Reply, error_reply, standin
from tests.storage.trees import DAY, DAY_S, DAY_START_S, file_name, marks, put, u32
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.server import RunningServer
    from tests.standin import Standin, Stored

FAULTS: dict[str, Callable[[Stored], Reply]] = {
    "cut": lambda stored: Reply(200, {"ETag": stored.etag}, stored.content, cut=10),
    "slow down": lambda _stored: error_reply(503, "SlowDown"),
    "short": lambda stored: Reply(200, {"ETag": stored.etag}, stored.content[:-4]),
    "long": lambda stored: Reply(200, {"ETag": stored.etag}, stored.content + b"more"),
    "checksum": lambda stored: Reply(200, {"ETag": stored.etag}, b"x" + stored.content[1:]),
    "other": lambda stored: Reply(200, {"ETag": '"another"'}, stored.content),
    "listed but gone": lambda _stored: error_reply(404, "NoSuchKey"),
    "listed but replaced": lambda _stored: error_reply(412, "PreconditionFailed"),
    "bucket gone": lambda _stored: error_reply(404, "NoSuchBucket"),
    "credentials expired": lambda _stored: error_reply(403, "ExpiredToken"),
}
SLOW = "slow"


class Site(NamedTuple):
    """A store with a series for each fault, the same files on disk, and a server of the first."""

    bucket: Standin
    root: str
    server: RunningServer


@pytest.fixture(scope="module", name="site")
def fixture_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two days a series, with prices of its own; the store has 0.25 s to bring a byte."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    root, cache = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("cache")
    with standin() as bucket:
        for place, fault in enumerate((*FAULTS, SLOW)):
            for number in range(2):
                first_s = DAY_START_S + number * DAY_S
                columns = {
                    "time": u32(*range(first_s, first_s + DAY_S, 10)),
                    "price": marks(RECORDS, base=(2 * place + number) * RECORDS),
                }
                day = DAY + timedelta(days=number)
                put(str(root), columns, day, series_of(fault))
                for column, content in columns.items():
                    bucket.put(key_of(fault, column, number), content, CLOSED_S)
        with serving(bucket, cache, ZEROCOPY_S3_TIMEOUT_S="0.25") as server:
            yield Site(bucket, str(root), server)


def series_of(fault: str) -> Series:
    """The series that has it."""
    return Series("coinbase", fault.replace(" ", "-"), "MD")


def key_of(fault: str, column: str, number: int) -> str:
    """The key of a column of the first or second day of its series."""
    return "/".join(("p", *series_of(fault), file_name(column, DAY + timedelta(days=number))))


def span_of(last: int) -> tuple[int, int]:
    """From the first day to the last, cut by a second at both ends."""
    return DAY_START_S + 1, DAY_START_S + (last + 1) * DAY_S - 2


def target_of(fault: str, last: int) -> str:
    """The query of that span."""
    exchange, symbol, type_ = series_of(fault)
    start_s, end_s = span_of(last)
    return (
        f"/api/data?exchange={exchange}&symbol={symbol}&type={type_}"
        f"&start={start_s}&end={end_s}&columns=price"
    )


@pytest.mark.parametrize("fault", [*FAULTS, SLOW])
def test_fault_of_the_store_is_503_or_a_cut_and_then_right(site: Site, fault: str) -> None:
    """Nothing short with a clean end, nothing wrong, and nobody's hand: the store mends by itself.

    First the only file of an answer fails, then the last file of one that has begun.
    """
    bucket, root, server = site
    whole = naive_answer(root, *series_of(fault), *span_of(1), ["price"])
    go = threading.Event()

    def fail(number: int) -> Callable[[str, str], Reply | None]:
        failing = key_of(fault, "price", number)

        def reply(_method: str, key: str) -> Reply | None:
            if key != failing:
                return None
            if fault == SLOW:
                assert go.wait(50)
                return None
            return FAULTS[fault](bucket.objects[key])

        return reply

    def is_refused() -> bool:
        answer = server.get(target_of(fault, 0))
        assert (answer.status, "retry-after" in answer.fields) == (503, True)
        assert answer.fields["content-type"] == "application/problem+json"
        return is_asked(0)  # or it was the breaker's, of an earlier fault

    def is_asked(number: int) -> bool:
        return key_of(fault, "price", number) in bucket.fetched()

    try:
        bucket.fault = fail(0)
        poll(is_refused)
        bucket.fault = fail(1)
        poll(lambda: is_cut(server, target_of(fault, 1), whole))
        assert is_asked(1)
    finally:
        go.set()
        bucket.fault = lambda _method, _key: None
    until_right(lambda: server.get(target_of(fault, 1)), whole)


def is_cut(server: RunningServer, target: str, whole: bytes) -> bool:
    """Whether the answer began, with right bytes, and was broken off; else it is 503."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    with closing(connection):
        connection.request("GET", target)
        response = connection.getresponse()
        if response.status == 503:
            return False
        assert response.status == 200
        assert response.length == len(whole)
        got = bytearray()
        try:
            while piece := response.read1():
                got += piece
        except (http.client.IncompleteRead, ConnectionError):
            pass
        assert len(got) < len(whole)
        assert whole.startswith(got)
        return True
