"""Every bound of config.toml at its bound: the last that fits, the first that does not, all paths.

One server for each transport has all its bounds set so low that each is easily reached. The table
at the end names the test of every option, so that a new one without a test fails here.
"""

from __future__ import annotations

import os
import time
from collections import deque
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from h2.settings import SettingCodes

from tests.contract.site import Site, data_target, serve
from tests.contract.transports import TRANSPORTS
from tests.faults.client import OLD_S, poll
from tests.faults.tls_client import HELLO, connect_raw, goaways_of, read_to_end
from tests.h2client import H2Client
from tests.storage.trees import DAY, SERIES, marks, put, start_of, u32
from tests.transport.http2.frames import frame
from zerocopy.config.options import LimitsTable, MemoryTable, TimeoutsTable
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.server import Answer

REPOSITORY = Path(__file__).resolve().parents[2]
ALIVE = "/healthz"
RECORDS = 700
COLUMNS = ("time", "price", "volume")
OPEN_DAY = Series("coinbase", "OPEN", "MD")
CLOSED_DAYS = 3
PING, REFUSED_STREAM, ENHANCE_YOUR_CALM = 6, 7, 11
FIELDS_MAX = 20

TIGHT = {
    "ZEROCOPY_LIMITS_TARGET_BYTES_MAX": "256",
    "ZEROCOPY_LIMITS_FIELD_BYTES_MAX": "300",
    "ZEROCOPY_LIMITS_HEAD_BYTES_MAX": "600",
    "ZEROCOPY_LIMITS_FIELDS_MAX": str(FIELDS_MAX),
    "ZEROCOPY_LIMITS_COLUMNS_MAX": "3",
    "ZEROCOPY_LIMITS_DAYS_MAX": str(CLOSED_DAYS),
    "ZEROCOPY_LIMITS_SEGMENTS_MAX": "6",
    "ZEROCOPY_LIMITS_TURN_BYTES_MAX": "256",
    "ZEROCOPY_LIMITS_SMALL_ANSWER_BYTES_MAX": "0",
    "ZEROCOPY_LIMITS_PLANNER_THREADS": "1",
    "ZEROCOPY_LIMITS_READER_THREADS": "1",
    "ZEROCOPY_MEMORY_READ_AHEAD_BYTES_MAX": "256",
    "ZEROCOPY_LIMITS_STREAMS_MAX": "3",
    "ZEROCOPY_LIMITS_CONTROL_FRAMES_MAX": "20",
    "ZEROCOPY_MEMORY_OPEN_FILES_MAX": "1",
    "ZEROCOPY_MEMORY_MAPPED_FILES_MAX": "1",
    "ZEROCOPY_MEMORY_LOCKED_BYTES_MAX": "0",
    "ZEROCOPY_MEMORY_PLAN_CACHE_BYTES_MAX": "0",
}

TOMORROW_S = time.time() + 86_400
"""A modification time that keeps a past day open."""


