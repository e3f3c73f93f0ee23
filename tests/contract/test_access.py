"""Endpoint by transport by credential: one table, and what no credential may do to another's."""

from __future__ import annotations

import json
import socket
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.contract.guarded import (
    HIDDEN,
    LIVE,
    SEEN,
    STREAMS,
    WRONG,
    Guarded,
    bearer,
    guarded_server,
)
from tests.contract.site import Site, data_target
from tests.contract.transports import TRANSPORTS
from tests.faults.client import poll
from tests.h2client import H2Client
from tests.table import case

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.transports import Transport
    from tests.h2client import Stream
    from tests.server import Answer

BARS = data_target(SEEN, columns=("price:ohlc",)).replace("/api/data", "/api/bars")
HIDDEN_LIVE = LIVE.replace("BTC-USD", "ETH-USD")
UNKNOWN = SEEN._replace(symbol="NONE")

EXPECTED = {
    # target: status with a key for everything, with one for a part
    data_target(SEEN): (200, 200),
    data_target(SEEN, format="json"): (200, 200),
    data_target(HIDDEN): (200, 404),
    data_target(UNKNOWN): (404, 404),
    "/api/data?symbol=ETH-USD": (400, 400),
    BARS: (200, 200),
    BARS.replace("BTC-USD", "ETH-USD"): (200, 404),
    "/api/catalog?symbol=BTC-USD": (200, 200),
    "/api/catalog?symbol=ETH-USD": (200, 404),
    "/api/symbols": (200, 200),
    HIDDEN_LIVE.replace("ETH-USD", "NONE"): (404, 404),
    LIVE + ",none": (404, 404),
    "/openapi.json": (200, 200),
    "/api/ticket": (405, 405),
    "/none": (404, 404),
}
"""Without a key, or with one that is none, all of them are 401."""

OPEN = {"/healthz": 200, "/readyz": 200, "/": 200, "/ui/none": 404}
"""The same for everybody."""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """The server of this module."""
    with guarded_server(tmp_path_factory.mktemp("guarded")) as guarded:
        yield guarded


@pytest.fixture
def site(transport: Transport, guarded: Guarded) -> Site:
    """The same by one transport."""
    return Site(guarded.root, guarded.server, transport)


def test_every_endpoint_answers_each_credential_with_its_status(
    site: Site, guarded: Guarded
) -> None:
    """In any order, on one connection, again and again: no head opens another's door.

    The second time a head is known, its plan is kept, and HTTP/2 has it in its dynamic table.
    """
    credentials: dict[str | None, str | None] = {None: None, "wrong": WRONG}
    credentials.update(guarded.keys)
    cases = [
        (target, name, {"ops": whole, "desk": part}.get(name or "", 401))
        for target, (whole, part) in EXPECTED.items()
        for name in credentials
    ]
    cases += [(target, name, status) for target, status in OPEN.items() for name in credentials]
    Random(19).shuffle(cases)
    refused: set[bytes] = set()
    with site.session() as session:
        for target, name, status in [*cases, *reversed(cases)]:
            with case(name, target):
                answer = session.request(target, fields=bearer(credentials[name]))
                assert answer.status == status
                check_fields(answer, is_open=target in OPEN)
                if status == 401:
                    refused.add(answer.content)
    assert len(refused) == 2, "one for no key and one for a wrong one, whatever was asked for"


def check_fields(answer: Answer, *, is_open: bool) -> None:
    """Who may keep it, and how to say who asks."""
    if answer.status == 401:
        assert answer.fields["www-authenticate"].startswith('Bearer realm="zerocopy"')
    assert "www-authenticate" not in answer.fields or answer.status == 401
    assert answer.fields["access-control-allow-origin"] == "*"
    if answer.status >= 400:
        assert answer.fields["cache-control"] == "no-store"
    elif not is_open:
        assert answer.fields["cache-control"].startswith("private, ")
        assert "Authorization" in answer.fields["vary"].split(", ")


def test_head_and_conditional_requests_are_judged_like_any(site: Site, guarded: Guarded) -> None:
    """HEAD, If-None-Match and Range with a key are as ever; without one they are 401."""
    target, key = data_target(SEEN), bearer(guarded.keys["desk"])
    with site.session() as session:
        etag = session.request(target, fields=key).fields["etag"]
        for fields, status in (
            ([("If-None-Match", etag)], 304),
            ([("Range", "bytes=0-3")], 206),
            ([("Range", "bytes=0-0,2-3")], 206),
        ):
            for _ in range(2):
                answer = session.request(target, fields=[*key, *fields])
                assert answer.status == status
                assert answer.fields["vary"] == "Authorization"
                assert answer.fields["cache-control"].startswith("private")
                assert session.request(target, fields=fields).status == 401
        assert session.request(target, method="HEAD", fields=key).status == 200
        assert session.request(target, method="HEAD").status == 401
        assert session.request(target, method="DELETE").status == 401
        assert session.request(target, method="DELETE", fields=key).status == 405


