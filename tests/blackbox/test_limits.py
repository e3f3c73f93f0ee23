"""Limits as clients meet them: two workers, every transport, each request counted once."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.certificate import client_context
from tests.faults.client import LARGE, LARGE_BYTES, SMALL, Client, body_of, make_root, poll
from tests.h2client import H2Client
from tests.server import Answer, ForkedServer, RunningServer
from zerocopy.access.keys import add_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY_S = 86_400
PER_S = 40
STREAMS = 2


class Keys(NamedTuple):
    """A key for each limit."""

    free: str
    requests: str
    refused: str
    http2: str
    bytes: str
    burst: str
    download: str
    reset: str
    streams: str
    live_bytes: str
    survives: str


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root that no test changes."""
    path = tmp_path_factory.mktemp("limits")
    make_root(path)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def small(root: Path) -> bytes:
    """The content of a small response."""
    return body_of(root, "SMALL")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory, small: bytes) -> tuple[Path, Keys]:
    """A file of keys, and the keys in it."""
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    name = str(path)
    return path, Keys(
        free=add_key(name, "free"),
        requests=add_key(name, "requests", requests_per_s=PER_S),
        refused=add_key(name, "refused", requests_per_s=PER_S),
        http2=add_key(name, "http2", requests_per_s=PER_S),
        bytes=add_key(name, "bytes", bytes_per_day=3 * len(small) + 10),
        burst=add_key(name, "burst", bytes_per_day=6 * len(small)),
        download=add_key(name, "download", bytes_per_day=2 * LARGE_BYTES + 1_000),
        reset=add_key(name, "reset", bytes_per_day=2 * LARGE_BYTES + 1_000),
        streams=add_key(name, "streams", streams=STREAMS),
        live_bytes=add_key(name, "live-bytes", bytes_per_day=10),
        survives=add_key(name, "survives", bytes_per_day=len(small)),
    )


@pytest.fixture(scope="module")
def server(root: Path, keys: tuple[Path, Keys]) -> Iterator[RunningServer]:
    """Two workers, both listeners."""
    with ForkedServer(
        root,
        ZEROCOPY_AUTH_KEYS_PATH=str(keys[0]),
        ZEROCOPY_SERVER_WORKERS="2",
        ZEROCOPY_TLS_PORT="0",
    ) as running:
        yield running


def bearer(key: str) -> dict[str, str]:
    """The field that says who asks."""
    return {"Authorization": f"Bearer {key}"}