@pytest.fixture(scope="module", params=TRANSPORTS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The tight server: closed days, one more than a query may touch, and an open one."""
    root = str(tmp_path_factory.mktemp("limits"))
    for number in range(CLOSED_DAYS + 1):
        day = DAY - timedelta(days=number)
        times = u32(*range(start_of(day), start_of(day) + RECORDS))
        content = {"time": times, "id": marks(RECORDS, 8, base=number)}
        content |= {name: marks(RECORDS, base=number) for name in ("price", "volume", "side")}
        for path in put(root, content, day).values():
            os.utime(path, (OLD_S, OLD_S))
        if number == 0:
            for path in put(root, content, day, OPEN_DAY).values():
                os.utime(path, (TOMORROW_S, TOMORROW_S))
    with serve(TRANSPORTS[request.param], root, **TIGHT) as running:
        yield running


def last_days(count: int) -> int:
    """The second at which the last `count` days begin."""
    return start_of(DAY - timedelta(days=count - 1))


def filler(nbytes: int) -> str:
    """A target that is answered 200, of so many bytes."""
    target = ALIVE + "?"
    return target + "x" * (nbytes - len(target))


def assert_problem(answer: Answer, status: int, bound: str) -> None:
    """A problem document that names the bound."""
    assert answer.status == status
    assert answer.fields["content-type"] == "application/problem+json"
    assert bound in answer.content.decode()


# ---- one request


def test_target_bytes_max(site: Site) -> None:
    """256 bytes are answered, 257 get 414."""
    assert site.ask(filler(256)).status == 200
    assert_problem(site.ask(filler(257)), 414, "256 bytes")


def test_field_bytes_max(site: Site) -> None:
    """A name and a value of 300 bytes are answered, 301 get 431."""
    assert site.ask(ALIVE, fields=[("Aa", "x" * 298)]).status == 200
    assert_problem(site.ask(ALIVE, fields=[("Aa", "x" * 299)]), 431, "300 bytes in one")


def test_head_bytes_max(site: Site) -> None:
    """Fields that are each short enough are refused when they are too long together."""
    fields = [("Aa", "x" * 200), ("Bb", "x" * 200)]
    assert site.ask(ALIVE, fields=fields).status == 200
    assert_problem(site.ask(ALIVE, fields=[*fields, ("Cc", "x" * 200)]), 431, "600 bytes in all")


def test_fields_max(site: Site) -> None:
    """Some fewer than the bound are answered, one more than it gets 431."""
    fields = [(f"A{number}", "x") for number in range(FIELDS_MAX + 1)]
    assert site.ask(ALIVE, fields=fields[: FIELDS_MAX - 4]).status == 200
    assert_problem(site.ask(ALIVE, fields=fields), 431, f"at most {FIELDS_MAX} fields")


def test_columns_max(site: Site) -> None:
    """Three columns are answered, four get 400."""
    start_s = last_days(1)
    answer = site.data(SERIES, start_s, columns=COLUMNS)
    assert answer.content == site.expected(SERIES, start_s, columns=COLUMNS)
    assert_problem(site.data(SERIES, start_s, columns=(*COLUMNS, "side")), 400, "at most 3")


def test_days_max(site: Site) -> None:
    """Three days are answered, four get 400."""
    start_s = last_days(CLOSED_DAYS)
    answer = site.data(SERIES, start_s, columns=("time",))
    assert answer.content == site.expected(SERIES, start_s, columns=("time",))
    refused = site.data(SERIES, last_days(CLOSED_DAYS + 1), columns=("time",))
    assert_problem(refused, 400, "at most 3")


def test_segments_max(site: Site) -> None:
    """Two columns of three days are answered, three of them get 400."""
    start_s = last_days(CLOSED_DAYS)
    answer = site.data(SERIES, start_s, columns=COLUMNS[:2])
    assert answer.content == site.expected(SERIES, start_s, columns=COLUMNS[:2])
    assert_problem(site.data(SERIES, start_s, columns=COLUMNS), 400, "at most 6")


# ---- what is kept and how it is sent


def test_answers_are_right_with_every_pool_and_turn_at_its_least(site: Site) -> None:
    """Of one file open, one mapped, one thread, 256 bytes a turn and no plan kept: each byte.

    Six connections take turns over files of closed days and of an open one, which push each other
    out of the pools; asking again plans again.
    """
    queries = [
        (SERIES, last_days(2), COLUMNS),
        (SERIES, last_days(3), ("volume", "id")),
        (OPEN_DAY, 0, ("side", "time", "id")),
        (SERIES, last_days(2), ("side", "time", "price")),
        (OPEN_DAY, 0, ("price",)),
        (SERIES, last_days(1), ("id",)),
    ]
    before = site.server.metric("zerocopy_plans_made_total")
    sessions = [site.transport.connect(site.server) for _ in queries]
    for _ in range(2):
        for session, (series, first_s, columns) in zip(sessions, queries, strict=True):
            session.send(data_target(series, first_s, columns=columns))
        for session, (series, first_s, columns) in zip(sessions, queries, strict=True):
            expected = site.expected(series, first_s, columns=columns)
            assert session.receive().content == expected
    for session in sessions:
        session.close()
    assert site.server.metric("zerocopy_plans_made_total") == before + 2 * len(queries)
    assert site.server.metric("zerocopy_plans_reused_total") == 0
    assert site.server.metric("zerocopy_plan_cache_bytes") == 0
    assert site.server.metric("zerocopy_locked_bytes") == 0
    assert site.server.metric("zerocopy_open_files") <= 1
    one_file = 8 * RECORDS
    poll(lambda: site.server.metric("zerocopy_mapped_bytes") <= one_file, "the rest to be unmapped")


def test_small_answer_bytes_max_of_none_sends_every_body_from_its_file(site: Site) -> None:
    """Not even a body of one record leaves with its head; it is the same body."""
    path = "copy" if site.server.is_tls else "sendfile"
    sample = f'zerocopy_sent_bytes_total{{path="{path}"}}'
    before = site.server.metric(sample)
    start_s = start_of(DAY)
    answer = site.data(SERIES, start_s, start_s, columns=("id",))
    assert answer.content == site.expected(SERIES, start_s, start_s, columns=("id",))
    assert site.server.metric(sample) >= before + 8


# ---- HTTP/2


over_http2 = pytest.mark.parametrize("site", ["http2"], indirect=True)


@over_http2
def test_streams_max(site: Site) -> None:
    """The client is told of three; the fourth is refused, and the three are answered."""
    target = data_target(SERIES, last_days(1))
    with H2Client(site.server, initial_window=0) as client:
        client.ping()
        settings = client.h2.remote_settings
        assert settings.max_concurrent_streams == 3
        settings._settings[SettingCodes.MAX_CONCURRENT_STREAMS] = deque([100])
        streams = [client.streams[client.request(target)] for _ in range(3)]
        client.ping()
        assert not client.goaways
        assert not any(stream.is_over for stream in streams)
        fourth = client.streams[client.request(target)]
        client.pump(lambda: fourth.is_over, "a refusal")
        assert fourth.reset_code == REFUSED_STREAM
        for stream_id, stream in client.streams.items():
            if stream is not fourth:
                client.window(stream_id, 1 << 20)
        client.pump(lambda: all(stream.is_ended for stream in streams), "the answers")
        assert not client.goaways


@over_http2
@pytest.mark.parametrize(("count", "codes"), [(15, []), (100, [ENHANCE_YOUR_CALM])])
def test_control_frames_max(site: Site, count: int, codes: list[int]) -> None:
    """Fifteen PING frames in a second are answered; a hundred end the connection."""
    with connect_raw(site.server) as sock:
        sock.sendall(HELLO + frame(PING, 0, 0, bytes(8)) * count)
        sock.settimeout(20 if codes else 0.5)
        received = b""
        try:
            received, _ = read_to_end(sock)
        except TimeoutError:
            assert not codes
        assert goaways_of(received) == codes


# ---- which test proves which bound

HERE = "tests/faults/test_limits.py"
TESTS = {
    "connections_max": "tests/contract/test_statuses.py::test_503_too_many_connections",
    "connections_per_address_max": (
        "tests/faults/test_limits_connections.py::test_one_more_connection_of_an_address_gets_503"
    ),
    "requests_in_flight_max": (
        "tests/contract/test_statuses.py::test_503_too_many_requests_in_flight"
    ),
    "target_bytes_max": f"{HERE}::test_target_bytes_max",
    "field_bytes_max": f"{HERE}::test_field_bytes_max",
    "head_bytes_max": f"{HERE}::test_head_bytes_max",
    "fields_max": f"{HERE}::test_fields_max",
    "content_bytes_max": (
        "tests/transport/http1/test_content_overrun.py::test_content_above_the_bound_over_http1"
    ),
    "columns_max": f"{HERE}::test_columns_max",
    "days_max": f"{HERE}::test_days_max",
    "segments_max": f"{HERE}::test_segments_max",
    "turn_bytes_max": f"{HERE}::test_answers_are_right_with_every_pool_and_turn_at_its_least",
    "small_answer_bytes_max": (
        f"{HERE}::test_small_answer_bytes_max_of_none_sends_every_body_from_its_file"
    ),
    "streams_max": f"{HERE}::test_streams_max",
    "control_frames_max": f"{HERE}::test_control_frames_max",
    "planner_threads": f"{HERE}::test_answers_are_right_with_every_pool_and_turn_at_its_least",
    "reader_threads": f"{HERE}::test_answers_are_right_with_every_pool_and_turn_at_its_least",
    "header_read_s": (
        "tests/faults/test_tls_deadlines.py::test_connection_that_does_not_get_on_ends"
    ),
    "idle_s": "tests/faults/test_slow_readers.py::test_read_deadline_closes_who_does_not_ask",
    "write_progress_s": (
        "tests/faults/test_slow_readers.py::test_write_deadline_aborts_who_stalls_and_spares_who_is"
    ),
    "open_files_max": f"{HERE}::test_answers_are_right_with_every_pool_and_turn_at_its_least",
    "mapped_files_max": f"{HERE}::test_answers_are_right_with_every_pool_and_turn_at_its_least",
    "read_ahead_bytes_max": f"{HERE}::test_answers_are_right_with_every_pool_and_turn_at_its_least",
    "locked_bytes_max": (
        "tests/storage/test_mapping.py::test_file_beyond_the_budget_is_mapped_and_not_locked"
    ),
    "watched_directories_max": (
        "tests/storage/symbols/test_index.py::test_watched_directories_max"
    ),
    "plan_cache_bytes_max": f"{HERE}::test_answers_are_right_with_every_pool_and_turn_at_its_least",
}


def test_every_bound_has_its_test() -> None:
    """An option of [limits], [timeouts] or [memory] that the table does not name fails."""
    tables = (LimitsTable, TimeoutsTable, MemoryTable)
    assert {name for table in tables for name in table.__struct_fields__} == {*TESTS}


@pytest.mark.parametrize("option", TESTS)
def test_test_of_a_bound_is_there(option: str) -> None:
    """The module and the function that the table names exist."""
    module, _, function = TESTS[option].partition("::")
    assert f"\ndef {function}" in (REPOSITORY / module).read_text(encoding="utf-8")
