"""Clients of live streams over HTTP/2 in a simulated world: one connection, several streams.

Owns the connection and its windows. Each stream is read by a `Subscriber`: an event stream by GET,
or a WebSocket by extended CONNECT (RFC 8441). Every frame passes h2's client, which is strict; that
each stream ends as its protocol says is judged here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2.exceptions import H2Error
from h2.settings import SettingCodes

from tests.simulation.live_http2_peer import NarrowPeer
from tests.simulation.live_reader import Reader

if TYPE_CHECKING:
    from tests.h2client import Stream
    from tests.simulation.live_http2_run import Http2LiveWorld
    from tests.simulation.sockets import Socket

PSEUDO = {":scheme": "https", ":authority": "t"}
INITIAL_WINDOWS = (1, 60, 3_000, 65_535)
WIDER_BY = (1, 10, 300, 5_000, 200_000)
SHUT_BELOW = 40
"""Bytes of a window below which it is opened: the server's next piece may not fit."""

_TEXT, _CLOSE, _PING = 1, 8, 9
_GOING_AWAY, _NORMAL, _CLIENTS_CODE = 1001, 1000, 3_210
_NO_ERROR, _INTERNAL_ERROR, _REFUSED_STREAM, _CANCEL = 0, 2, 7, 8


class Subscriber(Reader):
    """One reader, on a stream of its client's connection."""

    def __init__(
        self,
        client: Http2Client,
        columns: tuple[str, ...],
        *,
        is_websocket: bool,
        talks: bool,
        leaves: float,
    ) -> None:
        super().__init__(client.world, columns, is_websocket=is_websocket, leaves=leaves)
        self._client = client
        self.talks = talks and is_websocket
        self.stream_id: int | None = None
        self._raw = b""
        self._has_said_close = False
        self._has_ended_input = False
        self._pings: list[bytes] = []
        self.streams = self.drained = self.closed = self.answered = 0

    @property
    def is_connected(self) -> bool:
        """Whether it has a stream."""
        return self.stream_id is not None

    @property
    def may_ask(self) -> bool:
        """Whether it is time to open a stream."""
        is_due = self.wakes_ns <= self._world.clock.now_ns
        return not self.done and self.stream_id is None and is_due

    def ask(self, peer: NarrowPeer) -> None:
        """Open a stream."""
        target, fields = self._begin("last-event-id")
        pseudo = {**PSEUDO, ":method": "GET", ":path": target}
        if self.has.is_websocket:
            pseudo |= {":method": "CONNECT", ":protocol": "websocket"}
            fields.append(("sec-websocket-version", "13"))
        self.stream_id = peer.request(
            target,
            pseudo[":method"],
            fields,
            end_stream=not self.has.is_websocket,
            pseudo=pseudo,
        )
        self._raw = b""
        self._has_said_close = self._has_ended_input = False
        self._pings, self.pongs = [], []
        self.streams += 1

    def leave(self) -> None:
        """Give the stream up, in the middle of whatever comes."""
        assert self.stream_id is not None, "it has one"
        self._client.reset(self.stream_id)
        self.lost()

    def lost(self) -> None:
        """The stream, or its connection, is no more."""
        self.stream_id = None
        self._ended()

    # ---- what it says

    def may_speak(self, peer: NarrowPeer) -> bool:
        """Whether its WebSocket is open, and it has not said that it will close."""
        if self.stream_id is None or not (self.talks and self._client.world.is_restless):
            return False
        stream = peer.streams[self.stream_id]
        is_open = stream.status == 200 and not stream.is_over
        return is_open and not (self._has_said_close or self._has_ended_input)

    def speak(self, peer: NarrowPeer) -> None:
        """Say something on a WebSocket: a ping, a message, a close frame, or that it has ended."""
        assert self.stream_id is not None
        rng = self._rng
        kind = rng.choices(["ping", "text", "close", "end"], [5, 1, 2, 1])[0]
        if kind == "ping":
            self._pings.append(rng.randbytes(rng.choice((0, 4, 125))))
            self._say(peer, _PING, self._pings[-1])
        elif kind == "text":
            self._say(peer, _TEXT, b"to nobody")
        elif kind == "close":
            self._has_said_close = True
            self._say(peer, _CLOSE, _CLIENTS_CODE.to_bytes(2, "big"))
        else:
            self._has_ended_input = True
            peer.h2.end_stream(self.stream_id)
            peer.flush()

    def _say(self, peer: NarrowPeer, opcode: int, payload: bytes) -> None:
        assert self.stream_id is not None
        mask = self._rng.randbytes(4)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        frame = bytes((0x80 | opcode, 0x80 | len(payload))) + mask + masked
        if peer.h2.local_flow_control_window(self.stream_id) >= len(frame):
            peer.h2.send_data(self.stream_id, frame)
            peer.flush()

    # ---- what came

    def take(self, stream: Stream) -> None:
        """All that came on the stream since the last time, and its end."""
        content = bytes(stream.content)
        stream.content.clear()
        if stream.status == 200:
            with self._taking():
                self._raw += content
                if self.has.is_websocket:
                    self._raw = self._take_frames(self._raw)
                    self.answered += len(self.pongs)
                    assert all(pong in self._pings for pong in self.pongs), "a pong to nothing"
                while not self.has.is_websocket and b"\n\n" in self._raw:
                    event, _, self._raw = self._raw.partition(b"\n\n")
                    self.has.take_events(event + b"\n\n")
        if stream.is_over:
            self._judge_end(stream)
            self.lost()
            if stream.status not in {0, 200}:
                self._refused(stream.status)

    def _judge_end(self, stream: Stream) -> None:
        if stream.reset_code is not None:
            self._judge_reset(stream)
        elif stream.status == 200 and not self.has.is_websocket:
            assert not self._raw, f"an event stream ends within an event: {self._raw!r}"
        elif stream.status == 200:
            assert not self._raw, f"behind the close frame, or cut: {self._raw!r}"
            assert self.close_code is not None or self._has_ended_input, "no close frame"
            if self.close_code == _CLIENTS_CODE:
                assert self._has_said_close, "a code of the client's that it has not sent"
                self.closed += 1
            self.drained += self.close_code == _GOING_AWAY

    def _judge_reset(self, stream: Stream) -> None:
        code, world = stream.reset_code, self._client.world
        if code == _INTERNAL_ERROR:
            told = world.kernel.struck or world.transfer_errors or world.failures
            assert told, "a stream fails without a cause"
        elif code == _NO_ERROR:
            assert stream.is_ended, "reset without an error before its end"
        else:
            assert code in {_REFUSED_STREAM, _CANCEL}, f"reset with {code}"