def ask_often(port: int, key: str, times: int) -> list[int]:
    """The statuses of equal requests, some on each of eight connections."""
    statuses = []
    for _ in range(8):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        for _ in range(times // 8):
            connection.request("GET", SMALL, headers=bearer(key))
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
        connection.close()
    return statuses


def await_refusal(server: RunningServer, target: str, fields: dict[str, str]) -> Answer:
    """The 429, once the worker that answered last has written down what it sent.

    The client may have a response before that, and the other worker judges by what is written.
    """
    poll(lambda: server.get(target, fields=fields).status == 429, "the quota to be spent")
    answer = server.get(target, fields=fields)
    assert answer.status == 429
    return answer


def test_both_workers_count_the_requests_of_a_second_together(
    server: RunningServer, keys: tuple[Path, Keys]
) -> None:
    """Answers kept, in batches or not: so many in each second that the clock has had, no more."""
    before = server.metric('zerocopy_requests_limited_total{policy="requests"}')
    used = plans(server)
    begun_s = int(time.time())
    statuses = ask_often(server.plain_port, keys[1].requests, 240)
    seconds = int(time.time()) - begun_s + 1
    assert PER_S <= statuses.count(200) <= PER_S * seconds
    assert statuses.count(200) + statuses.count(429) == 240
    counted = server.metric('zerocopy_requests_limited_total{policy="requests"}')
    assert counted - before == statuses.count(429)
    refused = server.metric('zerocopy_key_refusals_total{key="requests"}')
    assert refused == statuses.count(429)
    assert plans(server) - used == statuses.count(200)


def test_a_refusal_says_what_was_exceeded_and_when_to_come_again(
    server: RunningServer, keys: tuple[Path, Keys]
) -> None:
    """RFC 9457, RFC 6585 section 4, and the fields of the draft; scripts may read them."""
    refused = refusal(server, keys[1].refused)
    assert refused.fields["content-type"] == "application/problem+json"
    assert json.loads(refused.content) == {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "detail": f"this key or token may ask {PER_S} times a second; try again in 1 s",
    }
    assert refused.fields["retry-after"] == "1"
    assert refused.fields["ratelimit-policy"] == f'"requests";q={PER_S};w=1'
    assert refused.fields["ratelimit"] == '"requests";r=0;t=1'
    exposed = refused.fields["access-control-expose-headers"].split(", ")
    assert {"Retry-After", "RateLimit", "RateLimit-Policy"} <= set(exposed)


def plans(server: RunningServer) -> float:
    """Plans made or used again: one for each response, none where too many are asked for."""
    made, used = (f"zerocopy_plans_{what}_total" for what in ("made", "reused"))
    return server.metric(made) + server.metric(used)


def refusal(server: RunningServer, key: str) -> Answer:
    """The first response that is a 429."""
    connection = http.client.HTTPConnection("127.0.0.1", server.plain_port, timeout=20)
    try:
        while True:
            connection.request("GET", SMALL, headers=bearer(key))
            response = connection.getresponse()
            content = response.read()
            if response.status != 200:
                fields = {name.lower(): value for name, value in response.getheaders()}
                return Answer(response.status, fields, content)
    finally:
        connection.close()


def test_requests_of_http2_count_each(server: RunningServer, keys: tuple[Path, Keys]) -> None:
    """Many streams at once, equal ones: what was proved for one is not given to all."""
    begun_s, used = int(time.time()), plans(server)
    with H2Client(server) as client:
        field = ("authorization", f"Bearer {keys[1].http2}")
        asked = [client.request(SMALL, fields=[field]) for _ in range(90)]
        statuses = [client.answer(stream).status for stream in asked]
    seconds = int(time.time()) - begun_s + 1
    assert PER_S <= statuses.count(200) <= PER_S * seconds
    assert statuses.count(200) + statuses.count(429) == 90
    poll(lambda: plans(server) - used == statuses.count(200), "the plans to be counted")


@pytest.mark.usefixtures("whole_day")
def test_bytes_of_a_day_are_content_as_it_is_sent(
    server: RunningServer, keys: tuple[Path, Keys], small: bytes
) -> None:
    """GET and ranges count; HEAD, 304 and errors do not. What does not fit is refused."""
    fields = bearer(keys[1].bytes)
    first = server.get(SMALL, fields=fields)
    assert first.content == small
    for method, more in (("HEAD", {}), ("GET", {"If-None-Match": first.fields["etag"]})):
        for _ in range(5):
            server.get(SMALL, method=method, fields={**fields, **more})
    assert server.get("/api/data", fields=fields).status == 400
    assert server.get(SMALL, fields={**fields, "Range": "bytes=0-9"}).status == 206
    assert [server.get(SMALL, fields=fields).status for _ in range(2)] == [200, 200]
    refused = await_refusal(server, SMALL, fields)
    quota = 3 * len(small) + 10
    assert json.loads(refused.content)["detail"] == (
        f"this key or token may have {quota:,} bytes a day (UTC) and has 0 left; "
        f"the response has {len(small):,}"
    )
    assert refused.fields["ratelimit-policy"] == f'"bytes";q={quota};qu="content-bytes";w={DAY_S}'
    assert 0 < int(refused.fields["retry-after"]) <= DAY_S
    assert server.get(SMALL, method="HEAD", fields=fields).status == 200
    unchanged = {**fields, "If-None-Match": first.fields["etag"]}
    assert server.get(SMALL, fields=unchanged).status == 304


@pytest.mark.usefixtures("whole_day")
def test_bytes_of_a_day_hold_for_requests_of_http2_that_come_together(
    server: RunningServer, keys: tuple[Path, Keys]
) -> None:
    """Equal ones, of one turn and one proof: each has its bytes before the next is judged."""
    field = ("authorization", f"Bearer {keys[1].burst}")
    with H2Client(server) as client:
        statuses = [client.ask(SMALL, fields=[field]).status for _ in range(3)]
        block = [client.request_bytes(SMALL, fields=[field]) for _ in range(20)]
        client.send_bytes(b"".join(raw for _, raw in block))
        statuses += [client.answer(stream).status for stream, _ in block]
    assert statuses.count(200) == 6
    assert statuses.count(429) == 17


@pytest.mark.usefixtures("whole_day")
def test_what_was_promised_and_not_sent_is_given_back(
    server: RunningServer, keys: tuple[Path, Keys]
) -> None:
    """While two downloads are under way a third is refused; once one was cut off it is not."""
    head = f"GET {LARGE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {keys[1].download}\r\n\r\n"
    with Client(server) as one, Client(server) as two:
        for client in (one, two):
            client.send(head.encode())
            assert client.sock.recv(12).startswith(b"HTTP/1.1 200")
        fields = bearer(keys[1].download)
        await_refusal(server, LARGE, fields)
        one.sock.close()
        two.sock.close()
    ranged = {**fields, "Range": "bytes=0-999999"}
    poll(lambda: server.get(LARGE, fields=ranged).status == 206, "bytes that were given back")


@pytest.mark.usefixtures("whole_day")
def test_what_a_stream_of_http2_has_not_sent_is_given_back(
    server: RunningServer, keys: tuple[Path, Keys]
) -> None:
    """Shut windows hold back two downloads; a third is refused until one of them is reset."""
    field = ("authorization", f"Bearer {keys[1].reset}")
    fields = bearer(keys[1].reset)
    with H2Client(server, auto_window=False) as client:
        one, _two = (client.request(LARGE, fields=[field]) for _ in range(2))
        client.pump(lambda: all(stream.status for stream in client.streams.values()), "heads")
        await_refusal(server, LARGE, fields)
        client.reset(one)
        ranged = {**fields, "Range": "bytes=0-999999"}
        poll(lambda: server.get(LARGE, fields=ranged).status == 206, "bytes that were given back")


def test_live_streams_are_counted_over_both_workers(
    server: RunningServer, keys: tuple[Path, Keys]
) -> None:
    """One more gets 429; when one ends there is room."""
    target = "/api/live?symbol=BTC-USD&type=SMALL&columns=time,price"
    head = f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {keys[1].streams}\r\n\r\n"
    fields = bearer(keys[1].streams)
    with Client(server) as one, Client(server) as two:
        for client in (one, two):
            client.send(head.encode())
            assert client.sock.recv(12).startswith(b"HTTP/1.1 200")
        for _ in range(4):
            refused = server.get(target, fields=fields)
            assert refused.status == 429
        assert refused.fields["ratelimit-policy"] == (
            f'"streams";q={STREAMS};qu="concurrent-requests"'
        )
        assert server.get(target, method="HEAD", fields=fields).status == 429
        one.sock.close()
        poll(
            lambda: server.get(target, method="HEAD", fields=fields).status == 200,
            "a stream that has ended",
        )
        two.sock.close()


@pytest.mark.usefixtures("whole_day")
def test_live_messages_count_as_they_leave(server: RunningServer, keys: tuple[Path, Keys]) -> None:
    """The message that exceeds the bytes of a day is the last; who comes again is told when to."""
    target = "/api/live?symbol=BTC-USD&type=SMALL&columns=time,price&start=0"
    fields = bearer(keys[1].live_bytes)
    told = server.get(target, fields=fields)
    assert told.status == 200
    assert told.content.count(b"event: records") <= 1
    for again in (SMALL, target):
        refused = server.get(again, fields=fields)
        assert refused.status == 429
        assert refused.fields["ratelimit"].startswith('"bytes";r=0;t=')


@pytest.mark.usefixtures("whole_day")
def test_a_restarted_worker_knows_what_was_had(
    server: RunningServer, keys: tuple[Path, Keys]
) -> None:
    """Counts lie in memory that outlives it."""
    fields = bearer(keys[1].survives)
    assert server.get(SMALL, fields=fields).status == 200
    await_refusal(server, SMALL, fields)
    for pid in server.worker_pids():
        os.kill(pid, signal.SIGKILL)
    server.logged("worker_died", 2)
    poll(lambda: server.metric("zerocopy_workers") == 2, "both workers")
    assert server.get(SMALL, fields=fields).status == 429


def test_who_is_not_limited_is_not_counted(server: RunningServer, keys: tuple[Path, Keys]) -> None:
    """As many as it likes."""
    assert set(ask_often(server.plain_port, keys[1].free, 200)) == {200}


def test_requests_of_an_address_count_over_all_transports(root: Path) -> None:
    """Plain, TLS, HTTP/2 and what an application answers there, a field of the proxy or none."""
    environ = {
        "ZEROCOPY_AUTH_REQUESTS_PER_S_PER_ADDRESS_MAX": str(PER_S),
        "ZEROCOPY_AUTH_ADDRESS_FIELD": "CF-Connecting-IP",
        "ZEROCOPY_TLS_PORT": "0",
    }
    statuses: list[int] = []
    with ForkedServer(root, **environ) as running, H2Client(running) as client:
        tls = http.client.HTTPSConnection(
            "127.0.0.1", running.tls_port, timeout=20, context=client_context(["http/1.1"])
        )
        begun_s = int(time.time())
        for _ in range(PER_S):
            statuses += (running.get(SMALL).status, client.ask(SMALL).status)
            statuses.append(client.ask(SMALL, "POST").status)
            tls.request("GET", SMALL)
            response = tls.getresponse()
            response.read()
            statuses.append(response.status)
        seconds = int(time.time()) - begun_s + 1
        tls.close()
        assert {200, 405} <= set(statuses) <= {200, 405, 429}
        passed = len(statuses) - statuses.count(429)
        assert min(PER_S, len(statuses)) <= passed <= PER_S * seconds
        told = ("cf-connecting-ip", "198.51.100.7")
        begun_s = int(time.time())
        asked = [client.request(SMALL, fields=[told]) for _ in range(2 * PER_S)]
        others = [client.answer(stream).status for stream in asked]
        seconds = int(time.time()) - begun_s + 1
        assert PER_S <= others.count(200) <= PER_S * seconds
        assert client.ask("/healthz").status == 200
        # The same bytes, known by now, from another address.
        other = http.client.HTTPConnection(
            "127.0.0.1", running.plain_port, timeout=20, source_address=("127.0.0.2", 0)
        )
        other.request("GET", SMALL)
        assert other.getresponse().status == 200
        other.close()
