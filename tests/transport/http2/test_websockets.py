"""WebSockets on HTTP/2 streams, by extended CONNECT: RFC 8441."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from h2.config import H2Configuration
from h2.settings import SettingCodes

from tests.transport.feeds import FakeFeed, message
from tests.transport.http2.livebench import LARGE, Client, Scene, live
from tests.transport.tls_bench import LARGE_BYTES, MemorySource, until
from tests.transport.websocket.clientframes import close, frame, ping, text
from zerocopy.core.http.stream import HEARTBEAT, End
from zerocopy.core.plan import Segment
from zerocopy.transport.websocket import frames

if TYPE_CHECKING:
    from pathlib import Path

VERSION = (b"sec-websocket-version", b"13")


def connect(
    client: Client,
    target: bytes = b"/api/live",
    *fields: tuple[bytes, bytes],
    protocol: bytes = b"websocket",
) -> int:
    """Send an extended CONNECT. Returns its stream, which stays open."""
    stream_id = client.h2.get_next_available_stream_id()
    head = [
        (b":method", b"CONNECT"),
        (b":protocol", protocol),
        (b":scheme", b"https"),
        (b":path", target),
        (b":authority", b"a"),
    ]
    client.h2.send_headers(stream_id, [*head, *(fields or [VERSION])])
    client.flush()
    return stream_id


def send(client: Client, stream_id: int, data: bytes, *, ends: bool = False) -> None:
    """Send a DATA frame."""
    client.h2.send_data(stream_id, data, end_stream=ends)
    client.flush()


async def opened(scene: Scene) -> tuple[Client, int, FakeFeed]:
    """A client, its WebSocket's stream, and the feed."""
    client = await scene.connect()
    stream_id = connect(client)
    await until(lambda: stream_id in client.heads)
    assert client.heads[stream_id][b":status"] == b"200"
    return client, stream_id, scene.handler.feeds[-1]


def test_the_setting_offers_it(tmp_path: Path) -> None:
    """Section 3: a client may ask once it has seen SETTINGS_ENABLE_CONNECT_PROTOCOL of 1."""

    async def scenario(scene: Scene) -> None:
        client = await scene.connect()
        await until(lambda: client.h2.remote_settings.enable_connect_protocol == 1)
        assert client.h2.remote_settings[SettingCodes.ENABLE_CONNECT_PROTOCOL] == 1

    live(tmp_path, scenario)


def test_messages_and_replies_are_data(tmp_path: Path) -> None:
    """Whole messages, small and large, heartbeats, a pong, and a close that the server begins."""

    async def scenario(scene: Scene) -> None:
        client, stream_id, feed = await opened(scene)
        large = message(b"head", Segment(MemorySource(LARGE_BYTES), 0, LARGE_BYTES))
        feed.say(message(b"one"), HEARTBEAT, large, message(LARGE))
        expected = b"\x82\x03one" + frames.HEARTBEAT
        expected += frames.message_header(large.nbytes) + b"head" + bytes(LARGE_BYTES)
        expected += frames.message_header(len(LARGE)) + LARGE
        await until(lambda: len(client.content[stream_id]) >= len(expected))
        assert client.content[stream_id] == expected
        send(client, stream_id, text("of no use") + ping(b"x")[:3])
        send(client, stream_id, ping(b"x")[3:])
        expected += frames.pong(b"x")
        await until(lambda: client.content[stream_id] == expected)
        feed.say(End(4001, "day shrank"))
        await until(lambda: stream_id in client.ended)
        assert client.content[stream_id] == expected + frames.close(4001, "day shrank")
        send(client, stream_id, close(4001), ends=True)
        small = client.ask(b"/small")
        await until(lambda: small in client.ended)
        assert client.resets == {}

    live(tmp_path, scenario)


