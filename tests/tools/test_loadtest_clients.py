"""The load test's clients and checks against a real server, and against one that lies."""

from __future__ import annotations

import os
import random
import signal
import ssl
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, PingReceived
from hyperframe.frame import GoAwayFrame, PingFrame

from loadtest.dataroot import DataRoot
from loadtest.http1_client import Http1Client
from loadtest.http2_client import Http2Client
from loadtest.mix import Market, Mix
from loadtest.question import PendingRequest, Query, Question, WrongAnswerError
from loadtest.series import Series, find_series
from loadtest.server_url import ServerUrl
from loadtest.wholes import DataCheck, Sums
from tests.certificate import client_context
from tests.lying import LIES, LyingServer, wrong_byte
from tests.server import RunningServer
from tests.storage.trees import DAY_START_S, SERIES
from tests.ticks import DAYS, END_S, make_ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.lying import Lie

RECORDS = 20_000
COLUMNS = ("price", "volume")
QUESTIONS = 150
WINDOWS = (65_535, 1 << 20)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days of one series, settled long ago."""
    root = tmp_path_factory.mktemp("load")
    make_ticks(str(root), RECORDS)
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[RunningServer]:
    """A server of both paths."""
    with RunningServer(root, ZEROCOPY_TLS_PORT="0") as server:
        yield server


def plain(port: int) -> Http1Client:
    """A client of a port of this machine."""
    return Http1Client(ServerUrl("http", "127.0.0.1", port))


def over_tls(server: RunningServer, window_bytes: int = 1 << 20) -> Http2Client:
    """An HTTP/2 client that trusts the test's CA."""
    url = ServerUrl("https", "127.0.0.1", server.tls_port)
    return Http2Client(url, client_context(["h2"]), window_bytes)


def whole(root: Path | None, sums: Sums | None = None, start: int = DAY_START_S) -> Question:
    """The question for everything from `start` on."""
    query = Query(*SERIES, start, END_S, ("time", "price"))
    data_root = None if root is None else DataRoot(str(root))
    check = DataCheck(query, random=random.Random(0), sums=sums or Sums(), root=data_root)
    return Question("whole", query.target, check)


def error_of(exchange: PendingRequest) -> str:
    """What was wrong with an answer."""
    assert exchange.error is not None
    return f"{type(exchange.error).__name__}: {exchange.error}"


def test_what_there_is_to_ask_for_is_found(server: RunningServer) -> None:
    """First and last second and the columns that exist, the same on both paths."""
    for client in (plain(server.plain_port), over_tls(server)):
        found = find_series(client, types=["MD", "NONE"], columns=COLUMNS, seed=0)
        last_s = END_S + 1 - 86_400 + (RECORDS - 1) * 86_400 // RECORDS
        assert found == [Series(*SERIES, DAY_START_S, last_s, ("price",))]
        client.close()


def test_every_kind_of_question_is_answered_on_the_plain_path(
    server: RunningServer, root: Path
) -> None:
    """Wholes, ranges, conditions, HEAD, refusals: nothing fails on one kept connection."""
    client = plain(server.plain_port)
    found = find_series(client, types=["MD"], columns=COLUMNS, seed=0)
    mix, kinds = Mix(Market(found, DataRoot(str(root))), "seed"), Counter[str]()
    pending: list[Question] = []
    for _ in range(3 * QUESTIONS):
        exchange = client.ask(pending.pop() if pending else mix.next())
        assert exchange.error is None, (exchange.question, exchange.error)
        pending += exchange.follow_ups
        kinds[exchange.question.kind] += 1
    client.close()
    assert kinds.keys() >= {
        *("recent window", "one day", "several days", "one month", "symbols", "preflight"),
        *("symbols of one exchange", "not modified", "head", "precondition failed"),
        *("range refused", "range", "multipart", "refused 400", "refused 404"),
    }


@pytest.mark.parametrize("window_bytes", WINDOWS)
def test_several_streams_of_one_connection_are_answered(
    server: RunningServer, root: Path, window_bytes: int
) -> None:
    """Four at any time, whatever the window; the bodies are much larger than the smaller one."""
    client = over_tls(server, window_bytes)
    found = find_series(client, types=["MD"], columns=COLUMNS, seed=0)
    mix, pending, most = Mix(Market(found, DataRoot(str(root))), "seed"), list[Question](), 0
    over: list[PendingRequest] = []
    while len(over) < QUESTIONS:
        while client.streams < 4 and client.takes_more:
            client.start(pending.pop() if pending else mix.next())
        most = max(most, client.streams)
        for exchange in client.wait():
            assert exchange.error is None, (exchange.question, exchange.error)
            pending += exchange.follow_ups
            over.append(exchange)
    client.close()
    assert most == 4
    assert max(exchange.nbytes for exchange in over) > 4 * 65_535


def test_streams_of_a_server_that_drains_are_finished(root: Path) -> None:
    """After GOAWAY what is under way is still read, and the next question opens a connection."""
    with RunningServer(root, USE_TLS="true") as server:
        client = over_tls(server, 65_535)
        for _ in range(4):
            client.start(whole(root))
        over: list[PendingRequest] = []
        os.kill(server.pid, signal.SIGTERM)
        while client.streams:
            over += client.wait()
        assert [exchange.error for exchange in over] == [None] * 4
        assert server.process is not None
        assert server.process.wait(20) == 0
        assert client.takes_more
        assert "ConnectionRefusedError" in error_of(client.ask(whole(root)))