class Http2Client:
    """A connection, or none; `subscribers` share it."""

    def __init__(self, world: Http2LiveWorld, *, is_lazy: bool, leaves: float) -> None:
        self.world = world
        self._rng = world.rng
        self._is_lazy = is_lazy
        self._leaves = leaves
        self.subscribers: list[Subscriber] = []
        self._sock: Socket | None = None
        self._peer: NarrowPeer | None = None
        self.wakes_ns = world.clock.now_ns
        self.connections = self.goaways = 0

    @property
    def done(self) -> bool:
        """Whether nobody wants anything any more."""
        return self._sock is None and all(each.done for each in self.subscribers)

    # ---- for the world

    def can_act(self) -> bool:
        """Whether there is something to do now."""
        now_ns = self.world.clock.now_ns
        if self.wakes_ns > now_ns:
            return False
        if self._sock is None or self._peer is None:
            self._sleep_until_due()
            return not self.done and self.wakes_ns <= now_ns
        sock = self._sock
        has_come = bool(sock.outbox or sock.peer_reset or sock.output_ended)
        return has_come or bool(self._peer.pipe.sent or self._shut() or self._askers())

    def act(self) -> None:
        """Connect, read some bytes, open a window, ask, say something, or leave."""
        if self._sock is None or self._peer is None:
            self._connect()
            return
        if self._rng.random() < self._leaves:
            self._lose(self._sock)
            return
        sock, peer = self._sock, self._peer
        try:
            self._act(sock, peer)
        except H2Error as error:
            raise AssertionError(f"the server broke HTTP/2: {error!r}") from error
        self._deliver(sock, peer)
        if all(each.done for each in self.subscribers):
            self._lose(sock)

    def calm(self) -> None:
        """It stays."""
        self._leaves = 0.0

    def reset(self, stream_id: int) -> None:
        """RST_STREAM, where that says anything to anybody."""
        if self._peer is not None and not self._peer.streams[stream_id].is_over:
            self._peer.reset(stream_id)

    def _sleep_until_due(self) -> None:
        waiting = [each.wakes_ns for each in self.subscribers if not each.done]
        self.wakes_ns = max(self.wakes_ns, min(waiting, default=0))

    # ---- one step

    def _act(self, sock: Socket, peer: NarrowPeer) -> None:
        rng = self._rng
        for each in self._readers():
            if rng.random() < each.leaves:
                each.leave()
                return
        can_read = bool(sock.outbox or sock.peer_reset or sock.output_ended)
        askers, shut = self._askers(), self._shut()
        talkers = [each for each in self.subscribers if each.may_speak(peer)]
        step = rng.choices(
            ["read", "open", "ask", "speak", "set"],
            [
                10 * can_read,
                4 * bool(shut),
                3 * bool(askers),
                2 * bool(talkers and self.world.is_restless),
                0.2,
            ],
        )[0]
        if step == "read":
            self._read(sock, peer)
        elif step == "open":
            self._widen(peer, rng.choice(shut))
        elif step == "ask":
            rng.choice(askers).ask(peer)
        elif step == "set":
            self._set(peer)
        else:
            rng.choice(talkers).speak(peer)

    def _connect(self) -> None:
        rng, world = self._rng, self.world
        self._sock = world.kernel.connect(world.listener, world.shape.room)
        self._peer = NarrowPeer(
            world.window,
            initial_window=rng.choice(INITIAL_WINDOWS),
            max_frame_size=rng.choice((16_384, 50_000)),
            header_table_size=rng.choice((0, 100, 4_096)),
            auto_window=rng.random() < 0.4,
        )
        self.connections += 1

    def _deliver(self, sock: Socket, peer: NarrowPeer) -> None:
        sent = peer.pipe.sent
        if self._sock is sock and sent:
            count = len(sent) if self._rng.random() < 0.8 else self._rng.randint(1, len(sent))
            sock.peer_sends(bytes(sent[:count]))
            del sent[:count]

    def _read(self, sock: Socket, peer: NarrowPeer) -> None:
        rng = self._rng
        count = rng.choice([1, 7, 50]) if self._is_lazy else rng.choice([50, 9_000])
        try:
            data = sock.peer_reads(count)
        except ConnectionResetError:
            data = b""
        if data is None:
            return
        if data:
            peer.receive(data)
            self._take(peer)
        else:
            self._take(peer)
            self._lose(sock)
        if self._is_lazy and rng.random() < 0.02:
            self.wakes_ns = self.world.clock.now_ns + int(rng.random() * 1e9)

    def _take(self, peer: NarrowPeer) -> None:
        for each in self._readers():
            assert each.stream_id is not None
            each.take(peer.streams[each.stream_id])
        if peer.goaways:
            assert peer.goaways[-1][0] == _NO_ERROR, peer.goaways
            last = peer.goaways[-1][1]
            for each in self._readers():
                if each.stream_id is not None and each.stream_id > last:
                    each.lost()  # nobody has looked at it (RFC 9113, 6.8)
            if not self._readers() and self._sock is not None:
                self.goaways += 1
                self._lose(self._sock)

    def _lose(self, sock: Socket) -> None:
        """The connection is given up, or is over."""
        if self._rng.random() < 0.5:
            sock.peer_resets()
        else:
            sock.peer_closes()
        self._sock = self._peer = None
        for each in self._readers():
            each.lost()

    # ---- what there is

    def _readers(self) -> list[Subscriber]:
        return [each for each in self.subscribers if each.is_connected]

    def _askers(self) -> list[Subscriber]:
        peer = self._peer
        assert peer is not None
        if peer.goaways or not peer.frames:
            return []
        may_connect = peer.h2.remote_settings.enable_connect_protocol == 1
        return [
            each
            for each in self.subscribers
            if each.may_ask and (may_connect or not each.has.is_websocket)
        ]

    def _shut(self) -> list[int]:
        """Windows that hold up the server, or soon will."""
        peer = self._peer
        assert peer is not None
        if peer.auto_window and peer.settings_are_settled and self.world.is_restless:
            return []
        found = [0] if peer.window_left < SHUT_BELOW else []
        for each in self._readers():
            stream_id = each.stream_id
            assert stream_id is not None
            if not peer.streams[stream_id].is_over:
                found += [stream_id] if peer.window_of(stream_id) < SHUT_BELOW else []
        return found

    def _widen(self, peer: NarrowPeer, stream_id: int) -> None:
        count = self._rng.choice(WIDER_BY) if self.world.is_restless else 1 << 20
        peer.window(stream_id, count)

    def _set(self, peer: NarrowPeer) -> None:
        """Windows of all streams become larger or smaller, also below nothing (RFC 9113, 6.9.2)."""
        if peer.settings_are_settled and self.world.is_restless:
            size = self._rng.choice(INITIAL_WINDOWS)
            peer.change_settings({SettingCodes.INITIAL_WINDOW_SIZE: size})