@pytest.mark.parametrize(
    ("sent", "ends", "answer"),
    [
        (close(1000, "enough"), True, frames.close(1000)),
        (close(1000, "enough"), False, frames.close(1000)),
        (ping(b"p") + close(), True, frames.pong(b"p") + frames.CLOSE_WITHOUT_CODE),
        (b"", True, b""),
    ],
)
def test_a_client_closes(tmp_path: Path, *, sent: bytes, ends: bool, answer: bytes) -> None:
    """Its close is answered, END_STREAM is the end of its bytes; other streams go on."""

    async def scenario(scene: Scene) -> None:
        client, stream_id, feed = await opened(scene)
        send(client, stream_id, sent, ends=ends)
        await until(lambda: stream_id in client.ended)
        assert client.content[stream_id] == answer
        assert feed.closed
        small = client.ask(b"/small")
        await until(lambda: small in client.ended)

    live(tmp_path, scenario)


def test_a_reset_of_the_client_ends_it(tmp_path: Path) -> None:
    """Section 5: RST_STREAM stands for the reset of a TCP connection."""

    async def scenario(scene: Scene) -> None:
        client, stream_id, feed = await opened(scene)
        client.h2.reset_stream(stream_id, 8)
        client.flush()
        await until(lambda: feed.closed == 1)

    live(tmp_path, scenario)


def test_a_fault_ends_the_stream_alone(tmp_path: Path) -> None:
    """1002 in a close frame, not an error of HTTP/2."""

    async def scenario(scene: Scene) -> None:
        client, stream_id, _ = await opened(scene)
        other = connect(client)
        send(client, stream_id, frame(3))
        await until(lambda: stream_id in client.ended)
        assert client.content[stream_id][2:4] == (1002).to_bytes(2, "big")
        await until(lambda: other in client.heads)
        assert other not in client.ended

    live(tmp_path, scenario)


def test_bytes_before_the_answer_are_the_websockets(tmp_path: Path) -> None:
    """A client need not wait for the 200."""

    async def scenario(scene: Scene) -> None:
        client = await scene.connect()
        scene.handler.gate.clear()
        stream_id = connect(client)
        send(client, stream_id, ping(b"early"))
        await until(lambda: scene.handler.answering == 1)
        scene.handler.gate.set()
        await until(lambda: client.content[stream_id] == frames.pong(b"early"))

    live(tmp_path, scenario)


@pytest.mark.parametrize(
    ("target", "fields", "protocol", "status"),
    [
        (b"/small", (VERSION,), b"websocket", b"400"),
        (b"/api/live", ((b"a", b"b"),), b"websocket", b"400"),
        (b"/api/live", ((b"sec-websocket-version", b"8"),), b"websocket", b"400"),
        (b"/api/live", (VERSION,), b"connect-udp", b"404"),
    ],
)
def test_what_opens_no_websocket_is_an_error(
    tmp_path: Path, target: bytes, fields: tuple[tuple[bytes, bytes], ...], protocol: bytes,
    status: bytes,
) -> None:  # fmt: skip
    """A response of class 2xx would open it, so there is none."""

    async def scenario(scene: Scene) -> None:
        client = await scene.connect()
        stream_id = connect(client, target, *fields, protocol=protocol)
        await until(lambda: stream_id in client.ended)
        assert client.heads[stream_id][b":status"] == status
        assert scene.handler.feeds == []

    live(tmp_path, scenario)


def test_a_drain_goes_away(tmp_path: Path) -> None:
    """1001 behind the last whole message."""

    async def scenario(scene: Scene) -> None:
        client, stream_id, feed = await opened(scene)
        feed.say(message(b"last"))
        await until(lambda: client.content[stream_id] != b"")
        await scene.bench.stop()
        await until(lambda: stream_id in client.ended)
        assert client.content[stream_id][:6] == b"\x82\x04last"
        assert client.content[stream_id][8:10] == (1001).to_bytes(2, "big")

    live(tmp_path, scenario)


def test_protocol_needs_connect(tmp_path: Path) -> None:
    """Section 4: `:protocol` beside another method is a malformed request."""

    async def scenario(scene: Scene) -> None:
        client = await scene.connect()
        config = H2Configuration(
            client_side=True, header_encoding=None, validate_outbound_headers=False
        )
        client.h2.config = config
        client.h2.send_headers(
            1,
            [
                (b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/api/live"),
                (b":authority", b"a"), (b":protocol", b"websocket"),
            ],
        )  # fmt: skip
        client.flush()
        await until(lambda: client.resets == {1: 1})

    live(tmp_path, scenario)