def test_streams_that_were_not_looked_at_are_asked_again(server: RunningServer, root: Path) -> None:
    """Those above the last one of a GOAWAY (RFC 9113, 6.8); the others are not lost."""
    client = over_tls(server)
    assert client.ask(whole(root)).error is None
    for _ in range(2):
        client.start(whole(root))
    first, _ = client._open
    goaway = ConnectionTerminated()
    goaway.error_code, goaway.last_stream_id = ErrorCodes.NO_ERROR, first
    client._on_goaway(goaway)
    assert not client.takes_more
    errors = []
    while client.streams or client._over:
        errors += [exchange.error for exchange in client.wait()]
    assert sorted(map(repr, errors)) == ["None", "NotProcessedError()"]
    assert client.takes_more
    assert client.ask(whole(root)).error is None
    client.close()


def test_frames_behind_goaway_are_read(server: RunningServer, root: Path) -> None:
    """A PING that comes with it, as of a server that waits for a round trip (RFC 9113, 6.8)."""
    client = over_tls(server)
    assert client.ask(whole(root)).error is None
    goaway = GoAwayFrame(0, last_stream_id=2**31 - 1, error_code=0).serialize()
    events = client._h2.receive_data(goaway + PingFrame(0, opaque_data=b"12345678").serialize())
    assert [type(event) for event in events] == [ConnectionTerminated, PingReceived]
    assert client._h2.data_to_send() == PingFrame(0, b"12345678", flags=["ACK"]).serialize()
    client.close()


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_lie_about_data_is_noticed(
    server: RunningServer, root: Path, lie: Callable[[int, dict[str, str], bytes], Lie]
) -> None:
    """Of a large answer, of which samples are compared, and of a small one, compared as a whole."""
    with LyingServer(server.plain_port, lie) as lying:
        client = plain(lying.port)
        for start in (DAY_START_S, END_S - 600):
            said = error_of(client.ask(whole(root, start=start)))
            assert said.startswith("WrongAnswerError: "), said
        client.close()


def test_a_wrong_byte_is_noticed_without_the_files(server: RunningServer) -> None:
    """Anywhere in the body, once an earlier answer had the same ETag on the other path."""
    sums = Sums()
    tls = over_tls(server)
    assert tls.ask(whole(None, sums)).error is None
    tls.close()
    with LyingServer(server.plain_port, wrong_byte) as lying:
        client = plain(lying.port)
        assert "other bytes than before" in error_of(client.ask(whole(None, sums)))
        client.close()


def test_a_wrong_range_is_noticed(server: RunningServer) -> None:
    """Where files are not at hand: what a lie was followed by, as a range, are other bytes."""
    market = Market([Series(*SERIES, DAY_START_S, END_S, ("price",))])
    with LyingServer(server.plain_port, wrong_byte) as lying:
        client, said, pending = plain(lying.port), list[str](), list[Question]()
        mix = Mix(market, "seed")
        while not any("differs from the whole" in line for line in said):
            assert len(said) < QUESTIONS, said
            exchange = client.ask(pending.pop() if pending else mix.next())
            pending += exchange.follow_ups
            said += [error_of(exchange)] if exchange.error else []
        client.close()


def test_a_connection_that_cannot_be_made_fails_every_question() -> None:
    """The next question tries again, nothing hangs."""
    with LyingServer(1, wrong_byte) as gone:
        port = gone.port
    url = ServerUrl("https", "127.0.0.1", port)
    clients = plain(port), Http2Client(url, ssl.create_default_context(), 1 << 20)
    for client in clients:
        for _ in range(2):
            assert "ConnectionRefusedError" in error_of(client.ask(whole(None)))


def test_a_certificate_that_is_not_trusted_is_refused(server: RunningServer) -> None:
    """Unless told otherwise, the system's authorities decide."""
    url = ServerUrl("https", "127.0.0.1", server.tls_port)
    client = Http2Client(url, ssl.create_default_context(), 1 << 20)
    assert "CERTIFICATE_VERIFY_FAILED" in error_of(client.ask(whole(None)))


def test_the_files_judge_days_that_are_left_out(tmp_path: Path) -> None:
    """A day without a column is skipped, and counts no record."""
    make_ticks(str(tmp_path), 100)
    exchange, symbol, type_ = SERIES
    [first, *_] = sorted((tmp_path / exchange / symbol / type_).glob("price.*"))
    label = first.name.split(".", 1)[1].removesuffix(".bin")
    first.unlink()
    query = Query(*SERIES, DAY_START_S, END_S, ("time", "price"))
    expected = DataRoot(str(tmp_path)).expect(query, {}, DAY_START_S + 100)
    assert (expected.num_records, expected.skipped) == ((DAYS - 1) * 100, [label])
    assert len(expected.column("price", 4)) == expected.num_records * 4


def test_urls_that_name_no_server_are_refused() -> None:
    """With what would be right."""
    for url in ("127.0.0.1:80", "ftp://a", "http://", "https://a/b"):
        with pytest.raises(ValueError, match="must be http://host:port"):
            ServerUrl.parse(url)
    assert ServerUrl.parse("https://[::1]/").authority == "[::1]:443"


def test_an_answer_with_trailing_bytes_is_wrong() -> None:
    """More than was promised is as wrong as less."""
    check = whole(None).check
    fields = {"content-length": "2", "date": "now", "access-control-allow-origin": "*"}
    fields |= {"etag": '"a"', "content-type": "application/octet-stream"}
    fields |= {"accept-ranges": "bytes", "cache-control": "no-cache, no-transform"}
    check.begin(200, fields)
    with pytest.raises(WrongAnswerError, match="not a header line"):
        check.feed(memoryview(b"{}\n"))