def test_browser_of_any_origin_may_ask_whether_it_may_send_a_key(site: Site) -> None:
    """The preflight carries none, and allows the field; credentials of the browser's are not."""
    asked = [("Origin", "https://a.example"), ("Access-Control-Request-Headers", "authorization")]
    for target in (data_target(SEEN), "/api/symbols", "/openapi.json"):
        answer = site.ask(target, method="OPTIONS", fields=asked)
        assert answer.status == 204
        assert answer.fields["access-control-allow-headers"] == "authorization"
        assert answer.fields["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.fields


def test_lists_hold_what_the_key_may_see(site: Site, guarded: Guarded) -> None:
    """Symbols of all exchanges and of one."""
    for name, symbols in (("ops", ["BTC-USD", "ETH-USD"]), ("desk", ["BTC-USD"])):
        for target in ("/api/symbols", "/api/symbols?exchange=coinbase"):
            answer = site.ask(target, fields=bearer(guarded.keys[name]))
            assert json.loads(answer.content)["symbols"] == symbols


def test_live_streams_end_when_their_key_is_revoked_and_others_go_on(guarded: Guarded) -> None:
    """Server-sent events and WebSockets, over HTTP/1.1, TLS and HTTP/2, all at once."""
    key, other = guarded.add("stream"), guarded.keys["desk"]
    revoked = [open_stream(guarded, key) for open_stream in STREAMS]
    left = [open_stream(guarded, other) for open_stream in STREAMS]
    guarded.grow()
    for stream in (*revoked, *left):
        stream.wait_for(1)
    guarded.revoke("stream")
    for stream in revoked:
        stream.wait_for_end()
    guarded.grow()
    for stream in left:
        stream.wait_for(2)
    for stream in (*revoked, *left):
        stream.close()
    field = {"Authorization": f"Bearer {key}"}
    assert guarded.server.get(data_target(SEEN), fields=field).status == 401


HANDSHAKE = (
    "GET {target} HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    "{fields}\r\n"
)


def lines_of(key: str | None) -> str:
    """The fields of a credential as HTTP/1.1 writes them."""
    return "".join(f"{name}: {value}\r\n" for name, value in bearer(key))


def exchanged(guarded: Guarded, raw: bytes, *, over_tls: bool = False, cut: int = 0) -> bytes:
    """What comes back for these bytes until the server closes; sent in two pieces at `cut`."""
    server = guarded.server
    sock = server.connect_tls(["http/1.1"]) if over_tls else server.connect()
    with sock:
        sock.sendall(raw[:cut])
        sock.sendall(raw[cut:])
        if not over_tls:
            sock.shutdown(socket.SHUT_WR)
        received = b""
        while data := sock.recv(65_536):
            received += data
    return received


def statuses(received: bytes) -> list[int]:
    """The statuses of pipelined answers."""
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
def test_handshake_of_a_websocket_is_refused_as_a_request(
    guarded: Guarded, *, over_tls: bool
) -> None:
    """401 and 404 before 101, and before what the handshake lacks is told."""
    for target, key, version, status in (
        (LIVE, None, 13, 401),
        (LIVE, WRONG, 13, 401),
        (LIVE, None, 8, 401),
        (HIDDEN_LIVE, guarded.keys["desk"], 13, 404),
        (HIDDEN_LIVE, guarded.keys["desk"], 8, 404),
        (LIVE, guarded.keys["desk"], 8, 426),
    ):
        with case(target, status, version):
            fields = lines_of(key) + "Connection: close\r\n"
            raw = HANDSHAKE.format(target=target, version=version, fields=fields)
            received = exchanged(guarded, raw.encode(), over_tls=over_tls)
            assert statuses(received) == [status]


def has_begun(stream: Stream) -> bool:
    """Whether the status of a response has come."""
    return stream.status != 0


def test_websocket_on_http2_is_refused_as_a_request(guarded: Guarded) -> None:
    """The same by extended CONNECT (RFC 8441)."""
    with H2Client(guarded.server) as client:
        for target, key, status in (
            (LIVE, None, 401),
            (LIVE, WRONG, 401),
            (HIDDEN_LIVE, guarded.keys["desk"], 404),
        ):
            pseudo = {
                ":method": "CONNECT",
                ":protocol": "websocket",
                ":scheme": "https",
                ":authority": client.authority,
                ":path": target,
            }
            fields = [("sec-websocket-version", "13"), *bearer(key)]
            stream_id = client.request("", "CONNECT", fields, end_stream=False, pseudo=pseudo)
            stream = client.streams[stream_id]
            client.pump(partial(has_begun, stream), "a status")
            assert stream.status == status


def test_pipelined_heads_are_each_judged_by_their_own_key(guarded: Guarded) -> None:
    """In one piece or cut anywhere; heads that are known are among them."""
    desk, ops = guarded.keys["desk"], guarded.keys["ops"]
    asked = [
        *((SEEN, desk, 200), (SEEN, None, 401), (HIDDEN, ops, 200), (HIDDEN, desk, 404)),
        *((SEEN, WRONG, 401), (HIDDEN, ops, 200), (HIDDEN, None, 401), (SEEN, desk, 200)),
    ]
    raw = "".join(
        f"GET {data_target(series)} HTTP/1.1\r\nHost: t\r\n{lines_of(key)}\r\n"
        for series, key, _ in asked
    ).encode()
    expected = [status for *_, status in asked]
    rng = Random(7)
    for cut in (0, *(rng.randrange(len(raw)) for _ in range(20))):
        with case("cut", cut):
            assert statuses(exchanged(guarded, raw, cut=cut)) == expected


def test_known_head_opens_nothing_for_a_head_that_only_resembles_it(guarded: Guarded) -> None:
    """A key less, another letter of it, twice, another scheme, another field: judged anew."""
    target, key = data_target(SEEN), guarded.keys["desk"]
    head = f"GET {target} HTTP/1.1\r\nHost: t\r\n%sConnection: close\r\n\r\n"
    known = head.replace("%s", lines_of(key))
    flipped = key[:-1] + ("A" if key[-1] != "A" else "B")
    others = [
        "",
        lines_of(flipped),
        lines_of(key[:-1]),
        lines_of(key.swapcase()),
        lines_of(key) * 2,
        f"Authorization: Basic {key}\r\n",
        f"Authorization: Bearer {key},{key}\r\n",
        f"Authorisation: Bearer {key}\r\n",
        f"X-Authorization: Bearer {key}\r\n",
        f"Cookie: key={key}\r\n",
        f"Proxy-Authorization: Bearer {key}\r\n",
    ]
    for other in others:
        with case(other.replace(key, "KEY")):
            for fields, status in ((lines_of(key), 200), (other, 401), (lines_of(key), 200)):
                assert statuses(exchanged(guarded, head.replace("%s", fields).encode())) == [status]
    # In content a head is content, whoever sends it.
    inner = known.encode()
    outer = f"POST {target} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(inner)}\r\n"
    outer += "Connection: close\r\n\r\n"
    assert statuses(exchanged(guarded, outer.encode() + inner)) == [401]
    for parameter in ("key", "token", "access_token", "authorization"):
        raw = head.replace(target, f"{target}&{parameter}={key}").replace("%s", "")
        assert statuses(exchanged(guarded, raw.encode())) == [401]


def test_http_1_0_client_says_who_asks_like_any(guarded: Guarded) -> None:
    """A field is a field in every version."""
    for key, status in ((guarded.keys["desk"], 200), (None, 401)):
        raw = f"GET {data_target(SEEN)} HTTP/1.0\r\n{lines_of(key)}\r\n"
        assert statuses(exchanged(guarded, raw.encode())) == [status]


def test_key_revoked_on_an_open_connection_opens_nothing_more(
    site: Site, guarded: Guarded, transport: Transport
) -> None:
    """Its head is known, its plan kept, its connection open: 401 once the file has changed."""
    name = f"kept-{next(known for known in TRANSPORTS if TRANSPORTS[known] is transport)}"
    key, target = guarded.add(name), data_target(SEEN)
    with site.session() as session:
        for _ in range(3):
            assert session.request(target, fields=bearer(key)).status == 200
        guarded.revoke(name)
        poll(lambda: session.request(target, fields=bearer(key)).status == 401, "the revocation")
        assert session.request(target, fields=bearer(guarded.keys["desk"])).status == 200


def test_log_and_metrics_name_who_asked_and_hold_no_credential(guarded: Guarded) -> None:
    """Not in the access log, not in any other line, parameters included."""
    server, desk = guarded.server, guarded.keys["desk"]
    authorized = {"Authorization": f"Bearer {desk}"}
    assert server.get(data_target(SEEN), fields=authorized).status == 200

    def is_counted() -> bool:
        """A key has no sample before it has asked, and no other test need have done so."""
        try:
            return server.metric('zerocopy_key_requests_total{key="desk"}') > 0
        except AssertionError:
            return False

    poll(is_counted, "the key to have samples")
    before = server.metric('zerocopy_key_requests_total{key="desk"}')
    sent = server.metric('zerocopy_key_sent_bytes_total{key="desk"}')
    nbytes = 0
    for number in range(3):
        target = f"{data_target(SEEN)}&ticket=hunter2&n={number}"
        nbytes += len(server.get(target, fields=authorized).content)
        assert server.get(target, fields={"Authorization": "Bearer hunter2"}).status == 401
    poll(
        lambda: server.metric('zerocopy_key_requests_total{key="desk"}') >= before + 3,
        "the requests to be counted",
    )
    assert server.metric('zerocopy_key_sent_bytes_total{key="desk"}') >= sent + nbytes
    assert server.metric('zerocopy_requests_total{status="401"}') >= 3
    poll(
        lambda: sum(event.get("key") == "desk" for event in server.events()) >= 3,
        "the lines of the access log",
    )
    text = server.log_text()
    assert "hunter2" not in text
    assert WRONG not in text
    for key in guarded.keys.values():
        assert key not in text
